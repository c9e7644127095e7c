//! What a run has left when it ends: on the cluster that its scenarios share, and on this machine.

use std::time::{Duration, Instant};

use kube::Client;

use super::failure::Failure;
use super::inventory::Inventory;
use super::observe::{self, Look};
use super::results::Verdict;
use super::stage::{SharedCluster, Stage};
use super::{directory, outside, teardown};

/// How long the cluster may take to clear away what belonged to the last namespace.
const SETTLING: Duration = Duration::from_secs(5);

/// How long it may take to delete a volume: a cloud takes its disk from the node before.
const DELETING_VOLUMES: Duration = Duration::from_secs(120);

/// How long what is done to nodes may take to end and to be undone.
const MENDING: Duration = Duration::from_secs(120);

/// What the shared cluster has outside the namespaces of scenarios that it did not have before the first of them, and
/// what is in its store. Other people's clusters change by themselves: there only what names a namespace of this run
/// counts, such as the volume of a claim that was in it, or a ConfigMap in `default` that was made for it.
pub(super) async fn on_cluster(stage: &Stage) -> Vec<String> {
    let Some(SharedCluster { onlooker, before, .. }) = stage.shared_if_there() else { return Vec::new() };
    let marks = if stage.existing.is_some() { stage.namespaces_begin() } else { String::new() };
    let own: Vec<String> = stage.namespaces_left().iter().map(|name| format!("namespace {name}")).collect();
    let begun = Instant::now();
    let settled = observe::until_cleared("nothing being left", DELETING_VOLUMES, || async {
        let mut now = outside::all(onlooker, &marks).await;
        if stage.existing.is_none() {
            now.extend(in_store(stage).await);
            now.extend(in_gone_namespaces(stage, onlooker).await);
        }
        let left: Vec<String> = now.into_iter().filter(|it| !before.contains(it) && !own.contains(it)).collect();
        let is_over = is_settled(&left, begun.elapsed(), Stage::ample_patience(SETTLING));
        Ok(if is_over { Look::Yes(left) } else { Look::NotYet(left.join("\n")) })
    });
    match settled.await {
        Ok(left) => left,
        Err(Failure::Deadline { last, .. }) => last.lines().map(str::to_owned).collect(),
        Err(other) => vec![other.to_string()],
    }
}

/// Whether what is left after so long will not go any more, where everything else than volumes is `settling` for so
/// long. Volumes go some time after the claims of the last namespace.
fn is_settled(left: &[String], waited: Duration, settling: Duration) -> bool {
    left.is_empty() || (waited >= settling && !left.iter().any(|it| it.starts_with("persistentvolume ")))
}

/// What scenarios have left where it can't be any more, and which.
async fn in_gone_namespaces(stage: &Stage, onlooker: &Client) -> Vec<String> {
    let left = match outside::in_gone_namespaces(onlooker, &stage.namespaces_begin()).await {
        Ok(left) => left,
        Err(failure) => return vec![format!("nobody knows what, without a namespace: {failure}").replace('\n', " ")],
    };
    let named = left.into_iter().map(|(namespace, object)| match stage.maker(&namespace) {
        Some(scenario) => format!("{object}, of {scenario}"),
        None => object,
    });
    named.collect()
}

/// Everything in the store of a cluster that only this run uses.
async fn in_store(stage: &Stage) -> Vec<String> {
    let look = async { stage.store().await?.list_all().await.map_err(observe::refused) };
    match look.await {
        Ok(left) => left.into_iter().map(|entry| format!("{} in the store", entry.key)).collect(),
        Err(failure) => vec![format!("nobody knows what, in the store: {failure}").replace('\n', " ")],
    }
}

/// Deletes what scenarios that were interrupted have left and the shared cluster, and looks for what the run has left.
pub(super) async fn close(stage: &Stage, before: &Inventory, verdict: Verdict) -> Vec<String> {
    let mut leaks = Vec::new();
    // It goes on beside a scenario that was cut off.
    if tokio::time::timeout(MENDING, stage.nodes_mended()).await.is_err() {
        leaks.push(format!("what was done to nodes: it was not undone within {} s", MENDING.as_secs()));
    }
    leaks.extend(stage.left());
    match (&stage.existing, verdict) {
        (None, _) => {}
        (Some(_), Verdict::ClusterLost) => {
            leaks.extend(
                stage.namespaces_left().into_iter().map(|name| format!("namespace {name} of the lost cluster")),
            );
        }
        (Some(_), _) => {
            leaks.extend(teardown::delete_namespaces(stage.namespaces_left()).await);
            // Of a run that came to its end this is known. Of one that was cut off nothing else tells it.
            if verdict != Verdict::Passed {
                leaks.extend(on_cluster(stage).await);
            }
        }
    }
    leaks.extend(directory::clear(&stage.directory).await);
    // An existing cluster may be of this machine, and come and go on it.
    if stage.existing.is_none() {
        leaks.extend(Inventory::take(&stage.directory).leaked_since(before, &stage.directory));
    }
    leaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_have_more_time_to_go_than_what_nobody_takes_away() {
        let left = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (claim, volume) = ("persistentvolumeclaim default/data", "persistentvolume pvc-1");
        for (left, waited, settling, is_over) in [
            (left(&[]), Duration::ZERO, SETTLING, true),
            (left(&[claim]), SETTLING / 2, SETTLING, false),
            (left(&[claim]), SETTLING, SETTLING, true),
            // A run with more patience.
            (left(&[claim]), SETTLING, SETTLING * 3, false),
            (left(&[claim, volume]), SETTLING * 2, SETTLING, false),
        ] {
            assert_eq!(is_settled(&left, waited, settling), is_over, "{left:?} after {waited:?}");
        }
    }
}
