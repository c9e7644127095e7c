//! Structural schemas of custom resources (Kubernetes documentation, "Extend the Kubernetes API with
//! CustomResourceDefinitions"): removing what they do not know, filling in defaults, and checking the rest.

mod defaults;
pub mod definition;
mod prune;
mod ratchet;
mod validate;

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

use crate::status::Cause;

/// A schema, ready for use.
pub struct Schema {
    root: Arc<Value>,
    patterns: HashMap<String, Option<Regex>>,
    rules: Option<kube_cel::CompiledSchema>,
}

impl Schema {
    /// Prepares `openAPIV3Schema`.
    pub fn new(root: Arc<Value>) -> Self {
        let mut found = Found::default();
        found.collect(&root);
        let rules = found.rules.then(|| kube_cel::compile_schema(&root));
        Self { root, patterns: found.patterns, rules }
    }

    /// Removes unknown fields and answers their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut removed = Vec::new();
        prune::root(&self.root, object, &mut removed);
        removed
    }

    /// Fills in defaults; a null that is not allowed counts as absent.
    pub fn default(&self, object: &mut Value) {
        defaults::fill(&self.root, object);
        defaults::drop_nulls(&self.root, object);
    }

    /// Whether [`Schema::default`] would fill in anything.
    pub fn lacks_defaults(&self, object: &Value) -> bool {
        defaults::lacks_any(&self.root, object)
    }

    /// Everything that is wrong with an object; `old` is its state before an update, which is not to be refused for what
    /// it leaves as it was.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        match old {
            Some(old) => self.problems(&self.as_read(object), Some(&self.as_read(old))),
            None => self.problems(object, None),
        }
    }

    /// What an older schema let be stored, as it would be read by this one. It makes no difference between two states of an
    /// object whether defaults have been filled in.
    fn as_read(&self, object: &Value) -> Value {
        let mut object = object.clone();
        self.prune(&mut object);
        self.default(&mut object);
        object
    }

    fn problems(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = validate::Validation::new(&self.patterns).run(&self.root, object, old);
        // Rules speak about well-typed objects only.
        if let (Some(rules), true) = (&self.rules, causes.is_empty()) {
            causes.extend(self.rule_violations(rules, object, old));
        }
        causes
    }

    fn rule_violations(&self, rules: &kube_cel::CompiledSchema, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let Err(errors) = kube_cel::validate_compiled(rules, object, old) else { return Vec::new() };
        // Rules about the change itself are not spared.
        let is_spared = |error: &kube_cel::ValidationError| {
            !error.rule.contains("oldSelf")
                && old.is_some_and(|old| ratchet::spares(&self.root, object, old, &error.field_path, &error.rule))
        };
        let cause = |error: kube_cel::ValidationError| {
            let kind = kind_at(object, &error.field_path);
            let (reason, message) = match error.reason.as_deref() {
                Some("FieldValueForbidden") => ("FieldValueForbidden", format!("Forbidden: {}", error.message)),
                Some("FieldValueRequired") => ("FieldValueRequired", format!("Required value: {}", error.message)),
                Some("FieldValueDuplicate") => ("FieldValueDuplicate", format!("Duplicate value: \"{kind}\"")),
                _ => ("FieldValueInvalid", format!("Invalid value: \"{kind}\": {}", error.message)),
            };
            let field = if error.field_path.is_empty() { "<nil>".to_owned() } else { error.field_path };
            Cause { reason, field, message }
        };
        errors.into_vec().into_iter().filter(|error| !is_spared(error)).map(cause).collect()
    }
}

/// What has to be prepared of a schema.
#[derive(Default)]
struct Found {
    patterns: HashMap<String, Option<Regex>>,
    rules: bool,
}

impl Found {
    fn collect(&mut self, schema: &Value) {
        match schema {
            Value::Object(fields) => {
                if let Some(Value::String(pattern)) = fields.get("pattern") {
                    self.patterns.entry(pattern.clone()).or_insert_with(|| Regex::new(pattern).ok());
                }
                self.rules |= fields.get("x-kubernetes-validations").is_some_and(Value::is_array);
                fields.values().for_each(|value| self.collect(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.collect(value)),
            _ => {}
        }
    }
}

/// The schema's word for the kind of value that stands at a path like `spec.list[0].name`.
fn kind_at(object: &Value, path: &str) -> &'static str {
    let found = path.split(['.', '[']).filter(|part| !part.is_empty()).fold(object, |value, part| {
        match part.strip_suffix(']').map(str::parse::<usize>) {
            Some(Ok(index)) => &value[index],
            _ => &value[part.trim_end_matches(']')],
        }
    });
    kind_of(found)
}

/// The schema's word for the kind of a value.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a field is one of every object, so that no schema speaks about it.
fn is_common(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// `x-kubernetes-…: true`.
fn is(schema: &Value, flag: &str) -> bool {
    schema[flag] == true
}

#[cfg(test)]
mod tests;
