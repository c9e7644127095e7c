//! The controllers against the API server, in one process and without a node.

mod rig;

use std::sync::atomic::Ordering;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use rig::Rig;
use serde_json::{Value, json};

/// The StatefulSet of most tests.
fn set(spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"namespace": "ns", "name": "db"},
        "spec": {
            "replicas": 2,
            "serviceName": "db",
            "podManagementPolicy": "OrderedReady",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": "i:1", "ports": [{"name": "pg", "containerPort": 5432}]}]},
            },
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    });
    json_patch::merge(&mut object["spec"], &spec);
    object
}

fn config_map(name: &str, owners: &[&ConfigMap]) -> Value {
    let references: Vec<Value> = owners
        .iter()
        .map(|owner| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.uid().unwrap(),
                   "blockOwnerDeletion": true})
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"namespace": "ns", "name": name, "ownerReferences": references}})
}

fn version(name: &str, served: bool, storage: bool) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    json!({"name": name, "served": served, "storage": storage, "schema": schema})
}

/// Defines things of these versions; how to reach their definition, and those of the namespace.
async fn define_things(
    rig: &Rig,
    versions: &[Value],
) -> (Api<CustomResourceDefinition>, ApiResource, Api<DynamicObject>) {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
            "versions": versions,
        },
    });
    let definitions: Api<CustomResourceDefinition> = Api::all(rig.client.clone());
    definitions.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "Thing"), "things");
    let things = Api::namespaced_with(rig.client.clone(), "ns", &kind);
    (definitions, kind, things)
}

impl Rig {
    fn ready(&self, replicas: i64) -> bool {
        self.get("apps", "statefulsets", "ns", "db").is_some_and(|set| {
            let status = &set["status"];
            status["replicas"].as_i64() == Some(replicas)
                && status["readyReplicas"].as_i64().unwrap_or(0) == replicas
                && status["observedGeneration"] == set["metadata"]["generation"]
        })
    }

