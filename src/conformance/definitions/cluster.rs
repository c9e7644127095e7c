//! Clusters: making, stopping, killing and deleting them.

use std::time::{Duration, Instant};

use cucumber::{given, then, when};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;

use super::backup;
use super::members::is_ready;
use crate::conformance::command;
use crate::conformance::inventory::{self, Process};
use crate::conformance::observations::SYSTEM;
use crate::conformance::observe::{self, Look, SOON, until, within};
use crate::conformance::{Failure, World};
use crate::postgres;

#[given("a cluster with the a8s stack")]
async fn shared_cluster(world: &mut World) -> Result<(), Failure> {
    world.join_shared_cluster().await
}

#[given("a cluster of its own")]
async fn own_cluster(world: &mut World) -> Result<(), Failure> {
    world.create_own_cluster().await
}

/// Reads are not on record otherwise.
#[given("a cluster of its own, with every request on record")]
async fn recording_cluster(world: &mut World) -> Result<(), Failure> {
    world.surroundings.env.push(("A9S_AUDIT".to_owned(), "all".to_owned()));
    world.create_own_cluster().await
}

#[given("an empty home and no cluster")]
async fn nothing(world: &mut World) -> Result<(), Failure> {
    world.adopt_default_namespace();
    let entries = fs_err::read_dir(&world.surroundings.home)?.count();
    Failure::unless(entries == 0, "an empty home", format!("{entries} files"))
}

#[when("I create a cluster")]
async fn create(world: &mut World) -> Result<(), Failure> {
    world.adopt_default_namespace();
    world.a9s(&["create", "cluster", "a8s", "--yes"]).await.map(drop)
}

#[given(expr = "a cluster named {string}")]
async fn named(world: &mut World, name: String) -> Result<(), Failure> {
    world.adopt_default_namespace();
    world.a9s(&["create", "cluster", "a8s", "--cluster-name", &name, "--yes"]).await?.require_success()
}

#[when(expr = "I create the clusters {string}, {string} and {string} at once")]
async fn create_at_once(world: &mut World, one: String, two: String, three: String) -> Result<(), Failure> {
    let surroundings = world.surroundings.clone();
    let names = [one, two, three];
    let lines = names.each_ref().map(|name| ["create", "cluster", "a8s", "--cluster-name", name, "--yes"]);
    for outcome in try_join_all(lines.iter().map(|line| command::a9s(&surroundings, line))).await? {
        world.remember(outcome);
    }
    Ok(())
}

#[when("I delete the cluster")]
async fn delete(world: &mut World) -> Result<(), Failure> {
    world.a9s(&["delete", "cluster", "a8s", "--cluster-name", "a8s", "--yes"]).await.map(drop)
}

#[when(expr = "I delete the cluster named {string}")]
async fn delete_named(world: &mut World, name: String) -> Result<(), Failure> {
    world.a9s(&["delete", "cluster", "a8s", "--cluster-name", &name, "--yes"]).await.map(drop)
}

#[when("I delete the cluster and everything that was generated for it")]
async fn delete_all(world: &mut World) -> Result<(), Failure> {
    world.a9s(&["delete", "cluster", "a8s", "--cluster-name", "a8s", "--all", "--yes"]).await.map(drop)
}

#[given("the cluster has been stopped")]
async fn stopped(world: &mut World) -> Result<(), Failure> {
    stop(world).await?;
    world.last()?.require_success()
}

#[when("I stop the cluster")]
async fn stop(world: &mut World) -> Result<(), Failure> {
    world.a9s(&["cluster", "stop", "--yes"]).await.map(drop)
}

#[when("I start the cluster")]
pub(super) async fn start(world: &mut World) -> Result<(), Failure> {
    world.a9s(&["cluster", "start", "--yes"]).await.map(drop)
}

pub(super) fn process_of_cluster(world: &World) -> Result<Process, Failure> {
    let state = world.surroundings.cluster_state(world.surroundings.default_cluster());
    let line = format!("__cluster {}", state.display());
    let mut found = inventory::processes_naming(&state.to_string_lossy());
    found.retain(|process| process.line.contains(&line));
    match (found.pop(), found.as_slice()) {
        (Some(process), []) => Ok(process),
        other => Err(Failure::unexpected("one process of the cluster", format!("{other:?}"))),
    }
}

#[when("the cluster's process is frozen")]
async fn process_is_frozen(world: &mut World) -> Result<(), Failure> {
    freeze_process(world)
}

/// Until the scenario ends.
pub(super) fn freeze_process(world: &mut World) -> Result<(), Failure> {
    let process = process_of_cluster(world)?;
    Ok(world.freeze(&[process])?)
}

