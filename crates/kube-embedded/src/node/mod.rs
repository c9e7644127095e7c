//! The node: it runs the pods that are bound to it, as processes of this host.
//!
//! [`Node::start`] puts it together. Each pod has a task ([`pod`]) that decides, starts containers ([`container`]) by way
//! of the [`spawner`] and the [`launcher`], and writes the pod's [`status`]. The node is a client of the API like a
//! kubelet, and answers the API server's questions ([`crate::kubelet`]).
//!
//! # What a container has
//! A view of the host's files with its own `/tmp`, `/run`, `/dev` and `/etc/hosts`, its volumes at their mount paths, an
//! address of the loopback network that nobody else listens on, and one user for all pods. Where the system allows no
//! mount namespaces ([`isolation`]), it sees the host's files and learns its paths from `A9S_MOUNT_<VOLUME>`,
//! `A9S_SERVICEACCOUNT_DIR`, `A9S_HOSTS` and `TMPDIR`.
//!
//! # What it has not
//! Limits of processor time and memory (they are told by environment and downward API only), a network, process
//! identifiers or a host name of its own, and other users than the node's `run_as`: `securityContext` is not looked at.

mod address;
mod ask;
mod backoff;
mod container;
mod context;
mod downward;
mod environment;
mod exec;
mod hosts;
pub mod isolation;
mod kubelet_api;
pub mod launcher;
mod logs;
pub mod marks;
#[expect(clippy::module_inception, reason = "the node itself, beside its parts")]
mod node;
mod options;
mod paths;
mod pod;
mod probe;
mod proxy;
mod registration;
mod services;
mod spawner;
mod status;
mod sweeper;
mod volumes;

pub use node::{Error, Node, end_processes};
pub use options::{ApiAccess, HostUser, NodeOptions, THIS_PROGRAM};
