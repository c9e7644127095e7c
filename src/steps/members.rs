//! The members of an instance: what selects them and all else that belongs to it, which of them takes writes, and how
//! many there should be.

use a8s_api::{LABEL_GROUP, LABEL_NAME, LABEL_ROLE};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::Kind;

/// Selects what belongs to an instance, exactly: what both stacks put on its objects.
pub fn selector(instance: &ObjectName) -> String {
    format!("{LABEL_GROUP}={},{LABEL_NAME}={instance}", Kind::Instance.group())
}

/// The pods of an instance.
///
/// # Errors
/// The request fails.
pub async fn list(client: &Client, namespace: &Namespace, instance: &ObjectName) -> Result<Vec<Pod>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.as_str());
    Ok(pods.list(&ListParams::default().labels(&selector(instance))).await?.items)
}

/// Whether a pod has the label of the primary, which a dead one keeps until it is back.
pub fn is_primary(pod: &Pod) -> bool {
    pod.labels().get(LABEL_ROLE).is_some_and(|role| role == "master")
}

/// How many members the spec of an instance wants; 1 if it says nothing.
pub fn wanted(spec: &Value) -> i64 {
    spec["replicas"].as_i64().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The released stack is asked with the same words.
    #[test]
    fn what_belongs_to_an_instance_has_its_labels() {
        let selector = selector(&"solo".parse().unwrap());
        assert_eq!(selector, "a8s.a9s/dsi-group=postgresql.anynines.com,a8s.a9s/dsi-name=solo");
    }

    #[test]
    fn an_instance_that_does_not_say_how_many_wants_one() {
        assert_eq!([json!({}), json!({"replicas": 0}), json!({"replicas": 3})].map(|spec| wanted(&spec)), [1, 0, 3]);
    }
}
