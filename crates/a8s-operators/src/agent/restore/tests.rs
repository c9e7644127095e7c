//! From a running server through the format to a restored one, with a real server of this host.

use super::extract::extract;
use super::recover;
use crate::agent::backup::basebackup::{BaseBackup, Range};
use crate::agent::bootstrap::{self, Credentials};
use crate::agent::datadir::{self, exchange, identifier};
use crate::agent::server::Order as Exchange;
use crate::agent::server::tests::{Fixture, as_server_user_in, scenario};
use crate::archive::keys::DataKey;
use crate::archive::manifest::Manifest;
use crate::archive::pack::pack;
use crate::archive::unpack::unpack;
use crate::archive::{FORMAT, Sizes, Summary};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

const HASH: &str = "SELECT md5(string_agg(t::text, ',' ORDER BY n)) FROM t";

fn key() -> DataKey {
    DataKey::derive(b"secret", "1-2-3")
}

/// Takes a base backup of the fixture's server through the format, into memory.
async fn take(fixture: &Fixture) -> (Vec<Bytes>, Summary, Range) {
    let server = &fixture.server;
    let (source, output) = BaseBackup::start(&server.bin_directory, &server.pod.socket_directory).expect("started");
    let packing = tokio::task::spawn_blocking(move || {
        let mut parts = Vec::new();
        let summary = pack(output, &key(), Sizes::default(), |part| {
            parts.push(part);
            Ok(())
        });
        (parts, summary.expect("packed"))
    });
    let (packed, range) = tokio::join!(packing, source.finish());
    let (parts, summary) = packed.expect("no panic");
    (parts, summary, range.expect("a range"))
}

fn manifest(fixture: &Fixture, system_identifier: String, summary: Summary, range: Range) -> Manifest {
    Manifest {
        format: FORMAT,
        backup_uid: "1-2-3".into(),
        backup_id: "4-5-6".into(),
        namespace: "shop".into(),
        instance: "solo".into(),
        postgresql_major: fixture.server.major,
        system_identifier,
        timeline: range.timeline,
        start_lsn: range.start,
        end_lsn: range.end,
        started_at: String::new(),
        finished_at: String::new(),
        key: key().identifier(),
        summary,
    }
}

/// The content of a base backup beside the fixture's, not valid yet.
async fn unpacked(fixture: &Fixture, parts: Vec<Bytes>, summary: Summary) -> PathBuf {
    let incoming = fixture.server.volume.join(super::INCOMING);
    let directory = incoming.clone();
    let unpacking = move || unpack(parts.into_iter().map(Ok), &key(), &summary, |it| extract(it, &directory));
    tokio::task::spawn_blocking(unpacking).await.expect("no panic").expect("unpacked");
    incoming
}

fn credentials(fixture: &Fixture) -> (Credentials, Credentials) {
    let read = |path: &Path| Credentials::read(path).expect("readable");
    (read(&fixture.server.admin_credentials), read(&fixture.server.standby_credentials))
}

