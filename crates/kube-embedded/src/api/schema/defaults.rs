//! Defaults: a missing field with a default gets it, and so does a null where null is not allowed. A default is
//! filled into objects that exist, never to make one.

use serde_json::Value;

/// Fills in the defaults of `schema`.
pub fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = missing(property, fields.get(key)) {
                    fields.insert(key.clone(), default.clone());
                }
            }
            for (key, value) in fields.iter_mut() {
                match schema["properties"].get(key) {
                    Some(property) => fill(property, value),
                    None => fill(&schema["additionalProperties"], value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(&schema["items"], item)),
        _ => {}
    }
}

/// Whether [`fill`] would fill in anything.
pub fn lacks_any(schema: &Value, value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            let mut properties = schema["properties"].as_object().into_iter().flatten();
            properties.any(|(key, property)| missing(property, fields.get(key)).is_some())
                || fields.iter().any(|(key, value)| {
                    lacks_any(schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]), value)
                })
        }
        Value::Array(items) => items.iter().any(|item| lacks_any(&schema["items"], item)),
        _ => false,
    }
}

/// The default that a field does not have yet.
fn missing<'a>(property: &'a Value, field: Option<&Value>) -> Option<&'a Value> {
    let is_missing = match field {
        None => true,
        Some(Value::Null) => property["nullable"] != true,
        Some(_) => false,
    };
    property.get("default").filter(|_| is_missing)
}

/// Drops members that are null where the schema knows them and allows no null; with a default they have it by now
/// (`PruneNonNullableNullsWithoutDefaults`). Items of lists stay, and so does what the schema does not know.
pub fn drop_nulls(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => fields.retain(|key, field| {
            let property = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
            let is_nothing = field.is_null() && property.is_object() && property["nullable"] != true;
            if !is_nothing {
                drop_nulls(property, field);
            }
            !is_nothing
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| drop_nulls(&schema["items"], item)),
        _ => {}
    }
}
