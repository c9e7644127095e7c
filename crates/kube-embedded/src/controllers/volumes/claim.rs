//! What a claim needs next.

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::directory::Directories;
use super::{COMPONENT, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, Step, WAIT_FOR_FIRST_CONSUMER};
use crate::auth::rbac::selects;
use crate::controllers::Error;
use crate::controllers::action::{Action, Target, reference, to_value};
use crate::events::Note;
use crate::quantity::milli;

const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// What there is.
pub struct Observed {
    pub claim: PersistentVolumeClaim,
    pub classes: Vec<StorageClass>,
    /// The one of those that name none.
    pub default_class: Option<String>,
    /// Those that are free, or that the claim names, or that name the claim.
    pub volumes: Vec<PersistentVolume>,
    /// A pod on a node mounts it.
    pub used: bool,
}

/// The volume that is made for a claim.
pub fn volume_name(claim_uid: &str) -> String {
    format!("pvc-{claim_uid}")
}

/// Decides what is next.
pub fn plan(observed: &Observed, directories: &Directories) -> Result<Vec<Step>, Error> {
    let claim = &observed.claim;
    let protected = claim.finalizers().iter().any(|finalizer| finalizer == PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() {
        let free = protected && !observed.used;
        return Ok(free.then(|| finalizers(claim, |finalizer| finalizer != PROTECTION, None)).into_iter().collect());
    }
    let mut steps = Vec::new();
    if !protected {
        steps.push(finalizers(claim, |_| true, Some(PROTECTION)));
    }
    let spec = claim.spec.clone().unwrap_or_default();
    let next = match spec.volume_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => with_volume(observed, name)?,
        None => without_volume(observed, directories)?,
    };
    steps.extend(next);
    Ok(steps)
}

fn finalizers(claim: &PersistentVolumeClaim, keep: impl Fn(&str) -> bool, add: Option<&str>) -> Step {
    let mut all: Vec<&str> = claim.finalizers().iter().map(String::as_str).filter(|one| keep(one)).collect();
    all.extend(add);
    Step::Do(Action::merge(Target::of(claim).unchanged(claim), json!({"metadata": {"finalizers": all}})))
}

/// The claim says which volume it wants, or has.
fn with_volume(observed: &Observed, name: &str) -> Result<Vec<Step>, Error> {
    let claim = &observed.claim;
    let bound_before = claim.annotations().contains_key("pv.kubernetes.io/bind-completed");
    let Some(volume) = observed.volumes.iter().find(|volume| volume.name_any() == name) else {
        let lost = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return if bound_before { lose(claim, "ClaimLost", lost) } else { Ok(set_phase(claim, "Pending")) };
    };
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    match of_volume {
        Some(reference) if !is_for(reference, claim) && bound_before => {
            let why = "Two claims are bound to the same volume, this one is bound incorrectly";
            lose(claim, "ClaimMisbound", why)
        }
        Some(reference) if !is_for(reference, claim) => {
            let mut steps = set_phase(claim, "Pending");
            steps.push(warn(claim, "FailedBinding", format!("volume {name:?} already bound to a different claim.")));
            Ok(steps)
        }
        Some(reference) if reference.uid == claim.metadata.uid => bind(claim, volume),
        _ => {
            let mut steps = vec![claim_volume(claim, volume)?];
            steps.extend(bind(claim, volume)?);
            Ok(steps)
        }
    }
}