    async fn patch_set(&self, patch: Value) {
        let api = self.api::<StatefulSet>("ns");
        api.patch("db", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    fn uid(&self, resource: &str, name: &str) -> Option<String> {
        let object = self.get("", resource, "ns", name)?;
        Some(object["metadata"]["uid"].as_str()?.to_owned())
    }

    fn messages(&self, reason: &str) -> Vec<String> {
        let mut events = self.list("", "events", "ns");
        events.retain(|event| event["reason"] == reason);
        events.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }

    async fn until_gone(&self, resource: &str, name: &str) {
        self.until(&format!("{resource} {name} is gone"), || self.get("", resource, "ns", name).is_none()).await;
    }

    async fn delete<K>(&self, name: &str, parameters: &DeleteParams)
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.api::<K>("ns").delete(name, parameters).await.unwrap();
    }
}

async fn in_namespace() -> Rig {
    let rig = Rig::start().await;
    rig.namespace("ns").await;
    rig
}

/// With the set, whose pods are so many and ready.
async fn with_set(spec: Value, replicas: i64) -> Rig {
    let rig = in_namespace().await;
    rig.create::<StatefulSet>(set(spec)).await;
    rig.until("the set", || rig.ready(replicas)).await;
    rig
}

#[tokio::test]
async fn a_new_namespace_has_its_account_and_the_cluster_its_roles() {
    let rig = in_namespace().await;
    rig.until("the CA", || rig.get("", "configmaps", "ns", "kube-root-ca.crt").is_some()).await;
    assert_eq!(rig.get("", "configmaps", "ns", "kube-root-ca.crt").unwrap()["data"]["ca.crt"], "CA");
    let admin = || rig.get("rbac.authorization.k8s.io", "clusterroles", "", "admin").unwrap();
    rig.until("the rules of admin", || admin()["rules"].to_string().contains("rolebindings")).await;
    assert!(admin()["rules"].to_string().contains("pods/exec"), "edit is part of admin");
    rig.delete::<k8s_openapi::api::core::v1::ServiceAccount>("default", &DeleteParams::default()).await;
    rig.until("the account again", || rig.get("", "serviceaccounts", "ns", "default").is_some()).await;
}

#[tokio::test]
async fn a_set_comes_up_in_order_with_volumes_and_events() {
    let rig = in_namespace().await;
    rig.healthy.store(false, Ordering::Relaxed);
    rig.create::<StatefulSet>(set(json!({}))).await;
    rig.until("db-0 runs", || rig.get("", "pods", "ns", "db-0").is_some_and(|pod| pod["status"]["phase"] == "Running"))
        .await;
    assert_eq!(rig.names("", "pods", "ns"), ["db-0"], "db-1 waits");
    rig.healthy.store(true, Ordering::Relaxed);
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    rig.api::<Pod>("ns").patch_status("db-0", &PatchParams::default(), &Patch::Merge(&ready)).await.unwrap();
    rig.until("both are ready", || rig.ready(2)).await;

    let pod = rig.get("", "pods", "ns", "db-1").unwrap();
    assert_eq!(pod["spec"]["nodeName"], "node");
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    let claim = rig.get("", "persistentvolumeclaims", "ns", "data-db-1").unwrap();
    assert_eq!((&claim["status"]["phase"], &claim["status"]["capacity"]["storage"]), (&json!("Bound"), &json!("1Gi")));
    let volume = claim["spec"]["volumeName"].as_str().unwrap().to_owned();
    assert!(rig.volumes.join(&volume).is_dir());
    let phase = || rig.get("", "persistentvolumes", "", &volume).unwrap()["status"]["phase"].clone();
    rig.until("the volume is bound", || phase() == "Bound").await;
    rig.until("the events", || rig.messages("SuccessfulCreate").len() == 4).await;
    let created = rig.messages("SuccessfulCreate");
    assert!(created.contains(&"create Pod db-1 in StatefulSet db successful".to_owned()), "{created:?}");
    assert!(created.contains(&"create Claim data-db-0 Pod db-0 in StatefulSet db success".to_owned()));
    rig.until("scheduled", || rig.messages("Scheduled").contains(&"Successfully assigned ns/db-0 to node".to_owned()))
        .await;
    let status = rig.get("apps", "statefulsets", "ns", "db").unwrap()["status"].clone();
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    assert_eq!(status["availableReplicas"], 2);
}

#[tokio::test]
async fn a_set_scales_and_keeps_its_claims() {
    let rig = with_set(json!({"replicas": 1}), 1).await;
    rig.patch_set(json!({"spec": {"replicas": 3}})).await;
    rig.until("three", || rig.ready(3)).await;
    let claim = rig.uid("persistentvolumeclaims", "data-db-2").unwrap();
    rig.patch_set(json!({"spec": {"replicas": 1}})).await;
    rig.until("one again", || rig.ready(1) && rig.names("", "pods", "ns") == ["db-0"]).await;
    rig.patch_set(json!({"spec": {"replicas": 3}})).await;
    rig.until("three again", || rig.ready(3)).await;
    assert_eq!(rig.uid("persistentvolumeclaims", "data-db-2"), Some(claim));
}

#[tokio::test]
async fn claims_go_with_scaling_and_deletion_where_the_policy_says_so() {
    let policy = json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"}});
    let rig = with_set(policy, 2).await;
    let volume = |claim: &str| {
        let claim = rig.get("", "persistentvolumeclaims", "ns", claim).unwrap();
        claim["spec"]["volumeName"].as_str().unwrap().to_owned()
    };
    let (first, second) = (volume("data-db-0"), volume("data-db-1"));
    rig.patch_set(json!({"spec": {"replicas": 1}})).await;
    rig.until_gone("persistentvolumeclaims", "data-db-1").await;
    rig.until("its volume is gone", || rig.get("", "persistentvolumes", "", &second).is_none()).await;
    assert!(!rig.volumes.join(&second).exists());
    assert!(rig.volumes.join(&first).exists());

    rig.delete::<StatefulSet>("db", &DeleteParams::default()).await;
    rig.until("everything is gone", || {
        ["pods", "persistentvolumeclaims"].iter().all(|resource| rig.names("", resource, "ns").is_empty())
            && rig.names("apps", "controllerrevisions", "ns").is_empty()
            && rig.names("", "persistentvolumes", "").is_empty()
    })
    .await;
    assert!(!rig.volumes.join(&first).exists());
}

#[tokio::test]
async fn a_deleted_pod_comes_back_with_its_claim() {
    let rig = with_set(json!({}), 2).await;
    let (pod, claim) = (rig.uid("pods", "db-0"), rig.uid("persistentvolumeclaims", "data-db-0"));
    rig.delete::<Pod>("db-0", &DeleteParams::default()).await;
    rig.until("another db-0", || rig.uid("pods", "db-0").is_some_and(|uid| Some(uid) != pod) && rig.ready(2)).await;
    assert_eq!(rig.uid("persistentvolumeclaims", "data-db-0"), claim);
    // Whoever deletes the set without anything else keeps the data.
    rig.delete::<StatefulSet>("db", &DeleteParams::default()).await;
    rig.until("no pods", || rig.names("", "pods", "ns").is_empty()).await;
    assert_eq!(rig.uid("persistentvolumeclaims", "data-db-0"), claim);
}

#[tokio::test]
async fn a_new_template_rolls_from_the_highest() {
    let rig = with_set(json!({}), 2).await;
    let container = json!({"name": "c", "image": "i:2"});
    rig.patch_set(json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await;
    rig.until("all are new", || {
        let pods = rig.list("", "pods", "ns");
        rig.ready(2) && pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "i:2")
    })
    .await;
    rig.until("the revision is current", || {
        let status = rig.get("apps", "statefulsets", "ns", "db").unwrap()["status"].clone();
        status["currentRevision"] == status["updateRevision"] && status["updatedReplicas"] == 2
    })
    .await;
    rig.until("both deletions are told", || rig.messages("SuccessfulDelete").len() == 2).await;
    assert_eq!(
        rig.messages("SuccessfulDelete"),
        ["delete Pod db-1 in StatefulSet db successful", "delete Pod db-0 in StatefulSet db successful"]
    );
    assert_eq!(rig.names("apps", "controllerrevisions", "ns").len(), 2);
}

#[tokio::test]
async fn endpoints_follow_the_pods() {
    let rig = in_namespace().await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "ns", "name": "db"},
        "spec": {"selector": {"app": "db"}, "ports": [{"name": "pg", "port": 5432, "targetPort": "pg"}]}});
    rig.create::<Service>(service).await;
    rig.until("empty endpoints", || rig.get("", "endpoints", "ns", "db").is_some()).await;
    rig.create::<StatefulSet>(set(json!({}))).await;
    let addresses = |field: &str| {
        let endpoints = rig.get("", "endpoints", "ns", "db");
        endpoints.and_then(|one| one["subsets"][0][field].as_array().map(Vec::len)).unwrap_or(0)
    };
    rig.until("two addresses", || addresses("addresses") == 2).await;
    let endpoints = rig.get("", "endpoints", "ns", "db").unwrap();
    assert_eq!(endpoints["subsets"][0]["ports"], json!([{"name": "pg", "port": 5432, "protocol": "TCP"}]));
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["targetRef"]["kind"], "Pod");

    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    rig.api::<Pod>("ns").patch_status("db-0", &PatchParams::default(), &Patch::Merge(&unready)).await.unwrap();
    rig.until("one of each", || (addresses("addresses"), addresses("notReadyAddresses")) == (1, 1)).await;
    let slices = || rig.list("discovery.k8s.io", "endpointslices", "ns");
    rig.until("the slice says so too", || {
        let conditions = |slice: &Value, index: usize| slice["endpoints"][index]["conditions"]["ready"].as_bool();
        slices().len() == 1 && slices().iter().all(|slice| conditions(slice, 0) != conditions(slice, 1))
    })
    .await;
    let label = json!({"metadata": {"labels": {"app": null}}});
    rig.api::<Pod>("ns").patch("db-0", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    rig.until("a pod without the label is not listed", || addresses("notReadyAddresses") == 0).await;
    rig.delete::<Service>("db", &DeleteParams::default()).await;
    rig.until("all gone", || rig.get("", "endpoints", "ns", "db").is_none() && slices().is_empty()).await;
}

