//! Load balancers: a Service of that type is reached from outside of the cluster at its own cluster IP. Outside of this
//! cluster is the rest of this machine, and an address of loopback is reached from all of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::action::{Action, Target, to_value};
use super::engine::Controller;
use super::view::{Name, is, name_of};
use super::{Context, Error};
use crate::objects::{Change, ChangeKind};

/// The controller.
pub struct LoadBalancers {
    context: Context,
}

impl LoadBalancers {
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Controller for LoadBalancers {
    type Key = Name;
    const NAME: &'static str = "load-balancers";

    fn keys(&self, change: &Change) -> Vec<Name> {
        let is_concerned = is::<Service>(&change.resource)
            && change.kind != ChangeKind::Deleted
            && ingress(&change.object) != &wanted(&change.object);
        if is_concerned { vec![name_of(&change.object)] } else { Vec::new() }
    }

    async fn reconcile(&self, (namespace, name): &Name) -> Result<Option<Duration>, Error> {
        let Some(service) = self.context.get::<Service>(Some(namespace), name)? else { return Ok(None) };
        if let Some(action) = plan(&service)? {
            self.context.apply(action).await?;
        }
        Ok(None)
    }
}

fn plan(service: &Service) -> Result<Option<Action>, Error> {
    let object = to_value(service)?;
    let wanted = wanted(&object);
    if *ingress(&object) == wanted {
        return Ok(None);
    }
    let patch = json!({"status": {"loadBalancer": {"ingress": wanted}}});
    Ok(Some(Action::Merge { target: Target::of(service), subresource: Some("status"), patch }))
}

/// Where a Service is reached from outside, as its status says.
fn ingress(service: &Value) -> &Value {
    &service["status"]["loadBalancer"]["ingress"]
}

/// Where it should be; null: nowhere. One that names another implementation is left to it
/// (`k8s.io/api/core/v1`, `LoadBalancerClass`).
fn wanted(service: &Value) -> Value {
    let spec = &service["spec"];
    if !spec["loadBalancerClass"].is_null() {
        return ingress(service).clone();
    }
    let address = spec["clusterIP"].as_str().filter(|address| !address.is_empty() && *address != "None");
    match address {
        Some(address) if spec["type"] == "LoadBalancer" => json!([{"ip": address, "ipMode": "VIP"}]),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: Value, ingress: Value) -> Service {
        let status = json!({"loadBalancer": {"ingress": ingress}});
        serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec, "status": status}))
            .unwrap()
    }

    fn patch(spec: Value, ingress: Value) -> Option<Value> {
        match plan(&service(spec, ingress)).unwrap()? {
            Action::Merge { patch, .. } => Some(patch["status"]["loadBalancer"]["ingress"].clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_load_balancer_has_the_cluster_ip_and_other_services_have_nothing() {
        let balanced = json!({"type": "LoadBalancer", "clusterIP": "127.64.8.1"});
        let there = json!([{"ip": "127.64.8.1", "ipMode": "VIP"}]);
        assert_eq!(patch(balanced.clone(), json!([])), Some(there.clone()));
        assert_eq!(patch(balanced, there.clone()), None);
        assert_eq!(patch(json!({"type": "ClusterIP", "clusterIP": "127.64.8.1"}), there), Some(Value::Null));
        assert_eq!(patch(json!({"type": "ClusterIP", "clusterIP": "127.64.8.1"}), Value::Null), None);
        let other = json!({"type": "LoadBalancer", "clusterIP": "127.64.8.1", "loadBalancerClass": "example.com/x"});
        assert_eq!(patch(other, Value::Null), None);
    }
}
