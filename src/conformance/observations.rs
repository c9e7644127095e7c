//! What can be seen at the end of a scenario: the commands with what they said, and the objects of its namespaces.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::command::Outcome;
use super::normalise::Names;
use super::observe;
use super::secrets::Secrets;
use super::world::World;

/// Looking must not hold up the run: a cluster that was killed has nothing to show.
const PATIENCE: Duration = Duration::from_secs(5);

/// The namespaces of the stack and of its store.
pub const SYSTEM: [&str; 2] = [a8s_operators::SYSTEM_NAMESPACE, a8s_operators::object_store::manifests::NAMESPACE];

/// Kinds that say nothing about what a user has: they have other names every time, or everybody has them.
const IGNORED: [&str; 3] = ["controllerrevision", "endpointslice", "event"];

/// Commands that tell a password because they are asked for it, or tell whatever somebody asks a server for.
const ASKED: [&str; 4] = ["kubectl ", " pg connect", " pg psql", "--show-password"];

/// Texts longer than this are clipped: a result is for comparing, the evidence has everything.
const LONGEST: usize = 4000;

/// What was seen, and the secrets that must not be told.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// For the result of the scenario.
    pub observations: Value,
    /// For everything else that is written about it.
    pub secrets: Secrets,
    /// The containers that have panicked.
    pub panicked: Vec<String>,
}

/// Looks.
pub async fn look(world: &World) -> Seen {
    let (found, seen) = tokio::join!(timeout(PATIENCE, secrets(world)), timeout(PATIENCE, objects(world)));
    let (seen, panicked) = match seen {
        Ok((objects, events, panicked)) => (Some((objects, events)), panicked),
        Err(_) => (None, Vec::new()),
    };
    let mut secrets = world.secrets.clone();
    secrets.extend(found.unwrap_or_default());
    let names = names(world);
    let commands: Vec<Value> = world
        .outcomes()
        .iter()
        .map(|outcome| {
            let text = |text: &str| names.text(&clipped(&secrets.hide(text)));
            json!({
                "line": text(&outcome.line), "code": outcome.code(),
                "stdout": text(&outcome.stdout), "stderr": text(&without_progress(&outcome.stderr)),
            })
        })
        .collect();
    Seen { observations: document(commands, seen), secrets, panicked }
}

/// Where nobody could see in time what was there, it is not said that there was nothing.
fn document(commands: Vec<Value>, seen: Option<(Map<String, Value>, BTreeSet<String>)>) -> Value {
    let (objects, events) = seen.unzip();
    json!({"commands": commands, "objects": objects, "events": events})
}

/// The commands that have told the password of a Secret and were not asked for it.
pub fn told(world: &World, secrets: &Secrets) -> Vec<String> {
    let is_asked = |outcome: &&Outcome| ASKED.iter().any(|words| outcome.line.contains(*words));
    let others = world.outcomes().iter().filter(|outcome| !is_asked(outcome));
    let told = others.filter_map(|outcome| {
        let streams = [("standard output", &outcome.stdout), ("standard error", &outcome.stderr)];
        let (stream, _) = streams.into_iter().find(|(_, said)| secrets.has_password(said))?;
        Some(format!("the password of a Secret is on {stream} of `{}`", secrets.hide(&outcome.line)))
    });
    told.collect()
}

/// What a program of Rust says of a panic on standard error.
const PANIC: &str = "panicked at";

/// The commands that have panicked: a failure that a scenario expects is never that one.
pub fn panicked(outcomes: &[Outcome], secrets: &Secrets) -> Vec<String> {
    let panicked = outcomes.iter().filter(|outcome| outcome.complaints().contains(PANIC));
    panicked.map(|outcome| format!("`{}` has panicked", secrets.hide(&outcome.line))).collect()
}

/// The first panic of the process of each cluster below a directory for state, as its log tells: it contains what a
/// request has caused, and whoever made that may have tried again.
pub fn clusters_panicked(state: &Path) -> Vec<String> {
    let clusters = std::fs::read_dir(state).into_iter().flatten().flatten();
    let panics = clusters.filter_map(|cluster| {
        let log = std::fs::read(cluster.path().join("cluster.log")).ok()?;
        let log = String::from_utf8_lossy(&log);
        let mut lines = log.lines().skip_while(|line| !line.contains(PANIC));
        let (place, why) = (lines.next()?, lines.next().unwrap_or_default());
        Some(format!("the cluster {} has panicked: {place} {why}", cluster.file_name().to_string_lossy()))
    });
    panics.collect()
}

