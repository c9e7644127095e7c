//! Server-side apply, and the question whether it is needed at all.
//!
//! Asking the server by a dry run would be a mutating request, so [`holds`] compares: everything wanted must be in what
//! is there. The server's additions (defaults, status, other managers' fields) don't matter.

use a8s_api::Quantity;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams, TypeMeta};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::{Error, FIELD_MANAGER, kinds};

/// Fields of Kubernetes' own kinds that a server does not keep when they are an empty text or `false`: of these it is
/// the same as nothing (k8s.io/api, `omitempty`). Of others, such as those of a `securityContext`, it is not.
const NOT_KEPT: [&str; 5] = ["apiGroup", "hostNetwork", "preserveUnknownFields", "readOnly", "value"];

/// How to reach the objects of a kind.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Names of the resource.
    pub resource: ApiResource,
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// Asks the server about a kind, unless it is one that every server has.
    ///
    /// # Errors
    /// The request fails; a kind the server does not serve is "not found".
    pub async fn discover(client: &Client, types: &TypeMeta) -> Result<Self, Error> {
        let what = || format!("find out about the kind {} {}", types.api_version, types.kind);
        let gvk = GroupVersionKind::try_from(types).map_err(|error| {
            Error::request(
                what(),
                kube::Error::Discovery(kube::error::DiscoveryError::InvalidGroupVersion(error.to_string())),
            )
        })?;
        if let (Some(plural), Some(namespaced)) =
            (kinds::plural(&gvk.group, &gvk.kind), kinds::namespaced(&gvk.group, &gvk.kind))
        {
            return Ok(Self { resource: ApiResource::from_gvk_with_plural(&gvk, plural), namespaced });
        }
        let (resource, capabilities) =
            discovery::pinned_kind(client, &gvk).await.map_err(|source| Error::request(what(), source))?;
        Ok(Self { resource, namespaced: capabilities.scope == Scope::Namespaced })
    }

    /// The API of this kind in `namespace`, where it has any.
    pub fn api(&self, client: Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client, namespace, &self.resource)
        } else {
            Api::all_with(client, &self.resource)
        }
    }
}

/// How an object is called in words: `Secret default/x`.
pub fn describe(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    match object.namespace() {
        Some(namespace) => format!("{kind} {namespace}/{}", object.name_any()),
        None => format!("{kind} {}", object.name_any()),
    }
}

/// Reads an object; `None` if it, its namespace or its kind is not there.
///
/// # Errors
/// The request fails.
pub async fn get(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<Option<DynamicObject>, Error> {
    let there = super::get_opt(api, &object.name_any()).await;
    there.map_err(|source| Error::request(format!("get {}", describe(object)), source))
}

/// Applies an object as the field manager `a9s`. With `force`, fields that others manage are taken over.
///
/// # Errors
/// The request fails, or (without `force`) conflicts with another manager.
pub async fn apply(api: &Api<DynamicObject>, object: &DynamicObject, force: bool) -> Result<DynamicObject, Error> {
    let mut parameters = PatchParams::apply(FIELD_MANAGER);
    parameters.force = force;
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object))
        .await
        .map_err(|source| Error::request(format!("apply {}", describe(object)), source))
}

