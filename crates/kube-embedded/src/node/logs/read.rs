//! The reading side of a container's log: `kubectl logs`.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, try_unfold};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::write::{Log, Progress};
use crate::kubelet::LogOptions;

/// Size of the pieces an answer is made of, in bytes.
const PIECE: usize = 64 * 1024;
/// Size of the steps in which the start of the last lines is looked for, in bytes.
const STEP: u64 = 16 * 1024;

/// The lines that the options ask for.
///
/// # Errors
/// When the files can't be read.
pub fn stream(log: &Log, options: &LogOptions) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    // Subscribed before reading, so nothing written in between is missed.
    let progress = log.subscribe();
    let rotations = progress.borrow().rotations;
    let mut files: VecDeque<BufReader<fs_err::File>> = VecDeque::new();
    let rotated = Log::rotated(log.path());
    let mut wanted = options.tail_lines;
    for path in [log.path(), rotated.as_path()] {
        let Some(mut file) = open(path)? else { continue };
        if let Some(lines) = wanted.as_mut() {
            *lines -= seek_to_last_lines(&mut file, *lines)?;
        }
        files.push_front(BufReader::new(file));
        if wanted == Some(0) {
            break;
        }
    }
    let reader = Reader {
        files,
        log: log.clone(),
        progress,
        rotations,
        since: since(options, Timestamp::now()),
        timestamps: options.timestamps,
        left: options.limit_bytes,
        follow: options.follow,
        is_continuation: false,
    };
    Ok(try_unfold(reader, Reader::next).boxed())
}

/// The last lines of a log, as far as they can be read.
pub fn last_lines(log: &Log, count: u64) -> Vec<u8> {
    let read = || -> io::Result<Vec<u8>> {
        let Some(mut file) = open(log.path())? else { return Ok(Vec::new()) };
        seek_to_last_lines(&mut file, count)?;
        let mut reader = Reader {
            files: VecDeque::from([BufReader::new(file)]),
            log: log.clone(),
            progress: log.subscribe(),
            rotations: 0,
            since: None,
            timestamps: false,
            left: None,
            follow: false,
            is_continuation: false,
        };
        Ok(reader.read_piece()?.to_vec())
    };
    read().unwrap_or_default()
}

fn since(options: &LogOptions, now: Timestamp) -> Option<Timestamp> {
    // What is longer ago than there is time says nothing.
    options.since_time.or_else(|| now.checked_sub(SignedDuration::from_secs(options.since_seconds?)).ok())
}

fn open(path: &Path) -> io::Result<Option<fs_err::File>> {
    match fs_err::File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Moves to where the last `wanted` whole lines begin, and answers how many of them there are. Parts of a long line
/// are one line.
fn seek_to_last_lines(file: &mut fs_err::File, wanted: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if wanted == 0 {
        return Ok(0);
    }
    // Walks backwards over line ends; the line after each is counted if it ends a text (tag F) or the file.
    let mut count = 0;
    let mut line_end: Option<u64> = None;
    let mut start_of_counted = end;
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        let mut piece = vec![0; usize::try_from(end - begin).unwrap_or_default()];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut piece)?;
        for (index, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let position = begin + index as u64;
            if line_end.is_some() {
                let start = position + 1;
                if count == wanted && is_whole_at(file, start)? {
                    file.seek(SeekFrom::Start(start_of_counted))?;
                    return Ok(count);
                }
                if is_whole_at(file, start)? || count == 0 {
                    count += 1;
                }
                start_of_counted = start;
            }
            line_end = Some(position);
        }
        end = begin;
    }
    if line_end.is_some() {
        if count == wanted && is_whole_at(file, 0)? {
            file.seek(SeekFrom::Start(start_of_counted))?;
            return Ok(count);
        }
        if is_whole_at(file, 0)? || count == 0 {
            count += 1;
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(count)
}

/// Whether the line that starts here has the tag `F`.
fn is_whole_at(file: &mut fs_err::File, start: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(start))?;
    let mut head = [0; 64];
    let count = file.read(&mut head)?;
    Ok(head[..count].split(|byte| *byte == b' ').nth(2) == Some(b"F".as_slice()))
}

struct Reader {
    files: VecDeque<BufReader<fs_err::File>>,
    log: Log,
    progress: watch::Receiver<Progress>,
    rotations: u64,
    since: Option<Timestamp>,
    timestamps: bool,
    left: Option<u64>,
    follow: bool,
    is_continuation: bool,
}

