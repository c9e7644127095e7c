//! Patches: strategic merges and JSON patches, told apart by their shape (a JSON patch is a list).

use kube_embedded::patch::{self, Shape};
use serde_json::Value;

use super::document::{Kustomization, Patch, Target};
use super::{Error, Inside, group, identity};
use crate::yaml;

pub(super) fn apply(kustomization: &Kustomization, inside: &Inside<'_>, objects: &mut Vec<Value>) -> Result<(), Error> {
    for wanted in &kustomization.patches {
        let (text, from) = match (&wanted.path, &wanted.patch) {
            (Some(path), None) => (inside.text(path)?, path.as_str()),
            (None, Some(text)) => (text.clone(), "an inline patch"),
            _ => return Err(inside.damaged("a patch has either a path or a patch")),
        };
        let documents: Vec<Value> =
            yaml::read_all(&text).map_err(|error| inside.damaged(format!("{from}: {error}")))?;
        for document in documents.iter().filter(|document| !document.is_null()) {
            let count = apply_one(wanted, document, objects).map_err(|why| inside.damaged(format!("{from}: {why}")))?;
            if count == 0 {
                return Err(inside.damaged(format!("{from}: no object is what the patch is for")));
            }
        }
    }
    objects.retain(|object| !object.as_object().is_some_and(serde_json::Map::is_empty));
    Ok(())
}

/// Applies one document to the objects it is for; how many there were.
fn apply_one(wanted: &Patch, document: &Value, objects: &mut [Value]) -> Result<usize, String> {
    let mut count = 0;
    for object in objects.iter_mut() {
        let is_for = match &wanted.target {
            Some(target) => matches(target, object),
            None if document.is_array() => return Err("a JSON patch needs a target".to_owned()),
            None => same(document, object),
        };
        if is_for {
            *object = patched(object, document)?;
            count += 1;
        }
    }
    Ok(count)
}

fn matches(target: &Target, object: &Value) -> bool {
    let (group, kind, namespace, name) = identity(object);
    let version = object["apiVersion"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned();
    [
        (&target.group, group),
        (&target.version, version),
        (&target.kind, kind),
        (&target.namespace, namespace),
        (&target.name, name),
    ]
    .into_iter()
    .all(|(wanted, there)| wanted.as_ref().is_none_or(|wanted| *wanted == there))
}

/// A strategic merge names its object itself. Its namespace may be left out.
fn same(document: &Value, object: &Value) -> bool {
    let (left, right) = (identity(document), identity(object));
    left.0 == right.0 && left.1 == right.1 && left.3 == right.3 && (left.2.is_empty() || left.2 == right.2)
}

fn patched(object: &Value, document: &Value) -> Result<Value, String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let result = match document {
        Value::Array(_) => patch::json(object, document),
        // For kinds it does not know the shape is that of a merge patch, as kustomize has it.
        _ => patch::strategic(object, document, &Shape::builtin(group(object), kind)),
    };
    result.map_err(|status| status.0.message.unwrap_or_default())
}
