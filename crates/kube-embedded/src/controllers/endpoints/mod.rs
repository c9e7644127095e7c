//! Endpoints and EndpointSlices of Services: which pods a Service selects, at which addresses and ports, and whether they
//! are ready.

mod backends;
mod legacy;
mod slices;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;

use super::action::{Action, Target};
use super::engine::Controller;
use super::view::{Name, is, is_terminating, name_of};
use super::{Context, Error};
use crate::objects::{Change, ChangeKind};

/// The label on Endpoints that tells who made them (`k8s.io/api/core/v1`, `EndpointsController`).
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The controller.
pub struct ServiceEndpoints {
    context: Context,
}

impl ServiceEndpoints {
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// The Services that select the pod, and those that did.
    fn services_of(&self, pod: &Value) -> Vec<Name> {
        let (namespace, pod_name) = name_of(pod);
        let endpoints = self.context.list_plain::<Endpoints>(Some(&namespace));
        let listed = |service: &str| {
            let of_service = endpoints.iter().find(|endpoints| endpoints["metadata"]["name"] == service);
            of_service.is_some_and(|endpoints| mentions(endpoints, &pod_name))
        };
        let services = self.context.list_plain::<Service>(Some(&namespace));
        let concerned = services
            .iter()
            .filter(|service| has_selector(service) && (selects(service, pod) || listed(&name_of(service).1)));
        concerned.map(|service| name_of(service)).collect()
    }

    fn remove_leftover(&self, key: &Name) -> Result<Vec<Action>, Error> {
        // Slices are the Service's dependents, which the garbage collector sees to.
        let endpoints = self.context.get::<Endpoints>(Some(&key.0), &key.1)?;
        let ours = |endpoints: &Endpoints| {
            endpoints.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(MANAGED_BY))
        };
        Ok(endpoints.iter().filter(|endpoints| ours(endpoints)).map(|one| Action::delete(Target::of(one))).collect())
    }
}

impl Controller for ServiceEndpoints {
    type Key = Name;
    const NAME: &'static str = "endpoints";

    fn keys(&self, change: &Change) -> Vec<Name> {
        let object = &change.object;
        if is::<Service>(&change.resource) || is::<Endpoints>(&change.resource) {
            return vec![name_of(object)];
        }
        if is::<Pod>(&change.resource) {
            return self.services_of(object);
        }
        if is::<EndpointSlice>(&change.resource) && change.kind != ChangeKind::Added {
            let service = object["metadata"]["labels"][SERVICE_NAME].as_str();
            return service.map(|service| (name_of(object).0, service.to_owned())).into_iter().collect();
        }
        Vec::new()
    }

    async fn reconcile(&self, key: &Name) -> Result<Option<Duration>, Error> {
        let (namespace, name) = key;
        let Some(service) = self.context.get::<Service>(Some(namespace), name)? else {
            let actions = self.remove_leftover(key)?;
            return self.context.apply_all(actions).await.map(|()| None);
        };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let external = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
        if selector.is_empty() || external {
            return Ok(None);
        }
        let selected = |pod: &Value| {
            selector.iter().all(|(key, value)| pod["metadata"]["labels"].get(key).is_some_and(|have| have == value))
        };
        let pods = self.context.list::<Pod>(Some(namespace), selected)?;
        let backends = backends::of_service(&service, &pods);
        let endpoints = self.context.get::<Endpoints>(Some(namespace), name)?;
        let of_service = |slice: &Value| slice["metadata"]["labels"][SERVICE_NAME] == *name && !is_terminating(slice);
        let slices = self.context.list::<EndpointSlice>(Some(namespace), of_service)?;

        let mut actions: Vec<Action> = legacy::plan(&service, &backends, endpoints.as_ref())?.into_iter().collect();
        actions.extend(slices::plan(&service, &backends, &slices)?);
        self.context.apply_all(actions).await.map(|()| None)
    }
}

fn has_selector(service: &Value) -> bool {
    service["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty())
}

fn selects(service: &Value, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let selector = service["spec"]["selector"].as_object();
    !sabotage::sabotaged!("services-lead-nowhere")
        && selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

fn mentions(endpoints: &Value, pod: &str) -> bool {
    let subsets = endpoints["subsets"].as_array().map_or(&[][..], Vec::as_slice);
    let addresses = subsets.iter().flat_map(|subset| [&subset["addresses"], &subset["notReadyAddresses"]]);
    addresses.filter_map(Value::as_array).flatten().any(|address| address["targetRef"]["name"] == pod)
}
