//! Typed reading of the committed objects.

use std::sync::Arc;

use kube::core::ApiResource;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Context, Error};
use crate::objects::GroupResource;

/// An object's namespace and name.
pub type Name = (String, String);

impl Context {
    /// One object; `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn get<K>(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>, Error>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    {
        self.objects.get(&resource_of::<K>(), namespace, name).map(|object| read(&object)).transpose()
    }

    /// All objects of a kind that `wanted` picks by looking at the plain JSON.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn list<K>(&self, namespace: Option<&str>, wanted: impl Fn(&Value) -> bool) -> Result<Vec<K>, Error>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    {
        let objects = self.objects.list(&resource_of::<K>(), namespace);
        objects.iter().filter(|object| wanted(object)).map(|object| read(object)).collect()
    }

    /// The plain JSON of all objects of a kind.
    pub fn list_plain<K: kube::Resource<DynamicType = ()>>(&self, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.objects.list(&resource_of::<K>(), namespace)
    }
}

/// The resource of a built-in kind.
pub fn resource_of<K: kube::Resource<DynamicType = ()>>() -> GroupResource {
    let resource = ApiResource::erase::<K>(&());
    GroupResource { group: resource.group, resource: resource.plural }
}

/// Whether a change is one of this kind.
pub fn is<K: kube::Resource<DynamicType = ()>>(resource: &GroupResource) -> bool {
    resource.group == K::group(&()) && resource.resource == K::plural(&())
}

/// Namespace (empty for cluster-scoped objects) and name.
pub fn name_of(object: &Value) -> Name {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// Whether the object is being deleted.
pub fn is_terminating(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// The name of the owner that controls the object, if it is of this kind.
pub fn controlled_by<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let references = object["metadata"]["ownerReferences"].as_array()?;
    let controller = references.iter().find(|reference| reference["controller"] == true)?;
    (controller["kind"] == kind).then(|| controller["name"].as_str())?
}

/// The names of the claims that a pod mounts.
pub fn claims_of(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
}

/// An object as its type.
///
/// # Errors
/// [`Error::Unreadable`].
pub fn read<K: DeserializeOwned>(object: &Value) -> Result<K, Error> {
    K::deserialize(object).map_err(|source| {
        let (namespace, name) = name_of(object);
        Error::Unreadable { what: format!("{} {namespace}/{name}", object["kind"]), source }
    })
}
