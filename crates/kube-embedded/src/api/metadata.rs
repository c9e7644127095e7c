//! Reading and setting an object's `metadata`.

use serde_json::{Map, Value};

/// The text of a metadata field, or `""`.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata` as a map, made where it is missing or not one.
pub fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object"),
    }
}

/// Sets a metadata field, or removes it.
pub fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let metadata = of(object);
    match value {
        Some(value) => drop(metadata.insert(field.to_owned(), value)),
        None => drop(metadata.remove(field)),
    }
}

/// Removes lists and maps that are empty: Kubernetes leaves them out (apimachinery `ObjectMeta`, `omitempty`). An empty
/// `managedFields` asks for something.
pub fn drop_empty(object: &mut Value) {
    let is_empty =
        |value: &Value| value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    of(object).retain(|field, value| field == "managedFields" || !is_empty(value));
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Now, as `metav1.Time` writes it: RFC 3339 in whole seconds.
pub fn now() -> String {
    time(jiff::Timestamp::now())
}

/// A time as `metav1.Time` writes it.
pub fn time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
