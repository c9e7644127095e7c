//! The downward API: what a pod may learn about itself (kubernetes/kubernetes `pkg/fieldpath`, `pkg/api/v1/resource`).

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::quantity;

/// Resources a container may use when it sets no limit: the whole machine's.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Processors.
    pub cpus: f64,
    /// Main memory in bytes.
    pub memory: f64,
    /// Disk in bytes.
    pub storage: f64,
}

/// The addresses a pod has here, which its object may not show yet.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The pod's address.
    pub pod_ip: String,
    /// The node's address.
    pub host_ip: String,
}

/// The value of a field of the pod.
///
/// # Errors
/// One sentence for a field that the downward API does not have.
pub fn field(pod: &Pod, place: &Place, path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(unsupported(path)),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" | "status.podIPs" => place.pod_ip.clone(),
        "status.hostIP" | "status.hostIPs" => place.host_ip.clone(),
        _ => return Err(unsupported(path)),
    })
}

fn unsupported(path: &str) -> String {
    format!("unsupported fieldPath: {path}")
}

/// `metadata.labels['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` lines, quoted as Go's `%q` does.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let mut text = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(text, "{key}={}", quoted(value));
    }
    text
}

fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// The value of `resourceFieldRef`; a missing limit is the machine's capacity, a missing request 0.
///
/// # Errors
/// One sentence for a container or resource that does not exist.
pub fn resource(
    pod: &Pod,
    own: &Container,
    selector: &ResourceFieldSelector,
    capacity: &Capacity,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref() {
        None | Some("") => own,
        Some(name) => pod
            .spec
            .iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
            .find(|container| container.name == name)
            .ok_or_else(|| format!("container {name} not found"))?,
    };
    let resources = container.resources.clone().unwrap_or_default();
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let set = match kind {
        "limits" => resources.limits,
        "requests" => resources.requests,
        _ => return Err(unsupported()),
    };
    let set = set.unwrap_or_default().get(name).and_then(|quantity| units(&quantity.0)).filter(|value| *value > 0.0);
    let value = match (set, kind, name) {
        (Some(value), _, _) => value,
        (None, "limits", "cpu") => capacity.cpus,
        (None, "limits", "memory") => capacity.memory,
        (None, "limits", "ephemeral-storage") => capacity.storage,
        (None, "requests", "cpu" | "memory" | "ephemeral-storage") => 0.0,
        _ => return Err(unsupported()),
    };
    divided(value, selector.divisor.as_ref().map(|divisor| divisor.0.as_str())).ok_or_else(unsupported)
}

/// A quantity in its units.
fn units(text: &str) -> Option<f64> {
    quantity::milli(text).map(|milli| milli as f64 / 1000.0)
}

/// `value` in units of `divisor`, rounded up, as the downward API gives it.
fn divided(value: f64, divisor: Option<&str>) -> Option<String> {
    let divisor = match divisor {
        None | Some("" | "0") => 1.0,
        Some(text) => units(text)?,
    };
    if divisor <= 0.0 {
        return None;
    }
    // The cast ends at the largest number of 64 bits, as a Quantity does.
    Some(((value / divisor).ceil() as i64).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a/b": "x\"y\n", "c": "d"}},
            "spec": {"nodeName": "here", "containers": [
                {"name": "one", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}},
                {"name": "two"},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn fields_of_the_pod_are_found() {
        let place = Place { pod_ip: "127.64.0.9".into(), host_ip: "127.64.0.1".into() };
        let get = |path| field(&pod(), &place, path);
        assert_eq!(get("metadata.labels['c']").unwrap(), "d");
        assert_eq!(get("metadata.labels['none']").unwrap(), "");
        assert_eq!(get("metadata.labels").unwrap(), "a/b=\"x\\\"y\\n\"\nc=\"d\"");
        assert_eq!(get("status.podIP").unwrap(), "127.64.0.9");
        assert_eq!(get("spec.nodeName").unwrap(), "here");
        assert_eq!(get("spec.volumes").unwrap_err(), "unsupported fieldPath: spec.volumes");
    }

    #[test]
    fn a_missing_limit_is_the_machines_and_a_missing_request_is_zero() {
        let pod = pod();
        let containers = &pod.spec.as_ref().unwrap().containers;
        let capacity = Capacity { cpus: 2.0, memory: 1e9, storage: 1e10 };
        let get = |container: &Container, name: Option<&str>, resource_name: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                container_name: name.map(Into::into),
                resource: resource_name.into(),
                divisor: divisor.map(|text| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.into())),
            };
            resource(&pod, container, &selector, &capacity)
        };
        assert_eq!(get(&containers[0], None, "limits.memory", Some("1Mi")).unwrap(), "64");
        assert_eq!(get(&containers[1], None, "limits.memory", None).unwrap(), "1000000000");
        assert_eq!(get(&containers[1], Some("one"), "requests.cpu", Some("1m")).unwrap(), "250");
        assert_eq!(get(&containers[0], None, "requests.memory", None).unwrap(), "0");
        assert_eq!(get(&containers[0], Some("no"), "limits.cpu", None).unwrap_err(), "container no not found");
        assert!(get(&containers[0], None, "limits.gpu", None).is_err());
    }

    #[test]
    fn division_rounds_up() {
        assert_eq!(divided(0.5, None).as_deref(), Some("1"));
        assert_eq!(divided(0.5, Some("1m")).as_deref(), Some("500"));
        assert_eq!(divided(134_217_729.0, Some("1Mi")).as_deref(), Some("129"));
        assert_eq!(divided(1.0, Some("-1")), None);
        assert_eq!(divided(1e30, None).as_deref(), Some("9223372036854775807"));
    }
}
