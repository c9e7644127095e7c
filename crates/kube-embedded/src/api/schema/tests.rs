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

/// What is wrong with an update of `spec`, by the schema above with more in it.
fn update_problems(old: Value, new: Value) -> Vec<String> {
    let schema = Schema::new(Arc::new(json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["name"],
                "x-kubernetes-validations": [
                    {"rule": "self.low <= self.high", "message": "low is above high", "fieldPath": ".low"},
                    {"rule": "self.high >= oldSelf.high", "message": "high never falls"},
                ],
                "properties": {
                    "name": {"type": "string", "maxLength": 3},
                    "low": {"type": "integer", "default": 0, "x-kubernetes-validations": [{"rule": "self != 13", "message": "not 13"}]},
                    "high": {"type": "integer", "default": 9},
                    "inner": {"type": "object", "required": ["a"], "properties": {
                        "a": {"type": "integer"}, "b": {"type": "integer", "maximum": 5},
                    }},
                    "atomic": {"type": "array", "items": {"type": "integer", "maximum": 5}},
                    "keyed": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                        "items": {"type": "object", "properties": {
                            "k": {"type": "string"}, "v": {"type": "integer", "maximum": 5},
                            "w": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 5", "message": "below 5"}]},
                        }},
                    },
                    "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "integer"}},
                },
            },
            "status": {"type": "object", "properties": {"n": {"type": "integer"}}},
        },
    })));
    let object = |spec: Value| {
        let mut object = json!({"metadata": {"name": "x"}, "spec": spec});
        schema.default(&mut object);
        object
    };
    // What an older schema let through: nothing was defaulted.
    let old = json!({"metadata": {"name": "x"}, "spec": old});
    let causes = schema.validate(&object(new), Some(&old));
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn an_update_is_not_refused_for_what_it_leaves_as_it_was() {
    let long = || json!("long");
    assert!(update_problems(json!({"name": "long"}), json!({"name": "long", "high": 10})).is_empty());
    assert_eq!(
        update_problems(json!({"name": "longer"}), json!({"name": "long"})),
        ["spec.name: Too long: may not be more than 3 bytes"]
    );
    // An item is known by its keys, wherever it stands now.
    let keyed = |items: Value| json!({"name": long(), "keyed": items});
    let old = keyed(json!([{"k": "a", "v": 6}, {"k": "b", "v": 7}]));
    assert!(update_problems(old.clone(), keyed(json!([{"k": "b", "v": 7}, {"k": "c"}]))).is_empty());
    assert_eq!(
        update_problems(old.clone(), keyed(json!([{"k": "a", "v": 7}]))),
        ["spec.keyed[0].v: Invalid value: 7: spec.keyed[0].v in body should be less than or equal to 5"]
    );
    assert_eq!(
        update_problems(old, keyed(json!([{"k": "a", "v": 6}, {"k": "a", "v": 6}]))),
        ["spec.keyed[1]: Duplicate value: {\"k\":\"a\"}"]
    );
    // Of two with the same keys, which older schemas let through, the first counts.
    let twice = keyed(json!([{"k": "a", "v": 6}, {"k": "a", "v": 7}]));
    assert!(update_problems(twice.clone(), keyed(json!([{"k": "a", "v": 6}]))).is_empty());
    assert_eq!(update_problems(twice, keyed(json!([{"k": "a", "v": 7}]))).len(), 1);
    // Any other list, or an atomic map, is one value.
    assert!(update_problems(json!({"name": "a", "atomic": [6]}), json!({"name": "b", "atomic": [6]})).is_empty());
    assert_eq!(update_problems(json!({"name": "a", "atomic": [6]}), json!({"name": "a", "atomic": [6, 1]})).len(), 1);
    let whole = |more: Value| json!({"name": "a", "whole": {"x": "y", "more": more}});
    assert!(update_problems(whole(json!(1)), whole(json!(1))).is_empty());
    assert_eq!(update_problems(whole(json!(1)), whole(json!(2))).len(), 1);
}

#[test]
fn a_required_field_may_stay_missing_where_nothing_changes_beside_it() {
    let spec = |inner: Value, high: u64| json!({"name": "a", "inner": inner, "high": high});
    assert!(update_problems(spec(json!({"b": 1}), 1), spec(json!({"b": 1}), 2)).is_empty());
    assert_eq!(update_problems(spec(json!({"b": 1}), 1), spec(json!({"b": 2}), 1)), ["spec.inner.a: Required value"]);
    assert!(update_problems(json!({"low": 1}), json!({"low": 1})).is_empty(), "what a default adds is no change");
    assert_eq!(update_problems(json!({"low": 1}), json!({"low": 2})), ["spec.name: Required value"]);
}

#[test]
fn a_rule_is_not_held_against_an_update_that_leaves_its_place_as_it_was() {
    let spec = |low: u64, high: u64| json!({"name": "a", "low": low, "high": high});
    assert!(update_problems(spec(5, 4), spec(5, 4)).is_empty());
    // The rule is about `spec`, not about the field it points at.
    assert_eq!(update_problems(spec(5, 2), spec(5, 3)), ["spec.low: Invalid value: \"integer\": low is above high"]);
    assert_eq!(update_problems(spec(1, 4), spec(1, 3)), ["spec: Invalid value: \"object\": high never falls"]);
    assert!(update_problems(spec(13, 14), spec(13, 15)).is_empty());
    assert_eq!(update_problems(spec(12, 14), spec(13, 14)), ["spec.low: Invalid value: \"integer\": not 13"]);
    let keyed = |items: Value| json!({"name": "a", "keyed": items});
    let old = keyed(json!([{"k": "a", "w": 6}]));
    assert!(update_problems(old.clone(), keyed(json!([{"k": "b"}, {"k": "a", "w": 6}]))).is_empty());
    assert_eq!(
        update_problems(old, keyed(json!([{"k": "b"}, {"k": "a", "w": 7}]))),
        ["spec.keyed[1].w: Invalid value: \"integer\": below 5"]
    );
}

#[test]
fn metadata_of_an_object_older_than_its_schema_can_change() {
    let schema = Schema::new(Arc::new(json!({
        "type": "object", "required": ["extra"],
        "x-kubernetes-validations": [{"rule": "self.spec.a > 5", "message": "more"}],
        "properties": {
            "extra": {"type": "integer"},
            "spec": {"type": "object", "properties": {"a": {"type": "integer"}}},
            "status": {"type": "object", "properties": {"n": {"type": "integer"}}},
        },
    })));
    // "gone" is no field of the schema any more.
    let old = json!({"metadata": {"finalizers": ["a/b"]}, "spec": {"a": 1, "gone": 1}});
    assert!(schema.validate(&json!({"metadata": {}, "spec": {"a": 1}}), Some(&old)).is_empty());
    // What speaks of the whole object speaks of its status, too.
    let with_status = json!({"extra": 1, "spec": {"a": 1}, "status": {"n": 1}});
    let causes = schema.validate(&with_status, Some(&old));
    assert_eq!((causes.len(), causes[0].message.as_str()), (1, "Invalid value: \"object\": more"));
}

#[test]
fn long_lists_take_no_longer_than_their_items() {
    let items = |value: u64| (0..20_000).map(|number| json!({"k": number.to_string(), "v": value})).collect::<Value>();
    let keyed = |value: u64| json!({"name": "a", "keyed": items(value)});
    let begin = std::time::Instant::now();
    assert!(update_problems(keyed(4), keyed(5)).is_empty());
    let took = begin.elapsed();
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}