/// With what a container ends that has panicked: 101 is Rust's, and agents abort (128, and 6 for SIGABRT). One that was
/// killed ends otherwise.
const PANICKED: [i64; 2] = [101, 134];

/// The containers of a pod that have panicked, as far as its status tells: of the last two ends of each.
fn containers_panicked(pod: &Value) -> Vec<String> {
    let lists = ["initContainerStatuses", "containerStatuses"].into_iter();
    let containers = lists.filter_map(|list| pod["status"][list].as_array()).flatten();
    let panicked = containers.filter_map(|container| {
        let codes = ["state", "lastState"].map(|state| container[state]["terminated"]["exitCode"].as_i64());
        let code = codes.into_iter().flatten().find(|code| PANICKED.contains(code))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (container, pod) = (text(&container["name"]), text(&pod["metadata"]["name"]));
        Some(format!("the container {container} of the pod {pod} has panicked: it ended with {code}"))
    });
    panicked.collect()
}

/// The containers of the stack and of its store that have panicked.
pub async fn stack_panicked(client: &Client) -> Vec<String> {
    let pods = SYSTEM.map(|namespace| timeout(PATIENCE, observe::all(client, namespace, "pod")));
    let pods = join_all(pods).await.into_iter().flatten().flatten().flatten();
    pods.flat_map(|pod| containers_panicked(&serde_json::to_value(pod).unwrap_or_default())).collect()
}

fn names(world: &World) -> Names {
    let surroundings = &world.surroundings;
    let namespace = match world.is_shared() {
        true => world.namespace().to_owned(),
        false => String::new(),
    };
    Names::new([
        (world.context().unwrap_or_default(), "{context}"),
        (namespace, "{namespace}"),
        (surroundings.home.display().to_string(), "{home}"),
        (surroundings.state.display().to_string(), "{state}"),
    ])
}

/// Progress depends on when one looks; it begins with a sign of its own.
fn without_progress(text: &str) -> String {
    let progress = |line: &&str| ["· ", "✓ ", "… ", "= ", "✗ "].iter().any(|sign| line.starts_with(sign));
    text.lines().filter(|line| !progress(line)).collect::<Vec<_>>().join("\n")
}

fn clipped(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}…")
}

/// The values of all Secrets of a scenario's namespaces, and of those of the stack.
pub async fn secrets(world: &World) -> Secrets {
    let mut secrets = Secrets::default();
    let Ok(client) = world.onlooker().await else { return secrets };
    let namespaces = world.namespaces().iter().map(String::as_str).chain(SYSTEM);
    for found in join_all(namespaces.map(|namespace| secrets_of(&client, namespace))).await {
        secrets.extend(found);
    }
    secrets
}

async fn objects(world: &World) -> (Map<String, Value>, BTreeSet<String>, Vec<String>) {
    let (mut found, mut said, mut panicked) = (Map::new(), BTreeSet::new(), Vec::new());
    let Ok(client) = world.onlooker().await else { return (found, said, panicked) };
    let names = names(world);
    for namespace in world.namespaces() {
        let prefix = names.text(namespace);
        let (events, objects) = tokio::join!(events(&client, namespace), in_namespace(&client, namespace));
        said.extend(events.into_iter().map(|event| format!("{prefix}/{}", names.text(&event))));
        for (kind, object) in objects {
            let name = names.text(object.metadata.name.as_deref().unwrap_or_default());
            let value = serde_json::to_value(&object).unwrap_or_default();
            if kind == "pod" {
                panicked.extend(containers_panicked(&value));
            }
            let own = matches!(name.as_str(), "default" | "kube-root-ca.crt");
            if !own {
                found.insert(format!("{prefix}/{kind}/{name}"), names.object(value));
            }
        }
    }
    (found, said, panicked)
}

