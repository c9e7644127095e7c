//! What the stack needs on a cluster before its controllers run: definitions, rights, the list of images and the
//! admission webhook. Rights are the least that the code uses; a test compares them with what was reviewed.

pub mod backup;
pub(crate) mod rights;

use self::rights::{RBAC, binding, role, rule, rule_for};
use crate::{SYSTEM_NAMESPACE, admission, in_cluster};
use base64::Engine as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// ConfigMap in the stack's namespace that maps PostgreSQL majors to images.
pub const IMAGES: &str = "postgresql-images";
/// ConfigMap in the stack's namespace that says which stack this is and what it can do beyond the released one.
pub const STACK: &str = "a8s-stack";
/// What this stack can do beyond the released one.
const CAPABILITIES: [&str; 4] = ["failover", "restore-into", "backup-objects", "replication-lag"];
/// ClusterRole of the agents in an instance's pods.
pub const AGENT_ROLE: &str = "postgresql-spilo-role";
/// ServiceAccount of the controller of instances.
pub const OPERATOR_ACCOUNT: &str = "postgresql-manager-account";
const OPERATOR_ROLE: &str = "postgresql-manager-role";

/// How the API server reaches the admission webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Webhook {
    /// At a URL, up to and without the path.
    Url {
        /// Such as `https://127.0.0.1:9443`.
        url: String,
        /// The certificate authority, PEM.
        ca_pem: String,
    },
    /// Behind the Service `postgresql-webhook-service` of the stack's namespace.
    ///
    /// Its authority is put in by the operators, who make it.
    Service,
}

/// What differs between clusters.
#[derive(Clone, Debug)]
pub struct Options {
    /// PostgreSQL major → image.
    pub images: BTreeMap<u32, String>,
    /// Where admission is.
    pub webhook: Webhook,
    /// Image of the operators, where they run as a pod.
    pub operators: Option<String>,
}

/// All objects, in the order in which they can be applied.
pub fn manifests(options: &Options) -> Vec<DynamicObject> {
    let mut documents = vec![namespace()];
    documents.extend(a8s_api::crds().iter().map(|crd| json!(crd)));
    documents.extend([account(), operator_role(), binding("ClusterRole", OPERATOR_ROLE, &[OPERATOR_ACCOUNT])]);
    documents.push(agent_role());
    documents.extend(backup::documents(options.operators.is_some()));
    documents.extend([images(&options.images), stack()]);
    documents.extend(options.operators.iter().flat_map(|image| in_cluster::documents(image)));
    documents.push(webhook(&options.webhook));
    documents
        .into_iter()
        .map(|document| serde_json::from_value(document).expect("every document here has a kind and metadata"))
        .collect()
}

/// How nodes get an image. Those of this project are published nowhere: a node has one, or it has none, and whoever has the name in
/// a registry is not asked.
pub fn pull_policy(image: &str) -> &'static str {
    if image.starts_with("a9s/") { "Never" } else { "IfNotPresent" }
}

/// The stack's namespace. Whoever applies it applies all of it: server-side apply takes away what one leaves out.
pub fn namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": SYSTEM_NAMESPACE, "labels": {"control-plane": "controller-manager"}},
    })
}

fn account() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": OPERATOR_ACCOUNT, "namespace": SYSTEM_NAMESPACE},
    })
}

fn operator_role() -> Value {
    let owned = ["create", "delete", "get", "list", "update", "watch"];
    let (group, bindings) = (a8s_api::Postgresql::GROUP, a8s_api::ServiceBinding::GROUP);
    let rules = [
        rule(group, &["postgresqls"], &["get", "list", "patch", "watch"]),
        rule(group, &["postgresqls/status"], &["patch"]),
        // The API server asks for this of who sets blockOwnerDeletion.
        rule(group, &["postgresqls/finalizers"], &["update"]),
        rule(bindings, &["servicebindings"], &["delete", "get", "list", "patch", "watch"]),
        rule(bindings, &["servicebindings/status"], &["patch"]),
        rule(bindings, &["servicebindings/finalizers"], &["update"]),
        rule("", &["configmaps", "secrets", "serviceaccounts", "services"], &owned),
        rule("apps", &["statefulsets"], &owned),
        // It gives agents rights on Secrets, Leases and pods, which it therefore has to have itself.
        rule(RBAC, &["rolebindings", "roles"], &owned),
        rule_for(RBAC, "clusterroles", AGENT_ROLE, &["bind"]),
        rule("", &["persistentvolumeclaims"], &["delete", "list", "update", "watch"]),
        rule("coordination.k8s.io", &["leases"], &["delete", "get", "patch"]),
        rule("", &["pods"], &["list", "patch", "watch"]),
        rule("", &["events"], &["create", "list"]),
    ];
    role("ClusterRole", OPERATOR_ROLE, &rules)
}

