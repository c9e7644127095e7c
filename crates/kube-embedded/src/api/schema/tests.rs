//! A schema like those that are used: defaults, pruning, and the words of every violation.

use serde_json::json;

use super::*;

fn schema() -> Schema {
    Schema::new(Arc::new(json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["version"],
                "properties": {
                    "version": {"type": "integer", "minimum": 13, "maximum": 14},
                    "replicas": {"type": "integer", "format": "int32", "default": 1, "minimum": 0},
                    "expose": {"type": "string", "enum": ["Internal", "LoadBalancer"], "default": "Internal"},
                    "volumeSize": {
                        "anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true,
                        "pattern": "^[0-9]+(Mi|Gi)?$", "default": "1Gi",
                    },
                    "extensions": {
                        "type": "array", "items": {"type": "string"}, "maxItems": 2, "x-kubernetes-list-type": "set",
                        "x-kubernetes-validations": [{"rule": "self.all(e, e in ['a', 'b'])", "message": "Only a and b"}],
                    },
                    "parameters": {"type": "object", "properties": {"max": {"type": "integer", "default": 100}}},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "maybe": {"type": "string", "nullable": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                },
            },
            "status": {"type": "object", "properties": {"ready": {"type": "integer"}}},
        },
    })))
}

fn problems(spec: Value) -> Vec<String> {
    let object = json!({"metadata": {"name": "x"}, "spec": spec});
    schema().validate(&object, None).into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn defaults_go_into_objects_that_exist() {
    let mut object = json!({"spec": {"version": 13, "parameters": {}, "replicas": null}});
    schema().default(&mut object);
    assert_eq!(
        object,
        json!({"spec": {"version": 13, "replicas": 1, "expose": "Internal", "volumeSize": "1Gi", "parameters": {"max": 100}}})
    );
    let mut object = json!({"metadata": {}});
    schema().default(&mut object);
    assert_eq!(object, json!({"metadata": {}}));
}

#[test]
fn a_null_is_absent_where_it_is_not_allowed() {
    let mut object = json!({
        "other": null,
        "spec": {
            "version": null, "maybe": null, "labels": {"a": null, "b": "c"}, "parameters": {"max": null},
            "extensions": ["a", null], "free": {"x": null, "y": [{"z": null}]},
        },
    });
    schema().default(&mut object);
    assert_eq!(
        object,
        json!({
            "other": null,
            "spec": {
                "maybe": null, "labels": {"b": "c"}, "parameters": {"max": 100}, "extensions": ["a", null],
                "free": {"x": null, "y": [{"z": null}]}, "replicas": 1, "expose": "Internal", "volumeSize": "1Gi",
            },
        })
    );
    assert_eq!(schema().validate(&json!({"spec": {"version": 13, "maybe": null}}), None).len(), 0);
}

#[test]
fn unknown_fields_go_and_are_named() {
    let mut object = json!({
        "apiVersion": "v", "kind": "K", "metadata": {"x": 1}, "foo": 1,
        "spec": {"version": 13, "vresion": 1, "labels": {"any": "thing"}, "free": {"a": {"b": 1}}, "parameters": {"y": 1}},
    });
    let removed = schema().prune(&mut object);
    assert_eq!(removed, ["foo", "spec.parameters.y", "spec.vresion"]);
    assert_eq!(object["spec"]["free"]["a"]["b"], 1);
    assert_eq!(object["spec"]["labels"]["any"], "thing");
    assert_eq!(object["metadata"]["x"], 1);
}

#[test]
fn violations_are_worded_as_kube_apiserver_words_them() {
    assert!(problems(json!({"version": 13, "volumeSize": 5})).is_empty());
    assert_eq!(problems(json!({})), ["spec.version: Required value"]);
    assert_eq!(
        problems(json!({"version": 12})),
        ["spec.version: Invalid value: 12: spec.version in body should be greater than or equal to 13"]
    );
    assert_eq!(
        problems(json!({"version": "13"})),
        ["spec.version: Invalid value: \"string\": spec.version in body must be of type integer: \"string\""]
    );
    assert_eq!(
        problems(json!({"version": 13, "expose": "x"})),
        ["spec.expose: Unsupported value: \"x\": supported values: \"Internal\", \"LoadBalancer\""]
    );
    assert_eq!(
        problems(json!({"version": 13, "volumeSize": "x"})),
        ["spec.volumeSize: Invalid value: \"x\": spec.volumeSize in body should match '^[0-9]+(Mi|Gi)?$'"]
    );
    assert_eq!(
        problems(json!({"version": 13, "extensions": ["a", "b", "a"]})),
        ["spec.extensions: Too many: 3: must have at most 2 items", "spec.extensions[2]: Duplicate value: \"a\""]
    );
    assert_eq!(
        problems(json!({"version": 13, "labels": {"a": 1}})),
        ["spec.labels.a: Invalid value: \"integer\": spec.labels.a in body must be of type string: \"integer\""]
    );
}

#[test]
fn rules_in_cel_are_checked_when_the_types_are_right() {
    assert_eq!(
        problems(json!({"version": 13, "extensions": ["c"]})),
        ["spec.extensions: Invalid value: \"array\": Only a and b"]
    );
    assert_eq!(problems(json!({"version": 1, "extensions": ["c"]})).len(), 1);
}
