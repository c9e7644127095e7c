//! Copying a data directory and making the copy durable, in several threads: each file is flushed as soon as it has
//! been copied, while others are being read.

use crate::threads::share;
use std::collections::VecDeque;
use std::fs::FileType;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Most of the time a thread waits for the disk.
const THREADS: usize = 16;
/// Files of at least this size may be mostly zeros, as segments of WAL are.
const LARGE: u64 = 16 << 20;
const BLOCK: usize = 1 << 20;

/// Copies a directory tree of files and directories. The target must not exist; its directories are flushed last.
///
/// # Errors
/// The first one of any file. What was copied until then stays.
pub fn copy_tree(source: &Path, target: &Path) -> io::Result<()> {
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    list(source, Path::new(""), &mut files, &mut directories)?;
    for directory in &directories {
        std::fs::DirBuilder::new().mode(0o700).create(target.join(directory))?;
    }
    // Large files first, so that no thread is left alone with one.
    files.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let queue = Mutex::new(VecDeque::from(files));
    share(THREADS, || {
        loop {
            let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
            let Some((path, size)) = next else { return Ok(()) };
            copy_file(&source.join(&path), &target.join(&path), size)?;
        }
    })?;
    directories.iter().rev().try_for_each(|directory| fs_err::File::open(target.join(directory))?.sync_all())
}

fn list(
    root: &Path,
    relative: &Path,
    files: &mut Vec<(PathBuf, u64)>,
    directories: &mut Vec<PathBuf>,
) -> io::Result<()> {
    directories.push(relative.to_owned());
    for entry in fs_err::read_dir(root.join(relative))? {
        let entry = entry?;
        let path = relative.join(entry.file_name());
        let kind: FileType = entry.file_type()?;
        if kind.is_dir() {
            list(root, &path, files, directories)?;
        } else if kind.is_file() {
            files.push((path, entry.metadata()?.len()));
        } else {
            let text = format!("{} is neither a file nor a directory", entry.path().display());
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}

fn copy_file(source: &Path, target: &Path, size: u64) -> io::Result<()> {
    if size < LARGE {
        // The kernel copies, or shares the blocks where the file system can.
        fs_err::copy(source, target)?;
        return fs_err::File::open(target)?.sync_all();
    }
    let mut reader = fs_err::File::open(source)?;
    let mut writer = fs_err::File::create_new(target)?;
    reserve(writer.file(), size)?;
    let mut block = vec![0; BLOCK];
    let mut offset = 0;
    loop {
        let length = fill(&mut reader, &mut block)?;
        if length == 0 {
            break;
        }
        // Zeros are there already.
        if block[..length].iter().any(|byte| *byte != 0) {
            writer.seek(SeekFrom::Start(offset))?;
            writer.write_all(&block[..length])?;
        }
        offset += length as u64;
    }
    writer.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    writer.sync_all()
}

fn fill(reader: &mut impl io::Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match reader.by_ref().read(&mut block[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

/// Gives a file its size and its space: PostgreSQL must not run out of disk in the middle of a segment.
fn reserve(file: &std::fs::File, size: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Ok(length) = i64::try_from(size) {
        use nix::errno::Errno;
        match nix::fcntl::fallocate(file, nix::fcntl::FallocateFlags::empty(), 0, length) {
            Ok(()) => return Ok(()),
            // Not every file system can; then the space is taken when it is written.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    file.set_len(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_with_empty_directories_and_sparse_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let (source, target) = (directory.path().join("a"), directory.path().join("b"));
        fs_err::create_dir_all(source.join("empty/deep")).expect("made");
        fs_err::write(source.join("small"), "text").expect("written");
        let mut large = vec![0_u8; usize::try_from(LARGE).expect("small") + 5];
        large[3] = 1;
        let last = large.len() - 1;
        large[last] = 2;
        fs_err::write(source.join("empty/large"), &large).expect("written");
        copy_tree(&source, &target).expect("copied");
        assert_eq!(fs_err::read(target.join("small")).expect("there"), b"text");
        assert!(fs_err::read(target.join("empty/large")).expect("there") == large);
        assert!(target.join("empty/deep").is_dir());
    }

    #[test]
    fn links_are_refused_rather_than_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let source = directory.path().join("a");
        fs_err::create_dir(&source).expect("made");
        fs_err::os::unix::fs::symlink("/etc", source.join("link")).expect("made");
        let error = copy_tree(&source, &directory.path().join("b")).expect_err("refused");
        assert!(error.to_string().contains("neither a file nor a directory"), "{error}");
    }
}
