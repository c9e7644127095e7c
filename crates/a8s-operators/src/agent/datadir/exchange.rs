//! Exchanging the whole data directory at once, and which of two is the valid one.
//!
//! A data directory carries its generation in a file ([`mark`]). A new content is prepared in the directory
//! [`staged`](super::STAGED) beside it, with its own mark; [`swap`] exchanges the two in one operation of the file
//! system. What decides is the Lease: its generation is changed when the new content is to stay. Until then the old one
//! waits in `staged`, and at the next start [`settle`] puts the directory that the Lease names back into its place, so
//! that a change which was cut off anywhere leaves the old or the new content, and never a mixture.

use super::{COPY, DATA, STAGED};
use crate::postgresql::durable;
use crate::threads;
use nix::errno::Errno;
use std::io;
use std::path::Path;

/// Directory of contents that are being removed.
const DISCARDED: &str = "discarded";
/// Directory in which an exchange is tried.
const TRIAL: &str = "trial";
/// File within the data directory.
const MARK: &str = "a9s.generation";

/// The generation of a data directory; `None`: the first one.
///
/// # Errors
/// As reading.
pub fn generation(data: &Path) -> io::Result<Option<String>> {
    match fs_err::read_to_string(data.join(MARK)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says of a data directory which generation it is. Durable.
///
/// # Errors
/// As writing.
pub fn mark(data: &Path, generation: Option<&str>) -> io::Result<()> {
    durable::replace(&data.join(MARK), generation.unwrap_or_default().as_bytes(), 0o600)
}

/// Whether the file system of a volume exchanges two directories, which it does not everywhere: that of NFS has no such
/// operation.
///
/// # Errors
/// As making, renaming and removing directories.
pub fn is_possible(volume: &Path) -> io::Result<bool> {
    let trial = volume.join(TRIAL);
    let (one, other) = (trial.join("one"), trial.join("other"));
    fs_err::create_dir_all(&one)?;
    fs_err::create_dir_all(&other)?;
    let exchanged = rename_both(&one, &other);
    fs_err::remove_dir_all(&trial)?;
    match exchanged {
        Err(error) if is_unsupported(&error) => Ok(false),
        exchanged => exchanged.map(|()| true),
    }
}

/// Whether the file system or the kernel does not know the operation (renameat2(2)).
fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP))
}

/// Exchanges the data directory of a volume with the staged one. Durable. The server must not run.
///
/// # Errors
/// As renaming.
pub fn swap(volume: &Path) -> io::Result<()> {
    rename_both(&volume.join(DATA), &volume.join(STAGED))?;
    durable::flush_directory(volume)
}

/// Puts the directory of the generation that the Lease names into its place, and discards the other. Does nothing where
/// nothing is staged. The server must not run.
///
/// # Errors
/// As renaming and removing.
pub fn settle(volume: &Path, valid: Option<&str>) -> io::Result<()> {
    let (data, staged) = (volume.join(DATA), volume.join(STAGED));
    if !staged.exists() {
        return Ok(());
    }
    let is_valid = |directory: &Path| Ok::<_, io::Error>(generation(directory)?.as_deref() == valid);
    if data.exists() && !is_valid(&data)? && is_valid(&staged)? {
        swap(volume)?;
    }
    discard(volume, &staged)?;
    sweep(volume);
    Ok(())
}

/// Discards what is staged, if it is of this generation: it was not exchanged. If the exchange was cut off, the content of
/// before is there, with another mark; the next start [settles](settle) that.
///
/// # Errors
/// As renaming.
pub fn withdraw(volume: &Path, order: &str) -> io::Result<()> {
    let staged = volume.join(STAGED);
    if generation(&staged)?.as_deref() == Some(order) {
        discard(volume, &staged)?;
        sweep(volume);
    }
    Ok(())
}

/// What is no longer valid is put where nobody takes it for anything: to remove it may take long.
fn discard(volume: &Path, directory: &Path) -> io::Result<()> {
    let discarded = volume.join(DISCARDED);
    fs_err::create_dir_all(&discarded)?;
    fs_err::rename(directory, discarded.join(format!("{:016x}", rand::random::<u64>())))?;
    durable::flush_directory(volume)
}

/// Removes what was discarded, and what a copy of the primary that was cut off has left: the data that it should
/// replace may do after all when the member is started again, and nothing else would remove it. What cannot be removed
/// stays.
pub fn clear(volume: &Path) {
    let copy = volume.join(COPY);
    if copy.exists()
        && let Err(error) = discard(volume, &copy)
    {
        tracing::warn!("what a copy has left stays on the volume: {error}");
    }
    sweep(volume);
}

