//! The archive of a base backup becomes a directory. Blocking.

use crate::threads::spawn_within;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;
use tar::EntryType;

/// Threads that flush files while others are written. Waiting in many is cheap: see [`crate::postgresql::durable`].
const FLUSHERS: usize = 8;
/// Files that wait to be flushed. Each is open.
const WAITING: usize = 64;
const BLOCK: usize = 256 << 10;
/// A larger file is flushed each time so many bytes of it have been written, so that little is left to be done at its end.
const STRETCH: u64 = 32 << 20;

/// Writes an archive of files and directories below `target`, which must not exist. Everything is durable afterwards.
///
/// # Errors
/// If reading or writing fails, or the archive has anything else or a path that leads out of `target`.
pub fn extract(archive: &mut dyn Read, target: &Path) -> io::Result<()> {
    let (files, written) = sync_channel::<std::fs::File>(WAITING);
    let written = Mutex::new(written);
    let flush = || -> io::Result<()> {
        loop {
            let next = written.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
            let Ok(file) = next else { return Ok(()) };
            file.sync_all()?;
        }
    };
    thread::scope(|scope| {
        let flushers = (0..FLUSHERS).map(|_| spawn_within(scope, flush)).collect::<io::Result<Vec<_>>>()?;
        let extracted = write_all(archive, target, |file| {
            files.send(file).map_err(|_| io::Error::other("the threads that flush files ended early"))
        });
        drop(files);
        let flushed = flushers.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("a thread that flushed files ended early")),
        });
        let directories = extracted?;
        flushed?;
        directories.iter().rev().try_for_each(|directory| std::fs::File::open(directory)?.sync_all())
    })
}

/// Writes files and hands them on to be flushed. Answers with all directories, parents first.
fn write_all(
    archive: &mut dyn Read,
    target: &Path,
    mut written: impl FnMut(std::fs::File) -> io::Result<()>,
) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    let mut make = |path: PathBuf| -> io::Result<()> {
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        directories.push(path);
        Ok(())
    };
    make(target.to_owned())?;
    let mut block = vec![0; BLOCK];
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = target.join(inside(&entry.path()?)?);
        match entry.header().entry_type() {
            EntryType::Directory => make(path)?,
            EntryType::Regular => {
                let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                let size = entry.size();
                if copy(&mut entry, &mut file, &mut block, &mut written)? != size {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                written(file)?;
            }
            other => {
                let text = format!("{} is neither a file nor a directory, but {other:?}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    Ok(directories)
}

/// `flush` gets the file after each [`STRETCH`].
fn copy(
    source: &mut impl Read,
    target: &mut std::fs::File,
    block: &mut [u8],
    flush: &mut impl FnMut(std::fs::File) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut total, mut due) = (0, STRETCH);
    loop {
        match source.read(block)? {
            0 => return Ok(total),
            length => {
                target.write_all(&block[..length])?;
                total += length as u64;
                if total >= due {
                    due += STRETCH;
                    flush(target.try_clone()?)?;
                }
            }
        }
    }
}

/// A relative path that stays where it is.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            _ => {
                let text = format!("the path {} leads out of the backup", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().expect("finished")
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
        let mut header = tar::Header::new_ustar();
        // As a bad program would write it: the library refuses such paths.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, content).expect("appended");
    }

    #[test]
    fn files_and_empty_directories_are_written_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let target = directory.path().join("new");
        let archive = archive(|builder| {
            builder.append_dir("base", directory.path()).expect("appended");
            builder.append_dir("empty", directory.path()).expect("appended");
            file(builder, "base/1", &[7; 1 << 20]);
            file(builder, "none", b"");
        });
        extract(&mut archive.as_slice(), &target).expect("extracted");
        assert_eq!(fs_err::read(target.join("base/1")).expect("there"), vec![7; 1 << 20]);
        assert_eq!(fs_err::metadata(target.join("none")).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs_err::metadata(target.join("empty")).expect("there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn nothing_is_written_outside_and_links_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        for (number, path) in ["../out", "/tmp/out", "base/../../out"].into_iter().enumerate() {
            let archive = archive(|builder| file(builder, path, b"x"));
            let target = directory.path().join(number.to_string());
            let error = extract(&mut archive.as_slice(), &target).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{path}: {error}");
        }
        let archive = archive(|builder| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, "link", "/etc").expect("appended");
        });
        let error = extract(&mut archive.as_slice(), &directory.path().join("link")).expect_err("refused");
        assert!(error.to_string().contains("neither a file nor a directory"), "{error}");
        assert!(!directory.path().join("out").exists());
    }

    #[test]
    fn an_archive_that_is_cut_off_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let archive = archive(|builder| file(builder, "file", &[7; 5000]));
        assert!(extract(&mut &archive[..3000], &directory.path().join("new")).is_err());
    }
}
