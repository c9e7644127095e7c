//! Server-side apply and ownership as users of the API see them, and as properties.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::status::Status;

fn options(manager: &str) -> ApplyOptions<'_> {
    ApplyOptions { manager, force: false, api_version: "v1", subresource: "" }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": data})
}

fn shape() -> Shape {
    Shape::builtin("", "ConfigMap")
}

/// `manager operation: fields` of every entry.
fn owners(object: &Value) -> Vec<String> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries.iter().map(|e| format!("{} {}: {}", text(e, "manager"), text(e, "operation"), e["fieldsV1"])).collect()
}

fn created_by(mut object: Value, manager: &str) -> Value {
    track(None, &mut object, manager, "v1", "", &shape());
    object
}

#[test]
fn applying_makes_the_object_and_owns_its_fields() {
    let object = apply(None, &config_map(json!({"a": "1"})), options("me"), &shape()).unwrap();
    assert_eq!(object["data"], json!({"a": "1"}));
    assert_eq!(owners(&object), [r#"me Apply: {"f:data":{"f:a":{}}}"#]);
    let entry = &object["metadata"]["managedFields"][0];
    assert_eq!((&entry["apiVersion"], &entry["fieldsType"]), (&json!("v1"), &json!("FieldsV1")));
    assert!(entry["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(entry.get("subresource"), None);
}

#[test]
fn fields_no_longer_applied_go_unless_somebody_else_owns_them() {
    let first = apply(None, &config_map(json!({"a": "1", "b": "2"})), options("me"), &shape()).unwrap();
    let shared = apply(Some(&first), &config_map(json!({"b": "2"})), options("you"), &shape()).unwrap();
    let object = apply(Some(&shared), &config_map(json!({})), options("me"), &shape()).unwrap();
    assert_eq!(object["data"], json!({"b": "2"}));
    assert_eq!(owners(&object), [r#"me Apply: {"f:data":{}}"#, r#"you Apply: {"f:data":{"f:b":{}}}"#]);
}

#[test]
fn one_conflict_is_worded_as_kube_apiserver_words_it() {
    let live = created_by(config_map(json!({"key": "1"})), "kubectl-client-side-apply");
    let error = apply(Some(&live), &config_map(json!({"key": "2"})), options("me"), &shape()).unwrap_err();
    let message = r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: .data.key"#;
    assert_eq!(error.to_string(), message);
    let status = Status::from(error);
    assert_eq!((status.code(), status.reason()), (409, "Conflict"));
    let causes = status.0.details.unwrap().causes.unwrap();
    assert_eq!(causes[0].reason.as_deref(), Some("FieldManagerConflict"));
    assert_eq!(causes[0].field.as_deref(), Some(".data.key"));
    assert_eq!(causes[0].message.as_deref(), Some(r#"conflict with "kubectl-client-side-apply" using v1"#));
}

#[test]
fn several_conflicts_are_grouped_by_manager() {
    let live = created_by(config_map(json!({"a": "1", "b": "1"})), "x");
    let live = apply(Some(&live), &config_map(json!({"c": "1"})), options("y"), &shape()).unwrap();
    let error = apply(Some(&live), &config_map(json!({"a": "2", "b": "2", "c": "2"})), options("me"), &shape());
    let expected = "Apply failed with 3 conflicts: conflicts with \"x\" using v1:\n- .data.a\n- .data.b\n\
                    conflicts with \"y\":\n- .data.c";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[test]
fn force_takes_the_fields_over() {
    let live = created_by(config_map(json!({"a": "1"})), "you");
    let forced = ApplyOptions { force: true, ..options("me") };
    let object = apply(Some(&live), &config_map(json!({"a": "2"})), forced, &shape()).unwrap();
    assert_eq!(object["data"]["a"], "2");
    assert_eq!(owners(&object), [r#"me Apply: {"f:data":{"f:a":{}}}"#, r#"you Update: {"f:data":{}}"#]);
}

#[test]
fn applying_what_another_has_is_shared_ownership_without_conflict() {
    let live = created_by(config_map(json!({"a": "1"})), "you");
    let object = apply(Some(&live), &config_map(json!({"a": "1"})), options("me"), &shape()).unwrap();
    assert_eq!(owners(&object).len(), 2);
}

#[test]
fn list_items_are_owned_by_their_keys() {
    let shape = Shape::builtin("", "Pod");
    let pod = |containers: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}});
    let mine = pod(json!([{"name": "a", "image": "i", "ports": [{"containerPort": 80}]}]));
    let live = apply(None, &mine, options("me"), &shape).unwrap();
    let yours = pod(json!([{"name": "b", "image": "j"}, {"name": "a", "env": [{"name": "X", "value": "1"}]}]));
    let both = apply(Some(&live), &yours, options("you"), &shape).unwrap();
    let names: Vec<&Value> = both["spec"]["containers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["b", "a"], "the applied order wins");
    assert_eq!(both["spec"]["containers"][1]["image"], "i");
    assert!(
        owners(&both)[0].contains(r#""k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}"#)
    );

    let error = apply(Some(&both), &pod(json!([{"name": "a", "image": "k"}])), options("third"), &shape).unwrap_err();
    assert!(error.to_string().ends_with(r#"conflict with "me": .spec.containers[name="a"].image"#), "{error}");

    let without = apply(Some(&both), &pod(json!([{"name": "a", "image": "i"}])), options("you"), &shape).unwrap();
    assert_eq!(without["spec"]["containers"], json!([{"name": "a", "image": "i", "ports": [{"containerPort": 80}]}]));
}

#[test]
fn defaults_in_an_applied_item_go_with_it() {
    let shape = Shape::builtin("", "Pod");
    let pod = |containers: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}});
    let mut live = apply(None, &pod(json!([{"name": "a"}, {"name": "b"}])), options("me"), &shape).unwrap();
    live["spec"]["containers"][1]["terminationMessagePath"] = json!("/dev/termination-log");
    let object = apply(Some(&live), &pod(json!([{"name": "a"}])), options("me"), &shape).unwrap();
    assert_eq!(object["spec"]["containers"], json!([{"name": "a"}]));
}

#[test]
fn sets_and_atomic_places_follow_their_type() {
    let shape = Shape::builtin("", "Service");
    let service = |finalizers: Value, selector: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "finalizers": finalizers}, "spec": {"selector": selector}});
    let live = apply(None, &service(json!(["a/x"]), json!({"k": "1"})), options("me"), &shape).unwrap();
    let other = service(json!(["b/y"]), json!({"k": "1"}));
    let both = apply(Some(&live), &other, options("you"), &shape).unwrap();
    assert_eq!(both["metadata"]["finalizers"], json!(["b/y", "a/x"]));
    let error = apply(Some(&both), &service(json!([]), json!({"l": "1"})), options("third"), &shape).unwrap_err();
    assert!(error.to_string().contains("- .spec.selector"), "{error}");
}

#[test]
fn a_structural_schema_says_how_its_lists_merge() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "users": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                  "items": {"type": "object", "properties": {"name": {"type": "string"}, "role": {"type": "string"}}}},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "steps": {"type": "array", "items": {"type": "string"}},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic"},
    }}}});
    let shape = Shape::structural(&schema);
    let object = |spec: Value| json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "k", "finalizers": ["f/f"]}, "spec": spec});
    let live = apply(
        None,
        &object(json!({"users": [{"name": "a"}], "tags": ["x"], "steps": ["1"], "whole": {"a": 1}})),
        options("me"),
        &shape,
    )
    .unwrap();
    let both =
        apply(Some(&live), &object(json!({"users": [{"name": "b"}], "tags": ["y"]})), options("you"), &shape).unwrap();
    assert_eq!(both["spec"]["users"], json!([{"name": "b"}, {"name": "a"}]));
    assert_eq!(both["spec"]["tags"], json!(["y", "x"]));
    let error =
        apply(Some(&both), &object(json!({"steps": ["2"], "whole": {"b": 1}})), options("you"), &shape).unwrap_err();
    assert!(matches!(&error, ApplyError::Conflicts(conflicts) if conflicts.len() == 2), "{error}");
}

