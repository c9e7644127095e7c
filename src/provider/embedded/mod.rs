//! The embedded cluster: a background process of this program per cluster, listening on loopback only.
//!
//! [`places`] says where it lives, [`record`] what is on record about it, [`daemon`] deals with its process, and
//! [`process`] is what runs in it. [`ports`] looks for programs that are in the way of its pods.

pub mod daemon;
mod images;
pub mod places;
mod ports;
pub mod process;
pub mod record;

use std::path::PathBuf;
use std::time::Duration;

use a8s_operators::manifests;
use async_trait::async_trait;
use fs_err::os::unix::fs::OpenOptionsExt;
use kube_embedded::node::HostUser;
use kube_embedded::removal::remove_tree;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Uid;

use self::places::{Place, Places};
use self::record::{Found, Record};
use super::{ClusterName, Name, Options, Provider, State, no_cluster, ready, stopped};
use crate::config::{gone_is_fine, leads_to};
use crate::finding::{Finding, Id};
use crate::kubernetes::Target;
use crate::step::{Context, quoted};

/// How long the process may take to end servers cleanly before it is killed.
const STOP: Duration = Duration::from_secs(60);
/// How long pods of a killed process may take to end.
const SURVIVORS: Duration = Duration::from_secs(10);
/// Between two looks at a process that starts.
const POLL: Duration = Duration::from_millis(5);
/// What is said while somebody else has the turn.
const TAKEN: &str = "another command is starting, stopping or deleting it";
/// A cluster with some instances has about so many files and connections open.
const FILES: u64 = 256;

/// The provider.
#[derive(Debug, Clone)]
pub struct Embedded {
    places: Places,
    options: Options,
}

impl Embedded {
    /// The clusters of the user who runs the program.
    ///
    /// # Errors
    /// It is not known where they would lie.
    pub fn of_user(options: Options) -> Result<Self, Finding> {
        Ok(Self { places: Places::of_user()?, options })
    }

    fn place(&self, cluster: &ClusterName) -> Place {
        self.places.of(cluster)
    }

    /// Makes what is missing and starts the process, unless it runs. Returns when the API answers.
    async fn bring_up(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        supported()?;
        let place = self.place(cluster);
        let found = record::look(&place)?;
        let recorded = match &found {
            Found::Cluster(record) => record.run_as.clone(),
            Found::Nothing => None,
        };
        let wanted = self.options.run_as.as_deref().or(recorded.as_deref());
        let user = server_user(Uid::effective().is_root(), wanted)?;
        if !self.options.no_precheck {
            postgresql_is_installed()?;
            files_suffice()?;
            ports::check()?;
            place.check(user.as_ref())?;
        }
        place.make()?;
        let _turn = take_turn(&place, || context.progress(TAKEN)).await?;
        // Somebody else may have had the turn before.
        if comes_up(&place).await? {
            return Ok(());
        }
        let record = match record::look(&place)? {
            Found::Cluster(record) => *record,
            Found::Nothing => Record::new(cluster.as_str()),
        };
        for pid in daemon::serving(&place) {
            // It is not on record: its start was cut off before it could say so.
            daemon::end(pid, STOP).await;
        }
        let record = Record { run_as: user.map(|user| user.name), ..record.stopped() };
        record.write(&place)?;
        let from = fs_err::metadata(place.log()).map_or(0, |metadata| metadata.len());
        context.command(format!("a9s {} {}", daemon::WORD, quoted(&place.directory.to_string_lossy())));
        let child = daemon::spawn(&place)?;
        wait_until_ready(&place, child, from).await
    }

    /// Ends the process, and what a killed one may have left of its pods.
    async fn bring_down(&self, place: &Place) {
        if sabotage::sabotaged!("cluster-process-stays") {
            return;
        }
        for pid in daemon::serving(place) {
            daemon::end(pid, STOP).await;
        }
        let node = place.node();
        // It blocks while it waits for them. That the blocking task fails can only be a panic in it.
        let _ = tokio::task::spawn_blocking(move || kube_embedded::node::end_processes(&node, SURVIVORS)).await;
    }
}

#[async_trait]
impl Provider for Embedded {
    fn name(&self) -> Name {
        Name::Embedded
    }

    fn context(&self, cluster: &ClusterName) -> String {
        format!("a9s-{cluster}")
    }

    async fn state(&self, cluster: &ClusterName) -> Result<State, Finding> {
        let place = self.place(cluster);
        let Found::Cluster(record) = record::look(&place)? else {
            return Ok(match daemon::serving(&place).is_empty() {
                true => State::Absent,
                false => State::Unready { why: "its process runs, and somebody removed its files".to_owned() },
            });
        };
        let Some(pid) = daemon::alive(&record, &place) else {
            return Ok(State::Stopped { why: "its process does not run".to_owned() });
        };
        match (&record.url, ready(&administrator(&place)).await) {
            (Some(url), Ok(_)) => Ok(State::Running { server: url.clone(), pid: Some(pid) }),
            (_, Err(why)) => Ok(State::Unready { why }),
            (None, Ok(_)) => Ok(State::Unready { why: "it is starting".to_owned() }),
        }
    }

