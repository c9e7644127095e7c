//! Services and their endpoints.

use serde_json::{Value, json};

use super::causes::Causes;
use super::rules::set;
use crate::api::names;

/// As `pkg/apis/core/v1/defaults.go` and the allocation of addresses; the address itself comes later.
pub fn default_service(new: &mut Value) {
    let spec = &mut new["spec"];
    if !spec.is_object() {
        *spec = json!({});
    }
    set(spec, "sessionAffinity", "None");
    set(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "ClientIP" && !spec["sessionAffinityConfig"].is_object() {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
    }
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        set(port, "protocol", "TCP");
        let same = port["port"].clone();
        if port["targetPort"].is_null() || port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = same;
        }
    }
    if spec["type"] == "ExternalName" {
        return;
    }
    set(spec, "internalTrafficPolicy", "Cluster");
    set(spec, "ipFamilies", json!(["IPv4"]));
    set(spec, "ipFamilyPolicy", "SingleStack");
    if matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if spec["type"] == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
}

pub fn default_endpoints(new: &mut Value) {
    for subset in new["subsets"].as_array_mut().into_iter().flatten() {
        for port in subset["ports"].as_array_mut().into_iter().flatten() {
            set(port, "protocol", "TCP");
        }
    }
}

pub fn default_slice(new: &mut Value) {
    for port in new["ports"].as_array_mut().into_iter().flatten() {
        set(port, "protocol", "TCP");
        set(port, "name", "");
    }
}

/// Ports, type, and the address that may not change.
pub fn validate_service(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    let spec = &new["spec"];
    let kind = spec["type"].as_str().unwrap_or_default();
    causes.one_of("spec.type", &spec["type"], &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    causes.one_of("spec.sessionAffinity", &spec["sessionAffinity"], &["ClientIP", "None"]);
    super::rules::labels(causes, &spec["selector"], "spec.selector");
    let ports: Vec<&Value> = spec["ports"].as_array().into_iter().flatten().collect();
    let headless = spec["clusterIP"] == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        causes.required("spec.ports", "");
    }
    if kind == "ExternalName" && spec["externalName"].as_str().is_none_or(str::is_empty) {
        causes.required("spec.externalName", "");
    }
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        match port["name"].as_str().unwrap_or_default() {
            "" if ports.len() > 1 => causes.required(&format!("{path}.name"), ""),
            "" => {}
            name => {
                causes.name(&format!("{path}.name"), &port["name"], names::dns_label);
                if ports[..index].iter().any(|other| other["name"] == name) {
                    causes.duplicate(&format!("{path}.name"), &port["name"]);
                }
            }
        }
        causes.port(&format!("{path}.port"), &port["port"]);
        causes.port(&format!("{path}.targetPort"), &port["targetPort"]);
        causes.one_of(&format!("{path}.protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
    }
    let place = |port: &Value| (port["port"].clone(), port["protocol"].clone());
    for (index, port) in ports.iter().enumerate() {
        if ports[..index].iter().any(|other| place(other) == place(port)) {
            // As kube-apiserver shows what has to differ: its own type of a port, with nothing else set.
            let (number, protocol) = place(port);
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{protocol},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\
                 \"NodePort\":0}}"
            );
            causes.duplicate(&format!("spec.ports[{index}]"), shown);
        }
    }
    let Some(old) = old else { return };
    let address = old["spec"]["clusterIP"].as_str().unwrap_or_default();
    let stays = kind != "ExternalName" && old["spec"]["type"] != "ExternalName";
    if stays && !address.is_empty() && spec["clusterIP"] != address {
        causes.invalid("spec.clusterIPs[0]", &json!([spec["clusterIP"]]), "may not change once set");
    }
}

/// The names that addresses get.
pub fn validate_endpoints(causes: &mut Causes, new: &Value) {
    for (index, subset) in new["subsets"].as_array().into_iter().flatten().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (place, address) in subset[list].as_array().into_iter().flatten().enumerate() {
                causes.label(&format!("subsets[{index}].{list}[{place}].hostname"), &address["hostname"]);
            }
        }
    }
}

/// As [`validate_endpoints`].
pub fn validate_slice(causes: &mut Causes, new: &Value) {
    for (index, endpoint) in new["endpoints"].as_array().into_iter().flatten().enumerate() {
        causes.label(&format!("endpoints[{index}].hostname"), &endpoint["hostname"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_a_port_once_for_each_protocol() {
        let ports = json!([
            {"name": "a", "port": 53, "protocol": "TCP"}, {"name": "b", "port": 53, "protocol": "UDP"},
            {"name": "c", "port": 53, "protocol": "TCP"},
        ]);
        let mut service = json!({"spec": {"ports": ports}});
        default_service(&mut service);
        let mut causes = Causes::default();
        validate_service(&mut causes, &service, None);
        let found: Vec<String> = causes.0.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        assert_eq!(
            found,
            ["spec.ports[2]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":53,\
                 \"TargetPort\":0,\"NodePort\":0}"]
        );
    }

    #[test]
    fn names_of_addresses_are_labels() {
        let addresses = |name: &str| json!([{"ip": "127.64.0.1", "hostname": name}, {"ip": "127.64.0.2"}]);
        for (name, expected) in [("db-0", 0), ("", 0), ("a b", 1), ("a\nb", 1), ("a.b", 1)] {
            let mut causes = Causes::default();
            validate_endpoints(&mut causes, &json!({"subsets": [{"addresses": addresses(name)}]}));
            validate_endpoints(&mut causes, &json!({"subsets": [{"notReadyAddresses": addresses(name)}]}));
            validate_slice(&mut causes, &json!({"endpoints": addresses(name)}));
            assert_eq!(causes.0.len(), 3 * expected, "{name:?}");
        }
    }
}
