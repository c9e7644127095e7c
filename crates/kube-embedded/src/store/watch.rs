//! Telling others what was committed: watches read the remembered changes at their own pace and are only woken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use super::{Error, Object, Store, lock};
use crate::objects::{Change, ChangeKind, GroupResource};

/// One committed change.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub kind: ChangeKind,
    /// The version of the change.
    pub version: u64,
    /// The object after it; of a removal its last state, at the version of the removal.
    pub object: Arc<Object>,
    /// The object before it.
    pub previous: Option<Arc<Object>>,
}

/// Wakes watches. A watch of one resource sleeps while others change.
#[derive(Default)]
pub struct Hub {
    resources: Mutex<HashMap<GroupResource, watch::Sender<u64>>>,
    followers: Mutex<Vec<mpsc::UnboundedSender<Change>>>,
}

impl Hub {
    pub fn subscribe(&self, resource: &GroupResource) -> watch::Receiver<u64> {
        let mut resources = lock(&self.resources);
        resources.entry(resource.clone()).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    pub fn follow_all(&self) -> mpsc::UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.followers).push(sender);
        receiver
    }

    /// Called after the memory has taken the events over.
    pub fn publish(&self, events: &[Event]) {
        {
            let mut followers = lock(&self.followers);
            for event in events.iter().filter(|_| !followers.is_empty()).cloned().collect::<Vec<_>>() {
                let change = Change {
                    kind: event.kind,
                    resource: event.object.key.resource.clone(),
                    object: Arc::clone(&event.object.value),
                };
                followers.retain(|follower| follower.send(change.clone()).is_ok());
            }
        }
        let mut resources = lock(&self.resources);
        for event in events {
            let resource = &event.object.key.resource;
            if let Some(sender) = resources.get(resource)
                && sender.send(event.version).is_err()
            {
                resources.remove(resource);
            }
        }
    }
}

/// The changes of one resource from some version on.
pub struct Subscription {
    store: Arc<Store>,
    resource: GroupResource,
    version: u64,
    wake: watch::Receiver<u64>,
}

impl Subscription {
    pub(super) fn new(store: Arc<Store>, resource: GroupResource, version: u64, wake: watch::Receiver<u64>) -> Self {
        Self { store, resource, version, wake }
    }

    /// The version up to which [`Subscription::next`] has told everything.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What is known and not told yet, possibly nothing. Moves [`Subscription::version`] on.
    ///
    /// # Errors
    /// [`Error::Expired`] if the caller was so slow that changes were forgotten.
    pub fn poll(&mut self) -> Result<Vec<Event>, Error> {
        self.wake.mark_unchanged();
        let (events, version) = self.store.read().events_after(&self.resource, self.version)?;
        self.version = self.version.max(version);
        Ok(events)
    }

    /// Waits for changes, at least one.
    ///
    /// # Errors
    /// [`Error::Expired`] as for [`Subscription::poll`].
    pub async fn next(&mut self) -> Result<Vec<Event>, Error> {
        loop {
            let events = self.poll()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.wake.changed().await.is_err() {
                self.wake = self.store.watches.subscribe(&self.resource);
            }
        }
    }
}
