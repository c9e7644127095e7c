//! The kind `ServiceBinding`: a login for an application, with its Secret.

use crate::resource::custom_resource;
use serde::{Deserialize, Serialize};

custom_resource!(
    /// A login to an instance.
    ServiceBinding, ServiceBindingSpec, ServiceBindingStatus,
    group "servicebindings.anynines.com", plural "servicebindings"
);

/// Which instance the login is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceBindingSpec {
    /// The instance.
    pub instance: BoundInstance,
}

/// An instance, possibly in another namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BoundInstance {
    /// `<group>/<version>`.
    pub api_version: String,
    /// Kind of the instance.
    pub kind: String,
    /// Name of the instance.
    pub name: String,
    /// Namespace of the instance; the binding's own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// What became of a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceBindingStatus {
    /// Why there is no login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the login exists with its rights. The Secret must not be used before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implemented: Option<bool>,
    /// Where the credentials are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretReference>,
}

/// A Secret by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretReference {
    /// Its name.
    pub name: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
