//! Keeps the Lease for the primary: renews it, writes what changes in it, and ends the server when it could not be
//! renewed in time. It works beside everything else the agent does.

use super::lease::{Details, Holder, RENEW, Record, leads_for};
use super::platform::{Error, Platform, Written, answered};
use super::postmaster;
use super::report::Lsn;
use crate::chain;
use a8s_api::Postgresql;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

/// Longest wait for one answer of the API.
const ANSWER: Duration = Duration::from_secs(3);
/// Pause after an answer that was none.
const PAUSE: Duration = Duration::from_millis(200);
/// Time for a server that is ended at once, before its processes are killed.
const QUIT: Duration = Duration::from_millis(800);
/// Attempts against others who write at the same time.
const ATTEMPTS: usize = 10;

/// The Lease as this run holds it.
struct Held {
    record: Record,
    /// When the last successful renewal was sent.
    sent: Instant,
    instance: Postgresql,
}

/// Holds the Lease, or does not.
pub struct Keeper<P> {
    platform: Rc<P>,
    data: PathBuf,
    me: Holder,
    held: RefCell<Option<Held>>,
    position: Cell<Lsn>,
    writing: Mutex<()>,
    news: Notify,
}

impl<P: Platform> Keeper<P> {
    /// For a run that holds nothing yet; `data` is the data directory whose server it may end.
    pub fn new(platform: Rc<P>, me: Holder, data: PathBuf) -> Self {
        Self {
            platform,
            data,
            me,
            held: RefCell::default(),
            position: Cell::default(),
            writing: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// How long ago the Lease was renewed, if this run holds it; `None` in it if it is not to be renewed.
    pub fn held(&self) -> Option<Option<Duration>> {
        let held = self.held.borrow();
        held.as_ref().map(|held| held.record.is_renewed.then(|| held.sent.elapsed()))
    }

    /// The Lease, if this run holds it.
    pub fn record(&self) -> Option<Record> {
        self.held.borrow().as_ref().map(|held| held.record.clone())
    }

    /// Resolves when the Lease was written or lost.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// Notes where the server is, for the next renewal.
    pub fn note_position(&self, position: Lsn) {
        self.position.set(position);
    }

    /// Takes the Lease as it was seen, or makes it; `edit` says what else changes. Answers whether it was had.
    ///
    /// # Errors
    /// If the API does not answer; then the Lease may have been taken, which shows at the next look.
    pub async fn acquire(
        &self,
        instance: &Postgresql,
        seen: Record,
        edit: impl FnOnce(&mut Record),
    ) -> Result<bool, Error> {
        let _alone = self.writing.lock().await;
        // Where this run was in an earlier term says nothing of this one, whose content may be another.
        self.position.set(Lsn(0));
        let (mut record, now) = (seen, jiff::Timestamp::now());
        let term = record.term;
        edit(&mut record);
        record.holder = Some(self.me.clone());
        // What it writes from now on is after where the last one ended.
        record.details.is_end = false;
        // Who goes on in its term has held it since that began, whatever has happened in between.
        record.acquired = record.acquired.filter(|_| record.term == term).or(Some(now));
        record.renewed = Some(now);
        let sent = Instant::now();
        match self.write(instance, &record).await? {
            Written::Conflict => Ok(false),
            Written::Done(record) => {
                *self.held.borrow_mut() = Some(Held { record: *record, sent, instance: instance.clone() });
                self.news.notify_waiters();
                Ok(true)
            }
        }
    }

    /// Changes the Lease and renews it. Answers whether this run still holds it.
    ///
    /// # Errors
    /// If the API does not answer; then it may have been changed, which the next update tells.
    pub async fn update(&self, edit: impl Fn(&mut Record)) -> Result<bool, Error> {
        let _alone = self.writing.lock().await;
        for _ in 0..ATTEMPTS {
            let held = self.held.borrow().as_ref().map(|held| (held.record.clone(), held.instance.clone()));
            let Some((mut record, instance)) = held else { return Ok(false) };
            edit(&mut record);
            record.renewed = Some(jiff::Timestamp::now());
            record.details.position = record.details.position.max(self.position.get());
            let sent = Instant::now();
            match self.write(&instance, &record).await? {
                Written::Done(record) => {
                    if let Some(held) = self.held.borrow_mut().as_mut() {
                        held.sent = sent;
                        held.record = *record;
                    }
                    self.news.notify_waiters();
                    return Ok(true);
                }
                Written::Conflict => self.look_again().await?,
            }
        }
        Err(Error::Configuration("others write it without end".to_owned()))
    }

    /// Says of who held the Lease before that it is no primary, again and again until that is said. Once this run does not hold
    /// the Lease any more, the other may be the primary again.
    pub async fn depose(&self, last: &Holder) {
        let mut said = String::new();
        while self.held().is_some() {
            match answered(ANSWER, self.platform.depose(&last.pod, &last.uid)).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let text = chain(&error);
                    if text != said {
                        tracing::warn!("{text}; it is tried again");
                        said = text;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Lets the Lease go. The server must have ended, with all its WAL before `end`, if that is known.
    ///
    /// # Errors
    /// If the API does not answer; then the Lease expires.
    pub async fn release(&self, successor: Option<&str>, end: Option<Lsn>) -> Result<(), Error> {
        self.let_go(|details| {
            details.position = end.unwrap_or(details.position);
            details.is_end = end.is_some();
            details.successor = successor.map(str::to_owned);
        })
        .await
    }

    /// Lets the Lease go of a term in which no server of this run was the primary: but for the term, it says again what
    /// it said `before`. The term is not used again, as what this run has noted of it may be on its volume.
    ///
    /// # Errors
    /// If the API does not answer; then the Lease expires.
    pub async fn give_back(&self, before: &Details, successor: Option<&str>) -> Result<(), Error> {
        self.let_go(|details| {
            *details = before.clone();
            details.successor = successor.map(str::to_owned);
        })
        .await
    }

    async fn let_go(&self, edit: impl Fn(&mut Details)) -> Result<(), Error> {
        let result = self
            .update(|record| {
                record.holder = None;
                record.switchover = None;
                edit(&mut record.details);
            })
            .await;
        self.forget();
        result.map(|_| ())
    }

    /// Holds nothing any more, whatever the Lease says.
    pub fn forget(&self) {
        *self.held.borrow_mut() = None;
        self.news.notify_waiters();
    }

    async fn write(&self, instance: &Postgresql, record: &Record) -> Result<Written, Error> {
        answered(ANSWER, self.platform.write_lease(instance, record)).await
    }

    /// Somebody else has written: what, and does this run still hold the Lease?
    async fn look_again(&self) -> Result<(), Error> {
        let found = answered(ANSWER, self.platform.lease()).await?;
        let is_lost = match (&found, self.held.borrow_mut().as_mut()) {
            (Some(found), Some(held)) if found.holder.as_ref() == Some(&self.me) => {
                held.record = found.clone();
                false
            }
            // Somebody has deleted it: it is made again as it was.
            (None, Some(held)) => {
                held.record.version = None;
                false
            }
            _ => true,
        };
        if is_lost {
            tracing::error!("another member has the Lease: this server ends at once");
            self.fence().await;
        }
        Ok(())
    }

    /// Renews, for ever, and ends the server where that fails for too long.
    pub async fn run(&self) {
        tokio::join!(self.renew(), self.watch_the_time());
    }

    async fn renew(&self) {
        loop {
            let due = self.held.borrow().as_ref().filter(|held| held.record.is_renewed).map(|held| held.sent + RENEW);
            let Some(due) = due else {
                self.news.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.news.notified() => continue,
            }
            if let Err(error) = self.update(|_| {}).await {
                tracing::warn!("the Lease could not be renewed: {}", chain(&error));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn watch_the_time(&self) {
        loop {
            let end =
                self.held.borrow().as_ref().filter(|held| held.record.is_renewed).map(|held| held.sent + leads_for());
            let Some(end) = end else {
                self.news.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(end) => {
                    tracing::error!("the Lease was not renewed for {} seconds: the server ends at once", leads_for().as_secs());
                    self.fence().await;
                }
                () = self.news.notified() => {}
            }
        }
    }

    /// Ends the server so quickly that it is gone before the Lease has expired for others.
    async fn fence(&self) {
        self.forget();
        postmaster::quit(&self.data, QUIT).await;
    }
}
