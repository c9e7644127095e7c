//! The pods of a StatefulSet: how they are named and made, and what state they are in.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::claims;

/// The label that tells a pod's revision.
const REVISION: &str = "controller-revision-hash";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The number behind the set's name, if `pod` is a name of this set's pods.
pub fn ordinal(pod: &str, set: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    // Kubernetes reads only what it writes: `x-01` is no pod of `x`.
    let canonical = digits == "0" || !digits.starts_with(['0', '+', '-']);
    canonical.then(|| digits.parse().ok())?
}

/// The set's name.
pub fn set_name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// The reference by which the set controls what it makes.
pub fn controller_reference(set: &StatefulSet) -> OwnerReference {
    owner_reference("apps/v1", "StatefulSet", &set.metadata)
}

/// A controlling reference to an object.
pub fn owner_reference(api_version: &str, kind: &str, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A new pod of the set.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let of = template.metadata.clone().unwrap_or_default();
    let mut pod = Pod {
        metadata: ObjectMeta {
            name: Some(format!("{}-{ordinal}", set_name(set))),
            generate_name: Some(format!("{}-", set_name(set))),
            namespace: set.metadata.namespace.clone(),
            labels: of.labels,
            annotations: of.annotations,
            finalizers: of.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    };
    pod.labels_mut().insert(REVISION.to_owned(), revision.to_owned());
    give_identity(set, &mut pod, ordinal);
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{}-{ordinal}", set_name(set)));
        spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|name| !name.is_empty());
        spec.volumes =
            Some(volumes(set, spec.volumes.take().unwrap_or_default(), ordinal)).filter(|all| !all.is_empty());
    }
    pod
}

fn give_identity(set: &StatefulSet, pod: &mut Pod, ordinal: i32) {
    let name = format!("{}-{ordinal}", set_name(set));
    pod.labels_mut().insert(POD_NAME.to_owned(), name);
    pod.labels_mut().insert(POD_INDEX.to_owned(), ordinal.to_string());
}

/// The pod with the labels of its identity, if they are missing.
pub fn with_identity(set: &StatefulSet, pod: &Pod, ordinal: i32) -> Option<Pod> {
    let mut fixed = pod.clone();
    give_identity(set, &mut fixed, ordinal);
    (fixed != *pod).then_some(fixed)
}

/// The claims' volumes first; a volume of the template that has a claim's name gives way.
fn volumes(set: &StatefulSet, of_template: Vec<Volume>, ordinal: i32) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = claims::templates(set)
        .iter()
        .map(|template| Volume {
            name: template.name_any(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claims::claim_name(set, template, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    let claimed = volumes.len();
    for volume in of_template {
        if !volumes[..claimed].iter().any(|claim| claim.name == volume.name) {
            volumes.push(volume);
        }
    }
    volumes
}

/// The revision a pod was made from.
pub fn revision(pod: &Pod) -> &str {
    pod.labels().get(REVISION).map_or("", String::as_str)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// It ended, well or not; a pod of a set has to run.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

/// It was not started yet.
pub fn is_pending(pod: &Pod) -> bool {
    phase(pod) == "Pending"
}

/// It is being deleted.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// It runs, and its condition `Ready` is true.
pub fn is_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && ready_since(pod).is_some()
}

/// It is ready, and stays.
pub fn is_healthy(pod: &Pod) -> bool {
    is_ready(pod) && !is_terminating(pod)
}

/// How long until the pod has been ready for `min_ready_seconds`; `None` while it is not ready.
pub fn until_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<SignedDuration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_seconds == 0 {
        return Some(SignedDuration::ZERO);
    }
    let since = ready_since(pod)??;
    let rest = SignedDuration::from_secs(i64::from(min_ready_seconds)) - now.duration_since(since);
    Some(rest.max(SignedDuration::ZERO))
}

/// It has been ready for long enough.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    until_available(pod, min_ready_seconds, now).is_some_and(|rest| rest.is_zero())
}

/// `Some` if the condition is true; inside, since when.
fn ready_since(pod: &Pod) -> Option<Option<Timestamp>> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map(|time| time.0))
}
