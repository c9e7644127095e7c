//! What all pods of a node share.

use std::sync::Arc;

use tokio::sync::watch;

use super::address::Addresses;
use super::downward::Capacity;
use super::hosts::Names;
use super::isolation::Isolation;
use super::options::NodeOptions;
use super::spawner::Spawner;
use crate::events::Events;

/// The name under which the node's events appear.
pub const COMPONENT: &str = "kubelet";

/// What all pods of a node share.
pub struct Context {
    /// The API.
    pub client: kube::Client,
    /// What the node was told.
    pub options: NodeOptions,
    /// Starts processes.
    pub spawner: Spawner,
    /// Writes events.
    pub events: Events,
    /// Pods' addresses.
    pub addresses: Addresses,
    /// What the machine has.
    pub capacity: Capacity,
    /// What the machine allows.
    pub isolation: Isolation,
    /// Identifies the node's directory in marks.
    pub node_id: String,
    /// Identifies this run of the node in marks.
    pub run_id: String,
    /// Names of Services and their pods.
    pub names: watch::Receiver<Arc<Names>>,
    /// True when no process of an earlier run is left.
    pub is_clean: watch::Receiver<bool>,
}
