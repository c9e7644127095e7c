//! Ratcheting (KEP-4008): an update is not refused for what it leaves as it was, so that an object that is older than its
//! schema can still be changed. What stood at a place before is known by the names of fields, and in lists of the type
//! `map` by the keys of the items; any other list, and a map of the type `atomic`, is one value.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// What the field had before, of an object that was `old`.
pub fn field<'a>(schema: &Value, old: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    old?.get(name).filter(|_| schema["x-kubernetes-map-type"] != "atomic")
}

/// What had which keys before, of a list that was `old`; nothing where the list is not of the type `map`.
pub fn before<'a>(schema: &Value, old: Option<&'a Value>) -> HashMap<Value, &'a Value> {
    let mut found = HashMap::new();
    if has_keys(schema) {
        for item in old.and_then(Value::as_array).into_iter().flatten() {
            found.entry(keys(schema, item)).or_insert(item);
        }
    }
    found
}

/// Whether a list is of the type `map`.
pub fn has_keys(schema: &Value) -> bool {
    schema["x-kubernetes-list-type"] == "map"
}

/// The keys of an item of a list of the type `map`, with their defaults.
pub fn keys(schema: &Value, item: &Value) -> Value {
    let names = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    let keys = names.filter_map(Value::as_str).map(|name| {
        let default = &schema["items"]["properties"][name]["default"];
        (name.to_owned(), item.get(name).unwrap_or(default).clone())
    });
    Value::Object(keys.filter(|(_, value)| !value.is_null()).collect())
}

/// Whether nothing of an object differs that its schema speaks about.
pub fn is_same_object(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return false };
    let covered = |fields: &Map<String, Value>| fields.keys().filter(|name| !super::is_common(name)).count();
    let same = |(name, value): (&String, &Value)| super::is_common(name) || old.get(name) == Some(value);
    covered(new) == covered(old) && new.iter().all(same)
}

/// Whether a rule that an object breaks at `path` speaks only of what is as it was. `path` may lead further than to the
/// place of the rule, which can point at a field below it.
pub fn spares(schema: &Value, new: &Value, old: &Value, path: &str, rule: &str) -> bool {
    if is_same_object(new, old) {
        return true;
    }
    let (mut schema, mut new, mut old) = (schema, new, Some(old));
    let mut parts = path.split(['.', '[']).filter(|part| !part.is_empty());
    while !declares(schema, rule) {
        let Some(part) = parts.next() else { return false };
        let next = match (new, part.strip_suffix(']')) {
            // A name with a dot in it would make the path ambiguous.
            (Value::Object(fields), None) if !fields.keys().any(|name| name.contains(['.', '['])) => {
                let inner = schema["properties"].get(part).unwrap_or(&schema["additionalProperties"]);
                fields.get(part).map(|value| (inner, value, field(schema, old, part)))
            }
            (Value::Array(items), Some(index)) => {
                let value = index.parse::<usize>().ok().and_then(|index| items.get(index));
                value.map(|value| (&schema["items"], value, before(schema, old).get(&keys(schema, value)).copied()))
            }
            _ => None,
        };
        let Some(next) = next else { return false };
        (schema, new, old) = next;
        if old == Some(new) {
            return true;
        }
    }
    false
}

fn declares(schema: &Value, rule: &str) -> bool {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten().any(|one| one["rule"] == rule)
}
