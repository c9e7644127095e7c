//! The end of the node, clean and otherwise, and its return.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::world::{World, eventually, pod_ip, processes, status};

/// First argument with which this program is a node that runs until it is killed.
const WORD: &str = "__node";

/// Becomes such a node if asked.
pub fn dispatch() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) != Some(WORD) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = World::at(Path::new(&arguments[2])).await;
        world.pod("a", SCRIPT, json!({}), json!({})).await;
        let pod = world.ready("a").await;
        eventually("everything of it runs", || async { world.log("a").await == "up\n" }).await;
        println!("{}", pod_ip(&pod));
        std::future::pending::<()>().await;
    });
}

/// Ignores SIGTERM, and starts something that loses its marks.
const SCRIPT: &str = "trap '' TERM; env -i setsid sleep 600 & echo up; while :; do sleep 0.5; done";

pub async fn a_stopped_node_leaves_nothing_and_starts_its_pods_again() {
    let temporary = tempfile::Builder::new().prefix("a9s-node-").tempdir().unwrap();
    let world = World::at(temporary.path()).await;
    world.pod("a", "echo up; trap 'exit 0' TERM; while :; do sleep 0.02; done", json!({}), json!({})).await;
    let before = world.ready("a").await;
    world.end().await;
    let world = World::at(temporary.path()).await;
    let after = world.until("a", "restarted", |pod| status(pod).restart_count == 1).await;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    let after = world.ready("a").await;
    assert_eq!(place(&pod_ip(&after)), place(&pod_ip(&before)));
    world.end().await;
}

pub async fn a_node_stops_in_time_while_a_pod_is_being_deleted() {
    let world = World::new().await;
    let script = "trap '' TERM; echo up; while :; do sleep 0.5; done";
    world.pod("a", script, json!({}), json!({"terminationGracePeriodSeconds": 600})).await;
    world.ready("a").await;
    eventually("it ignores SIGTERM", || async { world.log("a").await == "up\n" }).await;
    let pods = world.api::<Pod>();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    world.event("a", "Killing", "Stopping container c").await;
    let begin = std::time::Instant::now();
    world.end().await;
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(pods.get_opt("a").await.unwrap().is_none(), "what was begun is done");
}

pub async fn a_killed_node_leaves_no_process_and_starts_its_pods_again() {
    let temporary = tempfile::Builder::new().prefix("a9s-node-").tempdir().unwrap();
    let (mut node, address) = start(temporary.path()).await;
    let left = || processes(temporary.path());
    assert!(left().len() >= 2, "{:?}", left());
    node.kill().await.unwrap();
    let world = World::at(temporary.path()).await;
    let after = world.until("a", "restarted", |pod| status(pod).restart_count == 1).await;
    let ended = status(&after).last_state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (255, Some("Unknown")));
    assert_eq!(place(&pod_ip(&world.ready("a").await)), place(&address));
    eventually("only one set of processes runs", || async { left().len() <= 3 }).await;
    world.delete("a").await;
    world.end().await;

    // Without a return, nothing stays either: what ignores SIGTERM is killed after the node's grace period.
    let temporary = tempfile::Builder::new().prefix("a9s-node-").tempdir().unwrap();
    let (mut node, _) = start(temporary.path()).await;
    node.kill().await.unwrap();
    let gone = || async { processes(temporary.path()).is_empty() };
    eventually("nothing is left", gone).await;
    tokio::time::sleep(Duration::ZERO).await;
}

pub async fn a_pod_that_is_deleted_after_a_crash_goes_with_its_processes() {
    let temporary = tempfile::Builder::new().prefix("a9s-node-").tempdir().unwrap();
    let (mut node, _) = start(temporary.path()).await;
    node.kill().await.unwrap();
    let world = World::at(temporary.path()).await;
    world.delete("a").await;
    assert_eq!(processes(temporary.path()), Vec::<String>::new());
    world.end().await;
}

/// An address within its cluster's range: while the node was away, somebody else may have taken the range itself.
fn place(address: &str) -> u32 {
    u32::from(address.parse::<std::net::Ipv4Addr>().unwrap()) & 0xfff
}

async fn start(directory: &Path) -> (Child, String) {
    let mut command = Command::new("/proc/self/exe");
    let mut node = command.arg(WORD).arg(directory).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    (node, line.trim().to_owned())
}
