//! The agent of the server: it brings the volume into order, runs the server, follows the instance's spec, and ends
//! the server with itself.
//!
//! Expected flow: take the volume → look at it → initialise it if it is new (while the Lease is being claimed) → write
//! the configuration → start → make roles → be ready. A server that dies is started again at once, within the same
//! container; one that cannot be started ends the agent, with its last words in the log.

use super::bootstrap::{self, Credentials};
use super::datadir::{self, Found, Identity, identifier, initialise};
use super::environment::Server;
use super::platform::{self, Platform, Report};
use super::postmaster::{self, Postmaster};
use super::report::{self, Applied};
use super::signals::told_to_end;
use super::{REST_PORT, certificate, chain, configuration, health, memory, primary};
use crate::postgresql::durable;
use a8s_api::{Postgresql, PostgresqlSpec};
use http::StatusCode;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// Between attempts to connect to a server that is starting.
const CONNECT_ROUND: Duration = Duration::from_millis(3);
/// Longest wait for a query that shows that the server answers.
const QUERY: Duration = Duration::from_secs(2);
/// How long a question for readiness waits for a server that is starting: the answer comes at the moment it is ready,
/// and before the prober gives up.
const READINESS: Duration = Duration::from_secs(3);
/// How long a server that has data waits for the API before it starts as it was.
const API: Duration = Duration::from_secs(5);
/// Between attempts to reach the API.
const API_ROUND: Duration = Duration::from_millis(200);
/// How often the certificate is looked at.
const CERTIFICATE_ROUND: Duration = Duration::from_secs(12 * 3600);
/// How long another agent may take to let the volume go.
const LOCK: Duration = Duration::from_secs(10);
/// A server that lived this long may be started again without hesitation.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// Starts in a row that may fail or end soon.
const ATTEMPTS: u32 = 4;
/// The configuration with which the server last started.
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
    /// A member that cannot be made yet.
    #[error("{pod} has an empty volume and would have to follow {primary}: this version has no replication yet")]
    NoReplication {
        /// The member.
        pod: String,
        /// The one it would follow.
        primary: String,
    },
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

    /// The connection for questions. Somebody may have ended it.
    async fn client(&self) -> Option<Rc<Client>> {
        let client = self.client.borrow().clone()?;
        if !client.is_closed() {
            return Some(client);
        }
        let client = Rc::new(timeout(QUERY, bootstrap::connect(&self.sockets, "a9s agent")).await.ok()?.ok()?);
        if *self.is_ready.borrow() {
            *self.client.borrow_mut() = Some(client.clone());
        }
        Some(client)
    }
}

/// Runs the server until the process is told to end.
///
/// # Errors
/// If the server cannot be run; the sentence says why.
pub async fn run(server: Server, platform: impl Platform) -> Result<(), Error> {
    let stop = CancellationToken::new();
    let local = tokio::task::LocalSet::new();
    let told = stop.clone();
    local.spawn_local(async move {
        told_to_end().await;
        told.cancel();
    });
    local.run_until(serve(server, platform, stop)).await
}

/// As [`run`], until `stop`. It must run within a `LocalSet`.
///
/// # Errors
/// As [`run`].
pub async fn serve(server: Server, platform: impl Platform, stop: CancellationToken) -> Result<(), Error> {
    let probe = Rc::new(Probe {
        sockets: server.pod.socket_directory.clone(),
        is_ready: watch::Sender::new(false),
        client: RefCell::new(None),
    });
    let listener = health::listen(server.pod.address, REST_PORT).await?;
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
    let (reports, published) = watch::channel(None);
    let publisher = platform.clone();
    let publishing = tokio::task::spawn_local(async move { publisher.publish(published).await });
    let agent = Agent { server, platform, probe, reports, stop };
    let result = agent.live().await;
    for task in [health, publishing] {
        task.abort();
    }
    result
}

struct Agent<P> {
    server: Server,
    platform: Rc<P>,
    probe: Rc<Probe>,
    reports: watch::Sender<Option<Report>>,
    stop: CancellationToken,
}

/// The configuration that is written, and for which parameters.
#[derive(Clone, PartialEq, Eq)]
struct Written {
    text: String,
    fingerprint: String,
}

/// Why a running server is looked at.
enum Turn {
    Stop,
    Ended(String),
    Changed,
    Certificate,
}

