//! The four CustomResourceDefinitions: what a user's document may say, exactly as the released stack defines it,
//! except that all PostgreSQL majors are accepted which this program can run.

use crate::{Backup, Postgresql, Restore, ServiceBinding, VERSION, postgresql as pg, schema as s};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Resource;
use serde_json::{Value, json};

/// The definitions of `Postgresql`, `Backup`, `Restore` and `ServiceBinding`, in this order.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        definition::<Postgresql>("pg", &[], postgresql(), Some(scale())),
        definition::<Backup>("bkp", &[], backup(), None),
        definition::<Restore>("rst", &[], restore(), None),
        definition::<ServiceBinding>("sb", &["all", "a8s"], service_binding(), None),
    ]
}

/// Message of the rule on `spec.extensions`; admission says the same.
pub fn extensions_message() -> String {
    let names: Vec<String> = pg::EXTENSIONS.iter().map(|name| format!("'{name}'")).collect();
    format!("Only the following extensions are supported: {}.", names.join(", "))
}

fn definition<K: Resource<DynamicType = ()>>(
    short_name: &str,
    categories: &[&str],
    schema: Value,
    scale: Option<Value>,
) -> CustomResourceDefinition {
    let (kind, plural, group) = (K::kind(&()), K::plural(&()), K::group(&()));
    let mut subresources = json!({"status": {}});
    if let Some(scale) = scale {
        subresources["scale"] = scale;
    }
    let mut names = json!({
        "kind": kind, "listKind": format!("{kind}List"), "plural": plural,
        "singular": kind.to_lowercase(), "shortNames": [short_name],
    });
    if !categories.is_empty() {
        names["categories"] = json!(categories);
    }
    let document = json!({
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "names": names,
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}, "subresources": subresources,
            }],
        },
    });
    serde_json::from_value(document).expect("the definitions are constants of this crate, and tested")
}

fn scale() -> Value {
    json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.readyReplicas"})
}

fn root(description: &str, required: &[&str], spec: Value, status: Value) -> Value {
    let properties = json!({
        "apiVersion": s::text("Group and version of this representation."),
        "kind": s::text("Name of the kind."),
        "metadata": {"type": "object"},
        "spec": spec,
        "status": status,
    });
    s::object(description, required, properties)
}

fn postgresql() -> Value {
    let spec = s::object(
        "What the instance should be.",
        &["version"],
        json!({
            "enableReadOnlyService": {
                "type": "boolean", "default": false,
                "description": "Whether a second Service exists for reading. Reads may be stale.",
            },
            "expose": s::choice("Internal", &["Internal", "LoadBalancer"], "How the Services are reached."),
            "extensions": extensions(),
            "parameters": s::parameters(),
            "readOnlyTargetNodes":
                s::choice("replicas", &["replicas", "all"], "Members which the Service for reading selects."),
            "replicas": {
                "type": "integer", "format": "int32", "minimum": 0, "default": 1,
                "description": "Number of members. It should be odd and can only grow.",
            },
            "resources": resources(),
            "schedulingConstraints": s::object(
                "Where members may run. A change recreates the pods.",
                &[],
                json!({"affinity": s::affinity(), "tolerations": s::tolerations()}),
            ),
            "version": {
                "type": "integer", "minimum": pg::MINIMUM_VERSION, "maximum": pg::MAXIMUM_VERSION,
                "description": "PostgreSQL major. It cannot be changed.",
            },
            "volumeSize": volume_size(),
        }),
    );
    let status = s::object(
        "What the operator saw.",
        &[],
        json!({
            "clusterStatus": s::text(
                "Running, or NotRunning while fewer members are ready than asked for, or none is asked for.",
            ),
            "error": s::text("Why the instance does not run as it should."),
            "initialized": {
                "type": "boolean",
                "description": "Whether a member has ever been ready. An instance that has had data is not begun anew.",
            },
            "readyReplicas": {
                "type": "integer", "format": "int32", "description": "Number of members that are ready.",
            },
        }),
    );
    root("An instance of PostgreSQL.", &[], spec, status)
}

fn volume_size() -> Value {
    let mut schema = s::described(s::quantity(), "Size of each member's volume. It cannot shrink.");
    schema["default"] = json!(pg::DEFAULT_VOLUME_SIZE);
    schema
}