    async fn made(&self, _cluster: &ClusterName) -> Result<bool, Finding> {
        // Nobody else makes embedded clusters.
        Ok(true)
    }

    async fn create(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        self.bring_up(cluster, context).await
    }

    async fn start(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        match record::look(&self.place(cluster))? {
            Found::Cluster(_) => self.bring_up(cluster, context).await,
            Found::Nothing => Err(no_cluster(Name::Embedded, cluster)),
        }
    }

    async fn stop(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        let place = self.place(cluster);
        let Found::Cluster(_) = record::look(&place)? else { return Err(no_cluster(Name::Embedded, cluster)) };
        let _turn = take_turn(&place, || context.progress(TAKEN)).await?;
        // The record still names the process, as after a kill. Nothing is written: the disk may be full.
        self.bring_down(&place).await;
        Ok(())
    }

    async fn delete(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        let place = self.place(cluster);
        match record::look(&place) {
            Ok(_) => {}
            // A damaged record is ours all the same.
            Err(finding) if finding.id == Id::StateDamaged => {}
            Err(finding) => return Err(finding),
        }
        if !place.directory.exists() {
            if daemon::serving(&place).is_empty() {
                return Ok(());
            }
            // There is a place for the lock again.
            place.make()?;
        }
        let _turn = take_turn(&place, || context.progress(TAKEN)).await?;
        self.bring_down(&place).await;
        remove_all(&place)
    }

    async fn list(&self) -> Result<Vec<ClusterName>, Finding> {
        let entries = match fs_err::read_dir(&self.places.state) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Finding::new(Id::StateUnreadable, error.to_string())),
        };
        let mut names: Vec<ClusterName> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<ClusterName>().ok())
            .filter(|name| self.place(name).cluster_file().exists())
            .collect();
        names.sort_by(|left, right| left.as_str().cmp(right.as_str()));
        Ok(names)
    }

    async fn loaded(&self, _cluster: &ClusterName, _images: &[String]) -> Result<bool, Finding> {
        // Its images are programs of this machine.
        Ok(true)
    }

    async fn load(&self, _cluster: &ClusterName, _images: &[String], _context: &Context) -> Result<(), Finding> {
        // They are there, as above.
        Ok(())
    }

    fn kubeconfig(&self, cluster: &ClusterName) -> PathBuf {
        self.place(cluster).kubeconfig()
    }

    fn introduced(&self, cluster: &ClusterName) -> PathBuf {
        self.place(cluster).introduced()
    }

    async fn builtin_stack(&self, cluster: &ClusterName) -> Result<manifests::Options, Finding> {
        let record = match record::look(&self.place(cluster))? {
            Found::Cluster(record) => *record,
            Found::Nothing => return Err(no_cluster(Name::Embedded, cluster)),
        };
        let Some(admission) = record.admission else { return Err(stopped(Name::Embedded, cluster)) };
        let webhook = manifests::Webhook::Url { url: admission.url, ca_pem: admission.ca_pem };
        Ok(manifests::Options { images: record.images, webhook, operators: None })
    }

    async fn remarks(&self, cluster: &ClusterName) -> Vec<String> {
        match record::look(&self.place(cluster)) {
            Ok(Found::Cluster(record)) => record.remarks,
            _ => Vec::new(),
        }
    }
}

/// Whom the servers run as: root gives way to another user, everybody else runs them as themselves.
fn server_user(is_root: bool, wanted: Option<&str>) -> Result<Option<HostUser>, Finding> {
    if !is_root {
        return match wanted {
            None => Ok(None),
            Some(name) => Err(Finding::new(Id::RunAs, format!("only root can run servers as {name}"))),
        };
    }
    let user = user(wanted.unwrap_or("postgres"))?;
    if user.uid == 0 {
        return Err(
            Finding::new(Id::RunAs, "PostgreSQL does not run as root").advise("Name another user with --run-as.")
        );
    }
    Ok(Some(user))
}

/// The user of this machine who is called so.
fn user(name: &str) -> Result<HostUser, Finding> {
    HostUser::named(name).ok_or_else(|| {
        Finding::new(Id::NoServerUser, format!("there is no user {name} to run PostgreSQL as"))
            .advise("Install PostgreSQL, which makes the user postgres: apt-get install postgresql")
            .advise("Or name another user with --run-as.")
    })
}

