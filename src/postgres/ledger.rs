//! A ledger of acknowledged rows: a client that writes without a pause, comes back whenever it is cut off, and remembers
//! every row whose commit it was told of. What it remembers must be there afterwards, whatever happened meanwhile.
//!
//! Its table is where applications of the builtin stack can't put another in its place, whose triggers the administrator would
//! run: in a schema that is made for it, in the administrator's own database.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use a8s_operators::agent::bootstrap::SAFE;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::{Error, Login, ask, connect, connect_with, query};

/// The database that it is in: every instance has it. With the builtin stack, applications may not make schemas or settings
/// there; what another stack lets them is not known.
pub const DATABASE: &str = "postgres";
/// A commit that takes longer has failed, for this client.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to connect, so that the machine has something left for the servers.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two rows.
const PACE: Duration = Duration::from_millis(2);

/// The SQLSTATE `undefined_table`: a server that has lost the table has lost all its rows.
const NO_TABLE: &str = "42P01";

/// What a standby adds to its rows.
const STANDBY: &str = "standby";

/// No command writes for so long: what was begun before was left by one that was killed.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// The name of a schema for a ledger that is begun now, which nobody has.
pub fn name() -> String {
    format!("{}{:08x}", begun_at(SystemTime::now()), rand::random::<u32>())
}

/// What the name of a ledger's schema begins with: names are in the order of time.
fn begun_at(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("a9s_ledger_{seconds:08x}")
}

/// The rows of one instance.
pub struct Ledger {
    rows: Arc<Mutex<Vec<Row>>>,
    writer: Option<JoinHandle<()>>,
    login: Login,
    schema: String,
}

/// One acknowledged row.
#[derive(Debug, Clone, Copy)]
struct Row {
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
    /// One that is to be in a schema of this name, which needs no quotes and is not there yet.
    pub fn new(login: Login, schema: &str) -> Self {
        Self { rows: Arc::default(), writer: None, login, schema: schema.to_owned() }
    }

    /// The name of its table.
    pub fn table(&self) -> String {
        format!("{}.rows", self.schema)
    }

    /// Makes the table and begins to write. What killed ones have left goes before.
    ///
    /// # Errors
    /// What the server said to the table.
    pub async fn open(&mut self) -> Result<(), Error> {
        // That it stays is no reason to do nothing else.
        let _ = self.sweep().await;
        let (schema, table) = (&self.schema, self.table());
        let statements = format!("CREATE SCHEMA {schema}; CREATE TABLE {table} (id bigint PRIMARY KEY)");
        ask(&self.login, DATABASE, &statements).await?;
        self.resume();
        Ok(())
    }

    /// Writes through another login from now on.
    pub async fn go_to(&mut self, login: Login) {
        self.pause().await;
        self.login = login;
        self.resume();
    }

    /// Writes on.
    pub fn resume(&mut self) {
        let first = self.rows().last().map_or(1, |row| row.id + 1_000_000);
        self.writer = Some(tokio::spawn(write(self.login.clone(), self.table(), self.rows.clone(), first)));
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody writes any more, though nobody has said so: the table is gone.
    pub fn has_ended(&self) -> bool {
        self.writer.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Rows acknowledged so far.
    pub fn count(&self) -> usize {
        self.rows().len()
    }

    /// How long after a moment the next row was acknowledged, if one was.
    pub fn first_after(&self, moment: Instant) -> Option<Duration> {
        self.rows().iter().find(|row| row.at > moment).map(|row| row.at.duration_since(moment))
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
    pub async fn close(&mut self) -> Result<Verdict, Error> {
        self.pause().await;
        // A former primary that still has its label may not have replayed everything.
        let rows = format!(
            "SELECT id::text FROM {} UNION ALL SELECT '{STANDBY}' WHERE pg_catalog.pg_is_in_recovery()",
            self.table()
        );
        let answer = match ask(&self.login, DATABASE, &rows).await {
            Err(error) if error.code() == Some(NO_TABLE) => Vec::new(),
            Ok(answer) if answer.iter().any(|row| row == STANDBY) => return Err(Error::Standby),
            answer => answer?,
        };
        let is_believed = sabotage::sabotaged!("lost-rows-are-passed-over");
        let there: BTreeSet<i64> = answer.iter().filter_map(|row| row.parse().ok()).collect();
        let rows = self.rows();
        let lost = rows.iter().map(|row| row.id).filter(|id| !there.contains(id) && !is_believed).collect();
        let gaps = rows.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at));
        Ok(Verdict { acknowledged: rows.len(), lost, longest_gap: gaps.max().unwrap_or_default() })
    }

    /// Has the table stay, as evidence.
    ///
    /// # Errors
    /// What the server said.
    pub async fn keep(&self) -> Result<(), Error> {
        let comment = format!("COMMENT ON SCHEMA {} IS 'acknowledged rows are lost'", self.schema);
        ask(&self.login, DATABASE, &comment).await.map(drop)
    }

    /// Removes what was begun so long ago that nobody writes there any more, and is no evidence.
    async fn sweep(&self) -> Result<(), Error> {
        let before = begun_at(SystemTime::now() - LONG);
        let statement = format!(
            "DO $$ DECLARE ended name; BEGIN \
             FOR ended IN SELECT nspname FROM pg_namespace WHERE nspname ~ '^a9s_ledger_[0-9a-f]{{16}}$' \
             AND nspname < '{before}' AND obj_description(oid, 'pg_namespace') IS NULL \
             LOOP EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', ended); END LOOP; END $$"
        );
        let session = connect_with(&self.login, DATABASE, SAFE);
        let swept = async { query(&session.await?, &statement).await.map(drop) };
        tokio::time::timeout(PATIENCE, swept).await.map_err(|_| Error::Silent(PATIENCE))?
    }

    /// Removes the table with its schema.
    ///
    /// # Errors
    /// What the server said.
    pub async fn remove(&mut self) -> Result<(), Error> {
        self.pause().await;
        ask(&self.login, DATABASE, &format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema)).await.map(drop)
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
async fn write(login: Login, table: String, rows: Arc<Mutex<Vec<Row>>>, first: i64) {
    let mut client: Option<Client> = None;
    for id in first.. {
        let Some(connected) = &client else {
            client = tokio::time::timeout(PATIENCE, connect(&login, DATABASE)).await.ok().and_then(Result::ok);
            if client.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
            continue;
        };
        let statement = format!("INSERT INTO {table} VALUES ({id})");
        match tokio::time::timeout(PATIENCE, connected.batch_execute(&statement)).await {
            Ok(Ok(())) => {
                let at = Instant::now();
                rows.lock().unwrap_or_else(PoisonError::into_inner).push(Row { id, at });
                tokio::time::sleep(PACE).await;
            }
            Ok(Err(error)) if error.code().is_some_and(|code| code.code() == NO_TABLE) => return,
            _ => client = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_when_its_ledger_was_begun() {
        let (name, now) = (name(), SystemTime::now());
        assert!(begun_at(now - LONG) < name && name < begun_at(now + LONG), "{name}");
        assert_eq!(name.len(), "a9s_ledger_".len() + 16);
        assert!(begun_at(now).starts_with("a9s_ledger_") && name != super::name());
    }
}
