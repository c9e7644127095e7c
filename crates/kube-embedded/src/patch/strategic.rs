//! Strategic merge patches (`k8s.io/apimachinery/pkg/util/strategicpatch`; the directives are described in
//! `contributors/devel/sig-api-machinery/strategic-merge-patch.md` of kubernetes/community).

use serde_json::{Map, Value};

use super::shape::{Shape, Strategy};
use crate::status::Status;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch: a merge patch whose lists merge as the kind's shape says.
///
/// # Errors
/// 400 for a patch that is not an object or whose directives make no sense.
pub fn strategic(current: &Value, patch: &Value, shape: &Shape) -> Result<Value, Status> {
    let (Some(current), Some(patch)) = (current.as_object(), patch.as_object()) else {
        return Err(Status::bad_request("error decoding patch: a strategic merge patch must be a JSON object"));
    };
    Ok(Value::Object(merge_map(current.clone(), patch, shape)?))
}

fn merge_map(
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
    shape: &Shape,
) -> Result<Map<String, Value>, Status> {
    match patch.get(PATCH).map(|directive| directive.as_str()) {
        Some(Some("delete")) => return Ok(Map::new()),
        Some(Some("replace")) => {
            return Ok(patch.iter().filter(|(name, _)| *name != PATCH).map(|(k, v)| (k.clone(), v.clone())).collect());
        }
        Some(Some("merge")) | None => {}
        Some(other) => return Err(unknown_directive(other.unwrap_or_default())),
    }
    retain_keys(&mut original, patch)?;
    for (name, values) in directives(patch, DELETE_PRIMITIVES)? {
        if let Some(list) = original.get_mut(name).and_then(Value::as_array_mut) {
            list.retain(|item| !values.contains(item));
        }
    }
    let orders = directives(patch, ELEMENT_ORDER)?;
    let order_of = |name: &str| orders.iter().find(|(list, _)| *list == name).map(|(_, order)| *order);
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        if value.is_null() {
            original.remove(name);
            continue;
        }
        let merged = merge_value(original.remove(name), value, &shape.field(name), order_of(name))?;
        original.insert(name.clone(), merged);
    }
    // An order may come without changes to the list itself.
    for (name, order) in orders.iter().filter(|(name, _)| !patch.contains_key(*name)) {
        let strategy = shape.field(name).as_list().and_then(|list| list.strategy.clone());
        if let (Some(strategy), Some(Value::Array(list))) = (strategy, original.get_mut(*name)) {
            let before = list.clone();
            *list = in_order(std::mem::take(list), order, &before, &strategy);
        }
    }
    Ok(original)
}

/// Merges one value. Into nothing, too: directives in it must not be stored.
fn merge_value(
    original: Option<Value>,
    patch: &Value,
    shape: &Shape,
    order: Option<&Vec<Value>>,
) -> Result<Value, Status> {
    match (original, patch) {
        (Some(Value::Object(original)), Value::Object(patch)) => Ok(Value::Object(merge_map(original, patch, shape)?)),
        (_, Value::Object(patch)) => Ok(Value::Object(merge_map(Map::new(), patch, shape)?)),
        (original, Value::Array(patch)) => {
            let strategy = shape.as_list().and_then(|list| Some((list.strategy.as_ref()?, &list.item)));
            let Some((strategy, item)) = strategy else { return Ok(Value::Array(patch.clone())) };
            let original = match original {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let merged = match strategy {
                Strategy::Values => merge_values(original.clone(), patch),
                Strategy::Key(key) => merge_items(original.clone(), patch, key, item)?,
            };
            Ok(Value::Array(match order {
                Some(order) => in_order(merged, order, &original, strategy),
                None => merged,
            }))
        }
        _ => Ok(patch.clone()),
    }
}

fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), Status> {
    let Some(directive) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let Some(keys) = directive.as_array() else {
        return Err(Status::bad_request("invalid patch format of $retainKeys: it must be a list"));
    };
    let retained = |name: &String| keys.iter().any(|key| key.as_str() == Some(name));
    if let Some(stray) =
        patch.iter().find(|(name, value)| !name.starts_with('$') && !value.is_null() && !retained(name))
    {
        return Err(Status::bad_request(format!("the key {:?} of the patch is not in its $retainKeys", stray.0)));
    }
    original.retain(|name, _| retained(name));
    Ok(())
}

