//! What makes pods should have made them, and they should run. A reason that cannot heal ends the wait within seconds, with
//! the pod's log.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::Selector;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::{Installing, objects};
use crate::finding::{Evidence, Finding, Id};
use crate::kubernetes::{Error, apply, diagnosis, wait};
use crate::step::{Context, Observation, Step};

/// What makes pods, and is waited for.
const KINDS: [&str; 3] = ["Deployment", "StatefulSet", "Job"];

/// By this label of its pods a ReplicaSet is told from the others of its Deployment; a Deployment has it nowhere
/// (Kubernetes documentation, "Deployments", Pod-template-hash label).
const HASH: &str = "pod-template-hash";

/// The Deployments and StatefulSets of a part should be rolled out, and its Jobs done.
pub struct Rollouts {
    /// The part.
    pub part: Arc<Installing>,
}

/// How far something is.
enum Progress {
    Done,
    /// Not yet: why.
    Waits(String),
}

impl Rollouts {
    async fn workloads(&self) -> Result<Vec<&DynamicObject>, Finding> {
        let objects = self.part.source.objects().await?;
        Ok(objects.iter().filter(|object| KINDS.contains(&objects::kind(object))).collect())
    }

    /// A workload as it is there, and how far it is.
    async fn progress(
        &self,
        client: &Client,
        object: &DynamicObject,
    ) -> Result<(Option<DynamicObject>, Progress), Finding> {
        let there = apply::get(&objects::api(client, object).await?, object).await?;
        let progress = judge(object, there.as_ref())?;
        Ok((there, progress))
    }

    /// Follows a workload, from what was answered when it was applied, and its pods until it is done: two watches.
    async fn follow(&self, client: &Client, object: &DynamicObject, context: &Context) -> Result<(), Finding> {
        let name = object.name_any();
        let what = || format!("follow {}", apply::describe(object));
        let api = objects::api(client, object).await?;
        let known = match self.part.applied(object) {
            Some(applied) => Some(applied.clone()),
            None => apply::get(&api, object).await?,
        };
        let mut workload = pin!(wait::changes(api, &name, known));
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace(object));
        let mut pods = pin!(wait::selected(pods, &selector(object)));
        let (mut there, mut members) = (None, BTreeMap::new());
        loop {
            tokio::select! {
                Some(change) = workload.next() => match change {
                    Ok(now) => there = Some(now),
                    Err(error) => hopeless(what(), error)?,
                },
                Some(change) = pods.next() => match change {
                    Ok(Event::Init) => members.clear(),
                    Ok(Event::InitDone) => {}
                    Ok(Event::Delete(pod)) => drop(members.remove(&pod.name_any())),
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => drop(members.insert(pod.name_any(), pod)),
                    Err(error) => hopeless(what(), error)?,
                },
            }
            let Some(there) = &there else { continue };
            let Progress::Waits(why) = judge(object, there.as_ref())? else { return Ok(()) };
            context.progress(detailed(client, there.as_ref(), why, members.values()).await?);
        }
    }
}

/// The pods that a workload or a Service selects.
///
/// # Errors
/// The request fails.
pub(super) async fn pods(client: &Client, object: &DynamicObject) -> Result<Vec<Pod>, Error> {
    let namespace = namespace(object);
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let list = api.list(&ListParams::default().labels_from(&selector(object))).await;
    Ok(list.map_err(|error| Error::request(format!("list pods in {namespace}"), error))?.items)
}

/// What can be seen of pods of a workload that are waited for.
///
/// # Errors
/// One of them can't heal, and nothing takes its place.
async fn detailed(
    client: &Client,
    workload: Option<&DynamicObject>,
    why: String,
    pods: impl Iterator<Item = &Pod>,
) -> Result<String, Finding> {
    let mut detail = None;
    for pod in pods {
        if let Some(finding) = diagnosis::terminal(client, pod).await
            && !is_replaced(client, workload, pod).await?
        {
            return Err(finding);
        }
        if detail.is_none() && !diagnosis::is_ready(pod) {
            detail = Some(diagnosis::difference(pod));
        }
    }
    Ok(detail.map_or(why.clone(), |detail| format!("{why}: {detail}")))
}

