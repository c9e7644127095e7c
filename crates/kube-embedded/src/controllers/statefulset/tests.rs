//! Plans of StatefulSets, as data.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};

use super::plan::{AT_ONCE, Observed, Plan, plan};
use crate::controllers::action::Action;

/// A cluster of one set, on which plans are carried out in memory.
struct World {
    set: StatefulSet,
    pods: Vec<Pod>,
    revisions: Vec<ControllerRevision>,
    claims: Vec<PersistentVolumeClaim>,
    next_uid: usize,
}

const NOW: &str = "2026-01-01T00:01:00Z";

impl World {
    fn new(spec: Value) -> Self {
        let mut object = json!({
            "metadata": {"namespace": "ns", "name": "db", "uid": "set", "generation": 1, "resourceVersion": "1"},
            "spec": {
                "replicas": 3,
                "serviceName": "db",
                "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            },
        });
        json_patch::merge(&mut object["spec"], &spec);
        let set = from_value(object).unwrap();
        Self { set, pods: vec![], revisions: vec![], claims: vec![], next_uid: 0 }
    }

    fn plan(&self) -> Plan {
        plan(&Observed {
            set: self.set.clone(),
            pods: self.pods.clone(),
            revisions: self.revisions.clone(),
            claims: self.claims.clone(),
            now: NOW.parse().unwrap(),
        })
        .unwrap()
    }

    /// Plans once and carries it out; answers what was said and done to pods and claims.
    fn step(&mut self) -> Vec<String> {
        let Plan { steps, status, .. } = self.plan();
        let mut done = Vec::new();
        for step in steps {
            self.apply(step.action.clone());
            match step.report {
                Some(report) => done.push(report.success().1),
                None => done.extend(quiet(&step.action)),
            }
        }
        if let Some(Action::Replace { object, .. }) = status {
            self.set.status = from_value(object["status"].clone()).unwrap();
        }
        done
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create { resource, mut object } => {
                self.next_uid += 1;
                object["metadata"]["uid"] = json!(format!("uid-{}", self.next_uid));
                match resource.kind.as_str() {
                    "Pod" => {
                        object["status"] = json!({"phase": "Pending"});
                        self.pods.push(from_value(object).unwrap());
                    }
                    "ControllerRevision" => self.revisions.push(from_value(object).unwrap()),
                    "PersistentVolumeClaim" => self.claims.push(from_value(object).unwrap()),
                    other => panic!("{other}"),
                }
            }
            Action::Delete { target, .. } if target.resource.kind == "Pod" => {
                let pod = self.pods.iter_mut().find(|pod| pod.name_any() == target.name).unwrap();
                pod.metadata.deletion_timestamp = from_value(json!(NOW)).unwrap();
            }
            Action::Delete { target, .. } => self.revisions.retain(|revision| revision.name_any() != target.name),
            Action::Merge { target, patch, .. } => match target.resource.kind.as_str() {
                "Pod" => merge(&mut self.pods, &target.name, &patch),
                "ControllerRevision" => merge(&mut self.revisions, &target.name, &patch),
                "PersistentVolumeClaim" => merge(&mut self.claims, &target.name, &patch),
                other => panic!("{other}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// Every pod that is not going becomes ready; those that are going are gone.
    fn settle(&mut self) {
        self.pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        for pod in &mut self.pods {
            set_ready(pod, "2026-01-01T00:00:00Z");
        }
    }

    fn until_quiet(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        loop {
            let now = self.step();
            self.settle();
            if now.is_empty() && self.step().is_empty() {
                return done;
            }
            done.extend(now);
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.pods.iter().map(ResourceExt::name_any).collect();
        names.sort();
        names
    }

    fn set_image(&mut self, image: &str) {
        let spec = self.set.spec.as_mut().unwrap();
        spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    }

    fn scale(&mut self, replicas: i32) {
        self.set.spec.as_mut().unwrap().replicas = Some(replicas);
    }

    fn owners_of(&self, claim: &str) -> Vec<String> {
        let claim = self.claims.iter().find(|one| one.name_any() == claim).unwrap();
        claim.owner_references().iter().map(|owner| format!("{}/{}", owner.kind, owner.name)).collect()
    }
}

fn quiet(action: &Action) -> Option<String> {
    match action {
        Action::Merge { target, .. } if target.resource.kind == "PersistentVolumeClaim" => {
            Some(format!("owners of {}", target.name))
        }
        Action::Merge { target, .. } if target.resource.kind == "Pod" => Some(format!("change of {}", target.name)),
        _ => None,
    }
}

fn merge<K: ResourceExt + serde::Serialize + DeserializeOwned>(all: &mut [K], name: &str, patch: &Value) {
    let one = all.iter_mut().find(|one| one.name_any() == name).unwrap();
    let mut value = serde_json::to_value(&*one).unwrap();
    json_patch::merge(&mut value, patch);
    *one = from_value(value).unwrap();
}

fn set_ready(pod: &mut Pod, since: &str) {
    let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
    pod.status = from_value(json!({"phase": "Running", "conditions": [condition]})).unwrap();
}

#[test]
fn pods_come_one_after_the_other_each_with_its_claim() {
    let mut world = World::new(json!({}));
    assert_eq!(
        world.step(),
        ["create Claim data-db-0 Pod db-0 in StatefulSet db success", "create Pod db-0 in StatefulSet db successful"]
    );
    assert!(world.step().is_empty(), "db-1 waits until db-0 is ready");
    world.settle();
    assert_eq!(world.step().len(), 2);
    assert_eq!(world.names(), ["db-0", "db-1"]);
    world.until_quiet();
    assert_eq!(world.names(), ["db-0", "db-1", "db-2"]);

    let pod = &world.pods[1];
    let revision = &world.revisions[0];
    assert_eq!(pod.labels()["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(pod.labels()["statefulset.kubernetes.io/pod-name"], "db-1");
    assert_eq!(pod.labels()["controller-revision-hash"], revision.name_any());
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-1"), Some("db")));
    let volume = &spec.volumes.as_ref().unwrap()[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-1");
    assert_eq!(world.claims[1].labels()["app"], "db");
}

#[test]
fn a_parallel_set_does_not_wait() {
    let mut world = World::new(json!({"podManagementPolicy": "Parallel"}));
    world.step();
    assert_eq!(world.names(), ["db-0", "db-1", "db-2"]);
    world.scale(0);
    let done = world.step();
    assert_eq!(done.len(), 3, "{done:?}");
}

#[test]
fn a_parallel_set_of_very_many_pods_makes_them_bit_by_bit() {
    let spec = json!({"podManagementPolicy": "Parallel", "replicas": i32::MAX, "ordinals": {"start": 5}});
    let mut world = World::new(spec);
    for round in 1..=2 {
        world.step();
        assert_eq!(world.pods.len(), round * AT_ONCE);
    }
    assert_eq!((world.pods[0].name_any(), world.claims.len()), ("db-5".to_owned(), 2 * AT_ONCE));
    world.scale(0);
    assert_eq!(world.step().len(), 2 * AT_ONCE, "all go at once");
}

#[test]
fn the_status_counts_what_is_there() {
    let mut world = World::new(json!({}));
    world.step();
    world.step();
    let status = world.set.status.clone().unwrap();
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (1, None, Some(0)));
    world.until_quiet();
    let status = world.set.status.clone().unwrap();
    assert_eq!((status.replicas, status.ready_replicas, status.updated_replicas), (3, Some(3), Some(3)));
    assert_eq!(status.current_revision, status.update_revision);
    assert_eq!(status.observed_generation, Some(1));
    assert!(world.plan().status.is_none(), "said once");
}

#[test]
fn scaling_down_takes_the_highest_first_and_keeps_the_claims() {
    let mut world = World::new(json!({}));
    world.until_quiet();
    world.scale(1);
    assert_eq!(world.step(), ["delete Pod db-2 in StatefulSet db successful"]);
    assert!(world.step().is_empty(), "db-1 waits until db-2 is gone");
    world.settle();
    assert_eq!(world.step(), ["delete Pod db-1 in StatefulSet db successful"]);
    world.settle();
    assert!(world.step().is_empty());
    assert_eq!(world.claims.len(), 3);
    assert!(world.owners_of("data-db-2").is_empty());
}

#[test]
fn claims_belong_to_whoever_takes_them_along() {
    let policy = |deleted: &str, scaled: &str| json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}});
    let mut world = World::new(policy("Delete", "Retain"));
    world.until_quiet();
    assert_eq!(world.owners_of("data-db-0"), ["StatefulSet/db"]);

    let mut world = World::new(policy("Delete", "Delete"));
    world.until_quiet();
    world.scale(2);
    assert_eq!(world.step(), ["owners of data-db-2", "delete Pod db-2 in StatefulSet db successful"]);
    assert_eq!(world.owners_of("data-db-2"), ["Pod/db-2"]);
    assert_eq!(world.owners_of("data-db-1"), ["StatefulSet/db"]);

    // Scaled up again before the claim was collected: the new pod must not use it.
    world.settle();
    world.scale(3);
    assert!(world.step().is_empty());
    world.claims.retain(|claim| claim.name_any() != "data-db-2");
    assert_eq!(world.step().len(), 2);
}

#[test]
fn claims_belong_to_whom_their_template_names() {
    let owner = json!({"apiVersion": "example.com/v1", "kind": "Owner", "name": "o", "uid": "1", "controller": true});
    let metadata = json!({"name": "data", "ownerReferences": [owner]});
    let mut world = World::new(json!({"volumeClaimTemplates": [{"metadata": metadata, "spec": {}}]}));
    world.until_quiet();
    assert_eq!(world.owners_of("data-db-0"), ["Owner/o"]);
    world.scale(1);
    world.until_quiet();
    assert_eq!(world.owners_of("data-db-2"), ["Owner/o"]);
}

#[test]
fn a_changed_policy_changes_the_owners_of_claims_that_are_there() {
    let mut world = World::new(json!({}));
    world.until_quiet();
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Retain"});
    world.set.spec.as_mut().unwrap().persistent_volume_claim_retention_policy = from_value(policy).unwrap();
    assert_eq!(world.step().len(), 3);
    assert_eq!(world.owners_of("data-db-2"), ["StatefulSet/db"]);
    assert!(world.step().is_empty());
}

#[test]
fn a_new_template_replaces_pods_from_the_highest_waiting_for_each() {
    let mut world = World::new(json!({}));
    world.until_quiet();
    let first = world.revisions[0].name_any();
    world.set_image("i:2");
    assert_eq!(world.step(), ["delete Pod db-2 in StatefulSet db successful"]);
    let status = world.set.status.clone().unwrap();
    assert_eq!(status.current_revision.as_deref(), Some(first.as_str()));
    assert_ne!(status.update_revision, status.current_revision);
    assert!(world.step().is_empty());
    world.pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    assert_eq!(world.step(), ["create Pod db-2 in StatefulSet db successful"]);
    assert!(world.step().is_empty(), "db-1 stays until db-2 is ready");
    world.settle();
    assert_eq!(world.step(), ["delete Pod db-1 in StatefulSet db successful"]);
    world.settle();
    world.until_quiet();
    let status = world.set.status.clone().unwrap();
    assert_eq!(status.current_revision, status.update_revision);
    assert!(world.pods.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("i:2")));

    // The old template again is the old revision, made the newest.
    world.set_image("i:1");
    world.until_quiet();
    assert_eq!(world.set.status.clone().unwrap().update_revision, Some(first));
    assert_eq!(world.revisions.len(), 2);
}

#[test]
fn a_pod_that_never_gets_ready_holds_up_the_update() {
    let mut world = World::new(json!({"replicas": 2}));
    world.until_quiet();
    world.set_image("broken");
    world.step();
    world.pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    world.step();
    // Pod db-1 stays Pending. Going back does not replace it: it has to be deleted by hand, as with Kubernetes.
    world.set_image("i:1");
    assert!(world.step().is_empty());
    world.pods.retain(|pod| pod.name_any() != "db-1");
    assert_eq!(world.step(), ["create Pod db-1 in StatefulSet db successful"]);
    assert_eq!(world.pods[1].spec.as_ref().unwrap().containers[0].image.as_deref(), Some("i:1"));
}

#[test]
fn below_the_partition_pods_stay_and_come_back_as_they_were() {
    let mut world = World::new(json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}}));
    world.until_quiet();
    world.set_image("i:2");
    world.until_quiet();
    let image = |world: &World, name: &str| {
        let pod = world.pods.iter().find(|pod| pod.name_any() == name).unwrap();
        pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap()
    };
    assert_eq!((image(&world, "db-2"), image(&world, "db-1")), ("i:2".to_owned(), "i:1".to_owned()));
    world.pods.retain(|pod| pod.name_any() != "db-0");
    world.until_quiet();
    assert_eq!(image(&world, "db-0"), "i:1");
}

