//! The format of a backup in the store, in both directions: a stream of sealed records in parts, and a manifest.
//!
//! In reading order: [`keys`] (what is derived from the encryption password), [`record`] (one sealed piece of the
//! stream), [`pack`] (a plain stream becomes parts), [`unpack`] (parts become the plain stream), [`manifest`] (what a
//! backup says of itself, written last). Nothing here knows a store or PostgreSQL; `docs/backup-format.md` is the
//! format for people.
//!
//! Both directions read, compress, encrypt and hand on at the same time. What they hold is bounded: a few records for
//! each of [`WORKERS`], and one part.

pub mod keys;
pub mod manifest;
pub mod pack;
pub mod record;
pub mod unpack;

#[cfg(test)]
mod tests;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Version of the format. Raised when what is stored is laid out in another way.
pub const FORMAT: u32 = 1;
/// The most bytes of plain stream in a record.
pub const RECORD: usize = 1 << 20;

/// How a stream is cut. Whoever reads it takes any sizes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of plain stream in a record, apart from the last. At most [`RECORD`].
    pub record: usize,
    /// Bytes of a part, apart from the last. More than a stream's header.
    pub part: usize,
}

impl Default for Sizes {
    /// Parts are large enough to make requests rare, and small enough that several fit into the agent's memory.
    fn default() -> Self {
        Self { record: RECORD, part: 4 << 20 }
    }
}

/// Threads that compress and encrypt, or the reverse.
const WORKERS: usize = 2;
/// Records that wait for each worker, and for whoever takes its results.
const DEPTH: usize = 2;

/// A stream as its manifest describes it. Its bytes need no checksum here: that it is this stream, and whole, makes all
/// of them authentic.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Which stream: its salt, in hexadecimal digits.
    pub stream: String,
    /// Number of parts.
    pub parts: u32,
    /// Bytes of all parts.
    pub stored_bytes: u64,
    /// Bytes of the plain stream.
    pub plain_bytes: u64,
}

/// The name of a part, within the place of its backup.
pub fn part_name(number: u32) -> String {
    format!("part-{number:06}")
}

/// Channels to and from the workers. Record n goes to worker n modulo [`WORKERS`], and is taken from there, so that
/// nothing has to be put in order again.
fn channels<T>() -> (Vec<SyncSender<T>>, Vec<Receiver<T>>) {
    (0..WORKERS).map(|_| sync_channel(DEPTH)).unzip()
}
