//! Who depends on whom, learnt from the changes. Holds only objects that have owners, and owners that wait.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::plan::{FOREGROUND, ORPHAN, has_finalizer};
use super::{references, text, uid_of};
use crate::controllers::view::{is_terminating, name_of};
use crate::objects::{Change, ChangeKind, GroupResource};

/// An object's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub resource: GroupResource,
    namespace: String,
    pub name: String,
}

impl Key {
    fn new(resource: &GroupResource, object: &Value) -> Self {
        let (namespace, name) = name_of(object);
        Self { resource: resource.clone(), namespace, name }
    }

    /// `None` for cluster-scoped objects.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty())
    }
}

/// See the module.
#[derive(Default)]
pub struct Graph {
    dependents: BTreeMap<String, BTreeSet<Key>>,
    owners: BTreeMap<Key, Vec<String>>,
    /// Owners that are deleted in the foreground, by uid: they wait for their dependents.
    waiting: BTreeMap<String, Key>,
    /// The resources of each kind that was seen, by group and kind, and whether they are namespaced. Definitions that
    /// are older than the rule against it may share a kind.
    kinds: BTreeMap<(String, String), BTreeMap<GroupResource, bool>>,
}

impl Graph {
    /// Takes in a change; answers which objects have to be looked at because of it.
    pub fn learn(&mut self, change: &Change) -> Vec<Key> {
        let object = &change.object;
        let key = Key::new(&change.resource, object);
        let kind = (change.resource.group.clone(), text(object, "kind").to_owned());
        self.kinds.entry(kind).or_default().insert(change.resource.clone(), key.namespace().is_some());

        let now: Vec<String> = match change.kind {
            ChangeKind::Deleted => Vec::new(),
            _ => references(object).iter().map(|reference| text(reference, "uid").to_owned()).collect(),
        };
        let before = self.replace_owners(&key, now.clone());
        // Whoever waits for this object may wait no longer.
        let concerned = before.iter().chain(&now).filter_map(|owner| self.waiting.get(owner));
        let mut keys: Vec<Key> = concerned.cloned().collect();

        let uid = uid_of(object);
        if change.kind == ChangeKind::Deleted {
            self.waiting.remove(uid);
            keys.extend(self.dependents_of(uid));
            return keys;
        }
        let held = is_terminating(object) && (has_finalizer(object, FOREGROUND) || has_finalizer(object, ORPHAN));
        if held {
            if has_finalizer(object, FOREGROUND) {
                self.waiting.insert(uid.to_owned(), key.clone());
                keys.extend(self.dependents_of(uid));
            }
            keys.push(key);
        } else if !now.is_empty() {
            keys.push(key);
        }
        keys
    }

    /// The objects that named this owner when they were last seen.
    pub fn dependents_of(&self, uid: &str) -> Vec<Key> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The resources of a kind of which an object was ever seen, and whether they are namespaced.
    pub fn resources_of(&self, api_version: &str, kind: &str) -> BTreeMap<GroupResource, bool> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.kinds.get(&(group.to_owned(), kind.to_owned())).cloned().unwrap_or_default()
    }

    fn replace_owners(&mut self, key: &Key, now: Vec<String>) -> Vec<String> {
        let before = self.owners.remove(key).unwrap_or_default();
        for owner in before.iter().filter(|owner| !now.contains(owner)) {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        for owner in &now {
            self.dependents.entry(owner.clone()).or_default().insert(key.clone());
        }
        if !now.is_empty() {
            self.owners.insert(key.clone(), now);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn change(kind: ChangeKind, name: &str, metadata: Value) -> Change {
        let mut object =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "ns", "name": name, "uid": name}});
        for (field, value) in metadata.as_object().unwrap() {
            object["metadata"][field] = value.clone();
        }
        Change { kind, resource: GroupResource::new("", "pods"), object: Arc::new(object) }
    }

    fn owned_by(owners: &[&str]) -> Value {
        let references: Vec<_> =
            owners.iter().map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "uid": uid})).collect();
        json!({"ownerReferences": references})
    }

    fn names(keys: Vec<Key>) -> Vec<String> {
        keys.into_iter().map(|key| key.name).collect()
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let mut graph = Graph::default();
        assert!(graph.learn(&change(ChangeKind::Added, "owner", json!({}))).is_empty());
        assert_eq!(names(graph.learn(&change(ChangeKind::Added, "a", owned_by(&["owner"])))), ["a"]);
        assert_eq!(names(graph.learn(&change(ChangeKind::Added, "b", owned_by(&["owner", "other"])))), ["b"]);
        graph.learn(&change(ChangeKind::Modified, "b", owned_by(&["other"])));
        assert_eq!(names(graph.learn(&change(ChangeKind::Deleted, "owner", json!({})))), ["a"]);
        graph.learn(&change(ChangeKind::Deleted, "a", owned_by(&["owner"])));
        assert!(graph.dependents_of("owner").is_empty());
    }

    #[test]
    fn every_resource_of_a_kind_is_known() {
        let mut graph = Graph::default();
        graph.learn(&change(ChangeKind::Added, "a", json!({})));
        let other = GroupResource::new("", "others");
        graph.learn(&Change { resource: other.clone(), ..change(ChangeKind::Added, "b", json!({})) });
        let known = graph.resources_of("v1", "Pod");
        assert_eq!(known, BTreeMap::from([(other, true), (GroupResource::new("", "pods"), true)]));
        assert!(graph.resources_of("example.com/v1", "Pod").is_empty());
    }

    #[test]
    fn an_owner_that_waits_is_looked_at_when_a_dependent_changes() {
        let mut graph = Graph::default();
        graph.learn(&change(ChangeKind::Added, "a", owned_by(&["owner"])));
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FOREGROUND]});
        assert_eq!(names(graph.learn(&change(ChangeKind::Modified, "owner", going))), ["a", "owner"]);
        assert_eq!(names(graph.learn(&change(ChangeKind::Modified, "a", json!({})))), ["owner"]);
        graph.learn(&change(ChangeKind::Added, "a", owned_by(&["owner"])));
        assert_eq!(names(graph.learn(&change(ChangeKind::Deleted, "a", owned_by(&["owner"])))), ["owner"]);
    }
}
