//! Objects for tests, in memory.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::tokens::{Subject, TokenRequest};
use crate::objects::{Change, GroupResource, Objects};

/// A token of the account `app` in the namespace `ns`, in its life `u1`.
pub fn token_request(ttl: Duration) -> TokenRequest {
    let account = Subject { name: "app".to_owned(), uid: "u1".to_owned() };
    TokenRequest { namespace: "ns".to_owned(), account, pod: None, audiences: Vec::new(), ttl }
}

/// A fixed set of objects.
#[derive(Default)]
pub struct Fixture(Vec<(GroupResource, Arc<Value>)>);

impl Fixture {
    pub fn with(mut self, group: &str, resource: &str, object: Value) -> Self {
        self.0.push((GroupResource::new(group, resource), Arc::new(object)));
        self
    }

    pub fn rbac(self, resource: &str, object: Value) -> Self {
        self.with("rbac.authorization.k8s.io", resource, object)
    }

    /// A ClusterRole of one rule, bound to `user` everywhere.
    pub fn cluster_grant(self, user: &str, name: &str, rules: Value) -> Self {
        self.rbac("clusterroles", json!({"metadata": {"name": name}, "rules": rules})).rbac(
            "clusterrolebindings",
            json!({
                "metadata": {"name": format!("{name}-{user}")},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            }),
        )
    }
}

impl Objects for Fixture {
    fn get(&self, resource: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Value>> {
        self.list(resource, namespace).into_iter().find(|object| object["metadata"]["name"] == name)
    }

    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.all(namespace).into_iter().filter(|(of, _)| of == resource).map(|(_, object)| object).collect()
    }

    fn all(&self, namespace: Option<&str>) -> Vec<(GroupResource, Arc<Value>)> {
        let inside = |object: &Value| namespace.is_none_or(|name| object["metadata"]["namespace"] == name);
        self.0.iter().filter(|(_, object)| inside(object)).cloned().collect()
    }

    fn subscribe(&self) -> mpsc::UnboundedReceiver<Change> {
        mpsc::unbounded_channel().1
    }
}
