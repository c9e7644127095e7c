//! The end of a CustomResourceDefinition: its objects go first, in the usual way, and with the last of them the
//! definition and the resource.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::ApiServer;
use super::call::Call;
use super::metadata;
use super::registry::{Resource, Shape};
use super::request::{Query, ResourceRequest};
use super::schema::definition;
use crate::objects::GroupResource;
use crate::status::Status;
use crate::store::{Key, Object};
use crate::user::UserInfo;

impl ApiServer {
    /// What has to follow a committed change before it is answered.
    pub(super) async fn after_change(&self, call: &Call, object: &Object) -> Result<(), Status> {
        if object.key.resource == definitions() {
            self.load_registry();
            if metadata::is_deleting(&object.value) {
                self.retire(object).await?;
            }
        } else if matches!(&call.resource.shape, Shape::Custom(custom) if custom.terminating) {
            self.finish(&call.resource).await?;
        }
        Ok(())
    }

    /// Deletes every object of a definition that is to go.
    async fn retire(&self, definition: &Object) -> Result<(), Status> {
        let Some(resource) = definition::resources(&definition.value).into_iter().next().map(Arc::new) else {
            return Ok(());
        };
        for object in self.store.snapshot(&resource.group_resource(), None).1 {
            let call = internal_call(&resource, &object.key)?;
            match Box::pin(self.delete(&call)).await {
                Err(status) if status.code() != 404 => return Err(status),
                _ => {}
            }
        }
        self.finish(&resource).await
    }

    /// Lets the definition go if it has no objects any more.
    async fn finish(&self, resource: &Resource) -> Result<(), Status> {
        let key = Key::new(definitions(), "", format!("{}.{}", resource.plural, resource.group));
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
            let gone = finalizers.is_empty();
            if finalizers.len() == metadata::finalizers(&left).len() {
                return Ok(());
            }
            metadata::set(&mut left, "finalizers", (!gone).then(|| finalizers.into()));
            let done = if gone {
                self.store.delete(key.clone(), definition.version).await
            } else {
                self.store.update(key.clone(), left, definition.version).await
            };
            match done {
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

    /// Goes on with what a crash has interrupted.
    pub(super) async fn resume_retirements(&self) {
        for definition in self.store.snapshot(&definitions(), None).1 {
            if metadata::is_deleting(&definition.value)
                && let Err(error) = self.retire(&definition).await
            {
                tracing::warn!(%error, definition = definition.key.name, "cannot delete the objects of a definition");
            }
        }
    }
}

fn definitions() -> GroupResource {
    GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions")
}

fn internal_call(resource: &Arc<Resource>, key: &Key) -> Result<Call, Status> {
    let request = ResourceRequest {
        verb: "delete",
        group: resource.group.clone(),
        version: resource.version.clone(),
        resource: resource.plural.clone(),
        subresource: String::new(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        in_namespace: !key.namespace.is_empty(),
    };
    let user = UserInfo::master("system:apiserver");
    Call::new(user, request, Arc::clone(resource), Query::default(), &HeaderMap::new(), Bytes::new())
}
