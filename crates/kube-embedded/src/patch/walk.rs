//! Walks through objects along their shape: which fields a value has, how two differ, how an applied configuration is
//! laid over an object, and what is taken away with it (structured-merge-diff's `typed` and `merge` packages).

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::fields::{self, Fields};
use super::shape::{List, ListType, Shape};

/// How an object differs from an earlier one.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Places that are new or have another value.
    pub(super) changed: Fields,
    /// Places that are gone.
    pub(super) removed: Fields,
}

/// The fields that `value` sets: what a manager who applies it owns.
pub(super) fn fields_of(value: &Value, shape: &Shape) -> Fields {
    let mut set = Fields::default();
    collect(value, shape, &mut set);
    set
}

fn collect(value: &Value, shape: &Shape, set: &mut Fields) {
    match value {
        Value::Object(object) if !shape.is_leaf(value) => {
            for (name, member) in object {
                let below = set.entry(fields::field(name));
                collect(member, &shape.field(name), below);
                let empty = member.is_null() || member.as_object().is_some_and(Map::is_empty);
                below.member |= empty || shape.is_free_key(name);
            }
        }
        Value::Array(items) => match keyed(items, shape) {
            Some((list, elements)) => {
                // An empty list says something, as an empty map does.
                set.member |= items.is_empty();
                for (element, item) in elements.iter().zip(items) {
                    let below = set.entry(element.as_str());
                    collect(item, &list.item, below);
                    below.member = true;
                }
            }
            None => set.member = true,
        },
        _ => set.member = true,
    }
}

/// How `after` differs from `before`.
pub(super) fn compare(before: &Value, after: &Value, shape: &Shape) -> Comparison {
    let mut comparison = Comparison::default();
    differ(before, after, shape, &mut comparison.changed, &mut comparison.removed);
    comparison
}

fn differ(before: &Value, after: &Value, shape: &Shape, changed: &mut Fields, removed: &mut Fields) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) if !shape.is_leaf(after) => {
            for (name, member) in new {
                let element = fields::field(name);
                match old.get(name) {
                    Some(earlier) => {
                        let (changed, removed) = (changed.entry(element.as_str()), removed.entry(element.as_str()));
                        differ(earlier, member, &shape.field(name), changed, removed);
                    }
                    None => everything(member, &shape.field(name), changed.entry(element)),
                }
            }
            for (name, member) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                everything(member, &shape.field(name), removed.entry(fields::field(name)));
            }
        }
        (Value::Array(old), Value::Array(new)) => match (keyed(old, shape), keyed(new, shape)) {
            (Some((list, old_elements)), Some((_, new_elements))) => {
                let earlier: HashMap<&String, &Value> = old_elements.iter().zip(old).collect();
                for (element, item) in new_elements.iter().zip(new) {
                    match earlier.get(element) {
                        Some(before) => {
                            let (changed, removed) = (changed.entry(element.as_str()), removed.entry(element.as_str()));
                            differ(before, item, &list.item, changed, removed);
                        }
                        None => everything(item, &list.item, changed.entry(element.as_str())),
                    }
                }
                for (element, item) in
                    old_elements.iter().zip(old).filter(|(element, _)| !new_elements.contains(element))
                {
                    everything(item, &list.item, removed.entry(element.as_str()));
                }
            }
            _ => changed.member |= old != new,
        },
        _ if before == after => {}
        _ => {
            // Another type of value: what was below is gone, what is below is new.
            everything(before, shape, removed);
            removed.member = false;
            everything(after, shape, changed);
        }
    }
}

/// `value` and every place in it.
fn everything(value: &Value, shape: &Shape, set: &mut Fields) {
    set.member = true;
    match value {
        Value::Object(object) if !shape.is_leaf(value) => {
            for (name, member) in object {
                everything(member, &shape.field(name), set.entry(fields::field(name)));
            }
        }
        Value::Array(items) => {
            if let Some((list, elements)) = keyed(items, shape) {
                for (element, item) in elements.iter().zip(items) {
                    everything(item, &list.item, set.entry(element.as_str()));
                }
            }
        }
        _ => {}
    }
}

/// Lays `applied` over `live`: maps merge, list items merge by key, everything else is replaced; a null removes.
pub(super) fn overlay(live: Option<&Value>, applied: &Value, shape: &Shape) -> Value {
    match (live, applied) {
        (live, Value::Object(new)) if !shape.is_leaf(applied) => {
            let mut merged = live.and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, member) in new {
                if member.is_null() {
                    merged.remove(name);
                } else {
                    let value = overlay(merged.get(name), member, &shape.field(name));
                    merged.insert(name.clone(), value);
                }
            }
            Value::Object(merged)
        }
        (Some(Value::Array(old)), Value::Array(new)) => match (keyed(old, shape), keyed(new, shape)) {
            (Some((list, old_elements)), Some((_, new_elements))) => {
                overlay_list(old.iter().zip(&old_elements), new.iter().zip(&new_elements), &list.item)
            }
            _ => applied.clone(),
        },
        (None, Value::Array(new)) => match keyed(new, shape) {
            Some((list, _)) => Value::Array(new.iter().map(|item| overlay(None, item, &list.item)).collect()),
            None => applied.clone(),
        },
        _ => applied.clone(),
    }
}