#[test]
fn on_delete_waits_for_somebody_to_delete() {
    let mut world = World::new(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}));
    world.until_quiet();
    world.set_image("i:2");
    assert!(world.until_quiet().is_empty());
    world.pods.retain(|pod| pod.name_any() != "db-1");
    world.until_quiet();
    let images =
        world.pods.iter().filter(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("i:2"));
    assert_eq!(images.count(), 1);
}

#[test]
fn a_pod_that_ended_is_deleted_and_made_again() {
    let mut world = World::new(json!({"replicas": 1}));
    world.until_quiet();
    world.pods[0].status.as_mut().unwrap().phase = Some("Failed".to_owned());
    assert_eq!(world.step(), ["delete Pod db-0 in StatefulSet db successful"]);
    assert!(world.step().is_empty());
    world.pods.clear();
    assert_eq!(world.step(), ["create Pod db-0 in StatefulSet db successful"]);
}

#[test]
fn a_ready_pod_counts_as_available_later() {
    let mut world = World::new(json!({"replicas": 2, "minReadySeconds": 90}));
    world.step();
    set_ready(&mut world.pods[0], "2026-01-01T00:00:00Z");
    let plan = world.plan();
    assert_eq!(plan.again, Some(std::time::Duration::from_secs(30)));
    world.step();
    let status = world.set.status.clone().unwrap();
    assert_eq!((status.ready_replicas, status.available_replicas), (Some(1), Some(0)));
    assert_eq!(world.names(), ["db-0"]);
}

