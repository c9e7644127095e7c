//! PostgreSQL's own programs: `pg_basebackup` copies a primary, `pg_rewind` takes back what a primary has not got.

use super::bootstrap::Credentials;
use super::environment::Server;
use super::postmaster::KEPT;
use super::replication::{self, connection};
use crate::postgresql::durable;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::Instant;

/// How often the progress of a copy is told.
const PROGRESS: Duration = Duration::from_secs(5);
/// Bytes of a program's messages that an error carries.
const TAIL: usize = 1000;

/// Why a program did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Its name.
        program: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// The last of what it said.
        output: String,
    },
    /// The other side is not a primary yet.
    #[error("{address} is not the primary of timeline {timeline} yet, but says {found:?}")]
    NotYet {
        /// Where it is.
        address: String,
        /// The timeline.
        timeline: u32,
        /// What it says of its recovery and its timeline.
        found: String,
    },
    /// It ended while it wrote.
    #[error("pg_rewind ended in the middle")]
    HalfRewound(#[source] Box<Error>),
    /// A file operation around it.
    #[error("cannot prepare the copy of the data")]
    File(#[source] io::Error),
}

fn command(server: &Server, program: &'static str) -> Command {
    let mut command = Command::new(server.bin_directory.join(program));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/").kill_on_drop(true);
    for name in KEPT {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn checked(program: &'static str, output: Output) -> Result<String, Error> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = [text(&output.stderr), text(&output.stdout)].join(" ").replace('\n', "; ");
    let start = said.char_indices().rev().map(|(i, _)| i).find(|i| said.len() - i >= TAIL).unwrap_or(0);
    Err(Error::Failed { program, output: said[start..].trim().to_owned() })
}

/// What a program of the server prints.
///
/// # Errors
/// If it cannot be run or fails.
pub async fn output(server: &Server, program: &'static str, arguments: &[&OsStr]) -> Result<String, Error> {
    let output = command(server, program).args(arguments).output().await;
    checked(program, output.map_err(|source| Error::Run { program, source })?)
}

fn source_of(server: &Server, address: &str, admin: &Credentials) -> String {
    connection(server, address, &admin.username, &server.pod.name, Some("postgres"))
}

/// Whether the primary at `address` leads on `timeline`, and says so in its control file. Answers with the history of
/// that timeline (see [`replication::is_part_of`]), which is empty for the first one.
///
/// # Errors
/// If it is not, as far as it says, or does not answer.
pub async fn leads(server: &Server, address: &str, timeline: u32, admin: &Credentials) -> Result<String, Error> {
    let source = source_of(server, address, admin);
    // The timelines are compared by control files, which a promotion brings up to date only with its next checkpoint.
    // A server that is only just being promoted would be taken for one that has nothing new.
    let query = format!(
        "SELECT pg_is_in_recovery(), timeline_id, pg_read_file('pg_wal/{timeline:08X}.history', 0, 1000000, true) \
         FROM pg_control_checkpoint()"
    );
    let arguments = ["-XAtq", "-c", "CHECKPOINT", "-c", query.as_str(), source.as_str()].map(OsStr::new);
    let found = output(server, "psql", &arguments).await?;
    match found.strip_prefix(&format!("f|{timeline}|")) {
        Some(history) => Ok(history.to_owned()),
        None => Err(Error::NotYet { address: address.to_owned(), timeline, found }),
    }
}

/// Takes back what a stopped server has applied and the primary at `address` has not, so that it can follow it. One
/// that crashed is recovered first. Answers whether there was anything to take back.
///
/// # Errors
/// If that is not possible. The data may be used no more if it is [`Error::HalfRewound`], or was cut off.
pub async fn rewind(server: &Server, address: &str, admin: &Credentials) -> Result<bool, Error> {
    let (data, source) = (server.data(), format!("--source-server={}", source_of(server, address, admin)));
    let said = command(server, "pg_rewind")
        .args([OsStr::new("-D"), data.as_os_str(), OsStr::new(&source), OsStr::new("--no-sync")])
        .output()
        .await
        .map_err(|source| Error::Run { program: "pg_rewind", source })?;
    let stderr = String::from_utf8_lossy(&said.stderr).into_owned();
    let last = stderr.lines().last().unwrap_or_default().to_owned();
    // It says so before it writes anything of the other server.
    let has_begun = stderr.contains("rewinding from last common checkpoint");
    checked("pg_rewind", said).map_err(|error| if has_begun { Error::HalfRewound(Box::new(error)) } else { error })?;
    tracing::info!("rewound to the primary: {}", last.trim_start_matches("pg_rewind: "));
    flush(data).await.map(|()| has_begun)
}

/// Copies the primary at `address` beside the data directory, and tells the progress. What an earlier attempt left is
/// removed.
///
/// # Errors
/// If that is not possible; the data directory is as it was.
pub async fn copy(server: &Server, address: &str, standby: &Credentials) -> Result<(), Error> {
    let program = "pg_basebackup";
    let run = |source| Error::Run { program, source };
    let target = replication::copy_directory(server);
    remove(target.clone()).await.map_err(Error::File)?;
    let mut command = command(server, program);
    // Under the member's own name, what it has received would count as confirmed, and is thrown away where the copy fails.
    let name = format!("{}{}", server.pod.name, replication::COPY);
    command.arg("-D").arg(&target).arg("-d").arg(connection(server, address, &standby.username, &name, None));
    command.args(["--format=plain", "--wal-method=stream", "--checkpoint=fast", "--no-sync", "--progress"]);
    let mut child = command.spawn().map_err(run)?;
    let mut said = Vec::new();
    let mut told = Instant::now();
    if let Some(stderr) = child.stderr.take() {
        // A line of progress ends with a carriage return.
        let mut lines = BufReader::new(stderr).split(b'\r');
        while let Some(line) = lines.next_segment().await.map_err(run)? {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            if told.elapsed() > PROGRESS && !text.is_empty() {
                tracing::info!("copying the primary: {text}");
                told = Instant::now();
            }
            said = line;
        }
    }
    let mut stdout = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout).await.map_err(run)?;
    }
    let status = child.wait().await.map_err(run)?;
    checked(program, Output { status, stdout, stderr: said })?;
    flush(target).await
}

/// Removes a directory, if it is there. In a thread of its own: to remove a large database may take longer than the Lease lasts
/// that the agent renews meanwhile.
///
/// # Errors
/// As removing.
pub async fn remove(directory: PathBuf) -> io::Result<()> {
    let removing = tokio::task::spawn_blocking(move || match fs_err::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    });
    removing.await?
}

async fn flush(directory: PathBuf) -> Result<(), Error> {
    let flushing = tokio::task::spawn_blocking(move || durable::flush_tree(&directory));
    flushing.await.unwrap_or_else(|error| Err(error.into())).map_err(Error::File)
}
