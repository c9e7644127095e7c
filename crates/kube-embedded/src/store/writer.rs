//! The one thread that writes. It takes every request that is waiting, checks each against the state that those before
//! it leave, commits them together, publishes them, and only then answers.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::memory::Memory;
use super::watch::{Event, Hub};
use super::{Error, Key, Object};
use crate::depth;
use crate::objects::ChangeKind;

/// How many requests one transaction takes at most: bounds how long the first of them waits.
const BATCH: usize = 256;
/// The most bytes of an object, as etcd's `--max-request-bytes`.
const LARGEST: usize = 3 << 19;

/// A change that is asked for.
pub enum Operation {
    Create { key: Key, value: Value },
    Update { key: Key, value: Value, expected: u64 },
    Delete { key: Key, expected: u64 },
}

/// A change, and who waits for it.
pub struct Request {
    pub operation: Operation,
    pub reply: oneshot::Sender<Result<Arc<Object>, Error>>,
}

type Reply = oneshot::Sender<Result<Arc<Object>, Error>>;

/// See the module.
pub struct Writer {
    disk: Disk,
    memory: Arc<RwLock<Memory>>,
    watches: Arc<Hub>,
    version: u64,
}

impl Writer {
    pub fn new(disk: Disk, memory: Arc<RwLock<Memory>>, watches: Arc<Hub>) -> Self {
        let version = memory.read().unwrap_or_else(std::sync::PoisonError::into_inner).version();
        Self { disk, memory, watches, version }
    }

    /// Works until nobody can ask any more.
    pub fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = requests.try_recv()
            {
                batch.push(next);
            }
            self.commit(batch);
        }
        if let Err(failure) = self.recover() {
            tracing::error!(%failure, "the store was closed after a transaction that has failed");
        }
    }

    /// After a transaction that has failed, the disk has to be what the memory is before the next.
    fn recover(&mut self) -> Result<(), redb::Error> {
        if self.disk.is_sound() {
            return Ok(());
        }
        let objects = self.memory.read().unwrap_or_else(std::sync::PoisonError::into_inner).all();
        self.disk.recover(&objects, self.version)
    }

    fn commit(&mut self, batch: Vec<Request>) {
        let mut events = Vec::with_capacity(batch.len());
        let mut replies: Vec<(Reply, Arc<Object>)> = Vec::with_capacity(batch.len());
        let mut pending = HashMap::new();
        let mut version = self.version;
        for Request { operation, reply } in batch {
            match self.prepare(operation, version + 1, &pending) {
                Ok(event) => {
                    version += 1;
                    let left = (event.kind != ChangeKind::Deleted).then(|| Arc::clone(&event.object));
                    pending.insert(event.object.key.clone(), left);
                    replies.push((reply, Arc::clone(&event.object)));
                    events.push(event);
                }
                // Whoever no longer waits does not need the answer.
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        if events.is_empty() {
            return;
        }
        match self.recover().and_then(|()| self.disk.commit(&events, version)) {
            Ok(()) => {
                self.version = version;
                {
                    let mut memory = self.memory.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                    events.iter().for_each(|event| memory.commit(event.clone()));
                }
                self.watches.publish(&events);
                replies.into_iter().for_each(|(reply, object)| drop(reply.send(Ok(object))));
            }
            Err(failure) => {
                tracing::error!(%failure, "a transaction of the store failed");
                replies.into_iter().for_each(|(reply, _)| drop(reply.send(Err(self.disk.write_error(&failure)))));
            }
        }
    }

    /// Checks an operation against the state its predecessors leave, and makes the event it will be.
    fn prepare(
        &self,
        operation: Operation,
        version: u64,
        pending: &HashMap<Key, Option<Arc<Object>>>,
    ) -> Result<Event, Error> {
        let current = |key: &Key| match pending.get(key) {
            Some(pending) => pending.clone(),
            None => {
                let memory = self.memory.read().unwrap_or_else(std::sync::PoisonError::into_inner);
                memory.get(&key.resource, &key.namespace, &key.name)
            }
        };
        match operation {
            Operation::Create { key, value } => match current(&key) {
                Some(_) => Err(Error::AlreadyExists),
                None => {
                    let object = lasting(key, value, version)?;
                    Ok(Event { kind: ChangeKind::Added, version, object, previous: None })
                }
            },
            Operation::Update { key, value, expected } => {
                let previous = expect(current(&key), expected)?;
                let object = lasting(key, value, version)?;
                Ok(Event { kind: ChangeKind::Modified, version, object, previous: Some(previous) })
            }
            Operation::Delete { key, expected } => {
                let previous = expect(current(&key), expected)?;
                let object = object(key, Value::clone(&previous.value), version);
                Ok(Event { kind: ChangeKind::Deleted, version, object, previous: Some(previous) })
            }
        }
    }
}

fn expect(current: Option<Arc<Object>>, expected: u64) -> Result<Arc<Object>, Error> {
    let current = current.ok_or(Error::NotFound)?;
    if current.version == expected { Ok(current) } else { Err(Error::Conflict) }
}

/// An object that stays: one that can be read again, of a bearable size.
fn lasting(key: Key, value: Value, version: u64) -> Result<Arc<Object>, Error> {
    if depth::exceeds(&value, depth::MOST) {
        return Err(Error::TooDeep);
    }
    let object = object(key, value, version);
    if object.bytes.len() > LARGEST { Err(Error::TooLarge) } else { Ok(object) }
}

/// The object at its new version, serialized once for the disk, for readers and for watches.
fn object(key: Key, mut value: Value, version: u64) -> Arc<Object> {
    value["metadata"]["resourceVersion"] = Value::String(version.to_string());
    let bytes = Bytes::from(serde_json::to_vec(&value).expect("a JSON value can be written as JSON"));
    Arc::new(Object { key, version, bytes, value: Arc::new(value) })
}
