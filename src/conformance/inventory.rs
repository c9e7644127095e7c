//! What a run must not leave on the machine: processes, ports, mounts, socket directories.
//!
//! Other clusters may come and go on the machine meanwhile. A process belongs to the run when its command line,
//! environment, working directory or mount table names the run's directory, or when it carries the mark of one of its
//! pods; nothing else is ever reported or ended. What can be seen of a process depends on the system. Ports and mounts are
//! what only a run with embedded clusters makes, and so only looked for on Linux.

#[cfg(target_os = "linux")]
mod proc;
#[cfg(not(target_os = "linux"))]
mod ps;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

#[cfg(target_os = "linux")]
use self::proc::Seen;
#[cfg(not(target_os = "linux"))]
use self::ps::Seen;
use crate::provider::embedded::places::OWNER;

/// A process of the run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Its command line, or its name where that is empty.
    pub line: String,
}

impl From<Seen> for Process {
    fn from(seen: Seen) -> Self {
        Self { pid: seen.pid, line: seen.line() }
    }
}

impl Process {
    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended, or is of another user.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(Pid::from_raw(self.pid), signal)?)
    }
}

/// The processes (except this one) that name `word` in their command line, environment, working directory or mounts.
pub fn processes_naming(word: &str) -> Vec<Process> {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let mut found: Vec<Process> =
        Seen::all().filter(|seen| seen.pid != own && seen.names(word)).map(Process::from).collect();
    found.sort();
    found
}

/// The processes whose environment has the variable `name` with this value.
pub fn processes_marked(name: &str, value: &str) -> Vec<Process> {
    let mark = format!("{name}={value}");
    Seen::all().filter(|seen| seen.has(&mark)).map(Process::from).collect()
}

/// Ends processes at once. Only for those that [`processes_naming`] a directory of the run has found; what this process
/// descends from is never among them.
pub fn end(processes: &[Process]) {
    let ancestors = ancestors();
    for process in processes.iter().filter(|process| process.pid > 1 && !ancestors.contains(&process.pid)) {
        // It may have ended by itself since it was found.
        let _ = process.signal(Signal::SIGKILL);
    }
}

/// Whether there is a process of this number, be it somebody else's.
pub fn is_running(pid: i32) -> bool {
    pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// The processes that a process has started itself.
pub fn children(pid: i32) -> Vec<Process> {
    Seen::all().filter(|seen| seen.parent() == Some(pid)).map(Process::from).collect()
}

fn ancestors() -> BTreeSet<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let parents: BTreeMap<i32, i32> = Seen::all().filter_map(|seen| Some((seen.pid, seen.parent()?))).collect();
    let parent = |pid: &i32| parents.get(pid).copied().filter(|parent| *parent > 0);
    std::iter::successors(parent(&own), parent).collect()
}

/// What is on the machine that is not a process: taken before and after a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Listening sockets in 127.64.0.0/10 of users we can speak for, with the process that holds each.
    pub listeners: BTreeMap<(Ipv4Addr, u16), Option<i32>>,
    /// Mount points below the run's directory or the directories for sockets.
    pub mounts: BTreeSet<String>,
    /// Directories for sockets.
    pub run_directories: BTreeSet<PathBuf>,
}

impl Inventory {
    /// What is there now.
    pub fn take(run: &Path) -> Self {
        Self { listeners: listeners(), mounts: mounts(run), run_directories: run_directories() }
    }

    /// What is there now and was not before, except what a living process holds that is not of the run.
    pub fn leaked_since(&self, before: &Self, run: &Path) -> Vec<String> {
        let run = run.to_string_lossy();
        let mut leaks = Vec::new();
        let new = self.listeners.iter().filter(|(socket, _)| !before.listeners.contains_key(socket));
        for ((address, port), holder) in new {
            let foreign = holder.is_some_and(|pid| !Seen::all().any(|seen| seen.pid == pid && seen.names(&run)));
            if !foreign {
                leaks.push(format!("port {address}:{port} still listens"));
            }
        }
        leaks.extend(self.mounts.difference(&before.mounts).map(|mount| format!("still mounted: {mount}")));
        for directory in self.run_directories.difference(&before.run_directories) {
            let foreign = std::fs::read_link(directory.join(OWNER)).is_ok_and(|of| !of.starts_with(&*run));
            if !foreign {
                leaks.push(format!("directory for sockets {} is left", directory.display()));
            }
        }
        leaks
    }
}

/// Whether a word is there and does not go on: `s2` is not in `s27`.
fn contains(bytes: &[u8], word: &[u8]) -> bool {
    let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let mut windows = bytes.windows(word.len()).enumerate();
    windows.any(|(at, window)| window == word && !bytes.get(at + word.len()).is_some_and(goes_on))
}

/// Mount points that name the run's directory.
pub fn mounts(run: &Path) -> BTreeSet<String> {
    let run = run.to_string_lossy();
    let table = fs_err::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter(|line| line.contains(&*run))
        .filter_map(|line| Some(line.split(' ').nth(4)?.to_owned()))
        .collect()
}

