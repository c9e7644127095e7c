//! OpenAPI v3: which group-versions have a document, and the documents. They say of every kind that patches can be
//! validated and tried out by the server (kubectl asks for that before it trusts it), and carry the schemas of custom
//! resources, which `kubectl explain` shows.

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::body::{self, Body};
use super::registry::{Registry, Resource, Shape};
use crate::status::Status;

/// Answers `/openapi/v3` and the documents below it.
pub fn answer(registry: &Registry, path: &str) -> Result<Response<Body>, Status> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let value = match parts.as_slice() {
        ["openapi", "v3"] => index(registry),
        ["openapi", "v3", "api", version] => document(registry, "", version).ok_or_else(Status::no_such_resource)?,
        ["openapi", "v3", "apis", group, version] => {
            document(registry, group, version).ok_or_else(Status::no_such_resource)?
        }
        _ => return Err(Status::no_such_resource()),
    };
    Ok(body::json(StatusCode::OK, &value))
}

fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            let path = root(group, version);
            // Clients keep a document as long as this stays the same.
            let text = document(registry, group, version).unwrap_or_default().to_string();
            let hash: String = Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02X}")).collect();
            paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
        }
    }
    json!({"paths": paths})
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn document(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    let resources = registry.all().filter(|resource| resource.group == group && resource.version == version);
    for resource in resources {
        let prefix = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let root = root(group, version);
        let collection = format!("/{root}{prefix}/{}", resource.plural);
        let kind = json!({"group": group, "version": version, "kind": resource.kind});
        paths.insert(collection.clone(), json!({"post": operation("post", &kind)}));
        if resource.stored {
            let one = json!({
                "get": operation("get", &kind), "put": operation("put", &kind),
                "patch": operation("patch", &kind), "delete": operation("delete", &kind),
            });
            paths.insert(format!("{collection}/{{name}}"), one);
        }
        if let Some((name, schema)) = schema(resource, &kind) {
            schemas.insert(name, schema);
        }
    }
    if paths.is_empty() {
        return None;
    }
    if !schemas.is_empty() {
        schemas.insert(
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta".to_owned(),
            json!({
                "type": "object",
                "description": "ObjectMeta is metadata that all persisted resources must have, which includes all objects users must create.",
            }),
        );
    }
    Some(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.33.0"},
        "paths": paths, "components": {"schemas": schemas},
    }))
}

fn operation(method: &str, kind: &Value) -> Value {
    let parameters: &[&str] = match method {
        "get" => &[],
        "delete" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        _ => &["dryRun", "fieldManager", "fieldValidation"],
    };
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| {
            let kind = match *name {
                "force" => "boolean",
                "gracePeriodSeconds" => "integer",
                _ => "string",
            };
            json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
        })
        .collect();
    json!({
        "parameters": parameters, "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": method, "x-kubernetes-group-version-kind": kind,
    })
}

/// The schema of a custom resource, under a name made of its reversed group.
fn schema(resource: &Resource, kind: &Value) -> Option<(String, Value)> {
    let Shape::Custom(custom) = &resource.shape else { return None };
    let mut schema = Value::clone(&custom.published);
    let reference = json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}], "default": {}});
    let properties = &mut schema["properties"];
    properties["metadata"] = reference;
    properties["apiVersion"] = json!({"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object."});
    properties["kind"] = json!({"type": "string", "description": "Kind is a string value representing the REST resource this object represents."});
    schema["x-kubernetes-group-version-kind"] = json!([kind]);
    let reversed: Vec<&str> = resource.group.rsplit('.').collect();
    Some((format!("{}.{}.{}", reversed.join("."), resource.version, resource.kind), schema))
}
