//! The server's process: started, stopped, and found again when an earlier agent left it behind.

use super::environment::Server;
use super::watchdog;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

/// What of the agent's environment the server keeps: the marks by which a node finds a pod's processes.
pub(super) const KEPT: [&str; 4] = ["A9S_CLUSTER", "A9S_POD_UID", "HOME", "TMPDIR"];
/// How long left-over processes may take for each step of ending them.
const LEFT_OVER: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(30)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];
/// Lock file in the data directory.
const LOCK: &str = "postmaster.pid";
/// Lock file of the socket, of [`super::SQL_PORT`].
const SOCKET_LOCK: &str = ".s.PGSQL.5432.lock";
const LOOK: Duration = Duration::from_millis(5);
/// How long after a signal it is sent again to a server that has not ended.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes that a process moves only if it works: messages alone are fewer in hours.
const STRIDE: u64 = 16 << 20;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An earlier one does not end.
    #[error("processes of an earlier server still use the data directory {data}: {pids}")]
    LeftOver {
        /// The directory.
        data: PathBuf,
        /// Their numbers.
        pids: String,
    },
}

/// A running server.
pub struct Postmaster {
    child: Child,
    watchdog: Option<AbortOnDropHandle<()>>,
}

impl Postmaster {
    /// Starts the server. It does not accept connections yet.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub fn start(server: &Server) -> Result<Self, Error> {
        let program = server.bin_directory.join("postgres");
        let mut command = Command::new(&program);
        command.arg("-D").arg(server.data()).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        for name in KEPT {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        // A group of its own: a signal for the agent's group would end the server in another way than the agent does.
        // It is in its data directory from the start: who ends it finds it by that.
        command.stdin(Stdio::null()).process_group(0).current_dir(server.data());
        let child = command.spawn().map_err(|source| Error::Start { program, source })?;
        Ok(Self { child, watchdog: None })
    }

    /// Whether it has written its lock file. Before, a signal may end it.
    pub fn takes_signals(&self, data: &Path) -> bool {
        let noted = noted_pid(&data.join(LOCK)).and_then(|pid| u32::try_from(pid.as_raw()).ok());
        noted.is_some() && noted == self.child.id()
    }

    /// Whether it says, in the eighth line of its lock file (src/include/utils/pidfile.h), that it accepts connections.
    pub fn is_ready(&self, data: &Path) -> bool {
        let text = fs_err::read_to_string(data.join(LOCK)).unwrap_or_default();
        let mut lines = text.lines();
        let is_own = lines.next().and_then(|pid| pid.trim().parse().ok()) == self.child.id();
        is_own && lines.nth(6).is_some_and(|status| status.trim() == "ready")
    }

    /// From now on, when it accepts connections, it is [watched](watchdog::watch). Within a `LocalSet`.
    pub fn guard(&mut self, data: PathBuf, sockets: PathBuf) {
        let watching = tokio::task::spawn_local(async move { watchdog::watch(&data, &sockets).await });
        self.watchdog = Some(AbortOnDropHandle::new(watching));
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may be ending right now.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Ends it at once, as a crash would: what was committed is recovered at the next start.
    pub async fn quit(self) {
        self.end_by(Signal::SIGQUIT).await;
    }

    /// Shuts it down fast (PostgreSQL manual, "Shutting Down the Server"): sessions are ended, nothing committed is
    /// lost, and no recovery is needed. Waits for its end however long the checkpoint takes.
    pub async fn stop(self) {
        self.end_by(Signal::SIGINT).await;
    }

    /// Waits for its end, and sends the signal until then: a server that ends already passes over another one. One that has only
    /// just begun hears none that this process ignores, as after nohup(1).
    async fn end_by(mut self, signal: Signal) {
        loop {
            self.signal(signal);
            match timeout(AGAIN, self.ended()).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => return tracing::warn!(%error, "cannot wait for the server's end"),
                Err(_) => {}
            }
        }
    }
}

