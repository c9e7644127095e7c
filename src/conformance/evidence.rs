//! What is kept of a failed scenario: commands, objects, events, logs of containers and of the cluster.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client};

use super::failure::Failure;
use super::observe;
use super::stage::Stage;
use super::world::World;

/// Writes what can be had to the scenario's directory below `target/e2e`, replacing what an earlier run left there.
pub async fn keep(world: &World) -> PathBuf {
    let directory = Stage::get().evidence.join(world.slug());
    if let Err(error) = write(world, &directory).await {
        tracing::warn!(%error, directory = %directory.display(), "the evidence is incomplete");
    }
    directory
}

async fn write(world: &World, directory: &Path) -> Result<(), Failure> {
    if directory.exists() {
        fs_err::remove_dir_all(directory)?;
    }
    fs_err::create_dir_all(directory)?;
    let transcript: Vec<String> = world.outcomes().iter().map(super::command::Outcome::transcript).collect();
    fs_err::write(directory.join("commands.txt"), transcript.join("\n"))?;
    cluster_logs(&world.surroundings.state, directory)?;
    let client = observe::client(&world.surroundings).await?;
    for namespace in world.namespaces() {
        // One namespace that can't be read (gone already, a cluster that was killed) does not hide the next.
        if let Err(error) = of_namespace(&client, namespace, &directory.join(namespace)).await {
            fs_err::write(directory.join(format!("{namespace}.txt")), error.to_string())?;
        }
    }
    Ok(())
}

fn cluster_logs(state: &Path, directory: &Path) -> Result<(), Failure> {
    for cluster in std::fs::read_dir(state).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(cluster.path()).into_iter().flatten().flatten() {
            let path = file.path();
            if path.extension().is_some_and(|extension| extension == "log" || extension == "jsonl") {
                let name = format!("{}-{}", cluster.file_name().to_string_lossy(), file.file_name().to_string_lossy());
                fs_err::copy(&path, directory.join(name))?;
            }
        }
    }
    Ok(())
}

async fn of_namespace(client: &Client, namespace: &str, directory: &Path) -> Result<(), Failure> {
    fs_err::create_dir_all(directory)?;
    for kind in observe::kinds().filter(|kind| *kind != "secret") {
        let Ok(list) = observe::objects(client, namespace, kind)?.list(&ListParams::default()).await else { continue };
        if !list.items.is_empty() {
            fs_err::write(directory.join(format!("{kind}.json")), serde_json::to_vec_pretty(&list)?)?;
        }
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for pod in pods.list(&ListParams::default()).await?.items {
        let name = pod.metadata.name.unwrap_or_default();
        for container in pod.spec.unwrap_or_default().containers {
            for previous in [false, true] {
                let params = LogParams { container: Some(container.name.clone()), previous, ..LogParams::default() };
                let Ok(log) = pods.logs(&name, &params).await else { continue };
                let run = if previous { "-previous" } else { "" };
                fs_err::write(directory.join(format!("{name}-{}{run}.log", container.name)), log)?;
            }
        }
    }
    Ok(())
}
