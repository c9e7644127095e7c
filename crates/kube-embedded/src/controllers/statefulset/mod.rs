//! StatefulSets, as `pkg/controller/statefulset` of Kubernetes behaves seen through the API.
//!
//! [`plan`] decides; [`pods`] and [`claims`] make pods and claims of templates; [`revisions`] keeps the history of
//! templates; [`status`] counts.

mod claims;
mod plan;
mod pods;
mod revisions;
mod status;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::Value;

use self::plan::{Observed, Plan, Step};
use super::action::reference;
use super::engine::Controller;
use super::view::{Name, controlled_by, is, name_of};
use super::{Context, Error};
use crate::events::Note;
use crate::objects::{Change, ChangeKind};

/// The name under which this controller's events appear.
const COMPONENT: &str = "statefulset-controller";

/// The controller.
pub struct StatefulSets {
    context: Context,
}

impl StatefulSets {
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    fn observe(&self, (namespace, name): &Name) -> Result<Option<Observed>, Error> {
        let Some(set) = self.context.get::<StatefulSet>(Some(namespace), name)? else {
            return Ok(None);
        };
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let owned_or_orphan = |object: &Value| {
            let references = object["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
            let controller = references.iter().find(|reference| reference["controller"] == true);
            controller.map_or_else(|| is_named_after(object, name), |controller| controller["uid"] == uid)
        };
        let claim_of_set = |object: &Value| is_named_after_with_template(object, &set, name);
        Ok(Some(Observed {
            pods: self.context.list::<Pod>(Some(namespace), owned_or_orphan)?,
            revisions: self.context.list::<ControllerRevision>(Some(namespace), |object| {
                name_of(object).1.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('-'))
            })?,
            claims: self.context.list::<PersistentVolumeClaim>(Some(namespace), claim_of_set)?,
            set,
            now: Timestamp::now(),
        }))
    }

    /// Does the steps; the first that fails ends it, and is said in an event.
    async fn carry_out(&self, set: &StatefulSet, steps: Vec<Step>) -> Result<(), Error> {
        for Step { action, report } in steps {
            let result = self.context.apply(action).await;
            let Some(report) = report else {
                result?;
                continue;
            };
            match result {
                Ok(()) => {
                    let (reason, message) = report.success();
                    self.context.events.tell(Note::normal(reference(set), COMPONENT, &reason, message));
                }
                Err(error) => {
                    let (reason, message) = report.failure(&error.with_causes());
                    self.context.events.tell(Note::warning(reference(set), COMPONENT, &reason, message));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The sets that may wait for a claim to go.
    fn sets_of_claim(&self, claim: &Value) -> Vec<Name> {
        let (namespace, _) = name_of(claim);
        let sets = self.context.list::<StatefulSet>(Some(&namespace), |set| {
            set["spec"]["volumeClaimTemplates"].as_array().is_some_and(|templates| !templates.is_empty())
        });
        let of_set = |set: &StatefulSet| {
            let name = set.metadata.name.clone().unwrap_or_default();
            is_named_after_with_template(claim, set, &name).then(|| (namespace.clone(), name))
        };
        sets.unwrap_or_default().iter().filter_map(of_set).collect()
    }
}

impl Controller for StatefulSets {
    type Key = Name;
    const NAME: &'static str = "statefulset";

    fn keys(&self, change: &Change) -> Vec<Name> {
        let object = &change.object;
        if is::<StatefulSet>(&change.resource) {
            return vec![name_of(object)];
        }
        let (namespace, name) = name_of(object);
        if is::<Pod>(&change.resource) || is::<ControllerRevision>(&change.resource) {
            if let Some(owner) = controlled_by(object, "StatefulSet") {
                return vec![(namespace, owner.to_owned())];
            }
            // An orphan may be one to adopt.
            return name.rsplit_once('-').map(|(parent, _)| (namespace, parent.to_owned())).into_iter().collect();
        }
        if is::<PersistentVolumeClaim>(&change.resource) && change.kind == ChangeKind::Deleted {
            return self.sets_of_claim(object);
        }
        Vec::new()
    }

    async fn reconcile(&self, key: &Name) -> Result<Option<Duration>, Error> {
        let Some(observed) = self.observe(key)? else {
            return Ok(None);
        };
        let Plan { steps, status, again } = plan::plan(&observed)?;
        let carried_out = self.carry_out(&observed.set, steps).await;
        if let Some(status) = status {
            self.context.apply(status).await?;
        }
        carried_out.map(|()| again)
    }
}

/// `X-3` is named after `X`, and so is `a-X-3` not.
fn is_named_after(object: &Value, set: &str) -> bool {
    pods::ordinal(&name_of(object).1, set).is_some()
}

fn is_named_after_with_template(claim: &Value, set: &StatefulSet, name: &str) -> bool {
    let (_, claim) = name_of(claim);
    let templates = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default();
    templates.iter().filter_map(|template| template.metadata.name.as_deref()).any(|template| {
        let rest = claim.strip_prefix(template).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|pod| pods::ordinal(pod, name).is_some())
    })
}
