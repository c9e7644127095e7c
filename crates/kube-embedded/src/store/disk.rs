//! The file under the store: one redb database with the objects as JSON, and the version of the newest change.
//!
//! Beside it stands `store.format` with the number of the data format. It is written after the database was made, so a
//! database that has vanished or was emptied is noticed instead of being made anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use super::watch::Event;
use super::{Error, Key, Object};
use crate::objects::{ChangeKind, GroupResource};

/// Number of the data format. Raise it when older programs would misread the file.
const FORMAT: u32 = 1;
/// redb's own cache: reads come from the store's memory, so it only serves commits.
const CACHE_BYTES: usize = 2 << 20;
const OBJECTS: TableDefinition<&str, &[u8]> = TableDefinition::new("objects");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
const VERSION: &str = "version";

/// See the module.
pub struct Disk {
    path: PathBuf,
    database: Option<Database>,
}

type Loaded = (Disk, Vec<Arc<Object>>, u64);

impl Disk {
    /// Opens or makes the database in `dir` and reads everything in it.
    pub fn open(dir: &Path) -> Result<Loaded, Error> {
        fs_err::create_dir_all(dir).map_err(Error::Directory)?;
        let path = dir.join("store.redb");
        let known = check_format(dir, &path)?;
        let size = match fs_err::metadata(&path) {
            Ok(metadata) => Some(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::Directory(error)),
        };
        if known && size.unwrap_or(0) == 0 {
            return Err(Error::Corrupt { path, what: "the database file is missing or empty".to_owned() });
        }
        keep_private(&path);
        let database = builder().create(&path).map_err(|error| open_error(&path, error))?;
        let disk = Self { path, database: Some(database) };
        let (objects, version) = disk.load()?;
        if !known {
            write_format(dir)?;
        }
        Ok((disk, objects, version))
    }

    /// On another kind of disk, without a file and its format.
    #[cfg(test)]
    pub fn on(backend: impl redb::StorageBackend) -> Result<Loaded, Error> {
        let path = PathBuf::from("of a test");
        let database = builder().create_with_backend(backend).map_err(|error| open_error(&path, error))?;
        let disk = Self { path, database: Some(database) };
        let (objects, version) = disk.load()?;
        Ok((disk, objects, version))
    }

    fn load(&self) -> Result<(Vec<Arc<Object>>, u64), Error> {
        let read = |error: redb::Error| Error::Disk { doing: "read", path: self.path.clone(), source: Box::new(error) };
        let database = self.database.as_ref().ok_or(Error::Closed)?;
        let transaction = database.begin_read().map_err(|error| read(error.into()))?;
        let table = match transaction.open_table(OBJECTS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok((Vec::new(), 0)),
            Err(error) => return Err(read(error.into())),
        };
        let mut objects = Vec::new();
        let mut newest = 0;
        for entry in table.iter().map_err(|error| read(error.into()))? {
            let (key, bytes) = entry.map_err(|error| read(error.into()))?;
            let object = parse(key.value(), bytes.value())
                .ok_or_else(|| Error::Corrupt { path: self.path.clone(), what: format!("object {}", key.value()) })?;
            newest = newest.max(object.version);
            objects.push(Arc::new(object));
        }
        let numbers = transaction.open_table(NUMBERS).map_err(|error| read(error.into()))?;
        let version = numbers.get(VERSION).map_err(|error| read(error.into()))?.map_or(0, |version| version.value());
        if version < newest {
            return Err(Error::Corrupt { path: self.path.clone(), what: "objects from the future".to_owned() });
        }
        Ok((objects, version))
    }

    /// Writes the events and waits until they are durable. After an error nothing of them is stored.
    pub fn commit(&mut self, events: &[Event], version: u64) -> Result<(), redb::Error> {
        let result = self.try_commit(events, version);
        if let Err(error) = &result {
            // redb refuses everything after a failed write (a full disk, say) until the file is opened again.
            tracing::warn!(%error, "opening the store again after a failed write");
            self.database = None;
        }
        result
    }

    fn try_commit(&mut self, events: &[Event], version: u64) -> Result<(), redb::Error> {
        if self.database.is_none() {
            self.database = Some(builder().open(&self.path)?);
        }
        let Some(database) = &self.database else { return Err(redb::Error::DatabaseClosed) };
        let transaction = database.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            let mut path = String::new();
            for event in events {
                encode(&event.object.key, &mut path);
                match event.kind {
                    ChangeKind::Deleted => drop(objects.remove(path.as_str())?),
                    _ => drop(objects.insert(path.as_str(), event.object.bytes.as_ref())?),
                }
            }
            transaction.open_table(NUMBERS)?.insert(VERSION, version)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// What a failed commit is to those who waited for it.
    pub fn write_error(&self, failure: &redb::Error) -> Error {
        let source = Box::new(redb::Error::Io(std::io::Error::other(failure.to_string())));
        Error::Disk { doing: "write", path: self.path.clone(), source }
    }
}

/// Secrets are in it. A file that can't be made here gets its clear word when it is opened.
fn keep_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let made = fs_err::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    if let Ok(file) = made {
        let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_error(path: &Path, error: redb::DatabaseError) -> Error {
    use redb::{DatabaseError, StorageError};
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Error::InUse(path),
        DatabaseError::UpgradeRequired(version) => {
            Error::Format { path, found: format!("redb {version}"), expected: FORMAT }
        }
        DatabaseError::Storage(StorageError::Corrupted(what)) => Error::Corrupt { path, what },
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            Error::Corrupt { path, what: "it is not a database".to_owned() }
        }
        other => Error::Disk { doing: "open", path, source: Box::new(other.into()) },
    }
}

/// Whether this directory has been used in today's format before.
fn check_format(dir: &Path, path: &Path) -> Result<bool, Error> {
    let text = match fs_err::read_to_string(dir.join("store.format")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::Directory(error)),
    };
    let found = text.trim();
    if found.parse() == Ok(FORMAT) {
        return Ok(true);
    }
    let found = if found.is_empty() { "unknown".to_owned() } else { found.chars().take(20).collect() };
    Err(Error::Format { path: path.to_owned(), found, expected: FORMAT })
}

fn write_format(dir: &Path) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let temporary = dir.join("store.format.new");
        fs_err::write(&temporary, format!("{FORMAT}\n"))?;
        fs_err::File::open(&temporary)?.sync_all()?;
        fs_err::rename(&temporary, dir.join("store.format"))?;
        fs_err::File::open(dir)?.sync_all()
    };
    write().map_err(Error::Directory)
}

/// `group/resource/namespace/name`: none of the four can contain a slash.
fn encode(key: &Key, path: &mut String) {
    path.clear();
    for part in [&key.resource.group, &key.resource.resource, &key.namespace] {
        path.push_str(part);
        path.push('/');
    }
    path.push_str(&key.name);
}

fn parse(path: &str, bytes: &[u8]) -> Option<Object> {
    let mut parts = path.splitn(4, '/');
    let resource = GroupResource::new(parts.next()?, parts.next()?);
    let key = Key::new(resource, parts.next()?, parts.next()?);
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let version = value.get("metadata")?.get("resourceVersion")?.as_str()?.parse().ok()?;
    Some(Object { key, version, bytes: Bytes::copy_from_slice(bytes), value: Arc::new(value) })
}
