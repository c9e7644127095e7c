//! A new content for the whole instance, such as a backup's: the function that restores use.
//!
//! Whoever has prepared a complete and durable data directory in [`staged`](datadir::STAGED) sends an [`Order`] to the
//! agent of the primary. The agent ends the server, exchanges the directories at once, starts the server with the new
//! content, which no client reaches yet, and makes it final by changing the generation in the Lease, which it must
//! still hold. Only then clients are let in; every volume of another generation is copied anew, and none of them ever
//! leads. Where anything of this fails before, the old content is put back. Where it was cut off, or no answer says
//! whether the Lease was changed, the next start asks the Lease which content is valid (see [`exchange`]).

use super::life::{Life, replicas};
use super::*;
use crate::agent::datadir::exchange;
use crate::agent::lease::{Quorum, Record, leads_for};
use crate::agent::replication::Role;
use crate::agent::report::Lsn;
use tokio::sync::oneshot;

/// How long a server may take to recover the new content.
const RECOVERY: Duration = Duration::from_secs(3600);

/// How long its logins may take, for which nobody is waited.
const LOGINS: Duration = Duration::from_secs(60);

/// Between two attempts to make it final.
const AGAIN: Duration = Duration::from_millis(200);

/// Takes orders for the primary's agent.
pub type Orders = mpsc::Sender<Order>;

/// A new content is in [`datadir::STAGED`].
#[derive(Debug)]
pub struct Order {
    /// What generation it will be; its directory has been [marked](exchange::mark) so.
    pub generation: String,
    /// Told when the content is final, or why it is not: then the old one is in its place. Told nothing where only the
    /// Lease knows: the next run of the agent answers.
    pub done: oneshot::Sender<Result<(), String>>,
}

impl Order {
    /// It is not carried out.
    pub(super) fn refuse(self, reason: &str) {
        // Nobody may be waiting any more.
        let _ = self.done.send(Err(reason.to_owned()));
    }
}

impl<P: Platform> Agent<P> {
    /// Carries an order out. Afterwards one content or the other is in its place; a server that does not run is started
    /// in the next round.
    pub(super) async fn replace_content(&self, life: &mut Life, order: Order) -> Result<(), Error> {
        let volume = &self.server.volume;
        let failed = |source| Error::Write { path: volume.clone(), source };
        let staged = exchange::generation(&volume.join(datadir::STAGED)).map_err(failed)?;
        if staged.as_ref() != Some(&order.generation) {
            order.refuse("the new content is not complete");
            return Ok(());
        }
        let before = exchange::generation(&self.server.data()).map_err(failed)?;
        self.stop_cleanly(life).await;
        exchange::swap(volume).map_err(failed)?;
        life.is_closed = true;
        let result = self.make_final(life, &order.generation).await;
        life.is_closed = false;
        match result {
            Ok(()) => {
                self.settle_as(life, Some(&order.generation))?;
                let is_let_in = self.let_in(life).await;
                let _ = order.done.send(Ok(()));
                is_let_in?;
            }
            // Only the Lease knows. The next start asks it, and answers the order, which nobody does until then.
            Err(error @ Error::Unanswered) => {
                self.stop_at_once_and_keep(life).await;
                std::mem::forget(order.done);
                return Err(error);
            }
            Err(error) => {
                let text = chain(&error);
                tracing::error!("the new content is taken back: {text}");
                self.stop_at_once_and_keep(life).await;
                self.settle_as(life, before.as_deref())?;
                order.refuse(&text);
            }
        }
        Ok(())
    }

    /// Starts the server with the new content, and changes the generation in the Lease.
    async fn make_final(&self, life: &mut Life, generation: &str) -> Result<(), Error> {
        self.recognise(life)?;
        // Nobody follows the new content yet: a commit cannot wait for anyone.
        let role = Role::Primary(String::new());
        let start = self.start(life, &role);
        timeout(RECOVERY, start).await.map_err(|_| Error::Content("the server does not recover the new content"))??;
        let Some(identity) = life.identity.clone().filter(|_| life.running.is_some()) else {
            return Err(Error::Content("the server does not start with the new content"));
        };
        // The logins are the instance's, whatever they were when the backup was made.
        timeout(LOGINS, self.apply_logins())
            .await
            .map_err(|_| Error::Content("the server does not take its logins"))??;
        let timeline = self.timeline().await?;
        let quorum = {
            let seen = life.seen.borrow();
            Quorum::of(&self.server.pod.instance, replicas(&seen, &self.quorum()), &self.server.pod.name)
        };
        // Where the old content was says nothing of the new one.
        self.keeper.note_position(Lsn(0));
        let edit = |record: &mut Record| {
            record.generation = Some(generation.to_owned());
            record.identifier = Some(identity.system_identifier.to_string());
            record.details.timeline = timeline;
            record.details.position = Lsn(0);
            record.details.template = None;
            // Those who are to copy the new content confirm what is committed in it.
            record.details.quorum = quorum.clone();
        };
        // A write whose answer did not come may have been made: only another one tells.
        let (until, mut is_unanswered) = (Instant::now() + leads_for(), false);
        while !self.stop.is_cancelled() && Instant::now() < until {
            match self.keeper.update(edit).await {
                Ok(true) => return Ok(()),
                Ok(false) if is_unanswered => break,
                Ok(false) => return Err(Error::Content("this member does not hold the Lease any more")),
                Err(error) => {
                    tracing::warn!("the new content is not final yet: {}", chain(&error));
                    is_unanswered = true;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        Err(Error::Unanswered)
    }

    /// Lets clients into what is final. Their commits wait from the first one.
    async fn let_in(&self, life: &mut Life) -> Result<(), Error> {
        self.write_role(&Role::Primary(self.quorum().setting()))?;
        let client = self.probe.client().await;
        let waits = match &client {
            Some(client) => self.reloads(client).await && replication::heeded(client).await.is_ok(),
            None => false,
        };
        self.open_doors()?;
        let is_read = match &client {
            Some(client) if waits => self.reloads(client).await,
            _ => false,
        };
        match is_read {
            true => self.open(life, true).await,
            // It reads it when it is started again.
            false => {
                self.stop_cleanly(life).await;
                Ok(())
            }
        }
    }

    async fn apply_logins(&self) -> Result<(), Error> {
        match logins::apply_now(self.platform.as_ref(), &self.server.pod.socket_directory).await {
            // Nobody can use those; the roles are tried again when the primary keeps its logins.
            Err(error @ logins::Error::Kept { .. }) => {
                tracing::warn!("{}", chain(&error));
                Ok(())
            }
            applied => Ok(applied?),
        }
    }

    async fn timeline(&self) -> Result<u32, Error> {
        let unknown = Error::Content("the server does not say on which timeline the new content is");
        let Some(client) = self.probe.client().await else { return Err(unknown) };
        replication::written_timeline(&client).await.map_err(|_| unknown)
    }

    /// Ends the server, but not the hold of the Lease.
    async fn stop_at_once_and_keep(&self, life: &mut Life) {
        self.probe.set(None);
        if let Some(running) = life.running.take() {
            running.postmaster.quit().await;
        }
    }
}
