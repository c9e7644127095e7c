//! Parts become the plain stream again: one thread cuts them into records, [`super::WORKERS`] open and decompress
//! them, and the calling one reads the result. Blocking.
//!
//! Nothing that is not authentic is ever given to the reader, but a reader has only seen the whole stream when
//! [`unpack`] itself succeeds: until then what it made of it must not be used.

use super::keys::DataKey;
use super::record::{self, HEADER, Invalid, PREFIX, Sealer};
use super::{Summary, channels};
use crate::threads::spawn_within;
use bytes::{Buf as _, Bytes};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Why a stream was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part cannot be had.
    #[error("cannot read the stored backup")]
    Source(#[source] io::Error),
    /// It is not what was stored.
    #[error("the stored backup is damaged")]
    Invalid(#[from] Invalid),
    /// It is not what the manifest says.
    #[error("the stored backup is not the one that its manifest describes")]
    Other,
    /// Whoever reads it failed.
    #[error(transparent)]
    Consumer(io::Error),
}

struct Sealed {
    number: u32,
    is_last: bool,
    record: Vec<u8>,
}

/// Lets `consume` read the plain stream of the parts, then compares everything with what is expected of it.
///
/// # Errors
/// If a part cannot be read, anything is not as it was stored, or `consume` fails.
pub fn unpack<T>(
    mut parts: impl Iterator<Item = io::Result<Bytes>> + Send,
    key: &DataKey,
    expected: &Summary,
    consume: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> Result<T, Error> {
    thread::scope(|scope| {
        let (records, todo) = channels();
        let (done, pieces) = channels();
        // The sealer is known when the header has been read.
        let (keys, sealers): (Vec<SyncSender<Sealer>>, Vec<_>) = todo.iter().map(|_| sync_channel(1)).unzip();
        for ((todo, done), sealer) in todo.into_iter().zip(done).zip(sealers) {
            let work = move || {
                let Ok(sealer) = sealer.recv() else { return };
                open(&sealer, &todo, &done);
            };
            spawn_within(scope, work).map_err(Error::Source)?;
        }
        let split = move || {
            let mut splitter = Splitter::new(&mut parts);
            let result = splitter.split(key, &keys, &records);
            result.map(|stream| (stream, splitter.parts, splitter.bytes))
        };
        let splitter = spawn_within(scope, split).map_err(Error::Source)?;
        let mut plain = Plain::new(pieces);
        let consumed = consume(&mut plain);
        let rest = if consumed.is_ok() { io::copy(&mut plain, &mut io::sink()).map(drop) } else { Ok(()) };
        let Plain { workers, invalid, bytes, .. } = plain;
        drop(workers);
        let split = splitter.join().map_err(|_| Error::Source(io::Error::other("the reading thread ended early")))?;
        if let Some(invalid) = invalid {
            return Err(invalid.into());
        }
        let (stream, parts, stored_bytes) = match (split, consumed.is_err()) {
            (Ok(found), _) => found,
            // It ended because the consumer did.
            (Err(Error::Other), true) => (String::new(), 0, 0),
            (Err(error), _) => return Err(error),
        };
        let value = consumed.map_err(Error::Consumer)?;
        rest.map_err(Error::Consumer)?;
        let found = Summary { stream, parts, stored_bytes, plain_bytes: bytes };
        if found == *expected { Ok(value) } else { Err(Error::Other) }
    })
}

/// Cuts parts into records.
struct Splitter<'a, I> {
    source: &'a mut I,
    part: Bytes,
    parts: u32,
    bytes: u64,
}

impl<'a, I: Iterator<Item = io::Result<Bytes>>> Splitter<'a, I> {
    fn new(source: &'a mut I) -> Self {
        Self { source, part: Bytes::new(), parts: 0, bytes: 0 }
    }

    /// Answers with which stream it was.
    fn split(
        &mut self,
        key: &DataKey,
        keys: &[SyncSender<Sealer>],
        workers: &[SyncSender<Sealed>],
    ) -> Result<String, Error> {
        let mut header = [0; HEADER];
        self.take(&mut header)?;
        for worker in keys {
            // A worker that is gone shows when it is to get a record.
            let _ = worker.send(Sealer::open(key, &header)?);
        }
        for number in 0..=u32::MAX {
            let mut prefix = [0; PREFIX];
            self.take(&mut prefix)?;
            let mut record = vec![0; record::length(prefix, number)?];
            self.take(&mut record)?;
            let is_last = !self.has_more()?;
            let worker = &workers[number as usize % workers.len()];
            if worker.send(Sealed { number, is_last, record }).is_err() {
                return Err(Error::Other);
            }
            if is_last {
                return Ok(record::stream(&header));
            }
        }
        Err(Invalid::TooLong.into())
    }

    /// Fills a buffer.
    fn take(&mut self, mut buffer: &mut [u8]) -> Result<(), Error> {
        while !buffer.is_empty() {
            if !self.has_more()? {
                return Err(Invalid::Truncated.into());
            }
            let length = buffer.len().min(self.part.len());
            let (now, later) = buffer.split_at_mut(length);
            self.part.copy_to_slice(now);
            buffer = later;
        }
        Ok(())
    }

    /// Whether there is another byte; fetches it if need be.
    fn has_more(&mut self) -> Result<bool, Error> {
        while self.part.is_empty() {
            let Some(part) = self.source.next() else { return Ok(false) };
            self.part = part.map_err(Error::Source)?;
            self.parts += 1;
            self.bytes += self.part.len() as u64;
        }
        Ok(true)
    }
}

/// A piece of the plain stream, and whether it is the last.
type Opened = Result<(Vec<u8>, bool), Invalid>;

fn open(sealer: &Sealer, todo: &Receiver<Sealed>, done: &SyncSender<Opened>) {
    let mut decompressor = zstd::bulk::Decompressor::new();
    while let Ok(Sealed { number, is_last, record }) = todo.recv() {
        let plain = match &mut decompressor {
            Ok(decompressor) => sealer.unseal(decompressor, number, is_last, record),
            Err(_) => Err(Invalid::Compression(number)),
        };
        if done.send(plain.map(|plain| (plain, is_last))).is_err() {
            return;
        }
    }
}

/// The plain stream.
struct Plain {
    workers: Vec<Receiver<Opened>>,
    next: usize,
    piece: Bytes,
    is_last: bool,
    invalid: Option<Invalid>,
    bytes: u64,
}

impl Plain {
    fn new(workers: Vec<Receiver<Opened>>) -> Self {
        Self { workers, next: 0, piece: Bytes::new(), is_last: false, invalid: None, bytes: 0 }
    }

    fn fetch(&mut self) -> io::Result<()> {
        let worker = self.next % self.workers.len();
        self.next += 1;
        match self.workers[worker].recv() {
            Ok(Ok((plain, is_last))) => {
                self.bytes += plain.len() as u64;
                self.piece = plain.into();
                self.is_last = is_last;
                Ok(())
            }
            Ok(Err(invalid)) => {
                self.invalid = Some(invalid.clone());
                Err(io::Error::new(io::ErrorKind::InvalidData, invalid))
            }
            // The splitter says why there is no more.
            Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if self.is_last {
                return Ok(0);
            }
            if self.invalid.is_some() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.fetch()?;
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
