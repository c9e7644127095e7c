//! The `scale` subresource: an object's replicas as an `autoscaling/v1` `Scale`.

use http::{Response, StatusCode};
use k8s_openapi::api::autoscaling::v1::Scale;
use serde_json::{Value, json};

use super::update::Ownership;
use crate::api::ApiServer;
use crate::api::body::{self, Body};
use crate::api::call::Call;
use crate::api::{metadata, typed};
use crate::patch;
use crate::status::{Cause, Status};

impl ApiServer {
    pub(super) async fn scale(&self, call: &Call) -> Result<Response<Body>, Status> {
        let Some(paths) = call.resource.scale.clone() else { return Err(Status::no_such_resource()) };
        loop {
            let current = self.find(call)?;
            let shown = paths.show(&current.value);
            let wanted = match call.request.verb {
                "get" => return Ok(body::json(StatusCode::OK, &shown)),
                "update" => typed::parse_as(call, "Scale", "autoscaling/v1", &[])?,
                "patch" => patched(call, &shown)?,
                _ => return Err(Status::no_such_method()),
            };
            let wanted: Scale = serde_json::from_value(wanted).map_err(|error| {
                Status::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {error}"))
            })?;
            let replicas = wanted.spec.and_then(|spec| spec.replicas).unwrap_or(0);
            if replicas < 0 {
                let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
                let cause = Cause { reason: "FieldValueInvalid", field: "spec.replicas".to_owned(), message };
                return Err(Status::invalid("autoscaling", "Scale", &call.request.name, vec![cause]));
            }
            let mut new = Value::clone(&current.value);
            put(&mut new, &paths.spec_replicas, replicas.into())?;
            let version = wanted.metadata.resource_version.unwrap_or_default();
            let fixed = !version.is_empty() && version != current.version.to_string();
            if fixed {
                metadata::set(&mut new, "resourceVersion", Some(version.into()));
            }
            let done = self.replace(call, &current, new, Ownership::Tracked).await;
            if fixed || !self.has_lost(call, &current, &done).await {
                return Ok(body::json(StatusCode::OK, &paths.show(&done?.0.value)));
            }
        }
    }
}

fn patched(call: &Call, shown: &Value) -> Result<Value, Status> {
    let body: Value = serde_json::from_slice(&call.body)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    match call.content_type.as_str() {
        "application/json-patch+json" => patch::json(shown, &body),
        "application/merge-patch+json" | "application/strategic-merge-patch+json" | "application/apply-patch+yaml" => {
            patch::merge(shown, &body)
        }
        other => {
            Err(Status::unsupported_media_type(format!("the body of the request was in an unknown format ({other})")))
        }
    }
}

/// Sets a field, and makes the objects it lies in where they are missing.
fn put(object: &mut Value, path: &[String], value: Value) -> Result<(), Status> {
    let mut place = object;
    for part in path {
        if place.is_null() {
            *place = json!({});
        }
        // A schema may allow something else there than the definition counts on.
        let Some(fields) = place.as_object_mut() else {
            let path = path.join(".");
            return Err(Status::internal(format!("value cannot be set because part of .{path} is not an object")));
        };
        place = fields.entry(part.as_str()).or_insert(Value::Null);
    }
    *place = value;
    Ok(())
}
