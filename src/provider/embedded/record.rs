//! `cluster.json`: that a directory is a cluster's, in which format, and which process serves it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::places::Place;
use crate::config::write_private;
use crate::finding::{Finding, Id};

/// The format of a cluster's directory that this program writes and reads.
pub const FORMAT: u64 = 1;

/// What is on record about a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format of the directory.
    pub format: u64,
    /// Name of the cluster.
    pub name: String,
    /// Version of the program that last started it.
    pub version: String,
    /// User that runs the servers, where it is another than the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// URL of its API server, once that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// When the process started, in clock ticks since boot: with the pid it names the process (proc(5), field 22).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// Where its admission answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// PostgreSQL majors and the names of their images.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<u32, String>,
    /// What this machine does not allow, in the user's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// Where admission answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// URL without a path.
    pub url: String,
    /// Certificate authority, PEM.
    pub ca_pem: String,
}

/// What lies in a cluster's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A cluster.
    Cluster(Box<Record>),
}

impl Record {
    /// The record of a cluster that was never started.
    pub fn new(name: &str) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run_as: None,
            url: None,
            pid: None,
            started: None,
            admission: None,
            images: BTreeMap::new(),
            remarks: Vec::new(),
        }
    }

    /// The same without a process. Where admission last answered stays: the next start tells that anew before it tells
    /// the URL.
    #[must_use]
    pub fn stopped(self) -> Self {
        Self { url: None, pid: None, started: None, ..self }
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, place: &Place) -> Result<(), Finding> {
        let path = place.cluster_file();
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_private(&path, &text)
            .map_err(|error| Finding::new(Id::StateUnwritable, format!("cannot write {}: {error}", path.display())))
    }
}

/// Looks into a cluster's directory.
///
/// # Errors
/// It is somebody else's, damaged, or of another format. Nothing is touched.
pub fn look(place: &Place) -> Result<Found, Finding> {
    let path = place.cluster_file();
    match fs_err::read_to_string(&path) {
        Ok(text) => parse(&text, &path).map(|record| Found::Cluster(Box::new(record))),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => nothing(&place.directory),
            ErrorKind::NotADirectory => Err(foreign(&place.directory)),
            ErrorKind::InvalidData | ErrorKind::IsADirectory => Err(damaged(&path, &error.to_string())),
            // It may be whole: somebody else's, say.
            _ => Err(unreadable(&error)),
        },
    }
}

/// Without a record, only what a cut-off creation leaves may be there.
fn nothing(directory: &Path) -> Result<Found, Finding> {
    let entries = match fs_err::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(unreadable(&error)),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name != "lock" && !name.starts_with(".cluster.json.") {
            return Err(foreign(directory));
        }
    }
    Ok(Found::Nothing)
}

fn parse(text: &str, path: &Path) -> Result<Record, Finding> {
    let value: Value = serde_json::from_str(text).map_err(|error| damaged(path, &error.to_string()))?;
    let format = value.get("format").and_then(Value::as_u64).ok_or_else(|| damaged(path, "it names no format"))?;
    if format != FORMAT {
        let age = if format > FORMAT { "a newer" } else { "an older" };
        let cause =
            format!("{} has the format {format} of {age} a9s; this one reads the format {FORMAT}", path.display());
        return Err(Finding::new(Id::StateFormat, cause).advise(
            "Use the a9s that made the cluster, or name another place with A9S_STATE_DIR. Nothing was changed.",
        ));
    }
    serde_json::from_value(value).map_err(|error| damaged(path, &error.to_string()))
}

fn unreadable(error: &std::io::Error) -> Finding {
    Finding::new(Id::StateUnreadable, error).advise("Nothing was changed.")
}

fn damaged(path: &Path, why: &str) -> Finding {
    Finding::new(Id::StateDamaged, format!("{} is damaged: {why}", path.display()))
        .advise("Nothing was changed. Restore the file, or delete the cluster with: a9s delete cluster a8s -c NAME")
}

fn foreign(directory: &Path) -> Finding {
    Finding::new(Id::StateForeign, format!("{} is there and is not a cluster of a9s", directory.display()))
        .advise("Nothing was changed. Use another name (-c), or another place (A9S_STATE_DIR).")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn place(directory: &Path) -> Place {
        Place { directory: directory.to_owned(), run: PathBuf::from("/nowhere") }
    }

    #[test]
    fn what_is_not_ours_is_refused_and_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join("precious.txt"), "mine").unwrap();
        let finding = look(&place(directory.path())).unwrap_err();
        assert_eq!(finding.id, Id::StateForeign);
        assert_eq!(finding.cause, format!("{} is there and is not a cluster of a9s", directory.path().display()));
    }

    #[test]
    fn other_formats_are_refused_by_their_number() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        fs_err::write(place.cluster_file(), r#"{"format": 999, "name": "a8s"}"#).unwrap();
        let finding = look(&place).unwrap_err();
        assert_eq!(finding.id, Id::StateFormat);
        assert!(finding.cause.contains("999"));
        fs_err::write(place.cluster_file(), "{\"format\": 1,").unwrap();
        assert_eq!(look(&place).unwrap_err().id, Id::StateDamaged);
    }

    #[test]
    fn a_record_that_is_none_and_one_that_cannot_be_written_are_said() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let file = place.cluster_file().display().to_string();
        let said = |text: &str| {
            fs_err::write(place.cluster_file(), text).unwrap();
            look(&place).unwrap_err().cause
        };
        assert_eq!(said("{}"), format!("{file} is damaged: it names no format"));
        let older = format!("{file} has the format 0 of an older a9s; this one reads the format 1");
        assert_eq!(said(r#"{"format": 0}"#), older);
        let nowhere = Place { directory: directory.path().join("nowhere"), ..place };
        let finding = Record::new("a8s").write(&nowhere).unwrap_err();
        assert_eq!(finding.id, Id::StateUnwritable);
        let cause = format!("cannot write {}: ", nowhere.cluster_file().display());
        assert!(finding.cause.starts_with(&cause), "{finding}");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_said_to_be_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        // A link to itself cannot be read by root either.
        fs_err::os::unix::fs::symlink(place.cluster_file(), place.cluster_file()).unwrap();
        let finding = look(&place).unwrap_err();
        assert_eq!(finding.id, Id::StateUnreadable);
        assert!(finding.cause.contains(&place.cluster_file().display().to_string()), "{finding}");
    }

    #[test]
    fn a_cut_off_creation_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(look(&place(&directory.path().join("none"))).unwrap(), Found::Nothing);
        fs_err::write(directory.path().join("lock"), "").unwrap();
        fs_err::write(directory.path().join(".cluster.json.12.ab"), "{").unwrap();
        assert_eq!(look(&place(directory.path())).unwrap(), Found::Nothing);
    }

    #[test]
    fn a_record_is_read_as_written() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let record = Record { pid: Some(7), started: Some(8), ..Record::new("a8s") };
        record.write(&place).unwrap();
        assert_eq!(look(&place).unwrap(), Found::Cluster(Box::new(record)));
    }
}
