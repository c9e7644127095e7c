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
use crate::backup::access::Access;
use crate::backup::conditions::{self, RUNNING, Trouble, UPLOADED, WITHDRAWN};
use crate::backup::order::Order as _;
use crate::store::{Limits, Store};
use a8s_api::Backup;
use http::StatusCode;
use kube::ResourceExt as _;
use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often it is said how far a backup is. The controller takes an agent for dead that is silent for
/// [`crate::backup::plan::SILENCE`].
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The agent does not wait long for a store that has gone away: the controller starts again.
pub const LIMITS: Limits = Limits { silence: Duration::from_secs(30), patience: Duration::from_secs(20) };
/// How long an answer waits until what was stored is removed: the store may have gone away, and the controller removes
/// it, too.
const REMOVAL: Duration = Duration::from_secs(3);

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
    let way = OnceCell::new();
    let said = if is_taken {
        // What is stored by then is removed below, if that can be.
        let _ = find(&desk, &environment, &order, &way).await;
        let text = "the agent that made the backup ended before it was complete";
        Err(Trouble::new("AgentRestarted", text))
    } else {
        tracing::info!(backup = name, order, "a backup is begun");
        let progress = Progress::default();
        let working = async {
            desk.insist::<Backup>(&name, &order, &Said::Working(progress.to_string())).await;
            work(&desk, &environment, &order, &progress, &way).await
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
            Said::Failed(trouble)
        }
    };
    end(&desk, &name, &order, &said, way.get()).await;
}

/// Where the objects of an attempt are, and the client for them. It is kept to the attempt's end: who is to remove them
/// when the Backup is gone finds no Secret.
type Way = (Access, Store);

/// Finds the way once.
async fn find<'a>(
    desk: &Desk,
    environment: &environment::Backup,
    order: &str,
    way: &'a OnceCell<Way>,
) -> Result<&'a Way, Trouble> {
    let access = desk.access(&environment.pod.instance, order).await?;
    let store = desk.store(&access).await?;
    Ok(way.get_or_init(|| (access, store)))
}

async fn work(
    desk: &Desk,
    environment: &environment::Backup,
    order: &str,
    progress: &Progress,
    way: &OnceCell<Way>,
) -> Result<String, Trouble> {
    let (access, store) = find(desk, environment, order, way).await?;
    let manifest = take::take(environment, access, store, progress).await?;
    Ok(format!("{} bytes in {} objects", manifest.summary.stored_bytes, manifest.summary.parts))
}

/// Answers an order. What nobody wants does not stay in the store: the controller removes it, too, but it may have done
/// so before this agent's last object, and have let the Backup go while the agent did not reach the API.
async fn end(desk: &Desk, name: &str, order: &str, said: &Said, way: Option<&Way>) {
    if matches!(said, Said::Failed(_)) && timeout(REMOVAL, remove_rest(way)).await.is_err() {
        tracing::warn!("what was stored is left to the controller: the store takes too long");
    }
    if !desk.insist::<Backup>(name, order, said).await {
        tracing::info!(backup = name, order, "nobody wants the backup any more");
        remove_rest(way).await;
    }
}

/// Removes what an attempt has stored.
async fn remove_rest(way: Option<&Way>) {
    if let Some((access, store)) = way
        && let Err(error) = store.delete_below(&access.prefix).await
    {
        tracing::warn!("what was stored is left to the controller: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::environment::Pod;
    use crate::archive::keys::DataKey;
    use crate::store::Names;
    use crate::store::tests::{answer, config, credentials, server};
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    /// An agent's desk at an API server that gives one answer to everything.
    fn desk(code: u16, answer: &Value) -> Desk {
        let answer = answer.to_string().into_bytes();
        let service = tower::service_fn(move |_: Request<Body>| {
            let response = Response::builder().status(code).body(Body::from(answer.clone())).expect("a response");
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let pod = Pod {
            instance: "solo".into(),
            name: "solo-0".into(),
            namespace: "shop".into(),
            address: [127, 64, 0, 9].into(),
            socket_directory: "/s".into(),
        };
        let platform = Kubernetes::new(&pod, &|_: &str| None).with_client(kube::Client::new(service, "shop"));
        Desk::new(platform, &pod, "p1")
    }

    /// A store that has nothing, and what it was asked.
    async fn store() -> (Way, Arc<Mutex<Vec<String>>>) {
        let (endpoint, requests) = server(vec![answer("200 OK", "<ListBucketResult></ListBucketResult>")]).await;
        (way(&endpoint), requests)
    }

    fn way(endpoint: &str) -> Way {
        let (config, credentials) = (config(endpoint), credentials());
        let key = DataKey::derive(b"secret", "b1");
        let access = Access::new("o1", &config, &credentials, &key, ("b1", "shop/solo/b1/o1"));
        let store = Store::new(&config, &credentials, Names::system(), LIMITS).expect("a client");
        (access, store)
    }

    fn backup(order: &str, uploaded: &str) -> Value {
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "R", "message": "",
                   "lastTransitionTime": "1970-01-01T00:00:01Z"})
        };
        let conditions = [condition("InProgress", "True"), condition(UPLOADED, uploaded)];
        json!({
            "apiVersion": "backups.anynines.com/v1beta3", "kind": "Backup",
            "metadata": {"name": "b", "namespace": "shop"},
            "spec": {"serviceInstance": {"apiGroup": "g", "kind": "k", "name": "solo"}},
            "status": {"conditions": conditions, "backupID": order},
        })
    }

    #[tokio::test]
    async fn what_is_stored_when_nobody_wants_it_any_more_is_removed() {
        let gone = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound",
                          "message": "not found", "code": 404});
        let done = Said::Done(Trouble::new("Uploaded", ""));
        let failed = Said::Failed(Trouble::new("BaseBackupFailed", ""));
        for (code, answer, said, removals) in [
            (200, backup("o1", "Unknown"), &done, 0),
            // The first answer was heard, and its own answer was lost.
            (200, backup("o1", "True"), &done, 0),
            (404, gone.clone(), &done, 1),
            (200, backup("o2", "Unknown"), &done, 1),
            (200, backup("o1", "False"), &done, 1),
            (200, backup("o1", "Unknown"), &failed, 1),
            // It may have been out of reach at first.
            (404, gone, &failed, 2),
        ] {
            let (way, requests) = store().await;
            end(&desk(code, &answer), "b", "o1", said, Some(&way)).await;
            assert_eq!(requests.lock().expect("no panic").len(), removals, "{said:?}: {answer}");
        }
    }

    #[tokio::test]
    async fn an_answer_does_not_wait_for_a_store_that_has_gone_away() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let way = way(&format!("http://{}", listener.local_addr().expect("an address")));
        let (desk, failed) = (desk(200, &backup("o1", "Unknown")), Said::Failed(Trouble::new("StoreUnreachable", "")));
        let answered = timeout(2 * REMOVAL, end(&desk, "b", "o1", &failed, Some(&way))).await;
        assert!(answered.is_ok(), "the controller would have taken the agent for dead before long");
    }
}