fn extensions() -> Value {
    let names: Vec<String> = pg::EXTENSIONS.iter().map(|name| format!("'{name}'")).collect();
    json!({
        "type": "array",
        "description": "Extensions of the default database.",
        "items": {"type": "string"},
        "maxItems": pg::EXTENSIONS.len(),
        "x-kubernetes-list-type": "set",
        "x-kubernetes-validations": [{
            "message": extensions_message(),
            "rule": format!("self.all(extension, extension in [{}])", names.join(", ")),
        }],
    })
}

fn resources() -> Value {
    let amounts = json!({"type": "object", "additionalProperties": s::quantity()});
    let claims = json!({
        "type": "array",
        "items": s::object("", &["name"], json!({"name": s::text("Name of an entry of the pod's resourceClaims.")})),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    });
    let mut schema = s::object(
        "Resources of the server's container. A change recreates the members one at a time.",
        &[],
        json!({"claims": claims, "limits": amounts, "requests": amounts}),
    );
    schema["default"] = json!(pg::Resources::standard());
    schema
}

fn instance_reference() -> Value {
    let properties = json!({
        "apiGroup": s::text("API group of the instance."),
        "kind": s::text("Kind of the instance."),
        "name": s::text("Name of the instance, in the same namespace."),
    });
    s::object("The instance.", &["apiGroup", "kind", "name"], properties)
}

fn backup() -> Value {
    let spec = s::object(
        "What to back up.",
        &["serviceInstance"],
        json!({
            "maxRetries": {
                "type": "string", "default": "Infinite", "pattern": r"^\d+|Infinite$",
                "description": "How often a failed attempt is repeated: a number, or Infinite.",
            },
            "serviceInstance": instance_reference(),
        }),
    );
    let status = s::object(
        "How far the backup is.",
        &[],
        json!({
            "backupID": s::text("Identifier under which the agent in the pod knows the backup."),
            "conditions": s::conditions(),
            "lastObservationTime": {
                "type": "string", "format": "date-time",
                "description": "When the newest condition was last seen to be true.",
            },
            "podUsedNamespacedName": s::text("namespace/name of the pod that makes the backup."),
            "podUsedUID": s::text("UID of that pod."),
            "retries": {"type": "integer", "description": "Number of attempts after the first."},
        }),
    );
    root("A backup of an instance.", &["spec"], spec, status)
}

fn restore() -> Value {
    let spec = s::object(
        "What to restore, and where.",
        &["backupName", "serviceInstance"],
        json!({
            "backupName": s::text("Name of the Backup, in the same namespace."),
            "serviceInstance": instance_reference(),
        }),
    );
    let pod = s::object(
        "The pod that restores.",
        &["ip", "namespacedName", "uid"],
        json!({"ip": s::text("Its address."), "namespacedName": s::text("namespace/name."), "uid": s::text("Its UID.")}),
    );
    let status = s::object(
        "How far the restore is.",
        &[],
        json!({
            "conditions": s::conditions(),
            "lastObservationTime": {
                "type": "string", "format": "date-time",
                "description": "When the newest condition was last seen to be true.",
            },
            "podToPoll": pod,
            "restoreID": s::text("Identifier under which the agent in the pod knows the restore."),
        }),
    );
    root("A restore of a backup into an instance.", &[], spec, status)
}

fn service_binding() -> Value {
    let instance = s::object(
        "The instance.",
        &["apiVersion", "kind", "name"],
        json!({
            "apiVersion": s::text("Group and version of the instance."),
            "kind": s::text("Kind of the instance."),
            "name": s::text("Name of the instance."),
            "namespace": s::text("Namespace of the instance. Default: the binding's own."),
        }),
    );
    let secret = s::object(
        "Where the credentials are.",
        &["name"],
        json!({"name": s::text("Name of the Secret."), "namespace": s::text("Namespace of the Secret.")}),
    );
    let status = s::object(
        "What became of the binding.",
        &[],
        json!({
            "error": s::text("Why there is no login."),
            "implemented": {
                "type": "boolean",
                "description": "Whether the login exists with its rights. The Secret must not be used before.",
            },
            "secret": secret,
        }),
    );
    let spec = s::object("Which instance the login is for.", &["instance"], json!({"instance": instance}));
    root("A login to an instance.", &[], spec, status)
}

#[cfg(test)]
mod tests;
