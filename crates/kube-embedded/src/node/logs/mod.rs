//! Containers' logs: files of timestamped lines in the format of the Container Runtime Interface
//! (`2026-01-02T03:04:05.678901234Z stdout F text`, kubernetes/cri-api `api.proto`), one per run of a container, each
//! with at most one rotated predecessor.

mod read;
mod write;

pub use read::{last_lines, stream};
pub use write::{Log, Stream, pump};

/// Size at which a file is rotated, in bytes.
const ROTATE_AT: u64 = 10 * 1024 * 1024;
/// Longest line that is kept in one piece, in bytes; longer ones are written in parts (tag `P`).
const LONGEST_LINE: usize = 16 * 1024;