#[test]
fn orphans_are_adopted_and_strangers_released() {
    let mut world = World::new(json!({"replicas": 1}));
    world.until_quiet();
    world.pods[0].metadata.owner_references = None;
    assert_eq!(world.step(), ["change of db-0"]);
    assert_eq!(world.pods[0].owner_references()[0].uid, "set");
    world.pods[0].labels_mut().insert("app".to_owned(), "other".to_owned());
    assert_eq!(world.step()[0], "change of db-0");
    assert!(world.pods[0].owner_references().is_empty());
}

#[test]
fn a_set_takes_over_what_one_of_its_name_left_behind() {
    let mut world = World::new(json!({"replicas": 2}));
    world.until_quiet();
    world.set.metadata.uid = Some("again".to_owned());
    world.set.status = None;
    world.pods.iter_mut().for_each(|pod| pod.metadata.owner_references = None);
    world.revisions.iter_mut().for_each(|revision| revision.metadata.owner_references = None);
    assert_eq!(world.step(), ["change of db-0", "change of db-1"]);
    assert!(world.step().is_empty(), "nothing is replaced");
    assert_eq!(world.revisions.len(), 1);
    assert_eq!(world.revisions[0].owner_references()[0].uid, "again");
}

#[test]
fn a_set_that_is_being_deleted_only_counts() {
    let mut world = World::new(json!({}));
    world.step();
    world.set.metadata.deletion_timestamp = from_value(json!(NOW)).unwrap();
    world.pods.clear();
    assert!(world.step().is_empty());
    assert_eq!(world.set.status.clone().unwrap().replicas, 0);
}

#[test]
fn old_revisions_are_forgotten() {
    let mut world = World::new(json!({"replicas": 1, "revisionHistoryLimit": 2}));
    for version in 1..8 {
        world.set_image(&format!("i:{version}"));
        world.until_quiet();
    }
    assert_eq!(world.revisions.len(), 3);
}

#[test]
fn a_revision_name_that_is_taken_is_avoided() {
    let mut world = World::new(json!({}));
    let Plan { steps, .. } = world.plan();
    let Action::Create { object, .. } = &steps[0].action else { panic!() };
    let mut foreign: ControllerRevision = from_value(object.clone()).unwrap();
    foreign.metadata.owner_references.as_mut().unwrap()[0].uid = "another set".to_owned();
    let taken = foreign.name_any();
    world.revisions.push(foreign);
    world.step();
    assert_ne!(world.set.status.clone().unwrap().update_revision, Some(taken));
    assert_eq!(world.set.status.clone().unwrap().collision_count, Some(1));
    world.step();
    assert_eq!(world.revisions.len(), 2);
}
