//! The files that objects are made of: written once, synced, never changed, removed when the index forgot them.
//!
//! Their names are random numbers, so nothing that a client says is ever part of a path.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use nix::sys::statvfs::statvfs;

use super::{Error, crash};

/// Space that is left to the index, which needs some to delete.
const RESERVE: u128 = 4 << 20;

/// The directory of the files.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    /// How many read a file.
    reading: HashMap<u64, usize>,
    /// Those to be removed with their last reader.
    doomed: HashSet<u64>,
}

fn name(id: u64) -> String {
    format!("{id:016x}")
}

impl Files {
    /// Opens or makes the directory.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        fs_err::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned(), readers: Mutex::default() })
    }

    fn path(&self, id: u64) -> PathBuf {
        self.directory.join(name(id))
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new empty file, which is removed unless it is kept.
    pub fn create(self: &Arc<Self>) -> Result<NewFile, Error> {
        let space = statvfs(&self.directory).map_err(std::io::Error::from)?;
        // These have another width on other systems.
        if u128::from(space.blocks_available()) * u128::from(space.fragment_size()) < RESERVE {
            return Err(Error::Full);
        }
        crash::point("create the file")?;
        loop {
            let id = rand::random();
            let made = fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(id));
            match made {
                Ok(file) => return Ok(NewFile { files: self.clone(), id, file, size: 0, is_kept: false }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens a file for reading.
    pub fn read(&self, id: u64) -> Result<fs_err::File, Error> {
        Ok(fs_err::File::open(self.path(id))?)
    }

    /// Runs `find`, which says which files an object has, and keeps those from being removed while they are read.
    pub fn pin<T>(self: &Arc<Self>, find: impl FnOnce() -> Result<(T, Vec<u64>), Error>) -> Result<(T, Pinned), Error> {
        // Whoever removes files has committed that nobody finds them any more, and needs this lock to go on: so what is
        // found under it is still there.
        let mut readers = self.readers();
        let (found, ids) = find()?;
        for id in &ids {
            *readers.reading.entry(*id).or_default() += 1;
        }
        Ok((found, Pinned { files: self.clone(), ids }))
    }

    /// Removes files that the index does not know any more.
    pub fn remove(&self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            let mut readers = self.readers();
            if readers.reading.contains_key(&id) {
                readers.doomed.insert(id);
            } else if crash::point("remove an old file").is_ok() {
                self.unlink(id);
            }
        }
    }

    /// What could not be removed is removed at the next start.
    fn unlink(&self, id: u64) {
        if let Err(error) = fs_err::remove_file(self.path(id)) {
            tracing::warn!(%error, "a file that no object needs is left until the next start");
        }
    }

    /// Whether there are none.
    pub fn are_none(&self) -> Result<bool, Error> {
        Ok(fs_err::read_dir(&self.directory)?.next().is_none())
    }

    /// Removes all files but the known ones; says how many.
    pub fn sweep(&self, known: &HashSet<u64>) -> Result<usize, Error> {
        let mut swept = 0;
        for entry in fs_err::read_dir(&self.directory)? {
            let entry = entry?;
            let file_name = entry.file_name();
            let id = file_name.to_str().and_then(|text| u64::from_str_radix(text, 16).ok());
            if id.is_none_or(|id| !known.contains(&id) || name(id).as_str() != file_name) {
                fs_err::remove_file(entry.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(fs_err::File::open(&self.directory)?.sync_all()?)
    }
}

/// Files that are being read.
#[derive(Debug)]
pub struct Pinned {
    files: Arc<Files>,
    ids: Vec<u64>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut readers = self.files.readers();
        for id in &self.ids {
            let left = readers.reading.get_mut(id).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if left == 0 {
                readers.reading.remove(id);
                if readers.doomed.remove(id) {
                    self.files.unlink(*id);
                }
            }
        }
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct NewFile {
    files: Arc<Files>,
    id: u64,
    file: fs_err::File,
    size: u64,
    is_kept: bool,
}

impl NewFile {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        crash::point("write")?;
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Makes content and name durable.
    pub fn sync(&mut self) -> Result<(), Error> {
        crash::point("sync the file")?;
        self.file.sync_all()?;
        crash::point("sync the directory")?;
        self.files.sync()
    }

    /// The index has it: it stays.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_kept && !crash::died() {
            self.files.unlink(self.id);
        }
    }
}
