//! The verbs.

mod connect;
mod create;
mod delete;
mod patch;
mod read;
mod reviews;
mod scale;
mod update;
mod watch;

use std::sync::Arc;

use http::header::{HeaderValue, WARNING};
use http::{Response, StatusCode};
use serde_json::{Value, json};

pub(super) use self::connect::leads_to_node;
pub(super) use self::update::{keep_other_part, keep_server_fields, may_go};
use super::ApiServer;
use super::body::{self, Body};
use super::call::{Call, Form};
use super::registry::Resource;
use super::table;
use crate::status::Status;
use crate::store::{Key, Object};

impl ApiServer {
    pub(super) async fn dispatch(self: &Arc<Self>, call: Call) -> Result<Response<Body>, Status> {
        let named = !call.request.name.is_empty();
        let creates = call.request.verb == "create";
        let nowhere = call.resource.namespaced && call.request.namespace.is_empty() && (named || creates);
        // The body names what is created: a name in the path would only be what rights are looked at for.
        if nowhere || (named && creates && call.request.subresource.is_empty()) {
            return Err(Status::no_such_method());
        }
        call.check_manager()?;
        if !call.request.subresource.is_empty() {
            return self.subresource(&call).await;
        }
        if !call.resource.stored {
            return match call.request.verb {
                "create" => self.review(&call),
                _ => Err(Status::no_such_method()),
            };
        }
        match call.request.verb {
            "get" => self.get(&call),
            "list" => self.list(&call),
            "watch" => self.watch(call),
            "create" => self.create(&call).await,
            "update" => self.update(&call).await,
            "patch" => self.patch(&call).await,
            "delete" => self.delete(&call).await,
            // Namespaces go one by one only.
            "deletecollection" if !call.resource.is_namespace() => self.delete_collection(&call).await,
            other => Err(Status::method_not_allowed(format!("{other} is not supported on this resource"))),
        }
    }

    async fn subresource(&self, call: &Call) -> Result<Response<Body>, Status> {
        match (call.request.subresource.as_str(), call.request.verb) {
            ("status", "get") if call.resource.status => self.get(call),
            ("status", "update") if call.resource.status => self.update(call).await,
            ("status", "patch") if call.resource.status => self.patch(call).await,
            ("finalize", "update") if call.resource.plural == "namespaces" => self.update(call).await,
            ("scale", _) if call.resource.scale.is_some() => self.scale(call).await,
            ("token", "create") if call.resource.plural == "serviceaccounts" => self.issue_token(call),
            ("eviction", "create") if call.resource.plural == "pods" => self.evict(call).await,
            ("binding", "create") if call.resource.plural == "pods" => self.bind(call).await,
            _ => Err(Status::no_such_resource()),
        }
    }

    /// The answer that shows one object.
    fn show(&self, call: &Call, code: StatusCode, object: &Arc<Object>, warnings: &[String]) -> Response<Body> {
        let object = in_version(&call.resource, Arc::clone(object));
        let mut response = match call.form {
            Form::Whole => body::json_line(code, [&*object.bytes, b"\n"].concat()),
            Form::Metadata => body::json(code, &table::partial(&object.value)),
            Form::Table => {
                let metadata = json!({"resourceVersion": object.value["metadata"]["resourceVersion"]});
                body::json(code, &table::table(&call.resource, metadata, [&*object.value], call.include()))
            }
        };
        warn(&mut response, warnings);
        response
    }

    /// An object that was not stored, because nothing should be.
    fn dry(&self, call: &Call, value: Value) -> Arc<Object> {
        made(call.key_of(super::metadata::name(&value)), 0, value)
    }
}

/// An object as it is shown, which is not what is stored.
fn made(key: Key, version: u64, value: Value) -> Arc<Object> {
    let bytes = value.to_string().into();
    Arc::new(Object { key, version, bytes, value: Arc::new(value) })
}

/// An object as it is read in the version of a resource, whatever version it was written in.
fn in_version(resource: &Resource, object: Arc<Object>) -> Arc<Object> {
    let Some(value) = resource.read(&object.value) else { return object };
    made(object.key.clone(), object.version, value)
}

/// Adds warnings as kube-apiserver does (RFC 9110 has dropped the header, kubectl still prints it).
fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
