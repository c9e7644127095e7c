//! JSON patch (RFC 6902) and JSON merge patch (RFC 7386), with the errors of kube-apiserver
//! (`k8s.io/apiserver/pkg/endpoints/handlers/patch.go`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails};
use serde_json::Value;

use crate::status::Status;

/// kube-apiserver's `maxJSONPatchOperations`.
const MAX_OPERATIONS: usize = 10_000;

/// Applies a JSON patch.
///
/// # Errors
/// 400 where `body` is no JSON patch, 413 for more than 10 000 operations, 422 where it does not fit `current` (a failed
/// `test` included).
pub fn json(current: &Value, body: &Value) -> Result<Value, Status> {
    if let Some(count) = body.as_array().map(Vec::len).filter(|count| *count > MAX_OPERATIONS) {
        return Err(Status::request_entity_too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        )));
    }
    let patch: json_patch::Patch = serde_json::from_value(body.clone())
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let mut patched = current.clone();
    json_patch::patch(&mut patched, &patch).map_err(|error| unprocessable(error.to_string()))?;
    if patched.is_object() {
        Ok(patched)
    } else {
        Err(unprocessable("the patch replaces the object by something else"))
    }
}

/// Applies a JSON merge patch.
///
/// # Errors
/// 400 where `patch` is not an object.
pub fn merge(current: &Value, patch: &Value) -> Result<Value, Status> {
    if !patch.is_object() {
        return Err(Status::bad_request("error decoding patch: a merge patch must be a JSON object"));
    }
    let mut patched = current.clone();
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}

/// 422 as `NewGenericServerResponse` words it; the cause says what did not fit.
pub(super) fn unprocessable(cause: impl Into<String>) -> Status {
    let mut status = Status::new(422, "Invalid", "the server rejected our request due to an error in our request");
    status.0.details = Some(StatusDetails {
        causes: Some(vec![StatusCause {
            reason: Some("UnexpectedServerResponse".to_owned()),
            message: Some(cause.into()),
            // kubectl prints it before the cause.
            field: Some("patch".to_owned()),
        }]),
        ..StatusDetails::default()
    });
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn the_vectors_of_rfc_7386_hold() {
        let vectors = [
            (value!({"a": "b"}), value!({"a": "c"}), value!({"a": "c"})),
            (value!({"a": "b"}), value!({"b": "c"}), value!({"a": "b", "b": "c"})),
            (value!({"a": "b"}), value!({"a": null}), value!({})),
            (value!({"a": "b", "b": "c"}), value!({"a": null}), value!({"b": "c"})),
            (value!({"a": ["b"]}), value!({"a": "c"}), value!({"a": "c"})),
            (value!({"a": "c"}), value!({"a": ["b"]}), value!({"a": ["b"]})),
            (value!({"a": {"b": "c"}}), value!({"a": {"b": "d", "c": null}}), value!({"a": {"b": "d"}})),
            (value!({"a": [{"b": "c"}]}), value!({"a": [1]}), value!({"a": [1]})),
            (value!({"e": null}), value!({"a": 1}), value!({"e": null, "a": 1})),
            (value!({}), value!({"a": {"bb": {"ccc": null}}}), value!({"a": {"bb": {}}})),
        ];
        for (current, patch, expected) in vectors {
            assert_eq!(merge(&current, &patch).unwrap(), expected, "{current} patched by {patch}");
        }
    }

    #[test]
    fn a_merge_patch_that_is_not_an_object_is_a_bad_request() {
        assert_eq!(merge(&value!({}), &value!([1])).unwrap_err().code(), 400);
    }

    #[test]
    fn a_json_patch_is_all_or_nothing_and_says_what_did_not_fit() {
        let current = value!({"data": {"a": "1"}});
        let patch = value!([{"op": "replace", "path": "/data/a", "value": "2"}, {"op": "test", "path": "/data/a", "value": "1"}]);
        let status = json(&current, &patch).unwrap_err();
        assert_eq!((status.code(), status.reason()), (422, "Invalid"));
        let good = value!([{"op": "test", "path": "/data/a", "value": "1"}, {"op": "add", "path": "/data/b~1c", "value": "2"}]);
        assert_eq!(json(&current, &good).unwrap(), value!({"data": {"a": "1", "b/c": "2"}}));
    }

    #[test]
    fn what_is_no_json_patch_is_a_bad_request() {
        for body in [value!({}), value!([{"op": "frobnicate", "path": "/a"}]), value!("x"), value!([{"op": "add"}])] {
            assert_eq!(json(&value!({}), &body).unwrap_err().code(), 400, "{body}");
        }
        let many: Vec<Value> = (0..10_001).map(|_| value!({"op": "remove", "path": "/a"})).collect();
        assert_eq!(json(&value!({}), &Value::Array(many)).unwrap_err().code(), 413);
        assert_eq!(json(&value!({}), &value!([{"op": "replace", "path": "", "value": 1}])).unwrap_err().code(), 422);
    }
}
