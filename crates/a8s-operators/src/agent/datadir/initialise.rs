//! Making a data directory: a copy of the template where there is one, else `initdb`. When it returns, everything is
//! durable. Blocking.

use super::{copy, identifier};
use crate::agent::environment::Server;
use crate::postgresql::{durable, template};
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no data directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation.
    #[error("cannot write {path}")]
    Write {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// `initdb` failed.
    #[error(transparent)]
    Initdb(#[from] template::Error),
    /// The identifier.
    #[error(transparent)]
    Identifier(#[from] identifier::Error),
}

/// Makes the data directory with a system identifier, removing what an earlier attempt left.
///
/// # Errors
/// If it cannot be made; what there is then may be removed by the next attempt.
pub fn initialise(server: &Server, system_identifier: u64) -> Result<(), Error> {
    let data = server.data();
    let write = |source| Error::Write { path: data.clone(), source };
    if fs_err::symlink_metadata(&data).is_ok() {
        fs_err::remove_dir_all(&data).map_err(write)?;
    }
    let usable = server.template.as_ref().filter(|path| is_usable(path, server.major));
    match usable {
        Some(template) => {
            copy::copy_tree(&template.join(template::DATA), &data).map_err(write)?;
            identifier::change(&data, system_identifier)?;
        }
        None => {
            template::initialise(&server.bin_directory, &data, None)?;
            identifier::change(&data, system_identifier)?;
            durable::flush_tree(&data).map_err(write)?;
        }
    }
    durable::flush_directory(&server.volume).map_err(write)
}

/// Makes a copy of the template elsewhere, with the template's own identifier, removing what is there. Durable. Blocking.
///
/// # Errors
/// If there is no template, or it cannot be copied.
pub fn copy_template(server: &Server, target: &Path) -> io::Result<()> {
    if fs_err::symlink_metadata(target).is_ok() {
        fs_err::remove_dir_all(target)?;
    }
    let usable = server.template.as_ref().filter(|path| is_usable(path, server.major));
    let template = usable.ok_or_else(|| io::Error::other("there is no template"))?;
    copy::copy_tree(&template.join(template::DATA), target)
}

/// Identifies the template of which a new instance would be a copy: data directories that are copies of the same
/// template differ in their identifiers only, so that one can follow the other. `None`: there is none.
pub fn template_of(server: &Server) -> Option<String> {
    let template = server.template.as_ref().filter(|path| is_usable(path, server.major))?;
    identifier::read(&template.join(template::DATA)).ok().map(|number| number.to_string())
}

/// A template that is complete, of the right major, and made by this user: the server refuses another's files.
fn is_usable(path: &Path, major: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let data = path.join(template::DATA);
    let version = fs_err::read_to_string(data.join("PG_VERSION")).unwrap_or_default();
    template::is_complete(path)
        && version.trim() == major.to_string()
        && fs_err::metadata(&data).is_ok_and(|metadata| metadata.uid() == nix::unistd::geteuid().as_raw())
}
