//! Which processes of this machine belong to a node: by the mark in their environment, and by the mark of their mount
//! namespace, which a process can't lose. Stored process ids are not trusted: they may be somebody else's by now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Environment variable with the node's [`Mark`] that every process of a pod has.
pub const VARIABLE: &str = "A9S_NODE";
/// First part of the source of a container's root tmpfs, see [`label`].
const LABEL: &str = "a9s-pod";
/// How often the end of signalled processes is looked for: there is no event for processes that are not our children.
const POLL: Duration = Duration::from_millis(20);

/// What a search looks for. Fewer parts find more processes.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, Default)]
pub struct Mark {
    /// Identifies the node's directory, see [`node_id`].
    pub node: String,
    /// Only processes of this run of the node.
    pub run: Option<String>,
    /// Only processes of other runs.
    pub except_run: Option<String>,
    /// Only this pod (its uid).
    pub pod: Option<String>,
    /// Only this container, `NAME.RESTARTS`.
    pub container: Option<String>,
}

/// Identifies the node whose files are in `directory`, across its restarts.
pub fn node_id(directory: &Path) -> String {
    use sha2::{Digest, Sha256};
    // Other words for the same directory are the same node.
    let directory = fs_err::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    let digest = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Value of [`VARIABLE`] for one container.
pub fn value(node: &str, run: &str, pod: &str, container: &str) -> String {
    format!("{node}:{run}:{pod}:{container}")
}

/// Source of a container's root tmpfs.
pub fn label(value: &str) -> String {
    format!("{LABEL}:{value}")
}

impl Mark {
    fn matches(&self, value: &str) -> bool {
        let mut parts = value.splitn(4, ':');
        let mut is = |wanted: Option<&str>| {
            let part = parts.next();
            wanted.is_none_or(|wanted| part == Some(wanted))
        };
        if !is(Some(&self.node)) {
            return false;
        }
        let run = value.split(':').nth(1);
        if self.except_run.is_some() && run == self.except_run.as_deref() {
            return false;
        }
        is(self.run.as_deref()) && is(self.pod.as_deref()) && is(self.container.as_deref())
    }
}

/// The running processes that bear the mark; never this process itself.
pub fn find(mark: &Mark) -> Vec<Pid> {
    let own = std::process::id();
    let mut namespaces: BTreeMap<String, bool> = BTreeMap::new();
    if let Some(own) = namespace("self") {
        namespaces.insert(own, false);
    }
    let mut parents = BTreeMap::new();
    let mut found = BTreeSet::new();
    for pid in processes().filter(|pid| *pid != own) {
        let process = pid.to_string();
        let Some(parent) = living_parent(&process) else { continue };
        parents.insert(pid, parent);
        if in_marked_namespace(&process, mark, &mut namespaces) || has_marked_environment(&process, mark) {
            found.insert(pid);
        }
    }
    // A program may have overwritten its environment (a server that shows what it does in `ps` does); where there are
    // no namespaces, its parent still tells.
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| !found.contains(pid) && found.contains(parent))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.into_iter().filter_map(|pid| i32::try_from(pid).ok()).map(Pid::from_raw).collect()
}

/// Signals all processes that bear the mark. Answers how many there were.
pub fn signal(mark: &Mark, signal: Signal) -> usize {
    let found = find(mark);
    for pid in &found {
        let _ = kill(*pid, signal);
    }
    found.len()
}

/// Ends all processes that bear the mark: SIGTERM, and SIGKILL for what is left after `grace`. Blocks until they are
/// gone, at most a few seconds longer than `grace`. Answers how many there were.
pub fn end(mark: &Mark, grace: Duration) -> usize {
    let count = signal(mark, Signal::SIGTERM);
    if count == 0 {
        return 0;
    }
    let deadline = Instant::now() + grace;
    while Instant::now() < deadline {
        std::thread::sleep(POLL);
        if find(mark).is_empty() {
            return count;
        }
    }
    kill_all(mark);
    count
}

