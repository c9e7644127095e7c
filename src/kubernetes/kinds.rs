//! Kinds that need no asking: how their resources are called and whether they lie in namespaces.
//!
//! Asking the server costs a request per group, and documents are also read where there is no server.

use std::collections::BTreeMap;

use serde_json::Value;

/// Group, kind, plural, whether in namespaces.
const KINDS: [(&str, &str, &str, bool); 30] = [
    ("", "ConfigMap", "configmaps", true),
    ("", "Endpoints", "endpoints", true),
    ("", "LimitRange", "limitranges", true),
    ("", "Namespace", "namespaces", false),
    ("", "Node", "nodes", false),
    ("", "PersistentVolume", "persistentvolumes", false),
    ("", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("", "Pod", "pods", true),
    ("", "ResourceQuota", "resourcequotas", true),
    ("", "Secret", "secrets", true),
    ("", "Service", "services", true),
    ("", "ServiceAccount", "serviceaccounts", true),
    ("apps", "DaemonSet", "daemonsets", true),
    ("apps", "Deployment", "deployments", true),
    ("apps", "StatefulSet", "statefulsets", true),
    ("batch", "CronJob", "cronjobs", true),
    ("batch", "Job", "jobs", true),
    ("cert-manager.io", "Certificate", "certificates", true),
    ("cert-manager.io", "ClusterIssuer", "clusterissuers", false),
    ("cert-manager.io", "Issuer", "issuers", true),
    ("networking.k8s.io", "NetworkPolicy", "networkpolicies", true),
    ("policy", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io", "Role", "roles", true),
    ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings", true),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("storage.k8s.io", "StorageClass", "storageclasses", false),
];

/// Whether objects of a kind lie in namespaces; `None` for a kind that is not known here.
pub fn namespaced(group: &str, kind: &str) -> Option<bool> {
    KINDS.iter().find(|known| known.0 == group && known.1 == kind).map(|known| known.3)
}

/// The plural of a kind; `None` for one that is not known here.
pub fn plural(group: &str, kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|known| known.0 == group && known.1 == kind).map(|known| known.2)
}

/// Group and kind of the custom resources that are defined among these objects, and whether they lie in namespaces.
pub fn of_definitions(objects: &[Value]) -> BTreeMap<(String, String), bool> {
    let definitions = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition");
    definitions
        .filter_map(|definition| {
            let spec = &definition["spec"];
            let group = spec["group"].as_str()?.to_owned();
            let kind = spec["names"]["kind"].as_str()?.to_owned();
            Some(((group, kind), spec["scope"] != "Cluster"))
        })
        .collect()
}
