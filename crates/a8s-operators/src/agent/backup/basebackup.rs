//! The server's own `pg_basebackup`, as the source of a backup: its standard output is a tar archive of the data
//! directory, with the WAL that it needs.

use crate::agent::SQL_PORT;
use crate::agent::postmaster::KEPT;
use crate::backup::conditions::Trouble;
use crate::postgresql::template::SUPERUSER;
use std::io::PipeReader;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};

/// Of its messages, more than these many bytes are not kept.
const MESSAGES: u64 = 64 << 10;

/// Where a base backup starts and ends in the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Timeline.
    pub timeline: u32,
    /// Where recovery starts.
    pub start: String,
    /// Where the data is consistent.
    pub end: String,
}

/// A running `pg_basebackup`. It ends with this.
pub struct BaseBackup {
    child: Child,
    messages: ChildStderr,
}

impl BaseBackup {
    /// Starts it; the archive comes out of the pipe.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub fn start(bin_directory: &Path, sockets: &Path) -> Result<(Self, PipeReader), Trouble> {
        let program = bin_directory.join("pg_basebackup");
        let failed = |error: std::io::Error| {
            Trouble::new("BaseBackupFailed", format!("cannot run {}: {error}", program.display()))
        };
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        widen(&reader);
        let mut command = Command::new(&program);
        command
            .args(["-D", "-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast", "--no-password", "--verbose"])
            // Of what is stored every byte is authentic.
            .arg("--no-manifest")
            .arg("--host")
            .arg(sockets)
            .args(["--port", &SQL_PORT.to_string(), "--username", SUPERUSER])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C");
        for name in KEPT {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).current_dir("/").kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let messages = child.stderr.take().ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok((Self { child, messages }, reader))
    }

    /// Waits for its end. Only then it is known whether the archive is whole.
    ///
    /// # Errors
    /// What it said.
    pub async fn finish(mut self) -> Result<Range, Trouble> {
        let mut text = Vec::new();
        // Its messages are a few lines; should there be more, the rest must not hold it up.
        let read = async {
            let kept = (&mut self.messages).take(MESSAGES).read_to_end(&mut text).await;
            let rest = tokio::io::copy(&mut self.messages, &mut tokio::io::sink()).await;
            kept.and(rest)
        };
        let (status, _) = tokio::join!(self.child.wait(), read);
        let text = String::from_utf8_lossy(&text).into_owned();
        match status {
            Ok(status) if status.success() => range(&text).ok_or_else(|| {
                Trouble::new(
                    "BaseBackupFailed",
                    "pg_basebackup did not say where in the WAL the backup starts and ends",
                )
            }),
            Ok(status) => Err(failure(&text, &status.to_string())),
            Err(error) => Err(Trouble::new("BaseBackupFailed", format!("cannot wait for pg_basebackup: {error}"))),
        }
    }
}

#[cfg(target_os = "linux")]
fn widen(pipe: &PipeReader) {
    /// Bytes of the pipe: fewer changes between the processes. The largest that every user may have.
    const PIPE: i32 = 1 << 20;
    // Without it, it only is a little slower.
    let _ = nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETPIPE_SZ(PIPE));
}

#[cfg(not(target_os = "linux"))]
fn widen(_: &PipeReader) {}

/// What `--verbose` says (src/bin/pg_basebackup/pg_basebackup.c, `BaseBackup`).
fn range(text: &str) -> Option<Range> {
    let after = |words: &str| text.lines().find_map(|line| Some(line.split_once(words)?.1.trim()));
    let (start, timeline) = after("write-ahead log start point: ")?.split_once(" on timeline ")?;
    let end = after("write-ahead log end point: ")?;
    Some(Range { timeline: timeline.parse().ok()?, start: start.to_owned(), end: end.to_owned() })
}

fn failure(text: &str, status: &str) -> Trouble {
    let is_error = |line: &&str| line.contains("error:") || line.contains("FATAL:") || line.contains("ERROR:");
    let mut lines = text.lines().filter(is_error);
    let line = lines.next().or_else(|| text.lines().last()).unwrap_or(status);
    let said = line.trim_start_matches("pg_basebackup: ").trim_start_matches("error: ");
    if said.contains("can only write single tablespace to stdout") {
        let text = "the instance has tablespaces of its own, which backups do not support";
        return Trouble::new("TablespacesNotSupported", text);
    }
    Trouble::new("BaseBackupFailed", format!("the server gave no base backup: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_read_from_its_messages() {
        let text = "pg_basebackup: initiating base backup, waiting for checkpoint to complete\n\
                    pg_basebackup: checkpoint completed\n\
                    pg_basebackup: write-ahead log start point: 0/2000028 on timeline 3\n\
                    pg_basebackup: write-ahead log end point: 0/2000100\n\
                    pg_basebackup: base backup completed\n";
        let range = range(text).expect("a range");
        assert_eq!(range, Range { timeline: 3, start: "0/2000028".into(), end: "0/2000100".into() });
    }

    #[test]
    fn its_first_error_is_the_cause() {
        let text = "pg_basebackup: initiating base backup\n\
                    pg_basebackup: error: could not receive data from WAL stream\n\
                    pg_basebackup: removing contents\n";
        let trouble = failure(text, "exit status: 1");
        assert_eq!(trouble.message, "the server gave no base backup: could not receive data from WAL stream");
        assert!(!trouble.is_permanent());
        let text = "pg_basebackup: error: can only write single tablespace to stdout, database has 2\n";
        assert!(failure(text, "exit status: 1").is_permanent());
        assert!(failure("", "signal: 9").message.ends_with("signal: 9"));
    }
}
