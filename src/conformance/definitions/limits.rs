//! What the system gives no more of: files, and processes. The limits of the cluster's process are changed by
//! prlimit(1), which whoever runs it may; what it starts has them, too.

use std::time::Duration;

use cucumber::when;

use super::cluster::process_of_cluster;
use crate::conformance::{Failure, World, command};

/// Only those that every program begins with: what is open stays open.
#[when("the cluster's process may open no more files")]
async fn no_more_files(world: &mut World) -> Result<(), Failure> {
    limit(world, "nofile", "3")
}

#[when("the cluster's process may open files again")]
async fn files_again(world: &mut World) -> Result<(), Failure> {
    lift(world, "nofile")
}

/// Root, who runs the cluster's process, is not bound by it.
#[when("the user of the servers may have no more processes")]
async fn no_more_processes(world: &mut World) -> Result<(), Failure> {
    limit(world, "nproc", "1")
}

#[when("the user of the servers may have more processes again")]
async fn processes_again(world: &mut World) -> Result<(), Failure> {
    lift(world, "nproc")
}

#[when(expr = "{int} seconds have passed")]
async fn passed(_: &mut World, seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// The soft limit, which counts. The hard one stays.
fn limit(world: &World, resource: &str, most: &str) -> Result<(), Failure> {
    let (pid, limit) = (process_of_cluster(world)?.pid.to_string(), format!("--{resource}={most}:"));
    command::said("prlimit", &["--pid", &pid, &limit]).map(drop)
}

fn lift(world: &World, resource: &str) -> Result<(), Failure> {
    let (pid, which) = (process_of_cluster(world)?.pid.to_string(), format!("--{resource}"));
    let hard = command::said("prlimit", &["--pid", &pid, &which, "--output", "HARD", "--noheadings", "--raw"])?;
    limit(world, resource, hard.trim())
}
