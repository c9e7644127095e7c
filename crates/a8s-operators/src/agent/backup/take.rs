//! One backup: from the server through [`crate::archive`] into the store.
//!
//! Expected flow: hold the WAL by a temporary slot → start the base backup → read, compress, encrypt and upload at
//! the same time → when the source has ended well and every part is stored, write the manifest, which makes it a
//! backup.

use super::basebackup::{BaseBackup, Range};
use crate::agent::{bootstrap, environment};
use crate::archive::keys::DataKey;
use crate::archive::manifest::{self, Manifest};
use crate::archive::pack::{self, Stopped, pack};
use crate::archive::{FORMAT, Sizes, Summary, part_name};
use crate::backup::access::Access;
use crate::backup::conditions::Trouble;
use crate::store::Store;
use crate::threads;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Client;

/// Parts on their way to the store at the same time.
const UPLOADS: usize = 3;
/// How often the server is shown that the WAL is still needed.
const ROUND: Duration = Duration::from_secs(10);

/// How far a backup is.
#[derive(Clone, Default)]
pub struct Progress(Arc<[AtomicU64; 2]>);

impl std::fmt::Display for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [read, stored] = [0, 1].map(|index| self.0[index].load(Ordering::Relaxed) >> 20);
        write!(formatter, "{read} MiB read, {stored} MiB stored")
    }
}

/// A reader that counts.
struct Counted<R>(R, Progress);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.0[0].fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Makes the backup that an order is for. Dropping it ends everything it began.
///
/// # Errors
/// Why there is none. What was stored is left.
pub async fn take(
    environment: &environment::Backup,
    access: &Access,
    store: &Store,
    progress: &Progress,
) -> Result<Manifest, Trouble> {
    let started_at = Timestamp::now();
    let key = access.data_key().ok_or_else(|| Trouble::new("NoAccess", "the Secret of the order has no key"))?;
    let sockets = &environment.pod.socket_directory;
    let client = bootstrap::connect(sockets, "a9s backup").await.map_err(server)?;
    let slot = slot_of(&access.order);
    let system_identifier = hold_wal(&client, &slot).await?;
    let (source, output) = BaseBackup::start(&environment.bin_directory, sockets)?;
    let (summary, range) = tokio::select! {
        stored = store_stream(output, &key, access, store, source, progress) => stored?,
        trouble = lose_wal(&client, &slot) => return Err(trouble),
    };
    // The slot goes with its connection.
    drop(client);
    let manifest = Manifest {
        format: FORMAT,
        backup_uid: access.backup_uid.clone(),
        backup_id: access.order.clone(),
        namespace: environment.pod.namespace.clone(),
        instance: environment.pod.instance.clone(),
        postgresql_major: environment.major,
        system_identifier,
        timeline: range.timeline,
        start_lsn: range.start,
        end_lsn: range.end,
        started_at: started_at.to_string(),
        finished_at: Timestamp::now().to_string(),
        key: key.identifier(),
        summary,
    };
    let text = manifest.write(&key);
    let name = format!("{}/{}", access.prefix, manifest::NAME);
    store.put(&name, text.into()).await.map_err(|error| Trouble::store(&error))?;
    Ok(manifest)
}

fn server(error: tokio_postgres::Error) -> Trouble {
    Trouble::new("ServerUnavailable", format!("the server does not help: {}", crate::chain(&error)))
}

fn slot_of(order: &str) -> String {
    format!("a9s_backup_{}", order.replace('-', "_"))
}

/// Keeps the server from removing WAL that the backup needs, as long as the connection lives. Answers with the system
/// identifier.
async fn hold_wal(client: &Client, slot: &str) -> Result<String, Trouble> {
    if bootstrap::first(client, "SELECT pg_is_in_recovery()").await.map_err(server)?.as_deref() != Some("f") {
        return Err(Trouble::new("NoPrimary", "the member that had the order is no longer the primary"));
    }
    let statement = format!("SELECT pg_create_physical_replication_slot('{slot}', true, true)");
    bootstrap::first(client, &statement).await.map_err(server)?;
    let identifier = bootstrap::first(client, "SELECT system_identifier FROM pg_control_system()").await;
    Ok(identifier.map_err(server)?.unwrap_or_default())
}

/// Resolves when the WAL is held no more: a server that would have to keep too much of it ends the session. Then the
/// backup would fail in the end.
async fn lose_wal(client: &Client, slot: &str) -> Trouble {
    loop {
        tokio::time::sleep(ROUND).await;
        if let Err(error) = need_wal(client, slot).await {
            let text = format!("the server keeps the WAL for the backup no more: {}", crate::chain(&error));
            return Trouble::new("BaseBackupFailed", text);
        }
    }
}

