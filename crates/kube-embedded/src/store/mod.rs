//! The store: every object of the cluster, durable on disk and whole in memory.
//!
//! A write goes to one thread that groups what is waiting into one transaction, so that many clients share one
//! `fsync`; it is answered, and watchers see it, only after that transaction is durable. Reads come from memory and
//! never wait for the disk. The store knows keys, versions and bytes; it does not know Kubernetes' rules.

mod disk;
mod history;
mod medium;
mod memory;
mod watch;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

pub use watch::{Event, Subscription};

use crate::depth;
use crate::objects::{Change, GroupResource, Objects};
use memory::Memory;
use writer::Request;

/// Where an object lives. Cluster-scoped objects have an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Of which resource it is.
    pub resource: GroupResource,
    /// Its namespace, or `""`.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of `name` in `namespace` (`""`: cluster-scoped).
    pub fn new(resource: GroupResource, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { resource, namespace: namespace.into(), name: name.into() }
    }
}

/// A committed state of an object.
#[derive(Debug)]
pub struct Object {
    /// Where it lives.
    pub key: Key,
    /// Its `metadata.resourceVersion`.
    pub version: u64,
    /// The whole object as JSON, as it is sent to clients.
    pub bytes: Bytes,
    /// The whole object.
    pub value: Arc<Value>,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key is taken.
    #[error("the object already exists")]
    AlreadyExists,
    /// Nothing is stored under the key.
    #[error("the object does not exist")]
    NotFound,
    /// The object is no longer at the version the caller has seen.
    #[error("the object has been modified")]
    Conflict,
    /// The object could be written, but not be read again.
    #[error("the object is nested too deeply, {most} levels are the most", most = depth::MOST)]
    TooDeep,
    /// The object is larger than etcd would take it.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// The asked-for version is older than what the store remembers; `oldest` is what it still has.
    #[error("version {asked} is no longer known, the oldest is {oldest}")]
    Expired {
        /// What was asked for.
        asked: u64,
        /// The oldest version whose successors of the resource are all known.
        oldest: u64,
    },
    /// Another process has this store open.
    #[error("the store {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file was written in another data format.
    #[error("the store {} has data format {found}; this program reads and writes {expected}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
        /// What this program knows.
        expected: u32,
    },
    /// The file is damaged. It is left as it is.
    #[error("the store {} is damaged ({what}); it was left as it is", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The disk refused.
    #[error("cannot {doing} the store {}: {source}", path.display())]
    Disk {
        /// `open`, `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Box<redb::Error>,
    },
    /// The directory of the store can't be made or read.
    #[error("cannot prepare the store's directory")]
    Directory(#[source] std::io::Error),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// The objects of one cluster.
pub struct Store {
    memory: Arc<RwLock<Memory>>,
    watches: Arc<watch::Hub>,
    requests: std::sync::Mutex<Option<std::sync::mpsc::Sender<Request>>>,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Store {
    /// Opens the store in `dir` (file `store.redb`), or makes it.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Format`], [`Error::Corrupt`], [`Error::Disk`], [`Error::Directory`]. None of them
    /// changes what is there.
    pub fn open(dir: &Path) -> Result<Arc<Self>, Error> {
        let (disk, objects, version) = disk::Disk::open(dir)?;
        let memory = Arc::new(RwLock::new(Memory::new(objects, version)));
        let watches = Arc::new(watch::Hub::default());
        let (requests, receiver) = std::sync::mpsc::channel();
        let writer = writer::Writer::new(disk, Arc::clone(&memory), Arc::clone(&watches));
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(Error::Directory)?;
        Ok(Arc::new(Self {
            memory,
            watches,
            requests: std::sync::Mutex::new(Some(requests)),
            writer: std::sync::Mutex::new(Some(thread)),
        }))
    }

    /// Ends the writer after what it has accepted, and closes the file. Later writes answer [`Error::Closed`].
    pub fn close(&self) {
        drop(lock(&self.requests).take());
        if let Some(thread) = lock(&self.writer).take() {
            // A panic of the writer was already reported by the panic hook.
            let _ = thread.join();
        }
    }

    /// The version of the newest committed change.
    pub fn version(&self) -> u64 {
        self.read().version()
    }

    /// The committed state of an object.
    pub fn fetch(&self, key: &Key) -> Option<Arc<Object>> {
        self.read().get(&key.resource, &key.namespace, &key.name)
    }

    /// The committed state of an object, without the need for a [`Key`].
    pub fn fetch_by(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.read().get(resource, namespace, name)
    }

    /// All objects of a resource in one namespace (or, with `None`, in all), ordered by namespace and name, and the
    /// version at which this was so.
    pub fn snapshot(&self, resource: &GroupResource, namespace: Option<&str>) -> (u64, Vec<Arc<Object>>) {
        let memory = self.read();
        (memory.version(), memory.list(resource, namespace))
    }

    /// As [`Store::snapshot`], as it was at `version`.
    ///
    /// # Errors
    /// [`Error::Expired`] if the changes since then are no longer all known.
    pub fn snapshot_at(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        version: u64,
    ) -> Result<Vec<Arc<Object>>, Error> {
        self.read().list_at(resource, namespace, version)
    }

    /// Stores a new object. Its `metadata.resourceVersion` is set here.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::TooDeep`], [`Error::TooLarge`], [`Error::Disk`], [`Error::Closed`].
    pub async fn create(&self, key: Key, value: Value) -> Result<Arc<Object>, Error> {
        self.send(writer::Operation::Create { key, value }).await
    }

    /// Replaces an object that is at `expected`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`], [`Error::TooDeep`], [`Error::TooLarge`], [`Error::Disk`],
    /// [`Error::Closed`].
    pub async fn update(&self, key: Key, value: Value, expected: u64) -> Result<Arc<Object>, Error> {
        self.send(writer::Operation::Update { key, value, expected }).await
    }

    /// Removes an object that is at `expected`. Answers its last state, at the version of its removal.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`], [`Error::Disk`], [`Error::Closed`].
    pub async fn delete(&self, key: Key, expected: u64) -> Result<Arc<Object>, Error> {
        self.send(writer::Operation::Delete { key, expected }).await
    }

    /// The changes of a resource after `version`.
    ///
    /// # Errors
    /// [`Error::Expired`] if they are no longer all known.
    pub fn watch(self: &Arc<Self>, resource: &GroupResource, version: u64) -> Result<Subscription, Error> {
        self.read().check_age(resource, version)?;
        Ok(Subscription::new(Arc::clone(self), resource.clone(), version, self.watches.subscribe(resource)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn send(&self, operation: writer::Operation) -> Result<Arc<Object>, Error> {
        let (reply, answer) = oneshot::channel();
        let sent = match lock(&self.requests).as_ref() {
            Some(requests) => requests.send(Request { operation, reply }),
            None => return Err(Error::Closed),
        };
        sent.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Objects for Store {
    fn get(&self, resource: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Value>> {
        self.fetch_by(resource, namespace.unwrap_or_default(), name).map(|object| Arc::clone(&object.value))
    }

    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.read().list(resource, namespace).iter().map(|object| Arc::clone(&object.value)).collect()
    }

    fn all(&self, namespace: Option<&str>) -> Vec<(GroupResource, Arc<Value>)> {
        let memory = self.read();
        memory
            .resources()
            .flat_map(|resource| memory.list(resource, namespace).into_iter().map(|object| (resource.clone(), object)))
            .map(|(resource, object)| (resource, Arc::clone(&object.value)))
            .collect()
    }

    fn subscribe(&self) -> mpsc::UnboundedReceiver<Change> {
        self.watches.follow_all()
    }
}

#[cfg(test)]
mod power_loss;
#[cfg(test)]
mod tests;
