//! The claims of a StatefulSet's pods, and who owns them (`persistentVolumeClaimRetentionPolicy`).

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::pods::{controller_reference, owner_reference, set_name};

/// The set's templates.
pub fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// `<template>-<set>-<ordinal>`.
pub fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.name_any(), set_name(set))
}

/// The claim that a template stands for.
pub fn new_claim(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> PersistentVolumeClaim {
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
    labels.extend(selector.unwrap_or_default());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(claim_name(set, template, ordinal)),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels).filter(|labels| !labels.is_empty()),
            annotations: template.metadata.annotations.clone(),
            owner_references: Some(wanted_owners(set, None, template.owner_references()))
                .filter(|owners| !owners.is_empty()),
            // Admission adds it anyway; here it saves a write where it does not.
            finalizers: Some(vec!["kubernetes.io/pvc-protection".to_owned()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The owners a claim should have, or `None` if it has them. `condemned` is the claim's pod if that is scaled away.
pub fn owners_to_set(
    set: &StatefulSet,
    condemned: Option<&Pod>,
    claim: &PersistentVolumeClaim,
) -> Option<Vec<OwnerReference>> {
    let wanted = wanted_owners(set, condemned, claim.owner_references());
    (wanted != claim.owner_references()).then_some(wanted)
}

/// A claim whose owner is an earlier pod of this name: it is about to be collected, and a new pod must not use it.
pub fn is_stale(claim: &PersistentVolumeClaim, pod_name: &str, pod: Option<&Pod>) -> bool {
    let living = pod.and_then(|pod| pod.metadata.uid.as_deref());
    claim
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "Pod" && owner.name == pod_name && living != Some(owner.uid.as_str()))
}

fn wanted_owners(set: &StatefulSet, condemned: Option<&Pod>, present: &[OwnerReference]) -> Vec<OwnerReference> {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));

    let set_uid = set.metadata.uid.as_deref().unwrap_or_default();
    let is_set = |owner: &OwnerReference| owner.uid == set_uid;
    let is_pod = |owner: &OwnerReference| {
        owner.kind == "Pod" && owner.api_version == "v1" && owner.name.starts_with(&format!("{}-", set_name(set)))
    };
    // Who is controlled by somebody else is none of ours.
    if present.iter().any(|owner| owner.controller == Some(true) && !is_set(owner) && !is_pod(owner)) {
        return present.to_vec();
    }
    let wanted = match condemned {
        Some(pod) if when_scaled => Some(owner_reference("v1", "Pod", &pod.metadata)),
        _ if when_deleted => Some(controller_reference(set)),
        _ => None,
    };
    let foreign = present.iter().filter(|owner| !is_set(owner) && !is_pod(owner)).cloned();
    foreign.chain(wanted).collect()
}