/// The command is cut off from what it waits for, and has to come to its end by itself.
#[when(regex = r#"^I run `a9s (.+)`, and the cluster's process is killed while "(.+)" runs it$"#)]
async fn kill_process_meanwhile(world: &mut World, line: String, instance: String) -> Result<(), Failure> {
    const RUNNING: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
    let login = observe::login(&world.client().await?, world.namespace(), &instance).await?;
    let words = command::words(&line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let started = Instant::now();
    let child = command::start_a9s(&world.surroundings, &words)?;
    until("the statement to run", Duration::from_secs(10), || async {
        let running = postgres::ask(&login, "postgres", RUNNING).await?;
        Ok(Look::when(running == ["1"], "it does not run yet"))
    })
    .await?;
    kill_process(world).await?;
    let output = within(format!("the end of `a9s {line}`"), SOON, child.wait_with_output()).await?;
    world.remember(command::Outcome::of(line, &output, started.elapsed()));
    Ok(())
}

/// Nobody waits for its end.
#[when("the cluster's process is asked to end")]
async fn process_is_asked_to_end(world: &mut World) -> Result<(), Failure> {
    Ok(process_of_cluster(world)?.signal(Signal::SIGTERM)?)
}

#[given("the cluster's process has been killed")]
#[when("the cluster's process is killed")]
async fn process_is_killed(world: &mut World) -> Result<(), Failure> {
    kill_process(world).await
}

pub(super) async fn kill_process(world: &World) -> Result<(), Failure> {
    let process = process_of_cluster(world)?;
    process.signal(Signal::SIGKILL)?;
    until("the end of the killed process", Duration::from_secs(10), || async {
        Ok(Look::when(
            !inventory::is_running(process.pid)
                || !inventory::processes_naming(&process.line).iter().any(|found| found.pid == process.pid),
            "it lives",
        ))
    })
    .await
}

#[then("the cluster answers")]
async fn answers(world: &mut World) -> Result<(), Failure> {
    let client = world.client().await?;
    until("an answer of the API server", Duration::from_secs(20), || async {
        let version = client.apiserver_version().await?;
        Ok(Look::when(version.major == "1", version.git_version))
    })
    .await
}

#[then(expr = "the current context is {string}")]
async fn current_context(world: &mut World, name: String) -> Result<(), Failure> {
    let found = Kubeconfig::read_from(&world.surroundings.kubeconfig)?.current_context;
    Failure::unless(found.as_ref() == Some(&name), format!("current context {name}"), format!("{found:?}"))
}

#[then(expr = "the kubeconfig has the context {string}")]
async fn has_context(world: &mut World, name: String) -> Result<(), Failure> {
    let found = Kubeconfig::read_from(&world.surroundings.kubeconfig)?.contexts;
    let is_there = found.iter().any(|context| context.name == name);
    Failure::unless(is_there, format!("context {name}"), format!("{found:?}"))
}

#[then(expr = "the kubeconfig says nothing of {string}")]
async fn no_context(world: &mut World, name: String) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&world.surroundings.kubeconfig).unwrap_or_default();
    Failure::unless(!text.contains(&name), format!("nothing of {name}"), text)
}

#[then("nothing of the cluster is left")]
async fn nothing_left(world: &mut World) -> Result<(), Failure> {
    no_context(world, "a9s-a8s".to_owned()).await?;
    let state = &world.surroundings.state;
    let left: Vec<_> = std::fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    if !left.is_empty() {
        return Err(Failure::unexpected("no state", format!("{left:?}")));
    }
    no_process(world).await
}

/// Only processes that work in the cluster's state count: a client of the scenario may still be there.
#[then("no process of the cluster is left")]
async fn no_process(world: &mut World) -> Result<(), Failure> {
    let state = world.surroundings.cluster_state(world.surroundings.default_cluster());
    until("the end of the cluster's processes", Duration::from_secs(10), || async {
        let left: Vec<_> = inventory::processes_naming(&state.to_string_lossy());
        Ok(Look::when(left.is_empty(), format!("{left:?}")))
    })
    .await
}

#[then("the pods of the stack are running")]
async fn stack_runs(world: &mut World) -> Result<(), Failure> {
    let client = world.client().await?;
    until("the pods of the stack", SOON, || async {
        for kind in ["postgresql", "backup", "restore", "servicebinding"] {
            observe::objects(&client, "default", kind)?.list(&ListParams::default()).await?;
        }
        let mut pods = Vec::new();
        // The operators of an embedded cluster are in its process; its object store is in a pod.
        for namespace in SYSTEM {
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
            pods.extend(api.list(&ListParams::default()).await?.items);
        }
        let is_there = |pod: &Pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
        let unready: Vec<String> = pods.iter().filter(|pod| !is_there(pod)).map(ResourceExt::name_any).collect();
        Ok(Look::when(unready.is_empty() && !pods.is_empty(), format!("{} pods, {unready:?}", pods.len())))
    })
    .await
}

/// Neither what commands have said nor the journal of their steps.
#[then("nothing that was said holds a secret of the stack")]
async fn no_secret_said(world: &mut World) -> Result<(), Failure> {
    let settings = backup::settings(world).await?;
    let hidden = [settings.credentials.secret_key, String::from_utf8_lossy(&settings.password).into_owned()];
    let mut said: Vec<String> = world.outcomes().iter().map(command::Outcome::transcript).collect();
    said.push(fs_err::read_to_string(world.surroundings.home.join("a9s/journal.jsonl"))?);
    match said.iter().find(|text| hidden.iter().any(|secret| text.contains(secret))) {
        Some(text) => Err(Failure::unexpected("no secret", text.clone())),
        None => Ok(()),
    }
}

#[when(expr = "I create a cluster on a machine where somebody listens on port {int} of every address")]
async fn create_beside_listener(world: &mut World, port: u16) -> Result<(), Failure> {
    let words = ["create", "cluster", "a8s", "--yes"];
    world.remember(command::a9s_beside_listener(&world.surroundings, port, &words).await?);
    Ok(())
}
