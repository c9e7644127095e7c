//! The builtin a8s stack.
//!
//! In reading order: [`manifests`] (what is installed on a cluster), [`admission`] (which instances are refused),
//! [`instance`] (the controller of `Postgresql`), [`backup`] (the controllers of `Backup` and `Restore`), [`binding`]
//! (of `ServiceBinding`), [`orphans`] (what went on without its owner), [`agent`] (what runs in an instance's
//! containers), [`archive`] (the format of backups), [`store`] (the client of any S3 store), [`object_store`] (the
//! stack's own store) and [`postgresql`] (the servers of this host); [`in_cluster`] runs all but the agents as a pod.
//! `controller` is what the controllers share, `threads` starts threads.
//! Controllers speak to the Kubernetes API, the one of backups also to the store; agents to both and to their own
//! server.

pub mod admission;
pub mod agent;
pub mod archive;
pub mod backup;
pub mod binding;
mod controller;
pub mod in_cluster;
pub mod instance;
pub mod manifests;
pub mod object_store;
pub mod orphans;
pub mod postgresql;
pub mod store;
pub mod threads;

use tokio_util::sync::CancellationToken;

pub use controller::unless_absent;

/// The namespace of the stack.
pub const SYSTEM_NAMESPACE: &str = "a8s-system";

/// Clients of the API, one for each controller, with the rights of its ServiceAccount and no others.
#[derive(Clone)]
pub struct Clients {
    /// Of [`manifests::OPERATOR_ACCOUNT`]; also for bindings.
    pub instances: kube::Client,
    /// Of [`manifests::backup::ACCOUNT`].
    pub backups: kube::Client,
}

impl Clients {
    /// From what makes the client of a ServiceAccount of the stack's namespace.
    pub fn new(client: impl Fn(&str) -> kube::Client) -> Self {
        Self { instances: client(manifests::OPERATOR_ACCOUNT), backups: client(manifests::backup::ACCOUNT) }
    }
}

/// Runs the stack's controllers until `shutdown`. They watch, and need no preparation beyond the [`manifests`].
pub async fn run(clients: Clients, shutdown: CancellationToken) {
    tokio::join!(
        instance::run(clients.instances.clone(), shutdown.clone()),
        binding::run(clients.instances.clone(), shutdown.clone()),
        orphans::run(clients.instances, shutdown.clone()),
        backup::run(clients.backups, shutdown),
    );
}

/// An error and its causes in one line, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Some libraries repeat their cause in their own text, at its end or within.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_already_in_the_text_is_not_said_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read x: {0}")]
        struct AtTheEnd(#[source] std::io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start ({0}), tried once")]
        struct Within(#[source] AtTheEnd);
        #[derive(Debug, thiserror::Error)]
        #[error("no cluster")]
        struct Nowhere(#[source] Within);
        let error = Nowhere(Within(AtTheEnd(std::io::Error::other("no luck"))));
        assert_eq!(chain(&error), "no cluster: cannot start (cannot read x: no luck), tried once");
    }
}
