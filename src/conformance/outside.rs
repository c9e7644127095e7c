//! What is outside the namespaces of scenarios, where they may have left something.

use std::collections::BTreeSet;

use a8s_operators::{SYSTEM_NAMESPACE, object_store};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta};
use kube::{Api, Client, ResourceExt};

use super::failure::Failure;
use super::observe::KINDS;
use crate::kubernetes::told;

/// Kinds without a namespace that scenarios can make.
const OF_CLUSTER: [(&str, &str, &str, &str); 7] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "PersistentVolume", "persistentvolumes"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses"),
];

/// The namespaces of every cluster that has the stack: those of its users and of Kubernetes, of the stack and of its store.
const SHARED: [&str; 4] = ["default", "kube-system", SYSTEM_NAMESPACE, object_store::manifests::NAMESPACE];

/// What runs pods, besides StatefulSets.
const WORKLOADS: [(&str, &str, &str, &str); 5] = [
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("batch", "v1", "Job", "jobs"),
    ("batch", "v1", "CronJob", "cronjobs"),
];

/// Kinds whose objects nobody leaves behind: an event is gone after its time, and the others are what the cluster knows of a
/// Service, which is looked for.
const COME_AND_GO: [&str; 3] = ["Event", "Endpoints", "EndpointSlice"];

/// How many requests of one look are under way at a time: each has a connection of its own.
pub(super) const AT_ONCE: usize = 16;

/// What [`all`] lists besides the kinds a namespace may hold, as group and resource.
pub(super) fn resources() -> impl Iterator<Item = (&'static str, &'static str)> {
    OF_CLUSTER.into_iter().chain(WORKLOADS).map(|(group, _, _, plural)| (group, plural))
}

/// What is outside the namespaces of scenarios and has a text somewhere: objects of no namespace as `kind name`, and those of
/// the namespaces that everybody shares as `kind namespace/name`. What can't be listed is not among them.
///
/// That something is there again under the same name is no difference, so neither is a Lease that is renewed, nor an object
/// that the stack has put back.
pub(super) async fn all(client: &Client, text: &str) -> BTreeSet<String> {
    let of_cluster = OF_CLUSTER.into_iter().map(|kind| (kind, None));
    let kinds = KINDS.into_iter().map(|(_, group, version, kind, plural)| (group, version, kind, plural));
    let kinds = kinds.filter(|(_, _, kind, _)| !COME_AND_GO.contains(kind)).chain(WORKLOADS);
    let in_shared = kinds.flat_map(|kind| SHARED.map(|namespace| (kind, Some(namespace))));
    let lists = of_cluster.chain(in_shared).map(|(kind, namespace)| with_text(client, kind, namespace, text));
    let lists: Vec<_> = lists.collect();
    stream::iter(lists).buffer_unordered(AT_ONCE).flat_map(stream::iter).collect().await
}

/// What is in namespaces that are gone, of those whose names begin so: the namespace of each object, and the object as
/// [`all`] names it.
///
/// # Errors
/// The API server does not list a kind.
pub(super) async fn in_gone_namespaces(client: &Client, begin: &str) -> Result<Vec<(String, String)>, Failure> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let there = namespaces.list(&ListParams::default()).await?.items;
    let there: BTreeSet<String> = there.iter().map(|namespace| namespace.name_any()).collect();
    let lists = KINDS.map(async |(_, group, version, kind, plural)| {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let found = api.list(&ListParams::default()).await?.items;
        Ok::<_, Failure>(found.into_iter().map(|object| (kind, object.metadata)).collect::<Vec<_>>())
    });
    let found = try_join_all(lists).await?.into_iter().flatten();
    Ok(found.filter_map(|(kind, metadata)| orphan(kind, metadata, begin, &there)).collect())
}

/// The namespace and the name of an object, if that namespace is of the ones that begin so, and is not there.
fn orphan(kind: &str, metadata: ObjectMeta, begin: &str, there: &BTreeSet<String>) -> Option<(String, String)> {
    let namespace = metadata.namespace.filter(|it| it.starts_with(begin) && !there.contains(it))?;
    let name = format!("{} {namespace}/{}", kind.to_lowercase(), metadata.name?);
    Some((namespace, name))
}

