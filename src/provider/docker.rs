//! Docker, as far as kind and minikube need it: is it there, does it answer, is there room.

use serde_json::Value;

use super::tool::{self, Tool};
use crate::finding::{Finding, Id};
use crate::step::Context;

/// The oldest engine that kind and minikube name as good enough.
const OLDEST: (u32, u32, u32) = (20, 10, 0);
/// Clusters with the stack and one instance fit into this.
const DISK: u64 = 8 * GIB;
const MEMORY: u64 = 2 * GIB;
/// What each further node takes: kubelet, runtime, network.
const NODE: u64 = GIB / 2;
const GIB: u64 = 1 << 30;
/// Below this, the second node's kubelet says "too many open files" (kind's known issues).
const INOTIFY_INSTANCES: u64 = 256;
const INOTIFY_WATCHES: u64 = 65_536;
/// Processes and threads of a node with the stack, generously.
const PROCESSES: u64 = 2_048;
/// Where the engine keeps images unless it says otherwise.
const ROOT: &str = "/var/lib/docker";

/// The program `docker`.
pub fn docker() -> Tool {
    Tool::new("docker", "https://docs.docker.com/engine/install/")
}

/// What an engine says of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Engine {
    /// Memory of the machine it runs on, in bytes; 0 where it does not say.
    pub memory: u64,
    /// `1` or `2`.
    pub cgroup: String,
    /// Where it keeps images, seen from its own machine.
    pub root: String,
    /// Its version; empty where it does not say.
    pub version: String,
}

/// Limits of this machine, or of the container we are in; `None` where there is none, or none to be read.
#[derive(Debug, Clone, Default)]
struct Limits {
    instances: Option<u64>,
    watches: Option<u64>,
    memory: Option<u64>,
    processes: Option<u64>,
}

impl Limits {
    fn of_this_machine() -> Self {
        // The limits of a control group say "max" where there is none; the root of a machine has no such files.
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
        Self {
            instances: number("/proc/sys/fs/inotify/max_user_instances"),
            watches: number("/proc/sys/fs/inotify/max_user_watches"),
            memory: number("/sys/fs/cgroup/memory.max"),
            processes: number("/sys/fs/cgroup/pids.max"),
        }
    }
}

/// Whether the engine is one of this machine, as far as its address says.
async fn is_here(docker: &Tool) -> bool {
    let of_user = crate::caller::given("DOCKER_HOST").and_then(|host| host.into_string().ok());
    let of_context = ["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"];
    let host = match of_user {
        Some(host) => host,
        // Not every program that answers as docker does has contexts.
        None => docker.run(&of_context).await.unwrap_or_default(),
    };
    is_local(host.trim())
}

/// Whether an engine at this address is one of this machine; without any, it is.
fn is_local(host: &str) -> bool {
    host.is_empty() || ["unix:", "npipe:", "fd:"].iter().any(|scheme| host.starts_with(scheme))
}

