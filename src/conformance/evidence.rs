//! What is kept of a failed scenario: commands, objects, events and logs of its namespaces and of the stack's, the log of the
//! cluster, the state of the servers. No secret is in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use a8s_operators::agent::SQL_PORT;
use a8s_operators::agent::bootstrap::SAFE;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};

use super::failure::Failure;
use super::observations::SYSTEM;
use super::observe;
use super::secrets::Secrets;
use super::stage::Stage;
use super::world::World;
use crate::postgres::{self, Login};

/// How long a store or a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long all of it may take: a hundred members of a busy machine would hold up the run for longer than it takes.
const LIMIT: Duration = Duration::from_secs(60);

/// The last lines of each log: on a cluster of others, operators have run for long.
const LINES: i64 = 10_000;

/// What those who made a cluster have for its namespaces, and what makes the stack's pods.
const AROUND: [(&str, &str, &str, &str); 4] = [
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("", "v1", "ResourceQuota", "resourcequotas"),
    ("", "v1", "LimitRange", "limitranges"),
    ("apps", "v1", "Deployment", "deployments"),
];

/// What is asked of every server: title and query.
const QUESTIONS: [(&str, &str); 8] = [
    ("version", "SELECT version(), pg_is_in_recovery(), now() - pg_postmaster_start_time()"),
    ("databases", "SELECT datname, pg_database_size(datname) FROM pg_database ORDER BY 1"),
    ("tables", "SELECT schemaname, relname, n_live_tup FROM pg_stat_user_tables ORDER BY 1, 2"),
    ("roles", "SELECT rolname, rolsuper, rolcanlogin, rolreplication FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"),
    (
        "activity",
        "SELECT pid, usename, application_name, state, wait_event, left(query, 80) FROM pg_stat_activity WHERE backend_type = 'client backend'",
    ),
    ("replication", "SELECT application_name, client_addr, state, sync_state, replay_lag FROM pg_stat_replication"),
    (
        "changed settings",
        "SELECT name, setting, source FROM pg_settings WHERE source NOT IN ('default', 'override', 'client') AND name !~ 'conninfo|password' ORDER BY 1",
    ),
    // What asks has none of these.
    (
        "settings of roles and databases",
        "SELECT datname, rolname, setconfig FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase LEFT JOIN pg_roles r ON r.oid = setrole",
    ),
];

/// Writes what can be had to the scenario's folder below the report's, and gives its path from there.
pub async fn keep(world: &World, secrets: Secrets) -> PathBuf {
    let path = Path::new("evidence").join(world.slug());
    let folder = Folder { path: Stage::get().report.join(&path), secrets };
    let missing = match tokio::time::timeout(LIMIT, write(world, &folder)).await {
        Ok(Ok(())) => return path,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("what takes more than {} s is not here\n", LIMIT.as_secs()),
    };
    // What is missing is part of the evidence.
    let _ = folder.write("incomplete.txt", &missing);
    path
}

/// A folder that no secret gets into.
struct Folder {
    path: PathBuf,
    secrets: Secrets,
}

impl Folder {
    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path.join(name);
        fs_err::create_dir_all(path.parent().unwrap_or(&self.path))?;
        Ok(fs_err::write(path, self.secrets.hide(text))?)
    }
}

async fn write(world: &World, folder: &Folder) -> Result<(), Failure> {
    if folder.path.exists() {
        fs_err::remove_dir_all(&folder.path)?;
    }
    fs_err::create_dir_all(&folder.path)?;
    let transcript: Vec<String> = world.outcomes().iter().map(super::command::Outcome::transcript).collect();
    folder.write("commands.txt", &transcript.join("\n"))?;
    journals(&world.surroundings.home, folder)?;
    cluster_logs(&world.surroundings.state, folder)?;
    let client = world.onlooker().await?;
    for namespace in world.namespaces() {
        store_listing(&client, namespace, folder).await?;
    }
    for namespace in world.namespaces().iter().map(String::as_str).chain(SYSTEM) {
        // One namespace that can't be read (gone already, a cluster that was killed) does not hide the next.
        if let Err(error) = of_namespace(&client, namespace, folder).await {
            folder.write(&format!("{namespace}.txt"), &error.to_string())?;
        }
    }
    Ok(())
}

