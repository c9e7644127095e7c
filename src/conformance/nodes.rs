//! What a scenario does to the nodes of a cluster, or to else what all scenarios share: it is undone when it ends.
//! The nodes of a kind cluster are containers of this machine.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::command::{callers_variables, said};
use super::failure::Failure;
use super::preflight::Existing;
use super::stage::Stage;
use crate::provider::kind::{LABEL, LOAD_BALANCER, ROLE, column};

/// Where an image waits that was taken off a node.
const KEPT_IMAGE: &str = "/var/lib/a9s-kept-image.tar";

/// What makes a disk too full.
const FILLER: &str = "/var/lib/a9s-filler";

/// Where the configuration of a kubelet waits that was told something else.
const KEPT_CONFIGURATION: &str = "/var/lib/kubelet/config.yaml.kept";

/// Seconds that a kubelet gets to begin and to take in the pods that run.
const TAKEN_IN: u32 = 15;

/// How often something is tried to be undone: a node or an API server may be away for a moment.
const TRIES: usize = 4;

/// Between two of these.
const PAUSE: Duration = Duration::from_secs(3);

/// What was done to a cluster. It is undone with this value, the last thing first. What cannot be undone is told when the
/// run ends: the scenario may have been cut off, and tells nothing any more.
#[derive(Debug)]
pub struct Spoilt {
    undo: Vec<Command>,
    _at_work: TaskTrackerToken,
}

impl Spoilt {
    /// Takes an image off all nodes of a cluster. Containers that run it go on.
    ///
    /// # Errors
    /// There are no such nodes, or they do not have it.
    pub fn without_image(cluster: &Existing, at_work: TaskTrackerToken, image: &str) -> Result<Self, Failure> {
        let name = format!("name=$(ctr -n k8s.io images list -q | grep -Ex '(.*/)?{}')", image.replace('.', "\\."));
        let take = format!("ctr -n k8s.io images export {KEPT_IMAGE} \"$name\"; ctr -n k8s.io images remove \"$name\"");
        let undo = format!("! [ -e {KEPT_IMAGE} ] || {{ ctr -n k8s.io images import {KEPT_IMAGE}; rm {KEPT_IMAGE}; }}");
        Self::on_nodes(cluster, at_work, &format!("{name}; {take}"), &undo)
    }

    /// Lets all nodes of a cluster find that their disks are too full. A soft threshold: nothing is evicted for an hour
    /// (Kubernetes documentation, "Node-pressure Eviction"). But a kubelet that begins takes in the pods that run as if they
    /// were new, and none of them when it is under pressure: so it begins without, and a file brings it below the threshold.
    ///
    /// # Errors
    /// There are no such nodes, or they cannot be told.
    pub fn short_of_disk(cluster: &Existing, at_work: TaskTrackerToken) -> Result<Self, Failure> {
        let spoil = format!(
            "cd /var/lib/kubelet; cp config.yaml {KEPT_CONFIGURATION}; \
             least=$(($(df --output=avail --block-size=1M . | tail -n 1) - 1024)); \
             echo \"evictionSoft: {{nodefs.available: ${{least}}Mi}}\" >>config.yaml; \
             echo 'evictionSoftGracePeriod: {{nodefs.available: 1h}}' >>config.yaml; \
             systemctl restart kubelet; sleep {TAKEN_IN}; \
             fallocate -l 2G {FILLER}"
        );
        let undo = format!(
            "rm -f {FILLER}; cd /var/lib/kubelet; ! [ -e {KEPT_CONFIGURATION} ] || \
             {{ mv {KEPT_CONFIGURATION} config.yaml; systemctl restart kubelet; }}"
        );
        Self::on_nodes(cluster, at_work, &spoil, &undo)
    }

    /// What commands undo that is yet to be done.
    pub fn undone_by(undo: Vec<Command>, at_work: TaskTrackerToken) -> Self {
        Self { undo, _at_work: at_work }
    }

    fn on_nodes(cluster: &Existing, at_work: TaskTrackerToken, spoil: &str, undo: &str) -> Result<Self, Failure> {
        let nodes = nodes(cluster)?;
        // From here on it is undone, whatever comes.
        let spoilt = Self { undo: nodes.iter().map(|node| on_node(node, undo)).collect(), _at_work: at_work };
        for node in &nodes {
            said("docker", &["exec", node, "sh", "-ec", spoil])?;
        }
        Ok(spoilt)
    }
}

