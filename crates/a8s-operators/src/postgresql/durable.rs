//! Making files last: whole directories, and single small files that are replaced at once.

use crate::threads::share;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// How many files are flushed at the same time. The flushes of one moment share a commit of the file system's
/// journal, so that waiting in many threads is cheap and waiting in one is not.
const THREADS: usize = 16;

/// Flushes every file and directory below a directory, and the directory itself, to the disk.
///
/// # Errors
/// The first one that any file had.
pub fn flush_tree(directory: &Path) -> io::Result<()> {
    let mut paths = Vec::new();
    collect(directory, &mut paths)?;
    paths.push(directory.to_owned());
    flush_all(paths)
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), paths)?;
        }
        if kind.is_dir() || kind.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(())
}

fn flush_all(paths: Vec<PathBuf>) -> io::Result<()> {
    let queue = Mutex::new(VecDeque::from(paths));
    share(THREADS, || {
        loop {
            let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
            let Some(path) = next else { return Ok(()) };
            // Whoever may write there could have put a link in its place by now, or a pipe that nobody writes to.
            let mut file = fs_err::OpenOptions::new();
            file.read(true);
            file.options_mut().custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
            file.open(path)?.sync_all()?;
        }
    })
}

/// Flushes one directory's entries.
///
/// # Errors
/// As opening and flushing it.
pub fn flush_directory(directory: &Path) -> io::Result<()> {
    fs_err::File::open(directory)?.sync_all()
}

/// Replaces a file at once and for good: nobody sees half of it, also not after a power cut. `mode` is its permissions.
///
/// # Errors
/// As writing and renaming.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    exchange(path, content, mode, true)?;
    flush_directory(path.parent().unwrap_or(Path::new(".")))
}

/// As [`replace`], but after a power cut the file may be gone or empty: for what is made anew at every start.
///
/// # Errors
/// As writing and renaming.
pub fn swap(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    exchange(path, content, mode, false)
}

fn exchange(path: &Path, content: &[u8], mode: u32, is_flushed: bool) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = directory.join(name);
    // What is left there may be a link of somebody else's: it goes, and nothing is written through one that comes.
    match fs_err::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs_err::OpenOptions::new();
    file.write(true).create_new(true);
    file.options_mut().mode(mode);
    let mut file = file.open(&temporary)?;
    file.write_all(content)?;
    if is_flushed {
        file.sync_all()?;
    }
    drop(file);
    fs_err::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        replace(&path, b"one", 0o600).expect("written");
        replace(&path, b"two", 0o600).expect("replaced");
        assert_eq!(fs_err::read(&path).expect("there"), b"two");
        assert_eq!(fs_err::read_dir(directory.path()).expect("there").count(), 1);
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        fs_err::write(&other, "untouched").expect("written");
        for link in ["file", "file.new"] {
            fs_err::os::unix::fs::symlink(&other, directory.path().join(link)).expect("made");
        }
        replace(&path, b"one", 0o600).expect("written");
        assert_eq!(fs_err::read(&other).expect("there"), b"untouched");
        assert!(fs_err::symlink_metadata(&path).expect("there").is_file());
        assert_eq!(fs_err::read_dir(directory.path()).expect("there").count(), 2);
    }

    #[test]
    fn a_tree_with_links_and_empty_directories_is_flushed() {
        let directory = tempfile::tempdir().expect("a directory");
        fs_err::create_dir_all(directory.path().join("a/b")).expect("made");
        fs_err::write(directory.path().join("a/file"), "x").expect("written");
        fs_err::os::unix::fs::symlink("nowhere", directory.path().join("link")).expect("made");
        flush_tree(directory.path()).expect("flushed");
    }
}
