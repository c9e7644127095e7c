//! What makes pods should have made them, and they should run. A reason that cannot heal ends the wait within seconds, with
//! the pod's log.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};

use super::Installing;
use crate::finding::{Class, Evidence, Finding};
use crate::kubernetes::{Error, diagnosis};
use crate::step::{Context, Observation, Step};

/// What makes pods, and is waited for.
const KINDS: [&str; 3] = ["Deployment", "StatefulSet", "Job"];

/// The Deployments and StatefulSets of a part should be rolled out, and its Jobs done.
pub struct Rollouts {
    /// The part.
    pub part: Arc<Installing>,
}

/// How far something is.
enum Progress {
    Done,
    /// Not yet: why, and the selector of its pods.
    Waits(String, String),
}

impl Rollouts {
    async fn workloads(&self) -> Result<Vec<&DynamicObject>, Finding> {
        let objects = self.part.source.objects().await?;
        let is_one =
            |object: &&DynamicObject| object.types.as_ref().is_some_and(|types| KINDS.contains(&types.kind.as_str()));
        Ok(objects.iter().filter(is_one).collect())
    }

    async fn progress(&self, client: &Client, object: &DynamicObject) -> Result<Progress, Finding> {
        let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
        let name = object.name_any();
        let failed = |error| Error::request(format!("look at {namespace}/{name}"), error);
        let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
        if kind == "Job" {
            let api: Api<Job> = Api::namespaced(client.clone(), &namespace);
            return of_job(&name, api.get_opt(&name).await.map_err(failed)?.as_ref());
        }
        if kind == "StatefulSet" {
            let api: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
            return Ok(of_stateful_set(&name, api.get_opt(&name).await.map_err(failed)?.as_ref()));
        }
        let api: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
        Ok(of_deployment(&name, api.get_opt(&name).await.map_err(failed)?.as_ref()))
    }

    async fn pods(&self, client: &Client, namespace: &str, selector: &str) -> Result<Vec<Pod>, Finding> {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let list = api.list(&ListParams::default().labels(selector)).await;
        Ok(list.map_err(|error| Error::request(format!("list pods in {namespace}"), error))?.items)
    }
}

fn of_deployment(name: &str, there: Option<&Deployment>) -> Progress {
    let Some(deployment) = there else {
        return Progress::Waits(format!("the Deployment {name} is not there"), String::new());
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let seen = status.observed_generation >= deployment.metadata.generation;
    let all = [status.updated_replicas, status.available_replicas, status.replicas];
    if seen && all.iter().all(|count| count.unwrap_or(0) == wanted) {
        return Progress::Done;
    }
    let selector = deployment.spec.as_ref().map(|spec| labels(&spec.selector)).unwrap_or_default();
    let available = status.available_replicas.unwrap_or(0);
    Progress::Waits(format!("{available} of {wanted} pods of the Deployment {name} are available"), selector)
}

fn of_stateful_set(name: &str, there: Option<&StatefulSet>) -> Progress {
    let Some(set) = there else {
        return Progress::Waits(format!("the StatefulSet {name} is not there"), String::new());
    };
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = set.status.clone().unwrap_or_default();
    let seen = status.observed_generation >= set.metadata.generation;
    let all = [status.updated_replicas, status.ready_replicas, Some(status.replicas)];
    if seen && all.iter().all(|count| count.unwrap_or(0) == wanted) {
        return Progress::Done;
    }
    let selector = set.spec.as_ref().map(|spec| labels(&spec.selector)).unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or(0);
    Progress::Waits(format!("{ready} of {wanted} pods of the StatefulSet {name} are ready"), selector)
}

fn of_job(name: &str, there: Option<&Job>) -> Result<Progress, Finding> {
    let Some(job) = there else { return Ok(Progress::Waits(format!("the Job {name} is not there"), String::new())) };
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let has = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True");
    if has("Complete").is_some() {
        return Ok(Progress::Done);
    }
    if let Some(condition) = has("Failed") {
        let message = condition.message.as_deref().unwrap_or("it failed");
        return Err(Finding::new("job-failed", Class::Failed, format!("the Job {name} has failed: {message}")));
    }
    Ok(Progress::Waits(format!("the Job {name} is not done"), format!("job-name={name}")))
}

fn labels(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
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
        let client = self.part.access.client().await?;
        for object in workloads {
            if let Progress::Waits(why, selector) = self.progress(&client, object).await? {
                let namespace = object.namespace().unwrap_or_default();
                let pods =
                    if selector.is_empty() { Vec::new() } else { self.pods(&client, &namespace, &selector).await? };
                for pod in &pods {
                    if let Some(finding) = diagnosis::terminal(&client, pod).await {
                        return Err(finding);
                    }
                }
                let detail = pods.iter().find(|pod| !diagnosis::is_ready(pod)).map(diagnosis::difference);
                return Ok(Observation::unmet(detail.map_or(why.clone(), |detail| format!("{why}: {detail}"))));
            }
        }
        Ok(Observation::satisfied("its pods run"))
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        // The cluster's controllers do it.
        Ok(())
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let (Ok(client), Ok(workloads)) = (self.part.access.client().await, self.workloads().await) else {
            return Vec::new();
        };
        let mut evidence = Vec::new();
        for object in workloads {
            let namespace = object.namespace().unwrap_or_default();
            if let Ok(Progress::Waits(_, selector)) = self.progress(&client, object).await {
                evidence.push(
                    diagnosis::events(&client, &namespace, super::objects::kind(object), &object.name_any()).await,
                );
                for pod in self.pods(&client, &namespace, &selector).await.unwrap_or_default() {
                    evidence.extend(diagnosis::of_pod(&client, &pod).await);
                }
            }
        }
        evidence.retain(|evidence| !evidence.lines.is_empty());
        evidence
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(status: serde_json::Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "d", "generation": 2},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_rollout_is_done_when_the_new_pods_are_there_and_the_old_ones_are_gone() {
        let done = |status| matches!(of_deployment("d", Some(&deployment(status))), Progress::Done);
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
    fn a_failed_job_is_a_finding_at_once() {
        let job = |kind: &str| {
            serde_json::from_value::<Job>(json!({"status": {"conditions": [{"type": kind, "status": "True"}]}}))
                .unwrap()
        };
        assert!(matches!(of_job("j", Some(&job("Complete"))), Ok(Progress::Done)));
        assert_eq!(of_job("j", Some(&job("Failed"))).err().unwrap().id, "job-failed");
        assert!(matches!(of_job("j", None), Ok(Progress::Waits(..))));
    }
}
