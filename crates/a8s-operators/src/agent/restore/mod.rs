//! Restores: the agent of the primary replaces the instance's content.
//!
//! Expected flow: [`fetch`] brings the backup into a directory beside the data and finds every byte authentic →
//! [`recover`] lets a private server make it consistent, on a timeline of its own, with the roles of this instance → the
//! directory is staged, and the agent of the server exchanges it for the data ([`super::server::Order`]). Until then
//! nothing of the instance has changed, and whatever was begun is removed. What an exchange that was cut off leaves is
//! settled by the Lease, at the next start.

pub mod extract;
mod fetch;
mod recover;

#[cfg(all(test, target_os = "linux"))]
mod tests;

use super::backup::desk::{Desk, Said};
use super::bootstrap::Credentials;
use super::datadir::{self, exchange, identifier};
use super::environment::Server;
use super::server::{Order as Exchange, Orders};
use super::tools::remove;
use crate::backup::conditions::{self, RESTORED, RUNNING, Trouble, WITHDRAWN};
use crate::backup::order::Order as _;
use a8s_api::Restore;
use kube::ResourceExt as _;
use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Where a backup is prepared, beside the data directory.
const INCOMING: &str = "incoming";
/// What is said where the content cannot be exchanged at once.
const NO_EXCHANGE: &str = "the file system of the volume cannot exchange two directories, which a restore needs: \
                           restore into an instance whose StorageClass has another one, such as ext4 or xfs";
/// How often it is said how far a restore is.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often it is looked whether an exchange that was cut off is settled.
const LOOK: Duration = Duration::from_millis(200);

/// What has to be known to carry out restores.
pub struct Restorer {
    desk: Desk,
    server: Server,
}

