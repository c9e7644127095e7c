//! Takes back what a scenario or a run has made: clusters, namespaces, processes. Each says what would not go.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use serde_json::Value;

use super::command::{self, Surroundings};
use super::failure::Failure;
use super::inventory;
use super::observe::{self, Look, SOON, until_cleared};
use super::stage::Stage;

/// Deletes namespaces of the shared cluster, and says what would not go.
pub async fn delete_namespaces(namespaces: Vec<String>) -> Vec<String> {
    if namespaces.is_empty() {
        return Vec::new();
    }
    let client = match Stage::get().onlooker().await {
        Ok(client) => client,
        Err(failure) => return vec![failure.to_string()],
    };
    let deletions = namespaces.iter().map(|namespace| delete_namespace(&client, namespace));
    join_all(deletions).await.into_iter().flatten().collect()
}

async fn delete_namespace(client: &Client, namespace: &str) -> Option<String> {
    match empty_and_delete(client, namespace).await {
        Ok(()) => {
            Stage::get().note_gone(namespace);
            Stage::get().close_ways(namespace).await;
            None
        }
        Err(failure) => Some(format!("namespace {namespace}: {failure}")),
    }
}

/// Deletes every cluster in these surroundings, as a person would, and says what would not go.
pub async fn delete_clusters(surroundings: &Surroundings) -> Vec<String> {
    let mut leaks = Vec::new();
    let clusters: Vec<String> = std::fs::read_dir(&surroundings.state)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_cluster(&surroundings.cluster_state(name)))
        .collect();
    for cluster in clusters {
        let words = ["delete", "cluster", "a8s", "--cluster-name", &cluster, "--yes"];
        let deleted = command::a9s_to_clear(surroundings, &words).await;
        if let Err(failure) = deleted.and_then(|outcome| outcome.require_success()) {
            leaks.push(failure.to_string());
        }
    }
    leaks
}

/// Whether the program made this directory: a scenario may have put a file of its own in the record's place.
fn is_cluster(state: &Path) -> bool {
    let record = std::fs::read(state.join("cluster.json")).unwrap_or_default();
    serde_json::from_slice::<Value>(&record).is_ok_and(|record| record["version"].is_string())
}

/// A namespace controller that finds something left looks again only after a while that grows: so what takes its time
/// to go goes first. Whatever does not go is seen when the namespace does not.
async fn end_instances(client: &Client, namespace: &str) -> Result<(), Failure> {
    let instances = observe::objects(client, namespace, "postgresql")?;
    instances.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    until_cleared("the end of the instances", SOON, || async {
        let left = instances.list(&ListParams::default()).await?.items.len();
        Ok(Look::when(left == 0, left))
    })
    .await
}

/// Deletes a namespace and waits until it, and the processes of its pods, are gone. Whether something is left in it is
/// looked at when the run ends, for all namespaces at once.
async fn empty_and_delete(client: &Client, namespace: &str) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default()).await;
    if Stage::get().existing.is_some() {
        // The namespace takes along what would not go before it.
        let _ = end_instances(client, namespace).await;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.delete(namespace, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other?),
    }
    // A namespace controller looks again after a while that grows, if something in it takes its time to go.
    until_cleared("the end of the namespace", SOON * 4, || async {
        let found = namespaces.get_opt(namespace).await?;
        Ok(Look::when(
            found.is_none(),
            serde_json::to_string(&found.and_then(|found| found.status)).unwrap_or_default(),
        ))
    })
    .await?;
    let pods: BTreeSet<String> = pods?.items.into_iter().filter_map(|pod| pod.metadata.uid).collect();
    until_cleared("the end of the pods' processes", Duration::from_secs(10), || async {
        let left: Vec<_> = pods.iter().flat_map(|uid| inventory::processes_marked("A9S_POD_UID", uid)).collect();
        Ok(Look::when(left.is_empty(), format!("{left:?}")))
    })
    .await
}

/// Waits a moment for the processes that name a directory to end, then ends them and says which they were.
pub async fn end_processes_of(directory: &str) -> Vec<String> {
    let gone = until_cleared("the end of its processes", Duration::from_secs(5), || async {
        let left = inventory::processes_naming(directory);
        Ok(Look::when(left.is_empty(), format!("{left:?}")))
    });
    if gone.await.is_ok() {
        return Vec::new();
    }
    let left = inventory::processes_naming(directory);
    inventory::end(&left);
    left.into_iter().map(|process| format!("process {} is left: {}", process.pid, process.line)).collect()
}
