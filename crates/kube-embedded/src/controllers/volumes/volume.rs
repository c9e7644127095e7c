//! What a volume needs next: its phase, and its end.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::directory::Directories;
use super::{COMPONENT, PROVISIONED_BY, PROVISIONER, Step};
use crate::controllers::action::{Action, Target, reference};
use crate::events::Note;

const PROTECTION: &str = "kubernetes.io/pv-protection";

/// Decides what is next. `claim` is the claim of the name that the volume refers to, in whatever life.
pub fn plan(volume: &PersistentVolume, claim: Option<&Value>, directories: &Directories) -> Vec<Step> {
    let spec = volume.spec.clone().unwrap_or_default();
    let going = volume.metadata.deletion_timestamp.is_some();
    let ours = is_ours(volume, directories);
    let deletes = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    let uid = spec.claim_ref.as_ref().and_then(|reference| reference.uid.as_deref()).filter(|uid| !uid.is_empty());
    let holds = claim.is_some_and(|claim| uid.is_some_and(|uid| claim["metadata"]["uid"] == uid));
    if holds {
        let named = claim.is_some_and(|claim| claim["spec"]["volumeName"] == volume.name_any());
        return if named { protected(volume, "Bound") } else { Vec::new() };
    }
    let released = uid.is_some();
    if ours && deletes && (released || going) {
        return remove(volume);
    }
    if going {
        return finalizers(volume, false).into_iter().collect();
    }
    if !released {
        return protected(volume, "Available");
    }
    if !deletes {
        return protected(volume, "Released");
    }
    let mut steps = set_phase(volume, "Failed");
    if !steps.is_empty() {
        let name = volume.name_any();
        let why = format!("error getting deleter volume plugin for volume {name:?}: no volume plugin matched");
        steps.push(Step::Do(Action::Tell(Note::warning(reference(volume), COMPONENT, "VolumeFailedDelete", why))));
    }
    steps
}

/// First the data, then the object: after a crash in between, the object says that there is something left to do.
fn remove(volume: &PersistentVolume) -> Vec<Step> {
    let mut steps = vec![Step::Remove(volume.name_any())];
    steps.extend(finalizers(volume, false));
    if volume.metadata.deletion_timestamp.is_none() {
        steps.push(Step::Do(Action::delete(Target::of(volume))));
    }
    steps
}

/// A directory that was made for a claim, at the place where those are.
fn is_ours(volume: &PersistentVolume, directories: &Directories) -> bool {
    let path = volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref()).map(|source| source.path.as_str());
    let made = volume.annotations().get(PROVISIONED_BY).is_some_and(|provisioner| provisioner == PROVISIONER);
    let expected = directories.path(&volume.name_any());
    made && path.is_some() && path == expected.as_ref().and_then(|path| path.to_str())
}

fn protected(volume: &PersistentVolume, phase: &str) -> Vec<Step> {
    let mut steps = set_phase(volume, phase);
    if volume.metadata.deletion_timestamp.is_none() {
        steps.extend(finalizers(volume, true));
    }
    steps
}

fn finalizers(volume: &PersistentVolume, wanted: bool) -> Option<Step> {
    let present = volume.finalizers().iter().any(|finalizer| finalizer == PROTECTION);
    if present == wanted {
        return None;
    }
    let mut all: Vec<&str> = volume.finalizers().iter().map(String::as_str).filter(|one| *one != PROTECTION).collect();
    if wanted {
        all.push(PROTECTION);
    }
    Some(Step::Do(Action::merge(Target::of(volume), json!({"metadata": {"finalizers": all}}))))
}

fn set_phase(volume: &PersistentVolume, phase: &str) -> Vec<Step> {
    if volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase) {
        return Vec::new();
    }
    let patch = json!({"status": {"phase": phase}});
    vec![Step::Do(Action::Merge { target: Target::of(volume), subresource: Some("status"), patch })]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn volume(policy: &str, extra: Value) -> PersistentVolume {
        let mut object = json!({
            "metadata": {"name": "pvc-u1", "uid": "v", "finalizers": [PROTECTION],
                         "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {"persistentVolumeReclaimPolicy": policy, "hostPath": {"path": "/volumes/pvc-u1"},
                     "claimRef": {"namespace": "ns", "name": "data", "uid": "u1"}},
            "status": {"phase": "Bound"},
        });
        json_patch::merge(&mut object, &extra);
        serde_json::from_value(object).unwrap()
    }

    fn planned(volume: &PersistentVolume, claim: Option<Value>) -> Vec<Step> {
        plan(volume, claim.as_ref(), &Directories::new(PathBuf::from("/volumes"), None))
    }

    fn claim(uid: &str) -> Option<Value> {
        Some(json!({"metadata": {"uid": uid}, "spec": {"volumeName": "pvc-u1"}}))
    }

    fn removes_data(steps: &[Step]) -> bool {
        steps.iter().any(|step| matches!(step, Step::Remove(_)))
    }

    #[test]
    fn a_volume_whose_claim_lives_stays() {
        assert!(planned(&volume("Delete", json!({})), claim("u1")).is_empty());
        let going = volume("Delete", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        assert!(planned(&going, claim("u1")).is_empty());
        let fresh = volume("Delete", json!({"status": {"phase": "Pending"}}));
        assert_eq!(planned(&fresh, claim("u1")).len(), 1);
    }

    #[test]
    fn the_data_goes_before_the_volume() {
        for of_claim in [None, claim("u2")] {
            let steps = planned(&volume("Delete", json!({})), of_claim);
            assert_eq!(steps[0], Step::Remove("pvc-u1".to_owned()));
            assert!(matches!(steps.last(), Some(Step::Do(Action::Delete { .. }))), "{steps:?}");
        }
        let going = volume("Delete", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        assert_eq!(planned(&going, None).len(), 2, "it goes with its finalizer");
    }

    #[test]
    fn what_is_retained_or_not_ours_keeps_its_data() {
        let retained = volume("Retain", json!({}));
        let steps = planned(&retained, None);
        assert!(!removes_data(&steps));
        assert!(
            matches!(&steps[..], [Step::Do(Action::Merge { patch, .. })] if patch["status"]["phase"] == "Released")
        );
        for foreign in [
            json!({"spec": {"hostPath": {"path": "/etc"}}}),
            json!({"spec": {"hostPath": {"path": "/volumes/../etc"}}}),
            json!({"metadata": {"name": "other"}}),
            json!({"metadata": {"annotations": null}}),
        ] {
            assert!(!removes_data(&planned(&volume("Delete", foreign.clone()), None)), "{foreign}");
        }
    }

    #[test]
    fn a_free_volume_is_available() {
        let free = volume("Retain", json!({"spec": {"claimRef": null}, "status": null}));
        let steps = planned(&free, None);
        assert!(
            matches!(&steps[..], [Step::Do(Action::Merge { patch, .. })] if patch["status"]["phase"] == "Available")
        );
    }
}
