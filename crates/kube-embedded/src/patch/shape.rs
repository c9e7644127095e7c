//! Shapes: how the lists and maps of a kind merge, as the API conventions' `listType`, `listMapKey` and `mapType` say it.
//!
//! A shape names only what differs from the rule for everything else: maps merge key by key, lists are replaced whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::builtin;

/// How the values at one place of an object merge. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shape(Option<Arc<Node>>);

#[derive(Debug)]
enum Node {
    Map { atomic: bool, fields: BTreeMap<String, Shape>, rest: Option<Shape> },
    List(List),
}

/// A list that is not simply replaced.
#[derive(Debug)]
pub(super) struct List {
    /// How server-side apply owns it.
    pub(super) ownership: ListType,
    /// How a strategic merge patch merges it; `None` replaces it.
    pub(super) strategy: Option<Strategy>,
    /// The shape of its items.
    pub(super) item: Shape,
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ListType {
    Atomic,
    Set,
    Map(Vec<ListKey>),
}

/// A key field of a list-map, and what it is where an item leaves it out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ListKey {
    pub(super) name: String,
    pub(super) default: Option<Value>,
}

/// `x-kubernetes-patch-strategy: merge`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Strategy {
    /// Of plain values.
    Values,
    /// Of objects, by this key.
    Key(String),
}

impl Shape {
    /// The shape of a kind this server knows; of any other kind: that of an object without special lists, whose
    /// metadata merges as everywhere.
    pub fn builtin(group: &str, kind: &str) -> Self {
        builtin::shape(group, kind)
    }

    /// The shape that a CustomResourceDefinition's `openAPIV3Schema` declares.
    pub fn structural(schema: &Value) -> Self {
        let Self(Some(root)) = of_schema(schema) else { return builtin::shape("", "") };
        match &*root {
            Node::Map { atomic, fields, rest } => {
                let mut fields = fields.clone();
                fields.insert("metadata".to_owned(), builtin::metadata());
                Self::map(*atomic, fields, rest.clone())
            }
            Node::List(_) => builtin::shape("", ""),
        }
    }

    pub(super) fn map(atomic: bool, fields: BTreeMap<String, Shape>, rest: Option<Shape>) -> Self {
        Self(Some(Arc::new(Node::Map { atomic, fields, rest })))
    }

    pub(super) fn list(list: List) -> Self {
        Self(Some(Arc::new(Node::List(list))))
    }

    /// The shape of the member `name` of a map.
    pub(super) fn field(&self, name: &str) -> Shape {
        match self.0.as_deref() {
            Some(Node::Map { fields, rest, .. }) => fields.get(name).or(rest.as_ref()).cloned().unwrap_or_default(),
            _ => Shape::default(),
        }
    }

    /// Whether the member `name` is a key of a free map rather than a declared field.
    pub(super) fn is_free_key(&self, name: &str) -> bool {
        matches!(self.0.as_deref(), Some(Node::Map { fields, rest: Some(_), .. }) if !fields.contains_key(name))
    }

    /// The list at this place, where it is more than an atomic one.
    pub(super) fn as_list(&self) -> Option<&List> {
        match self.0.as_deref() {
            Some(Node::List(list)) => Some(list),
            _ => None,
        }
    }

    /// Whether `value` has one owner as a whole.
    pub(super) fn is_leaf(&self, value: &Value) -> bool {
        match value {
            Value::Object(_) => matches!(self.0.as_deref(), Some(Node::Map { atomic: true, .. } | Node::List(_))),
            Value::Array(_) => self.as_list().is_none_or(|list| list.ownership == ListType::Atomic),
            _ => true,
        }
    }
}

/// The shape of a structural schema; `None` inside where nothing special is declared below.
fn of_schema(schema: &Value) -> Shape {
    if let Some(items) = schema.get("items") {
        return of_list_schema(schema, items);
    }
    let atomic = schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
    let fields: BTreeMap<String, Shape> = schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|properties| properties.iter().map(|(name, property)| (name.clone(), of_schema(property))).collect())
        .unwrap_or_default();
    let rest = schema.get("additionalProperties").filter(|rest| rest.is_object()).map(of_schema);
    if atomic || !fields.is_empty() || rest.is_some() { Shape::map(atomic, fields, rest) } else { Shape::default() }
}

fn of_list_schema(schema: &Value, items: &Value) -> Shape {
    let ownership = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
            let key = |name: &str| ListKey {
                name: name.to_owned(),
                default: items.pointer(&format!("/properties/{}/default", escape(name))).cloned(),
            };
            ListType::Map(keys.filter_map(Value::as_str).map(key).collect())
        }
        _ => return Shape::default(),
    };
    Shape::list(List { ownership, strategy: None, item: of_schema(items) })
}

/// A JSON pointer's escape (RFC 6901).
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
