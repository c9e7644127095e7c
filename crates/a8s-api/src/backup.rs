//! The kinds `Backup` and `Restore`.

use crate::resource::custom_resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};

/// Condition type of a finished backup or restore.
pub const COMPLETE: &str = "Complete";
/// Condition type of a backup or restore that will not be tried again.
pub const PERMANENTLY_FAILED: &str = "PermanentlyFailed";

custom_resource!(
    /// A backup of an instance.
    Backup, BackupSpec, BackupStatus, group "backups.anynines.com", plural "backups"
);

custom_resource!(
    /// A restore of a backup into an instance.
    Restore, RestoreSpec, RestoreStatus, group "backups.anynines.com", plural "restores"
);

/// The instance a backup or restore is for. It is in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceReference {
    /// API group of the instance.
    pub api_group: String,
    /// Kind of the instance. `Postgresql` and `PostgreSQL` are both in use.
    pub kind: String,
    /// Name of the instance.
    pub name: String,
}

/// What to back up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupSpec {
    /// The instance.
    pub service_instance: InstanceReference,
    /// How often a failed attempt is repeated: a number, or `Infinite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<String>,
}

/// How far a backup is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// Identifier under which the agent in the pod knows the backup.
    #[serde(rename = "backupID", skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// Standard conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// When the newest condition was last seen to be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_observation_time: Option<Time>,
    /// `namespace/name` of the pod that makes the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_used_namespaced_name: Option<String>,
    /// UID of that pod.
    #[serde(rename = "podUsedUID", skip_serializing_if = "Option::is_none")]
    pub pod_used_uid: Option<String>,
    /// Number of attempts after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
}

/// What to restore, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSpec {
    /// Name of the Backup, in the same namespace.
    pub backup_name: String,
    /// The instance.
    pub service_instance: InstanceReference,
}

/// How far a restore is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// Standard conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// When the newest condition was last seen to be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_observation_time: Option<Time>,
    /// The pod that restores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_to_poll: Option<PodToPoll>,
    /// Identifier under which the agent in the pod knows the restore.
    #[serde(rename = "restoreID", skip_serializing_if = "Option::is_none")]
    pub restore_id: Option<String>,
}

/// The pod that restores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodToPoll {
    /// Its address.
    pub ip: String,
    /// `namespace/name`.
    pub namespaced_name: String,
    /// Its UID.
    pub uid: String,
}
