//! The file under the store: one redb database with the objects as JSON, and the version of the newest change.
//!
//! After a commit that has failed the file may say more than it should, and after a sync that has failed less than it
//! seems to: the system has dropped what it could not write, and reads it from its cache as if it had been written. So
//! [`Disk::recover`] makes the file again what the memory is, or writes another one in its place.
//!
//! Beside it stands `store.format` with the number of the data format. It is written after the database was made, so a
//! database that has vanished or was emptied is noticed instead of being made anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde_json::Value;

use super::medium::{self, Medium, Observed};
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
    medium: Box<dyn Medium>,
    database: Option<Database>,
    /// Whether the last commit has succeeded.
    sound: bool,
    /// Whether the file can't be relied on: a sync of it has failed, or another was to take its place and may not have
    /// for good.
    unsynced: Arc<AtomicBool>,
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
        let medium = medium::File(path.clone());
        let loaded = Self::on(medium, path)?;
        // A crash may have left it. By now the database is locked, and nobody else writes it.
        loaded.0.medium.discard();
        if !known {
            write_format(dir)?;
        }
        Ok(loaded)
    }

    /// On any medium, without its format.
    pub fn on(medium: impl Medium + 'static, path: PathBuf) -> Result<Loaded, Error> {
        let unsynced = Arc::default();
        let database = medium.open().and_then(|storage| database(storage, &unsynced));
        let database = Some(database.map_err(|error| open_error(&path, error))?);
        let disk = Self { path, medium: Box::new(medium), database, sound: true, unsynced };
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
        let version = version(database).map_err(read)?;
        if version < newest {
            return Err(Error::Corrupt { path: self.path.clone(), what: "objects from the future".to_owned() });
        }
        Ok((objects, version))
    }

    /// Writes the events and waits until they are durable. After an error nothing of them is stored, once
    /// [`Disk::recover`] has succeeded; until then nothing more can be.
    pub fn commit(&mut self, events: &[Event], version: u64) -> Result<(), redb::Error> {
        self.sound = false;
        let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let kept = events.iter().filter(|_| !sabotage::sabotaged!("writes-are-not-kept"));
        write(database, kept.map(|event| (&*event.object, event.kind)), version)?;
        self.sound = true;
        Ok(())
    }

    /// Whether nothing has failed since the database was last known to be what the memory is.
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// Makes the database what the memory is: these objects, at this version.
    pub fn recover(&mut self, objects: &[Arc<Object>], version: u64) -> Result<(), redb::Error> {
        // redb refuses everything after a failed write (a full disk, say) until the file is opened again.
        if self.unsynced.load(Ordering::Relaxed) || !self.is_at(version)? {
            self.rewrite(objects, version)?;
        }
        self.sound = true;
        Ok(())
    }

    /// Whether the database can be opened again and has this version. What can't be opened is written anew, unless
    /// somebody else has it.
    fn is_at(&mut self, version: u64) -> Result<bool, redb::Error> {
        match self.reopen() {
            Ok(found) => Ok(found == version),
            Err(error @ (redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "cannot open the store again");
                Ok(false)
            }
        }
    }

    /// Opens the database again, and answers which version it has.
    fn reopen(&mut self) -> Result<u64, redb::Error> {
        tracing::warn!("opening the store again after a failed write");
        self.database = None;
        let database = database(self.medium.open()?, &self.unsynced)?;
        let version = version(&database)?;
        self.database = Some(database);
        Ok(version)
    }

    /// Writes another database and puts it in the place of this one, which stays locked until then if it could be
    /// opened.
    fn rewrite(&mut self, objects: &[Arc<Object>], version: u64) -> Result<(), redb::Error> {
        tracing::warn!("writing the whole store again after a failed write");
        self.unsynced.store(true, Ordering::Relaxed);
        let unsynced = Arc::default();
        let made = || -> Result<Database, redb::Error> {
            let database = database(self.medium.make()?, &unsynced)?;
            write(&database, objects.iter().map(|object| (&**object, ChangeKind::Added)), version)?;
            self.medium.replace()?;
            Ok(database)
        };
        let made = made().inspect_err(|_| self.medium.discard())?;
        self.database = Some(made);
        self.unsynced = unsynced;
        Ok(())
    }

    /// What a failed commit is to those who waited for it.
    pub fn write_error(&self, failure: &redb::Error) -> Error {
        let source = Box::new(redb::Error::Io(std::io::Error::other(failure.to_string())));
        Error::Disk { doing: "write", path: self.path.clone(), source }
    }
}

fn database(storage: Box<dyn StorageBackend>, unsynced: &Arc<AtomicBool>) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.create_with_backend(Observed::new(storage, unsynced))
}

