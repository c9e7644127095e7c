//! What runs in an instance's containers: one program, told by its first argument what to be.
//!
//! `postgres` is the parent of the server ([`server`]): it makes the data directory ([`datadir`]), its
//! [`configuration`] and [`certificate`], starts the server ([`postmaster`]), makes its roles ([`bootstrap`]), keeps
//! what a [`primary`] has beside the data of its users ([`logins`], [`extensions`]), says how it is ([`health`]), and
//! carries out restores ([`restore`]). `metrics` is the exporter ([`metrics`]), `backup` makes backups ([`backup`]).
//! They learn everything from their [`environment`] and through the [`platform`]. `object-store` is none of them: it
//! runs the [store](crate::object_store) in a pod of its own.

pub mod backup;
pub mod bootstrap;
pub mod certificate;
pub mod configuration;
pub mod datadir;
pub mod decide;
pub mod environment;
pub mod extensions;
pub mod health;
pub mod keeper;
pub mod lease;
pub mod logins;
pub mod memory;
pub mod metrics;
pub mod platform;
pub mod postmaster;
pub mod primary;
pub mod replication;
pub mod report;
pub mod restore;
pub mod room;
pub mod scram;
pub mod server;
pub mod signals;
pub mod tools;
pub mod watchdog;

use crate::{chain, object_store, threads};
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use tokio::runtime::Builder;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Port of PostgreSQL.
pub const SQL_PORT: u16 = 5432;
/// Port of the agent's health, in the container of the server.
pub const REST_PORT: u16 = 8008;
/// Port of the health of the container for backups.
pub const BACKUP_PORT: u16 = 8009;
/// Port of the metrics.
pub const METRICS_PORT: u16 = 9187;

/// Threads for blocking work. Copying a data directory starts its own.
const BLOCKING_THREADS: usize = 2;

/// Why an agent ended. The sentence is the last line of the container's log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments.
    #[error("say what to be: postgres, backup, metrics or object-store")]
    Usage,
    /// The runtime.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// The environment.
    #[error(transparent)]
    Environment(#[from] environment::Error),
    /// The server's agent.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// A port.
    #[error(transparent)]
    Listen(#[from] health::Error),
    /// The object store.
    #[error(transparent)]
    ObjectStore(#[from] object_store::server::Error),
}

/// Runs the agent that the first argument names, until it is told to end. Trouble is one line on standard error.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    // The protocol's library takes every refusal for an error of its own.
    let said = Targets::new().with_default(LevelFilter::INFO).with_target("s3s", LevelFilter::OFF);
    tracing_subscriber::registry().with(lines).with(said).init();
    let role = arguments.into_iter().next();
    match run(role.as_ref().and_then(|role| role.to_str())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(role: Option<&str>) -> Result<(), Error> {
    let runtime = threads::runtime(Builder::new_current_thread(), BLOCKING_THREADS).map_err(Error::Runtime)?;
    let variable = |name: &str| std::env::var(name).ok();
    let result = match role {
        Some("postgres") => {
            let environment = environment::Server::read(&variable)?;
            let platform = platform::kubernetes::Kubernetes::new(&environment.pod, &variable);
            let orders = platform::kubernetes::Kubernetes::new(&environment.pod, &variable);
            let desk = backup::desk::Desk::new(orders, &environment.pod, &environment.uid);
            let restorer = restore::Restorer::new(desk, environment.clone());
            let restores = |contents| restorer.carry_out(contents);
            runtime.block_on(server::run(environment, platform, restores)).map_err(Error::from)
        }
        Some("metrics") => runtime.block_on(metrics::run(environment::Pod::read(&variable)?)).map_err(Error::from),
        Some("backup") => {
            let environment = environment::Backup::read(&variable)?;
            let platform = platform::kubernetes::Kubernetes::new(&environment.pod, &variable);
            runtime.block_on(backup::run(environment, platform)).map_err(Error::from)
        }
        Some("object-store") => {
            let environment = object_store::server::Environment::read(&variable)?;
            runtime.block_on(object_store::server::run(environment)).map_err(Error::from)
        }
        _ => Err(Error::Usage),
    };
    // Blocking work that was given up must not hold the process.
    runtime.shutdown_background();
    result
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::agent::server::tests::as_server_user_in;
    use nix::sys::resource::{Resource, setrlimit};
    use std::time::Duration;

    #[test]
    fn blocking_work_waits_where_no_thread_can_be_started() {
        as_server_user_in(module_path!(), "blocking_work_waits_where_no_thread_can_be_started", || {
            // Other tests of the same process need theirs.
            if !std::env::args().any(|argument| argument == "--exact") {
                return;
            }
            let builders = [Builder::new_current_thread(), Builder::new_multi_thread()];
            let runtimes = builders.map(|builder| threads::runtime(builder, BLOCKING_THREADS).expect("a runtime"));
            setrlimit(Resource::RLIMIT_NPROC, 0, 0).expect("set");
            threads::spawn(|| ()).expect_err("no thread");
            for runtime in runtimes {
                runtime.block_on(async {
                    let work = || tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(10)));
                    let (one, other) = tokio::join!(work(), work());
                    one.and(other).expect("done");
                });
            }
        });
    }
}
