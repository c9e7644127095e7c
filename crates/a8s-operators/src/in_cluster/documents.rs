//! What a cluster needs for the operators to run as a pod: a Deployment, the Service of the webhook, the Secret of its
//! certificate, and the right to tell API servers whom to trust.

use serde_json::{Value, json};

use super::certificates::SECRET;
use super::{ADMISSION_PORT, HEALTH_PORT, WORD};
use crate::SYSTEM_NAMESPACE;
use crate::manifests::rights::{binding, role, rule_for};
use crate::manifests::{OPERATOR_ACCOUNT, pull_policy};

/// The Deployment, named as the released stack's.
pub const DEPLOYMENT: &str = "postgresql-controller-manager";
/// The Service of the webhook.
pub const SERVICE: &str = "postgresql-webhook-service";
/// The configuration of the webhook.
pub const WEBHOOK: &str = "postgresql-validating-webhook-configuration";
const CERTIFICATE_ROLE: &str = "postgresql-webhook-certificate-role";

/// The documents, with the operators' image.
pub fn documents(image: &str) -> Vec<Value> {
    let (group, resource) = ("admissionregistration.k8s.io", "validatingwebhookconfigurations");
    let webhook_rule = rule_for(group, resource, WEBHOOK, &["get", "patch"]);
    vec![
        service(),
        secret(),
        role("ClusterRole", CERTIFICATE_ROLE, &[webhook_rule]),
        binding("ClusterRole", CERTIFICATE_ROLE, &[OPERATOR_ACCOUNT]),
        deployment(image),
    ]
}

fn labels() -> Value {
    json!({
        "app.kubernetes.io/component": "controller-manager",
        "app.kubernetes.io/name": DEPLOYMENT,
        "app.kubernetes.io/part-of": "a8s-postgres",
        "control-plane": "controller-manager",
    })
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": SYSTEM_NAMESPACE, "labels": labels()})
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(SERVICE),
        "spec": {
            "ports": [{"port": 443, "protocol": "TCP", "targetPort": ADMISSION_PORT}],
            "selector": labels(),
        },
    })
}

/// Where the operators keep the certificate of admission: empty, so that it goes with the stack that it came with.
fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(SECRET), "type": "Opaque"})
}

fn deployment(image: &str) -> Value {
    let probe = |path: &str, period: u32| json!({"httpGet": {"path": path, "port": HEALTH_PORT}, "periodSeconds": period, "timeoutSeconds": 5});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(DEPLOYMENT),
        "spec": {
            "replicas": 1,
            // Two at a time would both reconcile.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels()},
            "template": {
                "metadata": {"labels": labels()},
                "spec": {
                    "serviceAccountName": OPERATOR_ACCOUNT,
                    "terminationGracePeriodSeconds": 10,
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "manager",
                        "image": image,
                        "imagePullPolicy": pull_policy(image),
                        "args": [WORD],
                        "ports": [{"name": "webhook-server", "containerPort": ADMISSION_PORT, "protocol": "TCP"}],
                        "livenessProbe": probe("/healthz", 20),
                        "readinessProbe": probe("/readyz", 1),
                        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    })
}
