//! Roles of the stack, and what binds them to its accounts. A `Role` is one of the stack's namespace.

use crate::SYSTEM_NAMESPACE;
use serde_json::{Value, json};

/// The group of roles and of their bindings.
pub const RBAC: &str = "rbac.authorization.k8s.io";

/// A rule for all objects of some kinds.
pub fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

/// A rule for one object.
pub fn rule_for(group: &str, resource: &str, name: &str, verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "resourceNames": [name], "verbs": verbs})
}

/// A `Role` or a `ClusterRole`, as `kind` says.
pub fn role(kind: &str, name: &str, rules: &[Value]) -> Value {
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata(kind, name), "rules": rules})
}

/// What gives a role of that kind to accounts of the stack.
pub fn binding(kind: &str, role: &str, accounts: &[&str]) -> Value {
    let subject = |name| json!({"kind": "ServiceAccount", "name": name, "namespace": SYSTEM_NAMESPACE});
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": format!("{kind}Binding"),
        "metadata": metadata(kind, &format!("{role}binding")),
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": accounts.iter().map(subject).collect::<Vec<_>>(),
    })
}

fn metadata(kind: &str, name: &str) -> Value {
    match kind {
        "Role" => json!({"name": name, "namespace": SYSTEM_NAMESPACE}),
        _ => json!({"name": name}),
    }
}
