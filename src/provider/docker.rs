//! Docker, as far as kind and minikube need it: is it there, does it answer, is there room.

use serde_json::Value;

use super::tool::Tool;
use crate::finding::{Class, Finding};

/// Clusters with the stack and one instance fit into this.
const DISK: u64 = 8 * GIB;
const MEMORY: u64 = 2 * GIB;
const GIB: u64 = 1 << 30;
/// Below this, the second node's kubelet says "too many open files" (kind's known issues).
const INOTIFY_INSTANCES: u64 = 256;
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
        });
    }
    let lower = said.to_ascii_lowercase();
    Err(if lower.contains("permission denied") {
        Finding::new("docker-refused", Class::Missing, "the Docker daemon refuses this user: permission denied")
            .advise("Add the user to the group docker (and log in again), or run the command as root.")
    } else if lower.contains("connect") || lower.contains("daemon running") {
        Finding::new("docker-unreachable", Class::Missing, format!("the Docker daemon does not answer: {said}"))
            .advise("Start it, for example with: systemctl start docker")
            .advise("If it runs elsewhere, set DOCKER_HOST or choose it with: docker context use")
    } else {
        docker.failed(&["info"], &ended)
    })
}

/// Checks the machine. What is too little is a finding; what may be too little is returned as warnings.
///
/// # Errors
/// A cluster would not come up.
pub fn check(engine: &Engine, nodes: u16) -> Result<Vec<String>, Finding> {
    let mut warnings = Vec::new();
    if engine.memory > 0 && engine.memory < MEMORY {
        let cause = format!("the Docker engine has {} MiB of memory, and a cluster needs 2 GiB", engine.memory >> 20);
        return Err(Finding::new("too-little-memory", Class::Missing, cause)
            .advise("Give it more, or go on without this check: --no-precheck"));
    }
    if let Ok(found) = nix::sys::statvfs::statvfs(engine.root.as_str()) {
        // These have another width on other systems.
        let free = u128::from(found.blocks_available()) * u128::from(found.fragment_size());
        if free < u128::from(DISK) {
            let cause = format!("{} has {} MiB free, and images and nodes need 8 GiB", engine.root, free >> 20);
            return Err(Finding::new("too-little-disk", Class::Missing, cause)
                .advise("Make room, for example with: docker system prune")
                .advise("Or go on without this check: --no-precheck"));
        }
    }
    let limit = fs_err::read_to_string("/proc/sys/fs/inotify/max_user_instances").ok();
    let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
    if let Some(limit) = limit.filter(|limit| nodes > 1 && *limit < INOTIFY_INSTANCES) {
        warnings.push(format!(
            "fs.inotify.max_user_instances is {limit}: several nodes may fail with \"too many open files\". \
             Raise it with: sysctl fs.inotify.max_user_instances=512"
        ));
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
    #[case(r#"{"ServerErrors":["Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"]}"#, "", 0, "docker-unreachable")]
    #[case("", "permission denied while trying to connect to the Docker daemon socket", 1, "docker-refused")]
    #[case("", "something else", 125, "tool-failed")]
    #[tokio::test]
    async fn a_daemon_that_does_not_serve_us_is_a_finding(
        #[case] stdout: &str,
        #[case] stderr: &str,
        #[case] status: i32,
        #[case] id: &str,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let finding = engine(&recorded(&directory, stdout, stderr, status)).await.unwrap_err();
        assert_eq!(finding.id, id);
    }

    #[tokio::test]
    async fn an_engine_says_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let answer = r#"{"MemTotal": 1000000, "CgroupVersion": "2", "DockerRootDir": "/nowhere/here"}"#;
        let engine = engine(&recorded(&directory, answer, "", 0)).await.unwrap();
        assert_eq!(check(&engine, 1).unwrap_err().id, "too-little-memory");
        let engine = Engine { memory: 0, ..engine };
        assert_eq!(check(&engine, 1).unwrap(), Vec::<String>::new());
        // A file system without any room.
        let full = Engine { root: "/proc".to_owned(), cgroup: "2".to_owned(), memory: 0 };
        assert_eq!(check(&full, 1).unwrap_err().id, "too-little-disk");
        assert_eq!(check(&Engine { cgroup: "1".to_owned(), ..engine }, 1).unwrap().len(), 1);
    }
}
