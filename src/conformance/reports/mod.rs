//! How the results of a run are shown: a document, JUnit for CI, a page for people, and an archive of it all.

mod archive;
mod html;
mod junit;
mod timeline;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use super::recorder::Say;
use super::results::{FILE, Results};
use crate::config::{gone_is_fine, lock};
use crate::finding::{Finding, Id};

/// The page.
const PAGE: &str = "index.html";
/// The document for CI.
const JUNIT: &str = "junit.xml";
/// The archive of everything.
const ARCHIVE: &str = "a9s-conformance.tar.gz";
/// The folder of evidence.
const EVIDENCE: &str = "evidence";

/// The folder of a report, for as long as its run lives. Unless that begins, what was made for it goes with this value.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The directories that were not there before, the innermost first.
    made: Vec<PathBuf>,
    previous: Option<Results>,
    _lock: Option<Flock<File>>,
}

/// Makes the folder before anything is run, and reads the results that an earlier run left in it.
///
/// # Errors
/// The folder can't be written, or another run reports to it.
pub fn prepare(folder: &Path, say: &Say) -> Result<Folder, Finding> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let made = folder.ancestors().take_while(is_missing).map(Path::to_owned).collect();
    let mut prepared = Folder { path: folder.to_owned(), made, previous: None, _lock: None };
    fs_err::create_dir_all(folder).map_err(unwritable)?;
    // Two runs would take away each other's evidence.
    let taken = format!("another run reports to {}", folder.display());
    prepared._lock = lock(folder, taken).map_err(|finding| {
        // It was not there a moment ago: both have begun to make it, and it is the other one's.
        prepared.made.clear();
        elsewhere(finding)
    })?;
    let probe = folder.join(".a9s-probe");
    fs_err::write(&probe, b"").and_then(|()| fs_err::remove_file(&probe)).map_err(unwritable)?;
    if folder.join(FILE).exists() {
        match Results::read(folder) {
            Ok(results) => prepared.previous = Some(results),
            Err(finding) => say(&format!("no comparison with the last run: {}\n", finding.cause)),
        }
    }
    Ok(prepared)
}

impl Folder {
    /// Takes out what an earlier run left in the folder, now that another one begins, and gives its results. Files of others
    /// stay.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn begin(&mut self) -> Result<Option<Results>, Finding> {
        for name in [FILE, JUNIT, PAGE, ARCHIVE] {
            gone_is_fine(fs_err::remove_file(self.path.join(name))).map_err(unwritable)?;
        }
        gone_is_fine(fs_err::remove_dir_all(self.path.join(EVIDENCE))).map_err(unwritable)?;
        self.made.clear();
        Ok(self.previous.take())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for directory in &self.made {
            // Others may have put something there meanwhile.
            let _ = fs_err::remove_dir(directory);
        }
    }
}

fn unwritable(error: io::Error) -> Finding {
    elsewhere(Finding::new(Id::ReportUnwritable, format!("the report's folder can't be written: {error}")))
}

fn elsewhere(finding: Finding) -> Finding {
    finding.advise("Name another folder with --report.")
}

/// Writes everything.
///
/// # Errors
/// What the file system said.
pub fn write(results: &Results, previous: Option<&Results>, folder: &Path) -> io::Result<()> {
    for scenario in &results.scenarios {
        if let Some(evidence) = &scenario.evidence {
            let evidence = folder.join(evidence);
            fs_err::create_dir_all(&evidence)?;
            fs_err::write(evidence.join("timeline.txt"), timeline::text(scenario))?;
        }
    }
    // By rename: a run that is ended meanwhile leaves no half of it.
    let unnamed = folder.join(format!(".{FILE}"));
    fs_err::write(&unnamed, serde_json::to_vec_pretty(results)?)?;
    fs_err::rename(unnamed, folder.join(FILE))?;
    fs_err::write(folder.join(JUNIT), junit::document(results)?)?;
    fs_err::write(folder.join(PAGE), html::page(results, previous, folder))?;
    archive::write(&files(folder)?, folder, &folder.join(ARCHIVE))
}

/// The files of a report, relative to its folder, sorted.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = [FILE, JUNIT, PAGE].map(PathBuf::from).into();
    found.extend(below(folder, Path::new(EVIDENCE))?);
    Ok(found)
}

/// The files below `part` of `folder`, sorted.
fn below(folder: &Path, part: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut parts = vec![part.to_owned()];
    while let Some(part) = parts.pop() {
        let Ok(entries) = std::fs::read_dir(folder.join(&part)) else { continue };
        for entry in entries {
            let entry = entry?;
            let path = part.join(entry.file_name());
            if entry.file_type()?.is_dir() { parts.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conformance::results::tests::sample;

    fn silent() -> Say {
        Arc::new(|_| {})
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_said_before_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs_err::write(&file, "in the way").unwrap();
        for folder in [file.clone(), file.join("below"), "/proc/nowhere".into()] {
            let finding = prepare(&folder, &silent()).unwrap_err();
            assert_eq!(finding.id, Id::ReportUnwritable);
        }
        assert_eq!(fs_err::read_to_string(file).unwrap(), "in the way");
    }

    #[test]
    fn an_earlier_report_is_read_and_taken_away_and_files_of_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("report");
        assert!(prepare(&folder, &silent()).unwrap().begin().unwrap().is_none());
        fs_err::create_dir_all(folder.join("evidence/x")).unwrap();
        fs_err::write(folder.join("notes.txt"), "mine").unwrap();
        write(&sample(), None, &folder).unwrap();
        assert!(folder.join(ARCHIVE).exists());
        drop(prepare(&folder, &silent()).unwrap());
        assert!(folder.join(FILE).exists(), "no other run has begun");
        assert_eq!(prepare(&folder, &silent()).unwrap().begin().unwrap(), Some(sample()));
        let left: Vec<_> = below(&folder, Path::new("")).unwrap();
        assert_eq!(left, [PathBuf::from("notes.txt")]);
        fs_err::write(folder.join(FILE), "{").unwrap();
        assert!(prepare(&folder, &silent()).unwrap().begin().unwrap().is_none(), "damage does not stop a run");
    }

    #[test]
    fn two_runs_do_not_report_to_one_folder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("report");
        let mut one = prepare(&folder, &silent()).unwrap();
        assert!(one.begin().unwrap().is_none());
        let finding = prepare(&folder, &silent()).unwrap_err();
        assert_eq!(finding.id, Id::RunGoesOn);
        assert_eq!(finding.cause, format!("another run reports to {}", folder.display()));
        // It seems to be missing as long as what leads to it is.
        let finding = prepare(&directory.path().join("missing/../report"), &silent()).unwrap_err();
        assert_eq!(finding.id, Id::RunGoesOn);
        drop(one);
        assert!(folder.is_dir());
        prepare(&folder, &silent()).unwrap();
    }

    #[test]
    fn what_was_made_for_a_run_that_does_not_begin_goes() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("kept");
        fs_err::create_dir(&kept).unwrap();
        drop(prepare(&kept.join("some/report"), &silent()).unwrap());
        drop(prepare(&kept, &silent()).unwrap());
        assert_eq!(fs_err::read_dir(&kept).unwrap().count(), 0);
        fs_err::create_dir_all(kept.join(FILE)).unwrap();
        let finding = prepare(&kept, &silent()).unwrap().begin().unwrap_err();
        assert_eq!(finding.id, Id::ReportUnwritable);
    }
}