/// Ends the server of a data directory at once, without a checkpoint, and kills what is left after `patience`.
pub async fn quit(data: &Path, patience: Duration) {
    let deadline = Instant::now() + patience;
    if let Some(main) = postmaster_pid(data) {
        let _ = kill(main, Signal::SIGQUIT);
    }
    loop {
        let running = processes(data);
        if running.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            for pid in running {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends every process of an earlier server in this data directory: a postmaster whose agent died, or sessions whose
/// postmaster died. A new server would refuse to start beside them.
///
/// # Errors
/// If they do not end.
pub async fn end_left_over(data: &Path, sockets: &Path) -> Result<(), Error> {
    for (signal, patience) in LEFT_OVER {
        let deadline = Instant::now() + patience;
        let mut signalled = Vec::new();
        loop {
            let running = processes(data);
            if running.is_empty() {
                remove_lock_of_the_dead(&data.join(LOCK));
                remove_lock_of_the_dead(&sockets.join(SOCKET_LOCK));
                return Ok(());
            }
            if signalled.is_empty() {
                tracing::warn!(?signal, count = running.len(), "processes of an earlier server are ended");
            }
            let main = postmaster_pid(data);
            for pid in running {
                // Sessions end with their postmaster; without it they are signalled themselves. SIGINT would only
                // cancel their statement.
                let is_addressed = main.is_none_or(|main| main == pid) || signal == Signal::SIGKILL;
                if is_addressed && !signalled.contains(&pid) {
                    signalled.push(pid);
                    let signal = if main.is_none() && signal == Signal::SIGINT { Signal::SIGTERM } else { signal };
                    let _ = kill(pid, signal);
                }
            }
            if Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    let pids: Vec<String> = processes(data).iter().map(Pid::to_string).collect();
    if pids.is_empty() { Ok(()) } else { Err(Error::LeftOver { data: data.to_owned(), pids: pids.join(", ") }) }
}

/// How far a server is that applies WAL: its segment, without the timeline, as it looks for it on each, and how much it
/// has moved, since one record may take it long: that of a `CREATE DATABASE` copies all its files. The segment is in
/// the title of a process (PostgreSQL, `XLogFileRead`); `None` where that cannot be seen.
pub fn applied(data: &Path) -> Option<(String, u64)> {
    let is_segment = |word: &&str| word.len() == 24 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let segment = |title: &str| {
        let word = title.contains(": startup").then(|| title.rsplit(' ').next()).flatten();
        word.filter(is_segment).map(|word| word[8..].to_owned())
    };
    let moved = |pid: Pid| strides(&fs_err::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default());
    titles(data).into_iter().find_map(|(pid, title)| Some((segment(&title)?, moved(pid))))
}

/// How many [`STRIDE`]s were read from disks and written to them, by proc_pid_io(5).
fn strides(io: &str) -> u64 {
    let bytes = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    ["read_bytes:", "write_bytes:"].into_iter().filter_map(bytes).sum::<u64>() / STRIDE
}

/// Whether a server receives WAL, by the title of the process that does (PostgreSQL, `XLogWalRcvFlush`).
pub fn is_receiving(data: &Path) -> bool {
    titles(data).iter().any(|(_, title)| title.contains(": walreceiver") && title.contains(" streaming "))
}

fn titles(data: &Path) -> Vec<(Pid, String)> {
    let title = |pid: Pid| {
        let line = fs_err::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, line.split('\0').next()?.to_owned()))
    };
    processes(data).into_iter().filter_map(title).collect()
}

/// The number in a server's lock file.
fn noted_pid(lock: &Path) -> Option<Pid> {
    let text = fs_err::read_to_string(lock).ok()?;
    Some(Pid::from_raw(text.lines().next()?.trim().parse().ok()?))
}

/// The postmaster that the data directory names, if it lives and really runs there.
fn postmaster_pid(data: &Path) -> Option<Pid> {
    noted_pid(&data.join(LOCK)).filter(|pid| processes(data).contains(pid))
}

/// Removes a lock file of a server that is dead, but has not been waited for by its parent: it still has its number,
/// by which a new server would take it for alive. No process is in the data directory any more.
fn remove_lock_of_the_dead(lock: &Path) {
    let Some(pid) = noted_pid(lock) else { return };
    // proc_pid_stat(5): the state follows the name, which is in brackets.
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    if matches!(state, Some('Z' | 'X')) {
        tracing::warn!(%pid, "an earlier server is dead, and its parent has not noticed: its lock is removed");
        if let Err(error) = fs_err::remove_file(lock) {
            tracing::warn!(%error, "the lock of the earlier server stays");
        }
    }
}

/// The processes of PostgreSQL whose working directory is this data directory: servers change to it, and nobody else
/// stays there. It is compared by its inode, as paths differ between mount namespaces.
#[cfg(target_os = "linux")]
fn processes(data: &Path) -> Vec<Pid> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(here) = fs_err::metadata(data) else { return vec![] };
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Of processes of other users nothing can be seen, and they cannot be in a directory with mode 0700.
        let is_here = std::fs::metadata(entry.path().join("cwd"))
            .is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino()));
        let is_server =
            || std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim() == "postgres");
        if is_here && is_server() {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

/// Without `/proc`, only the postmaster itself can be found, by the number it left and by its command line, which names
/// the data directory.
#[cfg(not(target_os = "linux"))]
fn processes(data: &Path) -> Vec<Pid> {
    let Some(pid) = noted_pid(&data.join(LOCK)) else { return vec![] };
    let output = std::process::Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
    let command = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if command.contains("postgres") && command.contains(&*data.to_string_lossy()) { vec![pid] } else { vec![] }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::agent::datadir;

    /// A server whose program is a script.
    fn started(volume: &Path, script: &str) -> (Server, Postmaster) {
        let mut server = datadir::tests::server(volume);
        volume.clone_into(&mut server.bin_directory);
        fs_err::create_dir(server.data()).expect("made");
        // It could not be run while another test forks with it open: another process writes it.
        let mut writer = std::process::Command::new("sh");
        writer.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$0\" > postgres && chmod +x postgres", script]);
        assert!(writer.current_dir(volume).status().expect("run").success());
        let postmaster = Postmaster::start(&server).expect("started");
        (server, postmaster)
    }

    /// What nohup(1) has ignored, only a server that has begun hears.
    #[tokio::test]
    async fn a_server_that_has_not_heard_a_signal_gets_it_again() {
        let volume = tempfile::tempdir().expect("a directory");
        let script =
            "trap '' USR2; touch deaf; sleep 0.5; trap 'exit 0' USR2; for i in $(seq 300); do sleep 0.05; done";
        let (server, postmaster) = started(volume.path(), script);
        while !server.data().join("deaf").exists() {
            tokio::time::sleep(LOOK).await;
        }
        timeout(10 * AGAIN, postmaster.end_by(Signal::SIGUSR2)).await.expect("it has ended");
    }

    #[tokio::test]
    async fn a_server_that_has_only_just_been_started_is_found_and_ended() {
        let volume = tempfile::tempdir().expect("a directory");
        // It does nothing yet.
        let (server, mut postmaster) = started(volume.path(), "kill -STOP $$");
        assert_eq!(processes(&server.data()).len(), 1);
        quit(&server.data(), Duration::ZERO).await;
        assert!(!postmaster.ended().await.expect("waited for").success());
    }

    #[tokio::test]
    async fn the_lock_of_a_dead_server_that_nobody_waited_for_is_removed_and_others_are_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let locks = [LOCK, SOCKET_LOCK].map(|name| directory.path().join(name));
        let mut child = std::process::Command::new("true").spawn().expect("run");
        for lock in &locks {
            fs_err::write(lock, format!("{}\n/somewhere\n", child.id())).expect("written");
        }
        let stat = format!("/proc/{}/stat", child.id());
        while !fs_err::read_to_string(&stat).expect("not waited for").contains(") Z") {
            tokio::time::sleep(LOOK).await;
        }
        end_left_over(directory.path(), directory.path()).await.expect("nothing runs");
        assert!(locks.iter().all(|lock| !lock.exists()));
        child.wait().expect("ended");

        fs_err::write(&locks[0], format!("{}\n", std::process::id())).expect("written");
        end_left_over(directory.path(), directory.path()).await.expect("nothing runs");
        assert!(locks[0].exists(), "this process lives: the server has to judge for itself");
    }

    #[tokio::test]
    async fn a_server_says_which_segment_it_applies_on_whatever_timeline_and_whether_it_receives() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("postgres");
        fs_err::os::unix::fs::symlink("/bin/sleep", &program).expect("linked");
        for (title, segment, is_receiving) in [
            ("postgres: startup recovering 000000030000000A000000FE", Some("0000000A000000FE"), false),
            ("postgres: solo: startup waiting for 000000020000000A000000FE", Some("0000000A000000FE"), false),
            ("postgres: startup syncing data directory", None, false),
            ("postgres: startup ", None, false),
            ("postgres: checkpointer 000000030000000A000000FE", None, false),
            ("postgres: walreceiver ", None, false),
            ("postgres: walreceiver streaming A/FE000060", None, true),
        ] {
            let mut command = Command::new(&program);
            let command = command.arg0(title).arg("60").current_dir(directory.path()).kill_on_drop(true);
            let mut child = command.spawn().expect("run");
            let line = format!("/proc/{}/cmdline", child.id().expect("it runs"));
            while !fs_err::read(&line).expect("it runs").ends_with(b"\x0060\0") {
                tokio::time::sleep(LOOK).await;
            }
            let applied = super::applied(directory.path());
            assert_eq!(applied.as_ref().map(|(segment, _)| segment.as_str()), segment, "{title}");
            assert_eq!(super::is_receiving(directory.path()), is_receiving, "{title}");
            child.kill().await.expect("ended");
        }
    }

    #[test]
    fn what_a_process_has_moved_is_what_the_disks_know_of() {
        let io = |read: u64, written: u64| {
            format!(
                "rchar: 990000000\nwchar: 990000000\nsyscr: 9\nsyscw: 9\nread_bytes: {read}\n\
                 write_bytes: {written}\ncancelled_write_bytes: 990000000\n"
            )
        };
        assert_eq!(strides(&io(STRIDE, 2 * STRIDE)), 3);
        assert_eq!(strides(&io(0, STRIDE - 1)), 0, "messages");
        assert_eq!(strides(""), 0, "it cannot be seen");
    }

    #[tokio::test]
    async fn a_server_whose_agent_died_is_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("postgres");
        // A copy could not be run while another test forks with it open.
        fs_err::os::unix::fs::symlink("/bin/sleep", &program).expect("linked");
        let mut command = Command::new(&program);
        let mut child = command.arg("60").current_dir(directory.path()).spawn().expect("run");
        while processes(directory.path()).is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        let (ended, status) = tokio::join!(end_left_over(directory.path(), directory.path()), child.wait());
        ended.expect("it ended");
        assert!(!status.expect("ended").success());
    }
}
