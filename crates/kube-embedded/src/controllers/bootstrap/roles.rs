//! The default roles and role bindings (Kubernetes documentation, "Using RBAC Authorization": default roles and role
//! bindings), for the resources that this cluster serves.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::core::ApiResource;
use serde_json::{Value, json};

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// All default ClusterRoles.
pub fn cluster_roles() -> Vec<(ApiResource, Value)> {
    let mut roles = vec![
        role("cluster-admin", &[], vec![rule("*", &["*"], &["*"]), paths(&["*"], &["*"])]),
        aggregate("admin", None, "admin"),
        aggregate("edit", Some("admin"), "edit"),
        aggregate("view", Some("edit"), "view"),
        role("system:aggregate-to-view", &["view"], view_rules()),
        role("system:aggregate-to-edit", &["edit"], edit_rules()),
        role("system:aggregate-to-admin", &["admin"], admin_rules()),
    ];
    roles.extend(system_roles());
    roles
}

/// All default bindings, and the Role that lets everybody read the cluster's information.
pub fn bindings() -> Vec<(ApiResource, Value)> {
    let mut objects = vec![
        bind("cluster-admin", "cluster-admin", &["system:masters"]),
        bind("system:basic-user", "system:basic-user", &["system:authenticated"]),
        bind("system:discovery", "system:discovery", &["system:authenticated"]),
        bind(
            "system:public-info-viewer",
            "system:public-info-viewer",
            &["system:authenticated", "system:unauthenticated"],
        ),
        bind("system:monitoring", "system:monitoring", &["system:monitoring"]),
        bind(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            &["system:serviceaccounts"],
        ),
        bind("system:node", "system:node", &["system:nodes"]),
    ];
    for (name, user) in [
        ("system:kube-controller-manager", "system:kube-controller-manager"),
        ("system:kube-scheduler", "system:kube-scheduler"),
        ("system:node-proxier", "system:kube-proxy"),
    ] {
        let subject = json!({"apiGroup": GROUP, "kind": "User", "name": user});
        objects.push((
            ApiResource::erase::<ClusterRoleBinding>(&()),
            binding("ClusterRoleBinding", name, name, &[subject]),
        ));
    }
    objects.extend(extension_configuration());
    objects
}

const GROUP: &str = "rbac.authorization.k8s.io";

/// What every pod that serves an API of its own needs to read.
fn extension_configuration() -> [(ApiResource, Value); 2] {
    let name = "extension-apiserver-authentication-reader";
    let reader = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata(name, Some("kube-system")),
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": READ,
                   "resourceNames": ["extension-apiserver-authentication"]}],
    });
    let mut reads = binding(
        "RoleBinding",
        "system::extension-apiserver-authentication-reader",
        name,
        &[json!({"apiGroup": GROUP, "kind": "User", "name": "system:kube-controller-manager"})],
    );
    reads["metadata"]["namespace"] = json!("kube-system");
    reads["roleRef"]["kind"] = json!("Role");
    [(ApiResource::erase::<Role>(&()), reader), (ApiResource::erase::<RoleBinding>(&()), reads)]
}

fn view_rules() -> Vec<Value> {
    vec![
        rule(
            "",
            &[
                "configmaps",
                "endpoints",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "serviceaccounts",
                "services",
                "services/status",
                "bindings",
                "events",
                "limitranges",
                "namespaces",
                "namespaces/status",
                "pods/log",
                "pods/status",
                "replicationcontrollers/status",
                "resourcequotas",
                "resourcequotas/status",
            ],
            &READ,
        ),
        rule("discovery.k8s.io", &["endpointslices"], &READ),
        rule("apps", &with_status_and_scale(&APPS), &READ),
        rule("autoscaling", &["horizontalpodautoscalers", "horizontalpodautoscalers/status"], &READ),
        rule("batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"], &READ),
        rule("policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"], &READ),
        rule("networking.k8s.io", &["ingresses", "ingresses/status", "networkpolicies"], &READ),
    ]
}

const APPS: [&str; 4] = ["daemonsets", "deployments", "replicasets", "statefulsets"];

