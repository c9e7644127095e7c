//! The latest changes in order. The newest are kept as they are, since every watch is about to read them; older ones
//! as bytes only, which take a tenth of the memory, and are read again when somebody lags behind.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::watch::Event;
use super::{Error, Key, Object};
use crate::objects::{ChangeKind, GroupResource};

/// How many changes are remembered.
const EVENTS: usize = 4096;
/// How many bytes of serialized objects they may hold.
const BYTES: usize = 6 << 20;
/// How many of them are kept ready to use.
const READY: usize = 64;

/// See the module.
pub struct History {
    events: VecDeque<Entry>,
    bytes: usize,
    /// What was before this version was never here.
    begin: u64,
    /// The newest change of each resource that is no longer here.
    forgotten: HashMap<GroupResource, u64>,
}

enum Entry {
    Ready(Event),
    Packed { kind: ChangeKind, version: u64, key: Key, object: Bytes, previous: Option<(u64, Bytes)> },
}

impl History {
    /// A history that begins after `version`.
    pub fn new(version: u64) -> Self {
        Self { events: VecDeque::new(), bytes: 0, begin: version, forgotten: HashMap::new() }
    }

    /// Whether everything that happened to a resource after `version` is still known. What happened to others does not
    /// count: a watch of one that never changes does not grow old.
    pub fn check_age(&self, resource: &GroupResource, version: u64) -> Result<(), Error> {
        let oldest = self.forgotten.get(resource).copied().unwrap_or(self.begin);
        if version < oldest { Err(Error::Expired { asked: version, oldest }) } else { Ok(()) }
    }

    /// The changes of a resource after `version`, oldest first.
    pub fn after(&self, resource: &GroupResource, version: u64) -> Result<Vec<Event>, Error> {
        self.check_age(resource, version)?;
        let start = self.events.partition_point(|entry| entry.version() <= version);
        let chosen = self.events.range(start..).filter(|entry| entry.key().resource == *resource);
        Ok(chosen.map(Entry::unpack).collect())
    }

    pub fn push(&mut self, event: Event) {
        let entry = Entry::Ready(event);
        self.bytes += entry.weight();
        self.events.push_back(entry);
        if let Some(index) = self.events.len().checked_sub(READY + 1)
            && let Some(entry) = self.events.get_mut(index)
        {
            entry.pack();
        }
        while self.events.len() > EVENTS || (self.bytes > BYTES && self.events.len() > 1) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.weight();
                self.forgotten.insert(oldest.key().resource.clone(), oldest.version());
            }
        }
    }
}

impl Entry {
    fn version(&self) -> u64 {
        match self {
            Self::Ready(event) => event.version,
            Self::Packed { version, .. } => *version,
        }
    }

    fn key(&self) -> &Key {
        match self {
            Self::Ready(event) => &event.object.key,
            Self::Packed { key, .. } => key,
        }
    }

    /// What it keeps alive that the current objects do not: mostly the state before it.
    fn weight(&self) -> usize {
        const OVERHEAD: usize = 256;
        OVERHEAD
            + match self {
                Self::Ready(event) => event.previous.as_ref().map_or(0, |previous| previous.bytes.len()),
                Self::Packed { previous, .. } => previous.as_ref().map_or(0, |(_, bytes)| bytes.len()),
            }
    }

    fn pack(&mut self) {
        let Self::Ready(event) = self else { return };
        *self = Self::Packed {
            kind: event.kind,
            version: event.version,
            key: event.object.key.clone(),
            object: event.object.bytes.clone(),
            previous: event.previous.as_ref().map(|previous| (previous.version, previous.bytes.clone())),
        };
    }

    fn unpack(&self) -> Event {
        match self {
            Self::Ready(event) => event.clone(),
            Self::Packed { kind, version, key, object, previous } => Event {
                kind: *kind,
                version: *version,
                object: unpack(key, *version, object),
                previous: previous.as_ref().map(|(version, bytes)| unpack(key, *version, bytes)),
            },
        }
    }
}

fn unpack(key: &Key, version: u64, bytes: &Bytes) -> Arc<Object> {
    // The store wrote these bytes itself.
    let value = serde_json::from_slice(bytes).unwrap_or_default();
    Arc::new(Object { key: key.clone(), version, bytes: bytes.clone(), value: Arc::new(value) })
}
