//! The container for backups: it carries out the orders that Backups give to its pod.
//!
//! [`desk`] reads orders and answers them, [`take`] makes one backup, with [`basebackup`] as its source. An attempt that
//! was cut off is never gone on with: the controller starts another, elsewhere in the store.

pub mod basebackup;
pub mod desk;
mod take;

use self::desk::{Desk, Said};
use self::take::Progress;
use super::environment;
use super::platform::kubernetes::Kubernetes;
use super::signals::told_to_end;
use super::{BACKUP_PORT, health};
use crate::backup::conditions::{self, RUNNING, Trouble, UPLOADED, WITHDRAWN};
use crate::backup::order::Order as _;
use crate::store::Limits;
use a8s_api::Backup;
use http::StatusCode;
use kube::ResourceExt as _;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often it is said how far a backup is. The controller takes an agent for dead that is silent for
/// [`crate::backup::plan::SILENCE`].
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The agent does not wait long for a store that has gone away: the controller starts again.
pub const LIMITS: Limits = Limits { silence: Duration::from_secs(30), patience: Duration::from_secs(20) };

/// Runs until it is told to end.
///
/// # Errors
/// If its port cannot be had.
pub async fn run(environment: environment::Backup, platform: Kubernetes) -> Result<(), health::Error> {
    let listener = health::listen(environment.pod.address, BACKUP_PORT).await?;
    let answer = |path: String| async move {
        let is_known = matches!(path.as_str(), "/liveness" | "/readiness" | "/health");
        health::status(if is_known { StatusCode::OK } else { StatusCode::NOT_FOUND })
    };
    let desk = Desk::new(platform, &environment.pod, &environment.uid);
    let work = async {
        tokio::select! {
            () = health::serve(listener, answer) => {}
            () = carry_out(Rc::new(desk), Rc::new(environment)) => {}
            () = told_to_end() => {}
        }
    };
    tokio::task::LocalSet::new().run_until(work).await;
    Ok(())
}

/// The attempt that runs.
struct Attempt {
    order: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Follows the orders for ever.
async fn carry_out(desk: Rc<Desk>, environment: Rc<environment::Backup>) {
    let (orders, mut seen) = watch::channel(Vec::<Backup>::new());
    let following = desk.clone();
    tokio::task::spawn_local(async move { following.follow(&orders).await });
    tracing::info!("ready for orders");
    let mut running: Option<Attempt> = None;
    loop {
        let orders = seen.borrow_and_update().clone();
        if let Some(attempt) = &running {
            if attempt.task.is_finished() {
                running = None;
                continue;
            }
            if !orders.iter().any(|backup| backup.order() == Some(&attempt.order)) {
                attempt.stop.cancel();
            }
        } else if let Some(backup) = orders.into_iter().next() {
            let stop = CancellationToken::new();
            let order = backup.order().unwrap_or_default().to_owned();
            let work = attempt(desk.clone(), environment.clone(), backup, stop.clone());
            running = Some(Attempt { order, stop, task: tokio::task::spawn_local(work) });
        }
        let ended = async {
            match &mut running {
                // A panic has been printed.
                Some(attempt) => drop((&mut attempt.task).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = seen.changed() => if result.is_err() { return },
            () = ended => {
                // Its answer may not have come back yet; the order must not be taken a second time.
                let done = running.take().map(|attempt| attempt.order);
                if seen.wait_for(|orders| !orders.iter().any(|backup| backup.order() == done.as_deref())).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Carries out one order and answers it.
async fn attempt(desk: Rc<Desk>, environment: Rc<environment::Backup>, backup: Backup, stop: CancellationToken) {
    let (name, order) = (backup.name_any(), backup.order().unwrap_or_default().to_owned());
    let is_taken = conditions::get(backup.conditions(), UPLOADED).is_some_and(|it| it.reason == RUNNING);
    let said = if is_taken {
        let text = "the agent that made the backup ended before it was complete";
        Err(Trouble::new("AgentRestarted", text))
    } else {
        tracing::info!(backup = name, order, "a backup is begun");
        let progress = Progress::default();
        let working = async {
            desk.insist::<Backup>(&name, &order, &Said::Working(progress.to_string())).await;
            work(&desk, &environment, &backup, &progress).await
        };
        tokio::select! {
            result = working => result,
            () = desk.tell_often::<Backup>(&name, &order, HEARTBEAT, || progress.to_string()) => unreachable!("for ever"),
            () = stop.cancelled() => Err(Trouble::new(WITHDRAWN, "the backup was taken back while it ran")),
        }
    };
    let said = match said {
        Ok(text) => {
            tracing::info!(backup = name, order, "the backup is stored: {text}");
            Said::Done(Trouble::new("Uploaded", text))
        }
        Err(trouble) => {
            tracing::warn!(backup = name, order, "the backup was not made: {}", trouble.message);
            remove_rest(&desk, &backup, &order).await;
            Said::Failed(trouble)
        }
    };
    desk.insist::<Backup>(&name, &order, &said).await;
}

async fn work(
    desk: &Desk,
    environment: &environment::Backup,
    backup: &Backup,
    progress: &Progress,
) -> Result<String, Trouble> {
    let order = backup.order().unwrap_or_default();
    let access = desk.access(&environment.pod.instance, order).await?;
    let store = desk::store(&access)?;
    let manifest = take::take(environment, &access, &store, progress).await?;
    Ok(format!("{} bytes in {} objects", manifest.summary.stored_bytes, manifest.summary.parts))
}

/// Removes what an attempt has stored. The controller does the same, but it may not hear of this agent's last object.
async fn remove_rest(desk: &Desk, backup: &Backup, order: &str) {
    let instance = backup.ordered_instance().unwrap_or_default();
    let Ok(access) = desk.access(instance, order).await else { return };
    let Ok(store) = desk::store(&access) else { return };
    if let Err(error) = store.delete_below(&access.prefix).await {
        tracing::info!("what was stored is left to the controller: {error}");
    }
}
