//! The manifest of an instance, as the Go tool renders it.

use std::str::FromStr;

use a8s_operators::instance::STRICT_VERSION;
use serde_json::{Value, json};

use super::names::{Namespace, ObjectName};
use super::resource::{ApiVersion, Kind, Reference, Resource};

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
    /// Whether a newer major, where this one is not there, is refused. Only the builtin stack takes one at all.
    pub strict_version: bool,
    /// CPU that each member requests; `None` leaves it as it is.
    pub requests_cpu: Option<Size>,
    /// Memory that each member may use; `None` leaves it as it is.
    pub limits_memory: Option<Size>,
}

/// CPU that a member requests, where nothing else was said.
pub const REQUESTS_CPU: &str = "100m";
/// Memory that a member may use, where nothing else was said.
pub const LIMITS_MEMORY: &str = "100Mi";

/// The spec of an instance; what is `None` is not in it.
pub fn spec(
    replicas: u16,
    version: u32,
    volume_size: &str,
    requests_cpu: Option<&str>,
    limits_memory: Option<&str>,
) -> Value {
    let mut spec = json!({"replicas": replicas, "version": version, "volumeSize": volume_size});
    if let Some(cpu) = requests_cpu {
        spec["resources"]["requests"]["cpu"] = json!(cpu);
    }
    if let Some(memory) = limits_memory {
        spec["resources"]["limits"]["memory"] = json!(memory);
    }
    spec
}

impl Instance {
    /// The custom resource.
    pub fn resource(&self) -> Resource {
        let reference = Reference {
            kind: Kind::Instance,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            api_version: self.api_version.clone(),
        };
        let [cpu, memory] = [&self.requests_cpu, &self.limits_memory].map(|it| it.as_ref().map(|size| size.0.as_str()));
        let spec = spec(self.replicas, self.version.into(), &self.volume_size.0, cpu, memory);
        let mut resource = Resource::new(reference, spec);
        if self.strict_version {
            resource.annotations.insert(STRICT_VERSION.to_owned(), "true".to_owned());
        }
        resource
    }
}

/// A quantity as Kubernetes writes it, such as `1Gi` or `100m`; kept as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size(pub String);

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
            strict_version: false,
            requests_cpu: "100m".parse().ok(),
            limits_memory: "100Mi".parse().ok(),
        }
    }

    #[test]
    fn the_document_is_the_one_of_the_go_tool() {
        let expected = "apiVersion: postgresql.anynines.com/v1beta3\nkind: Postgresql\nmetadata:\n  name: clustered\n  \
                        namespace: a8s-workload\nspec:\n  replicas: 3\n  resources:\n    limits:\n      memory: 100Mi\n    \
                        requests:\n      cpu: 100m\n  version: 14\n  volumeSize: 1Gi\n";
        assert_eq!(instance("clustered", "a8s-workload").resource().document().unwrap(), expected);
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
