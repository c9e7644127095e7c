//! What a scenario has to itself: a home, a namespace (or a whole cluster), and a memory of what its commands said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cucumber::gherkin;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde_json::Value;
use tokio::process::Child;

use super::beside::ObjectStore;
use super::command::{self, Outcome, Surroundings};
use super::cut::Cut;
use super::definitions::backup;
use super::failure::Failure;
use super::inventory;
use super::mounts;
use super::nodes::Spoilt;
use super::observations;
use super::observe::{self, Look, SOON, until, until_cleared};
use super::recorder::Key;
use super::secrets::Secrets;
use super::stage::Stage;
use crate::postgres::{Ledger, Login};

/// Marks the namespaces of a run, so that anybody can find what one has left that was killed.
pub const RUN_LABEL: &str = "conformance.a9s/run";

/// A running `a9s pg connect`.
pub struct Connected {
    /// The command.
    pub child: Child,
    /// What it has printed.
    pub url: String,
    /// Where the password is.
    pub passfile: Option<PathBuf>,
    /// Since when it runs.
    pub since: std::time::Instant,
}

/// How long the cluster may take to tell its Secrets.
const SECRETS: Duration = Duration::from_secs(2);

/// State of one scenario.
#[derive(cucumber::World)]
#[world(init = Self::new)]
pub struct World {
    /// Where its commands run.
    pub surroundings: Surroundings,
    /// Programs it has left running, such as a port-forward.
    pub background: Vec<Child>,
    /// Logins of service bindings, with their database, as their Secrets told them.
    pub logins: BTreeMap<String, (Login, String)>,
    /// Open sessions.
    pub sessions: BTreeMap<String, tokio_postgres::Client>,
    /// The instance that a command has brought to a port of this machine.
    pub connected: Option<Connected>,
    /// Disks it has mounted.
    pub mounts: Vec<PathBuf>,
    /// Disks it has mounted over the volumes of members.
    pub disks: BTreeMap<String, PathBuf>,
    /// Its client that remembers what was acknowledged.
    pub ledger: Option<Ledger>,
    /// The member to which something happened, and when.
    pub struck: Option<(String, Instant)>,
    /// The longest time in which nothing was acknowledged, as its ledger told when it was read.
    pub longest_gap: Option<Duration>,
    /// Processes that it has stopped and not yet let go on.
    pub frozen: Vec<i32>,
    /// Pods that are cut off from the API server.
    pub cuts: Vec<Cut>,
    /// An object store beside the cluster.
    pub store: Option<ObjectStore>,
    /// Nodes to which it has done something.
    pub spoilt: Vec<Spoilt>,
    /// What its steps have noted for later ones.
    pub notes: BTreeMap<String, String>,
    /// Clients that stay connected.
    pub clients: Vec<tokio_postgres::Client>,
    /// A way to an instance that was opened earlier.
    pub forward: Option<Login>,
    /// What must not be told: the values of Secrets as they were seen, also of those that are gone since.
    pub secrets: Secrets,
    key: Option<Key>,
    slug: String,
    directory: PathBuf,
    shared: bool,
    namespaces: Vec<String>,
    outcomes: Vec<Outcome>,
    audit_mark: u64,
    number: usize,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("slug", &self.slug).field("namespaces", &self.namespaces).finish_non_exhaustive()
    }
}

impl World {
    fn new() -> Result<Self, Failure> {
        let stage = Stage::get();
        let number = stage.next_scenario();
        let directory = stage.directory.join(format!("s{number}"));
        Ok(Self {
            surroundings: Surroundings::new(&directory)?,
            background: Vec::new(),
            logins: BTreeMap::new(),
            sessions: BTreeMap::new(),
            connected: None,
            mounts: Vec::new(),
            disks: BTreeMap::new(),
            ledger: None,
            struck: None,
            longest_gap: None,
            frozen: Vec::new(),
            cuts: Vec::new(),
            store: None,
            spoilt: Vec::new(),
            notes: BTreeMap::new(),
            clients: Vec::new(),
            forward: None,
            secrets: Secrets::default(),
            key: None,
            slug: String::new(),
            directory,
            shared: false,
            namespaces: Vec::new(),
            outcomes: Vec::new(),
            audit_mark: 0,
            number,
        })
    }

