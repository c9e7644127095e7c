//! Collecting what is wrong with an object, in the words of `k8s.io/apimachinery/pkg/util/validation/field`.

use std::fmt;

use serde_json::Value;

use crate::api::names;
use crate::auth::tokens;
use crate::status::Cause;

/// Everything found so far.
#[derive(Debug, Default)]
pub struct Causes(pub Vec<Cause>);

impl Causes {
    /// Something is wrong that has words of its own.
    pub fn add(&mut self, reason: &'static str, field: &str, message: String) {
        self.0.push(Cause { reason, field: field.to_owned(), message });
    }

    /// Something is missing; `why` may be empty.
    pub fn required(&mut self, field: &str, why: &str) {
        self.add("FieldValueRequired", field, with("Required value".to_owned(), why));
    }

    /// A value is wrong.
    pub fn invalid(&mut self, field: &str, value: &Value, why: &str) {
        self.add("FieldValueInvalid", field, with(format!("Invalid value: {value}"), why));
    }

    /// Something may not be said here.
    pub fn forbidden(&mut self, field: &str, why: &str) {
        self.add("FieldValueForbidden", field, with("Forbidden".to_owned(), why));
    }

    /// Something occurs twice; `value` as it is shown.
    pub fn duplicate(&mut self, field: &str, value: impl fmt::Display) {
        self.add("FieldValueDuplicate", field, format!("Duplicate value: {value}"));
    }

    /// A reference leads nowhere.
    pub fn not_found(&mut self, field: &str, value: &str) {
        self.add("FieldValueNotFound", field, format!("Not found: \"{value}\""));
    }

    /// A value is none of those there are.
    pub fn one_of(&mut self, field: &str, value: &Value, supported: &[&str]) {
        let text = value.as_str().unwrap_or_default();
        if !supported.contains(&text) {
            let list: Vec<String> = supported.iter().map(|value| format!("\"{value}\"")).collect();
            let message = format!("Unsupported value: \"{text}\": supported values: {}", list.join(", "));
            self.add("FieldValueNotSupported", field, message);
        }
    }

    /// Something is too big.
    pub fn too_long(&mut self, field: &str, limit: usize) {
        self.add("FieldValueTooLong", field, format!("Too long: may not be more than {limit} bytes"));
    }

    /// A name, which must be there and follow `rule`.
    pub fn name(&mut self, field: &str, value: &Value, rule: fn(&str) -> Result<(), String>) {
        match value.as_str().unwrap_or_default() {
            "" => self.required(field, ""),
            text => {
                if let Err(why) = rule(text) {
                    self.invalid(field, value, &why);
                }
            }
        }
    }

    /// A DNS label, which may be absent.
    pub fn label(&mut self, field: &str, value: &Value) {
        if value.as_str().is_some_and(|text| !text.is_empty()) {
            self.name(field, value, names::dns_label);
        }
    }

    /// The life of a token in seconds, which may be absent.
    pub fn token_life(&mut self, field: &str, value: &Value) {
        match value.as_i64() {
            None | Some(tokens::SHORTEST..=tokens::LONGEST) => {}
            Some(..tokens::SHORTEST) => {
                self.invalid(field, value, "may not specify a duration less than 10 minutes");
            }
            Some(_) => self.invalid(field, value, "may not specify a duration larger than 2^32 seconds"),
        }
    }

    /// A number that is not negative, and may be absent.
    pub fn not_negative(&mut self, field: &str, value: &Value) {
        if value.as_i64().is_some_and(|number| number < 0) {
            self.invalid(field, value, "must be greater than or equal to 0");
        }
    }

    /// A port number.
    pub fn port(&mut self, field: &str, value: &Value) {
        match value.as_i64() {
            None | Some(1..=65535) => {}
            Some(_) => self.invalid(field, value, "must be between 1 and 65535, inclusive"),
        }
    }
}

fn with(what: String, why: &str) -> String {
    if why.is_empty() { what } else { format!("{what}: {why}") }
}