/// The applied items in their order; items that only the live list has stay before the item they preceded.
fn overlay_list<'a>(
    old: impl Iterator<Item = (&'a Value, &'a String)>,
    new: impl Iterator<Item = (&'a Value, &'a String)> + Clone,
    item_shape: &Shape,
) -> Value {
    let old: Vec<_> = old.collect();
    let applied: Vec<&String> = new.clone().map(|(_, element)| element).collect();
    let mut rest = old.iter().filter(|(_, element)| !applied.contains(element)).peekable();
    let position = |wanted: &String| old.iter().position(|(_, element)| *element == wanted);
    let mut merged = Vec::new();
    for (item, element) in new {
        let Some(at) = position(element) else {
            merged.push(overlay(None, item, item_shape));
            continue;
        };
        while let Some((own, _)) = rest.next_if(|(_, element)| position(element).is_some_and(|own| own < at)) {
            merged.push((*own).clone());
        }
        merged.push(overlay(Some(old[at].0), item, item_shape));
    }
    merged.extend(rest.map(|(item, _)| (*item).clone()));
    Value::Array(merged)
}

/// Takes out of `value` what is in `last` (what a manager applied before) and in nobody's `managed` set now. A list or
/// map that becomes empty goes with it, unless somebody owns it as such.
pub(super) fn prune(value: &mut Value, last: &Fields, managed: &Fields, shape: &Shape) {
    if shape.is_leaf(value) {
        return;
    }
    let keep = |element: &str, shape: &Shape, child: &mut Value| {
        let nothing = Fields::default();
        let (before, now) = match (last.below(element), managed.below(element)) {
            (None, _) => return true,
            // Nobody owns anything in there any more. What the server added to it goes along.
            (Some(before), None) if before.member || element.starts_with("f:") => return false,
            (Some(before), now) => (before, now.unwrap_or(&nothing)),
        };
        let was_empty = is_empty_container(child);
        prune(child, before, now, shape);
        now.member || was_empty || !is_empty_container(child)
    };
    match value {
        Value::Object(object) => {
            object.retain(|name, child| keep(&fields::field(name), &shape.field(name), child));
        }
        Value::Array(items) => {
            let Some((list, elements)) = keyed(items, shape) else { return };
            let mut elements = elements.into_iter();
            items.retain_mut(|child| elements.next().is_none_or(|element| keep(&element, &list.item, child)));
        }
        _ => {}
    }
}

fn is_empty_container(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The items' path elements, where the list has owners per item and each item is told apart.
fn keyed<'a>(items: &[Value], shape: &'a Shape) -> Option<(&'a List, Vec<String>)> {
    let list = shape.as_list()?;
    let elements = elements(items, &list.ownership).ok()?;
    Some((list, elements))
}

/// The path elements of a list's items.
///
/// # Errors
/// Why the items can't be told apart, in the words of structured-merge-diff.
fn elements(items: &[Value], ownership: &ListType) -> Result<Vec<String>, String> {
    let elements: Vec<String> =
        items.iter().enumerate().map(|(index, item)| element(index, item, ownership)).collect::<Result<_, _>>()?;
    let mut sorted: Vec<&String> = elements.iter().collect();
    sorted.sort();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        let mut path = Fields::default();
        path.entry(pair[0].as_str()).member = true;
        return Err(format!("duplicate entries for key {}", path.paths().concat()));
    }
    Ok(elements)
}

fn element(index: usize, item: &Value, ownership: &ListType) -> Result<String, String> {
    let keys = match ownership {
        ListType::Map(keys) => keys,
        ListType::Set if item.is_object() || item.is_array() => {
            return Err(format!("element {index}: only scalars are allowed in a set"));
        }
        ListType::Set => return Ok(fields::value(item)),
        ListType::Atomic => return Err("the list is atomic".to_owned()),
    };
    let object = item
        .as_object()
        .ok_or_else(|| format!("element {index}: associative list with keys may not have non-map elements"))?;
    // One key of several may be left out (structured-merge-diff 4.4).
    let found: BTreeMap<&str, &Value> = keys
        .iter()
        .filter_map(|key| {
            let value = object.get(&key.name).filter(|value| !value.is_null()).or(key.default.as_ref())?;
            Some((key.name.as_str(), value))
        })
        .collect();
    if found.is_empty() {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        return Err(format!(
            "element {index}: associative list with keys has an element that omits key field {:?} (and doesn't have default value)",
            names.join(", ")
        ));
    }
    Ok(fields::key(&found))
}

/// The first list in `value` whose items can't be told apart, with its path.
pub(super) fn ambiguous(value: &Value, shape: &Shape, path: &str) -> Option<String> {
    if shape.is_leaf(value) {
        return None;
    }
    match value {
        Value::Object(object) => {
            object.iter().find_map(|(name, member)| ambiguous(member, &shape.field(name), &format!("{path}.{name}")))
        }
        Value::Array(items) => {
            let list = shape.as_list()?;
            match elements(items, &list.ownership) {
                Err(why) => Some(format!("{path}: {why}")),
                Ok(_) => items
                    .iter()
                    .enumerate()
                    .find_map(|(index, item)| ambiguous(item, &list.item, &format!("{path}[{index}]"))),
            }
        }
        _ => None,
    }
}
