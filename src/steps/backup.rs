//! The plan that makes a backup.

use std::path::PathBuf;
use std::sync::Arc;

use super::resource::{Exists, Settled, order};
use crate::kubernetes::Access;
use crate::manifest::names::ObjectName;
use crate::manifest::resource::{Kind, Reference, Resource};
use crate::step::Plan;

/// The plan that makes a backup of an instance, and the step that knows how it ended.
pub fn create(access: &Arc<Access>, backup: &Resource, instance: &ObjectName, path: PathBuf) -> (Plan, Arc<Settled>) {
    let mut plan = Plan::new("create pg backup");
    let namespace = &backup.reference.namespace;
    let exists = plan.add(Exists {
        access: access.clone(),
        reference: Reference::new(Kind::Instance, namespace, instance),
        otherwise: format!("Can't create backup for non-existing service instance {instance} in namespace {namespace}"),
    });
    let ordered = order(&mut plan, &[exists], access, backup, Some(path));
    (plan, ordered.settled)
}