#[test]
fn items_that_cannot_be_told_apart_are_refused() {
    let shape = Shape::builtin("", "Pod");
    let pod = |containers: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}});
    let twice = apply(None, &pod(json!([{"name": "a"}, {"name": "a"}])), options("me"), &shape).unwrap_err();
    assert!(twice.to_string().ends_with(r#".spec.containers: duplicate entries for key [name="a"]"#), "{twice}");
    let nameless = apply(None, &pod(json!([{"image": "a"}])), options("me"), &shape).unwrap_err();
    assert!(nameless.to_string().contains("omits key field"), "{nameless}");
    let mut managed = config_map(json!({}));
    managed["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    let refused = apply(None, &managed, options("me"), &shape).unwrap_err();
    assert_eq!(refused.to_string(), "metadata.managedFields must be nil");
}

#[test]
fn an_update_owns_what_it_changes_and_takes_it_from_others() {
    let live = apply(None, &config_map(json!({"a": "1", "b": "1"})), options("me"), &shape()).unwrap();
    let mut after = live.clone();
    after["data"] = json!({"a": "2", "c": "3"});
    track(Some(&live), &mut after, "edit", "v1", "", &shape());
    assert_eq!(owners(&after), [r#"edit Update: {"f:data":{"f:a":{},"f:c":{}}}"#]);
}

#[test]
fn an_update_without_change_changes_no_entry() {
    let mut live = created_by(config_map(json!({"a": "1"})), "x");
    live["metadata"]["managedFields"][0]["time"] = json!("2020-01-01T00:00:00Z");
    let mut after = live.clone();
    after["metadata"]["resourceVersion"] = json!("7");
    after["metadata"]["generation"] = json!(2);
    track(Some(&live), &mut after, "y", "v1", "", &shape());
    assert_eq!(after["metadata"]["managedFields"], live["metadata"]["managedFields"]);
}

#[test]
fn a_client_that_drops_managed_fields_does_not_erase_them_and_a_reset_does() {
    let live = created_by(config_map(json!({"a": "1"})), "x");
    let mut after = config_map(json!({"a": "1"}));
    track(Some(&live), &mut after, "y", "v1", "", &shape());
    assert_eq!(after["metadata"]["managedFields"], live["metadata"]["managedFields"]);
    let mut reset = live.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    track(Some(&live), &mut reset, "y", "v1", "", &shape());
    assert_eq!(reset["metadata"].get("managedFields"), None);
    let applied = apply(Some(&reset), &config_map(json!({"a": "2"})), options("me"), &shape()).unwrap_err();
    assert!(applied.to_string().contains(r#"conflict with "before-first-apply" using v1: .data.a"#), "{applied}");
}

#[test]
fn subresources_are_owners_of_their_own() {
    let live = created_by(config_map(json!({"a": "1"})), "x");
    let mut after = live.clone();
    after["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    track(Some(&live), &mut after, "x", "v1", "status", &shape());
    let entries = after["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().any(|entry| entry["subresource"] == "status"));
    let error = apply(
        Some(&after),
        &{
            let mut c = config_map(json!({}));
            c["status"] = json!({"conditions": []});
            c
        },
        options("me"),
        &shape(),
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains(r#"conflict with "x" with subresource "status" using v1: .status.conditions"#)
    );
}

#[test]
fn no_more_than_ten_update_managers_are_remembered() {
    let mut live = created_by(config_map(json!({"k": "0"})), "creator");
    for number in 0..30 {
        let mut after = live.clone();
        after["data"][format!("k{number}")] = json!("1");
        track(Some(&live), &mut after, &format!("manager-{number}"), "v1", "", &shape());
        live = after;
    }
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries.iter().filter(|entry| entry["manager"] == "ancient-changes").count(), 1);
    let all = entries.iter().map(|entry| entry["fieldsV1"].to_string()).collect::<String>();
    assert!((0..30).all(|number| all.contains(&format!("\"f:k{number}\""))), "no field lost its owner");
}

/// The steps of `kubectl apply --server-side` on an object that `kubectl apply` made: its first apply passes since
/// the annotation shows the fields to be the same person's, then a JSON patch hands the old entry over.
#[test]
fn client_side_apply_migrates_to_server_side_apply() {
    let config = config_map(json!({"a": "1", "b": "1"}));
    let mut made = config.clone();
    made["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": config.to_string()});
    let live = created_by(made, "kubectl-client-side-apply");
    let applied = apply(Some(&live), &config_map(json!({"a": "2", "b": "1"})), options("kubectl"), &shape()).unwrap();
    assert_eq!(applied["data"]["a"], "2");
    let annotation = applied["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str();
    assert_eq!(serde_json::from_str::<Value>(annotation.unwrap()).unwrap()["data"]["a"], "2");

    let mut entry = applied["metadata"]["managedFields"][0].clone();
    entry["fieldsV1"] = json!({"f:data": {"f:a": {}, "f:b": {}}});
    let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [entry]}]);
    let mut migrated = json(&applied, &patch).unwrap();
    track(Some(&applied), &mut migrated, "kubectl", "v1", "", &shape());
    assert_eq!(owners(&migrated), [r#"kubectl Apply: {"f:data":{"f:a":{},"f:b":{}}}"#]);
    let less = apply(Some(&migrated), &config_map(json!({"a": "2"})), options("kubectl"), &shape()).unwrap();
    assert_eq!(less["data"], json!({"a": "2"}));
}

/// Objects of few names, so that they overlap often.
fn pods() -> impl Strategy<Value = Value> {
    let text = || "[ab]";
    let map = || prop::collection::btree_map("[abc]", "[xy]", 0..3);
    let container = (text(), prop::option::of(text()), prop::collection::btree_map("[AB]", text(), 0..3)).prop_map(
        |(name, image, env)| {
            let env: Vec<Value> = env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            let mut container = json!({"name": name, "env": env});
            if let Some(image) = image {
                container["image"] = json!(image);
            }
            container
        },
    );
    let containers = prop::collection::btree_map(text(), container, 0..3).prop_map(|containers| {
        containers
            .into_iter()
            .map(|(name, mut container)| {
                container["name"] = json!(name);
                container
            })
            .collect::<Vec<_>>()
    });
    (
        prop::option::of(map()),
        prop::option::of(containers),
        prop::option::of(map()),
        prop::collection::btree_set("[ab]/[cd]", 0..3),
    )
        .prop_map(|(labels, containers, selector, finalizers)| {
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}});
            if let Some(labels) = labels {
                pod["metadata"]["labels"] = json!(labels);
            }
            if let Some(containers) = containers {
                pod["spec"]["containers"] = json!(containers);
            }
            if let Some(selector) = selector {
                pod["spec"]["nodeSelector"] = json!(selector);
            }
            if !finalizers.is_empty() {
                pod["metadata"]["finalizers"] = json!(finalizers);
            }
            pod
        })
}

fn without_owners(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object
}

fn bare() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(made in pods(), mine in pods()) {
        let shape = Shape::builtin("", "Pod");
        let mut live = made;
        track(None, &mut live, "creator", "v1", "", &shape);
        let forced = ApplyOptions { force: true, ..options("me") };
        let mut once = apply(Some(&live), &mine, forced, &shape).unwrap();
        for entry in once["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            entry["time"] = json!("2020-01-01T00:00:00Z");
        }
        prop_assert_eq!(&apply(Some(&once), &mine, options("me"), &shape).unwrap(), &once);
    }

    #[test]
    fn applying_nothing_takes_back_exactly_what_was_added(made in pods(), mine in pods()) {
        let shape = Shape::builtin("", "Pod");
        let mut live = made;
        track(None, &mut live, "creator", "v1", "", &shape);
        // Without force and conflict nothing of the creator's has changed, only additions were made.
        if let Ok(applied) = apply(Some(&live), &mine, options("me"), &shape) {
            let back = apply(Some(&applied), &bare(), options("me"), &shape).unwrap();
            prop_assert!(!owners(&back).iter().any(|owner| owner.starts_with("me ")));
            let sorted = |object: &Value| {
                let mut object = without_owners(object);
                for path in ["/spec/containers", "/metadata/finalizers"] {
                    if let Some(Value::Array(items)) = object.pointer_mut(path) { items.sort_by_key(Value::to_string); }
                }
                object
            };
            prop_assert_eq!(sorted(&back), sorted(&live));
        }
    }

    #[test]
    fn an_object_that_one_manager_made_alone_vanishes_with_an_empty_apply(mine in pods()) {
        let shape = Shape::builtin("", "Pod");
        let object = apply(None, &mine, options("me"), &shape).unwrap();
        prop_assert_eq!(without_owners(&object), mine);
        prop_assert_eq!(apply(Some(&object), &bare(), options("me"), &shape).unwrap(), bare());
    }

    #[test]
    fn tracking_keeps_one_owner_for_every_changed_field(made in pods(), changed in pods()) {
        let shape = Shape::builtin("", "Pod");
        let mut live = made;
        track(None, &mut live, "creator", "v1", "", &shape);
        let mut after = changed.clone();
        track(Some(&live), &mut after, "editor", "v1", "", &shape);
        prop_assert_eq!(without_owners(&after), changed);
        let mut again = after.clone();
        track(Some(&after), &mut again, "third", "v1", "", &shape);
        prop_assert_eq!(again, after);
    }
}
