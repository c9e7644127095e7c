//! What a controller does, as data: plans are lists of these, and only [`Context::apply`] turns them into requests.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Context, Error};
use crate::events::Note;

/// Which object, and in which life and version of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its kind.
    pub resource: ApiResource,
    /// `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Only if this is still its uid.
    pub uid: Option<String>,
    /// Only if it was not changed since.
    pub resource_version: Option<String>,
}

impl Target {
    /// The object as observed: in this life, in any version.
    pub fn of<K: kube::Resource<DynamicType = ()>>(object: &K) -> Self {
        Self {
            resource: ApiResource::erase::<K>(&()),
            namespace: object.namespace(),
            name: object.name_any(),
            uid: object.uid(),
            resource_version: None,
        }
    }

    /// Only in the version that was observed.
    pub fn unchanged(mut self, object: &impl ResourceExt) -> Self {
        self.resource_version = object.resource_version();
        self
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create an object.
    Create {
        /// Its kind.
        resource: ApiResource,
        /// All of it.
        object: Value,
    },
    /// Replace an object or its `status`; it carries the resource version that was observed.
    Replace {
        /// Its kind.
        resource: ApiResource,
        /// All of it.
        object: Value,
        /// `status` or `finalize`.
        subresource: Option<&'static str>,
    },
    /// Change parts of an object.
    Merge {
        /// Which.
        target: Target,
        /// `status`.
        subresource: Option<&'static str>,
        /// A JSON merge patch (RFC 7386).
        patch: Value,
    },
    /// Delete an object. That it is gone, or another of its name is there, is no error.
    Delete {
        /// Which.
        target: Target,
        /// What happens to its dependents; `None`: as its finalizers say.
        propagation: Option<PropagationPolicy>,
    },
    /// Assign a pod to a node.
    Bind {
        /// The pod.
        pod: Target,
        /// The node.
        node: String,
    },
    /// Tell people.
    Tell(Note),
}

impl Action {
    /// Creates a typed object.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where it can't be written as JSON.
    pub fn create<K: kube::Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<Self, Error> {
        Ok(Self::Create { resource: ApiResource::erase::<K>(&()), object: to_value(object)? })
    }

    /// Replaces a typed object, or its subresource.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn replace<K: kube::Resource<DynamicType = ()> + Serialize>(
        object: &K,
        subresource: Option<&'static str>,
    ) -> Result<Self, Error> {
        Ok(Self::Replace { resource: ApiResource::erase::<K>(&()), object: to_value(object)?, subresource })
    }

    /// Changes parts of an object.
    pub fn merge(target: Target, patch: Value) -> Self {
        Self::Merge { target, subresource: None, patch }
    }

    /// Deletes an object and lets its dependents follow.
    pub fn delete(target: Target) -> Self {
        Self::Delete { target, propagation: Some(PropagationPolicy::Background) }
    }
}

/// A typed object as JSON.
///
/// # Errors
/// [`Error::Unreadable`].
pub fn to_value<K: Serialize>(object: &K) -> Result<Value, Error> {
    serde_json::to_value(object)
        .map_err(|source| Error::Unreadable { what: std::any::type_name::<K>().to_owned(), source })
}

impl Context {
    /// Does one thing.
    ///
    /// # Errors
    /// What the API server answered, with what was tried.
    pub async fn apply(&self, action: Action) -> Result<(), Error> {
        let post = PostParams { field_manager: Some(self.manager.to_owned()), ..PostParams::default() };
        match action {
            Action::Create { resource, object } => {
                let object = dynamic(object)?;
                let (namespace, name) = (object.namespace(), object.name_any());
                let api = self.api(&resource, namespace.as_deref());
                let answer = api.create(&post, &object).await;
                answer.map(drop).map_err(|source| failed("create", &resource, &name, source))
            }
            Action::Replace { resource, object, subresource } => {
                let object = dynamic(object)?;
                let (namespace, name) = (object.namespace(), object.name_any());
                let api = self.api(&resource, namespace.as_deref());
                let answer = match subresource {
                    None => api.replace(&name, &post, &object).await,
                    Some(subresource) => api.replace_subresource(subresource, &name, &post, &object).await,
                };
                answer.map(drop).map_err(|source| failed("update", &resource, &name, source))
            }
            Action::Merge { target, subresource, patch } => self.merge(target, subresource, patch).await,
            Action::Delete { target, propagation } => self.delete(target, propagation).await,
            Action::Bind { pod, node } => {
                let api = self.api(&pod.resource, pod.namespace.as_deref());
                let binding = json!({
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node},
                });
                let answer: Result<Value, _> = api.create_subresource("binding", &pod.name, &post, &binding).await;
                answer.map(drop).map_err(|source| failed("bind", &pod.resource, &pod.name, source))
            }
            Action::Tell(note) => {
                self.events.tell(note);
                Ok(())
            }
        }
    }

    /// Does one thing after the other, as long as all goes well.
    ///
    /// # Errors
    /// The first.
    pub async fn apply_all(&self, actions: Vec<Action>) -> Result<(), Error> {
        for action in actions {
            self.apply(action).await?;
        }
        Ok(())
    }

    async fn merge(&self, target: Target, subresource: Option<&str>, mut patch: Value) -> Result<(), Error> {
        // The API server refuses a patch whose metadata does not fit to the object: another life or version of it.
        if let Some(uid) = &target.uid {
            patch["metadata"]["uid"] = json!(uid);
        }
        if let Some(version) = &target.resource_version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        let api = self.api(&target.resource, target.namespace.as_deref());
        let parameters = PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&patch);
        let answer = match subresource {
            None => api.patch(&target.name, &parameters, &patch).await,
            Some(subresource) => api.patch_subresource(subresource, &target.name, &parameters, &patch).await,
        };
        answer.map(drop).map_err(|source| failed("patch", &target.resource, &target.name, source))
    }

    async fn delete(&self, target: Target, propagation: Option<PropagationPolicy>) -> Result<(), Error> {
        let preconditions = Preconditions { uid: target.uid, resource_version: target.resource_version.clone() };
        let parameters = DeleteParams {
            propagation_policy: propagation,
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let api = self.api(&target.resource, target.namespace.as_deref());
        match api.delete(&target.name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            // Another life of the name. With a version given it may also be a change, which has to be looked at.
            Err(kube::Error::Api(status)) if status.code == 409 && target.resource_version.is_none() => Ok(()),
            Err(source) => Err(failed("delete", &target.resource, &target.name, source)),
        }
    }

    /// The objects of a kind.
    pub fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }
}

/// What an event or an owner reference says of a typed object.
pub fn reference<K: kube::Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference { resource_version: object.resource_version(), ..object.object_ref(&()) }
}

fn dynamic(object: Value) -> Result<DynamicObject, Error> {
    serde_json::from_value(object).map_err(|source| Error::Unreadable { what: "an object".to_owned(), source })
}

fn failed(verb: &'static str, resource: &ApiResource, name: &str, source: kube::Error) -> Error {
    Error::Request { verb, kind: resource.kind.clone(), name: name.to_owned(), source: Box::new(source) }
}
