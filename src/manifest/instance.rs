//! The manifest of an instance, as the Go tool renders it, and the file it is written to.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::json;

use super::names::{Namespace, ObjectName};
use crate::yaml;

/// API group of instances.
pub const GROUP: &str = "postgresql.anynines.com";

/// What an instance should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: ObjectName,
    /// Its namespace.
    pub namespace: Namespace,
    /// Version of its API, such as `v1beta3`.
    pub api_version: ApiVersion,
    /// Number of members.
    pub replicas: u16,
    /// Size of each member's volume.
    pub volume_size: Size,
    /// PostgreSQL major version.
    pub version: u16,
    /// CPU that each member requests.
    pub requests_cpu: Size,
    /// Memory that each member may use.
    pub limits_memory: Size,
}

/// How to reach instances of an API version.
pub fn resource(api_version: &ApiVersion) -> ApiResource {
    let gvk = GroupVersionKind::gvk(GROUP, &api_version.0, "Postgresql");
    ApiResource::from_gvk_with_plural(&gvk, "postgresqls")
}

impl Instance {
    /// The object.
    pub fn object(&self) -> DynamicObject {
        let mut object =
            DynamicObject::new(self.name.as_str(), &resource(&self.api_version)).within(self.namespace.as_str());
        object.data = json!({"spec": {
            "replicas": self.replicas,
            "resources": {"limits": {"memory": self.limits_memory.0}, "requests": {"cpu": self.requests_cpu.0}},
            "version": self.version,
            "volumeSize": self.volume_size.0,
        }});
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
        file(user_manifests, "instance", &self.namespace, &self.name)
    }
}

/// The file of a manifest. In the namespace `default` it is the one of the Go tool, `a8s-pg-<type>-<name>.yaml`. In any
/// other, the namespace is a directory: no name of an object can be mistaken for one, so nothing is overwritten.
pub fn file(user_manifests: &Path, kind: &str, namespace: &Namespace, name: &ObjectName) -> PathBuf {
    let file = format!("a8s-pg-{kind}-{name}.yaml");
    match namespace.as_str() {
        "default" => user_manifests.join(file),
        other => user_manifests.join(other).join(file),
    }
}

/// The version part of an API version: `v1`, `v1beta3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersion(pub String);

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

/// A quantity as Kubernetes writes it, such as `1Gi` or `100m`; kept as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size(pub String);

impl Size {
    /// The quantity.
    pub fn quantity(&self) -> Quantity {
        Quantity(self.0.clone())
    }
}

impl FromStr for Size {
    type Err = String;

    /// k8s.io/apimachinery `pkg/api/resource/quantity.go`: a decimal number and a suffix. Sizes are positive.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let positive = number.parse::<f64>().is_ok_and(|number| number > 0.0) && !number.ends_with('.');
        let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| exponent.parse::<i8>().is_ok());
        const SUFFIXES: [&str; 16] =
            ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        if positive && (exponent || SUFFIXES.contains(&suffix)) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a quantity is expected, such as 1Gi, 100Mi or 100m".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn instance(name: &str, namespace: &str) -> Instance {
        Instance {
            name: name.parse().unwrap(),
            namespace: namespace.parse().unwrap(),
            api_version: "v1beta3".parse().unwrap(),
            replicas: 3,
            volume_size: "1Gi".parse().unwrap(),
            version: 14,
            requests_cpu: "100m".parse().unwrap(),
            limits_memory: "100Mi".parse().unwrap(),
        }
    }

    #[test]
    fn the_document_is_the_one_of_the_go_tool() {
        let expected = "apiVersion: postgresql.anynines.com/v1beta3\nkind: Postgresql\nmetadata:\n  name: clustered\n  \
                        namespace: a8s-workload\nspec:\n  replicas: 3\n  resources:\n    limits:\n      memory: 100Mi\n    \
                        requests:\n      cpu: 100m\n  version: 14\n  volumeSize: 1Gi\n";
        assert_eq!(instance("clustered", "a8s-workload").document().unwrap(), expected);
    }

    #[test]
    fn two_namespaces_never_share_a_file() {
        let base = Path::new("/w/usermanifests");
        let file = |namespace: &str, name: &str| instance(name, namespace).file(base);
        assert_eq!(file("default", "x"), base.join("a8s-pg-instance-x.yaml"));
        assert_eq!(file("other", "x"), base.join("other/a8s-pg-instance-x.yaml"));
        assert_ne!(file("a", "b-x"), file("a-b", "x"));
    }

    #[rstest]
    #[case("1Gi", true)]
    #[case("0.5Gi", true)]
    #[case("100m", true)]
    #[case("2000M", true)]
    #[case("1e3", true)]
    #[case("2", true)]
    #[case("0", false)]
    #[case("-1Gi", false)]
    #[case("1 Gi", false)]
    #[case("1GB", false)]
    #[case("", false)]
    #[case("Gi", false)]
    #[case("1.", false)]
    fn sizes_are_quantities(#[case] text: &str, #[case] good: bool) {
        assert_eq!(text.parse::<Size>().is_ok(), good);
    }
}