/// The claim takes any volume that fits, or one that is made for it.
fn without_volume(observed: &Observed, directories: &Directories) -> Result<Vec<Step>, Error> {
    let claim = &observed.claim;
    let named = |volume: &&PersistentVolume| {
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        reference.is_some_and(|reference| is_for(reference, claim))
    };
    if let Some(volume) = observed.volumes.iter().find(named) {
        let mut steps = Vec::new();
        if volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()?.uid.as_ref()).is_none() {
            steps.push(claim_volume(claim, volume)?);
        }
        steps.extend(bind(claim, volume)?);
        return Ok(steps);
    }
    let name = match claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()) {
        None => {
            if let Some(default) = &observed.default_class {
                let patch = json!({"spec": {"storageClassName": default}});
                return Ok(vec![Step::Do(Action::merge(Target::of(claim).unchanged(claim), patch))]);
            }
            ""
        }
        Some(name) => name,
    };
    let class = observed.classes.iter().find(|class| class.name_any() == name);
    let waits = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some(WAIT_FOR_FIRST_CONSUMER));
    let mut steps = set_phase(claim, "Pending");
    if waits && !claim.annotations().contains_key(SELECTED_NODE) {
        let message = "waiting for first consumer to be created before binding".to_owned();
        steps.push(Step::Do(Action::Tell(Note::normal(reference(claim), COMPONENT, WAIT_FOR_FIRST_CONSUMER, message))));
        return Ok(steps);
    }
    if let Some(volume) = best_fit(claim, name, &observed.volumes)? {
        let mut steps = vec![claim_volume(claim, volume)?];
        steps.extend(bind(claim, volume)?);
        return Ok(steps);
    }
    match class {
        None if name.is_empty() => {
            let why = "no persistent volumes available for this claim and no storage class is set".to_owned();
            let note = Note::normal(reference(claim), COMPONENT, "FailedBinding", why);
            steps.push(Step::Do(Action::Tell(note)));
        }
        None => {
            steps.push(warn(claim, "ProvisioningFailed", format!("storageclass.storage.k8s.io {name:?} not found")));
        }
        Some(class) if class.provisioner == PROVISIONER => return provision(claim, class, directories),
        Some(class) => {
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
                 registered.",
                class.provisioner
            );
            let note = Note::normal(reference(claim), COMPONENT, "ExternalProvisioning", message);
            steps.push(Step::Do(Action::Tell(note)));
        }
    }
    Ok(steps)
}

/// A new directory, a volume for it, and the claim bound to that.
fn provision(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    directories: &Directories,
) -> Result<Vec<Step>, Error> {
    let spec = claim.spec.clone().unwrap_or_default();
    let refused = |why: &str| {
        let message = format!("failed to provision volume with StorageClass {:?}: {why}", class.name_any());
        Ok(vec![warn(claim, "ProvisioningFailed", message)])
    };
    if spec.selector.is_some() {
        return refused("claim Selector is not supported");
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return refused("a directory of the host can't be a block device");
    }
    let name = volume_name(&claim.uid().unwrap_or_default());
    let Some(path) = directories.path(&name) else {
        return refused("the claim's uid can't be part of a path");
    };
    let Some(path) = path.to_str().map(str::to_owned) else {
        return refused("the directory of the volumes has a name that is no text");
    };
    let volume = PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())].into()),
            finalizers: Some(vec!["kubernetes.io/pv-protection".to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes.clone(),
            capacity: Some([("storage".to_owned(), requested(claim))].into()),
            claim_ref: Some(claim_reference(claim)),
            host_path: Some(HostPathVolumeSource { path, type_: Some(String::new()) }),
            mount_options: class.mount_options.clone(),
            persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned())),
            storage_class_name: Some(class.name_any()),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    };
    let message = format!("Successfully provisioned volume {name} using {PROVISIONER}");
    let note = Note::normal(reference(claim), COMPONENT, "ProvisioningSucceeded", message);
    let mut steps = vec![Step::Make(name), Step::Do(Action::create(&volume)?), Step::Do(Action::Tell(note))];
    steps.extend(bind(claim, &volume)?);
    Ok(steps)
}

