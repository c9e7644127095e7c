//! Validation by a schema, with the wording that kube-apiserver's validator
//! (`k8s.io/kube-openapi/pkg/validation`) and `apiextensions-apiserver/pkg/apiserver/validation` give it.

use std::collections::{HashMap, HashSet};

use regex::Regex;
use serde_json::Value;

use super::{is, is_common, kind_of, ratchet};
use crate::status::Cause;

/// One run over one object.
pub struct Validation<'a> {
    patterns: &'a HashMap<String, Option<Regex>>,
    causes: Vec<Cause>,
}

impl<'a> Validation<'a> {
    pub fn new(patterns: &'a HashMap<String, Option<Regex>>) -> Self {
        Self { patterns, causes: Vec::new() }
    }

    /// Everything that is wrong with `object`, but for what was so in `old`, too.
    pub fn run(mut self, schema: &Value, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        if old.is_none_or(|old| !ratchet::is_same_object(object, old)) {
            self.object(schema, object, old, "", true);
        }
        if sabotage::sabotaged!("schemas-are-not-checked") {
            self.causes.clear();
        }
        self.causes
    }

    fn add(&mut self, reason: &'static str, path: &str, message: String) {
        let field = if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() };
        self.causes.push(Cause { reason, field, message });
    }

    /// `Invalid value: <value>: <path> in body <what>`.
    fn invalid(&mut self, path: &str, value: &Value, what: &str) {
        self.add("FieldValueInvalid", path, format!("Invalid value: {}: {path} in body {what}", plain(value)));
    }

    fn value(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str) {
        if old == Some(value) || !self.has_type(schema, value, path) {
            return;
        }
        self.alternatives(schema, value, old, path);
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            let list: Vec<String> = allowed.iter().map(quoted).collect();
            let message = format!("Unsupported value: {}: supported values: {}", plain(value), list.join(", "));
            self.add("FieldValueNotSupported", path, message);
        }
        match value {
            Value::Object(_) => self.object(schema, value, old, path, false),
            Value::Array(items) => self.array(schema, items, old, path),
            Value::String(text) => self.string(schema, text, path),
            Value::Number(_) => self.number(schema, value, path),
            Value::Bool(_) | Value::Null => {}
        }
    }

    fn has_type(&mut self, schema: &Value, value: &Value, path: &str) -> bool {
        let int_or_string = is(schema, "x-kubernetes-int-or-string");
        let wanted = schema["type"].as_str().unwrap_or_default();
        let fits = match (wanted, value) {
            (_, Value::Null) if schema["nullable"] == true => true,
            _ if int_or_string => whole(value) || value.is_string(),
            ("", Value::Null) => schema.as_object().is_none_or(serde_json::Map::is_empty),
            ("", _) => true,
            ("integer", value) => whole(value),
            ("number", value) => value.is_number(),
            (wanted, value) => wanted == kind_of(value),
        };
        if !fits {
            let wanted = if int_or_string { "integer,string" } else { wanted };
            let kind = kind_of(value);
            let message = format!("Invalid value: \"{kind}\": {path} in body must be of type {wanted}: \"{kind}\"");
            self.add("FieldValueTypeInvalid", path, message);
        }
        fits && !value.is_null()
    }

    /// `allOf`, `anyOf`, `oneOf` and `not`, which only judge and never have a shape of their own.
    fn alternatives(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str) {
        for part in list(schema, "allOf") {
            self.value(part, value, old, path);
        }
        let fits = |part: &&Value| {
            let mut trial = Validation::new(self.patterns);
            trial.value(part, value, None, path);
            trial.causes.is_empty()
        };
        let any = list(schema, "anyOf");
        if !any.is_empty() && !any.iter().any(fits) {
            self.invalid(path, value, "must validate at least one schema (anyOf)");
        }
        let one = list(schema, "oneOf");
        let fits = |part: &&&Value| {
            let mut trial = Validation::new(self.patterns);
            trial.value(part, value, None, path);
            trial.causes.is_empty()
        };
        if !one.is_empty() && one.iter().collect::<Vec<_>>().iter().filter(|part| fits(part)).count() != 1 {
            self.invalid(path, value, "must validate one and only one schema (oneOf)");
        }
        if let Some(not) = schema.get("not").filter(|not| not.is_object()) {
            let mut trial = Validation::new(self.patterns);
            trial.value(not, value, None, path);
            if trial.causes.is_empty() {
                self.invalid(path, value, "must not validate the schema (not)");
            }
        }
    }

    fn object(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str, root: bool) {
        let Some(fields) = value.as_object() else { return };
        let embedded = root || is(schema, "x-kubernetes-embedded-resource");
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.add("FieldValueRequired", &join(path, name), "Required value".to_owned());
            }
        }
        for (key, inner) in fields {
            // Type and metadata of an object are checked as those of every object.
            if embedded && is_common(key) {
                continue;
            }
            let before = ratchet::field(schema, old, key);
            match (schema["properties"].get(key), &schema["additionalProperties"]) {
                (Some(property), _) => self.value(property, inner, before, &join(path, key)),
                (None, rest @ Value::Object(_)) => self.value(rest, inner, before, &join(path, key)),
                _ => {}
            }
        }
        if let Some(most) = schema["maxProperties"].as_u64().filter(|most| fields.len() as u64 > *most) {
            let message = format!("Too many: {}: must have at most {most} items", fields.len());
            self.add("FieldValueTooMany", path, message);
        }
        if let Some(least) = schema["minProperties"].as_u64().filter(|least| (fields.len() as u64) < *least) {
            self.invalid(path, &fields.len().into(), &format!("should have at least {least} properties"));
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], old: Option<&Value>, path: &str) {
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
            let message = format!("Too many: {}: must have at most {most} items", items.len());
            self.add("FieldValueTooMany", path, message);
        }
        if let Some(least) = schema["minItems"].as_u64().filter(|least| (items.len() as u64) < *least) {
            self.invalid(path, &items.len().into(), &format!("should have at least {least} items"));
        }
        let keyed = items.iter().filter(|_| ratchet::has_keys(schema));
        let keys: Vec<Value> = keyed.map(|item| ratchet::keys(schema, item)).collect();
        let before = ratchet::before(schema, old);
        for (index, item) in items.iter().enumerate() {
            let old = keys.get(index).and_then(|key| before.get(key)).copied();
            self.value(&schema["items"], item, old, &format!("{path}[{index}]"));
        }
        let distinct = match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => keys.as_slice(),
            Some("set") => items,
            _ if is(schema, "uniqueItems") => items,
            _ => &[],
        };
        let mut seen = HashSet::new();
        for (index, one) in distinct.iter().enumerate().filter(|(_, one)| !seen.insert(*one)) {
            let message = format!("Duplicate value: {}", plain(one));
            self.add("FieldValueDuplicate", &format!("{path}[{index}]"), message);
        }
    }

    fn string(&mut self, schema: &Value, text: &str, path: &str) {
        let value = Value::String(text.to_owned());
        let length = text.chars().count() as u64;
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
            self.add("FieldValueTooLong", path, format!("Too long: may not be more than {most} bytes"));
        }
        if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
            self.invalid(path, &value, &format!("should be at least {least} chars long"));
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && let Some(Some(regex)) = self.patterns.get(pattern)
            && !regex.is_match(text)
        {
            self.invalid(path, &value, &format!("should match '{pattern}'"));
        }
        if let Some(format) = schema["format"].as_str().filter(|format| !has_format(text, format)) {
            self.invalid(path, &value, &format!("must be of type {format}: {}", plain(&value)));
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, path: &str) {
        let number = value.as_f64().unwrap_or_default();
        if let Some(least) = schema["minimum"].as_f64() {
            let exclusive = is(schema, "exclusiveMinimum");
            if number < least || (exclusive && number <= least) {
                let equal = if exclusive { "" } else { " or equal to" };
                self.invalid(path, value, &format!("should be greater than{equal} {}", plain(&schema["minimum"])));
            }
        }
        if let Some(most) = schema["maximum"].as_f64() {
            let exclusive = is(schema, "exclusiveMaximum");
            if number > most || (exclusive && number >= most) {
                let equal = if exclusive { "" } else { " or equal to" };
                self.invalid(path, value, &format!("should be less than{equal} {}", plain(&schema["maximum"])));
            }
        }
        let step = schema["multipleOf"].as_f64();
        if step.is_some_and(|step| step > 0.0 && ((number / step).round() * step - number).abs() > 1e-9) {
            self.invalid(path, value, &format!("should be a multiple of {}", plain(&schema["multipleOf"])));
        }
        let range = match schema["format"].as_str() {
            Some("int32") => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
            _ => None,
        };
        if range.is_some_and(|(least, most)| number < least || number > most) {
            self.invalid(path, value, &format!("must be of type int32: \"{value}\""));
        }
    }
}

fn list<'a>(schema: &'a Value, name: &str) -> Vec<&'a Value> {
    schema[name].as_array().into_iter().flatten().collect()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

/// A value as Go shows it in a field error. A fraction that says nothing is left out: types of Kubernetes keep bounds
/// as floats.
fn plain(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}"),
        _ => value.to_string(),
    }
}

fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{text}\""),
        other => format!("\"{other}\""),
    }
}

/// The formats that the validator knows and that are cheap to check; others are not looked at.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "byte" => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).is_ok(),
        _ => true,
    }
}
