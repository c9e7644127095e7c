//! The objects in memory, with the latest changes: enough to answer reads, watches from a recent version, and lists as
//! they were at a recent version.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::history::History;
use super::watch::Event;
use super::{Error, Object};
use crate::objects::{ChangeKind, GroupResource};

type ByName = BTreeMap<String, Arc<Object>>;

/// See the module.
pub struct Memory {
    objects: BTreeMap<GroupResource, BTreeMap<String, ByName>>,
    version: u64,
    history: History,
}

impl Memory {
    /// The loaded objects; changes are known from `version` on.
    pub fn new(objects: Vec<Arc<Object>>, version: u64) -> Self {
        let mut memory = Self { objects: BTreeMap::new(), version, history: History::new(version) };
        for object in objects {
            memory.insert(object);
        }
        memory
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn resources(&self) -> impl Iterator<Item = &GroupResource> {
        self.objects.keys()
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<Object>> {
        self.objects.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values).cloned().collect()
    }

    pub fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.objects.get(resource)?.get(namespace)?.get(name).cloned()
    }

    pub fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let Some(namespaces) = self.objects.get(resource) else { return Vec::new() };
        match namespace {
            Some(namespace) => namespaces.get(namespace).into_iter().flat_map(BTreeMap::values).cloned().collect(),
            None => namespaces.values().flat_map(BTreeMap::values).cloned().collect(),
        }
    }

    /// The list as it was at `version`: today's, with every later change undone.
    pub fn list_at(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        version: u64,
    ) -> Result<Vec<Arc<Object>>, Error> {
        let later = self.history.after(resource, version)?;
        let mut objects: BTreeMap<(String, String), Arc<Object>> = self
            .list(resource, namespace)
            .into_iter()
            .map(|object| ((object.key.namespace.clone(), object.key.name.clone()), object))
            .collect();
        for event in later.into_iter().rev() {
            let key = &event.object.key;
            if namespace.is_some_and(|namespace| namespace != key.namespace) {
                continue;
            }
            let place = (key.namespace.clone(), key.name.clone());
            match event.previous {
                Some(previous) => objects.insert(place, previous),
                None => objects.remove(&place),
            };
        }
        Ok(objects.into_values().collect())
    }

    /// Whether everything that happened to a resource after `version` is still known.
    pub fn check_age(&self, resource: &GroupResource, version: u64) -> Result<(), Error> {
        self.history.check_age(resource, version)
    }

    /// The changes of a resource after `version`, and the version up to which they are complete.
    pub fn events_after(&self, resource: &GroupResource, version: u64) -> Result<(Vec<Event>, u64), Error> {
        Ok((self.history.after(resource, version)?, self.version))
    }

    /// Takes over a committed change.
    pub fn commit(&mut self, event: Event) {
        self.version = event.version;
        match event.kind {
            ChangeKind::Added | ChangeKind::Modified => self.insert(Arc::clone(&event.object)),
            ChangeKind::Deleted => self.remove(&event.object),
        }
        self.history.push(event);
    }

    fn insert(&mut self, object: Arc<Object>) {
        let namespaces = self.objects.entry(object.key.resource.clone()).or_default();
        namespaces.entry(object.key.namespace.clone()).or_default().insert(object.key.name.clone(), object);
    }

    fn remove(&mut self, object: &Object) {
        let Some(namespaces) = self.objects.get_mut(&object.key.resource) else { return };
        let Some(names) = namespaces.get_mut(&object.key.namespace) else { return };
        names.remove(&object.key.name);
        if names.is_empty() {
            namespaces.remove(&object.key.namespace);
        }
        if namespaces.is_empty() {
            self.objects.remove(&object.key.resource);
        }
    }
}
