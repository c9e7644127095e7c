//! Commands that only look, and what they must not tell.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use cucumber::gherkin::Step;
use cucumber::{given, then, when};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::instance;
use super::running::{Running, Stream};
use crate::conformance::command::{self, start_a9s};
use crate::conformance::secrets::Secrets;
use crate::conformance::{Failure, World};
use crate::conformance::{inventory, observe};
use crate::yaml;

/// What is on standard output: one document of the format that was asked for, and nothing else.
pub(super) fn document(world: &World) -> Result<Value, Failure> {
    let outcome = world.last()?;
    let read = match outcome.line.ends_with(" -o yaml") {
        true => yaml::read(&outcome.stdout).map_err(|error| format!("one YAML document ({error})")),
        false => serde_json::from_str(&outcome.stdout).map_err(|error| format!("one JSON document ({error})")),
    };
    read.map_err(|wanted| Failure::unexpected(wanted, outcome.transcript()))
}

#[then("these values are in the document:")]
async fn values(world: &mut World, step: &Step) -> Result<(), Failure> {
    let document = document(world)?;
    match instance::difference(world, &document, step, None) {
        Some((wanted, found)) => Err(Failure::unexpected(wanted, format!("{found} in {document}"))),
        None => Ok(()),
    }
}

#[then(regex = r#"^the document has (a number|a text|no value) at "(.+)"$"#)]
async fn value_of_type(world: &mut World, what: String, pointer: String) -> Result<(), Failure> {
    let document = document(world)?;
    let found = document.pointer(&pointer);
    let right = match what.as_str() {
        "a number" => found.is_some_and(Value::is_number),
        "a text" => found.and_then(Value::as_str).is_some_and(|text| !text.is_empty()),
        _ => found.is_none(),
    };
    Failure::unless(right, format!("{what} at {pointer}"), document)
}

/// No value of any Secret of the namespace, except words that are no secret.
#[then("no secret of the namespace is on standard output or standard error")]
async fn no_secret(world: &mut World) -> Result<(), Failure> {
    let secrets: Api<Secret> = Api::namespaced(world.client().await?, world.namespace());
    let values = Secrets::of(&secrets.list(&ListParams::default()).await?.items);
    if values == Secrets::default() {
        return Err(Failure::Missing("Secret with a value that must not be told"));
    }
    let outcome = world.last()?;
    for (stream, said) in [("standard output", &outcome.stdout), ("standard error", &outcome.stderr)] {
        let hidden = values.hide(said);
        if hidden != *said {
            return Err(Failure::unexpected(format!("no secret on {stream}"), hidden));
        }
    }
    Ok(())
}

/// But newlines and tabs.
#[then("no control character is on standard output or standard error")]
async fn no_control_character(world: &mut World) -> Result<(), Failure> {
    let outcome = world.last()?;
    let mut all = outcome.stdout.chars().chain(outcome.stderr.chars());
    match all.find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        None => Ok(()),
        Some(found) => {
            Err(Failure::unexpected("no control character", format!("{found:?} in {}", outcome.transcript())))
        }
    }
}

/// All processes of the pod: its server keeps its connections and answers nothing.
async fn signal(world: &World, instance: &str, signal: Signal) -> Result<(), Failure> {
    let uid = instance::pod_uid(world, world.namespace(), instance).await?;
    let servers = inventory::processes_marked("A9S_POD_UID", &uid);
    let servers: Vec<_> = servers.iter().filter(|process| process.line.contains("postgres")).collect();
    if servers.is_empty() {
        return Err(Failure::Missing("process of the server"));
    }
    for process in servers {
        // One that has ended meanwhile is no failure.
        let _ = process.signal(signal);
    }
    Ok(())
}

#[when(expr = "the server of {string} is frozen")]
async fn freeze(world: &mut World, instance: String) -> Result<(), Failure> {
    signal(world, &instance, Signal::SIGSTOP).await
}

#[when(expr = "the server of {string} goes on")]
async fn thaw(world: &mut World, instance: String) -> Result<(), Failure> {
    signal(world, &instance, Signal::SIGCONT).await
}

#[when("my kubeconfig leads nowhere")]
async fn nowhere(world: &mut World) -> Result<(), Failure> {
    let mut kubeconfig = Kubeconfig::read_from(&world.surroundings.kubeconfig)?;
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        // Port 1 of loopback: nobody listens there.
        cluster.server = Some("https://127.0.0.1:1".to_owned());
    }
    Ok(fs_err::write(&world.surroundings.kubeconfig, serde_json::to_vec(&kubeconfig)?)?)
}

/// The system takes the connections, as it does for a program that hangs, and nobody reads what they bring.
#[given("somebody listens and never answers")]
async fn silent(world: &mut World) -> Result<(), Failure> {
    world.silent = Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    Ok(())
}

#[when(regex = r"^I run `a9s (.+)` and interrupt it after two looks$")]
async fn watch(world: &mut World, line: String) -> Result<(), Failure> {
    let mut running = Running::start(world, &line, Stream::Output, start_a9s)?;
    running.until("Instance:").await?;
    running.until("Instance:").await?;
    command::interrupt(&running.child)?;
    running.end(world).await
}

/// As with `| head -1`, or with `| true`: then what is written has no reader, however little it is.
#[when(regex = r"^I run `a9s (.+)` for a reader that (goes away after a line|is gone)$")]
async fn reader_goes(world: &mut World, line: String, when: String) -> Result<(), Failure> {
    let mut running = Running::start(world, &line, Stream::Output, start_a9s)?;
    if when != "is gone" {
        running.until("").await?;
    }
    running.leave();
    running.end(world).await
}

#[when(regex = r#"^I run `a9s (.+)` and interrupt it after the statement "(.+)" in "(.+)"$"#)]
async fn follow(world: &mut World, line: String, statement: String, instance: String) -> Result<(), Failure> {
    let mut running = Running::start(world, &line, Stream::Output, start_a9s)?;
    // The statement fails, and the server writes that down. Said again until it is heard: following begins in between.
    let heard = statement.split_whitespace().last().unwrap_or_default().to_owned();
    let words = ["pg", "apply", "-i", &instance, "--sql", &statement, "--yes"];
    let say = async {
        loop {
            command::a9s(&world.surroundings, &words).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        said = say => said,
        heard = running.until(&heard) => heard,
    }?;
    command::interrupt(&running.child)?;
    running.end(world).await
}

/// The first command has begun to speak when the second runs, and has to come to its end by itself.
#[when(regex = r"^I run `a9s (.+)` to its end, which `a9s (.+)` brings about$")]
async fn meanwhile(world: &mut World, line: String, other: String) -> Result<(), Failure> {
    let mut running = Running::start(world, &line, Stream::Output, start_a9s)?;
    running.until("").await?;
    let words = command::words(&world.expand(&other));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    command::a9s(&world.surroundings, &words).await?.require_success()?;
    running.end(world).await
}

/// A verification calls what it makes `verify-…`; its pods and volumes carry the name as well.
#[then("nothing of a verification is left")]
async fn no_scratch(world: &mut World) -> Result<(), Failure> {
    let client = world.client().await?;
    // What was reported of it outlives it, as every event.
    for kind in observe::kinds().filter(|kind| *kind != "event") {
        let list = observe::all(&client, world.namespace(), kind).await?;
        let names = list.into_iter().filter_map(|object| object.metadata.name);
        if let Some(left) = names.into_iter().find(|name| name.contains("verify-")) {
            return Err(Failure::unexpected("nothing of a verification", format!("{kind} {left}")));
        }
    }
    Ok(())
}