fn run_directories() -> BTreeSet<PathBuf> {
    let user = Uid::effective();
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join("a9s"));
    let roots = if user.is_root() {
        vec![PathBuf::from("/run/a9s")]
    } else {
        own.into_iter().chain([PathBuf::from(format!("/tmp/a9s-{user}"))]).collect()
    };
    roots
        .iter()
        .filter_map(|root| std::fs::read_dir(root).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn listeners() -> BTreeMap<(Ipv4Addr, u16), Option<i32>> {
    let found = sockets();
    let holders = holders(&found.iter().map(|socket| socket.inode).collect());
    // One that was closed since it was found has no holder either: clusters of others come and go at the same time.
    let still: BTreeSet<u64> = sockets().iter().map(|socket| socket.inode).collect();
    found
        .into_iter()
        .filter(|socket| still.contains(&socket.inode))
        .map(|socket| ((socket.address, socket.port), holders.get(&socket.inode).copied()))
        .collect()
}

/// The sockets that listen in 127.64.0.0/10, of users we can speak for.
fn sockets() -> Vec<Socket> {
    let own = Uid::effective();
    let table = fs_err::read_to_string("/proc/net/tcp").unwrap_or_default();
    table
        .lines()
        .skip(1)
        .filter_map(listening)
        .filter(|socket| own.is_root() || socket.user == own.as_raw())
        .filter(|socket| u32::from(socket.address) & 0xffc0_0000 == u32::from(Ipv4Addr::new(127, 64, 0, 0)))
        .collect()
}

struct Socket {
    address: Ipv4Addr,
    port: u16,
    user: u32,
    inode: u64,
}

/// A line of `/proc/net/tcp` (proc(5)): addresses are hexadecimal in the byte order of the host, state `0A` listens.
fn listening(line: &str) -> Option<Socket> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = columns.get(1)?.split_once(':')?;
    if *columns.get(3)? != "0A" {
        return None;
    }
    Some(Socket {
        address: Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes()),
        port: u16::from_str_radix(port, 16).ok()?,
        user: columns.get(7)?.parse().ok()?,
        inode: columns.get(9)?.parse().ok()?,
    })
}

fn holders(inodes: &BTreeSet<u64>) -> BTreeMap<u64, i32> {
    let mut found = BTreeMap::new();
    for Seen { pid, .. } in Seen::all() {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(link) = std::fs::read_link(entry.path()) else { continue };
            let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                found.insert(inode, pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_gives_address_port_and_owner() {
        let line =
            "   0: 0100407F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 4711 1 0 100";
        let socket = listening(line).expect("it listens");
        assert_eq!((socket.address, socket.port), (Ipv4Addr::new(127, 64, 0, 1), 6443));
        assert_eq!((socket.user, socket.inode), (101, 4711));
        assert!(listening(&line.replace(" 0A ", " 01 ")).is_none(), "established is not listening");
    }

    #[test]
    fn a_listener_without_a_living_holder_is_a_leak_and_one_of_a_foreign_process_is_not() {
        let port = (Ipv4Addr::new(127, 64, 0, 1), 6443);
        let before = Inventory::default();
        let orphan = Inventory { listeners: BTreeMap::from([(port, None)]), ..Inventory::default() };
        assert_eq!(orphan.leaked_since(&before, Path::new("/tmp/run")), ["port 127.64.0.1:6443 still listens"]);
        let own = i32::try_from(std::process::id()).expect("a pid");
        let foreign = Inventory { listeners: BTreeMap::from([(port, Some(own))]), ..Inventory::default() };
        assert!(foreign.leaked_since(&before, Path::new("/no/such/run")).is_empty());
        assert!(orphan.leaked_since(&orphan, Path::new("/tmp/run")).is_empty(), "it was there before");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_mounted_for_everybody_makes_nobody_a_process_of_the_run() {
        // Every process of this mount namespace has this in its table, and most do not name it otherwise.
        let table = fs_err::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
        let proc = table.lines().find(|line| line.contains(" /proc ")).expect("proc is mounted");
        assert!(!processes_naming(proc).iter().any(|process| ancestors().contains(&process.pid)));
    }

    #[test]
    fn this_process_descends_from_its_parent_and_both_run() {
        let [own, parent] =
            [std::process::id(), std::os::unix::process::parent_id()].map(|pid| i32::try_from(pid).expect("a pid"));
        let ancestors = ancestors();
        assert!(ancestors.contains(&parent) && !ancestors.contains(&own), "{parent} is not in {ancestors:?}");
        assert!(is_running(own) && is_running(parent) && is_running(1));
        assert!(!is_running(0) && !is_running(i32::MAX));
    }

    #[test]
    fn a_directory_is_not_another_whose_name_goes_on() {
        for (text, is_there) in
            [("/t/s2", true), ("x=/t/s2/home\0", true), ("/t/s27", false), ("/t/s2-x /t/s2 y", true)]
        {
            assert_eq!(contains(text.as_bytes(), b"/t/s2"), is_there, "{text}");
        }
    }

    #[test]
    fn a_child_that_names_the_directory_is_found_until_it_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let word = directory.path().display().to_string();
        let file = directory.path().join("file");
        fs_err::write(&file, "").expect("written");
        let mut command = std::process::Command::new("tail");
        let mut child = command.arg("-f").arg(&file).env("A9S_X", &word).spawn().expect("tail");
        let pid = i32::try_from(child.id()).expect("a pid");
        // Between fork and exec the child still has this process' environment.
        while !processes_naming(&word).iter().any(|process| process.pid == pid && process.line.contains("tail")) {
            std::thread::yield_now();
        }
        assert_eq!(
            children(i32::try_from(std::process::id()).expect("a pid")).iter().filter(|it| it.pid == pid).count(),
            1
        );
        if cfg!(target_os = "linux") {
            // Elsewhere the environment of the system's own programs is nobody's to see.
            assert_eq!(processes_marked("A9S_X", &word).len(), 1);
        }
        end(&processes_naming(&word));
        child.wait().expect("it ended");
        assert!(processes_naming(&word).is_empty());
    }
}