/// Makes an object as the field manager `a9s`.
///
/// # Errors
/// The request fails; with the code 409 where there is one of its name.
pub async fn create(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<DynamicObject, Error> {
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let made = api.create(&parameters, object).await;
    made.map_err(|source| Error::request(format!("create {}", describe(object)), source))
}

/// Whether `there` has everything that `wanted` wants. The first difference, as a path, if not.
pub fn difference(wanted: &Value, there: &Value) -> Option<String> {
    compare(wanted, there, &mut String::new())
}

/// Whether an object holds everything that is wanted of it. Its status is for its controller to write: what generators leave
/// there means nothing.
pub fn holds(wanted: &DynamicObject, there: &DynamicObject) -> Option<String> {
    match (serde_json::to_value(wanted), serde_json::to_value(there)) {
        (Ok(mut wanted), Ok(there)) => {
            if let Some(wanted) = wanted.as_object_mut() {
                wanted.remove("status");
            }
            difference(&wanted, &there)
        }
        _ => Some("it can't be compared".to_owned()),
    }
}

fn compare(wanted: &Value, there: &Value, path: &mut String) -> Option<String> {
    match (wanted, there) {
        (Value::Object(wanted), Value::Object(there)) => wanted.iter().find_map(|(key, value)| {
            let length = path.len();
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
            let found = match there.get(key) {
                Some(other) => compare(value, other, path),
                // The server does not keep what is empty.
                None if empty(value) || is_not_kept(key, value) => None,
                None => Some(path.clone()),
            };
            path.truncate(length);
            found
        }),
        (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => {
            wanted.iter().zip(there).enumerate().find_map(|(index, (value, other))| {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                let found = compare(value, other, path);
                path.truncate(length);
                found
            })
        }
        // 0.0 and 0 are the same number on the wire of one and not of the other.
        (Value::Number(wanted), Value::Number(there)) if wanted.as_f64() == there.as_f64() => None,
        (wanted, there) if wanted == there || (empty(wanted) && empty(there)) => None,
        // Of its own kinds, the server writes quantities in one of their ways.
        (wanted, there) if is_quantity(path) && amount(wanted).is_some() && amount(wanted) == amount(there) => None,
        _ => Some(path.clone()),
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn is_not_kept(field: &str, value: &Value) -> bool {
    let is_nothing = matches!(value, Value::Bool(false)) || value.as_str().is_some_and(str::is_empty);
    is_nothing && NOT_KEPT.contains(&field)
}

/// Whether there is a quantity at a path: in the resources of containers and claims.
fn is_quantity(path: &str) -> bool {
    [".limits.", ".requests."].iter().any(|part| path.contains(part))
}

/// How much a quantity is; nothing if it is none.
pub fn amount(quantity: &Value) -> Option<i128> {
    match quantity {
        Value::String(text) => Quantity(text.clone()).nano(),
        Value::Number(number) => Quantity(number.to_string()).nano(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"a": 1}), json!({"a": 1, "b": 2}), None)]
    #[case(json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), Some("a.b"))]
    #[case(json!({"a": {"b": 1}}), json!({"a": {}}), Some("a.b"))]
    #[case(json!({"a": [{"n": 1}]}), json!({"a": [{"n": 1, "default": true}]}), None)]
    #[case(json!({"a": [1, 2]}), json!({"a": [1]}), Some("a"))]
    #[case(json!({"a": [{"n": 1}]}), json!({"a": [{"n": 2}]}), Some("a[0].n"))]
    #[case(json!({"a": {}}), json!({}), None)]
    #[case(json!({"a": null}), json!({"b": 1}), None)]
    #[case(json!({"a": "1"}), json!({"a": 1}), Some("a"))]
    #[case(json!({"a": 0.0}), json!({"a": 0}), None)]
    #[case(json!({"subjects": [{"apiGroup": "", "name": "x"}]}), json!({"subjects": [{"name": "x"}]}), None)]
    #[case(json!({"env": [{"name": "x", "value": ""}]}), json!({"env": [{"name": "x"}]}), None)]
    #[case(json!({"env": [{"value": ""}]}), json!({"env": [{"value": "x"}]}), Some("env[0].value"))]
    #[case(json!({"readOnly": false}), json!({}), None)]
    #[case(json!({"readOnly": true}), json!({}), Some("readOnly"))]
    #[case(json!({"allowPrivilegeEscalation": false}), json!({}), Some("allowPrivilegeEscalation"))]
    #[case(json!({"data": {"a": ""}}), json!({"data": {}}), Some("data.a"))]
    #[case(json!({"r": {"limits": {"cpu": 1}}}), json!({"r": {"limits": {"cpu": "1"}}}), None)]
    #[case(json!({"r": {"requests": {"memory": "1024Mi"}}}), json!({"r": {"requests": {"memory": "1Gi"}}}), None)]
    #[case(json!({"r": {"limits": {"cpu": 0.5}}}), json!({"r": {"limits": {"cpu": "1"}}}), Some("r.limits.cpu"))]
    #[case(json!({"a": "1024Mi"}), json!({"a": "1Gi"}), Some("a"))]
    fn what_is_wanted_must_be_there(#[case] wanted: Value, #[case] there: Value, #[case] path: Option<&str>) {
        assert_eq!(difference(&wanted, &there).as_deref(), path);
    }

    #[test]
    fn a_status_that_a_generator_has_left_is_not_wanted() {
        let definition = |status: Value| -> DynamicObject {
            serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"a": 1}, "status": status})).unwrap()
        };
        let (wanted, there) = (json!({"acceptedNames": {"kind": ""}}), json!({"acceptedNames": {"kind": "Backup"}}));
        assert_eq!(holds(&definition(wanted), &definition(there)), None);
    }
}
