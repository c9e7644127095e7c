//! What a StatefulSet's status says.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::plan::{min_ready_seconds, replicas, rolls};
use super::pods;
use super::revisions::Revisions;

/// Counts the pods.
pub fn count(set: &StatefulSet, all: &[&Pod], revisions: &Revisions, now: Timestamp) -> StatefulSetStatus {
    let how_many =
        |wanted: &dyn Fn(&Pod) -> bool| i32::try_from(all.iter().filter(|pod| wanted(pod)).count()).unwrap_or(i32::MAX);
    let stays_at = |name: &str, pod: &Pod| !pods::is_terminating(pod) && pods::revision(pod) == name;
    let current = revisions.current.name_any();
    let update = revisions.update.name_any();
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: how_many(&|_| true),
        ready_replicas: Some(how_many(&pods::is_ready)),
        available_replicas: Some(how_many(&|pod| pods::is_available(pod, min_ready_seconds(set), now))),
        current_replicas: Some(how_many(&|pod| stays_at(&current, pod))),
        updated_replicas: Some(how_many(&|pod| stays_at(&update, pod))),
        collision_count: Some(revisions.collisions.unwrap_or_default()),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        current_revision: Some(current),
        update_revision: Some(update),
    };
    let everyone = Some(replicas(set));
    if rolls(set)
        && status.updated_replicas == everyone
        && status.ready_replicas == everyone
        && Some(status.replicas) == everyone
    {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    // As Go leaves zeros out. `availableReplicas` and `replicas` are always there.
    status.ready_replicas = status.ready_replicas.filter(|count| *count != 0);
    status.current_replicas = status.current_replicas.filter(|count| *count != 0);
    status.updated_replicas = status.updated_replicas.filter(|count| *count != 0);
    status
}
