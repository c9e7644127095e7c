//! JSON patch (RFC 6902) and JSON merge patch (RFC 7386), with the errors of kube-apiserver
//! (`k8s.io/apiserver/pkg/endpoints/handlers/patch.go`).

use json_patch::{AddOperation, PatchOperation, ReplaceOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails};
use serde_json::Value;

use crate::depth;
use crate::status::Status;

/// kube-apiserver's `maxJSONPatchOperations`.
const MAX_OPERATIONS: usize = 10_000;
/// The bytes that all copies of one patch may have together (kube-apiserver's `JSONPatchMaxCopyBytes`): every copy can
/// double the object.
const MAX_COPIED: usize = 3 << 20;

/// Applies a JSON patch.
///
/// # Errors
/// 400 where `body` is no JSON patch or nests too deeply, 413 for more than 10 000 operations or too much to copy, 422
/// where it does not fit `current` (a failed `test` included).
pub fn json(current: &Value, body: &Value) -> Result<Value, Status> {
    if let Some(count) = body.as_array().map(Vec::len).filter(|count| *count > MAX_OPERATIONS) {
        return Err(Status::request_entity_too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        )));
    }
    let patch: json_patch::Patch = serde_json::from_value(body.clone())
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let mut patched = current.clone();
    let mut copied = 0;
    for (index, operation) in patch.iter().enumerate() {
        check_growth(&patched, operation, &mut copied)?;
        // It leaves a document by halves where it fails, which nobody sees.
        if let Err(mut error) = json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation)) {
            error.operation = index;
            return Err(unprocessable(error.to_string()));
        }
    }
    if patched.is_object() {
        Ok(patched)
    } else {
        Err(unprocessable("the patch replaces the object by something else"))
    }
}

/// Refuses what would make a document too large or too deep; `copied` is what was copied before.
fn check_growth(document: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), Status> {
    let (path, value) = match operation {
        PatchOperation::Add(AddOperation { path, value })
        | PatchOperation::Replace(ReplaceOperation { path, value }) => (path, Some(value)),
        PatchOperation::Copy(copy) => {
            let source = document.pointer(copy.from.as_str());
            *copied += source.map_or(0, |source| source.to_string().len());
            (&copy.path, source)
        }
        // What does not move down is no deeper than it was.
        PatchOperation::Move(moved) if moved.path.count() > moved.from.count() => {
            (&moved.path, document.pointer(moved.from.as_str()))
        }
        PatchOperation::Move(_) | PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if *copied > MAX_COPIED {
        return Err(Status::request_entity_too_large(format!(
            "Request entity too large: Unable to complete the copy, the accumulated size increase of copy is {copied}, \
             exceeding the limit {MAX_COPIED}"
        )));
    }
    let left = depth::MOST.saturating_sub(path.count());
    if value.is_some_and(|value| depth::exceeds(value, left)) {
        let most = depth::MOST;
        return Err(Status::bad_request(format!("the patch nests the object too deeply, {most} levels are the most")));
    }
    Ok(())
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
fn unprocessable(cause: impl Into<String>) -> Status {
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
        let causes = status.0.details.and_then(|details| details.causes).unwrap();
        let expected = "operation '/1' failed at path '/data/a': value did not match";
        assert_eq!(causes[0].message.as_deref(), Some(expected));
        let good = value!([{"op": "test", "path": "/data/a", "value": "1"}, {"op": "add", "path": "/data/b~1c", "value": "2"}]);
        assert_eq!(json(&current, &good).unwrap(), value!({"data": {"a": "1", "b/c": "2"}}));
    }

    #[test]
    fn copies_do_not_grow_without_limit() {
        let doubled = |times: usize| {
            let operations = vec![value!({"op": "copy", "from": "/a", "path": "/a/-"}); times];
            json(&value!({"a": ["x".repeat(1000)]}), &Value::Array(operations))
        };
        assert_eq!(doubled(11).unwrap()["a"].as_array().map(Vec::len), Some(12));
        let status = doubled(13).unwrap_err();
        assert_eq!((status.code(), status.reason()), (413, "RequestEntityTooLarge"));
        assert!(status.to_string().contains("exceeding the limit 3145728"), "{status}");
    }

    #[test]
    fn no_operation_makes_a_document_too_deep() {
        let nested = |levels: usize| (1..levels).fold(value!({}), |inner, _| value!({"a": inner}));
        let current = value!({"a": nested(70), "b": nested(70)});
        let inside = format!("/a{}/x", "/a".repeat(69));
        for (operation, code) in [
            (value!({"op": "add", "path": inside, "value": nested(40)}), None),
            (value!({"op": "add", "path": inside, "value": nested(70)}), Some(400)),
            (value!({"op": "replace", "path": "/a", "value": nested(125)}), Some(400)),
            (value!({"op": "copy", "from": "/b", "path": inside}), Some(400)),
            (value!({"op": "move", "from": "/b", "path": inside}), Some(400)),
            (value!({"op": "move", "from": "/b", "path": "/c"}), None),
        ] {
            let done = json(&current, &value!([operation]));
            assert_eq!(done.err().map(|status| status.code()), code, "{operation}");
        }
        let again = vec![value!({"op": "copy", "from": "/b", "path": "/b/a"}); 60];
        assert_eq!(json(&current, &Value::Array(again)).unwrap_err().code(), 400);
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
