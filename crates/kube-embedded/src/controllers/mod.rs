//! The controllers of the embedded cluster: clients of the API that make come true what objects ask for.
//!
//! Each is pure in the middle: a plan is a list of [`action::Action`]s computed from what was observed. The shell around
//! it reads the committed objects, and sends the requests through a client, so the same code could run against a real
//! API server. [`engine`] decides when a controller looks.

pub mod action;
mod aggregation;
mod bootstrap;
mod endpoints;
pub mod engine;
mod error;
mod event_expiry;
mod garbage;
mod load_balancers;
mod namespace;
mod scheduler;
mod statefulset;
mod view;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use bootstrap::bootstrap;
pub use error::Error;

use crate::events::Events;
use crate::objects::Objects;

/// What the controllers have to know of the cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory in which each persistent volume is a directory. Nothing outside of it is ever touched.
    pub volumes: PathBuf,
    /// Who owns the volumes' directories (uid and gid); `None`: this process' user.
    pub volume_owner: Option<(u32, u32)>,
    /// The certificate of the cluster's authority (PEM), for the ConfigMap `kube-root-ca.crt` in each namespace.
    pub ca_pem: String,
}

/// What every controller has at hand.
#[derive(Clone)]
pub struct Context {
    client: kube::Client,
    objects: Arc<dyn Objects>,
    events: Events,
    manager: &'static str,
}

/// Runs all controllers until `shutdown`. They may be stopped at any point and started again.
pub async fn run(client: kube::Client, objects: Arc<dyn Objects>, options: Options, shutdown: CancellationToken) {
    // Ends with this function, whoever ends it.
    let shutdown = shutdown.child_token();
    let _guard = shutdown.clone().drop_guard();
    let context = Context {
        events: Events::start(client.clone(), None),
        client,
        objects: Arc::clone(&objects),
        manager: "kube-controller-manager",
    };
    if let Err(error) = volumes::clear_leftovers(&context, &options).await {
        tracing::warn!(error = %error.with_causes(), "empty directories of volumes were not cleared away");
    }
    let mut engine = engine::Engine::new(shutdown.clone());
    engine.add(namespace::Namespaces::new(context.clone(), options.ca_pem.clone()));
    engine.add(scheduler::Scheduler::new(context.clone()));
    engine.add(statefulset::StatefulSets::new(context.clone()));
    engine.add(endpoints::ServiceEndpoints::new(context.clone()));
    engine.add(load_balancers::LoadBalancers::new(context.clone()));
    engine.add(volumes::Claims::new(context.clone(), &options));
    engine.add(volumes::Volumes::new(context.clone(), &options));
    engine.add(garbage::GarbageCollector::new(context.clone()));
    engine.add(aggregation::Aggregation::new(context.clone()));
    let expiry = tokio::spawn(event_expiry::run(context, shutdown));
    engine.run(objects.as_ref()).await;
    // It ends with the same token; a panic in it was reported by the runtime.
    let _ = expiry.await;
}
