//! A custom resource as it should be: its kind, its name, its spec; and the file its manifest is written to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde::Serialize;
use serde_json::{Value, json};

use super::names::{Namespace, ObjectName};
use crate::finding::{Finding, Id};
use crate::yaml;

/// The kinds of custom resources that commands work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An instance.
    Instance,
    /// A backup.
    Backup,
    /// A restore.
    Restore,
    /// A service binding.
    ServiceBinding,
}

impl Kind {
    /// All of them, in the order in which they come into being.
    pub const ALL: [Self; 4] = [Self::Instance, Self::Backup, Self::Restore, Self::ServiceBinding];

    /// API group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Instance => a8s_api::Postgresql::GROUP,
            Self::Backup | Self::Restore => a8s_api::Backup::GROUP,
            Self::ServiceBinding => a8s_api::ServiceBinding::GROUP,
        }
    }

    /// The kind's name in the API.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Instance => a8s_api::Postgresql::KIND,
            Self::Backup => a8s_api::Backup::KIND,
            Self::Restore => a8s_api::Restore::KIND,
            Self::ServiceBinding => a8s_api::ServiceBinding::KIND,
        }
    }

    /// The name of its objects in paths.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Instance => "postgresqls",
            Self::Backup => "backups",
            Self::Restore => "restores",
            Self::ServiceBinding => "servicebindings",
        }
    }

    /// The name of its CustomResourceDefinition.
    pub fn definition(self) -> String {
        format!("{}.{}", self.plural(), self.group())
    }

    /// What a person calls it.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::ServiceBinding => "service binding",
        }
    }

    /// What it is called on the command line, and in documents for programs.
    pub const fn argument(self) -> &'static str {
        match self {
            Self::ServiceBinding => "servicebinding",
            other => other.noun(),
        }
    }

    /// The noun as one word: in file names (the Go tool's) and in identifiers of steps.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ServiceBinding => "service-binding",
            other => other.noun(),
        }
    }

    /// The finding that there is none of a name. It may be in another namespace.
    pub fn missing(self, cause: impl fmt::Display) -> Finding {
        let id = match self {
            Self::Instance => Id::NoInstance,
            Self::Backup => Id::NoBackup,
            Self::Restore => Id::NoRestore,
            Self::ServiceBinding => Id::NoServiceBinding,
        };
        Finding::new(id, cause).advise(format!("a9s list pg {} -A lists those there are.", self.argument()))
    }

    /// How to reach its objects in an API version.
    pub fn resource(self, api_version: &ApiVersion) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group(), &api_version.0, self.kind());
        ApiResource::from_gvk_with_plural(&gvk, self.plural())
    }
}

/// Names one custom resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: ObjectName,
    /// Version of its API, such as `v1beta3`.
    pub api_version: ApiVersion,
}

impl Reference {
    /// A reference in the API version of this program.
    pub fn new(kind: Kind, namespace: &Namespace, name: &ObjectName) -> Self {
        Self { kind, namespace: namespace.clone(), name: name.clone(), api_version: ApiVersion::default() }
    }

    /// The finding that it is not there.
    pub fn missing(&self) -> Finding {
        self.kind.missing(format!("there is no {self} in the namespace {}", self.namespace))
    }
}

/// `backup b`: the namespace is said where it matters.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.noun(), self.name)
    }
}

/// A custom resource as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Which one.
    pub reference: Reference,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its spec.
    pub spec: Value,
}

impl Resource {
    /// A resource without labels and annotations.
    pub fn new(reference: Reference, spec: Value) -> Self {
        Self { reference, labels: BTreeMap::new(), annotations: BTreeMap::new(), spec }
    }

    /// The object.
    pub fn object(&self) -> DynamicObject {
        let Reference { kind, namespace, name, api_version } = &self.reference;
        let mut object = DynamicObject::new(name.as_str(), &kind.resource(api_version)).within(namespace.as_str());
        object.metadata.labels = (!self.labels.is_empty()).then(|| self.labels.clone());
        object.metadata.annotations = (!self.annotations.is_empty()).then(|| self.annotations.clone());
        object.data = json!({"spec": self.spec});
        object
    }

    /// The document: sorted keys, an indentation of two, a trailing newline.
    ///
    /// # Errors
    /// None that can happen with valid names.
    pub fn document(&self) -> Result<String, yaml::Error> {
        yaml::write(&self.object())
    }

    /// The file below `usermanifests`. In the namespace `default` it is the one of the Go tool, `a8s-pg-<type>-<name>.yaml`.
    /// In any other, the namespace is a directory: no name of an object can be mistaken for one, so nothing is overwritten.
    pub fn file(&self, user_manifests: &Path) -> PathBuf {
        let Reference { kind, namespace, name, .. } = &self.reference;
        let file = format!("a8s-pg-{}-{name}.yaml", kind.word());
        match namespace.as_str() {
            "default" => user_manifests.join(file),
            other => user_manifests.join(other).join(file),
        }
    }
}

/// The version part of an API version: `v1`, `v1beta3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersion(pub String);

/// The version this program was written for.
impl Default for ApiVersion {
    fn default() -> Self {
        Self(a8s_api::VERSION.to_owned())
    }
}

impl FromStr for ApiVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = text.len() > 1
            && text.len() <= 20
            && text.starts_with('v')
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err("the version of an API is expected, such as v1beta3".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(kind: Kind, name: &str, namespace: &str) -> Resource {
        let reference = Reference::new(kind, &namespace.parse().unwrap(), &name.parse().unwrap());
        Resource::new(reference, json!({}))
    }

    #[test]
    fn files_are_called_as_the_go_tool_calls_them() {
        let files = Kind::ALL.map(|kind| resource(kind, "x", "default").file(Path::new("/w")));
        let expected = ["instance", "backup", "restore", "service-binding"];
        assert_eq!(files, expected.map(|word| PathBuf::from(format!("/w/a8s-pg-{word}-x.yaml"))));
    }

    #[test]
    fn the_definitions_are_those_of_the_stack() {
        let names: Vec<String> =
            a8s_api::crds().into_iter().filter_map(|definition| definition.metadata.name).collect();
        assert!(Kind::ALL.iter().all(|kind| names.contains(&kind.definition())), "{names:?}");
    }

    #[test]
    fn an_api_version_is_v_and_more() {
        assert_eq!("v1beta2".parse(), Ok(ApiVersion("v1beta2".to_owned())));
        for wrong in ["", "v", "1", "V1", "v1/x", "v12345678901234567890"] {
            assert!(wrong.parse::<ApiVersion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_namespaces_never_share_a_file() {
        let base = Path::new("/w/usermanifests");
        let file = |namespace: &str, name: &str| resource(Kind::Backup, name, namespace).file(base);
        assert_eq!(file("other", "x"), base.join("other/a8s-pg-backup-x.yaml"));
        assert_ne!(file("a", "b-x"), file("a-b", "x"));
    }
}
