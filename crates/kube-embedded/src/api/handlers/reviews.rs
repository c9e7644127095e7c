//! Questions instead of objects: who am I, may I, whose token is this; and tokens on request.

use std::time::Duration;

use http::{Response, StatusCode};
use k8s_openapi::api::authentication::v1 as authentication;
use serde_json::{Value, json};

use crate::api::ApiServer;
use crate::api::body::{self, Body};
use crate::api::builtin::causes::Causes;
use crate::api::builtin::retype;
use crate::api::call::Call;
use crate::api::{metadata, typed};
use crate::auth::rbac::{Attributes, Decision, ResourceAttributes};
use crate::auth::tokens::{AUDIENCE, Subject, TokenRequest};
use crate::objects::GroupResource;
use crate::status::{Cause, Status};
use crate::user::UserInfo;

/// The life of a token where none is asked for, in seconds.
const USUAL: i64 = 3600;

impl ApiServer {
    pub(super) fn review(&self, call: &Call) -> Result<Response<Body>, Status> {
        let (mut review, warnings) = typed::object(call)?;
        let status = match call.resource.plural.as_str() {
            "selfsubjectreviews" => json!({"userInfo": user_info(&call.user)}),
            "tokenreviews" => self.review_token(&review),
            "selfsubjectrulesreviews" => self.review_rules(call, &review),
            "selfsubjectaccessreviews" => self.review_access(&call.user, &review)?,
            _ => {
                let spec = &review["spec"];
                let groups = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let user = UserInfo {
                    name: spec["user"].as_str().unwrap_or_default().to_owned(),
                    groups: groups.map(str::to_owned).collect(),
                };
                if call.resource.namespaced && spec["resourceAttributes"]["namespace"] != call.namespace() {
                    let message = format!(
                        "Invalid value: {}: must match metadata.namespace",
                        spec["resourceAttributes"]["namespace"]
                    );
                    let field = "spec.resourceAttributes.namespace".to_owned();
                    let cause = Cause { reason: "FieldValueInvalid", field, message };
                    return Err(Status::invalid(&call.resource.group, &call.resource.kind, "", vec![cause]));
                }
                self.review_access(&user, &review)?
            }
        };
        review["status"] = status;
        let mut response = body::json(StatusCode::CREATED, &review);
        super::warn(&mut response, &warnings);
        Ok(response)
    }

    fn review_token(&self, review: &Value) -> Value {
        let (token, audiences) = (&review["spec"]["token"], &review["spec"]["audiences"]);
        let audiences: Vec<&str> = audiences.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match self.authenticator.review(token.as_str().unwrap_or_default(), &audiences) {
            Ok((user, meant)) => json!({"authenticated": true, "user": user_info(&user), "audiences": meant}),
            Err(status) => json!({"authenticated": false, "user": {}, "error": status.to_string()}),
        }
    }

    fn review_access(&self, user: &UserInfo, review: &Value) -> Result<Value, Status> {
        let (wanted, path) = (&review["spec"]["resourceAttributes"], &review["spec"]["nonResourceAttributes"]);
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let attributes = if wanted.is_object() {
            Attributes::Resource(ResourceAttributes {
                verb: text(wanted, "verb"),
                group: text(wanted, "group"),
                resource: text(wanted, "resource"),
                subresource: text(wanted, "subresource"),
                namespace: text(wanted, "namespace"),
                name: text(wanted, "name"),
            })
        } else if path.is_object() {
            Attributes::Path { verb: text(path, "verb"), path: text(path, "path") }
        } else {
            let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(Status::bad_request(message));
        };
        Ok(match self.authorizer.authorize(user, &attributes) {
            Decision::Allow => json!({"allowed": true}),
            Decision::Deny { reason } if reason.is_empty() => json!({"allowed": false}),
            Decision::Deny { reason } => json!({"allowed": false, "reason": reason}),
        })
    }

    fn review_rules(&self, call: &Call, review: &Value) -> Value {
        let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
        let (rules, errors) = self.authorizer.rules_for(&call.user, namespace);
        let (mut objects, mut paths) = (Vec::new(), Vec::new());
        for rule in rules {
            if rule.non_resource_urls.is_empty() {
                let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
                if !rule.resource_names.is_empty() {
                    shown["resourceNames"] = json!(rule.resource_names);
                }
                objects.push(shown);
            } else {
                paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
            }
        }
        let mut status = json!({"resourceRules": objects, "nonResourceRules": paths, "incomplete": !errors.is_empty()});
        if !errors.is_empty() {
            status["evaluationError"] = errors.join("; ").into();
        }
        status
    }

    /// `serviceaccounts/token`.
    pub(super) fn issue_token(&self, call: &Call) -> Result<Response<Body>, Status> {
        let account = self.find(call)?;
        let mut request = retype::<authentication::TokenRequest>(&typed::parse(call)?).map_err(|error| {
            let message = "TokenRequest in version \"v1\" cannot be handled as a TokenRequest";
            Status::bad_request(format!("{message}: {error}"))
        })?;
        if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
            request["spec"]["audiences"] = json!([AUDIENCE]);
        }
        let spec = &request["spec"];
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(USUAL);
        let mut causes = Causes::default();
        causes.token_life("spec.expirationSeconds", &seconds.into());
        if !causes.0.is_empty() {
            // kube-apiserver names none here.
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", causes.0));
        }
        let wanted = TokenRequest {
            namespace: call.namespace().to_owned(),
            account: subject(&account.value),
            pod: self.bound_pod(call, &spec["boundObjectRef"])?,
            audiences: spec["audiences"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            ttl: Duration::from_secs(seconds.unsigned_abs()),
        };
        let token = self.tokens.issue_for(&wanted).map_err(Status::internal)?;
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["kind"] = "TokenRequest".into();
        request["metadata"] =
            json!({"name": call.request.name, "namespace": call.namespace(), "creationTimestamp": metadata::now()});
        request["spec"]["expirationSeconds"] = seconds.into();
        request["status"] = json!({"token": token.token, "expirationTimestamp": metadata::time(token.expires)});
        Ok(body::json(StatusCode::CREATED, &request))
    }

    fn bound_pod(&self, call: &Call, reference: &Value) -> Result<Option<Subject>, Status> {
        if !reference.is_object() {
            return Ok(None);
        }
        let name = reference["name"].as_str().unwrap_or_default();
        if reference["kind"] != "Pod" {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount \"{}\" to object type \"{}\"",
                call.request.name, reference["kind"]
            )));
        }
        let pod = self.store.fetch_by(&GroupResource::new("", "pods"), call.namespace(), name);
        let pod = pod.ok_or_else(|| Status::not_found("", "pods", name))?;
        let uid = reference["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && uid != metadata::text(&pod.value, "uid") {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict("", "pods", name, why));
        }
        Ok(Some(subject(&pod.value)))
    }
}

fn subject(object: &Value) -> Subject {
    Subject { name: metadata::name(object).to_owned(), uid: metadata::text(object, "uid").to_owned() }
}

fn user_info(user: &UserInfo) -> Value {
    json!({"username": user.name, "groups": user.groups})
}
