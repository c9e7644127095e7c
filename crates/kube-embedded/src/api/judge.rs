//! Whether an object may be stored: what is set by default, and every rule it breaks, in one answer.

use serde_json::Value;

use super::ApiServer;
use super::call::Call;
use super::metadata;
use super::registry::Shape;
use super::schema::definition;
use crate::status::{Cause, Status};

impl ApiServer {
    /// Completes and checks a new state; `old` is what it replaces.
    pub(super) fn judge(&self, call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
        let resource = &call.resource;
        let causes: Vec<Cause> = match &resource.shape {
            Shape::Custom(custom) => {
                if old.is_none() && custom.terminating {
                    return Err(Status::method_not_allowed(
                        "create not allowed while custom resource definition is terminating",
                    ));
                }
                custom.schema.validate(new, old)
            }
            Shape::Builtin(_) if is_definition(call) => {
                definition::default(new);
                if old.is_none() {
                    let mut finalizers = metadata::finalizers(new).into_iter().map(str::to_owned).collect::<Vec<_>>();
                    if !finalizers.iter().any(|finalizer| finalizer == definition::FINALIZER) {
                        finalizers.push(definition::FINALIZER.to_owned());
                    }
                    metadata::set(new, "finalizers", Some(finalizers.into()));
                }
                let causes = definition::validate(new);
                if causes.is_empty() && call.request.subresource.is_empty() {
                    definition::establish(new);
                }
                causes
            }
            Shape::Builtin(_) => Vec::new(),
        };
        if causes.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(&resource.group, &resource.kind, metadata::name(new), causes))
    }
}

pub(super) fn is_definition(call: &Call) -> bool {
    call.resource.group == "apiextensions.k8s.io" && call.resource.plural == "customresourcedefinitions"
}