/// The keys that backups of a namespace have in the object store, if the cluster has one that answers soon.
async fn store_listing(client: &Client, namespace: &str, folder: &Folder) -> Result<(), Failure> {
    let listing = async {
        let store = observe::store_of(client.clone()).await.map_err(|failure| failure.to_string())?;
        store.list(namespace).await.map_err(|error| error.to_string())
    };
    match tokio::time::timeout(PATIENCE, listing).await {
        Ok(Ok(keys)) => folder.write(&format!("{namespace}/store.txt"), &format!("{keys:#?}\n")),
        Ok(Err(why)) => folder.write(&format!("{namespace}/store.txt"), &format!("{why}\n")),
        Err(_) => folder.write(&format!("{namespace}/store.txt"), "the store did not answer\n"),
    }
}

/// What the program itself took down about its steps.
fn journals(home: &Path, folder: &Folder) -> Result<(), Failure> {
    match fs_err::read_to_string(home.join("a9s/journal.jsonl")) {
        Ok(text) => folder.write("journal.jsonl", &text),
        Err(_) => Ok(()),
    }
}

fn cluster_logs(state: &Path, folder: &Folder) -> Result<(), Failure> {
    for cluster in std::fs::read_dir(state).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(cluster.path()).into_iter().flatten().flatten() {
            let path = file.path();
            if path.extension().is_some_and(|extension| extension == "log" || extension == "jsonl") {
                let name = format!("{}-{}", cluster.file_name().to_string_lossy(), file.file_name().to_string_lossy());
                folder.write(&name, &String::from_utf8_lossy(&fs_err::read(&path)?))?;
            }
        }
    }
    Ok(())
}

async fn of_namespace(client: &Client, namespace: &str, folder: &Folder) -> Result<(), Failure> {
    for kind in observe::kinds().filter(|kind| *kind != "secret") {
        let Ok(list) = observe::objects(client, namespace, kind)?.list(&ListParams::default()).await else { continue };
        if !list.items.is_empty() {
            folder.write(&format!("{namespace}/{kind}.json"), &serde_json::to_string_pretty(&list)?)?;
        }
        for instance in list.items.iter().filter(|_| kind == "postgresql") {
            let name = instance.metadata.name.as_deref().unwrap_or_default();
            for pod in observe::members(client, namespace, name).await.unwrap_or_default() {
                let said = sql_state(client, namespace, name, &pod).await;
                folder.write(&format!("{namespace}/{}.sql.txt", pod.name_any()), &said)?;
            }
        }
    }
    for (group, version, kind, plural) in AROUND {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        // Not everybody may see them, and not every cluster has them.
        let Ok(list) = api.list(&ListParams::default()).await else { continue };
        if !list.items.is_empty() {
            folder
                .write(&format!("{namespace}/{}.json", kind.to_lowercase()), &serde_json::to_string_pretty(&list)?)?;
        }
    }
    logs(client, namespace, folder).await
}

/// What the server of a member says about itself, or why it says nothing: there may be several primaries, or none. It is
/// asked with [`SAFE`]: a standby refuses to answer a role whose transactions are to be serializable.
async fn sql_state(client: &Client, namespace: &str, instance: &str, pod: &Pod) -> String {
    let session = async {
        let login = observe::login(client, namespace, instance).await?;
        let (host, port) = observe::at_port(client, pod, SQL_PORT).await?;
        let login = Login { host, port, ..login };
        let session = tokio::time::timeout(PATIENCE, postgres::connect_with(&login, postgres::DATABASE, SAFE)).await;
        Ok::<_, Failure>(session.map_err(|_| postgres::Error::Silent(PATIENCE))??)
    };
    let session = match session.await {
        Ok(session) => session,
        Err(failure) => return failure.to_string(),
    };
    let mut text = String::new();
    for (title, question) in QUESTIONS {
        let answer = tokio::time::timeout(PATIENCE, postgres::query(&session, question)).await;
        let said = match &answer {
            Ok(Ok(rows)) => rows.join("\n"),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => format!("no answer for {} s", PATIENCE.as_secs()),
        };
        text.push_str(&format!("-- {title}\n{said}\n\n"));
        if answer.is_err() {
            break;
        }
    }
    text
}

async fn logs(client: &Client, namespace: &str, folder: &Folder) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for pod in pods.list(&ListParams::default()).await?.items {
        let name = pod.metadata.name.unwrap_or_default();
        for container in pod.spec.unwrap_or_default().containers {
            for previous in [false, true] {
                let params = LogParams {
                    container: Some(container.name.clone()),
                    previous,
                    tail_lines: Some(LINES),
                    ..LogParams::default()
                };
                let Ok(log) = pods.logs(&name, &params).await else { continue };
                let run = if previous { "-previous" } else { "" };
                folder.write(&format!("{namespace}/{name}-{}{run}.log", container.name), &log)?;
            }
        }
    }
    Ok(())
}
