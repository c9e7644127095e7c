//! Pieces of structural schemas: JSON of the form that `apiextensions.k8s.io/v1` expects.
//!
//! Affinity and tolerations follow the public types of `core/v1` (staging/src/k8s.io/api/core/v1/types.go).

use crate::{parameters, quantity};
use serde_json::{Map, Value, json};

/// An object with properties, some of which are required.
pub fn object(description: &str, required: &[&str], properties: Value) -> Value {
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    described(schema, description)
}

/// Adds a description, unless it is empty.
pub fn described(mut schema: Value, description: &str) -> Value {
    if !description.is_empty() {
        schema["description"] = json!(description);
    }
    schema
}

/// A text.
pub fn text(description: &str) -> Value {
    described(json!({"type": "string"}), description)
}

/// A list of one schema.
pub fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// A quantity: an integer or a string.
pub fn quantity() -> Value {
    json!({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": quantity::PATTERN,
        "x-kubernetes-int-or-string": true,
    })
}

/// A word out of a list, with a default.
pub fn choice(default: &str, values: &[&str], description: &str) -> Value {
    described(json!({"type": "string", "default": default, "enum": values}), description)
}

/// `spec.parameters`.
pub fn parameters() -> Value {
    let properties: Map<String, Value> = parameters::ALL
        .iter()
        .map(|parameter| {
            let mut schema = match parameter.range {
                parameters::Range::Integer { minimum, maximum, .. } => {
                    json!({"type": "integer", "minimum": minimum, "maximum": maximum})
                }
                parameters::Range::Choice { values, .. } => json!({"type": "string", "enum": values}),
                parameters::Range::Text { .. } => json!({"type": "string"}),
            };
            schema["default"] = parameter.default_value();
            (parameter.field.to_owned(), described(schema, parameter.description))
        })
        .collect();
    object("Settings of the PostgreSQL server.", &[], Value::Object(properties))
}

/// `status.conditions`, as `metav1.Condition`.
pub fn conditions() -> Value {
    list(object(
        "",
        &["lastTransitionTime", "message", "reason", "status", "type"],
        json!({
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "message": {"type": "string", "maxLength": 32768},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            "reason": {
                "type": "string", "minLength": 1, "maxLength": 1024,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            },
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "type": {
                "type": "string", "maxLength": 316,
                "pattern": concat!(
                    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
                    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                ),
            },
        }),
    ))
}

/// Tolerations of `core/v1`.
pub fn tolerations() -> Value {
    let properties = json!({
        "effect": text(""), "key": text(""), "operator": text(""), "value": text(""),
        "tolerationSeconds": {"type": "integer", "format": "int64"},
    });
    list(object("", &[], properties))
}

/// Affinity of `core/v1`.
pub fn affinity() -> Value {
    let node_term =
        atomic(object("", &[], json!({"matchExpressions": list(requirement()), "matchFields": list(requirement())})));
    let node = object(
        "",
        &[],
        json!({
            "preferredDuringSchedulingIgnoredDuringExecution":
                list(object("", &["preference", "weight"], json!({"preference": node_term, "weight": weight()}))),
            "requiredDuringSchedulingIgnoredDuringExecution":
                atomic(object("", &["nodeSelectorTerms"], json!({"nodeSelectorTerms": list(node_term)}))),
        }),
    );
    let pod = object(
        "",
        &[],
        json!({
            "preferredDuringSchedulingIgnoredDuringExecution": list(object(
                "", &["podAffinityTerm", "weight"], json!({"podAffinityTerm": pod_term(), "weight": weight()}),
            )),
            "requiredDuringSchedulingIgnoredDuringExecution": list(pod_term()),
        }),
    );
    object("", &[], json!({"nodeAffinity": node, "podAffinity": pod, "podAntiAffinity": pod}))
}

fn weight() -> Value {
    json!({"type": "integer", "format": "int32"})
}

fn atomic(mut schema: Value) -> Value {
    schema["x-kubernetes-map-type"] = json!("atomic");
    schema
}

fn requirement() -> Value {
    let properties = json!({"key": text(""), "operator": text(""), "values": list(text(""))});
    object("", &["key", "operator"], properties)
}

fn label_selector() -> Value {
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    atomic(object("", &[], json!({"matchExpressions": list(requirement()), "matchLabels": labels})))
}

fn pod_term() -> Value {
    let keys = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"});
    let properties = json!({
        "labelSelector": label_selector(),
        "matchLabelKeys": keys,
        "mismatchLabelKeys": keys,
        "namespaceSelector": label_selector(),
        "namespaces": list(text("")),
        "topologyKey": text(""),
    });
    object("", &["topologyKey"], properties)
}
