//! Which objects the program has made: they carry a mark from the request on that makes them, so no cut leaves one
//! without. What was there before, the stack uses and `delete stack` leaves.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kube::api::{DynamicObject, PostParams};
use kube::{Api, ResourceExt};

use crate::kubernetes::{Error, FIELD_MANAGER, apply};

/// The mark.
const INSTALLED: &str = "a8s.a9s/installed";

/// Whether the program has made an object.
pub fn is_made(object: &impl ResourceExt) -> bool {
    object.annotations().contains_key(INSTALLED) || sabotage::sabotaged!("what-was-there-is-removed")
}

fn marked(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    object.annotations_mut().insert(INSTALLED.to_owned(), "true".to_owned());
    object
}

/// Whether somebody else has written more than the status of an object.
fn is_of_others(object: &DynamicObject) -> bool {
    let managers = object.metadata.managed_fields.as_deref().unwrap_or_default();
    managers.iter().any(|entry| {
        entry.subresource.as_deref().unwrap_or_default().is_empty()
            && !entry.manager.as_deref().is_some_and(|manager| manager.starts_with(FIELD_MANAGER))
    })
}

/// What a run has seen of the objects that it is about to apply: by name, whether one was there that the program has not
/// made.
#[derive(Default)]
pub struct Origins(Mutex<BTreeMap<String, bool>>);

impl Origins {
    /// Takes note of an object as it is, or is not, there.
    pub fn note(&self, object: &DynamicObject, there: Option<&DynamicObject>) {
        let is_of_others = there.is_some_and(|there| !is_made(there));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(apply::describe(object), is_of_others);
    }

    fn seen(&self, object: &DynamicObject) -> Option<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&apply::describe(object)).copied()
    }

    /// Makes an object, marked; says whether there was none.
    ///
    /// # Errors
    /// The request fails.
    pub async fn create(&self, api: &Api<DynamicObject>, object: &DynamicObject) -> Result<bool, Error> {
        // What it has now is not of an apply: of a namespace nothing is ever taken back.
        let parameters = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        match api.create(&parameters, &marked(object)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(Error::request(format!("create {}", apply::describe(object)), error)),
        }
    }

    /// Applies an object, and marks it unless it was there before. Nobody has looked where nothing of a part can be; what
    /// is there nonetheless shows who else has written it. Returns it as it is then.
    ///
    /// # Errors
    /// The request fails.
    pub async fn apply(&self, api: &Api<DynamicObject>, object: &DynamicObject) -> Result<DynamicObject, Error> {
        let seen = self.seen(object);
        // The stack is ours: what somebody changed in it is set right.
        if seen != Some(true) {
            let applied = apply::apply(api, &marked(object), true).await?;
            if seen.is_some() || !is_of_others(&applied) {
                return Ok(applied);
            }
        }
        apply::apply(api, object, true).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(managers: &serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "managedFields": managers},
        }))
        .unwrap()
    }

    #[test]
    fn the_mark_is_found_where_it_was_set() {
        let object = object(&json!([]));
        assert!(!is_made(&object) && is_made(&marked(&object)));
    }

    #[test]
    fn the_status_of_an_object_is_written_by_its_controller() {
        let ours = json!({"manager": "a9s", "operation": "Apply"});
        let status = json!({"manager": "kube-apiserver", "operation": "Update", "subresource": "status"});
        let theirs = json!({"manager": "helm", "operation": "Update"});
        assert!(!is_of_others(&object(&json!([ours, status]))));
        assert!(is_of_others(&object(&json!([ours, theirs]))));
    }
}
