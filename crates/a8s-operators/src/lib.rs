//! The builtin a8s stack.
//!
//! In reading order: [`manifests`] (what is installed on a cluster), [`admission`] (which instances are refused),
//! [`instance`] (the controller of `Postgresql`), [`agent`] (what runs in an instance's containers) and [`postgresql`]
//! (the servers of this host); [`in_cluster`] runs all but the agents as a pod. Controllers speak to the Kubernetes API only; agents also to their own server.

pub mod admission;
pub mod agent;
pub mod in_cluster;
pub mod instance;
pub mod manifests;
pub mod postgresql;

use tokio_util::sync::CancellationToken;

/// The namespace of the stack.
pub const SYSTEM_NAMESPACE: &str = "a8s-system";

/// What the operators need to know beside their client.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace of the stack's own objects: its ConfigMap `postgresql-images` is read.
    pub namespace: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { namespace: SYSTEM_NAMESPACE.to_owned() }
    }
}

/// Runs the stack's controllers until `shutdown`. They watch, and need no preparation beyond the [`manifests`].
pub async fn run(client: kube::Client, options: Options, shutdown: CancellationToken) {
    instance::run(client, options, shutdown).await;
}
