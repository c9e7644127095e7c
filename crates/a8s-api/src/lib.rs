//! The a8s custom resources as Rust types, and their CustomResourceDefinitions.
//!
//! Modules in reading order: [`resource`] (what all kinds share), [`postgresql`] with its [`parameters`], [`backup`]
//! (backups and restores), [`binding`], [`quantity`], and [`crd`], which turns all of it into the four definitions.
//! No I/O and no behaviour of a controller here.

pub mod backup;
pub mod binding;
pub mod crd;
pub mod parameters;
pub mod postgresql;
pub mod quantity;
pub mod resource;
mod schema;

pub use backup::{Backup, BackupSpec, BackupStatus, InstanceReference, PodToPoll, Restore, RestoreSpec, RestoreStatus};
pub use binding::{BoundInstance, SecretReference, ServiceBinding, ServiceBindingSpec, ServiceBindingStatus};
pub use crd::crds;
pub use parameters::Parameters;
pub use postgresql::{Postgresql, PostgresqlSpec, PostgresqlStatus, Resources, SchedulingConstraints};
pub use quantity::Quantity;

/// The one version of all four kinds.
pub const VERSION: &str = "v1beta3";

/// Label that names the API group of the instance an object belongs to.
pub const LABEL_GROUP: &str = "a8s.a9s/dsi-group";
/// Label that names the kind of the instance an object belongs to.
pub const LABEL_KIND: &str = "a8s.a9s/dsi-kind";
/// Label that names the instance an object belongs to.
pub const LABEL_NAME: &str = "a8s.a9s/dsi-name";
/// Label of a member's pod: `master` or `replica`.
pub const LABEL_ROLE: &str = "a8s.a9s/replication-role";
/// Keys that users must not set on a `Postgresql`.
pub const RESERVED_LABELS: [&str; 4] = [LABEL_NAME, LABEL_GROUP, LABEL_KIND, LABEL_ROLE];
