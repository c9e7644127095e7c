//! The pods of an instance. The template is the same on every cluster: images are programs that learn everything from
//! their environment and their volumes.

use super::names::{self, DATA_VOLUME};
use crate::agent::{BACKUP_PORT, METRICS_PORT, REST_PORT, SQL_PORT};
use crate::manifests::pull_policy;
use a8s_api::Postgresql;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where the data's volume is mounted.
pub const DATA_PATH: &str = "/home/postgres/pgdata";
/// Where the server's socket is: the place where Debian's programs look for it.
pub const SOCKET_PATH: &str = "/var/run/postgresql";
/// Where the Secrets are mounted, each in a directory of its own.
pub const CREDENTIALS_PATH: &str = "/run/secrets/a8s";
/// The user of the image.
const USER: u32 = 999;
/// Seconds for a fast shutdown, which writes a checkpoint.
const GRACE: u32 = 120;

/// Which PostgreSQL a pod runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The major that runs.
    pub major: u32,
    /// Its image.
    pub image: String,
}

/// The pod template of an instance.
pub fn template(instance: &Postgresql, version: &Version, labels: &BTreeMap<String, String>) -> Value {
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    let constraints = instance.spec.scheduling_constraints.clone().unwrap_or_default();
    let mut spec = json!({
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": GRACE,
        "securityContext": {
            "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
            // A new file system belongs to root. What a server has made in it stays its own: a group may not write there.
            "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch",
        },
        "containers": [server(instance, version, name), backup_agent(version, name), exporter(version, name)],
        "volumes": [
            {"name": "socket", "emptyDir": {}},
            secret("admin-credentials", &names::credentials("postgres", name)),
            secret("standby-credentials", &names::credentials("standby", name)),
        ],
    });
    if let Some(affinity) = constraints.affinity {
        spec["affinity"] = json!(affinity);
    }
    if let Some(tolerations) = constraints.tolerations.filter(|tolerations| !tolerations.is_empty()) {
        spec["tolerations"] = json!(tolerations);
    }
    json!({"metadata": {"labels": labels, "annotations": annotations(instance, version)}, "spec": spec})
}

fn annotations(instance: &Postgresql, version: &Version) -> Value {
    let mut annotations = json!({
        "prometheus.io/port": METRICS_PORT.to_string(),
        "prometheus.io/scrape": "true",
        (names::VERSION): version.major.to_string(),
    });
    if i64::from(instance.spec.version) != i64::from(version.major) {
        annotations[names::REQUESTED_VERSION] = json!(instance.spec.version.to_string());
    }
    annotations
}

fn secret(volume: &str, secret: &str) -> Value {
    json!({"name": volume, "secret": {"secretName": secret}})
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}})
}

/// What every container of the pod learns.
fn environment(instance: &str) -> Vec<Value> {
    vec![
        json!({"name": "A9S_INSTANCE", "value": instance}),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("POD_IP", "status.podIP"),
        // For people who run psql in the pod.
        json!({"name": "PGHOST", "value": SOCKET_PATH}),
        json!({"name": "PGUSER", "value": "postgres"}),
        // One heap (glibc): each backup has threads of its own, and they would leave one behind that is as large as it ever was.
        json!({"name": "MALLOC_ARENA_MAX", "value": "1"}),
    ]
}

fn security() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})
}

fn probe(port: u16, path: &str, [period, timeout, failures]: [u32; 3]) -> Value {
    json!({
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures, "successThreshold": 1,
    })
}

fn mount(name: &str, path: &str, read_only: bool) -> Value {
    if read_only {
        json!({"name": name, "mountPath": path, "readOnly": true})
    } else {
        json!({"name": name, "mountPath": path})
    }
}

fn server(instance: &Postgresql, version: &Version, name: &str) -> Value {
    let mut env = environment(name);
    env.push(json!({
        "name": "A9S_MEMORY_LIMIT",
        "valueFrom": {"resourceFieldRef": {"containerName": "postgres", "resource": "limits.memory", "divisor": "1"}},
    }));
    json!({
        "name": "postgres",
        "image": version.image,
        "imagePullPolicy": pull_policy(&version.image),
        "args": ["postgres"],
        "env": env,
        "ports": [
            {"name": "postgresql", "containerPort": SQL_PORT, "protocol": "TCP"},
            {"name": "patroni", "containerPort": REST_PORT, "protocol": "TCP"},
        ],
        "resources": k8s_openapi::api::core::v1::ResourceRequirements::from(&instance.spec.resources()),
        "readinessProbe": probe(REST_PORT, "/readiness", [2, 4, 3]),
        // A crash recovery or a busy server is no reason to kill it: this asks the agent, not the server.
        "livenessProbe": probe(REST_PORT, "/liveness", [10, 10, 6]),
        "securityContext": security(),
        "volumeMounts": [
            mount(DATA_VOLUME, DATA_PATH, false),
            mount("socket", SOCKET_PATH, false),
            mount("admin-credentials", &format!("{CREDENTIALS_PATH}/admin"), true),
            mount("standby-credentials", &format!("{CREDENTIALS_PATH}/standby"), true),
        ],
    })
}

fn backup_agent(version: &Version, name: &str) -> Value {
    json!({
        "name": "backup-agent",
        "image": version.image,
        "imagePullPolicy": pull_policy(&version.image),
        "args": ["backup"],
        "env": environment(name),
        "livenessProbe": probe(BACKUP_PORT, "/liveness", [10, 10, 6]),
        "securityContext": security(),
        "volumeMounts": [mount(DATA_VOLUME, DATA_PATH, false), mount("socket", SOCKET_PATH, false)],
    })
}

fn exporter(version: &Version, name: &str) -> Value {
    json!({
        "name": "postgres-exporter",
        "image": version.image,
        "imagePullPolicy": pull_policy(&version.image),
        "args": ["metrics"],
        "env": environment(name),
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}],
        "securityContext": security(),
        "volumeMounts": [mount("socket", SOCKET_PATH, false)],
    })
}