/// What agents may do in the namespace of their instance without saying to whom it belongs: read the instance, follow orders,
/// watch the other members and the Lease, and make that. What they may do by names is in a Role of their instance, and, while
/// an order runs, in one of that.
fn agent_role() -> Value {
    let rules = [
        rule(a8s_api::Postgresql::GROUP, &["postgresqls"], &["get", "list", "watch"]),
        rule(a8s_api::Backup::GROUP, &["backups", "restores"], &["get", "list", "watch"]),
        rule("", &["pods"], &["get", "list", "watch"]),
        // Names say nothing where something is made.
        rule("coordination.k8s.io", &["leases"], &["create", "list", "watch"]),
    ];
    role("ClusterRole", AGENT_ROLE, &rules)
}

fn images(images: &BTreeMap<u32, String>) -> Value {
    let data: BTreeMap<String, &String> = images.iter().map(|(major, image)| (major.to_string(), image)).collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": IMAGES, "namespace": SYSTEM_NAMESPACE},
        "data": data,
    })
}

fn stack() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": STACK, "namespace": SYSTEM_NAMESPACE},
        "data": {"stack": "builtin", "capabilities": CAPABILITIES.join(",")},
    })
}

fn webhook(webhook: &Webhook) -> Value {
    let encoded = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let client = match webhook {
        Webhook::Url { url, ca_pem } => {
            json!({"url": format!("{}{}", url.trim_end_matches('/'), admission::PATH), "caBundle": encoded(ca_pem)})
        }
        Webhook::Service => json!({
            "service": {
                "name": in_cluster::SERVICE, "namespace": SYSTEM_NAMESPACE, "path": admission::PATH, "port": 443,
            },
        }),
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": in_cluster::WEBHOOK},
        "webhooks": [{
            "name": "vpostgresql.kb.io",
            "admissionReviewVersions": ["v1"],
            "clientConfig": client,
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "rules": [{
                "apiGroups": [a8s_api::Postgresql::GROUP],
                "apiVersions": [a8s_api::VERSION],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["postgresqls", "postgresqls/scale"],
            }],
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let images = [15, 17].map(|major| (major, format!("a9s/postgresql:{major}"))).into();
        Options {
            images,
            webhook: Webhook::Url { url: "https://127.0.0.1:9443/".into(), ca_pem: "PEM".into() },
            operators: None,
        }
    }

    #[test]
    fn the_stack_is_as_reviewed() {
        let documents: Vec<String> = manifests(&options())
            .iter()
            .filter(|object| object.types.as_ref().is_none_or(|types| types.kind != "CustomResourceDefinition"))
            .map(|object| serde_saphyr::to_string(object).expect("plain data"))
            .collect();
        insta::assert_snapshot!(documents.join("---\n"));
    }

    #[test]
    fn what_is_added_where_the_operators_are_a_pod_is_as_reviewed() {
        let documents: Vec<String> = in_cluster::documents("a9s/operators:1")
            .iter()
            .map(|object| serde_saphyr::to_string(object).expect("plain data"))
            .collect();
        insta::assert_snapshot!(documents.join("---\n"));
    }

    #[test]
    fn the_definitions_come_before_what_needs_them() {
        let kinds: Vec<String> =
            manifests(&options()).into_iter().filter_map(|object| object.types).map(|types| types.kind).collect();
        assert_eq!(kinds[0], "Namespace");
        assert_eq!(kinds[1..5], ["CustomResourceDefinition"; 4]);
    }

    #[test]
    fn a_service_is_named_where_the_webhook_is_in_the_cluster() {
        let document = webhook(&Webhook::Service);
        assert_eq!(document["webhooks"][0]["clientConfig"]["service"]["name"], "postgresql-webhook-service");
    }
}
