//! A base backup becomes a data directory that was shut down cleanly, by a private server that nobody else reaches: it
//! recovers to the point at which the data is consistent, gets a timeline of its own, and the roles of this instance.

use crate::agent::bootstrap::{self, Credentials};
use crate::agent::datadir::identifier;
use crate::agent::environment::Server;
use crate::agent::postmaster::KEPT;
use crate::agent::{configuration, replication};
use crate::archive::manifest::Manifest;
use crate::backup::conditions::Trouble;
use crate::postgresql::durable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio_postgres::Client;

/// Between looks whether the private server accepts connections.
const LOOK: Duration = Duration::from_millis(10);
/// Of the data directory, what only describes the backup or the server it was made of.
const LEFT_OVERS: [&str; 3] = ["backup_label.old", "postmaster.opts", "standby.signal"];

fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::new("RecoveryFailed", format!("the backup cannot be recovered: {error}"))
}

/// Recovers the backup in `data` for this instance, whose system identifier is `target`. Everything is durable
/// afterwards.
///
/// # Errors
/// Why it cannot be recovered.
pub async fn recover(
    server: &Server,
    data: &Path,
    manifest: &Manifest,
    target: u64,
    (admin, standby): &(Credentials, Credentials),
) -> Result<(), Trouble> {
    let found = identifier::read(data).map_err(failed)?;
    if found.to_string() != manifest.system_identifier {
        let text =
            format!("it has the system identifier {found}, and its manifest says {}", manifest.system_identifier);
        return Err(Trouble::new("BackupDamaged", text));
    }
    let sockets = Sockets::make(server).map_err(failed)?;
    // The recovery ends where the backup ends: there is no other WAL.
    fs_err::write(data.join("recovery.signal"), "").map_err(failed)?;
    let (directory, path) = (data.to_owned(), sockets.0.clone());
    // There may be prepared transactions.
    let demands = replication::demands(server, data).await.map_err(|error| failed(crate::chain(&error)))?;
    let unasked = configuration::unasked(&demands);
    let mut private = Private::start(server, &directory, &path, &unasked).map_err(failed)?;
    let client = private.accepts(data, &path).await?;
    let preparing = bootstrap::prepare(&client, found, admin, standby);
    preparing.await.map_err(|error| failed(crate::chain(&error)))?;
    // Nobody follows the new content at first: whoever was to confirm the commits of the old one is not waited for.
    client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.map_err(failed)?;
    drop(client);
    private.stop().await?;
    for name in LEFT_OVERS {
        match fs_err::remove_file(data.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let data = data.to_owned();
    let finishing = tokio::task::spawn_blocking(move || -> Result<(), Trouble> {
        if found != target {
            identifier::change(&data, target).map_err(failed)?;
        }
        durable::flush_tree(&data).map_err(failed)
    });
    finishing.await.map_err(failed)?
}

/// A directory for the socket of the private server, which goes with this.
struct Sockets(PathBuf);

impl Sockets {
    fn make(server: &Server) -> io::Result<Self> {
        let path = server.pod.socket_directory.join("private");
        match fs_err::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        fs_err::write(path.join("hba"), "local all all trust\n")?;
        fs_err::write(path.join("conf"), "")?;
        Ok(Self(path))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // The next attempt removes it.
        let _ = fs_err::remove_dir_all(&self.0);
    }
}

/// The private server. It ends with this.
struct Private(Child);

impl Private {
    /// What is set here wins over everything that the backup brings.
    fn start(server: &Server, data: &Path, sockets: &Path, unasked: &[(String, i64)]) -> io::Result<Self> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let settings = [
            ("config_file", text(&sockets.join("conf"))),
            ("hba_file", text(&sockets.join("hba"))),
            ("listen_addresses", String::new()),
            ("unix_socket_directories", text(sockets)),
            ("unix_socket_permissions", "0700".to_owned()),
            ("ssl", "off".to_owned()),
            ("logging_collector", "off".to_owned()),
            ("log_destination", "stderr".to_owned()),
            ("shared_preload_libraries", String::new()),
            ("archive_mode", "off".to_owned()),
            ("synchronous_standby_names", String::new()),
            ("default_transaction_read_only", "off".to_owned()),
            ("password_encryption", "scram-sha-256".to_owned()),
            // Nobody is served before the end of recovery.
            ("hot_standby", "off".to_owned()),
            ("restore_command", "false".to_owned()),
            ("recovery_target", "immediate".to_owned()),
            ("recovery_target_action", "promote".to_owned()),
            ("recovery_target_timeline", "current".to_owned()),
            // Everything is flushed once, at the end; until then a crash loses only this attempt.
            ("fsync", "off".to_owned()),
            ("shared_buffers", "16MB".to_owned()),
        ];
        let mut command = Command::new(server.bin_directory.join("postgres"));
        command.arg("-D").arg(data);
        let unasked = unasked.iter().map(|(name, value)| (name.as_str(), value.to_string()));
        for (name, value) in settings.into_iter().chain(unasked) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        for name in KEPT {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.stdin(Stdio::null()).process_group(0);
        command.spawn().map(Self)
    }

    /// Waits until recovery has ended and connections are accepted.
    async fn accepts(&mut self, data: &Path, sockets: &Path) -> Result<Client, Trouble> {
        loop {
            // As in `Postmaster::is_ready`: asking a server that is not ready would only fill its log.
            let lock = fs_err::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            if lock.lines().nth(7).is_some_and(|status| status.trim() == "ready")
                && let Ok(client) = bootstrap::connect(sockets, "a9s restore").await
            {
                return Ok(client);
            }
            tokio::select! {
                status = self.0.wait() => {
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    return Err(failed(format!("its server ended with {status}; its own messages are in the agent's log")));
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may be ending right now.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    async fn stop(mut self) -> Result<(), Trouble> {
        self.signal(Signal::SIGINT);
        let status = self.0.wait().await.map_err(failed)?;
        if status.success() { Ok(()) } else { Err(failed(format!("its server ended with {status}"))) }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // At once, with all its processes; nothing when it has ended.
        self.signal(Signal::SIGQUIT);
    }
}
