//! Which instances are refused: the rules as one pure function, in [`rules`], and the webhook that applies them.

pub mod rules;
pub mod server;

pub use server::serve;

use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use kube::core::response::{Status, StatusCause, StatusDetails, StatusSummary};
use kube::core::{DynamicObject, TypeMeta};
use rules::Violation;

/// Path of the webhook.
pub const PATH: &str = "/validate-postgresql-anynines-com-v1beta3-postgresql";

/// Answers a review of a `Postgresql`, or of its `Scale`, which has its `spec.replicas`. A review without a request is refused.
pub fn review(review: AdmissionReview<DynamicObject>) -> AdmissionReview<DynamicObject> {
    match review.request {
        Some(request) => answer(&request).into_review(),
        None => AdmissionResponse::invalid("the review has no request").into_review(),
    }
}

fn answer(request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
    let mut response = AdmissionResponse::from(request);
    response.types = TypeMeta { kind: "AdmissionReview".into(), api_version: "admission.k8s.io/v1".into() };
    let violations = match (&request.operation, &request.object, &request.old_object) {
        (Operation::Create, Some(object), _) => rules::create(object),
        (Operation::Update, Some(object), Some(old)) => rules::update(object, old),
        _ => vec![],
    };
    if !violations.is_empty() {
        response.allowed = false;
        response.result = invalid(&request.name, violations);
    }
    response
}

/// The Status of apimachinery's `errors.NewInvalid` (pkg/api/errors/errors.go), with a cause per violation.
fn invalid(name: &str, violations: Vec<Violation>) -> Status {
    let texts: Vec<String> =
        violations.iter().map(|violation| format!("{}: {}", violation.field, violation.text)).collect();
    let list = if let [text] = texts.as_slice() { text.clone() } else { format!("[{}]", texts.join(", ")) };
    let causes = violations
        .into_iter()
        .map(|violation| StatusCause {
            reason: violation.reason.to_owned(),
            message: violation.text,
            field: violation.field.to_owned(),
        })
        .collect();
    let (kind, group) = (a8s_api::Postgresql::KIND, a8s_api::Postgresql::GROUP);
    Status {
        status: Some(StatusSummary::Failure),
        message: format!("{kind}.{group} {name:?} is invalid: {list}"),
        reason: "Invalid".to_owned(),
        code: 422,
        details: Some(StatusDetails {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            uid: String::new(),
            causes,
            retry_after_seconds: 0,
        }),
        metadata: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn reviewed(operation: &str, object: Value, old: Value) -> Value {
        let text = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1-2-3", "operation": operation, "name": "solo", "namespace": "default",
                "kind": {"group": "postgresql.anynines.com", "version": "v1beta3", "kind": "Postgresql"},
                "resource": {"group": "postgresql.anynines.com", "version": "v1beta3", "resource": "postgresqls"},
                "userInfo": {}, "object": object, "oldObject": old, "dryRun": false,
            },
        });
        serde_json::to_value(review(serde_json::from_value(text).expect("a review"))).expect("plain data")
    }

    #[test]
    fn all_violations_are_in_one_answer() {
        let labels = json!({"a8s.a9s/dsi-name": "x"});
        let object = json!({"metadata": {"name": "x".repeat(53), "labels": labels}, "spec": {"volumeSize": "1k"}});
        let answer = reviewed("CREATE", object, Value::Null);
        assert_eq!(answer["response"]["uid"], "1-2-3");
        assert_eq!(answer["response"]["allowed"], false);
        let status = &answer["response"]["status"];
        assert_eq!((&status["code"], &status["reason"]), (&json!(422), &json!("Invalid")));
        assert_eq!(status["details"]["causes"].as_array().map(Vec::len), Some(3));
        let message = status["message"].as_str().expect("a text");
        for part in ["metadata.name", "53", "52", "spec.volumeSize", "0.5Gi", "1k", "metadata.labels", "reserved"] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }

    #[test]
    fn a_good_instance_passes() {
        let object = json!({"metadata": {"name": "solo"}, "spec": {"version": 15, "volumeSize": "1Gi"}});
        assert_eq!(reviewed("CREATE", object.clone(), Value::Null)["response"]["allowed"], true);
        assert_eq!(reviewed("UPDATE", object.clone(), object.clone())["response"]["allowed"], true);
        assert_eq!(reviewed("DELETE", Value::Null, object)["response"]["allowed"], true);
    }

    #[test]
    fn a_scale_may_not_go_down() {
        let scale = |replicas: u32| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "solo"}, "spec": {"replicas": replicas}});
        for (from, to, allowed) in [(3, 1, false), (3, 0, true), (1, 3, true), (0, 3, true)] {
            assert_eq!(reviewed("UPDATE", scale(to), scale(from))["response"]["allowed"], allowed, "{from} to {to}");
        }
    }

    #[test]
    fn a_review_without_request_is_refused() {
        let text = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"});
        let answer = review(serde_json::from_value(text).expect("a review"));
        assert!(!answer.response.expect("an answer").allowed);
    }
}
