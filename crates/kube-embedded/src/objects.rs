//! Read access to the objects the store has committed, for the parts that run beside the API server.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

/// A resource of the API, without its version: `("apps", "statefulsets")`; the core group is `""`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// API group.
    pub group: String,
    /// Plural, lower-case resource name.
    pub resource: String,
}

impl GroupResource {
    /// The resource `resource` of `group`.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It is gone; the object is its last state.
    Deleted,
}

/// One committed change.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To an object of which resource.
    pub resource: GroupResource,
    /// The whole object after the change, with `apiVersion` and `kind`.
    pub object: Arc<Value>,
}

/// The committed objects. Reading neither blocks nor fails; every object is whole (`apiVersion`, `kind`, `metadata`).
pub trait Objects: Send + Sync + 'static {
    /// One object. `namespace` is `None` for cluster-scoped resources.
    fn get(&self, resource: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Value>>;

    /// All objects of a resource, in one namespace or (with `None`) in all.
    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>>;

    /// Every object of every resource, optionally only those in one namespace.
    fn all(&self, namespace: Option<&str>) -> Vec<(GroupResource, Arc<Value>)>;

    /// Every change committed from now on, in order. The receiver must keep up: it is unbounded.
    fn subscribe(&self) -> mpsc::UnboundedReceiver<Change>;
}