/// What events say, each once, however often it has happened.
async fn events(client: &Client, namespace: &str) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let list = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    list.into_iter()
        .map(|event| {
            let about = event.involved_object;
            let (kind, name) = (about.kind.unwrap_or_default(), about.name.unwrap_or_default());
            let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
            format!("{kind}/{name} {reason}: {message}")
        })
        .collect()
}

/// The values of all Secrets of a namespace.
async fn secrets_of(client: &Client, namespace: &str) -> Secrets {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    api.list(&ListParams::default()).await.map(|list| Secrets::of(&list.items)).unwrap_or_default()
}

async fn in_namespace(client: &Client, namespace: &str) -> Vec<(&'static str, DynamicObject)> {
    let lists = observe::kinds().filter(|kind| !IGNORED.contains(kind)).map(async |kind| {
        // A kind that this cluster does not serve has nothing to show.
        let Ok(api) = observe::objects(client, namespace, kind) else { return Vec::new() };
        let list = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        list.into_iter()
            .map(|mut object| {
                // Items of a list do not say what they are.
                object.types = Some(kube::api::TypeMeta {
                    api_version: String::new(),
                    kind: if kind == "secret" { "Secret".to_owned() } else { kind.to_owned() },
                });
                (kind, object)
            })
            .collect()
    });
    join_all(lists).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    use super::*;

    #[test]
    fn what_nobody_could_see_in_time_is_not_nothing() {
        assert_eq!(document(Vec::new(), None), json!({"commands": [], "objects": null, "events": null}));
        let nothing = Some(Default::default());
        assert_eq!(document(Vec::new(), nothing), json!({"commands": [], "objects": {}, "events": []}));
    }

    #[test]
    fn a_command_that_has_panicked_is_named() {
        let said = |line: &str, stderr: &str| {
            let output = Output { status: ExitStatus::from_raw(101 << 8), stdout: Vec::new(), stderr: stderr.into() };
            Outcome::of(line.to_owned(), &output, Duration::ZERO)
        };
        let torn = "thread 'main' (7) panicked at src/main.rs:1:1:\nit is torn\n";
        let outcomes = [
            said("a9s version", torn),
            said("a9s pg", "error: a subcommand is expected\n"),
            Outcome { stdout: torn.to_owned(), ..said("a9s pg logs", "") },
            Outcome { stdout: torn.to_owned(), in_terminal: true, ..said("a9s delete", "") },
        ];
        let wanted = ["`a9s version` has panicked", "`a9s delete` has panicked"];
        assert_eq!(panicked(&outcomes, &Secrets::default()), wanted);
    }

    #[test]
    fn a_container_that_has_panicked_is_named_unless_it_was_killed() {
        let ended = |name: &str, state: &str, code: i32| json!({"name": name, state: {"terminated": {"exitCode": code}}, "restartCount": 1});
        let pod = json!({"metadata": {"name": "solo-0"}, "status": {
            "initContainerStatuses": [ended("first", "state", 101)],
            "containerStatuses": [
                ended("postgres", "lastState", 134), ended("backup-agent", "lastState", 137), {"name": "new"},
            ],
        }});
        let wanted = [
            "the container first of the pod solo-0 has panicked: it ended with 101",
            "the container postgres of the pod solo-0 has panicked: it ended with 134",
        ];
        assert_eq!(containers_panicked(&pod), wanted);
        assert!(containers_panicked(&json!({})).is_empty());
    }

    #[test]
    fn a_panic_of_a_cluster_is_found_in_its_log() {
        let state = tempfile::tempdir().unwrap();
        let torn = "one\nthread 'x' panicked at a.rs:1:2:\nno more\nlast\n";
        for (cluster, log) in [("torn", torn), ("whole", "one\n")] {
            fs_err::create_dir(state.path().join(cluster)).unwrap();
            fs_err::write(state.path().join(cluster).join("cluster.log"), log).unwrap();
        }
        let wanted = ["the cluster torn has panicked: thread 'x' panicked at a.rs:1:2: no more"];
        assert_eq!(clusters_panicked(state.path()), wanted);
        assert!(clusters_panicked(&state.path().join("nowhere")).is_empty());
    }
}