impl Reader {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            // Looked at before reading: what is written after this is announced again.
            let seen = *self.progress.borrow_and_update();
            let piece = self.read_piece()?;
            if !piece.is_empty() {
                return Ok(Some((piece, self)));
            }
            if seen.rotations != self.rotations {
                self.rotations = seen.rotations;
                self.files.clear();
                self.files.extend(open(self.log.path())?.map(BufReader::new));
                continue;
            }
            if !self.follow || seen.ended || self.progress.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// As many lines as there are now, up to a piece.
    fn read_piece(&mut self) -> io::Result<Bytes> {
        let mut piece = Vec::new();
        let mut line = Vec::new();
        while piece.len() < PIECE {
            let is_last = self.files.len() <= 1;
            let Some(file) = self.files.front_mut() else { break };
            line.clear();
            file.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                // The end, or a line being written just now, which is read again.
                if !line.is_empty() {
                    file.seek_relative(-i64::try_from(line.len()).unwrap_or_default())?;
                }
                if is_last {
                    break;
                }
                self.files.pop_front();
                continue;
            }
            self.take(&line, &mut piece);
        }
        if let Some(left) = self.left.as_mut() {
            piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= piece.len() as u64;
        }
        Ok(piece.into())
    }

    fn take(&mut self, line: &[u8], piece: &mut Vec<u8>) {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(_stream), Some(tag), Some(text)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        if let Some(since) = self.since
            && std::str::from_utf8(time)
                .ok()
                .and_then(|time| time.parse::<Timestamp>().ok())
                .is_some_and(|time| time < since)
        {
            return;
        }
        if self.timestamps && !self.is_continuation {
            piece.extend_from_slice(time);
            piece.push(b' ');
        }
        self.is_continuation = tag == b"P";
        piece.extend_from_slice(if self.is_continuation { &text[..text.len() - 1] } else { text });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::logs::{LONGEST_LINE, Stream, pump};

    async fn all(log: &Log, options: &LogOptions) -> String {
        let pieces: Vec<_> = stream(log, options).unwrap().collect().await;
        pieces.into_iter().map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap()).collect()
    }

    fn log(name: &str, lines: impl IntoIterator<Item = impl AsRef<str>>) -> (tempfile::TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(&directory.path().join(name)).unwrap().rotating_at(1000);
        for line in lines {
            log.write(Stream::Stdout, line.as_ref().as_bytes(), true).unwrap();
        }
        (directory, log)
    }

    #[tokio::test]
    async fn lines_come_back_as_they_were_written() {
        let (_directory, log) = log("0.log", ["one", "", "three with  spaces"]);
        assert_eq!(all(&log, &LogOptions::default()).await, "one\n\nthree with  spaces\n");
    }

    #[tokio::test]
    async fn the_tail_may_span_the_rotated_file() {
        let (_directory, log) = log("0.log", (0..50).map(|number| format!("line {number}")));
        for count in [0, 1, 2, 20, 30] {
            let expected: String = (50 - count..50).map(|number| format!("line {number}\n")).collect();
            let options = LogOptions { tail_lines: Some(count), ..LogOptions::default() };
            let got = all(&log, &options).await;
            assert!(expected.ends_with(&got) && (count > 20 || got == expected), "{count}: {got}");
        }
    }

    #[tokio::test]
    async fn a_rotation_that_was_cut_off_is_done_with_the_next_line() {
        let long = "x".repeat(200);
        let (_directory, log) = log("0.log", [&long; 4]);
        fs_err::rename(log.path(), Log::rotated(log.path())).unwrap();
        log.write(Stream::Stdout, b"next", true).unwrap();
        log.write(Stream::Stdout, b"last", true).unwrap();
        assert_eq!(all(&log, &LogOptions::default()).await, format!("{long}\n{long}\n{long}\n{long}\nnext\nlast\n"));
    }

    #[tokio::test]
    async fn limits_times_and_timestamps_are_obeyed() {
        let (_directory, log) = log("0.log", ["one", "two"]);
        let bytes = LogOptions { limit_bytes: Some(5), ..LogOptions::default() };
        assert_eq!(all(&log, &bytes).await, "one\nt");
        let future =
            LogOptions { since_time: Some(Timestamp::now() + Duration::from_secs(9)), ..LogOptions::default() };
        assert_eq!(all(&log, &future).await, "");
        for seconds in [i64::MAX, i64::MIN] {
            let ever = LogOptions { since_seconds: Some(seconds), ..LogOptions::default() };
            assert_eq!(all(&log, &ever).await, "one\ntwo\n");
        }
        let recent = LogOptions { since_seconds: Some(60), timestamps: true, ..LogOptions::default() };
        let text = all(&log, &recent).await;
        let (time, rest) = text.lines().next().unwrap().split_once(' ').unwrap();
        assert_eq!(rest, "one");
        assert!(time.parse::<Timestamp>().is_ok() && time.len() == "2026-01-02T03:04:05.123456789Z".len(), "{time}");
    }

    #[tokio::test]
    async fn a_follower_gets_every_line_across_rotations_and_ends_with_the_container() {
        let (_directory, log) = log("0.log", ["line 0"]);
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut stream = stream(&log, &options).unwrap();
        let mut got = String::new();
        for number in 0..100 {
            // Read up to the last line each time: a slow reader may lose what is rotated away twice.
            while !got.contains(&format!("line {number}\n")) {
                got += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
            }
            log.write(Stream::Stderr, format!("line {}", number + 1).as_bytes(), true).unwrap();
        }
        log.finish();
        while let Some(piece) = stream.next().await {
            got += std::str::from_utf8(&piece.unwrap()).unwrap();
        }
        assert_eq!(got, (0..=100).map(|number| format!("line {number}\n")).collect::<String>());
    }

    #[tokio::test]
    async fn a_line_longer_than_a_part_is_whole_again_for_the_reader() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(&directory.path().join("0.log")).unwrap();
        let long = "x".repeat(2 * LONGEST_LINE + 5);
        pump(format!("first\n{long}\nlast").as_bytes(), Stream::Stdout, log.clone()).await;
        assert_eq!(all(&log, &LogOptions::default()).await, format!("first\n{long}\nlast"));
        let tail = LogOptions { tail_lines: Some(2), ..LogOptions::default() };
        assert_eq!(all(&log, &tail).await, format!("{long}\nlast"));
    }
}
