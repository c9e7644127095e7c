//! What Backups and Restores have in common: an instance, conditions, and an order for the agent in one pod.

use super::conditions::{self, IN_PROGRESS, RESTORED, UPLOADED};
use a8s_api::backup::InstanceReference;
use a8s_api::{Backup, Restore};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// A Backup or a Restore.
pub trait Order:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// In a sentence.
    const WHAT: &'static str;
    /// The condition with which the agent answers.
    const SAID: &'static str;
    /// What keeps the object until its controller lets it go.
    const FINALIZER: &'static str;

    /// The instance it is about.
    fn instance(&self) -> &InstanceReference;
    /// Its conditions.
    fn conditions(&self) -> Option<&Vec<Condition>>;
    /// Identifier of its last order.
    fn order(&self) -> Option<&str>;
    /// UID of the pod that got its last order.
    fn pod_uid(&self) -> Option<&str>;
    /// `namespace/name` of that pod.
    fn pod_name(&self) -> Option<&str>;
    /// When something was last said about it.
    fn observed(&self) -> Option<Timestamp>;

    /// Whether its order runs, or what follows from it.
    fn is_ordered(&self) -> bool {
        conditions::is_true(self.conditions(), IN_PROGRESS)
    }

    /// Whether an agent is to work on it: the order runs, and nothing final was said of it.
    fn is_running(&self) -> bool {
        let said = conditions::get(self.conditions(), Self::SAID);
        self.is_ordered() && !conditions::is_finished(self.conditions()) && said.is_none_or(|it| it.status == "Unknown")
    }

    /// The instance that its last order was about: that one's pod is named after it.
    fn ordered_instance(&self) -> Option<&str> {
        let (_, pod) = self.pod_name()?.split_once('/')?;
        Some(pod.rsplit_once('-')?.0)
    }

    /// A reference from what it owns.
    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::api_version(&()).into_owned(),
            kind: Self::kind(&()).into_owned(),
            name: self.name_any(),
            uid: self.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }
}

impl Order for Backup {
    const WHAT: &'static str = "backup";
    const SAID: &'static str = UPLOADED;
    const FINALIZER: &'static str = "a8s.anynines.com/backup.controller";

    fn instance(&self) -> &InstanceReference {
        &self.spec.service_instance
    }
    fn conditions(&self) -> Option<&Vec<Condition>> {
        self.status.as_ref()?.conditions.as_ref()
    }
    fn order(&self) -> Option<&str> {
        self.status.as_ref()?.backup_id.as_deref()
    }
    fn pod_uid(&self) -> Option<&str> {
        self.status.as_ref()?.pod_used_uid.as_deref()
    }
    fn pod_name(&self) -> Option<&str> {
        self.status.as_ref()?.pod_used_namespaced_name.as_deref()
    }
    fn observed(&self) -> Option<Timestamp> {
        Some(self.status.as_ref()?.last_observation_time.as_ref()?.0)
    }
}

impl Order for Restore {
    const WHAT: &'static str = "restore";
    const SAID: &'static str = RESTORED;
    const FINALIZER: &'static str = "a8s.anynines.com/restore.controller";

    fn instance(&self) -> &InstanceReference {
        &self.spec.service_instance
    }
    fn conditions(&self) -> Option<&Vec<Condition>> {
        self.status.as_ref()?.conditions.as_ref()
    }
    fn order(&self) -> Option<&str> {
        self.status.as_ref()?.restore_id.as_deref()
    }
    fn pod_uid(&self) -> Option<&str> {
        Some(&self.status.as_ref()?.pod_to_poll.as_ref()?.uid)
    }
    fn pod_name(&self) -> Option<&str> {
        Some(&self.status.as_ref()?.pod_to_poll.as_ref()?.namespaced_name)
    }
    fn observed(&self) -> Option<Timestamp> {
        Some(self.status.as_ref()?.last_observation_time.as_ref()?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_order_runs_until_its_agent_has_said_how_it_ended() {
        let with = |uploaded: &str| -> Backup {
            let condition = |type_: &str, status: &str| {
                json!({"type": type_, "status": status, "reason": "R", "message": "",
                       "lastTransitionTime": "1970-01-01T00:00:01Z"})
            };
            let conditions = [condition("InProgress", "True"), condition("UploadedToS3", uploaded)];
            let status = json!({"conditions": conditions, "podUsedNamespacedName": "shop/a-1-0"});
            serde_json::from_value(json!({"status": status})).expect("a backup")
        };
        assert!(with("Unknown").is_running());
        assert!(!with("True").is_running() && with("True").is_ordered());
        assert_eq!(with("True").ordered_instance(), Some("a-1"));
        assert!(!Backup::default().is_running());
    }
}
