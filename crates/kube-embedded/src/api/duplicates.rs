//! Fields that a JSON object has twice. The last one counts, as for every decoder of Kubernetes, and strict validation
//! tells of the others (sigs.k8s.io/json, `UnmarshalStrict`).

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Paths of repeated fields, each once, in the order of the document. Nothing for a document that is not JSON.
pub fn find(json: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let walk = Walk { path: &mut String::new(), found: &mut found };
    // Whoever parses the document for its content tells what is wrong with it.
    let _ = serde_json::Deserializer::from_slice(json).deserialize_any(walk);
    found
}

/// Visits a value at a path.
struct Walk<'a> {
    path: &'a mut String,
    found: &'a mut Vec<String>,
}

impl Walk<'_> {
    /// A visit of the value at the present path.
    fn again(&mut self) -> Walk<'_> {
        Walk { path: self.path, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let length = self.path.len();
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            if !seen.insert(key) && !self.found.contains(self.path) {
                self.found.push(self.path.clone());
            }
            map.next_value_seed(self.again())?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let length = self.path.len();
        for index in 0.. {
            self.path.push_str(&format!("[{index}]"));
            let more = list.next_element_seed(self.again())?;
            self.path.truncate(length);
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_fields_are_named_by_their_paths() {
        for (document, expected) in [
            (r#"{"a": 1, "b": {"a": 1}, "c": [{"a": 1}, {"a": 2}]}"#, &[][..]),
            (r#"{"a": 1, "a": 2}"#, &["a"]),
            (r#"{"a": {"b": [0, {"c": null, "d": "x", "c": true, "c": 1.5}]}, "a": -1}"#, &["a.b[1].c", "a"]),
            ("[]", &[]),
            (r#"{"a": 1, "#, &[]),
            ("", &[]),
        ] {
            assert_eq!(find(document.as_bytes()), expected, "{document}");
        }
    }
}
