//! The writing side of a container's log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fs_err::os::unix::fs::FileExt;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use super::{LONGEST_LINE, ROTATE_AT};

/// Which of a program's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How far a log has been written; what followers wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// How often the file has been rotated.
    pub(super) rotations: u64,
    /// Bytes in the present file.
    pub(super) size: u64,
    /// Nothing more will come.
    pub(super) ended: bool,
}

/// The log of one run of a container.
#[derive(Clone)]
pub struct Log {
    path: PathBuf,
    file: Arc<Mutex<Option<fs_err::File>>>,
    progress: Arc<watch::Sender<Progress>>,
    rotate_at: u64,
}

impl Log {
    /// A new, empty log file.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = fs_err::File::create(path)?;
        Ok(Self {
            path: path.to_path_buf(),
            file: Arc::new(Mutex::new(Some(file))),
            progress: Arc::new(watch::Sender::new(Progress::default())),
            rotate_at: ROTATE_AT,
        })
    }

    /// A log that was written by an earlier process and is complete.
    pub fn finished(path: &Path) -> Self {
        let progress = Progress { ended: true, ..Progress::default() };
        Self {
            path: path.to_path_buf(),
            file: Arc::new(Mutex::new(None)),
            progress: Arc::new(watch::Sender::new(progress)),
            rotate_at: ROTATE_AT,
        }
    }

    #[cfg(test)]
    pub(super) fn rotating_at(mut self, bytes: u64) -> Self {
        self.rotate_at = bytes;
        self
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes a log's files.
    pub fn remove(path: &Path) {
        for path in [path.to_path_buf(), Self::rotated(path)] {
            let _ = fs_err::remove_file(path);
        }
    }

    pub(super) fn rotated(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".1");
        name.into()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Writes one line, or a part of a long one.
    ///
    /// # Errors
    /// A full disk, for example. The line is lost then.
    pub fn write(&self, stream: Stream, text: &[u8], is_whole: bool) -> io::Result<()> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = held.as_mut() else { return Ok(()) };
        let mut line = format!(
            "{:.9} {} {} ",
            jiff::Timestamp::now(),
            match stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            },
            if is_whole { 'F' } else { 'P' }
        )
        .into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let before = *self.progress.borrow();
        let mut after = before;
        if before.size + line.len() as u64 > self.rotate_at {
            match fs_err::rename(&self.path, Self::rotated(&self.path)) {
                // It was moved before, and then no other could be made: there were no descriptors left, say.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => moved?,
            }
            *file = fs_err::File::create(&self.path)?;
            after = Progress { rotations: before.rotations + 1, size: 0, ended: false };
        }
        // What a full disk has cut off is written over by the next line.
        let written = file.write_all_at(&line, after.size);
        if written.is_ok() {
            after.size += line.len() as u64;
        }
        self.progress.send_replace(after);
        written
    }

    /// Tells followers that nothing more will come.
    pub fn finish(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.progress.send_modify(|progress| progress.ended = true);
    }
}

/// Copies a program's output into the log until it ends. A log that can't be written does not stop the program.
pub async fn pump(from: impl AsyncRead + Unpin, stream: Stream, log: Log) {
    let mut from = BufReader::with_capacity(LONGEST_LINE, from);
    let mut line: Vec<u8> = Vec::new();
    let mut has_complained = false;
    loop {
        let (used, is_whole) = match from.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(chunk) => {
                let room = LONGEST_LINE - line.len();
                match chunk.iter().take(room).position(|byte| *byte == b'\n') {
                    Some(end) => {
                        line.extend_from_slice(&chunk[..end]);
                        (end + 1, Some(true))
                    }
                    None => {
                        let taken = chunk.len().min(room);
                        line.extend_from_slice(&chunk[..taken]);
                        (taken, (line.len() == LONGEST_LINE).then_some(false))
                    }
                }
            }
        };
        from.consume(used);
        if let Some(is_whole) = is_whole {
            complain_once(&mut has_complained, &log, log.write(stream, &line, is_whole));
            line.clear();
        }
    }
    if !line.is_empty() {
        complain_once(&mut has_complained, &log, log.write(stream, &line, false));
    }
}

fn complain_once(has_complained: &mut bool, log: &Log, result: io::Result<()>) {
    if let Err(error) = result
        && !std::mem::replace(has_complained, true)
    {
        tracing::warn!(path = %log.path().display(), %error, "a container's log is incomplete");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_written_over() {
        use std::io::{Seek as _, SeekFrom, Write as _};
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(&directory.path().join("0.log")).unwrap();
        log.write(Stream::Stdout, b"one", true).unwrap();
        {
            // As a disk does that becomes full.
            let mut held = log.file.lock().unwrap();
            let file = held.as_mut().unwrap();
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(b"2026-01-02T03:04:05.678901234Z stdout F tw").unwrap();
        }
        log.write(Stream::Stdout, b"three", true).unwrap();
        let text = fs_err::read_to_string(log.path()).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
        assert!(lines.len() == 2 && lines[0].ends_with(" F one\n") && lines[1].ends_with(" F three\n"), "{text}");
    }
}