impl<P: Platform> Agent<P> {
    async fn live(&self) -> Result<(), Error> {
        let _lock = self.lock().await?;
        self.prepare_sockets()?;
        let found = datadir::inspect(&self.server)?;
        let prepared = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            prepared = self.prepare(found) => prepared?,
        };
        let (mut identity, instance) = prepared;
        let data = self.server.data();
        postmaster::end_left_over(&data, &self.server.pod.socket_directory).await?;
        certificate::ensure(&self.tls(), &self.server.pod, SystemTime::now())?;
        let mut written = match &instance {
            Some(instance) => Some(self.configure(&instance.spec)?),
            None => None,
        };
        let (instances, mut followed) = watch::channel(instance);
        let follower = self.platform.clone();
        let following = tokio::task::spawn_local(async move { follower.follow(instances).await });
        let result = self.keep_running(&mut identity, &mut written, &mut followed).await;
        following.abort();
        result
    }

    fn tls(&self) -> PathBuf {
        self.server.volume.join("tls")
    }

    /// Takes the volume for this process: two servers in one data directory would destroy it.
    async fn lock(&self) -> Result<Flock<std::fs::File>, Error> {
        let path = self.server.volume.join("agent.lock");
        let write = |source| Error::Write { path: path.clone(), source };
        let mut options = fs_err::OpenOptions::new();
        let mut file = options.create(true).truncate(false).write(true).open(&path).map_err(write)?.into_parts().0;
        let deadline = Instant::now() + LOCK;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((_, error)) if error != nix::errno::Errno::EWOULDBLOCK => return Err(write(error.into())),
                Err(_) if Instant::now() > deadline => {
                    return Err(Error::Locked { path: self.server.volume.clone() });
                }
                Err((again, _)) => file = again,
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

    /// Sees to it that there is a data directory, and that it is the instance's.
    async fn prepare(&self, found: Found) -> Result<(Identity, Option<Postgresql>), Error> {
        match found {
            Found::Complete(identity) => {
                let known = timeout(API, async { (self.claimed().await, self.instance().await) }).await;
                let Ok((claimed, instance)) = known else {
                    tracing::warn!("the Kubernetes API does not answer: the server starts as it was");
                    return Ok((identity, None));
                };
                match claimed {
                    Some(expected) if expected != identity.system_identifier.to_string() => {
                        let found = identity.system_identifier;
                        return Err(datadir::Error::OtherIdentifier { found, expected }.into());
                    }
                    Some(_) => {}
                    None => drop(self.platform.claim(&instance, identity.system_identifier).await?),
                }
                Ok((identity, Some(instance)))
            }
            Found::Unfinished(identity) => self.initialise(identity).await,
            Found::Empty => {
                if self.server.pod.ordinal() != Some(0) {
                    return Err(self.cannot_follow().await);
                }
                let identity = Identity::new(&self.server, identifier::random(SystemTime::now()));
                identity.write(&self.server.volume)?;
                self.initialise(identity).await
            }
        }
    }

    async fn cannot_follow(&self) -> Error {
        let primary = format!("{}-0", self.server.pod.instance);
        Error::NoReplication { pod: self.server.pod.name.clone(), primary }
    }

    /// Makes the data directory while the instance is read and its Lease claimed.
    async fn initialise(&self, identity: Identity) -> Result<(Identity, Option<Postgresql>), Error> {
        let (server, number) = (self.server.clone(), identity.system_identifier);
        let making = tokio::task::spawn_blocking(move || initialise::initialise(&server, number));
        let claiming = async {
            let instance = self.instance().await;
            let noted = self.platform.claim(&instance, number).await?;
            Ok::<_, Error>((instance, noted))
        };
        let (made, claimed) = tokio::join!(making, claiming);
        let (instance, identifier) = claimed?;
        if identifier != number.to_string() {
            let pod = self.server.pod.name.clone();
            return Err(datadir::Error::Lost { identifier, pod }.into());
        }
        let made = made.map_err(|_| {
            datadir::Error::Initialise(Box::new(initialise::Error::Write {
                path: self.server.data(),
                source: io::Error::other("the thread that made it ended early"),
            }))
        })?;
        made.map_err(|error| datadir::Error::Initialise(Box::new(error)))?;
        Ok((identity, Some(instance)))
    }

    /// The instance, as soon as the API answers.
    async fn instance(&self) -> Postgresql {
        self.insist(|| self.platform.instance()).await
    }

    async fn claimed(&self) -> Option<String> {
        self.insist(|| self.platform.claimed()).await
    }

    /// Asks until there is an answer, and says once why there is none.
    async fn insist<T, F: Future<Output = Result<T, platform::Error>>>(&self, ask: impl Fn() -> F) -> T {
        let mut last = String::new();
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) => {
                    let text = chain(&error);
                    if text != last {
                        tracing::warn!("{text}; it is tried again");
                        last = text;
                    }
                    tokio::time::sleep(API_ROUND).await;
                }
            }
        }
    }

    fn render(&self, spec: &PostgresqlSpec) -> Result<Written, Error> {
        let library = self.server.bin_directory.join("../lib/pg_stat_statements.so");
        let text = configuration::postgresql_conf(&configuration::Input {
            address: self.server.pod.address,
            socket_directory: &self.server.pod.socket_directory,
            tls_directory: self.tls(),
            spec,
            memory_limit: self.server.memory_limit,
            major: self.server.major,
            has_statements: library.exists(),
        })?;
        let fingerprint = report::fingerprint(&spec.parameters.clone().unwrap_or_default());
        Ok(Written { text, fingerprint })
    }

    fn configure(&self, spec: &PostgresqlSpec) -> Result<Written, Error> {
        let written = self.render(spec)?;
        let hba = configuration::pg_hba_conf(self.server.pod.address);
        self.write_configuration("pg_hba.conf", &hba)?;
        self.write_configuration("postgresql.conf", &written.text)?;
        Ok(written)
    }

    fn write_configuration(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.server.data().join(name);
        durable::swap(&path, text.as_bytes(), 0o600).map_err(|source| Error::Write { path, source })
    }

    /// Starts the server, again and again, until the agent is told to stop.
    async fn keep_running(
        &self,
        identity: &mut Identity,
        written: &mut Option<Written>,
        instances: &mut watch::Receiver<Option<Postgresql>>,
    ) -> Result<(), Error> {
        let mut attempts = 0;
        loop {
            let started = Instant::now();
            let mut postmaster = Postmaster::start(&self.server)?;
            let status = match self.wait_until_it_accepts(&mut postmaster).await {
                Turn::Ended(status) => status,
                _ if self.stop.is_cancelled() => {
                    postmaster.stop().await;
                    return Ok(());
                }
                _ => match self.serve_one(&mut postmaster, identity, written, instances).await {
                    Ok(Turn::Ended(status)) => status,
                    Ok(Turn::Stop) => {
                        self.probe.set(None);
                        postmaster.stop().await;
                        return Ok(());
                    }
                    Ok(Turn::Changed | Turn::Certificate) => {
                        self.probe.set(None);
                        postmaster.stop().await;
                        attempts = 0;
                        continue;
                    }
                    Err(error) => {
                        self.probe.set(None);
                        postmaster.stop().await;
                        return Err(error);
                    }
                },
            };
            self.probe.set(None);
            tracing::warn!("the server ended with {status}; it is started again");
            attempts = if started.elapsed() > LONG_LIFE { 1 } else { attempts + 1 };
            if attempts >= ATTEMPTS {
                return Err(Error::Unstable { attempts, status });
            }
            postmaster::end_left_over(&self.server.data(), &self.server.pod.socket_directory).await?;
            if attempts > 1 {
                self.fall_back(written)?;
            }
        }
    }

    /// Takes the configuration with which the server last started, if the present one is another.
    fn fall_back(&self, written: &mut Option<Written>) -> Result<(), Error> {
        let Ok(proven) = fs_err::read_to_string(self.server.volume.join(PROVEN)) else { return Ok(()) };
        if written.as_ref().is_some_and(|written| written.text != proven) {
            tracing::error!("the server does not start with its parameters: it gets the last ones with which it did");
            self.write_configuration("postgresql.conf", &proven)?;
            // What applies now is not what the instance asks for, so nothing is reported for it.
            *written = None;
        }
        Ok(())
    }

    /// Waits for the first connection, the server's end, or the order to stop.
    async fn wait_until_it_accepts(&self, postmaster: &mut Postmaster) -> Turn {
        loop {
            // Asking a server that is not ready would only fill its log.
            if postmaster.is_ready(&self.server.data())
                && let Ok(client) = bootstrap::connect(&self.server.pod.socket_directory, "a9s agent").await
            {
                *self.probe.client.borrow_mut() = Some(Rc::new(client));
                return Turn::Changed;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Turn::Stop,
                status = postmaster.ended() => return Turn::Ended(describe(status)),
                () = tokio::time::sleep(CONNECT_ROUND) => {}
            }
        }
    }

    /// From the first connection to the end of this server, or the moment at which it has to be started anew.
    async fn serve_one(
        &self,
        postmaster: &mut Postmaster,
        identity: &mut Identity,
        written: &mut Option<Written>,
        instances: &mut watch::Receiver<Option<Postgresql>>,
    ) -> Result<Turn, Error> {
        let Some(client) = self.probe.client.borrow().clone() else { return Ok(Turn::Changed) };
        let admin = Credentials::read(&self.server.admin_credentials)?;
        let standby = Credentials::read(&self.server.standby_credentials)?;
        bootstrap::prepare(&client, identity.system_identifier, &admin, &standby).await?;
        if !identity.is_initialised {
            identity.is_initialised = true;
            identity.write(&self.server.volume)?;
        }
        self.probe.set(Some(client));
        tracing::info!("the server accepts connections on {}:{}", self.server.pod.address, super::SQL_PORT);
        if let Some(written) = written.as_ref() {
            self.report(&written.fingerprint, true);
            // Best effort: without it, parameters that turn out to be impossible stop the instance.
            let _ = durable::swap(&self.server.volume.join(PROVEN), written.text.as_bytes(), 0o600);
        }
        let _kept = primary::keep(&self.platform, &self.server.pod.socket_directory, instances.clone());
        loop {
            match self.next(postmaster, instances).await {
                Turn::Stop => return Ok(Turn::Stop),
                Turn::Ended(status) => return Ok(Turn::Ended(status)),
                Turn::Certificate => {
                    if certificate::ensure(&self.tls(), &self.server.pod, SystemTime::now())? {
                        postmaster.signal(Signal::SIGHUP);
                    }
                }
                Turn::Changed => {
                    let spec = instances.borrow_and_update().as_ref().map(|instance| instance.spec.clone());
                    if let Some(spec) = spec
                        && self.apply(&spec, written).await?
                    {
                        return Ok(Turn::Changed);
                    }
                }
            }
        }
    }

    async fn next(&self, postmaster: &mut Postmaster, instances: &mut watch::Receiver<Option<Postgresql>>) -> Turn {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Turn::Stop,
            status = postmaster.ended() => Turn::Ended(describe(status)),
            Ok(()) = instances.changed() => Turn::Changed,
            () = tokio::time::sleep(CERTIFICATE_ROUND) => Turn::Certificate,
        }
    }

    fn report(&self, fingerprint: &str, restarted: bool) {
        let at = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let applied = Applied { configuration: fingerprint.to_owned(), restarted, at };
        let configuration = serde_json::to_string(&applied).unwrap_or_default();
        self.reports.send_replace(Some(Report { role: "master", configuration }));
    }

    /// Applies a spec to the running server, by reloading where that is enough. Says whether it has to be restarted.
    async fn apply(&self, spec: &PostgresqlSpec, written: &mut Option<Written>) -> Result<bool, Error> {
        let wanted = match self.render(spec) {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::error!("the parameters are not applied: {}", chain(&error));
                return Ok(false);
            }
        };
        if written.as_ref() == Some(&wanted) {
            return Ok(false);
        }
        self.write_configuration("postgresql.conf", &wanted.text)?;
        let fingerprint = wanted.fingerprint.clone();
        *written = Some(wanted);
        let has_to_restart = match self.probe.client().await {
            Some(client) => reload(&client).await.unwrap_or(true),
            None => true,
        };
        if has_to_restart {
            tracing::info!("the server is restarted for its new parameters");
        } else {
            tracing::info!("the new parameters are applied");
            self.report(&fingerprint, false);
        }
        Ok(has_to_restart)
    }
}

/// Lets the server read its configuration, and says whether a setting waits for a restart.
async fn reload(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let loaded = bootstrap::first(client, "SELECT pg_conf_load_time()").await?.unwrap_or_default();
    client.batch_execute("SELECT pg_reload_conf()").await?;
    let deadline = Instant::now() + QUERY;
    // The session reads its configuration between two queries.
    while bootstrap::first(client, "SELECT pg_conf_load_time()").await?.unwrap_or_default() == loaded {
        if Instant::now() > deadline {
            return Ok(true);
        }
        tokio::time::sleep(CONNECT_ROUND).await;
    }
    let waiting = bootstrap::first(client, "SELECT count(*) FROM pg_settings WHERE pending_restart").await?;
    Ok(waiting.as_deref() != Some("0"))
}

fn describe(status: io::Result<std::process::ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

#[cfg(test)]
mod tests;