    /// Gives the world the name of its scenario.
    pub fn begin(&mut self, feature: &gherkin::Feature, scenario: &gherkin::Scenario) {
        let plain = |text: &str| {
            let text: String =
                text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
            text.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
        };
        self.key = Some(Key::of(feature, scenario));
        let line = scenario.position.line;
        self.slug = format!("{}-{line}-{}", plain(&feature.name), plain(&scenario.name));
        self.slug.truncate(100);
    }

    /// Which scenario it is, once it has begun.
    pub fn key(&self) -> Option<Key> {
        self.key.clone()
    }

    /// A name for directories.
    pub fn slug(&self) -> &str {
        &self.slug
    }

    /// The namespaces it uses; the first is its own.
    pub fn namespaces(&self) -> &[String] {
        &self.namespaces
    }

    /// Everything its commands said.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Whether it works on the cluster that scenarios share.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Puts the scenario on the shared cluster, in a new namespace, which becomes its context's.
    ///
    /// # Errors
    /// A cluster that can't be created, or a namespace.
    pub async fn join_shared_cluster(&mut self) -> Result<(), Failure> {
        let shared = Stage::get().shared().await?;
        self.shared = true;
        self.surroundings.state.clone_from(&shared.state);
        let own = Stage::get().namespace(self.number);
        let mut kubeconfig = Kubeconfig::read_from(&shared.kubeconfig)?;
        for context in kubeconfig.contexts.iter_mut().filter_map(|named| named.context.as_mut()) {
            context.namespace = Some(own.clone());
        }
        self.surroundings.write_kubeconfig(&kubeconfig)?;
        let home = self.surroundings.home.display();
        fs_err::write(self.surroundings.home.join(".a9s"), format!("WorkingDir: {home}/a9s\nDemoSpace: a8s-demo\n"))?;
        self.add_namespace(own).await
    }

    /// Gives the scenario a cluster of its own, made by the program in an empty home.
    ///
    /// # Errors
    /// What the program said.
    pub async fn create_own_cluster(&mut self) -> Result<(), Failure> {
        if self.shared {
            return Err(Failure::unexpected("a scenario without a cluster", "one that has joined the shared cluster"));
        }
        self.a9s(&["create", "cluster", "a8s", "--yes"]).await?;
        self.last()?.require_success()?;
        self.adopt_default_namespace();
        Ok(())
    }

    /// A cluster of the scenario's own is used in its namespace `default`.
    pub fn adopt_default_namespace(&mut self) {
        if self.namespaces.is_empty() {
            self.namespaces.push("default".to_owned());
        }
    }

    /// The namespace a feature calls `name`: on the shared cluster it gets the scenario's own as a prefix.
    pub fn namespace_called(&self, name: &str) -> String {
        if self.shared { format!("{}-{name}", self.namespace()) } else { name.to_owned() }
    }

    /// The scenario's own namespace.
    pub fn namespace(&self) -> &str {
        self.namespaces.first().map_or("default", String::as_str)
    }

