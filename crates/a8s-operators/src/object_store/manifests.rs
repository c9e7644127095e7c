//! What the store is on a cluster: a namespace, a Secret, a Service and a StatefulSet of one pod, under the names of
//! upstream's MinIO.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::server::{HEALTH, PORT};
use crate::manifests::pull_policy;
use crate::store::{ACCESS_KEY, Credentials, SECRET_KEY};

/// Namespace of the store.
pub const NAMESPACE: &str = "minio-dev";
/// Name of its StatefulSet and its Service.
pub const NAME: &str = "minio";
/// Where it is for programs in the cluster.
pub const ENDPOINT: &str = "http://minio.minio-dev.svc.cluster.local:9000";
/// Its image, without a tag.
pub const IMAGE: &str = "a9s/object-store";
/// Its image. With a version: without one, nodes would look for a newer one in a registry every time.
pub const VERSIONED: &str = concat!("a9s/object-store:", env!("CARGO_PKG_VERSION"));
/// Where its volume is mounted.
pub const DATA_PATH: &str = "/data";
/// Where its credentials are mounted.
pub const CREDENTIALS_PATH: &str = "/run/secrets/a9s/object-store";
/// The environment variable with its buckets.
pub const BUCKETS: &str = "A9S_OBJECT_STORE_BUCKETS";
/// The user of the image.
const USER: u32 = 65532;
/// The Secret with its credentials.
pub const SECRET: &str = "minio-credentials";
/// Role that lets every pod ask where the store is, as a DNS server would tell.
const ADDRESS_ROLE: &str = "minio-address";
/// What the volume asks for; no cluster of ours enforces it.
const SIZE: &str = "10Gi";

/// What differs between stores.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bucket that should be there.
    pub bucket: String,
    /// Who may use it.
    pub credentials: Credentials,
}

/// All objects, in the order in which they can be applied.
pub fn manifests(options: &Options) -> Vec<DynamicObject> {
    let [role, binding] = address();
    [namespace(), secret(&options.credentials), role, binding, service(), stateful_set(&options.bucket)]
        .into_iter()
        .map(|document| serde_json::from_value(document).expect("every document here has a kind and metadata"))
        .collect()
}

fn labels() -> BTreeMap<&'static str, &'static str> {
    [("app", NAME)].into()
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": NAMESPACE, "labels": labels()})
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"name": NAMESPACE}}})
}

fn secret(credentials: &Credentials) -> Value {
    use base64::Engine as _;
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata(SECRET), "type": "Opaque",
        "data": {ACCESS_KEY: encoded(&credentials.access_key), SECRET_KEY: encoded(&credentials.secret_key)},
    })
}

fn address() -> [Value; 2] {
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata(ADDRESS_ROLE),
        "rules": [{"apiGroups": [""], "resources": ["services"], "resourceNames": [NAME], "verbs": ["get"]}],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata(ADDRESS_ROLE),
        "roleRef": {"apiGroup": group, "kind": "Role", "name": ADDRESS_ROLE},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:serviceaccounts"}],
    });
    [role, binding]
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(NAME),
        "spec": {"selector": labels(), "ports": [{"name": "api", "port": PORT, "protocol": "TCP", "targetPort": PORT}]},
    })
}

fn stateful_set(bucket: &str) -> Value {
    let probe = |period: u32, failures: u32| {
        json!({
            "httpGet": {"path": HEALTH, "port": PORT, "scheme": "HTTP"},
            "periodSeconds": period, "timeoutSeconds": 4, "failureThreshold": failures, "successThreshold": 1,
        })
    };
    let container = json!({
        "name": NAME,
        "image": VERSIONED,
        "imagePullPolicy": pull_policy(VERSIONED),
        "args": ["object-store"],
        "env": [
            {"name": BUCKETS, "value": bucket},
            // One heap for all threads: the C library would give each its own, and keep them.
            {"name": "MALLOC_ARENA_MAX", "value": "1"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
        ],
        "ports": [{"name": "api", "containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": probe(2, 3),
        "livenessProbe": probe(10, 6),
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "data", "mountPath": DATA_PATH},
            {"name": "credentials", "mountPath": CREDENTIALS_PATH, "readOnly": true},
        ],
    });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata(NAME),
        "spec": {
            "replicas": 1,
            "serviceName": NAME,
            "selector": {"matchLabels": labels()},
            "template": {
                "metadata": {"labels": labels()},
                "spec": {
                    "terminationGracePeriodSeconds": 10,
                    "automountServiceAccountToken": false,
                    "securityContext": {
                        "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
                        // A new file system belongs to root.
                        "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch",
                    },
                    "containers": [container],
                    "volumes": [{"name": "credentials", "secret": {"secretName": SECRET}}],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": SIZE}}},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_as_reviewed() {
        let credentials = Credentials { access_key: "key".into(), secret_key: "secret".into() };
        let documents: Vec<String> = manifests(&Options { bucket: "a8s-backups".into(), credentials })
            .iter()
            .map(|object| serde_saphyr::to_string(object).expect("plain data"))
            .collect();
        insta::assert_snapshot!(documents.join("---\n"));
    }

    #[test]
    fn the_endpoint_is_that_of_the_service() {
        assert_eq!(ENDPOINT, format!("http://{NAME}.{NAMESPACE}.svc.cluster.local:{PORT}"));
    }
}
