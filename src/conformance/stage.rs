//! What one run of the suite has: its directory, the program under test, and the cluster that most scenarios share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use a8s_operators::store::Store;
use kube::Client;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::command::{self, Surroundings};
use super::directory;
use super::failure::Failure;
use super::observe;
use super::outside;
use super::preflight::Existing;
use super::recorder::Key;
use super::secrets::Secrets;
use super::ways::{Goal, Ways};
use super::world::RUN_LABEL;

static STAGE: OnceLock<Stage> = OnceLock::new();

/// One run of the suite.
#[derive(Debug)]
pub struct Stage {
    /// Everything the run makes lies below it.
    pub directory: PathBuf,
    _in_use: directory::InUse,
    /// The program under test.
    pub program: PathBuf,
    /// `kubectl`, or why it can't be a judge.
    pub kubectl: Result<PathBuf, &'static str>,
    /// The folder of the reports; evidence lies below it.
    pub report: PathBuf,
    /// The cluster to test, unless the run makes its own.
    pub existing: Option<Existing>,
    /// How the program is driven.
    pub door: Door,
    /// So many times the usual deadlines are those of this run.
    pub patience: f64,
    /// What namespaces of this run are labelled with.
    pub run: String,
    shared: OnceCell<SharedCluster>,
    scenarios: AtomicUsize,
    notes: Mutex<HashMap<Key, Notes>>,
    namespaces: Mutex<BTreeMap<String, Made>>,
    at_nodes: TaskTracker,
    left: Mutex<Vec<String>>,
    store: OnceCell<Store>,
    store_unseen: OnceLock<String>,
    ways: Ways,
}

/// The cluster that most scenarios share.
pub struct SharedCluster {
    /// Where commands find it.
    pub surroundings: Surroundings,
    /// As the administrator who made it: a scenario may have spoilt its own kubeconfig. Its connections are kept, because a
    /// handshake takes longer than most requests.
    pub onlooker: Client,
    /// What was outside the namespaces of scenarios at first.
    pub before: BTreeSet<String>,
}

impl fmt::Debug for SharedCluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedCluster").field("surroundings", &self.surroundings).finish_non_exhaustive()
    }
}

/// A namespace that a scenario has made on the shared cluster.
#[derive(Debug)]
struct Made {
    by: Option<Key>,
    is_there: bool,
}

/// What is to be said of a cluster whose volumes nobody makes.
pub const NO_CLASS: &str = "the cluster has no default StorageClass: instances wait until somebody makes their volumes";

/// How the program is driven: `A9S_DOOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    /// Each command is a process.
    #[default]
    Cli,
    /// Commands that end by themselves run in this process.
    Plan,
}

impl Door {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Plan => "plan",
        }
    }
}

impl std::str::FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "cli" => Ok(Self::Cli),
            "plan" => Ok(Self::Plan),
            other => Err(format!("A9S_DOOR is cli or plan, not {other:?}")),
        }
    }
}

/// What the suite itself notes about a scenario, besides what the runner tells.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Its folder below the report's.
    pub evidence: Option<PathBuf>,
    /// What was seen at its end.
    pub observations: Value,
    /// What must not be told.
    pub secrets: Secrets,
    /// When a step of it failed, and why.
    pub failed: Option<(SystemTime, String)>,
}