/// The version of the newest change in a database; 0 if there was none.
fn version(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(NUMBERS) {
        Ok(numbers) => Ok(numbers.get(VERSION)?.map_or(0, |version| version.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn write<'a>(
    database: &Database,
    changes: impl Iterator<Item = (&'a Object, ChangeKind)>,
    version: u64,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut path = String::new();
        for (object, kind) in changes {
            encode(&object.key, &mut path);
            match kind {
                ChangeKind::Deleted => drop(objects.remove(path.as_str())?),
                _ => drop(objects.insert(path.as_str(), object.bytes.as_ref())?),
            }
        }
        transaction.open_table(NUMBERS)?.insert(VERSION, version)?;
    }
    transaction.commit()?;
    Ok(())
}

fn open_error(path: &Path, error: DatabaseError) -> Error {
    use redb::StorageError;
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::AtomicU32;

    use serde_json::json;

    use super::*;

    fn added(name: &str, version: u64) -> Event {
        let key = Key::new(GroupResource::new("", "configmaps"), "default", name);
        let value = json!({"metadata": {"name": name, "resourceVersion": version.to_string()}});
        let object = Object { key, version, bytes: value.to_string().into(), value: Arc::new(value) };
        Event { kind: ChangeKind::Added, version, object: Arc::new(object), previous: None }
    }

    /// A file, and what is to fail about it the next time.
    #[derive(Clone)]
    struct Faulty {
        file: Arc<medium::File>,
        open: Arc<AtomicBool>,
        replace: Arc<AtomicBool>,
        made: Arc<AtomicU32>,
    }

    impl Faulty {
        fn new(dir: &Path) -> Self {
            let file = Arc::new(medium::File(dir.join("store.redb")));
            Self { file, open: Arc::default(), replace: Arc::default(), made: Arc::default() }
        }

        fn fault(what: &AtomicBool) -> io::Result<()> {
            if what.swap(false, Ordering::Relaxed) { Err(io::Error::other("input/output error")) } else { Ok(()) }
        }

        fn disk(&self) -> Disk {
            Disk::on(self.clone(), self.file.0.clone()).unwrap().0
        }
    }

    impl Medium for Faulty {
        fn open(&self) -> Result<Box<dyn StorageBackend>, DatabaseError> {
            Self::fault(&self.open)?;
            self.file.open()
        }

        fn make(&self) -> Result<Box<dyn StorageBackend>, DatabaseError> {
            self.made.fetch_add(1, Ordering::Relaxed);
            self.file.make()
        }

        fn replace(&self) -> io::Result<()> {
            self.file.replace()?;
            Self::fault(&self.replace)
        }

        fn discard(&self) {
            self.file.discard();
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let faulty = Faulty::new(dir.path());
        let mut disk = faulty.disk();
        let first = added("a", 1);
        disk.commit(std::slice::from_ref(&first), 1).unwrap();
        disk.sound = false;
        faulty.open.store(true, Ordering::Relaxed);
        disk.recover(&[first.object], 1).unwrap();
        disk.commit(&[added("b", 2)], 2).unwrap();
        drop(disk);
        let (_, objects, version) = Disk::on(faulty.clone(), faulty.file.0.clone()).unwrap();
        assert_eq!((objects.len(), version, faulty.made.load(Ordering::Relaxed)), (2, 2, 1));
    }

    #[test]
    fn a_file_in_its_place_is_not_relied_on_before_its_name_was_synced() {
        let dir = tempfile::tempdir().unwrap();
        let faulty = Faulty::new(dir.path());
        let mut disk = faulty.disk();
        disk.commit(&[added("a", 1)], 1).unwrap();
        disk.sound = false;
        faulty.replace.store(true, Ordering::Relaxed);
        assert!(disk.recover(&[], 0).is_err() && !disk.is_sound());
        disk.recover(&[], 0).unwrap();
        assert_eq!(faulty.made.load(Ordering::Relaxed), 2);
        // Now it is.
        disk.sound = false;
        disk.recover(&[], 0).unwrap();
        assert_eq!(faulty.made.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_file_that_could_not_be_synced_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("store.redb.new"), "what a crash has left").unwrap();
        let (mut disk, ..) = Disk::open(dir.path()).unwrap();
        let first = added("a", 1);
        disk.commit(std::slice::from_ref(&first), 1).unwrap();
        // A commit whose sync has failed, and which is in the file all the same.
        disk.commit(&[added("b", 2)], 2).unwrap();
        disk.sound = false;
        disk.unsynced.store(true, Ordering::Relaxed);
        disk.recover(&[Arc::clone(&first.object)], 1).unwrap();
        assert!(disk.is_sound() && matches!(Disk::open(dir.path()), Err(Error::InUse(_))));
        disk.commit(&[added("c", 2)], 2).unwrap();
        drop(disk);
        let (_, objects, version) = Disk::open(dir.path()).unwrap();
        let names: Vec<&str> = objects.iter().map(|object| object.key.name.as_str()).collect();
        assert_eq!((names, version), (vec!["a", "c"], 2));
        let mode = fs_err::metadata(dir.path().join("store.redb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!dir.path().join("store.redb.new").exists());
    }

    #[test]
    fn a_commit_that_has_failed_and_is_there_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, ..) = Disk::open(dir.path()).unwrap();
        disk.commit(&[added("a", 1)], 1).unwrap();
        disk.sound = false;
        disk.recover(&[], 0).unwrap();
        disk.commit(&[added("b", 1)], 1).unwrap();
        drop(disk);
        let (_, objects, version) = Disk::open(dir.path()).unwrap();
        assert_eq!((objects.len(), objects[0].key.name.as_str(), version), (1, "b", 1));
    }
}
