//! The suite as a command: runs inside of a run, and what may happen to them.

use std::time::{Duration, Instant};

use cucumber::gherkin::Step;
use cucumber::{given, when};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use super::cluster;
use super::instance::rows;
use super::running::{Running, Stream};
use crate::cli::interrupt;
use crate::conformance::command::{self, Outcome, start_a9s};
use crate::conformance::observe::within;
use crate::conformance::results::SCHEMA;
use crate::conformance::{Failure, World};

/// How long a run may take that is sent a signal: what it did to nodes takes its time to be undone.
const SIGNALLED: Duration = Duration::from_secs(120);

/// What comes so much later is another interrupt: what comes at a time is one.
const LATER: Duration = Duration::from_secs(1);

/// With what could be seen at their end.
#[given(expr = "the report {string} of a run in which these passed:")]
async fn report(world: &mut World, folder: String, step: &Step) -> Result<(), Failure> {
    let mut scenarios = Vec::new();
    for row in rows(step) {
        let [id, observations] = row.as_slice() else { return Err(Failure::Missing("scenario and observations")) };
        let (feature, name) = id.split_once(": ").ok_or(Failure::Missing("feature of the scenario"))?;
        let observations: Value = serde_json::from_str(observations)?;
        scenarios.push(json!({
            "id": id, "feature": feature, "name": name, "place": "features/a.feature:1", "tags": [], "outcome": "passed",
            "observations": observations,
        }));
    }
    let passed = scenarios.len();
    let document = json!({
        "schema": SCHEMA, "verdict": "passed", "started": "2030-01-01T00:00:00Z", "seconds": 1, "environment": {},
        "selection": {"available": passed, "jobs": 1, "retries": 0, "door": "cli"}, "problems": [],
        "counts": {"passed": passed, "flaky": 0, "failed": 0, "skipped": 0, "notRun": 0, "quarantined": 0},
        "scenarios": scenarios,
    });
    let folder = world.surroundings.home.join(folder);
    fs_err::create_dir_all(&folder)?;
    Ok(fs_err::write(folder.join("report.json"), document.to_string())?)
}

/// Ctrl-C, once the command has said something on standard output.
#[when(regex = r"^I start `a9s (.+)` and interrupt it once it says `(.+)`$")]
async fn interrupt_once(world: &mut World, line: String, text: String) -> Result<(), Failure> {
    let mut running = Running::start(world, &line, Stream::Output, start_a9s)?;
    running.until(&text).await?;
    command::interrupt(&running.child)?;
    running.end(world).await
}

/// A cluster that does not answer is not cleaned up soon.
#[when(regex = r"^I start `a9s (.+)`, and once it says `(.+)` the cluster is frozen and I interrupt it twice$")]
async fn interrupt_twice(world: &mut World, line: String, text: String) -> Result<(), Failure> {
    let mut running = Running::start(world, &line, Stream::Output, start_a9s)?;
    running.until(&text).await?;
    cluster::freeze_process(world)?;
    let (pid, signal) = (command::interrupt(&running.child)?, interrupt::usual()?);
    tokio::spawn(async move {
        tokio::time::sleep(LATER).await;
        // A failure means that it has ended before: what it has said tells.
        let _ = kill(pid, signal);
    });
    running.end(world).await
}

/// At any moment: what it is doing then is different on every machine. `timeout` sends a signal to the process and to its
/// group, that is twice to the process.
#[when(regex = r"^I run `a9s (.+)` and interrupt it after (\d+) ms as `timeout` does$")]
async fn interrupt_after(world: &mut World, line: String, moment: u64) -> Result<(), Failure> {
    signalled(world, &line, moment, &[interrupt::usual()?; 2]).await
}

#[when(regex = r"^I run `a9s (.+)` and kill it after (\d+) ms$")]
async fn kill_after(world: &mut World, line: String, moment: u64) -> Result<(), Failure> {
    signalled(world, &line, moment, &[Signal::SIGKILL]).await
}

async fn signalled(world: &mut World, line: &str, moment: u64, signals: &[Signal]) -> Result<(), Failure> {
    let words = command::words(&world.expand(line));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let started = Instant::now();
    let child = command::start_a9s(&world.surroundings, &words)?;
    let pid = command::pid(&child)?;
    // A failure means that it has ended before: its exit code tells.
    let interrupting = async {
        tokio::time::sleep(Duration::from_millis(moment)).await;
        for signal in signals {
            let _ = kill(pid, *signal);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = async { tokio::join!(child.wait_with_output(), interrupting).0 };
    let output = within(format!("the end of `a9s {line}`, which was sent {signals:?}"), SIGNALLED, ended).await?;
    world.remember(Outcome::of(format!("a9s {line}"), &output, started.elapsed()));
    Ok(())
}

/// The process of the scenario's own cluster is killed, once the command has said something on standard output.
#[when(regex = r"^I start `a9s (.+)` and the cluster is killed once it says `(.+)`$")]
async fn cluster_killed_once(world: &mut World, line: String, text: String) -> Result<(), Failure> {
    let mut running = Running::start(world, &line, Stream::Output, start_a9s)?;
    running.until(&text).await?;
    cluster::process_of_cluster(world)?.signal(Signal::SIGKILL)?;
    running.end(world).await
}