#[test]
fn a_restore_brings_back_exactly_what_was_backed_up_while_clients_are_connected() {
    as_server_user_in(
        module_path!(),
        "a_restore_brings_back_exactly_what_was_backed_up_while_clients_are_connected",
        || {
            let fixture = Fixture::new(true);
            scenario(async {
                let serving = fixture.during(|| async {
                    fixture.ready().await;
                    fixture.sql("CREATE TABLE t (n int, text text)").await;
                    fixture.sql("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n").await;
                    fixture.hide_logins_from_followers();
                    fixture.sql("CREATE ROLE \"a8s-sb-ggggggggg\" LOGIN").await;
                    let before = fixture.sql(HASH).await;
                    let (parts, summary, range) = take(&fixture).await;
                    assert!(summary.stored_bytes < summary.plain_bytes / 3, "{summary:?}");
                    let change =
                        "DELETE FROM t WHERE n % 2 = 0; CREATE TABLE later (n int); ALTER ROLE postgres PASSWORD 'x'";
                    fixture.sql(change).await;

                    let target = identifier::read(&fixture.server.data()).expect("readable");
                    let manifest = manifest(&fixture, target.to_string(), summary.clone(), range);
                    let incoming = unpacked(&fixture, parts, summary).await;
                    let credentials = credentials(&fixture);
                    recover::recover(&fixture.server, &incoming, &manifest, target, &credentials)
                        .await
                        .expect("recovered");
                    let client =
                        bootstrap::connect(&fixture.server.pod.socket_directory, "client").await.expect("connected");
                    let count = bootstrap::first(&client, "SELECT count(*) FROM public.t").await.expect("answered");
                    assert_eq!(count.as_deref(), Some("10000"), "the server has not noticed");

                    exchange::mark(&incoming, Some("g1")).expect("marked");
                    fs_err::rename(&incoming, fixture.server.volume.join(datadir::STAGED)).expect("staged");
                    let (done, answer) = oneshot::channel();
                    let order = Exchange { generation: "g1".into(), done };
                    fixture.orders().send(order).await.expect("the agent takes it");
                    assert_eq!(answer.await.expect("answered"), Ok(()));
                    let logins = fixture.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'").await;
                    assert_eq!(logins, "0", "of a service binding that is gone");
                    assert_eq!(fixture.sql(HASH).await, before, "at once, and with the password of the Secret");
                    assert_eq!(fixture.sql("SELECT to_regclass('later') IS NULL").await, "t");
                    assert_eq!(fixture.sql("SELECT timeline_id FROM pg_control_checkpoint()").await, "2");
                    assert!(!fixture.server.volume.join(datadir::STAGED).exists());
                });
                serving.await.expect("no error");
            });
        },
    );
}

#[test]
fn a_backup_of_another_instance_gets_the_identifier_of_this_one() {
    as_server_user_in(module_path!(), "a_backup_of_another_instance_gets_the_identifier_of_this_one", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                let (parts, summary, range) = take(&fixture).await;
                let found = identifier::read(&fixture.server.data()).expect("readable");
                let manifest = manifest(&fixture, found.to_string(), summary.clone(), range);
                let incoming = unpacked(&fixture, parts, summary).await;
                let other = Manifest { system_identifier: "1".into(), ..manifest.clone() };
                let credentials = credentials(&fixture);
                let refused = recover::recover(&fixture.server, &incoming, &other, found, &credentials).await;
                assert_eq!(refused.expect_err("refused").reason, "BackupDamaged");
                recover::recover(&fixture.server, &incoming, &manifest, 42, &credentials).await.expect("recovered");
                assert_eq!(identifier::read(&incoming).expect("readable"), 42);
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn a_backup_with_a_prepared_transaction_is_recovered() {
    as_server_user_in(module_path!(), "a_backup_with_a_prepared_transaction_is_recovered", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let allowing = async || {
                fixture.ready().await;
                fixture.sql("ALTER SYSTEM SET max_prepared_transactions = 3").await;
            };
            fixture.during(allowing).await.expect("no error");
            let serving = fixture.during(|| async {
                fixture.ready().await;
                fixture.sql("BEGIN; CREATE TABLE t (n int); PREPARE TRANSACTION 'kept'").await;
                let (parts, summary, range) = take(&fixture).await;
                let target = identifier::read(&fixture.server.data()).expect("readable");
                let manifest = manifest(&fixture, target.to_string(), summary.clone(), range);
                let incoming = unpacked(&fixture, parts, summary).await;
                // As of a member that had it because its primary did.
                fs_err::write(incoming.join("postgresql.auto.conf"), "").expect("written");
                let credentials = credentials(&fixture);
                recover::recover(&fixture.server, &incoming, &manifest, target, &credentials).await.expect("recovered");
            });
            serving.await.expect("no error");
        });
    });
}
