//! A backup comes from the store into a directory: downloaded, authenticated, decompressed and written at the same time.

use super::extract::extract;
use crate::agent::datadir::exchange;
use crate::agent::room;
use crate::archive::manifest::{self, Manifest};
use crate::archive::part_name;
use crate::archive::unpack::{self, unpack};
use crate::backup::access::Access;
use crate::backup::conditions::Trouble;
use crate::store::{Error as StoreError, Store};
use crate::threads;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Parts on their way at the same time.
const DOWNLOADS: usize = 3;
/// No part is larger.
const LARGEST_PART: u64 = 64 << 20;
/// How long room is waited for that is being made, and how often it is looked for.
const SWEEP: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// Bytes that have to be free beside the content: for WAL and the server's own files.
const SPARE: u64 = 64 << 20;

fn key(access: &Access) -> Result<crate::archive::keys::DataKey, Trouble> {
    access.data_key().ok_or_else(|| Trouble::new("NoAccess", "the Secret of the order has no key"))
}

/// The manifest of the backup, if it is authentic and this server can run its content.
///
/// # Errors
/// Why not.
pub async fn manifest(store: &Store, access: &Access, major: u32) -> Result<Manifest, Trouble> {
    let name = format!("{}/{}", access.prefix, manifest::NAME);
    let text = store.get(&name, manifest::LARGEST).await.map_err(|error| Trouble::store(&error))?;
    let found = Manifest::read(&text, &key(access)?, &access.prefix).map_err(|error| match error {
        manifest::Error::Key => Trouble::new("EncryptionPasswordChanged", error.to_string()),
        error => Trouble::new("BackupDamaged", error.to_string()),
    })?;
    Trouble::unless_same_major(found.postgresql_major, major)?;
    Ok(found)
}

/// Writes the backup into `target`, which must not exist. When it succeeds, every byte was authentic.
///
/// # Errors
/// Why it cannot be had. What was written is left.
pub async fn fetch(store: &Store, access: &Access, manifest: &Manifest, target: &Path) -> Result<(), Trouble> {
    let volume = target.parent().unwrap_or(target);
    // What an earlier restore has replaced may still be on its way out.
    let begun = Instant::now();
    while let Err(trouble) = check_space(volume, manifest.summary.plain_bytes) {
        if exchange::is_swept(volume) || begun.elapsed() > SWEEP {
            return Err(trouble);
        }
        tokio::time::sleep(LOOK).await;
    }
    let (parts, mut taken) = mpsc::channel::<Result<Bytes, io::Error>>(1);
    let (done, unpacked) = oneshot::channel();
    let (data_key, summary, directory) = (key(access)?, manifest.summary.clone(), target.to_owned());
    // A thread of its own: it lasts as long as the restore does.
    let unpacking = threads::spawn(move || {
        let source = std::iter::from_fn(|| taken.blocking_recv());
        // Nobody waits for it any more if the restore was given up.
        let _ = done.send(unpack(source, &data_key, &summary, |plain| extract(plain, &directory)));
    });
    unpacking.map_err(|error| Trouble::new("VolumeFailed", format!("the backup cannot be unpacked: {error}")))?;
    let downloads = stream::iter(0..manifest.summary.parts).map(|number| async move {
        let name = format!("{}/{}", access.prefix, part_name(number));
        store.get(&name, LARGEST_PART).await
    });
    let mut downloads = pin!(downloads.buffered(DOWNLOADS));
    let downloaded = loop {
        match downloads.try_next().await {
            Ok(Some(part)) => {
                // Whoever takes no more says why.
                if parts.send(Ok(part)).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = &downloaded {
        let _ = parts.send(Err(io::Error::other(error.to_string()))).await;
    }
    drop(parts);
    let unpacked = unpacked.await;
    downloaded.map_err(|error| match error {
        StoreError::NoSuchObject { .. } => {
            Trouble::new("BackupIncomplete", format!("an object of the backup is missing: {error}"))
        }
        error => Trouble::store(&error),
    })?;
    match unpacked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_) => Err(Trouble::new("VolumeFailed", "the thread that wrote the backup ended early")),
    }
}

fn trouble(error: &unpack::Error) -> Trouble {
    let text = crate::chain(error);
    match error {
        unpack::Error::Invalid(_) | unpack::Error::Other => Trouble::new("BackupDamaged", text),
        unpack::Error::Source(_) => Trouble::new("StoreUnreachable", text),
        unpack::Error::Consumer(error) if error.kind() == io::ErrorKind::StorageFull => {
            Trouble::new("NoSpace", "the volume became full while the backup was written; nothing of it is left")
        }
        unpack::Error::Consumer(_) => Trouble::new("VolumeFailed", format!("cannot write the backup: {text}")),
    }
}

/// The old content stays until the new one is in its place: both have to fit.
fn check_space(volume: &Path, needed: u64) -> Result<(), Trouble> {
    let Some(free) = room::free(volume) else { return Ok(()) };
    if free >= u128::from(needed + SPARE) {
        return Ok(());
    }
    let needed = (needed + SPARE) >> 20;
    Err(Trouble::new("NoSpace", format!("the volume has {} MiB free, and the restore needs {needed} MiB", free >> 20)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{FORMAT, Summary};
    use crate::store::tests::{config, credentials, object, server};
    use crate::store::{Limits, Names};

    #[tokio::test]
    async fn what_is_damaged_at_its_beginning_is_not_fetched_to_its_end() {
        const PARTS: u32 = 500;
        // What is no part of a backup, whatever is asked for.
        let (endpoint, requests) = server(vec![object(&" ".repeat(100))]).await;
        let (config, credentials) = (config(&endpoint), credentials());
        let limits = Limits { silence: Duration::from_secs(10), patience: Duration::from_secs(1) };
        let store = Store::new(&config, &credentials, Names::system(), limits).expect("a client");
        let key = crate::archive::keys::DataKey::derive(b"secret", "1-2-3");
        let access = Access::new("4-5-6", &config, &credentials, &key, ("1-2-3", "shop/solo/1-2-3/4-5-6"));
        let summary = Summary { stream: String::new(), parts: PARTS, stored_bytes: 0, plain_bytes: 0 };
        let manifest = Manifest {
            format: FORMAT,
            backup_uid: "1-2-3".into(),
            backup_id: "4-5-6".into(),
            namespace: "shop".into(),
            instance: "solo".into(),
            postgresql_major: 15,
            system_identifier: "7".into(),
            timeline: 1,
            start_lsn: "0/2000028".into(),
            end_lsn: "0/2000100".into(),
            started_at: String::new(),
            finished_at: String::new(),
            key: key.identifier(),
            summary,
        };
        let volume = tempfile::tempdir().expect("a directory");
        let fetched = fetch(&store, &access, &manifest, &volume.path().join("incoming")).await;
        assert_eq!(fetched.expect_err("refused").reason, "BackupDamaged");
        let asked = requests.lock().expect("no panic").len();
        assert!(asked < PARTS as usize / 2, "{asked} of {PARTS} parts were fetched for nothing");
    }
}