struct Attempt {
    order: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Restorer {
    /// For the member that is told this.
    pub fn new(desk: Desk, server: Server) -> Self {
        Self { desk, server }
    }

    /// Follows the orders for ever. New contents go to `exchange`. It must run within a `LocalSet`.
    pub async fn carry_out(self, exchange: Orders) {
        let restorer = Rc::new(self);
        if let Err(error) = remove(restorer.incoming()).await {
            tracing::warn!("what an earlier restore has left stays: {error}");
        }
        let (orders, mut seen) = watch::channel(Vec::<Restore>::new());
        let following = restorer.clone();
        tokio::task::spawn_local(async move { following.desk.follow(&orders).await });
        let mut running: Option<Attempt> = None;
        loop {
            let orders = seen.borrow_and_update().clone();
            if let Some(attempt) = &running {
                if attempt.task.is_finished() {
                    running = None;
                    continue;
                }
                if !orders.iter().any(|restore| restore.order() == Some(&attempt.order)) {
                    attempt.stop.cancel();
                }
            } else if let Some(restore) = orders.into_iter().next() {
                let (stop, order) = (CancellationToken::new(), restore.order().unwrap_or_default().to_owned());
                let (restorer, exchange, stopped) = (restorer.clone(), exchange.clone(), stop.clone());
                let work = async move { restorer.attempt(restore, exchange, stopped).await };
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
                    let done = running.take().map(|attempt| attempt.order);
                    let is_answered = |orders: &Vec<Restore>| !orders.iter().any(|it| it.order() == done.as_deref());
                    if seen.wait_for(is_answered).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Carries out one order and answers it.
    async fn attempt(&self, restore: Restore, exchange: Orders, stop: CancellationToken) {
        let (name, order) = (restore.name_any(), restore.order().unwrap_or_default().to_owned());
        let is_taken = conditions::get(restore.conditions(), RESTORED).is_some_and(|it| it.reason == RUNNING);
        let result = if is_taken {
            self.look_back(&order).await
        } else {
            tracing::info!(restore = name, order, "a restore is begun");
            let stage = Cell::new("the backup is fetched");
            let working = async {
                self.desk.insist::<Restore>(&name, &order, &Said::Working(stage.get().to_owned())).await;
                self.work(&restore, &exchange, &stop, &stage).await
            };
            tokio::select! {
                result = working => result,
                () = self.desk.tell_often::<Restore>(&name, &order, HEARTBEAT, || stage.get().to_owned()) => {
                    unreachable!("for ever")
                }
            }
        };
        if let Err(error) = remove(self.incoming()).await {
            tracing::warn!("what a restore has left stays: {error}");
        }
        let said = match result {
            Ok(text) => {
                tracing::info!(restore = name, order, "{text}");
                Said::Done(Trouble::new("Restored", text))
            }
            Err(trouble) => {
                tracing::warn!(restore = name, order, "nothing was restored: {}", trouble.message);
                Said::Failed(trouble)
            }
        };
        self.desk.insist::<Restore>(&name, &order, &said).await;
    }

    /// An earlier run of the agent had the order. Whether its content is there is settled when the server starts.
    async fn look_back(&self, order: &str) -> Result<String, Trouble> {
        while self.server.volume.join(datadir::STAGED).exists() {
            tokio::time::sleep(LOOK).await;
        }
        match exchange::generation(&self.server.data()) {
            Ok(Some(generation)) if generation == order => Ok("the content of the backup is in its place".to_owned()),
            _ => Err(Trouble::new(
                "AgentRestarted",
                "the agent ended before the content was exchanged, which is as it was",
            )),
        }
    }

    fn incoming(&self) -> PathBuf {
        self.server.volume.join(INCOMING)
    }

    async fn work(
        &self,
        restore: &Restore,
        exchange: &Orders,
        stop: &CancellationToken,
        stage: &Cell<&'static str>,
    ) -> Result<String, Trouble> {
        let order = restore.order().unwrap_or_default();
        let prepared = tokio::select! {
            prepared = self.prepare(order, stage) => prepared?,
            () = stop.cancelled() => return Err(Trouble::new(WITHDRAWN, "the restore was taken back while it ran")),
        };
        stage.set("the content is exchanged");
        let (done, answer) = oneshot::channel();
        let not_done = |text: &str| Trouble::new("NotExchanged", format!("the content was not exchanged: {text}"));
        if sabotage::sabotaged!("restore-changes-nothing") {
            return Ok("the content is in its place".to_owned());
        }
        let sent = exchange.send(Exchange { generation: order.to_owned(), done }).await;
        // From here on it is not taken back half-way.
        let answer = match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err("this member does something else now".to_owned())),
            Err(_) => Err("the agent is ending".to_owned()),
        };
        match answer {
            Ok(()) => Ok(format!("the content of {prepared} is in its place")),
            Err(text) => {
                self.unstage(order);
                Err(not_done(&text))
            }
        }
    }

    /// Removes a content that was not exchanged: it is as large as the database, and the next one needs its place.
    fn unstage(&self, order: &str) {
        if !sabotage::sabotaged!("restore-leaves-its-content")
            && let Err(error) = exchange::withdraw(&self.server.volume, order)
        {
            tracing::warn!("what a restore has left stays: {error}");
        }
    }

    /// Makes the new content and stages it.
    async fn prepare(&self, order: &str, stage: &Cell<&'static str>) -> Result<String, Trouble> {
        let incoming = self.incoming();
        let failed = |error: io::Error| Trouble::new("VolumeFailed", format!("cannot use the volume: {error}"));
        remove(incoming.clone()).await.map_err(failed)?;
        // Later, the server would have been stopped in vain. What else is wrong with the volume shows below.
        if matches!(exchange::is_possible(&self.server.volume), Ok(false)) {
            return Err(Trouble::new("ExchangeNotSupported", NO_EXCHANGE));
        }
        let access = self.desk.access(&self.server.pod.instance, order).await?;
        let store = self.desk.store(&access).await?;
        let manifest = fetch::manifest(&store, &access, self.server.major).await?;
        fetch::fetch(&store, &access, &manifest, &incoming).await?;
        stage.set("the backup is recovered");
        let target = identifier::read(&self.server.data()).map_err(|error| failed(io::Error::other(error)))?;
        let credentials = (self.credentials("admin")?, self.credentials("standby")?);
        recover::recover(&self.server, &incoming, &manifest, target, &credentials).await?;
        let staged = self.server.volume.join(datadir::STAGED);
        exchange::mark(&incoming, Some(order)).map_err(failed)?;
        fs_err::rename(&incoming, &staged).map_err(failed)?;
        Ok(format!("the backup {}", manifest.backup_uid))
    }

    fn credentials(&self, of: &str) -> Result<Credentials, Trouble> {
        let directory = if of == "admin" { &self.server.admin_credentials } else { &self.server.standby_credentials };
        Credentials::read(directory).map_err(|error| Trouble::new("NoAccess", crate::chain(&error)))
    }
}
