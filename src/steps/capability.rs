//! What only one stack can do. The stack says so in a ConfigMap; where there is none, it is the released one.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::Serialize;

use crate::finding::{Finding, Id};
use crate::kubernetes::{Access, Error};
use crate::step::{Observation, Step};

/// What the released stack is called.
const UPSTREAM: &str = "upstream";

/// Something that not every stack can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// A failover on request.
    Failover,
    /// A restore into another instance than the one the backup was made of.
    RestoreInto,
    /// Objects of a backup that can be listed, and that go with it.
    BackupObjects,
    /// How far standbys are behind, without asking a server.
    ReplicationLag,
}

impl Capability {
    /// What the stack and the tags of features call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::RestoreInto => "restore-into",
            Self::BackupObjects => "backup-objects",
            Self::ReplicationLag => "replication-lag",
        }
    }
}

/// A stack, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stack {
    /// `builtin` or `upstream`.
    pub stack: String,
    /// What it can do.
    pub capabilities: Vec<String>,
}

impl Stack {
    fn of(map: Option<ConfigMap>) -> Self {
        let data = map.and_then(|map| map.data).unwrap_or_default();
        let word = |key: &str| data.get(key).map(String::as_str).unwrap_or_default();
        let stack = if word("stack").is_empty() { UPSTREAM } else { word("stack") };
        let capabilities = word("capabilities").split(',').map(str::trim).filter(|word| !word.is_empty());
        Self { stack: stack.to_owned(), capabilities: capabilities.map(str::to_owned).collect() }
    }

    /// Whether it can do something.
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.iter().any(|word| word == capability.word())
    }
}

/// The stack of a cluster.
///
/// # Errors
/// The request fails.
pub async fn stack(client: &Client) -> Result<Stack, Finding> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), a8s_operators::SYSTEM_NAMESPACE);
    let map = maps.get_opt(a8s_operators::manifests::STACK).await;
    Ok(Stack::of(map.map_err(|error| Error::request("ask what the a8s stack can do", error))?))
}

/// The stack must be able to do something.
///
/// # Errors
/// It is not, or the request fails.
pub async fn require(client: &Client, capability: Capability) -> Result<(), Finding> {
    let stack = stack(client).await?;
    if stack.can(capability) {
        return Ok(());
    }
    let cause = format!("the {} stack of this cluster has not the capability {}", stack.stack, capability.word());
    Err(Finding::new(Id::NoCapability, cause).advise("A cluster with the builtin stack has it: a9s create cluster a8s"))
}

/// The stack should be able to do something.
pub struct Capable {
    /// The cluster.
    pub access: Arc<Access>,
    /// What.
    pub capability: Capability,
}

#[async_trait]
impl Step for Capable {
    fn id(&self) -> String {
        format!("capability-{}", self.capability.word())
    }

    fn title(&self) -> String {
        format!("ask whether the stack has the capability {}", self.capability.word())
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        require(&self.access.client().await?, self.capability).await?;
        Ok(Observation::satisfied("it has it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_that_does_not_describe_itself_is_the_released_one_and_has_no_capability() {
        let stack = Stack::of(None);
        assert_eq!(stack, Stack { stack: "upstream".to_owned(), capabilities: Vec::new() });
        assert!(!stack.can(Capability::RestoreInto));
    }

    #[test]
    fn the_builtin_stack_says_what_it_can_do() {
        let map: ConfigMap = serde_json::from_value(serde_json::json!({
            "data": {"stack": "builtin", "capabilities": "failover, restore-into"},
        }))
        .unwrap();
        let stack = Stack::of(Some(map));
        assert!(stack.can(Capability::RestoreInto) && stack.can(Capability::Failover));
        assert!(!stack.can(Capability::BackupObjects));
    }
}
