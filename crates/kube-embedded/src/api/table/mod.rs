//! Objects as tables (`meta.k8s.io/v1` `Table`): what `kubectl get` prints.

mod builtin;
mod duration;
mod jsonpath;
mod network;
mod pods;
mod storage;

use serde_json::{Value, json};

use super::registry::{Column, Resource, Shape};

/// How much of the object itself goes along with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    Nothing,
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
}

/// A column of a table.
struct Definition {
    name: &'static str,
    kind: &'static str,
    /// Only for `-o wide`.
    wide: bool,
}

const fn column(name: &'static str) -> Definition {
    Definition { name, kind: "string", wide: false }
}

const fn wide(name: &'static str) -> Definition {
    Definition { name, kind: "string", wide: true }
}

const fn number(name: &'static str) -> Definition {
    Definition { name, kind: "integer", wide: false }
}

/// What the objects of a built-in kind look like in a table.
struct Layout {
    columns: &'static [Definition],
    row: fn(&Value) -> Vec<Value>,
}

/// The table of `objects`. `metadata` is the list's.
pub fn table<'a>(
    resource: &Resource,
    metadata: Value,
    objects: impl IntoIterator<Item = &'a Value>,
    include: Include,
) -> Value {
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let shown = match include {
                Include::Nothing => Value::Null,
                Include::Metadata => partial(object),
                Include::Object => object.clone(),
            };
            json!({"cells": cells(resource, object), "object": shown})
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions(resource), "rows": rows,
    })
}

/// An object's metadata as `PartialObjectMetadata`.
pub fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn definitions(resource: &Resource) -> Vec<Value> {
    let definition = |name: &str, kind: &str, format: &str, description: &str, priority: i32| json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority});
    match &resource.shape {
        Shape::Builtin(_) => layout(resource)
            .columns
            .iter()
            .map(|column| {
                let format = if column.name == "Name" { "name" } else { "" };
                definition(column.name, column.kind, format, "", i32::from(column.wide))
            })
            .collect(),
        Shape::Custom(custom) => std::iter::once(definition("Name", "string", "name", "", 0))
            .chain(custom.columns.iter().map(|column| {
                definition(&column.name, &column.kind, &column.format, &column.description, column.priority)
            }))
            .collect(),
    }
}

fn cells(resource: &Resource, object: &Value) -> Vec<Value> {
    match &resource.shape {
        Shape::Builtin(_) => (layout(resource).row)(object),
        Shape::Custom(custom) => {
            let name = object["metadata"]["name"].clone();
            std::iter::once(name).chain(custom.columns.iter().map(|column| custom_cell(column, object))).collect()
        }
    }
}

/// As `apiextensions-apiserver/pkg/registry/customresource/tableconvertor`.
fn custom_cell(column: &Column, object: &Value) -> Value {
    let found = jsonpath::find(object, &column.path);
    let Some(first) = found.first() else { return Value::Null };
    match (column.kind.as_str(), first) {
        ("date", Value::String(time)) => duration::since(time).into(),
        ("integer", Value::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)).into()
        }
        ("number" | "boolean", value @ (Value::Number(_) | Value::Bool(_))) => (*value).clone(),
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", Value::Null) => Value::Null,
        ("string", _) => found.iter().map(|value| jsonpath::text(value)).collect::<Vec<_>>().join(" ").into(),
        _ => Value::Null,
    }
}

fn layout(resource: &Resource) -> &'static Layout {
    builtin::layout(&resource.group, &resource.plural)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

fn age(object: &Value) -> Value {
    duration::since(text(&object["metadata"]["creationTimestamp"])).into()
}

/// `key=value,...`, as label selectors are printed.
fn labels(value: &Value) -> String {
    let pairs: Vec<String> =
        value.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value))).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// The number of entries of a map or list.
fn count(value: &Value) -> usize {
    value.as_object().map_or_else(|| items(value).count(), serde_json::Map::len)
}