/// Removes what was discarded, in a thread of its own. What cannot be removed stays for the next time.
fn sweep(volume: &Path) {
    let discarded = volume.join(DISCARDED);
    let sweeping = threads::spawn(move || {
        for directory in std::fs::read_dir(discarded).into_iter().flatten().flatten() {
            if let Err(error) = std::fs::remove_dir_all(directory.path())
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!("a discarded content stays on the volume: {error}");
            }
        }
    });
    if let Err(error) = sweeping {
        tracing::warn!("what was discarded stays on the volume: {error}");
    }
}

/// Whether nothing that was discarded takes room on the volume any more.
pub fn is_swept(volume: &Path) -> bool {
    std::fs::read_dir(volume.join(DISCARDED)).map_or(true, |mut entries| entries.next().is_none())
}

#[cfg(target_os = "linux")]
fn rename_both(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags};
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(io::Error::from)
}

/// Elsewhere it takes three steps; a crash between them leaves a directory that no start takes for data.
#[cfg(not(target_os = "linux"))]
fn rename_both(one: &Path, other: &Path) -> io::Result<()> {
    let aside = one.with_extension("aside");
    fs_err::rename(one, &aside)?;
    fs_err::rename(other, one)?;
    fs_err::rename(aside, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume whose data directory is of one generation and whose staged one of another.
    fn volume(data: Option<&str>, staged: Option<&str>) -> tempfile::TempDir {
        let volume = tempfile::tempdir().expect("a directory");
        for (name, generation) in [(DATA, data), (STAGED, staged)] {
            fs_err::create_dir(volume.path().join(name)).expect("made");
            mark(&volume.path().join(name), generation).expect("marked");
            fs_err::write(volume.path().join(name).join("content"), generation.unwrap_or("first")).expect("written");
        }
        volume
    }

    fn content(volume: &Path) -> String {
        assert!(!volume.join(STAGED).exists());
        while !is_swept(volume) {
            std::thread::yield_now();
        }
        fs_err::read_to_string(volume.join(DATA).join("content")).expect("there")
    }

    #[test]
    fn wherever_an_exchange_is_cut_off_the_lease_says_which_content_is_valid() {
        for (is_swapped, is_committed, expected) in
            [(false, false, "first"), (true, false, "first"), (true, true, "new"), (false, true, "new")]
        {
            let volume = volume(None, Some("new"));
            if is_swapped {
                swap(volume.path()).expect("swapped");
            }
            settle(volume.path(), is_committed.then_some("new")).expect("settled");
            assert_eq!(content(volume.path()), expected, "swapped {is_swapped}, committed {is_committed}");
            settle(volume.path(), None).expect("nothing to do");
        }
    }

    #[test]
    fn whether_an_exchange_is_possible_is_tried_and_nothing_is_left_of_it() {
        let volume = tempfile::tempdir().expect("a directory");
        // What one that was cut off has left.
        fs_err::create_dir_all(volume.path().join(TRIAL).join("one")).expect("made");
        assert!(is_possible(volume.path()).expect("tried"));
        assert_eq!(fs_err::read_dir(volume.path()).expect("there").count(), 0);
        for (error, expected) in
            [(Errno::EINVAL, true), (Errno::ENOSYS, true), (Errno::EIO, false), (Errno::ENOSPC, false)]
        {
            assert_eq!(is_unsupported(&error.into()), expected, "{error}");
        }
    }

    #[test]
    fn a_staged_directory_that_is_not_complete_is_removed() {
        let volume = volume(Some("a"), Some("b"));
        settle(volume.path(), Some("a")).expect("settled");
        assert_eq!(content(volume.path()), "a");
    }

    #[test]
    fn what_a_copy_has_left_takes_no_room() {
        let volume = volume(None, None);
        fs_err::create_dir(volume.path().join(COPY)).expect("made");
        clear(volume.path());
        assert!(!volume.path().join(COPY).exists());
        while !is_swept(volume.path()) {
            std::thread::yield_now();
        }
        clear(volume.path());
        assert!(volume.path().join(DATA).exists() && volume.path().join(STAGED).exists());
    }

    #[test]
    fn data_without_a_mark_is_of_the_first_generation() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(generation(directory.path()).expect("readable"), None);
        mark(directory.path(), Some("g")).expect("marked");
        assert_eq!(generation(directory.path()).expect("readable").as_deref(), Some("g"));
        mark(directory.path(), None).expect("marked");
        assert_eq!(generation(directory.path()).expect("readable"), None);
    }
}
