//! The `Endpoints` object of a Service (core/v1).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::backends::{Backend, Port, is_headless};
use super::{MANAGED_BY, MANAGER};
use crate::controllers::Error;
use crate::controllers::action::Action;

const HEADLESS: &str = "service.kubernetes.io/headless";

/// Creates or replaces the object where it differs.
pub fn plan(service: &Service, backends: &[Backend], present: Option<&Endpoints>) -> Result<Option<Action>, Error> {
    let subsets = Some(subsets(service, backends)).filter(|subsets| !subsets.is_empty());
    let labels = Some(labels(service));
    let Some(present) = present else {
        let metadata = ObjectMeta {
            namespace: service.metadata.namespace.clone(),
            name: service.metadata.name.clone(),
            labels,
            ..ObjectMeta::default()
        };
        return Action::create(&Endpoints { metadata, subsets }).map(Some);
    };
    let same_subsets = present.subsets.as_deref().unwrap_or_default() == subsets.as_deref().unwrap_or_default();
    if same_subsets && present.metadata.labels == labels {
        return Ok(None);
    }
    // Annotations are others'.
    let metadata = ObjectMeta { labels, ..present.metadata.clone() };
    Action::replace(&Endpoints { metadata, subsets }, None).map(Some)
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

/// One subset per different list of ports, as clients expect it: an address has all ports of its subset.
fn subsets(service: &Service, backends: &[Backend]) -> Vec<EndpointSubset> {
    let listed = |backend: &&Backend| !backend.terminating || backend.published;
    // A headless Service may have no ports; then addresses alone are what is asked for.
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let portless = is_headless(service) && ports.is_none_or(Vec::is_empty);
    let with_ports = |backend: &&Backend| portless || !backend.ports.is_empty();
    let all: Vec<&Backend> = backends.iter().filter(listed).filter(with_ports).collect();
    let groups: BTreeSet<&Vec<Port>> = all.iter().map(|backend| &backend.ports).collect();
    let subset = |ports: &Vec<Port>| {
        let addresses = |ready: bool| {
            let of_group = all.iter().filter(|backend| backend.ports == *ports && backend.is_ready() == ready);
            let addresses: Vec<EndpointAddress> = of_group.map(|backend| address(backend)).collect();
            Some(addresses).filter(|addresses| !addresses.is_empty())
        };
        let ports: Vec<EndpointPort> = ports.iter().map(port).collect();
        EndpointSubset {
            addresses: addresses(true),
            not_ready_addresses: addresses(false),
            ports: Some(ports).filter(|ports| !ports.is_empty()),
        }
    };
    groups.into_iter().map(subset).collect()
}

fn address(backend: &Backend) -> EndpointAddress {
    EndpointAddress {
        ip: backend.address.clone(),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.pod.clone()),
    }
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: port.name.clone(),
        port: port.port,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::backends::of_service;
    use super::super::backends::tests::{pod, service};
    use super::*;

    fn planned(service: &Service, pods: &[k8s_openapi::api::core::v1::Pod]) -> serde_json::Value {
        match plan(service, &of_service(service, pods), None).unwrap() {
            Some(Action::Create { object, .. }) => object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ready_and_not_ready_addresses_are_kept_apart() {
        let service = service(json!({"clusterIP": "127.64.8.1", "ports": [{"name": "pg", "port": 5432}]}));
        let object = planned(&service, &[pod("db-1", "127.64.0.2", false), pod("db-0", "127.64.0.1", true)]);
        assert_eq!(object["metadata"]["labels"], json!({"app": "db", MANAGED_BY: MANAGER}));
        let reference =
            |name: &str| json!({"kind": "Pod", "namespace": "ns", "name": name, "uid": format!("uid-{name}")});
        assert_eq!(
            object["subsets"],
            json!([{
                "addresses": [{"ip": "127.64.0.1", "hostname": "db-0", "nodeName": "n", "targetRef": reference("db-0")}],
                "notReadyAddresses":
                    [{"ip": "127.64.0.2", "hostname": "db-1", "nodeName": "n", "targetRef": reference("db-1")}],
                "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}],
            }])
        );
    }

    #[test]
    fn what_is_right_is_not_written_again() {
        let service = service(json!({"ports": [{"port": 5432}]}));
        let backends = of_service(&service, &[pod("db-0", "127.64.0.1", true)]);
        let Some(Action::Create { object, .. }) = plan(&service, &backends, None).unwrap() else { panic!() };
        let mut present: Endpoints = serde_json::from_value(object).unwrap();
        present.metadata.annotations = Some([("leader".to_owned(), "db-0".to_owned())].into());
        assert_eq!(plan(&service, &backends, Some(&present)).unwrap(), None);
        let Some(Action::Replace { object, .. }) = plan(&service, &[], Some(&present)).unwrap() else { panic!() };
        assert!(object["subsets"].is_null());
        assert_eq!(object["metadata"]["annotations"]["leader"], "db-0");
    }

    #[test]
    fn a_headless_service_may_have_no_ports() {
        for spec in [json!({"clusterIP": "None"}), json!({"clusterIP": "None", "ports": []})] {
            let object = planned(&service(spec), &[pod("db-0", "127.64.0.1", true)]);
            assert_eq!(object["subsets"][0]["addresses"][0]["ip"], "127.64.0.1");
            assert!(object["subsets"][0]["ports"].is_null());
            assert_eq!(object["metadata"]["labels"][HEADLESS], "");
        }
    }
}
