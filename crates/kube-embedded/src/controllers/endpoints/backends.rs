//! The pods behind a Service, with their addresses and the ports that the Service's ports mean for each.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::api::names;

/// A port of a Service, resolved for one pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The name in the Service.
    pub name: Option<String>,
    /// The port of the pod.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `appProtocol` of the Service's port.
    pub app_protocol: Option<String>,
}

/// A pod that a Service selects.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    pub address: String,
    pub ports: Vec<Port>,
    pub node: Option<String>,
    pub pod: ObjectReference,
    /// The pod's hostname, if this Service is the one that gives it a name in DNS.
    pub hostname: Option<String>,
    /// The pod's condition `Ready`.
    pub serving: bool,
    pub terminating: bool,
    /// The Service wants pods whatever their state.
    pub published: bool,
}

impl Backend {
    /// Whether connections should be made to it.
    pub fn is_ready(&self) -> bool {
        self.published || (self.serving && !self.terminating)
    }
}

/// The backends, sorted by address. Pods that have ended or have no address yet are none.
pub fn of_service(service: &Service, pods: &[Pod]) -> Vec<Backend> {
    let mut backends: Vec<Backend> = pods.iter().filter_map(|pod| backend(service, pod)).collect();
    backends.sort_by(|a, b| (&a.address, &a.pod.uid).cmp(&(&b.address, &b.pod.uid)));
    backends
}

/// No address of its own: clients are told the pods' addresses.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

fn backend(service: &Service, pod: &Pod) -> Option<Backend> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return None;
    }
    let address = status.pod_ip.clone().filter(|address| !address.is_empty())?;
    let published = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let spec = pod.spec.as_ref();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref());
    let names_it = subdomain.is_some() && subdomain == service.metadata.name.as_deref();
    let wanted = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    Some(Backend {
        address,
        ports: wanted.iter().filter_map(|port| resolve(port, pod)).collect(),
        node: spec.and_then(|spec| spec.node_name.clone()),
        pod: ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        },
        // A pod may be older than the rule that its name is a label, and Endpoints with another are refused.
        hostname: spec
            .and_then(|spec| spec.hostname.clone())
            .filter(|hostname| names_it && names::dns_label(hostname).is_ok()),
        serving: ready,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        published,
    })
}

/// A named target port is looked up among the pod's containers; a pod without it doesn't serve that port.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.as_ref().map_or(&[][..], |spec| spec.containers.as_slice());
            let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
            let named = ports.find(|candidate| {
                candidate.name.as_deref() == Some(name) && candidate.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            named?.container_port
        }
    };
    let (name, app_protocol) = (port.name.clone().filter(|name| !name.is_empty()), port.app_protocol.clone());
    Some(Port { name, port: number, protocol, app_protocol })
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    pub fn service(spec: Value) -> Service {
        let metadata = json!({"namespace": "ns", "name": "db", "uid": "s1", "labels": {"app": "db"}});
        from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    pub fn pod(name: &str, address: &str, ready: bool) -> Pod {
        from_value(json!({
            "metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}")},
            "spec": {"nodeName": "n", "hostname": name, "subdomain": "db", "containers": [
                {"name": "c", "ports": [{"name": "pg", "containerPort": 5432}]}]},
            "status": {"phase": "Running", "podIP": address,
                       "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap()
    }

    #[test]
    fn ports_are_numbers_names_or_the_services_own() {
        let service = service(json!({"ports": [
            {"name": "a", "port": 1}, {"name": "b", "port": 2, "targetPort": 22},
            {"name": "c", "port": 3, "targetPort": "pg"}, {"name": "d", "port": 4, "targetPort": "none"},
            {"name": "e", "port": 5, "targetPort": "pg", "protocol": "UDP"},
        ]}));
        let backends = of_service(&service, &[pod("db-0", "127.64.0.9", true)]);
        let ports: Vec<_> = backends[0].ports.iter().map(|port| (port.name.as_deref().unwrap(), port.port)).collect();
        assert_eq!(ports, [("a", 1), ("b", 22), ("c", 5432)]);
        assert_eq!(backends[0].hostname.as_deref(), Some("db-0"));
        assert_eq!(of_service(&service, &[pod("a\nb", "127.64.0.9", true)])[0].hostname, None);
    }

    #[test]
    fn only_living_pods_with_an_address_are_backends() {
        let mut ended = pod("a", "127.64.0.9", false);
        ended.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
        let mut early = pod("b", "", false);
        early.status.as_mut().unwrap().pod_ip = None;
        assert!(of_service(&service(json!({})), &[ended, early]).is_empty());
    }

    #[test]
    fn readiness_ends_with_the_deletion_unless_published() {
        let mut going = pod("a", "127.64.0.9", true);
        going.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let plain = &of_service(&service(json!({})), std::slice::from_ref(&going))[0];
        assert_eq!((plain.is_ready(), plain.serving, plain.terminating), (false, true, true));
        let published = service(json!({"publishNotReadyAddresses": true}));
        assert!(of_service(&published, &[going])[0].is_ready());
        let unready = &of_service(&published, &[pod("a", "127.64.0.9", false)])[0];
        assert_eq!((unready.is_ready(), unready.serving, unready.terminating), (true, false, false));
    }
}
