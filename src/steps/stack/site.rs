//! Where a stack is installed, and what a run has learned of it: a namespace that it has prepared needs no second look, and
//! in one that it has made there is nothing yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use a8s_operators::SYSTEM_NAMESPACE;
use kube::Client;

use crate::finding::Finding;
use crate::kubernetes::Access;

/// How a namespace came to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Found,
    /// This run has made it.
    Made,
}

/// The cluster of an installation. The parts of a plan share one.
pub struct Site {
    access: Arc<Access>,
    prepared: Mutex<BTreeMap<String, Origin>>,
}

impl Site {
    /// A cluster of which nothing is known yet.
    pub fn new(access: Arc<Access>) -> Arc<Self> {
        Arc::new(Self { access, prepared: Mutex::default() })
    }

    /// How to reach it.
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// A client for it.
    ///
    /// # Errors
    /// There is no way to it.
    pub async fn client(&self) -> Result<Client, Finding> {
        self.access.client().await
    }

    /// How a namespace came to be ready, if this run has seen to it.
    pub fn origin(&self, namespace: &str) -> Option<Origin> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).copied()
    }

    /// Whether this run has made the namespace of the stack: then none was there before, and no record of one.
    pub fn is_new(&self) -> bool {
        self.origin(SYSTEM_NAMESPACE) == Some(Origin::Made)
    }

    /// Notes that a namespace is ready.
    pub fn prepared(&self, namespace: &str, origin: Origin) {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned(), origin);
    }
}
