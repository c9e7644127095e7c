//! The agent of the server: it brings the volume into order, runs the server as what it should be, follows the
//! instance's spec, and ends the server with itself.
//!
//! Expected flow: take the volume → look at it → [`decide`] what to do from what is seen → do it → look again, whenever
//! something changes. A server that dies is started again at once, within the same container; one that cannot be
//! started ends the agent, with its last words in the log.
//!
//! In reading order: [`life`] (the loop), [`standby`] (following, copying, rewinding, standing for election), [`primary`]
//! (taking the Lease, being the primary), [`content`] (a new content for the whole instance, which restores use).

mod content;
mod life;
mod primary;
mod standby;

use super::bootstrap::{self, Credentials};
use super::datadir::{self, Found, Identity, initialise};
use super::decide::{self, decide};
use super::environment::Server;
use super::keeper::Keeper;
use super::lease::Holder;
use super::platform::kubernetes::message_of_run;
use super::platform::{self, Platform, Report, Seen};
use super::postmaster;
use super::report;
use super::signals::told_to_end;
use super::{REST_PORT, certificate, configuration, health, logins, memory, replication, tools};
use crate::chain;
use crate::postgresql::durable;
use a8s_api::PostgresqlSpec;
use http::StatusCode;
use nix::fcntl::{Flock, FlockArg};
use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

pub use content::{Order, Orders};

