//! Rows that a client writes while something is done to an instance, and what became of them: the steps before and after.

use std::sync::{Arc, Mutex as Cell, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::DropGuard;

use super::gateway::Gateway;
use super::{credentials, primary};
use crate::finding::{Finding, Id};
use crate::kubernetes::Access;
use crate::manifest::names::{Namespace, ObjectName};
use crate::postgres::ledger::{self, DATABASE, PATIENCE, Verdict};
use crate::postgres::{Error, Ledger, Login};
use crate::step::{Cancel, Context, Observation, Step};

/// How long rows are written before anything is done: the first of them are on disk by then, the table too.
const HEAD_START: Duration = Duration::from_millis(300);
/// Between two looks at the ledger.
const POLL: Duration = Duration::from_millis(20);
/// Between two looks whether there is anything to wait for.
const LOOK: Duration = Duration::from_millis(500);
/// How long the table may take to go where something has failed.
const LEAVE: Duration = Duration::from_secs(5);
/// So many lost rows are named.
const NAMED: usize = 20;

/// The rows of one command.
pub struct Rows {
    access: Arc<Access>,
    namespace: Namespace,
    instance: ObjectName,
    written: Mutex<Option<Written>>,
    verdict: Cell<Option<Verdict>>,
}

/// A ledger that is written through a port of this machine.
struct Written {
    ledger: Ledger,
    begun: Instant,
    /// Rows are lost: what is left is evidence.
    is_evidence: bool,
    _gateway: DropGuard,
}

fn failed(error: &Error) -> Finding {
    Finding::new(Id::SqlFailed, format!("the ledger of rows can't be used: {error}"))
}

impl Rows {
    /// Rows in an instance; none yet.
    pub fn new(access: Arc<Access>, namespace: Namespace, instance: ObjectName) -> Arc<Self> {
        Arc::new(Self { access, namespace, instance, written: Mutex::default(), verdict: Cell::default() })
    }

    /// What became of them, once that is known.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the writing, whatever has come of it, and removes the table. Names the table where it stays.
    pub async fn leave(&self) -> Option<String> {
        let mut written = self.written.lock().await.take()?;
        if written.is_evidence {
            return None;
        }
        let table = written.ledger.table();
        let removed = async {
            while written.ledger.remove().await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(LEAVE, removed).await.err().map(|_| table)
    }

    /// Ends where no row will be acknowledged any more, whoever waits for one. The gateway does not say so.
    async fn hopeless(&self) -> Finding {
        loop {
            tokio::time::sleep(LOOK).await;
            let found = async { primary::find(&self.access.client().await?, &self.namespace, &self.instance).await };
            match found.await {
                Err(finding) if finding.id != Id::ClusterUnreachable => return finding,
                _ => {}
            }
        }
    }

    async fn prepare(&self, context: &Context) -> Result<Written, Finding> {
        let client = self.access.client().await?;
        primary::wait_for(&client, &self.namespace, &self.instance, Duration::MAX, |why| context.progress(why)).await?;
        let secret = credentials::administrator(&self.instance);
        let administrator = credentials::of_secret(&client, &self.namespace, &secret).await?;
        let gateway = Gateway::open(client, self.namespace.clone(), self.instance.clone(), PATIENCE).await?;
        let login = Login {
            host: "127.0.0.1".to_owned(),
            port: gateway.port(),
            user: administrator.username,
            password: administrator.password,
        };
        let open = Cancel::new();
        let guard = open.clone().drop_guard();
        // That a server is away is what the ledger is for.
        tokio::spawn(gateway.serve(open, drop));
        let ledger = Ledger::new(login, &ledger::name());
        Ok(Written { ledger, begun: Instant::now(), is_evidence: false, _gateway: guard })
    }
}

impl Written {
    /// Rows are acknowledged again, over a connection of now: the one of before may still lead to a server that is ending.
    /// Then none that ever was may be missing.
    async fn compare(&mut self, context: &Context) -> Result<Verdict, Finding> {
        self.ledger.pause().await;
        self.ledger.resume();
        let asked = Instant::now();
        while self.ledger.first_after(asked).is_none() && !self.ledger.has_ended() {
            context.progress("waiting for a row to be acknowledged");
            tokio::time::sleep(POLL).await;
        }
        loop {
            match self.ledger.close().await {
                Ok(verdict) => return Ok(verdict),
                Err(error) if error.is_answer() => return Err(failed(&error)),
                Err(error) => context.progress(error.to_string()),
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Rows should be written, and acknowledged.
pub struct Begun(pub Arc<Rows>);

#[async_trait]
impl Step for Begun {
    fn id(&self) -> String {
        "ledger".to_owned()
    }

    fn title(&self) -> String {
        format!("write rows in the instance {}", self.0.instance)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let written = self.0.written.lock().await;
        Ok(match written.as_ref() {
            None => Observation::unmet("nobody writes any"),
            Some(written) if written.ledger.first_after(written.begun + HEAD_START).is_some() => {
                Observation::satisfied(format!("{} were acknowledged", written.ledger.count()))
            }
            Some(written) => Observation::unmet(format!("{} were acknowledged", written.ledger.count())),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let mut written = self.0.written.lock().await;
        if written.is_some() {
            return Ok(());
        }
        // Known before there is a table: whatever comes in between, it is removed.
        let written = written.insert(self.0.prepare(context).await?);
        written.ledger.open().await.map_err(|error| failed(&error))?;
        written.begun = Instant::now();
        Ok(())
    }
}

/// Every row that was acknowledged should be there.
pub struct Compared(pub Arc<Rows>);

#[async_trait]
impl Step for Compared {
    fn id(&self) -> String {
        "ledger-compared".to_owned()
    }

    fn title(&self) -> String {
        "see that every acknowledged row is there".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        Ok(match self.0.verdict() {
            Some(verdict) => Observation::satisfied(format!("all {} are", verdict.acknowledged)),
            None => Observation::unmet("it is not known yet"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let mut there = self.0.written.lock().await;
        let Some(written) = there.as_mut() else { return Ok(()) };
        let verdict = tokio::select! {
            biased;
            verdict = written.compare(context) => verdict?,
            hopeless = self.0.hopeless() => return Err(hopeless),
        };
        if verdict.lost.is_empty() {
            *self.0.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
            return Ok(());
        }
        written.is_evidence = true;
        // Otherwise it goes with the ledger of another day: nothing is lost of what is told here.
        let _ = written.ledger.keep().await;
        let cause = format!("{} of {} acknowledged rows are lost", verdict.lost.len(), verdict.acknowledged);
        let named = verdict.lost.iter().take(NAMED).map(ToString::to_string);
        Err(Finding::new(Id::RowsLost, cause)
            .with("the first of them", named)
            .advise(format!("What is left is in the table {} of the database {DATABASE}.", written.ledger.table())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::tests::target;
    use crate::manifest::fetch::tests::{answer, server};

    #[tokio::test]
    async fn no_row_is_waited_for_where_the_cluster_says_no_and_one_is_where_it_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let rows = |url: &str| {
            let access = Arc::new(Access::new(target(directory.path(), url)));
            Rows::new(access, "shop".parse().unwrap(), "solo".parse().unwrap())
        };
        let status = br#"{"code": 401, "message": "Unauthorized"}"#;
        let refusal = answer("401 Unauthorized", "content-type: application/json\r\n", status);
        let (url, _asked) = server(vec![refusal]).await;
        let refused = tokio::time::timeout(Duration::from_secs(20), rows(&url).hopeless()).await;
        assert_eq!(refused.unwrap().id, Id::Unauthorized);
        let away = tokio::time::timeout(LOOK * 3, rows("http://127.0.0.1:1").hopeless()).await;
        assert!(away.is_err(), "it may come back");
    }
}