/// The volume takes the claim as its own.
fn claim_volume(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<Step, Error> {
    let patch = json!({
        "metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
        "spec": {"claimRef": to_value(&claim_reference(claim))?},
    });
    Ok(Step::Do(Action::merge(Target::of(volume).unchanged(volume), patch)))
}

/// The claim takes the volume as its own, and says how large it is; a claim that wants more gets it.
fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let spec = claim.spec.as_ref();
    let name = volume.name_any();
    let completed = claim.annotations().contains_key("pv.kubernetes.io/bind-completed");
    if spec.and_then(|spec| spec.volume_name.as_deref()) != Some(&name) || !completed {
        let mut annotations = json!({"pv.kubernetes.io/bind-completed": "yes"});
        if spec.and_then(|spec| spec.volume_name.as_ref()).is_none() {
            annotations["pv.kubernetes.io/bound-by-controller"] = json!("yes");
        }
        if let Some(provisioner) = volume.annotations().get(PROVISIONED_BY) {
            for key in ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"] {
                annotations[key] = json!(provisioner);
            }
        }
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": name}});
        steps.push(Step::Do(Action::merge(Target::of(claim), patch)));
    }
    let mut capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.clone()).unwrap_or_default();
    let wanted = requested(claim);
    let has = capacity.get("storage").and_then(|size| milli(&size.0));
    if volume.annotations().contains_key(PROVISIONED_BY) && milli(&wanted.0) > has {
        // A directory has no size of its own.
        let patch = json!({"spec": {"capacity": {"storage": wanted.0}}});
        steps.push(Step::Do(Action::merge(Target::of(volume), patch)));
        let message = format!("Resize volume {name} to {} succeeded", wanted.0);
        let note = Note::normal(reference(claim), COMPONENT, "VolumeResizeSuccessful", message);
        steps.push(Step::Do(Action::Tell(note)));
        capacity.insert("storage".to_owned(), wanted);
    }
    let status = claim.status.clone().unwrap_or_default();
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.clone());
    let said = (status.phase.as_deref(), status.capacity.as_ref(), status.access_modes.as_ref());
    if said != (Some("Bound"), Some(&capacity), modes.as_ref()) {
        let status = json!({"phase": "Bound", "accessModes": to_value(&modes)?, "capacity": to_value(&capacity)?});
        steps.push(status_step(claim, status));
    }
    Ok(steps)
}

fn lose(claim: &PersistentVolumeClaim, reason: &str, why: &str) -> Result<Vec<Step>, Error> {
    let mut steps = set_phase(claim, "Lost");
    if !steps.is_empty() {
        steps.push(warn(claim, reason, why.to_owned()));
    }
    Ok(steps)
}

fn set_phase(claim: &PersistentVolumeClaim, phase: &str) -> Vec<Step> {
    let now = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if now == Some(phase) { Vec::new() } else { vec![status_step(claim, json!({"phase": phase}))] }
}

fn status_step(claim: &PersistentVolumeClaim, status: Value) -> Step {
    Step::Do(Action::Merge { target: Target::of(claim), subresource: Some("status"), patch: json!({"status": status}) })
}

fn warn(claim: &PersistentVolumeClaim, reason: &str, message: String) -> Step {
    Step::Do(Action::Tell(Note::warning(reference(claim), COMPONENT, reason, message)))
}

/// Whether a volume is meant for this claim (and not for an earlier one of its name).
fn is_for(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    reference.namespace == claim.metadata.namespace
        && reference.name == claim.metadata.name
        && reference.uid.as_ref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
}

fn claim_reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    reference(claim)
}

fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    resources.and_then(|resources| resources.requests.as_ref()?.get("storage").cloned()).unwrap_or_default()
}

