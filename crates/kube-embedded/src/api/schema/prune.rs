//! Pruning: what a schema does not mention goes, unless the schema says that unknown fields stay.

use serde_json::Value;

use super::{is, is_common};

/// Prunes a whole object; its type and metadata are not the schema's business.
pub fn root(schema: &Value, object: &mut Value, removed: &mut Vec<String>) {
    prune(schema, object, true, &mut String::new(), removed);
}

fn prune(schema: &Value, value: &mut Value, embedded: bool, path: &mut String, removed: &mut Vec<String>) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            let rest = &schema["additionalProperties"];
            let preserve = is(schema, "x-kubernetes-preserve-unknown-fields");
            let keys: Vec<String> = fields.keys().cloned().collect();
            for key in keys {
                if embedded && is_common(&key) {
                    continue;
                }
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&key);
                let inner = properties.and_then(|properties| properties.get(&key));
                match (inner, rest) {
                    (Some(inner), _) => descend(inner, &mut fields[&key], path, removed),
                    (None, Value::Object(_)) => descend(rest, &mut fields[&key], path, removed),
                    (None, Value::Bool(true)) => {}
                    _ if preserve => {}
                    _ => {
                        fields.remove(&key);
                        removed.push(path.clone());
                    }
                }
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                descend(&schema["items"], item, path, removed);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn descend(schema: &Value, value: &mut Value, path: &mut String, removed: &mut Vec<String>) {
    prune(schema, value, is(schema, "x-kubernetes-embedded-resource"), path, removed);
}
