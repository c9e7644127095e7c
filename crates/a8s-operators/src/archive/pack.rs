//! A plain stream becomes parts: one thread reads, [`super::WORKERS`] compress and seal, the calling one puts the
//! records together. Blocking.

use super::keys::DataKey;
use super::record::{self, Sealer};
use super::{Sizes, Summary, channels};
use crate::threads::spawn_within;
use bytes::Bytes;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

/// Why packing ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plain stream.
    #[error("cannot read what is to be stored")]
    Read(#[source] io::Error),
    /// Compression.
    #[error("cannot compress")]
    Compress(#[source] io::Error),
    /// Whoever takes the parts does not want more.
    #[error("nobody takes the parts any more")]
    Stopped,
}

/// Nobody takes the parts any more.
#[derive(Debug)]
pub struct Stopped;

/// A piece of the plain stream.
struct Piece {
    number: u32,
    is_last: bool,
    plain: Vec<u8>,
}

/// Reads `source` to its end and gives its parts to `take`, in order.
///
/// # Errors
/// If reading or compressing fails, or `take` wants no more.
pub fn pack(
    source: impl Read + Send,
    key: &DataKey,
    sizes: Sizes,
    mut take: impl FnMut(Bytes) -> Result<(), Stopped>,
) -> Result<Summary, Error> {
    let (sealer, header) = Sealer::create(key);
    let sealer = &sealer;
    thread::scope(|scope| {
        let (pieces, todo) = channels();
        let (done, records) = channels();
        for (todo, done) in todo.into_iter().zip(done) {
            spawn_within(scope, move || seal(sealer, &todo, &done)).map_err(Error::Compress)?;
        }
        let reader = spawn_within(scope, move || read(source, sizes.record, &pieces)).map_err(Error::Read)?;
        let mut assembly = Assembly::new(&header, sizes.part);
        let assembled = assembly.collect(&records, &mut take);
        // Whoever still wants to hand something on finds nobody, and ends.
        drop(records);
        let read = reader.join().map_err(|_| Error::Read(io::Error::other("the reading thread ended early")))?;
        assembled?;
        let plain_bytes = read.map_err(Error::Read)?;
        assembly.finish(&mut take)?;
        let (parts, stored_bytes) = (assembly.parts, assembly.bytes);
        Ok(Summary { stream: record::stream(&header), parts, stored_bytes, plain_bytes })
    })
}

/// Cuts the source into pieces. A piece waits until it is known whether it is the last. Ends early when nobody takes
/// them.
fn read(mut source: impl Read, size: usize, workers: &[SyncSender<Piece>]) -> io::Result<u64> {
    let mut bytes = 0;
    let mut plain = fill(&mut source, size)?;
    for number in 0..=u32::MAX {
        bytes += plain.len() as u64;
        let next = if plain.len() < size { Vec::new() } else { fill(&mut source, size)? };
        let is_last = next.is_empty() || sabotage::sabotaged!("backup-of-nothing");
        let worker = &workers[number as usize % workers.len()];
        if worker.send(Piece { number, is_last, plain }).is_err() || is_last {
            return Ok(bytes);
        }
        plain = next;
    }
    Err(io::Error::other("it has too many records"))
}

/// A whole piece, or what is left.
fn fill(source: &mut impl Read, size: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(size);
    source.take(size as u64).read_to_end(&mut plain)?;
    Ok(plain)
}

/// A record, and whether it is the last.
type Sealed = io::Result<(Vec<u8>, bool)>;

fn seal(sealer: &Sealer, todo: &Receiver<Piece>, done: &SyncSender<Sealed>) {
    let mut compressor = record::compressor();
    while let Ok(piece) = todo.recv() {
        let result = match &mut compressor {
            Ok(compressor) => sealer.seal(compressor, piece.number, piece.is_last, &piece.plain),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        if done.send(result.map(|record| (record, piece.is_last))).is_err() {
            return;
        }
    }
}

/// The part that is being put together, and what has been put together so far.
struct Assembly {
    size: usize,
    part: Vec<u8>,
    parts: u32,
    bytes: u64,
}

impl Assembly {
    fn new(header: &[u8], size: usize) -> Self {
        let mut part = Vec::with_capacity(size);
        part.extend_from_slice(header);
        Self { size, part, parts: 0, bytes: 0 }
    }

    fn collect(
        &mut self,
        records: &[Receiver<Sealed>],
        take: &mut impl FnMut(Bytes) -> Result<(), Stopped>,
    ) -> Result<(), Error> {
        for worker in records.iter().cycle() {
            // Without a last record the reader failed, and says why.
            let Ok(sealed) = worker.recv() else { return Ok(()) };
            let (record, is_last) = sealed.map_err(Error::Compress)?;
            let mut rest = record.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(self.size - self.part.len()));
                self.part.extend_from_slice(now);
                rest = later;
                if self.part.len() == self.size {
                    self.hand_on(Vec::with_capacity(self.size), take)?;
                }
            }
            if is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    fn hand_on(&mut self, next: Vec<u8>, take: &mut impl FnMut(Bytes) -> Result<(), Stopped>) -> Result<(), Error> {
        let part = std::mem::replace(&mut self.part, next);
        self.parts += 1;
        self.bytes += part.len() as u64;
        take(Bytes::from(part)).map_err(|Stopped| Error::Stopped)
    }

    fn finish(&mut self, take: &mut impl FnMut(Bytes) -> Result<(), Stopped>) -> Result<(), Error> {
        if self.part.is_empty() { Ok(()) } else { self.hand_on(Vec::new(), take) }
    }
}
