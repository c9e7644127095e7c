//! The controllers of `ServiceBinding`.
//!
//! [`controller`] sees to one binding at a time: its Secret, its status, its end; what it does is decided by [`plan`],
//! which is pure. [`logins`] sees to one instance at a time: the Secret `X-logins`, from which the agent of the primary
//! learns which roles there should be (see [`crate::agent::logins`]). Passwords are in the bindings' Secrets only.

pub mod controller;
pub mod logins;
pub mod plan;
pub mod secret;

use tokio_util::sync::CancellationToken;

/// Finalizer of bindings and of their Secrets.
pub const FINALIZER: &str = "a8s.anynines.com/servicebinding.controller";
/// Component that reports events. The API server notes under the same name who owns a field.
pub const COMPONENT: &str = "service-binding-controller";

/// Runs both until `shutdown`.
pub async fn run(client: kube::Client, shutdown: CancellationToken) {
    let refusals = logins::Refusals::default();
    tokio::join!(
        controller::run(client.clone(), refusals.clone(), shutdown.clone()),
        logins::run(client, refusals, shutdown),
    );
}