/// Whether a pod goes without anybody's help: it is being deleted, or it is of an older ReplicaSet of a Deployment. (A
/// StatefulSet leaves a pod that never became ready as it is: Kubernetes documentation, "StatefulSets", Forced rollback.)
async fn is_replaced(client: &Client, workload: Option<&DynamicObject>, pod: &Pod) -> Result<bool, Finding> {
    let Some(workload) = workload else { return Ok(true) };
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(true);
    }
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let Some(owner) = owner.filter(|owner| owner.kind == "ReplicaSet") else { return Ok(false) };
    let namespace = namespace(workload);
    let sets: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &namespace, &ApiResource::erase::<ReplicaSet>(&()));
    let set = sets.get_opt(&owner.name).await;
    let set = set.map_err(|error| Error::request(format!("read the ReplicaSet {}", owner.name), error))?;
    Ok(set.is_none_or(|set| template(&set) != template(workload)))
}

/// What the pods of a ReplicaSet or of a Deployment are made from. The ReplicaSet of a Deployment is the one that makes the same
/// pods (k8s.io/kubernetes `pkg/controller/deployment/util`, `FindNewReplicaSet`); its number of the revision is written later
/// than that the change was seen, when an older one comes back.
fn template(object: &DynamicObject) -> Value {
    let mut template = object.data["spec"]["template"].clone();
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
    }
    template
}

/// A watch goes on after what may pass; not after a refusal, nor without credentials.
fn hopeless(what: String, error: watcher::Error) -> Result<(), Error> {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) = error else {
        return Ok(());
    };
    let error = Error::request(what, source);
    let is_refused = error.status().is_some_and(|status| matches!(status.code, 401 | 403));
    if is_refused || error.is_without_credentials() { Err(error) } else { Ok(()) }
}

fn namespace(object: &DynamicObject) -> String {
    object.namespace().unwrap_or_else(|| "default".to_owned())
}

/// What selects the pods of a workload or a Service. A server takes no Deployment or StatefulSet whose selector is empty.
fn selector(object: &DynamicObject) -> Selector {
    let written = || object.data["spec"]["selector"].clone();
    match objects::kind(object) {
        "Job" => [("job-name".to_owned(), object.name_any())].into_iter().collect(),
        "Service" => {
            let labels: BTreeMap<String, String> = serde_json::from_value(written()).unwrap_or_default();
            labels.into_iter().collect()
        }
        _ => {
            let labels: LabelSelector = serde_json::from_value(written()).unwrap_or_default();
            Selector::try_from(labels).unwrap_or_default()
        }
    }
}

/// Whether an object is a Job that has come to an end that is none.
pub(super) fn has_failed(there: &DynamicObject) -> bool {
    objects::kind(there) == "Job" && judge(there, Some(there)).is_err()
}

/// How far a workload is, as it is there.
///
/// # Errors
/// It is a Job that has failed.
fn judge(wanted: &DynamicObject, there: Option<&DynamicObject>) -> Result<Progress, Finding> {
    let (kind, name) = (objects::kind(wanted), wanted.name_any());
    let Some(there) = there else { return Ok(Progress::Waits(format!("the {kind} {name} is not there"))) };
    match kind {
        "Job" => of_job(&name, there),
        "StatefulSet" => Ok(of_pods(kind, &name, there, "ready")),
        _ => Ok(of_pods(kind, &name, there, "available")),
    }
}