impl Drop for Spoilt {
    fn drop(&mut self) {
        for undo in self.undo.iter_mut().rev() {
            if let Err(why) = carry_out(undo) {
                Stage::get().note_left(why);
            }
        }
    }
}

/// Runs what undoes something, again if it must be, and says what it was and why it failed.
fn carry_out(undo: &mut Command) -> Result<(), String> {
    let mut why = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            thread::sleep(PAUSE);
        }
        why = match undo.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                if has_nothing_to_undo(undo, &said) {
                    return Ok(());
                }
                format!("{}, {said}", output.status)
            }
            Err(error) => error.to_string(),
        };
    }
    let words = std::iter::once(undo.get_program()).chain(undo.get_args()).map(|word| word.to_string_lossy());
    let line = words.collect::<Vec<_>>().join(" ");
    Err(format!("what was done to the cluster: `{line}` failed: {why}"))
}

/// A scenario that has undone something itself has left `kubectl` nothing to find.
fn has_nothing_to_undo(undo: &Command, said: &str) -> bool {
    let is_kubectl = Path::new(undo.get_program()).ends_with("kubectl");
    is_kubectl && !said.is_empty() && said.lines().all(|line| line.contains("not found"))
}

/// What the nodes of a cluster still have of what was done to them.
///
/// # Errors
/// There are no such nodes, or they cannot be asked.
pub fn left(cluster: &Existing) -> Result<Vec<String>, Failure> {
    let look = format!("ls -d {KEPT_IMAGE} {FILLER} {KEPT_CONFIGURATION} 2>/dev/null || true");
    let mut left = Vec::new();
    for node in nodes(cluster)? {
        let found = said("docker", &["exec", &node, "sh", "-ec", &look])?;
        left.extend(found.lines().map(|file| format!("{file} of {node}")));
    }
    Ok(left)
}

/// Empties a directory, but for itself, on the node of a cluster that has something in it.
///
/// # Errors
/// There are no such nodes, none has anything there, or it can't be removed.
pub fn empty(cluster: &Existing, directory: &Path) -> Result<(), Failure> {
    let script = r#"[ -z "$(ls -A "$1" 2>/dev/null)" ] || { find "$1" -mindepth 1 -delete; echo emptied; }"#;
    let directory = directory.to_string_lossy();
    let mut is_emptied = false;
    for node in nodes(cluster)? {
        is_emptied |= !said("docker", &["exec", &node, "sh", "-ec", script, "sh", &directory])?.is_empty();
    }
    if is_emptied { Ok(()) } else { Err(Failure::Missing("content of the volume on a node")) }
}

fn on_node(node: &str, script: &str) -> Command {
    let mut command = Command::new("docker");
    command.args(["exec", node, "sh", "-ec", script]);
    command
}

/// Where the engine of the nodes is, as the caller's environment says it (Docker documentation, "Environment variables").
pub fn engine() -> impl Iterator<Item = (String, String)> {
    callers_variables().filter(|(name, _)| name.starts_with("DOCKER_"))
}

fn nodes(cluster: &Existing) -> Result<Vec<String>, Failure> {
    let name = cluster.context.strip_prefix("kind-").ok_or(Failure::Missing("kind cluster"))?;
    let format = format!("{{{{.Names}}}} {}", column(ROLE));
    let listed = said("docker", &["ps", "--filter", &format!("label={LABEL}={name}"), "--format", &format])?;
    let containers = listed.lines().filter_map(|line| line.split_once(' '));
    let nodes: Vec<String> =
        containers.filter(|(_, role)| *role != LOAD_BALANCER).map(|(name, _)| name.to_owned()).collect();
    if nodes.is_empty() { Err(Failure::Missing("container of a node")) } else { Ok(nodes) }
}

/// Why nothing can be done to the nodes of a cluster, if so.
pub fn lacking(cluster: Option<&Existing>) -> Option<String> {
    let is_there = cluster.is_some_and(|cluster| nodes(cluster).is_ok());
    (!is_there).then(|| "it needs a kind cluster whose nodes are containers of this machine".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_any_more_needs_no_undoing() {
        assert_eq!(carry_out(&mut Command::new("true")), Ok(()));
        let kubectl = Command::new("/usr/bin/kubectl");
        assert!(has_nothing_to_undo(&kubectl, "error: taint \"dedicated\" not found"));
        assert!(!has_nothing_to_undo(&kubectl, "Unable to connect to the server: EOF"));
        assert!(!has_nothing_to_undo(&Command::new("docker"), "sh: 1: ctr: not found"));
    }
}