/// Refuses a system that can't run embedded clusters: only Linux has an address of loopback for every pod, and namespaces
/// of mounts for its containers.
///
/// # Errors
/// This system is none.
pub fn supported() -> Result<(), Finding> {
    supported_on(std::env::consts::OS)
}

fn supported_on(system: &str) -> Result<(), Finding> {
    if system == "linux" {
        return Ok(());
    }
    let cause = format!("embedded clusters need Linux, and this system is {system}");
    Err(Finding::new(Id::ProviderUnsupported, cause).advise("Make the cluster with kind, in Docker: -p kind"))
}

/// The servers are programs of this host.
fn postgresql_is_installed() -> Result<(), Finding> {
    if a8s_operators::postgresql::installations().is_empty() {
        return Err(Finding::new(Id::NoPostgresql, "no PostgreSQL server is installed on this machine")
            .advise("Install one, on Debian with: apt-get install postgresql"));
    }
    Ok(())
}

/// Refuses a limit with which a cluster would start, and soon take no more connections.
fn files_suffice() -> Result<(), Finding> {
    // The cluster's process raises its limit as far as it may. Where the system does not tell it, it is tried.
    let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(FILES, |(_, most)| most);
    if most >= FILES {
        return Ok(());
    }
    let cause = format!("a process can have {most} files open here, and a cluster needs {FILES}");
    let way_out = "ulimit -n 4096 as root, LimitNOFILE= of a service, or docker run --ulimit nofile=4096.";
    Err(Finding::new(Id::NoResources, cause).advise(format!("Raise the hard limit: {way_out}")))
}

fn administrator(place: &Place) -> Target {
    Target { kubeconfig: Some(place.kubeconfig()), context: None }
}

/// The right to change a cluster, for which this waits, and says so. It is given back when it is dropped, or when the
/// process ends.
async fn take_turn(place: &Place, waits: impl Fn() + Send) -> Result<Flock<std::fs::File>, Finding> {
    let path = place.lock();
    let failed =
        |error: std::io::Error| Finding::new(Id::StateUnwritable, format!("cannot lock {}: {error}", path.display()));
    loop {
        // Who can open it can lock it, and would keep everybody waiting.
        let file = fs_err::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.map_err(failed)?.into_parts().0;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(turn) if leads_to(&path, &turn) => return Ok(turn),
            // Whoever had it before has deleted the cluster, and the file with it.
            Ok(_) => place.make()?,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                waits();
                tokio::time::sleep(POLL).await;
            }
            Err((_, errno)) => return Err(failed(errno.into())),
        }
    }
}

