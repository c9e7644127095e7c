//! A ledger of acknowledged rows: a client that writes without a pause, comes back whenever it is cut off, and remembers
//! every row whose commit it was told of. What it remembers must be there afterwards, whatever happened meanwhile.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::database::{self, DATABASE};
use super::failure::Failure;
use super::observe::Login;

/// A commit that takes longer has failed, for this client.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to connect, so that the machine has something left for the servers.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two rows.
const PACE: Duration = Duration::from_millis(2);

/// The rows of one instance.
pub struct Ledger {
    entries: Arc<Mutex<Vec<Entry>>>,
    writer: Option<JoinHandle<()>>,
    login: Login,
}

/// One acknowledged row.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: i64,
    at: Instant,
}

/// What the ledger says when it is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Rows whose commit was acknowledged.
    pub acknowledged: usize,
    /// Of these, the ones that are not there.
    pub lost: Vec<i64>,
    /// The longest time without an acknowledged row.
    pub longest_gap: Duration,
}

impl Ledger {
    /// Makes the table and begins to write.
    ///
    /// # Errors
    /// What the server said to the table.
    pub async fn open(login: Login) -> Result<Self, Failure> {
        database::ask(&login, DATABASE, "CREATE TABLE ledger (id bigint PRIMARY KEY)").await?;
        let entries: Arc<Mutex<Vec<Entry>>> = Arc::default();
        let mut ledger = Self { entries, writer: None, login };
        ledger.resume();
        Ok(ledger)
    }

    /// Writes on.
    pub fn resume(&mut self) {
        let first = self.entries().last().map_or(1, |entry| entry.id + 1_000_000);
        self.writer = Some(tokio::spawn(write(self.login.clone(), self.entries.clone(), first)));
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows acknowledged so far.
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    /// How long after a moment the next row was acknowledged, if one was.
    pub fn first_after(&self, moment: Instant) -> Option<Duration> {
        self.entries().iter().find(|entry| entry.at > moment).map(|entry| entry.at.duration_since(moment))
    }

    /// Writes no more.
    pub async fn pause(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.abort();
            let _ = writer.await;
        }
    }

    /// Writes no more, and compares what it remembers with what is there.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn close(&mut self) -> Result<Verdict, Failure> {
        self.pause().await;
        let rows = database::ask(&self.login, DATABASE, "SELECT id FROM ledger").await?;
        let there: BTreeSet<i64> = rows.iter().filter_map(|row| row.parse().ok()).collect();
        let entries = self.entries();
        let lost = entries.iter().map(|entry| entry.id).filter(|id| !there.contains(id)).collect();
        let gaps = entries.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at));
        Ok(Verdict { acknowledged: entries.len(), lost, longest_gap: gaps.max().unwrap_or_default() })
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

/// Every attempt has a number of its own: of one that was cut off nobody knows whether it was committed.
async fn write(login: Login, entries: Arc<Mutex<Vec<Entry>>>, first: i64) {
    let mut client: Option<Client> = None;
    for id in first.. {
        let Some(connected) = &client else {
            client =
                tokio::time::timeout(PATIENCE, database::connect(&login, DATABASE)).await.ok().and_then(Result::ok);
            if client.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
            continue;
        };
        let statement = format!("INSERT INTO ledger VALUES ({id})");
        match tokio::time::timeout(PATIENCE, connected.batch_execute(&statement)).await {
            Ok(Ok(())) => {
                let at = Instant::now();
                entries.lock().unwrap_or_else(PoisonError::into_inner).push(Entry { id, at });
                tokio::time::sleep(PACE).await;
            }
            _ => client = None,
        }
    }
}
