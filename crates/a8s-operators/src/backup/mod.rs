//! The controllers of `Backup` and `Restore`.
//!
//! The middle is pure: [`plan`] says what to do next about a Backup, [`restoring`] about a Restore, from what
//! [`conditions`] carry. [`shell`] is what both controllers share (reading, writing, the way to the store),
//! [`backups`] and [`restores`] carry out. Agents do the work: an order is a few fields of a status, [`access`] is what
//! lets one agent carry it out, and the agent answers with a condition.
//!
//! An instance has one order at a time: what comes later waits, and says for what.

pub mod access;
mod backups;
pub mod conditions;
pub mod order;
pub mod plan;
mod restores;
pub mod restoring;
mod shell;

use tokio_util::sync::CancellationToken;

/// Component that reports events. The API server notes under the same name who owns a field.
const COMPONENT: &str = "backup-manager";

/// Runs both controllers until `shutdown`.
pub async fn run(client: kube::Client, shutdown: CancellationToken) {
    let context = shell::Context::new(client);
    tokio::join!(backups::run(context.clone(), shutdown.clone()), restores::run(context, shutdown));
}
