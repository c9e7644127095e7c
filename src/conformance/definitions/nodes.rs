//! Nodes in trouble, and what else is done to a cluster that others share.

use std::time::Duration;

use cucumber::{given, then, when};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::failover::strike;
use crate::conformance::command;
use crate::conformance::nodes::{self, Spoilt};
use crate::conformance::observe::{Look, until};
use crate::conformance::preflight::Existing;
use crate::conformance::stage::Stage;
use crate::conformance::{Failure, World};
use crate::kubernetes::diagnosis::DISK_PRESSURE;

/// A kubelet that was started again tells of its disk with its next report, of which there is one every 10 s.
const REPORT: Duration = Duration::from_secs(60);

/// Nodes take their time, and all scenarios share the thread of the runner. Whatever is spoilt after the scenario has been
/// cut off is mended at once, where it is dropped, and the run does not end before.
async fn spoil(
    world: &mut World,
    how: impl FnOnce(&Existing, TaskTrackerToken) -> Result<Spoilt, Failure> + Send + 'static,
) -> Result<(), Failure> {
    let (cluster, at_work) = (existing()?, Stage::get().at_nodes());
    let spoilt = tokio::task::spawn_blocking(move || how(cluster, at_work)).await.map_err(std::io::Error::from)?;
    world.spoilt.push(spoilt?);
    Ok(())
}

fn existing() -> Result<&'static Existing, Failure> {
    Stage::get().existing.as_ref().ok_or(Failure::Missing("cluster with real nodes"))
}

#[given(expr = "the nodes have lost the image of {string}")]
async fn without_image(world: &mut World, instance: String) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    let spec = pods.get(&format!("{instance}-0")).await?.spec.unwrap_or_default();
    let server = spec.containers.into_iter().find(|container| container.name == "postgres");
    let image = server.and_then(|container| container.image).ok_or(Failure::Missing("image of the server"))?;
    // Whoever loads images speaks to the engine that has the nodes.
    world.surroundings.env.extend(nodes::engine());
    spoil(world, move |cluster, at_work| Spoilt::without_image(cluster, at_work, &image)).await
}

#[given(expr = "the disks of the nodes are too full")]
async fn short_of_disk(world: &mut World) -> Result<(), Failure> {
    spoil(world, Spoilt::short_of_disk).await?;
    pressure(world, true).await
}

#[when(expr = "the nodes are as they were")]
async fn as_they_were(world: &mut World) -> Result<(), Failure> {
    world.mend_nodes().await;
    pressure(world, false).await
}

/// Also when the scenario fails before it has done so itself.
#[given(regex = "^`((?:a9s|kubectl) [^`]+)` is run afterwards$")]
async fn run_afterwards(world: &mut World, line: String) -> Result<(), Failure> {
    let line = world.expand(&line);
    undo_with(world, &[line])
}

/// Those that somebody else keeps from taking pods are none of them, and stay so.
#[given(expr = "the nodes that take pods are labelled {string}, and taken back afterwards")]
async fn labelled(world: &mut World, label: String) -> Result<(), Failure> {
    let label = world.expand(&label);
    let (key, value) = label.split_once('=').ok_or(Failure::Missing("value of the label"))?;
    // They are found by the label, which goes after that.
    let unlabel = format!("kubectl label nodes --selector {label} {key}-");
    undo_with(world, &[unlabel, format!("kubectl uncordon --selector {label}")])?;
    let nodes: Api<Node> = Api::all(world.client().await?);
    let patch = json!({"metadata": {"labels": {key: value}}});
    let takes_pods = |node: &Node| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true));
    for node in nodes.list(&ListParams::default()).await?.items.into_iter().filter(takes_pods) {
        nodes.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    Ok(())
}

#[given(expr = "the Deployments of {string} are scaled back afterwards")]
async fn scale_back(world: &mut World, namespace: String) -> Result<(), Failure> {
    let deployments: Api<Deployment> = Api::namespaced(world.client().await?, &namespace);
    let deployments = deployments.list(&ListParams::default()).await?.items;
    let lines = deployments.iter().map(|deployment| {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        format!("kubectl scale deployment {} --replicas {replicas} --namespace {namespace}", deployment.name_any())
    });
    let lines: Vec<String> = lines.collect();
    undo_with(world, &lines)
}

#[when("what was done to the cluster is undone")]
async fn undo(world: &mut World) {
    world.mend_nodes().await;
}

#[when(expr = "the node of the primary of {string} is drained")]
async fn drain(world: &mut World, name: String) -> Result<(), Failure> {
    let pod = strike(world, &name).await?;
    let node = pod.spec.and_then(|spec| spec.node_name).ok_or(Failure::Missing("node of the primary"))?;
    undo_with(world, &[format!("kubectl uncordon {node}")])?;
    let words = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout", "180s"];
    world.kubectl(&words, None).await.map(drop)
}

/// Lines that undo something, of which the last one is run first.
fn undo_with(world: &mut World, lines: &[String]) -> Result<(), Failure> {
    let undo = lines.iter().map(|line| command::for_later(&world.surroundings, line));
    let undo = undo.collect::<Result<Vec<_>, Failure>>()?;
    world.spoilt.push(Spoilt::undone_by(undo, Stage::get().at_nodes()));
    Ok(())
}

#[then("nothing is left of what was done to the nodes")]
async fn nothing_left(_: &mut World) -> Result<(), Failure> {
    let cluster = existing()?;
    let left = tokio::task::spawn_blocking(move || nodes::left(cluster)).await.map_err(std::io::Error::from)??;
    Failure::unless(left.is_empty(), "nodes as they were", left.join(", "))
}

/// Waits until all nodes are under disk pressure, or none is.
async fn pressure(world: &World, is_there: bool) -> Result<(), Failure> {
    let nodes: Api<Node> = Api::all(world.client().await?);
    until(format!("disk pressure: {is_there}"), REPORT, || async {
        let nodes = nodes.list(&ListParams::default()).await?.items;
        let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let tainted = nodes.iter().filter(|node| taints(node).iter().any(|taint| taint.key == DISK_PRESSURE)).count();
        Ok(Look::when(tainted == if is_there { nodes.len() } else { 0 }, format!("{tainted} of {}", nodes.len())))
    })
    .await
}
