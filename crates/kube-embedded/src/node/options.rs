//! What a node has to be told.

use std::net::Ipv4Addr;
use std::path::PathBuf;
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
    /// Where the cluster's persistent volumes are. Only below it directories of claims and `hostPath`s are made and
    /// given to `run_as`.
    pub volumes: PathBuf,
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
