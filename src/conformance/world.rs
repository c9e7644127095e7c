//! What a scenario has to itself: a home, a namespace (or a whole cluster), and a memory of what its commands said.

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cucumber::gherkin;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use nix::sys::signal::Signal;
use tokio::process::Child;

use super::audit::Mark;
use super::beside::ObjectStore;
use super::command::{self, Outcome, Surroundings};
use super::cut::Cut;
use super::failure::Failure;
use super::inventory::Process;
use super::nodes::Spoilt;
use super::recorder::Key;
use super::secrets::Secrets;
use super::stage::Stage;
use super::teardown::{delete_clusters, delete_namespaces, end_processes_of};
use super::{mounts, observations, observe};
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

/// How long a command may take to end that was interrupted.
const PARTING: Duration = Duration::from_secs(5);

/// How long the cluster may take to tell its Secrets.
const SECRETS: Duration = Duration::from_secs(2);

/// State of one scenario.
#[derive(Default, cucumber::World)]
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
    pub frozen: Vec<Process>,
    /// Pods that are cut off from the API server.
    pub cuts: Vec<Cut>,
    /// An object store beside the cluster.
    pub store: Option<ObjectStore>,
    /// Who takes connections and never answers.
    pub silent: Option<TcpListener>,
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
    /// The last client that was made, and of what.
    kept: Mutex<Option<(Vec<u8>, Client)>>,
    namespaces: Vec<String>,
    outcomes: Vec<Outcome>,
    pub(super) audit_mark: Mark,
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
        Ok(Self { surroundings: Surroundings::new(&directory)?, directory, number, ..Self::default() })
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

    /// As [`World::namespace_called`]; the scenario's own where none is named.
    pub fn namespace_or_own(&self, name: &str) -> String {
        if name.is_empty() { self.namespace().to_owned() } else { self.namespace_called(name) }
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
            Stage::get().note_namespace(&name, self.key.clone());
        }
        namespaces.create(&PostParams::default(), &namespace).await?;
        self.namespaces.push(name);
        Ok(())
    }

    /// A client as the scenario's kubeconfig says. On the shared cluster one is kept, with its connections, while the
    /// kubeconfig says the same; a cluster of the scenario's own may have been restarted since.
    ///
    /// # Errors
    /// A kubeconfig that is not usable.
    pub async fn client(&self) -> Result<Client, Failure> {
        if !self.shared {
            return observe::client(&self.surroundings).await;
        }
        let kubeconfig = fs_err::read(&self.surroundings.kubeconfig)?;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, client)) = kept.filter(|(of, _)| *of == kubeconfig) {
            return Ok(client);
        }
        let client = observe::client(&self.surroundings).await?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((kubeconfig, client.clone()));
        Ok(client)
    }

    /// A client of who looks on: where scenarios share a cluster, as the administrator who made it, for this one may
    /// have spoilt its own kubeconfig.
    ///
    /// # Errors
    /// A kubeconfig that is not usable.
    pub async fn onlooker(&self) -> Result<Client, Failure> {
        if self.shared { Stage::get().onlooker().await } else { self.client().await }
    }

    /// Runs the program under test and remembers what it did.
    ///
    /// # Errors
    /// Only when it can't be run to an end.
    pub async fn a9s(&mut self, words: &[&str]) -> Result<&Outcome, Failure> {
        self.mark_audit_log();
        let outcome = command::a9s(&self.surroundings, words).await?;
        self.outcomes.push(outcome);
        if words.first() == Some(&"create") {
            self.note_secrets().await;
        }
        self.last()
    }

    /// Takes note of what must not be told, as far as the cluster says it.
    async fn note_secrets(&mut self) {
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

    /// The current context of its kubeconfig, if there is one.
    pub fn context(&self) -> Option<String> {
        Kubeconfig::read_from(&self.surroundings.kubeconfig).ok()?.current_context
    }

    /// Fills in the scenario's `{namespace}`, `{home}`, `{state}` directory, `{kubeconfig}`, its current `{context}`, the
    /// `{cluster}` of kind that this is of, `{store}` (the URL of one beside the cluster) and `{silent}` (the address of who
    /// never answers), and the program's `{version}`.
    pub fn expand(&self, text: &str) -> String {
        let is_asked = text.contains("{context}") || text.contains("{cluster}");
        let context = is_asked.then(|| self.context()).flatten().unwrap_or_default();
        let silent = self.silent.as_ref().and_then(|listener| listener.local_addr().ok());
        text.replace("{namespace}", self.namespace())
            .replace("{version}", env!("CARGO_PKG_VERSION"))
            .replace("{home}", &self.surroundings.home.to_string_lossy())
            .replace("{state}", &self.surroundings.state.to_string_lossy())
            .replace("{context}", &context)
            .replace("{cluster}", context.trim_start_matches("kind-"))
            .replace("{kubeconfig}", &self.surroundings.kubeconfig.to_string_lossy())
            .replace("{store}", &self.store.as_ref().map(ObjectStore::url).unwrap_or_default())
            .replace("{silent}", &silent.map(|address| address.to_string()).unwrap_or_default())
    }

    /// Undoes what was done to nodes, beside the thread that all scenarios share. What cannot be undone is told when the
    /// run ends.
    pub async fn mend_nodes(&mut self) {
        let spoilt = std::mem::take(&mut self.spoilt);
        let _ = tokio::task::spawn_blocking(|| drop(spoilt)).await;
    }

    /// Takes back everything the scenario made, and says what would not go.
    pub async fn end(&mut self) -> Vec<String> {
        self.thaw();
        self.cuts.clear();
        self.store = None;
        self.mend_nodes().await;
        self.ledger = None;
        for mut child in self.background.drain(..) {
            let _ = child.kill().await;
        }
        if let Some(mut connected) = self.connected.take() {
            // Killed, it would leave its file with the password. A scenario that came to its end has ended it itself.
            let _ = command::interrupt(&connected.child);
            let _ = tokio::time::timeout(PARTING, connected.child.wait()).await;
        }
        let mut leaks = Vec::new();
        // Whoever still uses one keeps it until he ends; the volume below it can be deleted.
        for disk in std::mem::take(&mut self.disks).into_values() {
            leaks.extend(still_mounted(&disk, mounts::detach(&disk)));
        }
        if self.shared {
            leaks.extend(delete_namespaces(self.namespaces.clone()).await);
            leaks.extend(self.left_in_store().await);
        } else {
            leaks.extend(delete_clusters(&self.surroundings).await);
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

    /// Stops processes until [`World::thaw`], which the end of the scenario brings at the latest.
    ///
    /// # Errors
    /// One can't be stopped.
    pub fn freeze(&mut self, processes: &[Process]) -> std::io::Result<()> {
        self.frozen.extend_from_slice(processes);
        processes.iter().try_for_each(|process| process.signal(Signal::SIGSTOP))
    }

    /// Lets go on what was frozen, as far as it still lives.
    pub fn thaw(&mut self) {
        for process in self.frozen.drain(..) {
            let _ = process.signal(Signal::SIGCONT);
        }
    }

    /// Backups take their objects along when they go.
    async fn left_in_store(&self) -> Vec<String> {
        let stage = Stage::get();
        let mut leaks = Vec::new();
        let look = async {
            let store = stage.store().await?;
            for namespace in &self.namespaces {
                let own = format!("{namespace}/");
                let mut left = store.list(namespace).await.map_err(observe::refused)?;
                left.retain(|it| it.key.starts_with(&own));
                if let Some(first) = left.first() {
                    leaks.push(format!("{} objects of {namespace} in the store, such as {}", left.len(), first.key));
                    // This scenario has told it, and the end of the run need not tell it again.
                    store.delete_below(namespace).await.map_err(observe::refused)?;
                }
            }
            Ok::<_, Failure>(())
        };
        let unseen = match tokio::time::timeout(Duration::from_secs(5), look).await {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure.to_string()),
            Err(_) => Some("it does not answer".to_owned()),
        };
        match unseen {
            None => {}
            // The store of somebody else's cluster may be where it can't be seen from here.
            Some(why) if stage.existing.is_some() => stage.note_store_unseen(&why),
            Some(why) => leaks.push(format!("nobody knows what, in the store: {why}")),
        }
        leaks
    }
}

/// Says what would not go.
fn still_mounted(disk: &Path, unmounted: std::io::Result<()>) -> Option<String> {
    unmounted.err().map(|error| format!("{} is still mounted: {error}", disk.display()))
}