/// How far something is whose pods should all be new, and `ready` or `available`.
fn of_pods(kind: &str, name: &str, there: &DynamicObject, good: &str) -> Progress {
    let status = &there.data["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let wanted = there.data["spec"]["replicas"].as_i64().unwrap_or(1);
    let is_seen = status["observedGeneration"].as_i64() >= there.metadata.generation;
    let so_far = count(&format!("{good}Replicas"));
    if is_seen && [count("updatedReplicas"), so_far, count("replicas")] == [wanted; 3] {
        return Progress::Done;
    }
    Progress::Waits(format!("{so_far} of {wanted} pods of the {kind} {name} are {good}"))
}

fn of_job(name: &str, there: &DynamicObject) -> Result<Progress, Finding> {
    let job = there.clone().try_parse::<Job>().ok();
    let conditions = job.and_then(|job| job.status?.conditions).unwrap_or_default();
    let has = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True");
    if has("Complete").is_some() {
        return Ok(Progress::Done);
    }
    if let Some(condition) = has("Failed") {
        let message = condition.message.as_deref().unwrap_or("it failed");
        return Err(Finding::new(Id::JobFailed, format!("the Job {name} has failed: {message}")));
    }
    Ok(Progress::Waits(format!("the Job {name} is not done")))
}

#[async_trait]
impl Step for Rollouts {
    fn id(&self) -> String {
        format!("{}-rollouts", self.part.id)
    }

    fn title(&self) -> String {
        format!("run {}", self.part.title)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let workloads = self.workloads().await?;
        if workloads.is_empty() {
            return Ok(Observation::satisfied("nothing of it is a pod"));
        }
        if self.part.is_fresh() {
            return Ok(Observation::unmet("its pods are on their way"));
        }
        let client = self.part.site.client().await?;
        for object in workloads {
            if let (there, Progress::Waits(why)) = self.progress(&client, object).await? {
                let pods = pods(&client, object).await?;
                return Ok(Observation::unmet(detailed(&client, there.as_ref(), why, pods.iter()).await?));
            }
        }
        Ok(Observation::satisfied("its pods run"))
    }

    /// The cluster's controllers do it; here it is seen.
    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let client = self.part.site.client().await?;
        // At the same time: one that can't come up is told, though another is still on its way.
        let follow = |object| self.follow(&client, object, context);
        try_join_all(self.workloads().await?.into_iter().map(follow)).await.map(drop)
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied("its pods run"))
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let (Ok(client), Ok(workloads)) = (self.part.site.client().await, self.workloads().await) else {
            return Vec::new();
        };
        let mut evidence = Vec::new();
        for object in workloads {
            if let Ok((_, Progress::Waits(_))) = self.progress(&client, object).await {
                let (namespace, name) = (namespace(object), object.name_any());
                evidence.push(diagnosis::events(&client, &namespace, objects::kind(object), &name).await);
                for pod in pods(&client, object).await.unwrap_or_default() {
                    evidence.extend(diagnosis::of_pod(&client, &pod).await);
                }
            }
        }
        evidence
    }
}

#[cfg(test)]
mod tests {
    use kube::client::AuthError;
    use serde_json::json;

    use super::*;

    fn workload(kind: &str, status: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "batch/v1", "kind": kind, "metadata": {"name": "w", "generation": 2},
            "spec": {"replicas": 1}, "status": status,
        }))
        .unwrap()
    }

    fn judged(there: &DynamicObject) -> Result<Progress, Finding> {
        judge(there, Some(there))
    }

    #[test]
    fn a_rollout_is_done_when_the_new_pods_are_there_and_the_old_ones_are_gone() {
        let done = |status| matches!(judged(&workload("Deployment", status)), Ok(Progress::Done));
        let counts = |generation: i64, updated: i32, available: i32, all: i32| {
            json!({
                "observedGeneration": generation, "updatedReplicas": updated, "availableReplicas": available, "replicas": all,
            })
        };
        assert!(done(counts(2, 1, 1, 1)));
        assert!(!done(counts(1, 1, 1, 1)), "the change was not seen yet");
        assert!(!done(counts(2, 0, 1, 1)), "only the old pod is there");
        assert!(!done(counts(2, 1, 1, 2)), "an old pod is still there");
        assert!(!done(json!({})));
    }

    #[test]
    fn a_replica_set_is_the_deployments_if_it_makes_the_same_pods() {
        let object = |metadata: Value, image: &str| -> DynamicObject {
            let template = json!({"metadata": metadata, "spec": {"containers": [{"image": image}]}});
            serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {"template": template}})).unwrap()
        };
        let deployment = object(json!({"creationTimestamp": null, "labels": {"app": "d"}}), "two");
        let set = |image| object(json!({"labels": {"app": "d", (HASH): "6b78bb8856"}}), image);
        assert_eq!(template(&set("two")), template(&deployment));
        assert_ne!(template(&set("one")), template(&deployment));
    }

    #[test]
    fn a_failed_job_is_a_finding_at_once() {
        let job = |kind: &str| workload("Job", json!({"conditions": [{"type": kind, "status": "True"}]}));
        assert!(matches!(judged(&job("Complete")), Ok(Progress::Done)));
        assert_eq!(judged(&job("Failed")).err().unwrap().id, Id::JobFailed);
        assert!(matches!(judge(&job("Complete"), None), Ok(Progress::Waits(..))));
    }

    #[test]
    fn a_watch_does_not_go_on_without_credentials() {
        let ends = |error| hopeless("follow it".to_owned(), watcher::Error::WatchStartFailed(error)).is_err();
        assert!(ends(kube::Error::Service(Box::new(AuthError::ExecPluginFailed))));
        assert!(!ends(kube::Error::Service("connection refused".into())));
    }
}