/// The directives that start with `prefix`, by the list they are about.
fn directives<'a>(patch: &'a Map<String, Value>, prefix: &str) -> Result<Vec<(&'a str, &'a Vec<Value>)>, Status> {
    let named = patch.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)));
    named
        .map(|(name, value)| {
            let list = value.as_array();
            list.map(|list| (name, list)).ok_or_else(|| {
                Status::bad_request(format!("invalid patch format of {prefix}{name}: it must be a list"))
            })
        })
        .collect()
}

fn merge_values(mut merged: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    for item in patch {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    merged
}

fn merge_items(mut merged: Vec<Value>, patch: &[Value], key: &str, item_shape: &Shape) -> Result<Vec<Value>, Status> {
    let replaces = |item: &Value| item.get(PATCH).and_then(Value::as_str) == Some("replace");
    if patch.iter().any(replaces) {
        merged.clear();
    }
    for item in patch {
        let Some(object) = item.as_object() else {
            return Err(Status::bad_request(format!("the items of a list merged by {key:?} must be objects")));
        };
        let directive = object.get(PATCH).map(|directive| directive.as_str().unwrap_or_default());
        if directive == Some("replace") && object.len() == 1 {
            continue;
        }
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else {
            return Err(Status::bad_request(format!("map: {item} does not contain declared merge key: {key}")));
        };
        let at = merged.iter().position(|existing| existing.get(key) == Some(value));
        match directive {
            Some("delete") => merged.retain(|existing| existing.get(key) != Some(value)),
            Some("merge" | "replace") | None => {
                let original = match at {
                    Some(at) => std::mem::take(&mut merged[at]),
                    None => Value::Null,
                };
                let mut object = object.clone();
                object.remove(PATCH);
                let value = merge_value(Some(original), &Value::Object(object), item_shape, None)?;
                match at {
                    Some(at) => merged[at] = value,
                    None => merged.push(value),
                }
            }
            Some(other) => return Err(unknown_directive(other)),
        }
    }
    Ok(merged)
}

/// Items named by the patch in its order; the server's own keep their place relative to those that were there before.
fn in_order(items: Vec<Value>, order: &[Value], before: &[Value], strategy: &Strategy) -> Vec<Value> {
    let same = |a: &Value, b: &Value| match strategy {
        Strategy::Values => a == b,
        Strategy::Key(key) => a.get(key).is_some() && a.get(key) == b.get(key),
    };
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item));
    let (mut named, own): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    let mut merged = Vec::with_capacity(named.len() + own.len());
    let mut named = named.into_iter().peekable();
    for item in own {
        let stays_first = |next: &Value| match (place(before, &item), place(before, next)) {
            (Some(own), Some(next)) => own < next,
            _ => false,
        };
        while let Some(next) = named.next_if(|next| !stays_first(next)) {
            merged.push(next);
        }
        merged.push(item);
    }
    merged.extend(named);
    merged
}

