//! The manifest of a service binding, as the Go tool renders it.

use std::path::{Path, PathBuf};

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::json;

use super::instance::{self, ApiVersion, file};
use super::names::{Namespace, ObjectName};
use crate::yaml;

/// API group of service bindings.
pub const GROUP: &str = "servicebindings.anynines.com";

/// What a service binding should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its name.
    pub name: ObjectName,
    /// Its namespace, which is its Secret's.
    pub namespace: Namespace,
    /// Version of its API, and of the instance's.
    pub api_version: ApiVersion,
    /// The instance.
    pub instance: ObjectName,
    /// Namespace of the instance.
    pub instance_namespace: Namespace,
}

/// How to reach service bindings of an API version.
pub fn resource(api_version: &ApiVersion) -> ApiResource {
    let gvk = GroupVersionKind::gvk(GROUP, &api_version.0, "ServiceBinding");
    ApiResource::from_gvk_with_plural(&gvk, "servicebindings")
}

/// Name of the Secret of a service binding.
pub fn secret(binding: &ObjectName) -> String {
    format!("{binding}-service-binding")
}

impl Binding {
    /// The object.
    pub fn object(&self) -> DynamicObject {
        let mut object =
            DynamicObject::new(self.name.as_str(), &resource(&self.api_version)).within(self.namespace.as_str());
        object.data = json!({"spec": {"instance": {
            "apiVersion": format!("{}/{}", instance::GROUP, self.api_version.0),
            "kind": "Postgresql",
            "name": self.instance,
            "namespace": self.instance_namespace,
        }}});
        object
    }

    /// The document: sorted keys, an indentation of two, a trailing newline.
    ///
    /// # Errors
    /// None that can happen with valid names.
    pub fn document(&self) -> Result<String, yaml::Error> {
        yaml::write(&self.object())
    }

    /// The file below `usermanifests`.
    pub fn file(&self, user_manifests: &Path) -> PathBuf {
        file(user_manifests, "service-binding", &self.namespace, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_one_of_the_go_tool() {
        let binding = Binding {
            name: "clustered-sb".parse().unwrap(),
            namespace: "a8s-workload".parse().unwrap(),
            api_version: "v1beta3".parse().unwrap(),
            instance: "clustered".parse().unwrap(),
            instance_namespace: "a8s-workload".parse().unwrap(),
        };
        let expected = "apiVersion: servicebindings.anynines.com/v1beta3\nkind: ServiceBinding\nmetadata:\n  name: \
                        clustered-sb\n  namespace: a8s-workload\nspec:\n  instance:\n    apiVersion: \
                        postgresql.anynines.com/v1beta3\n    kind: Postgresql\n    name: clustered\n    namespace: \
                        a8s-workload\n";
        assert_eq!(binding.document().unwrap(), expected);
        let file = binding.file(Path::new("/w"));
        assert_eq!(file, Path::new("/w/a8s-workload/a8s-pg-service-binding-clustered-sb.yaml"));
    }
}