/// Between attempts to connect to a server that is starting.
const CONNECT_ROUND: Duration = Duration::from_millis(3);
/// Longest wait for a query that shows that the server answers.
const QUERY: Duration = Duration::from_secs(2);
/// How long a question for readiness waits for a server that is starting: the answer comes at the moment it is ready,
/// and before the prober gives up.
const READINESS: Duration = Duration::from_secs(3);
/// How often the certificate is looked at.
const CERTIFICATE_ROUND: Duration = Duration::from_secs(12 * 3600);
/// How long another agent may take to let the volume go.
const LOCK: Duration = Duration::from_secs(10);
/// A server that lived this long may be started again without hesitation.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// Starts in a row that may fail or end soon.
const ATTEMPTS: u32 = 4;
/// The configuration with which the server last started, without what its primary demanded of it.
const PROVEN: &str = "postgresql.conf.proven";

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its port.
    #[error(transparent)]
    Listen(#[from] health::Error),
    /// The volume.
    #[error(transparent)]
    Data(#[from] datadir::Error),
    /// The cluster.
    #[error(transparent)]
    Platform(#[from] platform::Error),
    /// The memory limit.
    #[error(transparent)]
    Memory(#[from] memory::TooSmall),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    /// The process.
    #[error(transparent)]
    Postmaster(#[from] postmaster::Error),
    /// The server's content.
    #[error(transparent)]
    Bootstrap(#[from] bootstrap::Error),
    /// A file operation.
    #[error("cannot write {path}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another agent has the volume.
    #[error("another agent uses the volume {path}")]
    Locked {
        /// The volume.
        path: PathBuf,
    },
    /// The logins of service bindings.
    #[error(transparent)]
    Logins(#[from] logins::Error),
    /// A new content.
    #[error("{0}")]
    Content(&'static str),
    /// The Lease was written, and no answer has come.
    #[error("nobody says whether the new content is final")]
    Unanswered,
    /// One of PostgreSQL's programs.
    #[error(transparent)]
    Tool(#[from] tools::Error),
    /// The server does not stay alive.
    #[error("the server ended {attempts} times in a row, last with {status}; its own messages are above")]
    Unstable {
        /// How often.
        attempts: u32,
        /// How it ended.
        status: String,
    },
}

/// Whether the server answers, for all who ask.
struct Probe {
    sockets: PathBuf,
    is_ready: watch::Sender<bool>,
    client: RefCell<Option<Rc<Client>>>,
}

impl Probe {
    fn set(&self, client: Option<Rc<Client>>) {
        let is_ready = client.is_some();
        *self.client.borrow_mut() = client;
        self.is_ready.send_replace(is_ready);
    }

    /// Whether a query is answered now, or soon if the server is just starting.
    async fn answers(&self) -> bool {
        let mut is_ready = self.is_ready.subscribe();
        if timeout(READINESS, is_ready.wait_for(|is_ready| *is_ready)).await.is_err() {
            return false;
        }
        let Some(client) = self.client().await else { return false };
        matches!(timeout(QUERY, client.simple_query("SELECT 1")).await, Ok(Ok(_)))
    }

    /// The connection to the server, once it accepts one. Somebody may have ended it: then it is made anew.
    async fn client(&self) -> Option<Rc<Client>> {
        let client = self.client.borrow().clone()?;
        if !client.is_closed() {
            return Some(client);
        }
        let client = Rc::new(timeout(QUERY, bootstrap::connect(&self.sockets, "a9s agent")).await.ok()?.ok()?);
        // The server may have ended meanwhile.
        let mut kept = self.client.borrow_mut();
        kept.as_ref()?;
        *kept = Some(client.clone());
        Some(client)
    }
}

/// Runs the server until the process is told to end. `restores` gets what takes new contents, and runs beside it.
///
/// # Errors
/// If the server cannot be run; the sentence says why.
pub async fn run<F: Future<Output = ()> + 'static>(
    server: Server,
    platform: impl Platform,
    restores: impl FnOnce(Orders) -> F,
) -> Result<(), Error> {
    let stop = CancellationToken::new();
    let local = tokio::task::LocalSet::new();
    let told = stop.clone();
    local.spawn_local(async move {
        told_to_end().await;
        told.cancel();
    });
    local.run_until(serve(server, platform, restores, stop)).await
}

/// As [`run`], until `stop`. It must run within a `LocalSet`.
///
/// # Errors
/// As [`run`].
pub async fn serve<F: Future<Output = ()> + 'static>(
    mut server: Server,
    platform: impl Platform,
    restores: impl FnOnce(Orders) -> F,
    stop: CancellationToken,
) -> Result<(), Error> {
    server.memory_limit = memory::within(server.memory_limit, memory::of_machine());
    let probe = Rc::new(Probe {
        sockets: server.pod.socket_directory.clone(),
        is_ready: watch::Sender::new(false),
        client: RefCell::new(None),
    });
    let listener = health::listen_in_pod(server.pod.address, REST_PORT).await?;
    let asked = probe.clone();
    let answer = move |path: String| {
        let asked = asked.clone();
        async move {
            match path.as_str() {
                "/readiness" | "/health" => health::verdict(asked.answers().await),
                "/liveness" => health::status(StatusCode::OK),
                _ => health::status(StatusCode::NOT_FOUND),
            }
        }
    };
    let health = tokio::task::spawn_local(health::serve(listener, answer));
    let platform = Rc::new(platform);
    let run = format!("{:016x}", rand::random::<u64>());
    let me = Holder { pod: server.pod.name.clone(), uid: server.uid.clone(), run };
    // Best effort: without it, others wait until the Lease has expired when this run has ended.
    let _ = fs_err::write(&server.termination_log, message_of_run(&me.run));
    let keeper = Rc::new(Keeper::new(platform.clone(), me, server.data()));
    let (reports, published) = watch::channel(Report::default());
    let (saying, said) = watch::channel(Report::default());
    let (seen, sights) = watch::channel(Seen::default());
    let (orders, ordered) = mpsc::channel(1);
    let tasks = {
        let (publisher, follower, keeper) = (platform.clone(), platform.clone(), keeper.clone());
        [
            health,
            tokio::task::spawn_local(async move { publisher.publish(published, saying).await }),
            tokio::task::spawn_local(async move { follower.follow(seen).await }),
            tokio::task::spawn_local(async move { keeper.run().await }),
            tokio::task::spawn_local(restores(orders)),
        ]
    };
    let complaint = RefCell::default();
    let agent = Agent { server, platform, keeper, probe, reports, said, complaint, stop };
    let result = agent.live(sights, ordered).await;
    if let Err(error) = &result {
        agent.say_why(error).await;
    }
    for task in tasks {
        task.abort();
    }
    result
}

struct Agent<P> {
    server: Server,
    platform: Rc<P>,
    keeper: Rc<Keeper<P>>,
    probe: Rc<Probe>,
    reports: watch::Sender<Report>,
    /// The last report that was published.
    said: watch::Receiver<Report>,
    /// Why the instance's parameters do not apply.
    complaint: RefCell<Option<String>>,
    stop: CancellationToken,
}

/// The configuration that is written, and for which parameters.
#[derive(Clone, PartialEq, Eq)]
struct Written {
    text: String,
    /// The same without demands: what the instance asks for.
    asked: String,
    fingerprint: String,
    /// Whether a standby has more than the parameters say, because its primary has.
    is_raised: bool,
}

impl<P: Platform> Agent<P> {
    /// Tells people for what the agent ends: its log is gone with its container.
    async fn say_why(&self, error: &Error) {
        let text = chain(error);
        self.trouble(Some(text.clone()));
        let mut said = self.said.clone();
        // Where the API does not answer, the log has to do.
        let _ = timeout(QUERY, said.wait_for(|report| report.trouble.as_ref() == Some(&text))).await;
    }

    /// Changes what is said of this member. What stays as it was is not said again.
    fn tell(&self, edit: impl FnOnce(&mut Report)) {
        self.reports.send_if_modified(|report| {
            let before = report.clone();
            edit(report);
            *report != before
        });
    }

    fn tls(&self) -> PathBuf {
        self.server.volume.join("tls")
    }

    /// Takes the volume for this process: two servers in one data directory would destroy it.
    async fn lock(&self) -> Result<Flock<std::fs::File>, Error> {
        let path = self.server.volume.join("agent.lock");
        let write = |source| Error::Write { path: path.clone(), source };
        let mut options = fs_err::OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let deadline = Instant::now() + LOCK;
        loop {
            let obstacle = match options.open(&path) {
                Ok(file) => match Flock::lock(file.into_parts().0, FlockArg::LockExclusiveNonblock) {
                    Ok(lock) => return Ok(lock),
                    Err((_, nix::errno::Errno::EWOULDBLOCK)) => Error::Locked { path: self.server.volume.clone() },
                    Err((_, error)) => return Err(write(error.into())),
                },
                // Some provisioners make the directory of a volume, and give it away a moment later.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => write(error),
                Err(error) => return Err(write(error)),
            };
            if Instant::now() > deadline {
                return Err(obstacle);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whoever reaches the socket is trusted: only this user does. A volume that a kubelet made belongs to root and is
    /// seen by this pod only.
    fn prepare_sockets(&self) -> Result<(), Error> {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let path = &self.server.pod.socket_directory;
        let write = |source| Error::Write { path: path.clone(), source };
        fs_err::create_dir_all(path).map_err(write)?;
        let metadata = fs_err::metadata(path).map_err(write)?;
        if metadata.uid() == nix::unistd::geteuid().as_raw() {
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(write)?;
        }
        Ok(())
    }

    fn render(&self, spec: &PostgresqlSpec, demands: &[(String, i64)]) -> Result<Written, Error> {
        let library = self.server.bin_directory.join("../lib/pg_stat_statements.so");
        let input = configuration::Input {
            address: self.server.pod.address,
            socket_directory: &self.server.pod.socket_directory,
            tls_directory: self.tls(),
            spec,
            memory_limit: self.server.memory_limit,
            major: self.server.major,
            has_statements: library.exists(),
            demands,
        };
        let text = configuration::postgresql_conf(&input)?;
        let asked = configuration::postgresql_conf(&configuration::Input { demands: &[], ..input })?;
        let parameters = spec.parameters.clone().unwrap_or_default();
        let is_raised = configuration::is_below(&parameters, demands);
        Ok(Written { text, asked, fingerprint: report::fingerprint(&parameters), is_raised })
    }

    fn write_configuration(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.server.data().join(name);
        durable::swap(&path, text.as_bytes(), 0o600).map_err(|source| Error::Write { path, source })
    }

    fn credentials(&self) -> Result<(Credentials, Credentials), Error> {
        let admin = Credentials::read(&self.server.admin_credentials)?;
        Ok((admin, Credentials::read(&self.server.standby_credentials)?))
    }

    /// Writes what the server is to others. It has to be reloaded or started.
    fn write_role(&self, role: &replication::Role) -> Result<(), Error> {
        let (admin, standby) = self.credentials()?;
        let written = replication::configure(&self.server, role, &admin, &standby);
        written.map_err(|source| Error::Write { path: self.server.data(), source })
    }
}

fn describe(status: io::Result<std::process::ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

#[cfg(all(test, target_os = "linux"))]
pub(super) mod tests;
