//! PostgreSQL's own programs: `pg_basebackup` copies a primary, `pg_rewind` takes back what a primary has not got.

use super::bootstrap::Credentials;
use super::environment::Server;
use super::postmaster::KEPT;
use super::replication::{self, connection};
use super::room;
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
    /// A copy has no room.
    #[error(
        "the volume has {free} MiB free, and a copy of the primary needs at least {needed} MiB: make it larger, or, if \
         older data of this member takes the room, delete its PersistentVolumeClaim and its pod"
    )]
    NoRoom {
        /// What was free, in MiB.
        free: u128,
        /// What the copy needs, in MiB.
        needed: u64,
        /// What the program said.
        #[source]
        source: Box<Error>,
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
    let free = room::free(&server.volume);
    let mut child = command.spawn().map_err(run)?;
    let (mut said, mut needed) = (Vec::<u8>::new(), None);
    let mut told = Instant::now();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Some(line) = lines.next_segment().await.map_err(run)? {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            let Some(size) = total(&text) else {
                said.extend_from_slice(&line);
                said.push(b'\n');
                continue;
            };
            needed = Some(size.div_ceil(1024));
            if told.elapsed() > PROGRESS {
                tracing::info!("copying the primary: {text}");
                told = Instant::now();
            }
        }
    }
    let mut stdout = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout).await.map_err(run)?;
    }
    let status = child.wait().await.map_err(run)?;
    let copied = checked(program, Output { status, stdout, stderr: said });
    copied.map_err(|error| match free.zip(needed).filter(|_| is_for_room(&error)) {
        Some((free, needed)) => Error::NoRoom { free: free >> 20, needed, source: Box::new(error) },
        None => error,
    })?;
    flush(target).await
}

fn is_for_room(error: &Error) -> bool {
    matches!(error, Error::Failed { output, .. } if output.contains("No space left on device"))
}

/// How many KiB there will be, by a line of progress such as `12/3456 kB (0%), 0/1 tablespace`. Where no terminal is
/// written to, it ends as every line does (src/bin/pg_basebackup/pg_basebackup.c, `progress_report`).
fn total(line: &str) -> Option<u64> {
    let (done, rest) = line.split_once('/')?;
    let (total, _) = rest.split_once(" kB (")?;
    done.parse::<u64>().ok()?;
    total.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::datadir;

    /// What is said of a copy that a script makes.
    async fn copied_by(script: &str) -> String {
        let volume = tempfile::tempdir().expect("a directory");
        let mut server = datadir::tests::server(volume.path());
        volume.path().clone_into(&mut server.bin_directory);
        // It could not be run while another test forks with it open: another process writes it.
        let mut writer = std::process::Command::new("sh");
        writer.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$0\" > pg_basebackup && chmod +x pg_basebackup", script]);
        assert!(writer.current_dir(volume.path()).status().expect("run").success());
        let standby = Credentials { username: "standby".into(), password: "secret".into() };
        let error = copy(&server, "127.0.0.1", &standby).await.expect_err("it fails");
        crate::chain(&error)
    }

    #[tokio::test]
    async fn a_copy_that_has_no_room_says_how_much_it_needs() {
        let full = "echo '     12/2100224 kB (0%), 0/1 tablespace' >&2\n\
                    echo '1050112/2100224 kB (50%), 0/1 tablespace' >&2\n\
                    echo 'pg_basebackup: error: could not write file \"x\": No space left on device' >&2\nexit 1";
        let text = copied_by(full).await;
        let needed = "and a copy of the primary needs at least 2051 MiB: make it larger";
        let cause = "pg_basebackup failed: pg_basebackup: error: could not write file \"x\": No space left on device";
        assert!(text.starts_with("the volume has ") && text.contains(needed) && text.ends_with(cause), "{text}");
    }

    #[tokio::test]
    async fn progress_is_no_part_of_why_a_copy_failed() {
        let broken = "echo '12/2048 kB (0%), 0/1 tablespace' >&2\necho 'pg_basebackup: error: cut off' >&2\nexit 1";
        assert_eq!(copied_by(broken).await, "pg_basebackup failed: pg_basebackup: error: cut off");
    }
}