fn with_status_and_scale(resources: &[&'static str]) -> Vec<String> {
    let scales = |resource: &str| resource != "daemonsets";
    let all = resources.iter().flat_map(|resource| {
        let scale = scales(resource).then(|| format!("{resource}/scale"));
        [(*resource).to_owned(), format!("{resource}/status")].into_iter().chain(scale)
    });
    all.chain(["controllerrevisions".to_owned()]).collect()
}

fn edit_rules() -> Vec<Value> {
    vec![
        rule("", &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"], &READ),
        rule("", &["serviceaccounts"], &["impersonate"]),
        rule("", &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], &WRITE),
        rule("", &["pods/eviction"], &["create"]),
        rule(
            "",
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
            &WRITE,
        ),
        rule("", &["serviceaccounts/token"], &["create"]),
        rule(
            "apps",
            &[
                "daemonsets",
                "deployments",
                "deployments/rollback",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
            ],
            &WRITE,
        ),
        rule("autoscaling", &["horizontalpodautoscalers"], &WRITE),
        rule("batch", &["cronjobs", "jobs"], &WRITE),
        rule("policy", &["poddisruptionbudgets"], &WRITE),
        rule("networking.k8s.io", &["ingresses", "networkpolicies"], &WRITE),
        rule("coordination.k8s.io", &["leases"], &[&WRITE[..], &READ[..]].concat()),
    ]
}

fn admin_rules() -> Vec<Value> {
    vec![
        rule("authorization.k8s.io", &["localsubjectaccessreviews"], &["create"]),
        rule(GROUP, &["rolebindings", "roles"], &[&WRITE[..], &READ[..]].concat()),
    ]
}

fn system_roles() -> Vec<(ApiResource, Value)> {
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    let public = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let metrics = ["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"];
    let reviews = [
        rule("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], &["create"]),
        rule("authentication.k8s.io", &["selfsubjectreviews"], &["create"]),
    ];
    vec![
        role("system:basic-user", &[], reviews.into()),
        role("system:discovery", &[], vec![paths(&discovery, &["get"])]),
        role("system:public-info-viewer", &[], vec![paths(&public, &["get"])]),
        role("system:monitoring", &[], vec![paths(&metrics, &["get"])]),
        role(
            "system:service-account-issuer-discovery",
            &[],
            vec![paths(&["/.well-known/openid-configuration", "/openid/v1/jwks"], &["get"])],
        ),
        role(
            "system:auth-delegator",
            &[],
            vec![
                rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
                rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
            ],
        ),
        role(
            "system:persistent-volume-provisioner",
            &[],
            vec![
                rule("", &["persistentvolumes"], &["create", "delete", "get", "list", "watch"]),
                rule("", &["persistentvolumeclaims"], &["get", "list", "update", "watch"]),
                rule("storage.k8s.io", &["storageclasses"], &READ),
                rule("", &["events"], &["watch"]),
                rule("", &["events"], &["create", "patch", "update"]),
            ],
        ),
        role("system:kube-controller-manager", &[], vec![rule("*", &["*"], &["*"])]),
        role(
            "system:kube-scheduler",
            &[],
            vec![
                rule("", &["events"], &["create", "patch", "update"]),
                rule("", &["nodes", "namespaces", "services", "persistentvolumes"], &READ),
                rule("", &["pods"], &["delete", "get", "list", "watch"]),
                rule("", &["bindings", "pods/binding"], &["create"]),
                rule("", &["pods/status"], &["patch", "update"]),
                rule("", &["persistentvolumeclaims"], &["get", "list", "patch", "update", "watch"]),
                rule("apps", &["replicasets", "statefulsets"], &READ),
                rule("storage.k8s.io", &["storageclasses"], &READ),
            ],
        ),
        role(
            "system:node-proxier",
            &[],
            vec![
                rule("", &["endpoints", "services"], &["list", "watch"]),
                rule("", &["nodes"], &READ),
                rule("", &["events"], &["create", "patch", "update"]),
                rule("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
            ],
        ),
        role("system:node", &[], node_rules()),
    ]
}

fn node_rules() -> Vec<Value> {
    vec![
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        rule("authorization.k8s.io", &["localsubjectaccessreviews", "subjectaccessreviews"], &["create"]),
        rule(
            "",
            &["services", "endpoints", "configmaps", "secrets", "persistentvolumeclaims", "persistentvolumes"],
            &READ,
        ),
        rule("", &["nodes"], &["create", "get", "list", "watch"]),
        rule("", &["nodes", "nodes/status"], &["patch", "update"]),
        rule("", &["events"], &["create", "patch", "update"]),
        rule("", &["pods"], &["get", "list", "watch", "create", "delete"]),
        rule("", &["pods/status"], &["patch", "update"]),
        rule("", &["serviceaccounts/token"], &["create"]),
        rule("", &["serviceaccounts"], &["get"]),
        rule("discovery.k8s.io", &["endpointslices"], &READ),
        rule("coordination.k8s.io", &["leases"], &["create", "delete", "get", "patch", "update"]),
    ]
}

fn rule(group: &str, resources: &[impl AsRef<str>], verbs: &[&str]) -> Value {
    let resources: Vec<&str> = resources.iter().map(AsRef::as_ref).collect();
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn paths(urls: &[&str], verbs: &[&str]) -> Value {
    json!({"nonResourceURLs": urls, "verbs": verbs})
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

/// A ClusterRole; `into` names the aggregated role that it is part of.
fn role(name: &str, into: &[&str], rules: Vec<Value>) -> (ApiResource, Value) {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata(name, None),
        "rules": rules,
    });
    for whole in into {
        object["metadata"]["labels"][aggregation_label(whole)] = json!("true");
    }
    (ApiResource::erase::<ClusterRole>(&()), object)
}

fn aggregate(name: &str, into: Option<&str>, of: &str) -> (ApiResource, Value) {
    let (resource, mut object) = role(name, into.as_slice(), Vec::new());
    object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {aggregation_label(of): "true"}}]});
    (resource, object)
}

fn aggregation_label(whole: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{whole}")
}

fn bind(name: &str, role: &str, groups: &[&str]) -> (ApiResource, Value) {
    let subjects: Vec<Value> =
        groups.iter().map(|group| json!({"apiGroup": GROUP, "kind": "Group", "name": group})).collect();
    (ApiResource::erase::<ClusterRoleBinding>(&()), binding("ClusterRoleBinding", name, role, &subjects))
}

fn binding(kind: &str, name: &str, role: &str, subjects: &[Value]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(name, None),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_binding_has_its_role_and_every_aggregate_its_parts() {
        let roles = cluster_roles();
        let names: BTreeSet<&str> = roles.iter().map(|(_, role)| role["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), roles.len(), "a name twice");
        for (_, object) in bindings() {
            if object["roleRef"]["kind"] == "ClusterRole" {
                assert!(names.contains(object["roleRef"]["name"].as_str().unwrap()), "{object}");
            }
        }
        for (_, whole) in roles.iter().filter(|(_, role)| !role["aggregationRule"].is_null()) {
            let selector = &whole["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"];
            let label = selector.as_object().unwrap().keys().next().unwrap();
            assert!(roles.iter().any(|(_, role)| role["metadata"]["labels"][label] == "true"), "{label}");
        }
    }
}
