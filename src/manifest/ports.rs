//! Protocols of ports. A server before Kubernetes 1.21 takes no server-side apply of a port without one: the protocol is a
//! part of the key by which ports are merged, and its default came to the schema later (kubernetes/kubernetes#98576).

use serde_json::Value;

/// The kinds whose ports have a protocol in their key.
const KINDS: [&str; 7] = ["Service", "Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"];

/// Gives ports that have no protocol the one that they have by default.
pub fn complete(object: &mut Value) {
    if object["kind"].as_str().is_some_and(|kind| KINDS.contains(&kind)) {
        complete_in(&mut object["spec"]);
    }
}

fn complete_in(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let ports = map.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
            for port in ports.filter_map(Value::as_object_mut) {
                if port.contains_key("port") || port.contains_key("containerPort") {
                    port.entry("protocol").or_insert_with(|| "TCP".into());
                }
            }
            map.values_mut().for_each(complete_in);
        }
        Value::Array(items) => items.iter_mut().for_each(complete_in),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ports_without_a_protocol_get_one() {
        let mut service = json!({"kind": "Service", "spec": {"ports": [{"port": 1}, {"port": 2, "protocol": "UDP"}]}});
        complete(&mut service);
        let wanted = json!([{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "UDP"}]);
        assert_eq!(service["spec"]["ports"], wanted);

        let containers = |port: Value| json!({"template": {"spec": {"containers": [{"ports": [port]}]}}});
        let mut deployment = json!({"kind": "Deployment", "spec": containers(json!({"containerPort": 3}))});
        complete(&mut deployment);
        assert_eq!(deployment["spec"], containers(json!({"containerPort": 3, "protocol": "TCP"})));
    }

    #[test]
    fn other_kinds_stay_as_they_are() {
        let ours = json!({"kind": "Postgresql", "spec": {"ports": [{"port": 1}]}});
        let mut object = ours.clone();
        complete(&mut object);
        assert_eq!(object, ours);
    }
}
