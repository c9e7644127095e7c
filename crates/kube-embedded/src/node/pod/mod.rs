//! Pods: one task each, from the first sight of the object to its end.

mod decide;
mod recover;
mod start;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::exec::Running;
use super::logs::Log;

pub use start::view_root;
pub use worker::spawn;

/// What a pod's task is told.
#[derive(Debug)]
pub enum Message {
    /// The object, as it is now.
    Changed(Arc<Pod>),
    /// The object is gone.
    Gone,
    /// A ConfigMap or Secret it may use has changed.
    MaterialChanged {
        /// Whether it is a Secret.
        is_secret: bool,
        /// Its name.
        name: String,
    },
    /// The node stops.
    Stop,
}

/// A pod of this node, as the rest of the node sees it.
pub struct Handle {
    /// Its uid.
    pub uid: String,
    messages: mpsc::UnboundedSender<Message>,
    view: Arc<Mutex<View>>,
}

/// What `logs`, `exec` and `port-forward` need of a pod.
#[derive(Default)]
pub struct View {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its address.
    pub pod_ip: Option<String>,
    /// Its containers by name.
    pub containers: BTreeMap<String, ContainerView>,
}

/// A container of a [`View`].
#[derive(Default, Clone)]
pub struct ContainerView {
    /// Its process.
    pub running: Option<Arc<Running>>,
    /// Log of the present or latest run.
    pub log: Option<Log>,
    /// Log of the run before.
    pub previous: Option<Log>,
    /// Why it waits, if it does.
    pub waiting: Option<String>,
}

impl Handle {
    /// Tells the pod's task something. It is ignored when the task has ended.
    pub fn tell(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    /// Looks at the pod.
    pub fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
