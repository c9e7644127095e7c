//! The nodes of a kind cluster, which are containers of this machine. What a scenario does to them is undone when it ends.

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::command::said;
use super::failure::Failure;
use super::preflight::Existing;
use crate::provider::kind::{LABEL, LOAD_BALANCER, ROLE, column};

/// Where an image waits that was taken off a node.
const KEPT_IMAGE: &str = "/var/lib/a9s-kept-image.tar";

/// What makes a disk too full.
const FILLER: &str = "/var/lib/a9s-filler";

/// Where the configuration of a kubelet waits that was told something else.
const KEPT_CONFIGURATION: &str = "/var/lib/kubelet/config.yaml.kept";

/// Seconds that a kubelet gets to begin and to take in the pods that run.
const TAKEN_IN: u32 = 15;

/// Nodes to which something was done. It is undone with this value.
#[derive(Debug)]
pub struct Spoilt {
    nodes: Vec<String>,
    undo: String,
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
        Self::new(cluster, at_work, &format!("{name}; {take}"), undo)
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
        Self::new(cluster, at_work, &spoil, undo)
    }

    fn new(cluster: &Existing, at_work: TaskTrackerToken, spoil: &str, undo: String) -> Result<Self, Failure> {
        // From here on it is undone, whatever comes.
        let spoilt = Self { nodes: nodes(cluster)?, undo, _at_work: at_work };
        spoilt.nodes.iter().try_for_each(|node| run(node, spoil))?;
        Ok(spoilt)
    }
}

impl Drop for Spoilt {
    fn drop(&mut self) {
        for node in &self.nodes {
            let _ = run(node, &self.undo);
        }
    }
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

fn run(node: &str, script: &str) -> Result<(), Failure> {
    said("docker", &["exec", node, "sh", "-ec", script]).map(drop)
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
