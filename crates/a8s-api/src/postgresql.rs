//! The kind `Postgresql`: an instance of PostgreSQL with its members, volumes and settings.

use crate::{Parameters, Quantity, resource::custom_resource};
use k8s_openapi::api::core::v1::{Affinity, ResourceClaim, ResourceRequirements, Toleration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Oldest PostgreSQL major the schema accepts.
pub const MINIMUM_VERSION: i32 = 13;
/// Newest PostgreSQL major the schema accepts.
pub const MAXIMUM_VERSION: i32 = 18;
/// Most members an instance may have. The released webhook knows no limit.
pub const MAXIMUM_REPLICAS: i64 = 99;
/// Longest name of an instance, in characters.
pub const MAXIMUM_NAME_LENGTH: usize = 52;
/// Smallest volume of a member.
pub const MINIMUM_VOLUME_SIZE: &str = "0.5Gi";
/// Size of a member's volume if the spec says nothing.
pub const DEFAULT_VOLUME_SIZE: &str = "1Gi";
/// Extensions that may be asked for.
pub const EXTENSIONS: [&str; 8] =
    ["postgis", "uuid-ossp", "ltree", "pgcrypto", "pg_stat_statements", "fuzzystrmatch", "pg_trgm", "hstore"];

custom_resource!(
    /// An instance of PostgreSQL.
    Postgresql, PostgresqlSpec, PostgresqlStatus, group "postgresql.anynines.com", plural "postgresqls"
);

/// What an instance should be. An absent field means its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostgresqlSpec {
    /// PostgreSQL major. 0 only in an object that has no spec at all, which the schema allows.
    pub version: i32,
    /// Number of members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Size of each member's volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<Quantity>,
    /// Resources of the server's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Extensions of the default database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<String>>,
    /// Whether there is a Service for reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_read_only_service: Option<bool>,
    /// Which members the Service for reading selects: `replicas` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_target_nodes: Option<String>,
    /// `Internal` or `LoadBalancer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expose: Option<String>,
    /// Settings of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// Where members may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduling_constraints: Option<SchedulingConstraints>,
}

impl PostgresqlSpec {
    /// Number of members, 1 if the spec says nothing. Nobody makes more than the most there may be, also of an instance that
    /// came past admission.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1).min(i32::try_from(MAXIMUM_REPLICAS).unwrap_or(i32::MAX))
    }

    /// Size of a member's volume.
    pub fn volume_size(&self) -> Quantity {
        self.volume_size.clone().unwrap_or_else(|| DEFAULT_VOLUME_SIZE.into())
    }

    /// Resources of the server's container.
    pub fn resources(&self) -> Resources {
        self.resources.clone().unwrap_or_else(Resources::standard)
    }
}

/// Resources of the server's container, as in `core/v1`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Claims for dynamic resource allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Vec<Claim>>,
    /// The most it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<BTreeMap<String, Quantity>>,
    /// What is reserved for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<BTreeMap<String, Quantity>>,
}

impl Resources {
    /// What an instance gets whose spec has no `resources`.
    pub fn standard() -> Self {
        let amounts = BTreeMap::from([("cpu".to_owned(), "2".into()), ("memory".to_owned(), "2Gi".into())]);
        Self { claims: None, limits: Some(amounts.clone()), requests: Some(amounts) }
    }
}

impl From<&Resources> for ResourceRequirements {
    fn from(resources: &Resources) -> Self {
        let amounts = |map: &Option<BTreeMap<String, Quantity>>| {
            map.as_ref().map(|map| map.iter().map(|(name, quantity)| (name.clone(), quantity.into())).collect())
        };
        let claims = resources.claims.as_ref().map(|claims| {
            claims.iter().map(|claim| ResourceClaim { name: claim.name.clone(), ..Default::default() }).collect()
        });
        Self { claims, limits: amounts(&resources.limits), requests: amounts(&resources.requests) }
    }
}

/// A claim for dynamic resource allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Name of an entry of the pod's `resourceClaims`.
    pub name: String,
}

/// Where members may run, as in a pod's spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SchedulingConstraints {
    /// Copied to the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Copied to the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
}

/// What the operator saw of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostgresqlStatus {
    /// `Running` or `NotRunning`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_status: Option<String>,
    /// Why it does not run as it should. Absent when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether a member has ever been ready: the instance has data since, and is not begun anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialized: Option<bool>,
    /// Number of members that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
}