/// The objects of one kind in one place, as [`all`] names them.
async fn with_text(
    client: &Client,
    (group, version, kind, plural): (&str, &str, &str, &str),
    namespace: Option<&str>,
    text: &str,
) -> Vec<String> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let place = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let list = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        // A kind that is not there has no objects; what one may not see is for others to look at.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Vec::new(),
        Err(error) => return vec![format!("nobody knows which {place}{plural}: {}", told(&error))],
    };
    let has_text =
        |object: &DynamicObject| text.is_empty() || serde_json::to_string(object).is_ok_and(|it| it.contains(text));
    let by_itself = |object: &DynamicObject| match namespace {
        Some(_) => comes_by_itself(kind, object),
        // Whoever made a cluster for others has chosen that.
        None => !text.is_empty() && is_retained(kind, object),
    };
    let left = list.into_iter().filter(|object| has_text(object) && !by_itself(object));
    let kind = kind.to_lowercase();
    left.filter_map(|object| Some(format!("{kind} {place}{}", object.metadata.name?))).collect()
}

/// Whether an object of a namespace is there without anybody having made it: it belongs to a controller, as pods do that are
/// replaced, and then its owner is looked for; or every namespace gets one of that name.
fn comes_by_itself(kind: &str, object: &DynamicObject) -> bool {
    let is_controlled = object.owner_references().iter().any(|owner| owner.controller == Some(true));
    let name = object.metadata.name.as_deref().unwrap_or_default();
    is_controlled || matches!((kind, name), ("ConfigMap", "kube-root-ca.crt") | ("ServiceAccount", "default"))
}

/// The reclaim policy of volumes that stay when their claims are gone (Kubernetes documentation, "Persistent Volumes").
pub(super) const RETAIN: &str = "Retain";

/// Whether it is a volume that stays when its claim is gone.
fn is_retained(kind: &str, object: &DynamicObject) -> bool {
    kind == "PersistentVolume" && object.data["spec"]["persistentVolumeReclaimPolicy"] == RETAIN
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_controller_has_made_or_every_namespace_has_was_left_by_nobody() {
        let owned = |by: bool| json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1", "controller": by}]);
        for (kind, name, owners, is_left) in [
            ("ConfigMap", "stray", json!([]), true),
            ("Lease", "stray", json!([]), true),
            ("Pod", "stray", json!([]), true),
            ("Pod", "coredns-5d78c9869d-abcde", owned(true), false),
            ("ReplicaSet", "coredns-5d78c9869d", owned(true), false),
            ("Secret", "of-an-owner-that-controls-nothing", owned(false), true),
            ("ConfigMap", "kube-root-ca.crt", json!([]), false),
            ("Secret", "kube-root-ca.crt", json!([]), true),
            ("ServiceAccount", "default", json!([]), false),
            ("ServiceAccount", "other", json!([]), true),
        ] {
            let object = json!({"metadata": {"name": name, "ownerReferences": owners}});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            assert_eq!(!comes_by_itself(kind, &object), is_left, "{kind} {name}");
        }
    }

    #[test]
    fn a_volume_that_is_retained_was_left_by_its_class() {
        for (kind, policy, is_kept) in [
            ("PersistentVolume", json!("Retain"), true),
            ("PersistentVolume", json!("Delete"), false),
            ("PersistentVolume", json!(null), false),
            ("StorageClass", json!("Retain"), false),
        ] {
            let object = json!({"metadata": {"name": "x"}, "spec": {"persistentVolumeReclaimPolicy": policy}});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            assert_eq!(is_retained(kind, &object), is_kept, "{kind} {policy}");
        }
    }

    #[test]
    fn what_is_in_a_namespace_that_is_gone_was_left_there() {
        let there = BTreeSet::from(["e2e-2".to_owned()]);
        let of = |namespace: Option<&str>| {
            let (name, namespace) = (Some("solo-0".to_owned()), namespace.map(str::to_owned));
            orphan("Pod", ObjectMeta { name, namespace, ..ObjectMeta::default() }, "e2e-", &there)
        };
        assert_eq!(of(Some("e2e-1")), Some(("e2e-1".to_owned(), "pod e2e-1/solo-0".to_owned())));
        for namespace in [Some("e2e-2"), Some("default"), None] {
            assert_eq!(of(namespace), None, "{namespace:?}");
        }
    }

    #[test]
    fn kinds_that_come_and_go_are_known() {
        for kind in COME_AND_GO {
            assert!(KINDS.iter().any(|known| known.3 == kind), "{kind}");
        }
    }
}
