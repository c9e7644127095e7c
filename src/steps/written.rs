//! A document in a file: what the steps that write manifests share.

use std::path::Path;

use crate::config::write_private;
use crate::finding::{Finding, Id};
use crate::step::Observation;

/// Whether the file has the document.
pub fn observe(path: &Path, document: &str) -> Observation {
    match fs_err::read_to_string(path) {
        Ok(there) if there == document => Observation::satisfied(format!("it is at {}", path.display())),
        Ok(_) => Observation::unmet(format!("{} has another content", path.display())),
        Err(_) => Observation::unmet(format!("{} is not there", path.display())),
    }
}

/// Writes it, readable by its owner alone.
///
/// # Errors
/// The directory or the file can't be written.
pub fn write(path: &Path, document: &str) -> Result<(), Finding> {
    let failed =
        |error: std::io::Error| Finding::new(Id::WorkingDirectory, format!("cannot write the manifest: {error}"));
    if let Some(directory) = path.parent() {
        fs_err::create_dir_all(directory).map_err(failed)?;
    }
    write_private(path, document.as_bytes()).map_err(failed)
}
