//! MinIO for the released stack, where backups go if nothing else is said: one pod, a volume, a bucket.
//!
//! Namespace, port and the address of the Service are those of the builtin stack's store, and hence of the Go tool's
//! document: the configuration of backups refers to them. So are the keys of the Secret: whoever installs again finds
//! there what the server knows. The image is pinned, the credentials and the bucket are the chosen ones, and the Job
//! that makes the bucket is awaited: its name carries a hash of what it does, since a Job can't be changed.

use a8s_operators::object_store::manifests::{ENDPOINT, NAME, NAMESPACE, Options, SECRET};
use a8s_operators::object_store::server::PORT;
use a8s_operators::store::{ACCESS_KEY, SECRET_KEY};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The server with its client, `mc`. MinIO's own images are gone from Docker Hub, and want a login at quay.io, since
/// September 2026. This is of its fork (github.com/pgsty/silo), the last that calls its programs as MinIO does; it reads
/// what they wrote.
const IMAGE: &str = "docker.io/pgsty/minio:RELEASE.2026-08-04T00-00-00Z";
/// Who both are; they would be root unless told otherwise.
const USER: u32 = 1000;

/// The script of the Job. The server's image may have to be pulled and its volume to be made, so it tries for as long as
/// commands wait when nothing is said.
const SCRIPT: &str = "set -eu
attempt=0
until mc alias set store \"$ENDPOINT\" \"$ACCESS_KEY\" \"$SECRET_KEY\"; do
  attempt=$((attempt + 1))
  [ \"$attempt\" -lt 600 ] || exit 1
  sleep 1
done
mc mb --ignore-existing \"store/$BUCKET\"
";

/// The documents of a server whose bucket is made, and whose only user has these credentials.
pub fn documents(store: &Options) -> Vec<Value> {
    vec![namespace(), credentials(store), volume(), service(), deployment(store), job(store)]
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"name": NAMESPACE}}})
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": NAMESPACE, "labels": {"app": "minio"}})
}

fn credentials(store: &Options) -> Value {
    use base64::Engine as _;
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let keys = &store.credentials;
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata(SECRET), "type": "Opaque",
        "data": {ACCESS_KEY: encoded(&keys.access_key), SECRET_KEY: encoded(&keys.secret_key)},
    })
}

fn volume() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata("minio-data"),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}},
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(NAME),
        "spec": {
            "clusterIP": "None",
            "ports": [{"name": "api", "port": PORT, "protocol": "TCP"}],
            "selector": {"app": "minio", "component": "server"},
        },
    })
}

fn secret(variable: &str, key: &str) -> Value {
    json!({"name": variable, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}})
}

fn security() -> Value {
    json!({"runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"}})
}

/// Changes with the credentials, which the server reads when it starts. So few bits of a hash tell nobody anything of them.
fn credentials_mark(store: &Options) -> String {
    let digest = Sha256::digest(format!("{}\0{}", store.credentials.access_key, store.credentials.secret_key));
    HEXLOWER.encode(&digest[..2])
}

fn deployment(store: &Options) -> Value {
    let labels = json!({"app": "minio", "component": "server"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("minio"),
        "spec": {
            "replicas": 1,
            // Two at a time would want the same volume.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"a8s.a9s/credentials": credentials_mark(store)}},
                "spec": {
                    "securityContext": security(),
                    "containers": [{
                        "name": "minio",
                        "image": IMAGE,
                        "args": ["server", "/data"],
                        "env": [secret("MINIO_ROOT_USER", ACCESS_KEY), secret("MINIO_ROOT_PASSWORD", SECRET_KEY)],
                        "ports": [{"name": "api", "containerPort": PORT, "protocol": "TCP"}],
                        "readinessProbe": {
                            "httpGet": {"path": "/minio/health/ready", "port": PORT}, "periodSeconds": 2,
                        },
                        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }],
                    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "minio-data"}}],
                },
            },
        },
    })
}

fn job(store: &Options) -> Value {
    // No secret goes into it, only where they are: names can be read by more people than Secrets can.
    let digest = Sha256::digest(format!("{SCRIPT}\0{IMAGE}\0{ACCESS_KEY}\0{SECRET_KEY}\0{}", store.bucket));
    let name = format!("minio-config-{}", HEXLOWER.encode(&digest[..4]));
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(&name),
        "spec": {
            "backoffLimit": 4,
            "template": {
                "metadata": {"labels": {"app": "minio", "component": "config"}},
                "spec": {
                    "restartPolicy": "OnFailure",
                    "securityContext": security(),
                    "containers": [{
                        "name": "config",
                        "image": IMAGE,
                        "command": ["/bin/sh", "-c", SCRIPT],
                        "env": [
                            {"name": "ENDPOINT", "value": ENDPOINT},
                            {"name": "BUCKET", "value": store.bucket},
                            {"name": "MC_CONFIG_DIR", "value": "/tmp/mc"},
                            secret("ACCESS_KEY", ACCESS_KEY),
                            secret("SECRET_KEY", SECRET_KEY),
                        ],
                    }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use a8s_operators::store::Credentials;

    use super::*;
    use crate::manifest::images::of_objects;

    fn store(bucket: &str) -> Options {
        let credentials = Credentials { access_key: "a8s-user".to_owned(), secret_key: "a8s-password".to_owned() };
        Options { bucket: bucket.to_owned(), credentials }
    }

    #[test]
    fn the_object_store_is_as_reviewed() {
        let documents: Vec<String> =
            documents(&store("a8s-backups")).iter().map(|document| crate::yaml::write(document).unwrap()).collect();
        insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("upstream_minio", documents.join("---\n"));
        });
    }

    #[test]
    fn one_image_is_pulled_and_none_of_those_that_want_a_login() {
        let images = of_objects(&documents(&store("a8s-backups")));
        assert_eq!(images.len(), 1, "{images:?}");
        let withdrawn = ["quay.io/minio/", "docker.io/minio/", "minio/"];
        assert!(!withdrawn.iter().any(|repository| images[0].starts_with(repository)), "{images:?}");
    }

    #[test]
    fn other_credentials_are_another_pod() {
        let mut changed = store("a8s-backups");
        changed.credentials.secret_key = "another".to_owned();
        let template = |store: &Options| deployment(store)["spec"]["template"].clone();
        assert_ne!(template(&store("a8s-backups")), template(&changed));
        assert_eq!(template(&store("a8s-backups")), template(&store("elsewhere")));
    }

    #[test]
    fn another_bucket_is_another_job_and_no_secret_is_in_it() {
        let (one, other) = (job(&store("a8s-backups")), job(&store("elsewhere")));
        assert_ne!(one["metadata"]["name"], other["metadata"]["name"]);
        assert_eq!(one["metadata"]["name"], job(&store("a8s-backups"))["metadata"]["name"]);
        assert!(!one.to_string().contains("a8s-password"));
    }
}