/// Kills all processes that bear the mark, and those they make meanwhile. Blocks until they are gone, at most some
/// seconds: a process that waits for a broken disk can't be killed.
pub fn kill_all(mark: &Mark) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while signal(mark, Signal::SIGKILL) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn processes() -> impl Iterator<Item = u32> {
    fs_err::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The parent of a process that is neither gone nor a zombie.
fn living_parent(process: &str) -> Option<u32> {
    let stat = fs_err::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may contain anything; the fields follow its last parenthesis (proc_pid_stat(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.next()?.parse().ok()).flatten()
}

fn namespace(process: &str) -> Option<String> {
    let link = fs_err::read_link(format!("/proc/{process}/ns/mnt")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

fn in_marked_namespace(process: &str, mark: &Mark, known: &mut BTreeMap<String, bool>) -> bool {
    let Some(namespace) = namespace(process) else { return false };
    if let Some(known) = known.get(&namespace) {
        return *known;
    }
    let Ok(mounts) = fs_err::read_to_string(format!("/proc/{process}/mountinfo")) else { return false };
    let is_marked = root_source(&mounts)
        .and_then(|source| source.strip_prefix(LABEL)?.strip_prefix(':'))
        .is_some_and(|value| mark.matches(value));
    known.insert(namespace, is_marked);
    is_marked
}

/// The source of what is mounted on `/` (proc_pid_mountinfo(5): the fifth field is the mount point, the second after
/// ` - ` is the source).
fn root_source(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (left.split(' ').nth(4) == Some("/")).then(|| right.split(' ').nth(1)).flatten()
    })
}

fn has_marked_environment(process: &str, mark: &Mark) -> bool {
    let Ok(environment) = fs_err::read(format!("/proc/{process}/environ")) else { return false };
    let prefix = format!("{VARIABLE}=");
    environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(&prefix))
        .any(|value| mark.matches(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_finds_its_own_runs_pods_and_containers() {
        let value = value("n", "r1", "uid", "postgres.0");
        let mark = |run: Option<&str>, except: Option<&str>, pod: Option<&str>, container: Option<&str>| Mark {
            node: "n".into(),
            run: run.map(Into::into),
            except_run: except.map(Into::into),
            pod: pod.map(Into::into),
            container: container.map(Into::into),
        };
        assert!(mark(None, None, None, None).matches(&value));
        assert!(mark(Some("r1"), None, Some("uid"), Some("postgres.0")).matches(&value));
        assert!(mark(None, Some("r2"), None, None).matches(&value));
        assert!(!mark(None, Some("r1"), None, None).matches(&value));
        assert!(!mark(Some("r2"), None, None, None).matches(&value));
        assert!(!mark(None, None, Some("other"), None).matches(&value));
        assert!(!mark(None, None, None, Some("postgres.1")).matches(&value));
        assert!(!Mark { node: "m".into(), ..Mark::default() }.matches(&value));
    }

    #[test]
    fn the_root_of_a_namespace_is_found_among_its_mounts() {
        let mounts =
            "22 27 0:21 / /proc rw - proc proc rw\n27 1 0:40 / / rw,nosuid - tmpfs a9s-pod:n:r:u:c rw,mode=755\n";
        assert_eq!(root_source(mounts), Some("a9s-pod:n:r:u:c"));
        assert_eq!(root_source("22 27 0:21 / /proc rw - proc proc rw\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_found_by_its_environment_and_ended() {
        let node = format!("test-{}", std::process::id());
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("600")
            .env(VARIABLE, value(&node, "r", "u", "c"))
            .spawn()
            .unwrap();
        let mark = Mark { node, ..Mark::default() };
        // The environment is the new program's only once it has been executed, which spawn waits for.
        assert_eq!(find(&mark), [Pid::from_raw(i32::try_from(child.id()).unwrap())]);
        let reaper = std::thread::spawn(move || child.wait());
        assert_eq!(end(&mark, Duration::from_secs(10)), 1);
        assert!(!reaper.join().unwrap().unwrap().success());
        assert!(find(&mark).is_empty());
    }
}
