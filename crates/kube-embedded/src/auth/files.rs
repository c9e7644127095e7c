//! Files that hold keys: 0600, in a 0700 directory, written so that a crash leaves the old file or the new one.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt;

/// Makes `dir` if it is not there, and takes everybody else's rights on it away.
pub fn private_directory(dir: &Path) -> io::Result<()> {
    fs_err::create_dir_all(dir)?;
    fs_err::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

/// The content of a file that only its owner may read; `None` if there is no such file.
pub fn read_private(path: &Path) -> io::Result<Option<String>> {
    match fs_err::read(path) {
        Ok(bytes) => {
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            // A binary file can't be ours; an empty text makes whoever parses it say so with the file's name.
            Ok(Some(String::from_utf8(bytes).unwrap_or_default()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces `path` in one step, durably.
pub fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // A left-over of a crash may have any mode.
    match fs_err::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs_err::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => fs_err::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