#[tokio::test]
async fn dependents_follow_their_owner_in_the_background() {
    let rig = in_namespace().await;
    let owner: ConfigMap = rig.create(config_map("owner", &[])).await;
    let other: ConfigMap = rig.create(config_map("other", &[])).await;
    let child: ConfigMap = rig.create(config_map("child", &[&owner])).await;
    rig.create::<ConfigMap>(config_map("grandchild", &[&child])).await;
    rig.create::<ConfigMap>(config_map("shared", &[&owner, &other])).await;
    rig.delete::<ConfigMap>("owner", &DeleteParams::background()).await;
    rig.until_gone("configmaps", "grandchild").await;
    let owners = || {
        let shared = rig.get("", "configmaps", "ns", "shared").unwrap();
        shared["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len)
    };
    rig.until("the shared one has one owner", || owners() == 1).await;
    assert!(rig.get("", "configmaps", "ns", "child").is_none());

    // An owner of the same name is not the same owner; one that never was, never will be.
    let again: ConfigMap = rig.create(config_map("owner", &[])).await;
    rig.create::<ConfigMap>(config_map("late", &[&owner])).await;
    rig.until_gone("configmaps", "late").await;
    assert_eq!(rig.uid("configmaps", "owner"), again.uid());
}

#[tokio::test]
async fn an_owner_of_an_unknown_kind_is_no_reason_to_delete() {
    let rig = in_namespace().await;
    let mut object = config_map("x", &[]);
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "u"}]);
    rig.create::<ConfigMap>(object).await;
    // Something that is collected after it was looked at.
    let owner: ConfigMap = rig.create(config_map("owner", &[])).await;
    rig.create::<ConfigMap>(config_map("child", &[&owner])).await;
    rig.delete::<ConfigMap>("owner", &DeleteParams::background()).await;
    rig.until_gone("configmaps", "child").await;
    assert!(rig.get("", "configmaps", "ns", "x").is_some());
}