/// Waits for a process that is on record to be ready. It may be on its way to its end instead: then it can be started anew.
async fn comes_up(place: &Place) -> Result<bool, Finding> {
    while let Found::Cluster(record) = record::look(place)?
        && daemon::alive(&record, place).is_some()
    {
        if is_ready(&record, place).await {
            return Ok(true);
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(false)
}

async fn is_ready(record: &Record, place: &Place) -> bool {
    record.url.is_some() && ready(&administrator(place)).await.is_ok()
}

/// Waits until the API of a process that was just started answers. The runner's deadline ends the wait; the end of the
/// process does, too.
async fn wait_until_ready(place: &Place, mut process: std::process::Child, from: u64) -> Result<(), Finding> {
    loop {
        if let Ok(Some(status)) = process.try_wait() {
            return Err(daemon::ended(place, status, from));
        }
        if let Ok(Found::Cluster(record)) = record::look(place)
            && daemon::alive(&record, place).is_some()
            && is_ready(&record, place).await
        {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Removes a cluster's files; the record goes last, so that a cut-off deletion can be repeated.
fn remove_all(place: &Place) -> Result<(), Finding> {
    let failed = |error: std::io::Error| {
        Finding::new(Id::StateUnremovable, format!("cannot remove the cluster: {error}"))
            .advise("Run the same command again once that is cleared.")
    };
    remove_tree(&place.run).map_err(failed)?;
    let last = [place.cluster_file(), place.lock()];
    for entry in fs_err::read_dir(&place.directory).map_err(failed)?.flatten() {
        let path = entry.path();
        if last.contains(&path) {
            continue;
        }
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory { remove_tree(&path) } else { gone_is_fine(fs_err::remove_file(&path)) };
        removed.map_err(failed)?;
    }
    for file in last {
        gone_is_fine(fs_err::remove_file(file)).map_err(failed)?;
    }
    gone_is_fine(fs_err::remove_dir(&place.directory)).map_err(failed)?;
    if let Some(parent) = place.run.parent() {
        // Other clusters may have theirs there.
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::caller::{Caller, instead};
    use crate::step::alone;
    use crate::steps::cluster::{Cluster, Wanted};

    #[test]
    fn servers_run_as_a_user_other_than_root() {
        let refused = |is_root: bool, name: &str| {
            let finding = server_user(is_root, Some(name)).unwrap_err();
            (finding.id, finding.cause)
        };
        assert!(server_user(false, None).unwrap().is_none());
        assert_eq!(refused(false, "x"), (Id::RunAs, "only root can run servers as x".to_owned()));
        assert_eq!(refused(true, "root"), (Id::RunAs, "PostgreSQL does not run as root".to_owned()));
        let nobody = "there is no user no-such-user to run PostgreSQL as".to_owned();
        assert_eq!(refused(true, "no-such-user"), (Id::NoServerUser, nobody));
    }

    #[tokio::test]
    async fn what_is_in_the_way_of_a_start_is_said() {
        let root = tempfile::tempdir().unwrap();
        let place = Place { directory: root.path().to_owned(), run: root.path().join("run") };
        for file in [place.lock(), place.log()] {
            fs_err::create_dir(file).unwrap();
        }
        let finding = take_turn(&place, || ()).await.err().unwrap();
        assert_eq!(finding.id, Id::StateUnwritable);
        assert!(finding.cause.starts_with(&format!("cannot lock {}: ", place.lock().display())), "{finding}");
        let finding = daemon::spawn(&place).err().unwrap();
        assert_eq!(finding.id, Id::ClusterNotStarted);
        assert!(finding.cause.starts_with("cannot start the cluster's process: "), "{finding}");
    }

    #[tokio::test]
    async fn nobody_else_can_have_the_turn() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let place = Place { directory: root.path().to_owned(), run: root.path().join("run") };
        let _turn = take_turn(&place, || ()).await.unwrap();
        assert_eq!(fs_err::metadata(place.lock()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// A provider whose clusters lie there, and one of them, `demo`.
    fn demo_below(state: &std::path::Path) -> (Embedded, ClusterName, Place) {
        let variables = vec![("A9S_STATE_DIR".into(), state.into())];
        let caller = Caller { variables, ..Caller::default() };
        let embedded = instead(caller, || Embedded::of_user(Options::default())).0.unwrap();
        let name = "demo".parse::<ClusterName>().unwrap();
        let place = embedded.place(&name);
        (embedded, name, place)
    }

    #[tokio::test]
    async fn a_cluster_that_another_command_is_changing_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let (embedded, name, place) = demo_below(root.path());
        fs_err::create_dir(&place.directory).unwrap();
        // A damaged record is one of a cluster, too.
        fs_err::write(place.cluster_file(), "").unwrap();
        let turn = take_turn(&place, || ()).await.unwrap();
        let step = Cluster { provider: Arc::new(embedded), name, wanted: Wanted::Deleted };
        let finding = alone(step, Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(finding.id, Id::Deadline);
        assert!(finding.cause.ends_with(&format!(" s {TAKEN}")) && place.cluster_file().exists(), "{finding}");
        drop(turn);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_process_ends_with_its_cluster_although_somebody_removed_the_files() {
        use std::os::unix::process::ExitStatusExt;
        use std::process::{Command, Stdio};
        let root = tempfile::tempdir().unwrap();
        let (embedded, name, place) = demo_below(root.path());
        // A script of the right name makes the command line that of a cluster's process.
        fs_err::write(root.path().join(daemon::WORD), "read line\n").unwrap();
        let mut command = Command::new("sh");
        command.arg(daemon::WORD).arg(&place.directory).current_dir(root.path()).stdin(Stdio::piped());
        let mut process = command.spawn().unwrap();
        assert!(matches!(embedded.state(&name).await.unwrap(), State::Unready { .. }));
        let provider = Arc::new(embedded.clone());
        let step = Cluster { provider, name: name.clone(), wanted: Wanted::Deleted };
        alone(step, Duration::from_secs(30)).await.unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(15));
        assert_eq!(embedded.state(&name).await.unwrap(), State::Absent);
        assert!(!place.directory.exists() && !place.run.exists());
    }

    #[test]
    fn files_that_cannot_be_removed_are_said() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs_err::write(&file, "").unwrap();
        let finding = remove_all(&Place { directory: root.path().to_owned(), run: file.join("run") }).unwrap_err();
        assert_eq!(finding.id, Id::StateUnremovable);
        assert!(finding.cause.starts_with("cannot remove the cluster: ") && file.exists(), "{finding}");
    }

    #[test]
    fn a_system_other_than_linux_is_refused_with_a_way_out() {
        supported_on("linux").unwrap();
        let finding = supported_on("macos").unwrap_err();
        assert_eq!(finding.id, Id::ProviderUnsupported);
        assert!(finding.cause.contains("this system is macos") && finding.advice[0].contains("-p kind"), "{finding}");
    }
}