/// The smallest free volume of the class that is large enough and can be mounted as asked.
fn best_fit<'a>(
    claim: &PersistentVolumeClaim,
    class: &str,
    volumes: &'a [PersistentVolume],
) -> Result<Option<&'a PersistentVolume>, Error> {
    let spec = claim.spec.clone().unwrap_or_default();
    let selector = to_value(&spec.selector)?;
    let size = milli(&requested(claim).0).unwrap_or(0);
    let mode = |given: Option<&String>| given.map_or("Filesystem", String::as_str).to_owned();
    let mut best: Option<(i128, &PersistentVolume)> = None;
    for volume in volumes {
        let Some(of_volume) = &volume.spec else { continue };
        let capacity = of_volume.capacity.as_ref().and_then(|capacity| milli(&capacity.get("storage")?.0)).unwrap_or(0);
        let has_mode = |mode: &String| of_volume.access_modes.iter().flatten().any(|one| one == mode);
        let fits = of_volume.claim_ref.is_none()
            && volume.metadata.deletion_timestamp.is_none()
            && of_volume.storage_class_name.as_deref().unwrap_or_default() == class
            && capacity >= size
            && spec.access_modes.iter().flatten().all(has_mode)
            && mode(of_volume.volume_mode.as_ref()) == mode(spec.volume_mode.as_ref())
            && (spec.selector.is_none() || selects(&selector, &to_value(volume.labels())?));
        if fits && best.is_none_or(|(smallest, _)| capacity < smallest) {
            best = Some((capacity, volume));
        }
    }
    Ok(best.map(|(_, volume)| volume))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::from_value;

    use super::*;

    fn claim(extra: Value) -> PersistentVolumeClaim {
        let mut object = json!({
            "metadata": {"namespace": "ns", "name": "data", "uid": "u1", "finalizers": [PROTECTION], "annotations": {}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "standard",
                     "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Pending"},
        });
        json_patch::merge(&mut object, &extra);
        from_value(object).unwrap()
    }

    fn class(mode: &str) -> StorageClass {
        from_value(json!({"metadata": {"name": "standard"}, "provisioner": PROVISIONER, "volumeBindingMode": mode,
            "reclaimPolicy": "Delete"}))
        .unwrap()
    }

    fn volume(name: &str, size: &str, claim_ref: Value) -> PersistentVolume {
        from_value(json!({"metadata": {"name": name, "uid": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": "standard", "capacity": {"storage": size}, "claimRef": claim_ref}}))
        .unwrap()
    }

    fn planned(claim: PersistentVolumeClaim, classes: Vec<StorageClass>, volumes: Vec<PersistentVolume>) -> Vec<Step> {
        let directories = Directories::new(PathBuf::from("/volumes"), None);
        let default_class = classes.first().map(ResourceExt::name_any);
        plan(&Observed { claim, classes, default_class, volumes, used: false }, &directories).unwrap()
    }

    fn told(steps: &[Step]) -> Vec<&str> {
        fn reason(step: &Step) -> Option<&str> {
            match step {
                Step::Do(Action::Tell(note)) => Some(&note.reason),
                _ => None,
            }
        }
        steps.iter().filter_map(reason).collect()
    }

    #[test]
    fn a_claim_gets_a_directory_once_a_pod_needs_it() {
        let waiting = planned(claim(json!({})), vec![class(WAIT_FOR_FIRST_CONSUMER)], vec![]);
        assert_eq!(told(&waiting), [WAIT_FOR_FIRST_CONSUMER]);
        let chosen = claim(json!({"metadata": {"annotations": {SELECTED_NODE: "n"}}}));
        let steps = planned(chosen, vec![class(WAIT_FOR_FIRST_CONSUMER)], vec![]);
        assert_eq!(steps[0], Step::Make("pvc-u1".to_owned()));
        let Step::Do(Action::Create { object, .. }) = &steps[1] else { panic!("{steps:?}") };
        assert_eq!(object["spec"]["hostPath"]["path"], "/volumes/pvc-u1");
        assert_eq!(object["spec"]["claimRef"]["uid"], "u1");
        assert_eq!(object["spec"]["persistentVolumeReclaimPolicy"], "Delete");
        assert_eq!(told(&steps), ["ProvisioningSucceeded"]);
        let Some(Step::Do(Action::Merge { patch, subresource, .. })) = steps.last() else { panic!() };
        assert_eq!((*subresource, &patch["status"]["phase"]), (Some("status"), &json!("Bound")));
        assert_eq!(patch["status"]["capacity"]["storage"], "1Gi");
    }

    #[test]
    fn a_crash_after_the_volume_was_made_ends_in_the_same_binding() {
        let made = volume("pvc-u1", "1Gi", json!({"namespace": "ns", "name": "data", "uid": "u1"}));
        let steps = planned(claim(json!({})), vec![class("Immediate")], vec![made]);
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert!(matches!(&steps[0], Step::Do(Action::Merge { patch, .. }) if patch["spec"]["volumeName"] == "pvc-u1"));
    }

    #[test]
    fn a_volume_of_an_earlier_claim_of_the_same_name_is_not_taken() {
        let old = volume("pvc-u0", "1Gi", json!({"namespace": "ns", "name": "data", "uid": "u0"}));
        let steps = planned(claim(json!({})), vec![class("Immediate")], vec![old]);
        assert_eq!(steps[0], Step::Make("pvc-u1".to_owned()));
    }

    #[test]
    fn the_smallest_volume_that_fits_is_taken() {
        let volumes = vec![
            volume("small", "500Mi", Value::Null),
            volume("large", "10Gi", Value::Null),
            volume("fits", "1Gi", Value::Null),
        ];
        let steps = planned(claim(json!({})), vec![class("Immediate")], volumes);
        assert!(matches!(&steps[0], Step::Do(Action::Merge { target, .. }) if target.name == "fits"), "{steps:?}");
    }

    #[test]
    fn a_bound_claim_may_grow_and_otherwise_rests() {
        let bound = |size: &str| {
            claim(json!({
                "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
                "spec": {"volumeName": "v", "resources": {"requests": {"storage": size}}},
                "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}},
            }))
        };
        let mut of_claim = volume("v", "1Gi", json!({"namespace": "ns", "name": "data", "uid": "u1"}));
        of_claim.annotations_mut().insert(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned());
        assert!(planned(bound("1Gi"), vec![], vec![of_claim.clone()]).is_empty());
        assert!(planned(bound("512Mi"), vec![], vec![of_claim.clone()]).is_empty());
        let steps = planned(bound("2Gi"), vec![], vec![of_claim]);
        assert!(
            matches!(&steps[0], Step::Do(Action::Merge { patch, .. }) if patch["spec"]["capacity"]["storage"] == "2Gi")
        );
        assert_eq!(told(&steps), ["VolumeResizeSuccessful"]);
        assert_eq!(told(&planned(bound("1Gi"), vec![], vec![])), ["ClaimLost"]);
    }

    #[test]
    fn a_claim_that_nobody_serves_says_why() {
        let of = |name: Value| claim(json!({"spec": {"storageClassName": name}}));
        assert_eq!(told(&planned(of(json!("gone")), vec![], vec![])), ["ProvisioningFailed"]);
        assert_eq!(told(&planned(of(json!("")), vec![class("Immediate")], vec![])), ["FailedBinding"]);
        let mut foreign = class("Immediate");
        foreign.provisioner = "example.com/disk".to_owned();
        assert_eq!(told(&planned(claim(json!({})), vec![foreign], vec![])), ["ExternalProvisioning"]);
        let steps = planned(of(Value::Null), vec![class("Immediate")], vec![]);
        assert!(
            matches!(&steps[..], [Step::Do(Action::Merge { patch, .. })] if patch["spec"]["storageClassName"] == "standard")
        );
    }

    #[test]
    fn a_claim_in_use_is_protected() {
        let directories = Directories::new(PathBuf::from("/volumes"), None);
        let going = claim(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let with = |used| {
            let (classes, volumes) = (vec![], vec![]);
            let observed = Observed { claim: going.clone(), classes, default_class: None, volumes, used };
            plan(&observed, &directories).unwrap()
        };
        assert!(with(true).is_empty());
        let steps = with(false);
        assert!(
            matches!(&steps[..], [Step::Do(Action::Merge { patch, .. })] if patch["metadata"]["finalizers"] == json!([]))
        );
        let bare = claim(json!({"metadata": {"finalizers": null}}));
        let steps = planned(bare, vec![class(WAIT_FOR_FIRST_CONSUMER)], vec![]);
        assert!(
            matches!(&steps[0], Step::Do(Action::Merge { patch, .. }) if patch["metadata"]["finalizers"] == json!([PROTECTION]))
        );
    }
}
