//! The garbage collector: objects whose owners are gone go too (Kubernetes documentation, "Owners and Dependents" and
//! "Garbage Collection").
//!
//! [`graph`] remembers who depends on whom; [`plan`] decides. An owner is absent if it is in no resource of its kind, of those
//! that were seen, even if nothing serves them any more, and of those that the API server serves: the objects are all that
//! were committed. What is deleted is deleted only in the version that was looked at.

mod graph;
mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use serde_json::Value;

use self::graph::{Graph, Key};
use self::plan::{Observed, Owner, OwnerState};
use super::action::{Action, Target};
use super::engine::Controller;
use super::{Context, Error};
use crate::events::Note;
use crate::objects::{Change, GroupResource};

const COMPONENT: &str = "garbage-collector-controller";

/// The controller.
pub struct GarbageCollector {
    context: Context,
    graph: Mutex<Graph>,
}

impl GarbageCollector {
    pub fn new(context: Context) -> Self {
        Self { context, graph: Mutex::new(Graph::default()) }
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.context.objects.get(&key.resource, key.namespace(), &key.name)
    }

    fn dependents(&self, owner: &Value) -> Vec<(Target, Arc<Value>)> {
        let uid = uid_of(owner);
        let keys = self.graph().dependents_of(uid);
        let objects = keys.iter().filter_map(|key| {
            let object = self.get(key)?;
            Some((self.context.target(&key.resource, &object)?, object))
        });
        objects.filter(|(_, object)| references(object).iter().any(|reference| reference["uid"] == uid)).collect()
    }

    async fn resolve(&self, key: &Key, object: &Value, reference: &Value) -> Result<OwnerState, Error> {
        let (api_version, kind) = (text(reference, "apiVersion"), text(reference, "kind"));
        let (name, uid) = (text(reference, "name"), text(reference, "uid"));
        let is_in_reach = |namespaced: bool| !namespaced || key.namespace().is_some();
        let find = |resources: &BTreeMap<GroupResource, bool>| {
            let within = resources.iter().filter(|(_, namespaced)| is_in_reach(**namespaced));
            let mut named = within.filter_map(|(resource, namespaced)| {
                self.context.objects.get(resource, key.namespace().filter(|_| *namespaced), name)
            });
            named.find(|owner| uid_of(owner) == uid)
        };
        let mut resources = self.graph().resources_of(api_version, kind);
        if let Some(owner) = find(&resources) {
            return Ok(plan::state_of(&owner));
        }
        // What the graph was not shown yet is looked for, too: that somebody is gone is a reason to delete.
        resources.extend(self.discover(api_version, kind).await?);
        if resources.is_empty() {
            return Ok(OwnerState::Unresolvable);
        }
        match find(&resources) {
            Some(owner) => Ok(plan::state_of(&owner)),
            None if resources.values().all(|namespaced| is_in_reach(*namespaced)) => Ok(OwnerState::Absent),
            None => {
                let what = format!("ownerRef [{api_version}/{kind}, namespace: , name: {name}, uid: {uid}]");
                self.warn(object, &format!("{what} does not exist in namespace \"\""));
                Ok(OwnerState::Unresolvable)
            }
        }
    }

    /// The resources of a kind that the API server serves, and whether they are namespaced.
    async fn discover(&self, api_version: &str, kind: &str) -> Result<BTreeMap<GroupResource, bool>, Error> {
        let client = &self.context.client;
        let (group, list) = match api_version.split_once('/') {
            Some((group, _)) => (group, client.list_api_group_resources(api_version).await),
            None => ("", client.list_core_api_resources(api_version).await),
        };
        let list = match list {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(BTreeMap::new()),
            Err(source) => {
                let name = api_version.to_owned();
                return Err(Error::Request { verb: "discover", kind: kind.to_owned(), name, source: Box::new(source) });
            }
        };
        let is_stored = |one: &APIResource| one.kind == kind && one.verbs.iter().any(|verb| verb == "list");
        let found = list.resources.into_iter().filter(is_stored);
        Ok(found.map(|one| (GroupResource::new(group, &one.name), one.namespaced)).collect())
    }

    fn warn(&self, object: &Value, message: &str) {
        let about = k8s_openapi::api::core::v1::ObjectReference {
            api_version: object["apiVersion"].as_str().map(str::to_owned),
            kind: object["kind"].as_str().map(str::to_owned),
            name: object["metadata"]["name"].as_str().map(str::to_owned),
            namespace: object["metadata"]["namespace"].as_str().map(str::to_owned),
            uid: object["metadata"]["uid"].as_str().map(str::to_owned),
            ..Default::default()
        };
        let note = Note::warning(about, COMPONENT, "OwnerRefInvalidNamespace", message.to_owned());
        self.context.events.tell(note);
    }
}

impl Controller for GarbageCollector {
    type Key = Key;
    const NAME: &'static str = "garbage-collector";

    fn keys(&self, change: &Change) -> Vec<Key> {
        self.graph().learn(change)
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(object) = self.get(key) else {
            return Ok(None);
        };
        let Some(target) = self.context.target(&key.resource, &object) else {
            return Ok(None);
        };
        let mut owners = Vec::new();
        for reference in references(&object) {
            let state = self.resolve(key, &object, reference).await?;
            owners.push(Owner { uid: text(reference, "uid").to_owned(), state });
        }
        let observed = Observed { dependents: self.dependents(&object), target, owners, object };
        let actions: Vec<Action> = plan::plan(&observed);
        self.context.apply_all(actions).await?;
        Ok(None)
    }
}

/// `metadata.ownerReferences`.
fn references(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice)
}

fn uid_of(object: &Value) -> &str {
    text(&object["metadata"], "uid")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