#[tokio::test]
async fn dependents_go_though_the_kind_of_their_owner_is_gone() {
    let rig = in_namespace().await;
    let (definitions, kind, things) = define_things(&rig, &[version("v1", true, true)]).await;
    let thing = DynamicObject::new("owner", &kind).data(json!({}));
    let owner = things.create(&PostParams::default(), &thing).await.unwrap();
    let owned = |name: &str| {
        let mut object = config_map(name, &[]);
        object["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "example.com/v1", "kind": "Thing", "name": "owner", "uid": owner.uid().unwrap()}]);
        object
    };
    rig.create::<ConfigMap>(owned("early")).await;
    definitions.delete("things.example.com", &DeleteParams::default()).await.unwrap();
    rig.until("the definition is gone", || {
        rig.get("apiextensions.k8s.io", "customresourcedefinitions", "", "things.example.com").is_none()
    })
    .await;
    rig.until_gone("configmaps", "early").await;
    // By now nobody serves what could be asked for the owner.
    rig.create::<ConfigMap>(owned("late")).await;
    rig.until_gone("configmaps", "late").await;
}

#[tokio::test]
async fn foreground_deletion_takes_the_dependents_first_and_orphans_stay() {
    let rig = in_namespace().await;
    let owner: ConfigMap = rig.create(config_map("owner", &[])).await;
    let mut held = config_map("child", &[&owner]);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    rig.create::<ConfigMap>(held).await;
    rig.delete::<ConfigMap>("owner", &DeleteParams::foreground()).await;
    let going = || {
        let child = rig.get("", "configmaps", "ns", "child").unwrap();
        !child["metadata"]["deletionTimestamp"].is_null()
    };
    rig.until("the child is being deleted", going).await;
    let owner_now = rig.get("", "configmaps", "ns", "owner").unwrap();
    assert_eq!(owner_now["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let release = json!({"metadata": {"finalizers": null}});
    rig.api::<ConfigMap>("ns").patch("child", &PatchParams::default(), &Patch::Merge(&release)).await.unwrap();
    rig.until_gone("configmaps", "owner").await;
    assert!(rig.get("", "configmaps", "ns", "child").is_none());

    let owner: ConfigMap = rig.create(config_map("owner", &[])).await;
    rig.create::<ConfigMap>(config_map("child", &[&owner])).await;
    rig.delete::<ConfigMap>("owner", &DeleteParams::orphan()).await;
    rig.until_gone("configmaps", "owner").await;
    let child = rig.get("", "configmaps", "ns", "child").unwrap();
    assert!(child["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty));
}

#[tokio::test]
async fn a_set_deleted_without_its_pods_finds_them_again() {
    let rig = with_set(json!({}), 2).await;
    let pods = (rig.uid("pods", "db-0"), rig.uid("pods", "db-1"));
    rig.delete::<StatefulSet>("db", &DeleteParams::orphan()).await;
    rig.until("the set is gone", || rig.get("apps", "statefulsets", "ns", "db").is_none()).await;
    rig.create::<StatefulSet>(set(json!({}))).await;
    rig.until("adopted", || rig.ready(2)).await;
    assert_eq!((rig.uid("pods", "db-0"), rig.uid("pods", "db-1")), pods);
}

#[tokio::test]
async fn a_namespace_goes_with_everything_in_it() {
    let rig = with_set(json!({}), 2).await;
    let mut held = config_map("held", &[]);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    rig.create::<ConfigMap>(held).await;
    let namespaces: Api<Namespace> = Api::all(rig.client.clone());
    namespaces.delete("ns", &DeleteParams::default()).await.unwrap();
    rig.until("only one object holds it", || {
        let namespace = rig.get("", "namespaces", "", "ns").unwrap();
        let conditions = namespace["status"]["conditions"].to_string();
        rig.objects.all(Some("ns")).len() == 1 && conditions.contains("example.com/hold in 1 resource instances")
    })
    .await;
    assert_eq!(rig.get("", "namespaces", "", "ns").unwrap()["status"]["phase"], "Terminating");
    let release = json!({"metadata": {"finalizers": null}});
    rig.api::<ConfigMap>("ns").patch("held", &PatchParams::default(), &Patch::Merge(&release)).await.unwrap();
    rig.until("the namespace is gone", || rig.get("", "namespaces", "", "ns").is_none()).await;
    rig.until("the volumes too", || rig.names("", "persistentvolumes", "").is_empty()).await;
    assert!(rig.objects.all(Some("ns")).is_empty());
}

#[tokio::test]
async fn objects_of_a_version_that_is_no_longer_served_go_too() {
    let rig = in_namespace().await;
    let versions = [version("v1", true, true), version("v2", true, false)];
    let (definitions, kind, things) = define_things(&rig, &versions).await;
    let owner: ConfigMap = rig.create(config_map("owner", &[])).await;
    let mut owned = DynamicObject::new("owned", &kind).data(json!({}));
    owned.owner_references_mut().extend(owner.owner_ref(&()));
    for thing in [owned, DynamicObject::new("other", &kind).data(json!({}))] {
        things.create(&PostParams::default(), &thing).await.unwrap();
    }
    let only_second = json!({"spec": {"versions": [version("v1", false, false), version("v2", true, true)]}});
    definitions.patch("things.example.com", &PatchParams::default(), &Patch::Merge(&only_second)).await.unwrap();
    let get = |name: &str| rig.get("example.com", "things", "ns", name);
    rig.delete::<ConfigMap>("owner", &DeleteParams::background()).await;
    rig.until("the owned thing is gone", || get("owned").is_none()).await;
    assert!(get("other").is_some());
    let namespaces: Api<Namespace> = Api::all(rig.client.clone());
    namespaces.delete("ns", &DeleteParams::default()).await.unwrap();
    rig.until("the namespace is gone", || rig.get("", "namespaces", "", "ns").is_none()).await;
    assert!(get("other").is_none());
}

#[tokio::test]
async fn a_claim_waits_for_its_pod_grows_and_is_protected_while_used() {
    let rig = in_namespace().await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "ns", "name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    rig.create::<PersistentVolumeClaim>(claim).await;
    rig.until("it waits", || !rig.messages("WaitForFirstConsumer").is_empty()).await;
    let now = || rig.get("", "persistentvolumeclaims", "ns", "c").unwrap();
    assert_eq!(now()["spec"]["storageClassName"], "standard");
    rig.create::<Pod>(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "ns", "name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}],
                 "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}))
        .await;
    rig.until("it is bound", || now()["status"]["phase"] == "Bound").await;
    rig.until("it is told", || rig.messages("ProvisioningSucceeded").len() == 1).await;
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    rig.api::<PersistentVolumeClaim>("ns").patch("c", &PatchParams::default(), &Patch::Merge(&grow)).await.unwrap();
    rig.until("it has grown", || now()["status"]["capacity"]["storage"] == "2Gi").await;

    rig.until("the pod runs", || rig.get("", "pods", "ns", "p").is_some_and(|pod| pod["status"]["phase"] == "Running"))
        .await;
    rig.delete::<PersistentVolumeClaim>("c", &DeleteParams::default()).await;
    assert!(!now()["metadata"]["deletionTimestamp"].is_null(), "it is used");
    rig.delete::<Pod>("p", &DeleteParams::default()).await;
    rig.until_gone("persistentvolumeclaims", "c").await;
}

#[tokio::test]
async fn work_that_was_cut_off_is_finished_after_a_restart() {
    let mut rig = in_namespace().await;
    rig.create::<StatefulSet>(set(json!({"replicas": 3}))).await;
    for pods in 1..=2 {
        rig.until("some pods", || rig.names("", "pods", "ns").len() >= pods).await;
        rig = rig.restart().await;
    }
    rig.until("three", || rig.ready(3)).await;
    assert_eq!(rig.names("", "persistentvolumes", "").len(), 3);
    rig.delete::<StatefulSet>("db", &DeleteParams::default()).await;
    let rig = rig.restart().await;
    rig.until("no pods", || rig.names("", "pods", "ns").is_empty()).await;
}
