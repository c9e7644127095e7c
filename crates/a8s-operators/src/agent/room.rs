//! Room on a volume.

use std::path::Path;

/// A disk with less free than this, in bytes, is full: one more segment of the WAL has no place on it (PostgreSQL manual, 30.5).
const FULL: u128 = 16 << 20;

/// What is free for the server, in bytes; `None`: the system does not say.
pub fn free(volume: &Path) -> Option<u128> {
    let space = nix::sys::statvfs::statvfs(volume).ok()?;
    // These have another width on other systems.
    Some(u128::from(space.blocks_available()) * u128::from(space.fragment_size()))
}

/// Whether there is no room for more. Once there was none, it takes four times as much until there is some.
pub fn is_full(volume: &Path, was_full: bool) -> bool {
    let least = if was_full { FULL * 4 } else { FULL };
    free(volume).is_some_and(|free| free < least)
}