    /// Makes a namespace and remembers to delete it.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn add_namespace(&mut self, name: String) -> Result<(), Failure> {
        let client = self.client().await?;
        let namespaces: Api<Namespace> = Api::all(client);
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.clone());
        namespace.metadata.labels = Some([(RUN_LABEL.to_owned(), Stage::get().run.clone())].into());
        if self.shared {
            Stage::get().note_namespace(&name, true);
        }
        namespaces.create(&PostParams::default(), &namespace).await?;
        self.namespaces.push(name);
        Ok(())
    }

    /// A client as the scenario's kubeconfig says. Made anew each time: the cluster behind it may have been restarted.
    ///
    /// # Errors
    /// A kubeconfig that is not usable.
    pub async fn client(&self) -> Result<Client, Failure> {
        observe::client(&self.surroundings).await
    }

    /// A client of who looks on: where scenarios share a cluster, as the administrator who made it, for this one may
    /// have spoilt its own kubeconfig.
    ///
    /// # Errors
    /// A kubeconfig that is not usable.
    pub async fn onlooker(&self) -> Result<Client, Failure> {
        let surroundings = if self.shared { Stage::get().shared().await? } else { &self.surroundings };
        observe::client(surroundings).await
    }

    /// Runs the program under test and remembers what it did.
    ///
    /// # Errors
    /// Only when it can't be run to an end.
    pub async fn a9s(&mut self, words: &[&str]) -> Result<&Outcome, Failure> {
        self.audit_mark = fs_err::metadata(self.audit_log()).map_or(0, |metadata| metadata.len());
        let outcome = command::a9s(&self.surroundings, words).await?;
        self.outcomes.push(outcome);
        if words.first() == Some(&"create") {
            self.note_secrets().await;
        }
        self.last()
    }

    /// Takes note of what must not be told, as far as the cluster says it.
    pub async fn note_secrets(&mut self) {
        let found = tokio::time::timeout(SECRETS, observations::secrets(self)).await;
        self.secrets.extend(found.unwrap_or_default());
    }

    /// Runs `kubectl` and remembers what it did.
    ///
    /// # Errors
    /// Only when it can't be run to an end.
    pub async fn kubectl(&mut self, words: &[&str], stdin: Option<&[u8]>) -> Result<&Outcome, Failure> {
        let outcome = command::kubectl(&self.surroundings, words, stdin).await?;
        self.outcomes.push(outcome);
        self.last()
    }

    /// Remembers an outcome that was come by in another way.
    pub fn remember(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// What the last command did.
    ///
    /// # Errors
    /// When there was none.
    pub fn last(&self) -> Result<&Outcome, Failure> {
        self.outcomes.last().ok_or(Failure::Missing("command"))
    }

    /// Fills in the scenario's `{namespace}`, `{home}`, `{state}` directory, `{kubeconfig}`, its current `{context}` and
    /// `{store}` (the URL of one beside the cluster), and the program's `{version}`.
    pub fn expand(&self, text: &str) -> String {
        let context = || Kubeconfig::read_from(&self.surroundings.kubeconfig).ok()?.current_context;
        let context = text.contains("{context}").then(context).flatten().unwrap_or_default();
        text.replace("{namespace}", self.namespace())
            .replace("{version}", env!("CARGO_PKG_VERSION"))
            .replace("{home}", &self.surroundings.home.to_string_lossy())
            .replace("{state}", &self.surroundings.state.to_string_lossy())
            .replace("{context}", &context)
            .replace("{kubeconfig}", &self.surroundings.kubeconfig.to_string_lossy())
            .replace("{store}", &self.store.as_ref().map(ObjectStore::url).unwrap_or_default())
    }

    fn audit_log(&self) -> PathBuf {
        self.surroundings.cluster_state(self.surroundings.default_cluster()).join("audit.log")
    }

    /// The requests on record that the program itself has sent since its last command began.
    ///
    /// # Errors
    /// A log that can't be read, or that the API server does not write.
    pub async fn requests_of_last_command(&self) -> Result<Vec<Value>, Failure> {
        self.await_audit().await?;
        let log = self.audit_since_mark()?;
        let events = log.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let is_ours = |event: &Value| event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("a9s/"));
        Ok(events.into_iter().filter(is_ours).collect())
    }

    /// Those of them that change something.
    ///
    /// # Errors
    /// As [`World::requests_of_last_command`].
    pub async fn changes_by_last_command(&self) -> Result<Vec<String>, Failure> {
        let mut changes = Vec::new();
        for event in self.requests_of_last_command().await? {
            let verb = event["verb"].as_str().unwrap_or_default();
            let changing = ["create", "update", "patch", "delete", "deletecollection"].contains(&verb);
            let subject = &event["objectRef"];
            let namespace = subject["namespace"].as_str().unwrap_or_default();
            // Asking the server what one may do is a `create` that stores nothing; so are a dry run and opening an exec.
            let is_dry = event["requestURI"].as_str().is_some_and(|uri| uri.contains("dryRun=All"));
            let asking = is_dry || subject["apiGroup"] == "authorization.k8s.io" || subject["subresource"] == "exec";
            let here = !self.shared || self.namespaces.iter().any(|own| own == namespace);
            if changing && here && !asking {
                changes.push(format!("{verb} {} {namespace}/{}", subject["resource"], subject["name"]));
            }
        }
        Ok(changes)
    }

    /// What the audit log has got since the last command began. A full log is moved aside to `audit.log.1`.
    fn audit_since_mark(&self) -> Result<String, Failure> {
        let path = self.audit_log();
        let log = fs_err::read_to_string(&path)?;
        let mark = usize::try_from(self.audit_mark).unwrap_or(usize::MAX);
        if mark <= log.len() {
            return Ok(lines_from(&log, mark).to_owned());
        }
        let aside = fs_err::read_to_string(path.with_extension("log.1"))?;
        Ok(lines_from(&aside, mark).to_owned() + &log)
    }

    /// Waits until the audit log has what was requested before: it is written in order, so a request of our own (for the
    /// deletion of something that is not there) ends it.
    async fn await_audit(&self) -> Result<(), Failure> {
        let name = format!("audit-mark-{:08x}", rand::random::<u32>());
        let maps: Api<ConfigMap> = Api::namespaced(self.client().await?, self.namespace());
        match maps.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
        until("our request in the audit log", Duration::from_secs(10), || async {
            let log = fs_err::read_to_string(self.audit_log())?;
            Ok(Look::when(log.contains(&name), "not there"))
        })
        .await
    }

    /// Takes back everything the scenario made, and says what would not go.
    pub async fn end(&mut self) -> Vec<String> {
        self.thaw();
        self.cuts.clear();
        self.store = None;
        self.spoilt.clear();
        self.ledger = None;
        for mut child in self.background.drain(..) {
            let _ = child.kill().await;
        }
        let mut leaks = Vec::new();
        // Whoever still uses one keeps it until he ends; the volume below it can be deleted.
        for disk in std::mem::take(&mut self.disks).into_values() {
            leaks.extend(still_mounted(&disk, mounts::detach(&disk)));
        }
        leaks.extend(if self.shared {
            self.leave_shared_cluster().await
        } else {
            delete_clusters(&self.surroundings).await
        });
        if !self.shared {
            leaks.extend(end_processes_of(&self.directory.to_string_lossy()).await);
        }
        for disk in self.mounts.drain(..) {
            leaks.extend(still_mounted(&disk, mounts::unmount(&disk)));
        }
        if let Err(error) = fs_err::remove_dir_all(&self.directory) {
            leaks.push(error.to_string());
        }
        leaks
    }

    /// Lets go on what was frozen, as far as it still lives.
    pub fn thaw(&mut self) {
        for pid in self.frozen.drain(..) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGCONT);
        }
    }

    /// As the administrator who made the cluster: the scenario may have spoilt its own kubeconfig.
    async fn leave_shared_cluster(&self) -> Vec<String> {
        let mut leaks = delete_namespaces(self.namespaces.clone()).await;
        leaks.extend(self.left_in_store().await);
        leaks
    }

    /// Backups take their objects along when they go.
    async fn left_in_store(&self) -> Vec<String> {
        let stage = Stage::get();
        let mut leaks = Vec::new();
        let look = async {
            let store = backup::store_of(observe::client(stage.shared().await?).await?).await?;
            for namespace in &self.namespaces {
                let own = format!("{namespace}/");
                let there = store.list(namespace).await;
                let there = there.map_err(|error| Failure::unexpected("a list of the store", error.to_string()))?;
                let count = there.iter().filter(|it| it.key.starts_with(&own)).count();
                if count > 0 {
                    leaks.push(format!("{count} objects of {namespace} in the store"));
                }
            }
            Ok::<_, Failure>(())
        };
        let unseen = match tokio::time::timeout(Duration::from_secs(5), look).await {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure.to_string()),
            Err(_) => Some("it does not answer".to_owned()),
        };
        // The store of somebody else's cluster may be where it can't be seen from here.
        leaks.extend(
            unseen.filter(|_| stage.existing.is_none()).map(|why| format!("nobody knows what, in the store: {why}")),
        );
        leaks
    }
}

