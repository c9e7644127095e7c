//! The garbage collector: objects whose owners are gone go too (Kubernetes documentation, "Owners and Dependents" and
//! "Garbage Collection").
//!
//! [`graph`] remembers who depends on whom; [`plan`] decides. That an owner is absent is known of every kind that was
//! seen, even if nothing serves it any more: the objects are all that were committed. Of any other kind the API server is
//! asked. What is deleted is deleted only in the version that was looked at.

mod graph;
mod plan;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::core::ApiResource;
use serde_json::Value;

use self::graph::{Graph, Key};
use self::plan::{Observed, Owner, OwnerState};
use super::action::{Action, Target};
use super::engine::Controller;
use super::events::Note;
use super::{Context, Error};
use crate::objects::Change;

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
        let misplaced = || {
            let what = format!("ownerRef [{api_version}/{kind}, namespace: , name: {name}, uid: {uid}]");
            self.warn(object, &format!("{what} does not exist in namespace \"\""));
            Ok(OwnerState::Unresolvable)
        };
        let known = self.graph().resources_of(api_version, kind);
        if !known.is_empty() {
            let is_in_reach = |namespaced: bool| !namespaced || key.namespace().is_some();
            let mut found = known.iter().filter(|(_, namespaced)| is_in_reach(**namespaced)).filter_map(
                |(resource, namespaced)| {
                    self.context.objects.get(resource, key.namespace().filter(|_| *namespaced), name)
                },
            );
            return match found.find(|owner| uid_of(owner) == uid) {
                Some(owner) => Ok(plan::state_of(&owner)),
                None if known.values().all(|namespaced| is_in_reach(*namespaced)) => Ok(OwnerState::Absent),
                None => misplaced(),
            };
        }
        let Some((resource, namespaced)) = self.discover(api_version, kind).await? else {
            return Ok(OwnerState::Unresolvable);
        };
        if namespaced && key.namespace().is_none() {
            return misplaced();
        }
        let api = self.context.api(&resource, key.namespace().filter(|_| namespaced));
        let live = api.get_opt(name).await.map_err(|source| Error::Request {
            verb: "get",
            kind: kind.to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        let Some(live) = live.filter(|live| live.metadata.uid.as_deref() == Some(uid)) else {
            return Ok(OwnerState::Absent);
        };
        let live = super::action::to_value(&live)?;
        Ok(plan::state_of(&live))
    }

    /// The resource of a kind, and whether it is namespaced; `None` if the API server doesn't serve it.
    async fn discover(&self, api_version: &str, kind: &str) -> Result<Option<(ApiResource, bool)>, Error> {
        let client = &self.context.client;
        let list = match api_version.split_once('/') {
            Some(_) => client.list_api_group_resources(api_version).await,
            None => client.list_core_api_resources(api_version).await,
        };
        let list = match list {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(source) => {
                let name = api_version.to_owned();
                return Err(Error::Request { verb: "discover", kind: kind.to_owned(), name, source: Box::new(source) });
            }
        };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let found = list.resources.into_iter().find(|one| one.kind == kind && !one.name.contains('/'));
        Ok(found.map(|one| {
            let resource = ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                plural: one.name,
            };
            (resource, one.namespaced)
        }))
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
