//! Sets of fields, as `FieldsV1` of `metadata.managedFields` writes them: `f:` a field, `k:` a list item by its keys,
//! `v:` a list item by its value, `.` the place itself (sigs.k8s.io/structured-merge-diff, `fieldpath/serialize.go`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A set of places in an object: a tree whose edges are path elements in their written form.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields {
    /// Whether this place itself is in the set.
    pub(super) member: bool,
    /// What is in the set below.
    pub(super) children: BTreeMap<String, Fields>,
}

impl Fields {
    /// Reads a `fieldsV1` value; `None` where it is not one.
    pub(super) fn parse(value: &Value) -> Option<Self> {
        let mut fields = Self::default();
        for (element, below) in value.as_object()? {
            if element == "." {
                fields.member = true;
            } else if matches!(element.get(..2), Some("f:" | "k:" | "v:" | "i:")) {
                let mut child = Self::parse(below)?;
                child.member |= child.children.is_empty();
                fields.children.insert(element.clone(), child);
            } else {
                return None;
            }
        }
        Some(fields)
    }

    /// The `fieldsV1` value.
    pub(super) fn to_value(&self) -> Value {
        let mut object = Map::new();
        if self.member && !self.children.is_empty() {
            object.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            if !child.is_empty() {
                object.insert(element.clone(), child.to_value());
            }
        }
        Value::Object(object)
    }

    /// Whether nothing is in the set.
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Fields::is_empty)
    }

    /// Drops branches without members.
    pub(super) fn tidy(&mut self) {
        self.children.retain(|_, child| {
            child.tidy();
            !child.is_empty()
        });
    }

    /// The part below `element`, if anything is there.
    pub(super) fn below(&self, element: &str) -> Option<&Fields> {
        self.children.get(element).filter(|child| !child.is_empty())
    }

    /// The part below `element`, to add to.
    pub(super) fn entry(&mut self, element: impl Into<String>) -> &mut Fields {
        self.children.entry(element.into()).or_default()
    }

    /// Adds everything that is in `other`.
    pub(super) fn extend(&mut self, other: &Fields) {
        self.member |= other.member;
        for (element, child) in &other.children {
            self.entry(element.as_str()).extend(child);
        }
    }

    /// Takes out every place that is in `other`.
    pub(super) fn subtract(&mut self, other: &Fields) {
        self.member &= !other.member;
        self.children.retain(|element, child| {
            if let Some(taken) = other.children.get(element) {
                child.subtract(taken);
            }
            !child.is_empty()
        });
    }

    /// The places in both.
    pub(super) fn intersection(&self, other: &Fields) -> Fields {
        let shared = |(element, child): (&String, &Fields)| {
            let common = child.intersection(other.children.get(element)?);
            (!common.is_empty()).then(|| (element.clone(), common))
        };
        Fields { member: self.member && other.member, children: self.children.iter().filter_map(shared).collect() }
    }

    /// Every place in the set, as people read it: `.spec.containers[name="a"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.member {
            paths.push(prefix.to_owned());
        }
        for (element, child) in &self.children {
            child.collect(&format!("{prefix}{}", readable(element)), paths);
        }
    }
}

/// The path element of a field.
pub(super) fn field(name: &str) -> String {
    format!("f:{name}")
}

/// The path element of an item of a list of plain values.
pub(super) fn value(item: &Value) -> String {
    format!("v:{item}")
}

/// The path element of an item of a list-map.
pub(super) fn key(keys: &BTreeMap<&str, &Value>) -> String {
    let pairs: Vec<String> = keys.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("k:{{{}}}", pairs.join(","))
}

/// How structured-merge-diff prints a path element.
fn readable(element: &str) -> String {
    let (kind, rest) = element.split_at(2);
    match (kind, serde_json::from_str::<Value>(rest)) {
        ("f:", _) => format!(".{rest}"),
        ("k:", Ok(Value::Object(keys))) => {
            let mut text = String::new();
            for (name, value) in keys {
                let comma = if text.is_empty() { "" } else { "," };
                let _ = write!(text, "{comma}{name}={value}");
            }
            format!("[{text}]")
        }
        ("v:", Ok(value)) => format!("[={value}]"),
        _ => format!("[{rest}]"),
    }
}
