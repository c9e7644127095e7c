//! The `EndpointSlice`s of a Service (discovery.k8s.io/v1).
//!
//! A slice's name follows from its Service and its number, so that one that was made before a crash is found again.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::SERVICE_NAME;
use super::backends::{Backend, Port, is_headless};
use crate::api::names::LETTERS;
use crate::controllers::Error;
use crate::controllers::action::{Action, Target};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// `--max-endpoints-per-slice` of kube-controller-manager.
const LARGEST: usize = 100;

/// Creates, replaces and deletes slices where they differ. Slices that others made for the Service stay.
pub fn plan(service: &Service, backends: &[Backend], present: &[EndpointSlice]) -> Result<Vec<Action>, Error> {
    let wanted = slices(service, backends);
    let mut actions = Vec::new();
    for slice in &wanted {
        match present.iter().find(|present| present.metadata.name == slice.metadata.name) {
            None => actions.push(Action::create(slice)?),
            Some(present) if same(present, slice) => {}
            Some(present) => {
                let metadata = ObjectMeta { labels: slice.metadata.labels.clone(), ..present.metadata.clone() };
                actions.push(Action::replace(&EndpointSlice { metadata, ..slice.clone() }, None)?);
            }
        }
    }
    let is_wanted = |slice: &EndpointSlice| wanted.iter().any(|one| one.metadata.name == slice.metadata.name);
    let is_ours = |slice: &EndpointSlice| slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    let surplus = present.iter().filter(|slice| is_ours(slice) && !is_wanted(slice));
    actions.extend(surplus.map(|slice| Action::delete(Target::of(slice))));
    Ok(actions)
}

fn same(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    a.endpoints == b.endpoints
        && a.ports.as_deref().unwrap_or_default() == b.ports.as_deref().unwrap_or_default()
        && a.metadata.labels == b.metadata.labels
}

fn slices(service: &Service, backends: &[Backend]) -> Vec<EndpointSlice> {
    let groups: BTreeSet<&Vec<Port>> = backends.iter().map(|backend| &backend.ports).collect();
    let mut slices = Vec::new();
    for ports in groups {
        let members: Vec<&Backend> = backends.iter().filter(|backend| backend.ports == *ports).collect();
        for chunk in members.chunks(LARGEST) {
            slices.push(slice(service, ports, slices.len(), chunk));
        }
    }
    if slices.is_empty() {
        // A Service without pods has one slice that says so.
        slices.push(slice(service, &[], 0, &[]));
    }
    slices
}

fn slice(service: &Service, ports: &[Port], number: usize, members: &[&Backend]) -> EndpointSlice {
    let name = service.name_any();
    let mut labels: BTreeMap<String, String> = service.labels().clone();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            namespace: service.namespace(),
            name: Some(format!("{name}-{}", suffix(&service.uid().unwrap_or_default(), number))),
            generate_name: Some(format!("{name}-")),
            labels: Some(labels),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name,
                uid: service.uid().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: members.iter().map(|backend| endpoint(backend)).collect(),
        ports: Some(ports.iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
    }
}

fn endpoint(backend: &Backend) -> Endpoint {
    Endpoint {
        addresses: vec![backend.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.is_ready()),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.pod.clone()),
        ..Endpoint::default()
    }
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        // An unnamed port has the empty name here, not none.
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

/// Five letters, as a generated name has, that are the same for the same slice (FNV-1a, 64 bits).
fn suffix(uid: &str, number: usize) -> String {
    let text = format!("{uid} {number}");
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    let mut letters = String::new();
    for _ in 0..5 {
        let index = usize::try_from(hash % LETTERS.len() as u64).unwrap_or(0);
        letters.push(char::from(LETTERS[index]));
        hash /= LETTERS.len() as u64;
    }
    letters
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::backends::of_service;
    use super::super::backends::tests::{pod, service};
    use super::*;

    fn created(actions: &[Action]) -> Vec<EndpointSlice> {
        let object = |action: &Action| match action {
            Action::Create { object, .. } => serde_json::from_value(object.clone()).unwrap(),
            other => panic!("{other:?}"),
        };
        actions.iter().map(object).collect()
    }

    #[test]
    fn a_service_without_pods_has_an_empty_slice() {
        let slices = created(&plan(&service(json!({"ports": [{"port": 1}]})), &[], &[]).unwrap());
        assert_eq!(slices.len(), 1);
        assert!(slices[0].endpoints.is_empty());
        assert_eq!(slices[0].labels()[SERVICE_NAME], "db");
        assert_eq!(slices[0].owner_references()[0].uid, "s1");
    }

    #[test]
    fn slices_follow_the_pods() {
        let service = service(json!({"ports": [{"port": 5432}]}));
        let backends = of_service(&service, &[pod("db-0", "127.64.0.1", true)]);
        let present = created(&plan(&service, &backends, &[]).unwrap());
        assert!(plan(&service, &backends, &present).unwrap().is_empty());
        let more = of_service(&service, &[pod("db-0", "127.64.0.1", true), pod("db-1", "127.64.0.2", false)]);
        let actions = plan(&service, &more, &present).unwrap();
        let [Action::Replace { object, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(
            object["endpoints"][1]["conditions"],
            json!({"ready": false, "serving": false, "terminating": false})
        );
        let none = plan(&service, &[], &present).unwrap();
        assert!(matches!(&none[..], [Action::Replace { .. }]), "{none:?}");
    }

    #[test]
    fn a_slice_of_somebody_else_stays() {
        let service = service(json!({"ports": [{"port": 5432}]}));
        let mut foreign = created(&plan(&service, &[], &[]).unwrap());
        foreign[0].metadata.name = Some("db-mine".to_owned());
        foreign[0].labels_mut().remove(MANAGED_BY);
        assert!(matches!(&plan(&service, &[], &foreign).unwrap()[..], [Action::Create { .. }]));
    }

    #[test]
    fn many_pods_are_several_slices() {
        let service = service(json!({"ports": [{"port": 5432}]}));
        let pods: Vec<_> = (0..150).map(|n| pod(&format!("db-{n}"), &format!("127.64.1.{n}"), true)).collect();
        let slices = created(&plan(&service, &of_service(&service, &pods), &[]).unwrap());
        assert_eq!(slices.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>(), [100, 50]);
        assert_ne!(slices[0].name_any(), slices[1].name_any());
        let fewer = plan(&service, &[], &slices).unwrap();
        assert!(matches!(&fewer[..], [Action::Replace { .. }, Action::Delete { .. }]), "{fewer:?}");
    }
}