/// The lines of a text that begin at a place or after it: what was being written there was asked before.
fn lines_from(text: &str, mark: usize) -> &str {
    let is_begin = mark == 0 || text.as_bytes().get(mark - 1) == Some(&b'\n');
    let begin =
        if is_begin { Some(mark) } else { text.bytes().skip(mark).position(|it| it == b'\n').map(|at| mark + at + 1) };
    begin.and_then(|begin| text.get(begin..)).unwrap_or_default()
}

/// Says what would not go.
fn still_mounted(disk: &Path, unmounted: std::io::Result<()>) -> Option<String> {
    unmounted.err().map(|error| format!("{} is still mounted: {error}", disk.display()))
}

/// Deletes namespaces of the shared cluster, and says what would not go.
pub async fn delete_namespaces(namespaces: Vec<String>) -> Vec<String> {
    if namespaces.is_empty() {
        return Vec::new();
    }
    let client = match Stage::get().shared().await {
        Ok(shared) => observe::client(shared).await,
        Err(failure) => Err(failure),
    };
    let client = match client {
        Ok(client) => client,
        Err(failure) => return vec![failure.to_string()],
    };
    let mut leaks = Vec::new();
    for namespace in namespaces {
        match empty_and_delete(&client, &namespace).await {
            Ok(()) => Stage::get().note_namespace(&namespace, false),
            Err(failure) => leaks.push(format!("namespace {namespace}: {failure}")),
        }
    }
    leaks
}