impl Stage {
    /// The stage of this process.
    ///
    /// # Panics
    /// Before [`Stage::open`].
    pub fn get() -> &'static Self {
        #[expect(clippy::expect_used, reason = "run() opens the stage before it starts the first scenario")]
        STAGE.get().expect("the stage is open while scenarios run")
    }

    /// Makes the directory of a run that tests `program` and reports to `report`.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(
        program: &Path,
        report: &Path,
        existing: Option<Existing>,
        door: Door,
        patience: f64,
    ) -> Result<&'static Self, Failure> {
        if !program.is_file() {
            return Err(Failure::unexpected("a program to test", format!("nothing at {}", program.display())));
        }
        let (program, report) = (std::path::absolute(program)?, std::path::absolute(report)?);
        let run = format!("{:08x}", rand::random::<u32>());
        let (directory, in_use) = directory::make(&run)?;
        let stage = Self {
            directory,
            _in_use: in_use,
            program,
            kubectl: kubectl(),
            report,
            existing,
            door,
            patience,
            run,
            shared: OnceCell::new(),
            scenarios: AtomicUsize::new(0),
            notes: Mutex::default(),
            namespaces: Mutex::default(),
            at_nodes: TaskTracker::new(),
            left: Mutex::default(),
            store: OnceCell::new(),
            store_unseen: OnceLock::new(),
            ways: Ways::default(),
        };
        Ok(STAGE.get_or_init(|| stage))
    }

    /// Removes the directory of a run that does not begin: nothing is in use there.
    pub fn clear_away(&self) {
        let _ = fs_err::remove_dir_all(&self.directory);
    }

    /// How long something that may usually take `longest` is waited for in this run.
    pub fn patience(longest: Duration) -> Duration {
        longest.mul_f64(STAGE.get().map_or(1.0, |stage| stage.patience))
    }

    /// As [`Stage::patience`], for what is taken back in the end and for what is promised to be quick: however little
    /// patience the run has.
    pub fn ample_patience(longest: Duration) -> Duration {
        Self::patience(longest).max(longest)
    }

    /// Where a goal is reached on a cluster that is not of this machine; `None` where its addresses are.
    ///
    /// # Errors
    /// No port is to be had.
    pub async fn way(&self, client: &Client, goal: Goal) -> Result<Option<SocketAddr>, Failure> {
        match self.existing {
            Some(_) => self.ways.to(client, goal).await.map(Some),
            None => Ok(None),
        }
    }

    /// Closes the ways into a namespace that is gone.
    pub async fn close_ways(&self, namespace: &str) {
        self.ways.close(namespace).await;
    }

    /// A number that no other scenario of this run has.
    pub fn next_scenario(&self) -> usize {
        self.scenarios.fetch_add(1, Ordering::Relaxed)
    }

    /// The name of the namespace of a scenario.
    pub fn namespace(&self, number: usize) -> String {
        format!("{}{number}", self.namespaces_begin())
    }

    /// How the names of all namespaces of this run begin: on a cluster that others use, too, those of no other run do.
    pub fn namespaces_begin(&self) -> String {
        match self.existing {
            Some(_) => format!("e2e-{}-", self.run),
            None => "e2e-".to_owned(),
        }
    }

    fn namespaces(&self) -> MutexGuard<'_, BTreeMap<String, Made>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that a scenario makes a namespace.
    pub fn note_namespace(&self, name: &str, by: Option<Key>) {
        self.namespaces().insert(name.to_owned(), Made { by, is_there: true });
    }

    /// Remembers that a namespace is gone.
    pub fn note_gone(&self, name: &str) {
        if let Some(made) = self.namespaces().get_mut(name) {
            made.is_there = false;
        }
    }

    /// Namespaces on the shared cluster that scenarios have made and not taken back: those that were interrupted.
    pub fn namespaces_left(&self) -> Vec<String> {
        let namespaces = self.namespaces();
        namespaces.iter().filter(|(_, made)| made.is_there).map(|(name, _)| name.clone()).collect()
    }

    /// The scenario that has made a namespace, as far as that is known.
    pub fn maker(&self, namespace: &str) -> Option<Key> {
        self.namespaces().get(namespace)?.by.clone()
    }

    /// What there is of this run, in words, for as long as it is not cleared away.
    pub fn left_at_once(&self) -> String {
        let directory = self.directory.display();
        match self.existing {
            None => format!("to the next run what is below {directory}"),
            Some(_) => format!(
                "to the next run what is below {directory}, and to you what it did to nodes and the namespaces with \
                 the label {RUN_LABEL}={}",
                self.run
            ),
        }
    }

    /// What whoever does something to nodes holds until it is undone.
    pub fn at_nodes(&self) -> TaskTrackerToken {
        self.at_nodes.token()
    }

    /// Waits until all that was done to nodes is undone. Nobody begins to do something any more.
    pub async fn nodes_mended(&self) {
        self.at_nodes.close();
        self.at_nodes.wait().await;
    }

    /// Remembers what could not be taken back where no scenario can tell it.
    pub fn note_left(&self, what: String) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// What could not be taken back and was not told yet.
    pub fn left(&self) -> Vec<String> {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Remembers why nobody could look into the store, as far as that is the first time.
    pub fn note_store_unseen(&self, why: &str) {
        self.store_unseen.get_or_init(|| why.replace('\n', " "));
    }

    /// What is to be said of the run, and fails nothing.
    pub fn notes(&self) -> Vec<String> {
        let keys = self.store_unseen.get().map(|why| format!("keys left in the store were not looked for: {why}"));
        let kinds = self.existing.as_ref().map(|existing| existing.unseen.join(", "));
        let objects = kinds.filter(|kinds| !kinds.is_empty());
        let objects = objects.map(|kinds| format!("objects left that may not be listed were not looked for: {kinds}"));
        let class = self.existing.as_ref().and_then(|existing| existing.retaining_class.as_ref());
        let kept = class.map(|class| format!("volumes stay: the default StorageClass {class} retains them"));
        let none = self.existing.as_ref().filter(|existing| existing.has_no_class).map(|_| NO_CLASS.to_owned());
        keys.into_iter().chain(objects).chain(kept).chain(none).collect()
    }

    /// Keeps notes about a scenario.
    pub fn note(&self, key: Key, notes: Notes) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(key, notes);
    }

    /// The notes about a scenario.
    pub fn notes_of(&self, key: &Key) -> Notes {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned().unwrap_or_default()
    }

    /// Where the cluster is that most scenarios share; the first who asks creates it, unless it is an existing one.
    ///
    /// # Errors
    /// What the program said when it could not be created; every scenario that needs it then fails with it.
    pub async fn shared(&self) -> Result<&Surroundings, Failure> {
        self.shared_cluster().await.map(|shared| &shared.surroundings)
    }

    /// A client of the administrator of the cluster that most scenarios share.
    ///
    /// # Errors
    /// As [`Stage::shared`].
    pub async fn onlooker(&self) -> Result<Client, Failure> {
        self.shared_cluster().await.map(|shared| shared.onlooker.clone())
    }

    /// The store of the cluster that scenarios share, with connections that are kept. No scenario there moves it.
    ///
    /// # Errors
    /// As [`Stage::shared`], or nobody can say where it is.
    pub async fn store(&self) -> Result<&Store, Failure> {
        self.store.get_or_try_init(|| async { observe::store_of(self.onlooker().await?).await }).await
    }

    async fn shared_cluster(&self) -> Result<&SharedCluster, Failure> {
        self.shared
            .get_or_try_init(|| async {
                let surroundings = Surroundings::new(&self.directory.join("shared"))?;
                if let Some(existing) = &self.existing {
                    surroundings.write_kubeconfig(&existing.kubeconfig)?;
                    let onlooker = observe::client(&surroundings).await?;
                    // Nothing there names a namespace of this run yet, and nothing else will count.
                    return Ok(SharedCluster { surroundings, onlooker, before: BTreeSet::new() });
                }
                let outcome = command::a9s(&surroundings, &["create", "cluster", "a8s", "--yes"]).await?;
                outcome.require_success()?;
                let onlooker = observe::client(&surroundings).await?;
                let before = outside::all(&onlooker, "").await;
                Ok(SharedCluster { surroundings, onlooker, before })
            })
            .await
    }

    /// The shared cluster, if a scenario has asked for it.
    pub fn shared_if_there(&self) -> Option<&SharedCluster> {
        self.shared.get()
    }
}

/// WebSockets for exec and port-forward came with 1.29 and 1.30; older ones fail for reasons of their own.
const OLDEST_KUBECTL: u32 = 30;

fn kubectl() -> Result<PathBuf, &'static str> {
    let program = command::on_path("kubectl").ok_or("this machine has no kubectl")?;
    let version = std::process::Command::new(&program).args(["version", "--client", "-o", "json"]).output();
    let answer = version.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
    let minor = answer.and_then(|answer| minor(&answer));
    if minor.is_some_and(|minor| minor >= OLDEST_KUBECTL) { Ok(program) } else { Err("kubectl is older than 1.30") }
}

fn minor(answer: &Value) -> Option<u32> {
    let text = answer["clientVersion"]["minor"].as_str()?;
    text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}
