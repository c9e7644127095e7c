//! `patch`: JSON patches, merge patches, strategic merge patches, and apply, which may create.

use http::{Response, StatusCode};
use serde_json::Value;

use super::update::{Changed, Ownership};
use crate::api::ApiServer;
use crate::api::body::Body;
use crate::api::builtin::causes::Causes;
use crate::api::call::Call;
use crate::api::{metadata, typed};
use crate::patch::{self, ApplyOptions};
use crate::status::{Cause, Status};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

impl ApiServer {
    pub(super) async fn patch(&self, call: &Call) -> Result<Response<Body>, Status> {
        match call.content_type.as_str() {
            APPLY => self.apply(call).await,
            JSON | MERGE => self.patch_existing(call).await,
            STRATEGIC if !call.resource.is_custom() => self.patch_existing(call).await,
            _ => Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: {JSON}, {MERGE}, {}{APPLY}",
                if call.resource.is_custom() { String::new() } else { format!("{STRATEGIC}, ") }
            ))),
        }
    }

    async fn patch_existing(&self, call: &Call) -> Result<Response<Body>, Status> {
        let body: Value = serde_json::from_slice(&call.body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        loop {
            let current = self.find(call)?;
            let new = match call.content_type.as_str() {
                JSON => patch::json(&current.value, &body)?,
                MERGE => patch::merge(&current.value, &body)?,
                _ => patch::strategic(&current.value, &body, &call.resource.merge)?,
            };
            let (new, warnings) = typed::check(call, new).map_err(|why| unfit(&body, &why))?;
            check_place(call, &new)?;
            let fixed = new["metadata"]["resourceVersion"] != current.value["metadata"]["resourceVersion"];
            let done = self.replace(call, &current, new, Ownership::Tracked).await;
            if fixed || !self.has_lost(call, &current, &done).await {
                let (object, said) = done?;
                return Ok(self.show(call, StatusCode::OK, &object, &[warnings, said].concat()));
            }
        }
    }

    async fn apply(&self, call: &Call) -> Result<Response<Body>, Status> {
        let manager = call.query.get("fieldManager").ok_or_else(|| {
            let message = "Required value: is required for apply patch".to_owned();
            let cause = Cause { reason: "FieldValueRequired", field: "fieldManager".to_owned(), message };
            Status::invalid("meta.k8s.io", "PatchOptions", "", vec![cause])
        })?;
        let applied = typed::parse_yaml(&call.body, &call.resource.kind)?;
        let (applied, warnings) = typed::check_applied(call, applied)?;
        let api_version = call.resource.api_version();
        let subresource = call.request.subresource.as_str();
        let options =
            ApplyOptions { manager, force: call.query.flag("force")?, api_version: &api_version, subresource };
        loop {
            let current = self.find(call).ok();
            let (code, done) = match &current {
                Some(current) => {
                    self.check_preconditions(call, current, &applied)?;
                    let mut new = patch::apply(Some(&current.value), &applied, options, &call.resource.merge)?;
                    metadata::set(&mut new, "resourceVersion", None);
                    let (new, _) = typed::check(call, new)?;
                    (StatusCode::OK, self.replace(call, current, new, Ownership::Applied).await)
                }
                None => (StatusCode::CREATED, self.apply_new(call, &applied, options).await),
            };
            // Somebody else was faster: their object is what the configuration is applied to.
            let again = match &current {
                Some(current) => self.has_lost(call, current, &done).await,
                None => done.as_ref().is_err_and(|status| status.reason() == "AlreadyExists"),
            };
            if !again {
                let (object, said) = done?;
                return Ok(self.show(call, code, &object, &[warnings, said].concat()));
            }
        }
    }

    async fn apply_new(&self, call: &Call, applied: &Value, options: ApplyOptions<'_>) -> Result<Changed, Status> {
        if !call.request.subresource.is_empty() {
            return Err(call.not_found());
        }
        if !metadata::text(applied, "resourceVersion").is_empty() || !metadata::text(applied, "uid").is_empty() {
            return Err(call.not_found());
        }
        self.check_right_to_create(call)?;
        let new = patch::apply(None, applied, options, &call.resource.merge)?;
        let (new, _) = typed::check(call, new)?;
        self.create_object(call, new, Ownership::Applied).await
    }
}

/// 422 of a patch that makes of an object what its kind does not know. (kube-apiserver shows the whole of what was made
/// where it is no strategic merge patch.)
fn unfit(patch: &Value, why: &Status) -> Status {
    let mut causes = Causes::default();
    causes.invalid("patch", &patch.to_string().into(), &why.to_string());
    Status::invalid("", "", "", causes.0)
}

/// A patch can't move an object to another name or namespace (`checkName` in
/// `k8s.io/apiserver/pkg/endpoints/handlers/rest.go`).
fn check_place(call: &Call, new: &Value) -> Result<(), Status> {
    typed::require_name(call, new)?;
    let (namespace, on_url) = (metadata::text(new, "namespace"), call.namespace());
    if on_url.is_empty() || namespace.is_empty() || namespace == on_url {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the namespace of the object ({namespace}) does not match the namespace on the URL ({on_url})"
    )))
}
