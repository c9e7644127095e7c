//! How deep JSON may be nested. `serde_json` reads 127 levels, and what it can't read back is lost.

use serde_json::Value;

/// The most levels of an object: lists, watch events and admission reviews lie around it.
pub const MOST: usize = 120;

/// Whether a value has more than `most` levels of objects and lists. It is looked at no deeper than that.
pub fn exceeds(value: &Value, most: usize) -> bool {
    match value {
        Value::Array(items) => most == 0 || items.iter().any(|item| exceeds(item, most - 1)),
        Value::Object(fields) => most == 0 || fields.values().any(|field| exceeds(field, most - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_and_lists_are_levels_and_what_is_in_them_is_none() {
        for (value, levels) in [(json!(1), 0), (json!({}), 1), (json!([1]), 1), (json!([{"a": [[]]}, 1]), 4)] {
            assert!(!exceeds(&value, levels), "{value}");
            assert!(levels == 0 || exceeds(&value, levels - 1), "{value}");
        }
    }

    #[test]
    fn the_most_that_is_allowed_can_be_read() {
        let nested = (1..MOST).fold(json!({}), |inner, _| json!({"a": inner}));
        assert!(!exceeds(&nested, MOST) && exceeds(&json!([nested]), MOST));
        let list = json!({"items": [nested]}).to_string();
        assert!(serde_json::from_str::<Value>(&list).is_ok());
    }
}
