//! The controllers of `Backup` and `Restore`.
//!
//! The middle is pure: [`plan`] says what to do next about a Backup, [`restoring`] about a Restore, from what
//! [`conditions`] carry. [`rounds`] is the loop of both controllers, [`shell`] what else they share (reading, writing,
//! the way to the store), [`backups`] and [`restores`] carry out. Agents do the work: an order is a few fields of a
//! status, [`access`] is what lets one agent carry it out, and the agent answers with a condition.
//!
//! An instance has one order at a time: what comes later waits, and says for what.

pub mod access;
mod backups;
pub mod conditions;
pub mod order;
pub mod plan;
mod restores;
pub mod restoring;
mod rounds;
mod shell;

use a8s_api::{Backup, Restore};
use tokio_util::sync::CancellationToken;

/// Component that reports events. The API server notes under the same name who owns a field.
const COMPONENT: &str = "backup-manager";

/// Runs both controllers until `shutdown`.
pub async fn run(client: kube::Client, shutdown: CancellationToken) {
    let context = shell::Context::new(client);
    tokio::join!(rounds::run::<Backup>(context.clone(), shutdown.clone()), rounds::run::<Restore>(context, shutdown));
}
