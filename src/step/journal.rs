//! The journal: what plans did, as JSON lines in the working directory. It holds names and observations, no secrets
//! (steps keep those out of their words), and it never makes a command fail.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use fs_err::os::unix::fs::OpenOptionsExt;
use serde::Serialize;

/// A journal larger than this is moved aside before the next run.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    run: u32,
    command: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    event: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// Writes the journal of one run. The file is made with the first line.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Mutex<Option<fs_err::File>>,
}

impl Journal {
    /// A journal at `path`, whose directory need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: Mutex::new(None) }
    }

    /// Appends a line. Failure is logged, not returned: a journal must not fail what it records.
    pub(super) fn record(&self, command: &str, step: Option<&str>, event: &str, detail: &str) {
        let line =
            Line { time: jiff::Timestamp::now().to_string(), run: std::process::id(), command, step, event, detail };
        if let Err(error) = self.append(&line) {
            tracing::warn!(%error, "cannot write the journal");
        }
    }

    fn append(&self, line: &Line<'_>) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if file.is_none() {
            *file = Some(self.open()?);
        }
        match file.as_mut() {
            // One write per line: lines of commands that run at the same time don't mix.
            Some(file) => file.write_all(&text),
            None => Ok(()),
        }
    }

    fn open(&self) -> std::io::Result<fs_err::File> {
        if let Some(directory) = self.path.parent() {
            fs_err::create_dir_all(directory)?;
        }
        if fs_err::metadata(&self.path).is_ok_and(|metadata| metadata.len() > MAX_BYTES) {
            fs_err::rename(&self.path, self.path.with_extension("jsonl.1"))?;
        }
        fs_err::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }
}