fn unknown_directive(directive: &str) -> Status {
    Status::bad_request(format!("Unknown patch type found in the patch: {directive:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(current: Value, patch: Value) -> Value {
        strategic(&current, &patch, &Shape::builtin("apps", "Deployment")).unwrap()
    }

    fn template(spec: Value) -> Value {
        json!({"spec": {"template": {"spec": spec}}})
    }

    #[test]
    fn containers_merge_by_name_and_tolerations_are_replaced() {
        let current = template(json!({"containers": [{"name": "a", "image": "nginx"}], "tolerations": [{"key": "x"}]}));
        let patch = template(json!({"containers": [{"name": "b", "image": "redis"}], "tolerations": [{"key": "y"}]}));
        let expected = template(json!({
            "containers": [{"name": "a", "image": "nginx"}, {"name": "b", "image": "redis"}], "tolerations": [{"key": "y"}],
        }));
        assert_eq!(patched(current, patch), expected);
    }

    #[test]
    fn retain_keys_drops_the_alternatives_of_a_union() {
        let current = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        assert_eq!(patched(current.clone(), patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
        let stray = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
        assert_eq!(strategic(&current, &stray, &Shape::builtin("apps", "Deployment")).unwrap_err().code(), 400);
    }

    #[test]
    fn items_can_be_deleted_and_lists_replaced() {
        let current =
            template(json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}));
        let delete = template(
            json!({"containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "env": [{"name": "X", "$patch": "delete"}]}]}),
        );
        assert_eq!(patched(current.clone(), delete), template(json!({"containers": [{"name": "a", "env": []}]})));
        let replace = template(json!({"containers": [{"name": "c"}, {"$patch": "replace"}]}));
        assert_eq!(patched(current, replace), template(json!({"containers": [{"name": "c"}]})));
    }

    #[test]
    fn maps_can_be_deleted_and_replaced() {
        let current = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        let replace = json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}});
        assert_eq!(patched(current.clone(), replace), json!({"metadata": {"labels": {"c": "3"}}}));
        assert_eq!(patched(current.clone(), json!({"metadata": {"$patch": "delete"}})), json!({"metadata": {}}));
        let unknown = json!({"metadata": {"$patch": "frobnicate"}});
        assert_eq!(strategic(&current, &unknown, &Shape::default()).unwrap_err().code(), 400);
    }

    #[test]
    fn directives_in_something_new_are_not_stored() {
        let patch = template(
            json!({"volumes": [{"$retainKeys": ["name", "emptyDir"], "name": "v", "emptyDir": {}, "hostPath": null}]}),
        );
        assert_eq!(patched(json!({}), patch), template(json!({"volumes": [{"name": "v", "emptyDir": {}}]})));
        let delete = template(json!({"containers": [{"name": "x", "$patch": "delete"}]}));
        assert_eq!(patched(json!({}), delete), template(json!({"containers": []})));
    }

    #[test]
    fn the_order_of_a_list_can_be_set() {
        let current =
            template(json!({"containers": [{"name": "a"}, {"name": "sidecar"}, {"name": "b"}, {"name": "c"}]}));
        let patch = template(json!({
            "$setElementOrder/containers": [{"name": "c"}, {"name": "new"}, {"name": "a"}, {"name": "b"}],
            "containers": [{"name": "new"}],
        }));
        let names = |value: &Value| {
            let list = value.pointer("/spec/template/spec/containers").and_then(Value::as_array).cloned().unwrap();
            list.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&patched(current.clone(), patch)), ["sidecar", "c", "new", "a", "b"]);
        let only_order =
            template(json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "c"}]}));
        assert_eq!(names(&patched(current, only_order)), ["sidecar", "b", "a", "c"]);
    }

    #[test]
    fn plain_values_merge_and_can_be_deleted() {
        let current = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c", "b"]}});
        assert_eq!(patched(current.clone(), patch), json!({"metadata": {"finalizers": ["b", "c"]}}));
        let ordered = json!({"metadata": {"$setElementOrder/finalizers": ["c", "a", "b"], "finalizers": ["c"]}});
        assert_eq!(patched(current, ordered), json!({"metadata": {"finalizers": ["c", "a", "b"]}}));
    }

    #[test]
    fn service_ports_merge_by_port() {
        let current = json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}});
        let patch = json!({"spec": {"ports": [{"port": 80, "name": "web"}, {"port": 443}]}});
        let merged = strategic(&current, &patch, &Shape::builtin("", "Service")).unwrap();
        assert_eq!(
            merged,
            json!({"spec": {"ports": [{"port": 80, "targetPort": 8080, "name": "web"}, {"port": 443}]}})
        );
    }

    #[test]
    fn an_item_without_its_key_is_refused() {
        let patch = template(json!({"containers": [{"image": "x"}]}));
        let status = strategic(&json!({}), &patch, &Shape::builtin("apps", "Deployment")).unwrap_err();
        assert_eq!(status.to_string(), "map: {\"image\":\"x\"} does not contain declared merge key: name");
    }
}