/// Asks the engine.
///
/// # Errors
/// There is no docker, its daemon does not answer, or refuses us.
pub async fn engine(docker: &Tool) -> Result<Engine, Finding> {
    let ended = docker.end_of(&["info", "--format", "{{json .}}"], None).await?;
    let answer: Value = serde_json::from_str(ended.stdout.trim()).unwrap_or_default();
    // An unreachable daemon's client says so in its answer, with exit status 0 or 1 depending on its version.
    let errors: Vec<&str> = answer["ServerErrors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let said = if errors.is_empty() { ended.stderr.trim().to_owned() } else { errors.join(" ") };
    if ended.success && errors.is_empty() {
        return Ok(Engine {
            memory: answer["MemTotal"].as_u64().unwrap_or(0),
            cgroup: answer["CgroupVersion"].as_str().unwrap_or("1").to_owned(),
            root: answer["DockerRootDir"].as_str().unwrap_or(ROOT).to_owned(),
            version: answer["ServerVersion"].as_str().unwrap_or_default().to_owned(),
        });
    }
    let lower = said.to_ascii_lowercase();
    Err(if lower.contains("permission denied") {
        Finding::new(Id::DockerRefused, "the Docker daemon refuses this user: permission denied")
            .advise("Add the user to the group docker (and log in again), or run the command as root.")
    } else if lower.contains("connect") || lower.contains("daemon running") {
        Finding::new(Id::DockerUnreachable, format!("the Docker daemon does not answer: {said}"))
            .advise("Start it, for example with: systemctl start docker")
            .advise("If it runs elsewhere, set DOCKER_HOST or choose it with: docker context use")
    } else {
        docker.failed(&["info"], &ended)
    })
}

/// Asks docker; where it fails, the reason is looked for in what the daemon says.
///
/// # Errors
/// It is not installed, its daemon does not answer or refuses us, or the command fails.
pub async fn ask(docker: &Tool, arguments: &[&str]) -> Result<String, Finding> {
    match docker.run(arguments).await {
        Err(finding) if finding.id == Id::ToolFailed => match engine(docker).await {
            Err(reason) => Err(reason),
            Ok(_) => Err(finding),
        },
        answer => answer,
    }
}

/// Checks the machine for a cluster of so many nodes.
///
/// # Errors
/// It would not come up.
pub async fn precheck(docker: &Tool, engine: &Engine, nodes: u16, context: &Context) -> Result<(), Finding> {
    // Not every program that answers as docker does has a version like it.
    if tool::version(&engine.version).is_some() {
        tool::require(docker, &engine.version, OLDEST)?;
    }
    let limits = if is_here(docker).await { Some(Limits::of_this_machine()) } else { None };
    for warning in check(engine, limits.as_ref(), nodes)? {
        context.warn(warning);
    }
    Ok(())
}

/// What is too little is a finding; what may be too little is returned as warnings. Of an engine that is elsewhere, disk
/// and limits of the machine are not known.
fn check(engine: &Engine, here: Option<&Limits>, nodes: u16) -> Result<Vec<String>, Finding> {
    let mut warnings = Vec::new();
    let limits = here.cloned().unwrap_or_default();
    let memory = [Some(engine.memory).filter(|memory| *memory > 0), limits.memory].into_iter().flatten().min();
    if let Some(memory) = memory.filter(|memory| *memory < MEMORY) {
        let cause = format!("the Docker engine has {} MiB of memory, and a cluster needs 2 GiB", memory >> 20);
        return Err(
            Finding::new(Id::TooLittleMemory, cause).advise("Give it more, or go on without this check: --no-precheck")
        );
    }
    let wanted = MEMORY + NODE * u64::from(nodes.saturating_sub(1));
    if let Some(memory) = memory.filter(|memory| *memory < wanted) {
        warnings.push(format!(
            "the Docker engine has {} MiB of memory: {nodes} nodes need about {} MiB. Fewer are made with --cluster-nr-of-nodes",
            memory >> 20,
            wanted >> 20
        ));
    }
    let root = here.and_then(|_| nix::sys::statvfs::statvfs(engine.root.as_str()).ok());
    if let Some(found) = root {
        // These have another width on other systems.
        let free = u128::from(found.blocks_available()) * u128::from(found.fragment_size());
        if free < u128::from(DISK) {
            let cause = format!("{} has {} MiB free, and images and nodes need 8 GiB", engine.root, free >> 20);
            return Err(Finding::new(Id::TooLittleDisk, cause)
                .advise("Make room, for example with: docker system prune")
                .advise("Or go on without this check: --no-precheck"));
        }
    }
    let inotify = [
        ("fs.inotify.max_user_instances", limits.instances, INOTIFY_INSTANCES, 512),
        ("fs.inotify.max_user_watches", limits.watches, INOTIFY_WATCHES, 524_288),
    ];
    for (name, limit, least, good) in inotify {
        if let Some(limit) = limit.filter(|limit| nodes > 1 && *limit < least) {
            warnings.push(format!(
                "{name} is {limit}: several nodes may fail with \"too many open files\". Raise it with: sysctl {name}={good}"
            ));
        }
    }
    let processes = PROCESSES * u64::from(nodes.max(1));
    if let Some(limit) = limits.processes.filter(|limit| *limit < processes) {
        warnings
            .push(format!("this machine may run {limit} processes and threads (pids.max): {nodes} nodes need more"));
    }
    if engine.cgroup == "1" {
        warnings.push("this machine has cgroup v1, which newer node images no longer support".to_owned());
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rstest::rstest;

    use super::*;

    /// A `docker` that says this and ends with that status.
    fn recorded(directory: &tempfile::TempDir, stdout: &str, stderr: &str, status: i32) -> Tool {
        let path = directory.path().join("docker");
        let script = format!("#!/bin/sh\ncat <<'X'\n{stdout}\nX\ncat >&2 <<'X'\n{stderr}\nX\nexit {status}\n");
        fs_err::write(&path, script).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        docker().at(&path)
    }

    #[rstest]
    #[case(r#"{"ServerErrors":["Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"]}"#, "", 0, Id::DockerUnreachable)]
    #[case("", "permission denied while trying to connect to the Docker daemon socket", 1, Id::DockerRefused)]
    #[case("", "something else", 125, Id::ToolFailed)]
    #[tokio::test]
    async fn a_daemon_that_does_not_serve_us_is_a_finding(
        #[case] stdout: &str,
        #[case] stderr: &str,
        #[case] status: i32,
        #[case] id: Id,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let finding = engine(&recorded(&directory, stdout, stderr, status)).await.unwrap_err();
        assert_eq!(finding.id, id);
    }

    fn here(memory: u64) -> Engine {
        Engine { memory, cgroup: "2".to_owned(), root: "/nowhere/here".to_owned(), version: String::new() }
    }

    #[tokio::test]
    async fn an_engine_says_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let answer =
            r#"{"MemTotal": 1000000, "CgroupVersion": "2", "DockerRootDir": "/nowhere/here", "ServerVersion": "28.1"}"#;
        let engine = engine(&recorded(&directory, answer, "", 0)).await.unwrap();
        assert_eq!(engine, Engine { version: "28.1".to_owned(), ..here(1_000_000) });
    }

    #[test]
    fn what_is_too_little_is_a_finding() {
        let none = Limits::default();
        assert_eq!(check(&here(1_000_000), Some(&none), 1).unwrap_err().id, Id::TooLittleMemory);
        assert_eq!(check(&here(0), Some(&none), 1).unwrap(), Vec::<String>::new());
        let container = Limits { memory: Some(GIB), ..Limits::default() };
        assert_eq!(check(&here(8 * GIB), Some(&container), 1).unwrap_err().id, Id::TooLittleMemory);
        // File systems without any room.
        let root = if cfg!(target_os = "linux") { "/proc" } else { "/dev" };
        let full = Engine { root: root.to_owned(), ..here(0) };
        assert_eq!(check(&full, Some(&none), 1).unwrap_err().id, Id::TooLittleDisk);
        assert_eq!(check(&full, None, 1).unwrap(), Vec::<String>::new(), "the disk is of another machine");
    }

    #[rstest]
    #[case("", true)]
    #[case("unix:///var/run/docker.sock", true)]
    #[case("ssh://user@example.com", false)]
    #[case("tcp://10.0.0.1:2376", false)]
    fn an_engine_at_a_socket_is_one_of_this_machine(#[case] host: &str, #[case] local: bool) {
        assert_eq!(is_local(host), local);
    }

    #[rstest]
    #[case(here(2 * GIB), Limits::default(), 3, "3 nodes need about 3072 MiB")]
    #[case(here(0), Limits { instances: Some(128), ..Limits::default() }, 3, "sysctl fs.inotify.max_user_instances=512")]
    #[case(here(0), Limits { watches: Some(8192), ..Limits::default() }, 3, "sysctl fs.inotify.max_user_watches=524288")]
    #[case(here(0), Limits { processes: Some(1000), ..Limits::default() }, 1, "pids.max")]
    #[case(Engine { cgroup: "1".to_owned(), ..here(0) }, Limits::default(), 1, "cgroup v1")]
    fn what_may_be_too_little_is_warned_of(
        #[case] engine: Engine,
        #[case] limits: Limits,
        #[case] nodes: u16,
        #[case] word: &str,
    ) {
        let warnings = check(&engine, Some(&limits), nodes).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains(word), "{warnings:?}");
    }
}
