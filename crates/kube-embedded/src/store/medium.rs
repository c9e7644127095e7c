//! Where the database is kept, and whether what was written there can be relied on.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

/// What keeps the database, and a new one that is to take its place.
pub trait Medium: Send {
    /// The storage of the database, empty where there was none.
    fn open(&self) -> Result<Box<dyn StorageBackend>, DatabaseError>;
    /// An empty storage beside it.
    fn make(&self) -> Result<Box<dyn StorageBackend>, DatabaseError>;
    /// Puts what was made last in the place of the database, for good.
    fn replace(&self) -> io::Result<()>;
    /// Removes what was made last and did not get there.
    fn discard(&self);
}

/// A file, which secrets are in.
pub struct File(pub PathBuf);

impl File {
    fn beside(&self) -> PathBuf {
        self.0.with_extension("redb.new")
    }
}

impl Medium for File {
    fn open(&self) -> Result<Box<dyn StorageBackend>, DatabaseError> {
        storage(&self.0)
    }

    fn make(&self) -> Result<Box<dyn StorageBackend>, DatabaseError> {
        match fs_err::remove_file(self.beside()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => storage(&self.beside()),
        }
    }

    fn replace(&self) -> io::Result<()> {
        fs_err::rename(self.beside(), &self.0)?;
        fs_err::File::open(self.0.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    fn discard(&self) {
        // Whatever is left is removed before the next one is made.
        let _ = fs_err::remove_file(self.beside());
    }
}

/// Errors do not name the file: whoever tells of them does.
fn storage(path: &Path) -> Result<Box<dyn StorageBackend>, DatabaseError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // It may be of somebody who did not care.
    let _ = file.set_permissions(Permissions::from_mode(0o600));
    Ok(Box::new(FileBackend::new(file)?))
}

/// A storage that remembers whether it could not be synced.
#[derive(Debug)]
pub struct Observed {
    storage: Box<dyn StorageBackend>,
    unsynced: Arc<AtomicBool>,
}

impl Observed {
    /// Sets `unsynced` when a sync fails.
    pub fn new(storage: Box<dyn StorageBackend>, unsynced: &Arc<AtomicBool>) -> Self {
        Self { storage, unsynced: Arc::clone(unsynced) }
    }
}

impl StorageBackend for Observed {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.storage.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.storage.sync_data().inspect_err(|_| self.unsynced.store(true, Ordering::Relaxed))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.storage.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.query_lock_range(start, end)
    }
}