/// Uses the slot, and leaves it where it is. PostgreSQL 18 can be told to take away slots that nobody has used for a
/// while (`idle_replication_slot_timeout`): it ends the sessions of those that are temporary.
async fn need_wal(client: &Client, slot: &str) -> Result<(), tokio_postgres::Error> {
    let statement = format!(
        "SELECT pg_replication_slot_advance(slot_name, restart_lsn) FROM pg_replication_slots \
         WHERE slot_name = '{slot}'"
    );
    bootstrap::first(client, &statement).await.map(|_| ())
}

/// Packs and uploads at the same time.
async fn store_stream(
    output: impl Read + Send + 'static,
    key: &DataKey,
    access: &Access,
    store: &Store,
    source: BaseBackup,
    progress: &Progress,
) -> Result<(Summary, Range), Trouble> {
    let (parts, mut taken) = mpsc::channel::<Bytes>(1);
    let (done, packed) = oneshot::channel();
    let (key, output) = (key.clone(), Counted(output, progress.clone()));
    // A thread of its own: it lasts as long as the backup does.
    let packing = threads::spawn(move || {
        let take = |part| parts.blocking_send(part).map_err(|_| Stopped);
        // Nobody waits for it any more if the attempt was given up.
        let _ = done.send(pack(output, &key, Sizes::default(), take));
    });
    packing.map_err(|error| Trouble::new("BaseBackupFailed", format!("the backup cannot be packed: {error}")))?;
    let numbered = stream::poll_fn(move |context| taken.poll_recv(context)).enumerate();
    let uploads = numbered.map(|(number, part)| async move {
        let number =
            u32::try_from(number).map_err(|_| Trouble::new("StoreRefused", "the backup has too many parts"))?;
        let length = part.len() as u64;
        let name = format!("{}/{}", access.prefix, part_name(number));
        if !(sabotage::sabotaged!("backup-complete-unseen") && number == 0) {
            store.put(&name, part).await.map_err(|error| Trouble::store(&error))?;
        }
        progress.0[1].fetch_add(length, Ordering::Relaxed);
        Ok(())
    });
    // When all is read, the source has nothing more to say but how it ended.
    let uploading = uploads.buffer_unordered(UPLOADS).try_collect::<Vec<()>>();
    let (_, range) = tokio::try_join!(uploading, source.finish())?;
    match packed.await {
        Ok(Ok(summary)) => Ok((summary, range)),
        Ok(Err(error @ (pack::Error::Read(_) | pack::Error::Compress(_) | pack::Error::Stopped))) => {
            Err(Trouble::new("BaseBackupFailed", crate::chain(&error)))
        }
        Err(_) => Err(Trouble::new("BaseBackupFailed", "the thread that packed the backup ended early")),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::agent::server::tests::{Fixture, as_server_user_in, scenario};

    #[test]
    fn the_wal_of_a_backup_is_held_from_its_beginning_and_in_use() {
        as_server_user_in(module_path!(), "the_wal_of_a_backup_is_held_from_its_beginning_and_in_use", || {
            let fixture = Fixture::new(true);
            scenario(async {
                let serving = fixture.during(|| async {
                    fixture.ready().await;
                    let sockets = &fixture.server.pod.socket_directory;
                    let client = bootstrap::connect(sockets, "a9s backup").await.expect("connected");
                    let slot = slot_of("1-2-3");
                    hold_wal(&client, &slot).await.expect("held");
                    // Servers before PostgreSQL 17 don't say since when nobody uses it.
                    let state = "SELECT restart_lsn, coalesce(to_jsonb(slot) ->> 'inactive_since', now()::text) \
                                 FROM pg_replication_slots slot";
                    let before = fixture.sql(state).await;
                    fixture.sql("CREATE TABLE t AS SELECT 1 AS n").await;
                    need_wal(&client, &slot).await.expect("used");
                    let after = fixture.sql(state).await;
                    let [(start, unused), (end, unused_now)] =
                        [&before, &after].map(|text| text.split_once('|').expect("two columns"));
                    assert_eq!(start, end);
                    assert!(unused < unused_now, "{before} and {after}");
                    fixture.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots").await;
                    need_wal(&client, &slot).await.expect_err("the session has ended");
                });
                serving.await.expect("no error");
            });
        });
    }
}
