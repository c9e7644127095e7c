//! `patch`.

use http::{Response, StatusCode};
use serde_json::Value;

use crate::api::ApiServer;
use crate::api::body::Body;
use crate::api::call::Call;
use crate::api::typed;
use crate::status::Status;

impl ApiServer {
    pub(super) async fn patch(&self, call: &Call) -> Result<Response<Body>, Status> {
        let patch: Value = serde_json::from_slice(&call.body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        loop {
            let current = self.find(call)?;
            let mut new = Value::clone(&current.value);
            match call.content_type.as_str() {
                "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                    json_patch::merge(&mut new, &patch);
                }
                "application/json-patch+json" => {
                    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
                        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
                    json_patch::patch(&mut new, &operations).map_err(|error| {
                        Status::new(
                            422,
                            "Invalid",
                            format!("the server rejected our request due to an error in our request: {error}"),
                        )
                    })?;
                }
                other => {
                    return Err(Status::unsupported_media_type(format!(
                        "the body of the request was in an unknown format - accepted media types include: \
                         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml (it was {other})"
                    )));
                }
            }
            let (new, warnings) = typed::check(call, new)?;
            match self.replace(call, &current, new).await {
                Err(status) if status.code() == 409 && self.has_moved(call, &current) => {}
                other => return Ok(self.show(call, StatusCode::OK, &*other?, &warnings)),
            }
        }
    }
}
