//! The end of a CustomResourceDefinition: its objects go first, and with the last of them the definition and the
//! resource. What fails on the way, or is cut off, is tried again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::ApiServer;
use super::call::Call;
use super::handlers::may_go;
use super::metadata;
use super::registry::Resource;
use super::schema::definition;
use crate::objects::GroupResource;
use crate::status::Status;
use crate::store::{Key, Object};

/// How long after a failure it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Goes on with what a crash has interrupted, and with what fails later, as long as there is a server.
pub(super) async fn resume(server: Weak<ApiServer>, mut failures: watch::Receiver<()>) {
    loop {
        let Some(server) = server.upgrade() else { return };
        let done = server.resume_retirements().await;
        drop(server);
        if !done {
            tokio::time::sleep(PAUSE).await;
        } else if failures.changed().await.is_err() {
            return;
        }
    }
}

impl ApiServer {
    /// What has to follow a committed change before it is answered.
    pub(super) async fn after_change(&self, call: &Call, object: &Object) {
        let going = if object.key.resource == definitions() {
            self.load_registry();
            retired(&object.value)
        } else {
            Some(&call.resource).filter(|resource| self.is_going(resource)).cloned()
        };
        let Some(resource) = going else { return };
        if let Err(error) = self.retire(&resource).await {
            tell(&resource, &error);
            self.retirements.send_replace(());
        }
    }

    /// Whether the definition of a resource is being deleted, or has been since the call began: what has come meanwhile
    /// must not stay.
    fn is_going(&self, resource: &Resource) -> bool {
        let definition = || self.store.fetch_by(&definitions(), "", &definition_of(resource));
        resource.is_custom() && definition().is_none_or(|definition| metadata::is_deleting(&definition.value))
    }

    /// Deletes every object of a resource whose definition goes, and then the definition.
    async fn retire(&self, resource: &Resource) -> Result<(), Status> {
        let (_, objects) = self.store.snapshot(&resource.group_resource(), None);
        for object in objects {
            // What waits for its finalizers waits on.
            if !metadata::is_deleting(&object.value) || may_go(&object.value) {
                self.delete_with_definition(resource, object).await?;
            }
        }
        self.finish(resource).await
    }

    /// Lets the definition go if it has no objects any more.
    async fn finish(&self, resource: &Resource) -> Result<(), Status> {
        let key = Key::new(definitions(), "", definition_of(resource));
        loop {
            if !self.store.snapshot(&resource.group_resource(), None).1.is_empty() {
                return Ok(());
            }
            let Some(definition) = self.store.fetch(&key).filter(|definition| metadata::is_deleting(&definition.value))
            else {
                return Ok(());
            };
            let mut left = Value::clone(&definition.value);
            let finalizers: Vec<Value> = metadata::finalizers(&left)
                .into_iter()
                .filter(|finalizer| *finalizer != definition::FINALIZER)
                .map(Value::from)
                .collect();
            if finalizers.len() == metadata::finalizers(&left).len() {
                return Ok(());
            }
            metadata::set(&mut left, "finalizers", (!finalizers.is_empty()).then(|| finalizers.into()));
            match self.put(&definition, left).await {
                Err(crate::store::Error::Conflict) => {}
                Err(crate::store::Error::NotFound) => return Ok(()),
                Err(error) => return Err(Status::internal(error)),
                Ok(_) => {
                    self.load_registry();
                    return Ok(());
                }
            }
        }
    }

    /// Answers whether everything could be deleted that is to go.
    async fn resume_retirements(&self) -> bool {
        let mut done = true;
        for definition in self.store.snapshot(&definitions(), None).1 {
            let Some(resource) = retired(&definition.value) else { continue };
            if let Err(error) = self.retire(&resource).await {
                tell(&resource, &error);
                done = false;
            }
        }
        done
    }
}

fn tell(resource: &Resource, error: &Status) {
    tracing::warn!(%error, definition = definition_of(resource), "cannot delete the objects of a definition");
}

/// The resource of a definition that is being deleted.
fn retired(definition: &Arc<Value>) -> Option<Arc<Resource>> {
    if metadata::is_deleting(definition) { definition::stored(definition).map(Arc::new) } else { None }
}

/// The name of the definition of a resource.
fn definition_of(resource: &Resource) -> String {
    format!("{}.{}", resource.plural, resource.group)
}

/// Where definitions are stored.
pub(super) fn definitions() -> GroupResource {
    GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::rig;
    use crate::store::Store;

    /// A definition that was marked, and nothing of it done, with an object; no version of it is served.
    async fn interrupted(store: &Store, plural: &str) {
        let name = format!("{plural}.example.com");
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": name, "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [definition::FINALIZER],
            },
            "spec": {
                "group": "example.com", "scope": "Cluster", "names": {"kind": "Thing", "plural": plural},
                "versions": [{"name": "v1", "served": false, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
            },
        });
        store.create(Key::new(definitions(), "", name), definition).await.unwrap();
        let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}});
        store.create(Key::new(GroupResource::new("example.com", plural), "", "a"), thing).await.unwrap();
    }

    async fn until_gone(store: &Store, plural: &str) {
        let is_there = |resource: &GroupResource| !store.snapshot(resource, None).1.is_empty();
        for _ in 0..1000 {
            if !is_there(&definitions()) {
                assert!(!is_there(&GroupResource::new("example.com", plural)));
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{plural} stay");
    }

    #[tokio::test]
    async fn what_was_interrupted_is_finished_at_the_start_and_when_a_failure_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        interrupted(&store, "things").await;
        let server = rig::server(&store);
        until_gone(&store, "things").await;
        interrupted(&store, "others").await;
        server.retirements.send_replace(());
        until_gone(&store, "others").await;
    }
}
