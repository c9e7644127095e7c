//! What a node has to be told.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::auth::tokens::ServiceAccountTokens;
use crate::image::ImageCatalogue;

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostUser {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group's id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

impl HostUser {
    /// The user with this login name; `None` if there is none (or the user database can't be read).
    pub fn named(name: &str) -> Option<Self> {
        nix::unistd::User::from_name(name).ok().flatten().map(Self::from)
    }

    /// The user this process runs as; `None` if the user database does not know it.
    pub fn current() -> Option<Self> {
        nix::unistd::User::from_uid(nix::unistd::Uid::effective()).ok().flatten().map(Self::from)
    }

    /// Whether this user may pass through a directory. Other groups than the primary one don't count: containers have
    /// none.
    pub fn may_pass(&self, directory: &Path) -> bool {
        fs_err::metadata(directory).is_ok_and(|meta| {
            let shift = match (meta.uid() == self.uid, meta.gid() == self.gid) {
                (true, _) => 6,
                (false, true) => 3,
                (false, false) => 0,
            };
            self.uid == 0 || meta.mode() >> shift & 1 == 1
        })
    }

    /// Whether this user may pass through every directory above a path without links.
    pub fn may_reach(&self, path: &Path) -> bool {
        path.ancestors().skip(1).all(|directory| self.may_pass(directory))
    }
}

impl From<nix::unistd::User> for HostUser {
    fn from(user: nix::unistd::User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
    }
}

/// How pods reach the API server.
#[derive(Clone)]
pub struct ApiAccess {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Certificate authority of its certificate.
    pub ca_pem: String,
    /// Issuer of pods' tokens.
    pub tokens: Arc<ServiceAccountTokens>,
}

/// Everything a node has to be told.
#[derive(Clone)]
pub struct NodeOptions {
    /// Name of the node object.
    pub name: String,
    /// Name of the cluster, for the mark `A9S_CLUSTER` of its processes.
    pub cluster: String,
    /// Pods' data and logs. Private to the caller, but traversable by `run_as`.
    pub directory: PathBuf,
    /// Where the cluster's persistent volumes are; same permissions. Only below it directories of claims and
    /// `hostPath`s are made and given to `run_as`.
    pub volumes: PathBuf,
    /// Directories of this host that containers with a view of their own don't see, but for what is mounted for them.
    pub hidden: Vec<PathBuf>,
    /// Short-lived files and secrets, preferably on a tmpfs; same permissions.
    pub run_directory: PathBuf,
    /// What pods can run.
    pub images: Arc<dyn ImageCatalogue>,
    /// Whom containers run as; `None`: the caller.
    pub run_as: Option<HostUser>,
    /// Address of the node itself.
    pub address: Ipv4Addr,
    /// First and last address for pods.
    pub pod_addresses: (Ipv4Addr, Ipv4Addr),
    /// The API, as pods see it.
    pub api_server: ApiAccess,
    /// Longest time that [`super::Node::stop`] gives pods, whatever their own grace period says.
    pub stop_grace: Duration,
    /// The program that calls [`super::launcher::dispatch`]. `/proc/self/exe` is this one, even after its file was
    /// replaced.
    pub launcher: PathBuf,
}

/// The program that runs: right for [`NodeOptions::launcher`] unless a test says otherwise.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_behind_a_private_directory_is_not_reachable_for_others() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs_err::write(&program, "").unwrap();
        fs_err::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = HostUser { name: "x".into(), uid: 54_321, gid: 54_321, home: "/".into() };
        assert!(!stranger.may_reach(&program) && !stranger.may_pass(directory.path()));
        assert!(stranger.may_reach(Path::new("/bin/sh")) && stranger.may_reach(Path::new("/")));
        let owner = fs_err::metadata(directory.path()).unwrap();
        assert!(HostUser { uid: owner.uid(), ..stranger.clone() }.may_pass(directory.path()));
        fs_err::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o710)).unwrap();
        assert!(HostUser { gid: owner.gid(), ..stranger.clone() }.may_pass(directory.path()));
        assert!(!stranger.may_pass(directory.path()));
    }
}