/// Deletes every cluster in these surroundings, as a person would, and says what would not go.
pub async fn delete_clusters(surroundings: &Surroundings) -> Vec<String> {
    let mut leaks = Vec::new();
    let clusters: Vec<String> = std::fs::read_dir(&surroundings.state)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_cluster(&surroundings.cluster_state(name)))
        .collect();
    for cluster in clusters {
        let words = ["delete", "cluster", "a8s", "--cluster-name", &cluster, "--yes"];
        let deleted = command::a9s_to_clear(surroundings, &words).await;
        if let Err(failure) = deleted.and_then(|outcome| outcome.require_success()) {
            leaks.push(failure.to_string());
        }
    }
    leaks
}

/// Whether the program made this directory: a scenario may have put a file of its own in the record's place.
fn is_cluster(state: &Path) -> bool {
    let record = std::fs::read(state.join("cluster.json")).unwrap_or_default();
    serde_json::from_slice::<Value>(&record).is_ok_and(|record| record["version"].is_string())
}

/// A namespace controller that finds something left looks again only after a while that grows: so what takes its time to
/// go goes first.
async fn end_instances(client: &Client, namespace: &str) -> Result<(), Failure> {
    let instances = observe::objects(client, namespace, "postgresql")?;
    instances.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    // Whatever does not go is seen when the namespace does not.
    let gone = until_cleared("the end of the instances", SOON, || async {
        let left = instances.list(&ListParams::default()).await?.items.len();
        Ok(Look::when(left == 0, left))
    });
    gone.await.or(Ok(()))
}

/// Deletes a namespace and waits until the objects in it, and the processes of its pods, are gone.
async fn empty_and_delete(client: &Client, namespace: &str) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods: BTreeSet<String> =
        pods.list(&ListParams::default()).await?.items.into_iter().filter_map(|pod| pod.metadata.uid).collect();
    if Stage::get().existing.is_some() {
        end_instances(client, namespace).await?;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.delete(namespace, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other?),
    }
    // A namespace controller looks again after a while that grows, if something in it takes its time to go.
    until_cleared("the end of the namespace", SOON * 4, || async {
        let found = namespaces.get_opt(namespace).await?;
        Ok(Look::when(
            found.is_none(),
            serde_json::to_string(&found.and_then(|found| found.status)).unwrap_or_default(),
        ))
    })
    .await?;
    let lists =
        observe::kinds().map(async |kind| Ok::<_, Failure>((kind, observe::all(client, namespace, kind).await?)));
    for (kind, left) in futures::future::try_join_all(lists).await? {
        if let Some(first) = left.first() {
            let name = first.metadata.name.clone().unwrap_or_default();
            return Err(Failure::unexpected("an empty namespace", format!("{} of {kind}, such as {name}", left.len())));
        }
    }
    until_cleared("the end of the pods' processes", Duration::from_secs(10), || async {
        let left: Vec<_> = pods.iter().flat_map(|uid| inventory::processes_marked("A9S_POD_UID", uid)).collect();
        Ok(Look::when(left.is_empty(), format!("{left:?}")))
    })
    .await
}

/// Waits a moment for the processes that name a directory to end, then ends them and says which they were.
pub async fn end_processes_of(directory: &str) -> Vec<String> {
    let gone = until_cleared("the end of its processes", Duration::from_secs(5), || async {
        let left = inventory::processes_naming(directory);
        Ok(Look::when(left.is_empty(), format!("{left:?}")))
    });
    if gone.await.is_ok() {
        return Vec::new();
    }
    let left = inventory::processes_naming(directory);
    inventory::end(&left);
    left.into_iter().map(|process| format!("process {} is left: {}", process.pid, process.line)).collect()
}

#[cfg(test)]
mod tests {
    use super::lines_from;

    #[test]
    fn a_log_is_read_from_the_first_line_that_begins_after_the_mark() {
        let log = "one\ntwö\nthree\n";
        for (mark, rest) in [(0, log), (4, "twö\nthree\n"), (2, "twö\nthree\n"), (7, "three\n"), (15, ""), (99, "")] {
            assert_eq!(lines_from(log, mark), rest, "{mark}");
        }
    }
}
