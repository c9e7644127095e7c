//! Backups and restores as the API server, the store and the servers show them, and what may go wrong meanwhile.

use std::time::Duration;

use a8s_operators::SYSTEM_NAMESPACE;
use a8s_operators::archive::keys::DataKey;
use a8s_operators::archive::manifest::{self, Manifest};
use a8s_operators::archive::record::{self, HEADER, PREFIX};
use a8s_operators::object_store::manifests::NAMESPACE;
use a8s_operators::store::{Settings, Store};
use cucumber::{given, then, when};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::instance::existing;
use crate::conformance::inventory;
use crate::conformance::observe::{self, Look, condition, holds, refused, until};
use crate::conformance::{Failure, World};
use crate::postgres::{self, DATABASE};

/// A backup or restore with retries may take so long.
const LONG: Duration = Duration::from_secs(150);
/// How a zstd frame begins (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The store that the scenario's cluster is configured for.
pub(in crate::conformance) async fn store(world: &World) -> Result<Store, Failure> {
    observe::store_of(world.client().await?).await
}

/// Where the cluster's backups go, and with what secrets.
pub(in crate::conformance) async fn settings(world: &World) -> Result<Settings, Failure> {
    observe::settings_of_store(&world.client().await?).await
}

/// The keys of a backup's objects, as a listing of the whole bucket of this namespace shows them: all have its UID.
async fn keys(world: &World, backup: &str) -> Result<Vec<String>, Failure> {
    let object = existing(world, "backup", backup).await?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let all = store(world).await?.list(world.namespace()).await.map_err(refused)?;
    Ok(all.into_iter().map(|entry| entry.key).filter(|key| key.contains(&uid)).collect())
}

async fn order(world: &World, kind: &str, name: &str, spec: Value) -> Result<(), Failure> {
    let api = observe::objects(&world.client().await?, world.namespace(), kind)?;
    let document = json!({
        "apiVersion": "backups.anynines.com/v1beta3",
        "kind": if kind == "backup" { "Backup" } else { "Restore" },
        "metadata": {"name": name},
        "spec": spec,
    });
    api.create(&PostParams::default(), &serde_json::from_value(document)?).await?;
    Ok(())
}

fn instance(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "postgresql.anynines.com", "kind": kind, "name": name})
}

#[when(expr = "somebody orders a backup {string} of {string}")]
async fn order_backup(world: &mut World, name: String, of: String) -> Result<(), Failure> {
    order(world, "backup", &name, json!({"serviceInstance": instance("Postgresql", &of)})).await
}

#[when(expr = "somebody orders a backup {string} of the {string} {string}")]
async fn order_backup_of(world: &mut World, name: String, kind: String, of: String) -> Result<(), Failure> {
    order(world, "backup", &name, json!({"serviceInstance": instance(&kind, &of)})).await
}

#[when(expr = "somebody orders a backup {string} of {string} with at most {int} retries")]
async fn order_limited(world: &mut World, name: String, of: String, retries: u32) -> Result<(), Failure> {
    let spec = json!({"serviceInstance": instance("Postgresql", &of), "maxRetries": retries.to_string()});
    order(world, "backup", &name, spec).await
}

#[when(expr = "somebody orders a restore {string} of the backup {string} into {string}")]
pub(super) async fn order_restore(
    world: &mut World,
    name: String,
    backup: String,
    into: String,
) -> Result<(), Failure> {
    let spec = json!({"backupName": backup, "serviceInstance": instance("Postgresql", &into)});
    order(world, "restore", &name, spec).await
}

#[then(regex = r#"^the (backup|restore) "([^"]+)" is soon complete$"#)]
pub(super) async fn soon_complete(world: &mut World, kind: String, name: String) -> Result<(), Failure> {
    until(format!("the end of the {kind} {name}"), LONG, || async {
        let object = existing(world, &kind, &name).await?;
        Ok(Look::when(holds(&object, "Complete"), &object["status"]))
    })
    .await
}

/// Whatever happened to it just now has happened while it was made.
#[then(regex = r#"^the (backup|restore) "([^"]+)" is not complete yet$"#)]
async fn not_complete(world: &mut World, kind: String, name: String) -> Result<(), Failure> {
    match is_complete(world, &kind, &name).await? {
        false => Ok(()),
        true => Err(Failure::unexpected(format!("a {kind} that is made"), "a complete one")),
    }
}

pub(super) async fn is_complete(world: &World, kind: &str, name: &str) -> Result<bool, Failure> {
    Ok(holds(&existing(world, kind, name).await?, "Complete"))
}

#[then(regex = r#"^the (backup|restore) "([^"]+)" fails for good with "(.+)"$"#)]
async fn fails(world: &mut World, kind: String, name: String, words: String) -> Result<(), Failure> {
    let message = until(format!("the failure of the {kind} {name}"), LONG, || async {
        let object = existing(world, &kind, &name).await?;
        let failed = condition(&object, "PermanentlyFailed").filter(|it| it["status"] == "True");
        Ok(match failed {
            Some(failed) => Look::Yes(failed["message"].as_str().unwrap_or_default().to_owned()),
            None => Look::NotYet(object["status"].to_string()),
        })
    })
    .await?;
    Failure::unless(message.contains(&words), words, message)
}

#[then(expr = "the backup {string} waits because the store {string}")]
async fn waits(world: &mut World, name: String, words: String) -> Result<(), Failure> {
    await_progress(world, "backup", &name, "False", &words).await
}

#[then(regex = r#"^the (backup|restore) "([^"]+)" (waits|runs) and says "(.+)"$"#)]
async fn says(world: &mut World, kind: String, name: String, how: String, words: String) -> Result<(), Failure> {
    let status = if how == "runs" { "True" } else { "False" };
    await_progress(world, &kind, &name, status, &words).await
}

/// Looks until the condition `InProgress` has a status and says certain words.
async fn await_progress(world: &World, kind: &str, name: &str, status: &str, words: &str) -> Result<(), Failure> {
    until(format!("the {kind} {name} to say how far it is"), LONG, || async {
        let object = existing(world, kind, name).await?;
        let said = condition(&object, "InProgress").filter(|it| it["status"] == status);
        let is_said = said.is_some_and(|it| it["message"].as_str().is_some_and(|text| text.contains(words)));
        Ok(Look::when(is_said, &object["status"]))
    })
    .await
}

#[then(expr = "the backup {string} was tried again")]
async fn tried_again(world: &mut World, name: String) -> Result<(), Failure> {
    let object = existing(world, "backup", &name).await?;
    let retries = object["status"]["retries"].as_i64().unwrap_or(0);
    Failure::unless(retries > 0, "retries", &object["status"])
}

/// As it is now: with its UID, and for a restore its address.
#[then(regex = r#"^the (backup|restore) "([^"]+)" names the pod "([^"]+)"$"#)]
async fn names_pod(world: &mut World, kind: String, name: String, pod: String) -> Result<(), Failure> {
    let object = existing(world, &kind, &name).await?;
    let status = &object["status"];
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    let there = pods.get(&pod).await?;
    let (uid, address) = (there.metadata.uid, there.status.and_then(|status| status.pod_ip));
    let place = format!("{}/{pod}", world.namespace());
    let (found, wanted, id) = if kind == "backup" {
        let found = json!([status["podUsedNamespacedName"], status["podUsedUID"]]);
        (found, json!([place, uid]), &status["backupID"])
    } else {
        let poll = &status["podToPoll"];
        let found = json!([poll["namespacedName"], poll["uid"], poll["ip"]]);
        (found, json!([place, uid, address]), &status["restoreID"])
    };
    let has_id = id.as_str().is_some_and(|id| !id.is_empty());
    Failure::unless(found == wanted && has_id, format!("{wanted} and an identifier"), status)
}

#[then(expr = "the store has the manifest of the backup {string}")]
async fn has_manifest(world: &mut World, name: String) -> Result<(), Failure> {
    let keys = keys(world, &name).await?;
    let is_there = keys.iter().any(|key| key.ends_with("/manifest.json")) && keys.len() > 1;
    Failure::unless(is_there, "a manifest and parts", format!("{keys:?}"))
}

/// Words are not to be seen in what is compressed either: so no record may be a zstd frame, which anybody can read.
#[then(expr = "no object of the backup {string} contains {string}")]
async fn is_encrypted(world: &mut World, name: String, words: String) -> Result<(), Failure> {
    let store = store(world).await?;
    let mut keys = keys(world, &name).await?;
    // Parts are numbered, and a record may go on in the next one.
    keys.sort();
    let mut stream: Vec<u8> = Vec::new();
    for key in keys {
        let content = store.get(&key, 64 << 20).await.map_err(refused)?;
        if content.windows(words.len()).any(|window| window == words.as_bytes()) {
            return Err(Failure::unexpected("an encrypted object", key));
        }
        if key.contains("/part-") {
            stream.extend_from_slice(&content);
        }
    }
    match records(&stream)?.iter().position(|record| record.starts_with(&ZSTD)) {
        Some(number) => Err(Failure::unexpected("encrypted records", format!("record {number} is only compressed"))),
        None => Ok(()),
    }
}

/// The records of a backup's stream, each without its length. That there is none is a failure: nothing was looked at.
fn records(stream: &[u8]) -> Result<Vec<&[u8]>, Failure> {
    let damaged = || Failure::unexpected("a header and whole records", format!("{} bytes", stream.len()));
    let mut rest = stream.get(HEADER..).filter(|_| stream.starts_with(record::MAGIC)).ok_or_else(damaged)?;
    let mut found = Vec::new();
    while let Some((prefix, more)) = rest.split_first_chunk::<PREFIX>() {
        let length = record::length(*prefix, 0).map_err(|_| damaged())?;
        let (record, after) = more.split_at_checked(length).ok_or_else(damaged)?;
        found.push(record);
        rest = after;
    }
    if found.is_empty() || !rest.is_empty() { Err(damaged()) } else { Ok(found) }
}

#[then(expr = "the store has one attempt of the backup {string}")]
async fn one_attempt(world: &mut World, name: String) -> Result<(), Failure> {
    let keys = keys(world, &name).await?;
    let manifests = keys.iter().filter(|key| key.ends_with("/manifest.json")).count();
    let places: std::collections::BTreeSet<_> = keys.iter().filter_map(|key| Some(key.rsplit_once('/')?.0)).collect();
    Failure::unless(manifests == 1 && places.len() == 1, "one attempt with its manifest", format!("{keys:?}"))
}

#[then("the store has nothing of this namespace")]
async fn nothing(world: &mut World) -> Result<(), Failure> {
    let left = store(world).await?.list(world.namespace()).await.map_err(refused)?;
    Failure::unless(left.is_empty(), "no object", format!("{left:?}"))
}

#[then(expr = "the store soon has nothing of the backup {string}")]
async fn soon_nothing(world: &mut World, name: String) -> Result<(), Failure> {
    until(format!("the end of the objects of {name}"), LONG, || async {
        let keys = keys(world, &name).await?;
        Ok(Look::when(keys.is_empty(), format!("{keys:?}")))
    })
    .await
}

#[then("nobody has access to the store any more")]
async fn no_access(world: &mut World) -> Result<(), Failure> {
    let client = world.client().await?;
    for (kind, end) in [("secret", "-backup-store"), ("role", ":order"), ("rolebinding", ":order")] {
        let all = observe::all(&client, world.namespace(), kind).await?;
        let left: Vec<_> = all.into_iter().filter_map(|object| object.metadata.name).collect();
        if left.iter().any(|name| name.ends_with(end)) {
            return Err(Failure::unexpected(format!("no {kind} for orders"), format!("{left:?}")));
        }
    }
    Ok(())
}

#[when(expr = "the backup {string} has begun to upload")]
async fn has_begun(world: &mut World, name: String) -> Result<(), Failure> {
    until(format!("the first object of {name}"), LONG, || async {
        let keys = keys(world, &name).await?;
        let object = existing(world, "backup", &name).await?;
        if holds(&object, "Complete") {
            return Err(Failure::unexpected("a backup that runs", "a complete one"));
        }
        Ok(Look::when(!keys.is_empty(), &object["status"]))
    })
    .await
}

#[when(expr = "the restore {string} has begun")]
async fn restore_has_begun(world: &mut World, name: String) -> Result<(), Failure> {
    Failure::unless(is_seen_to_run(world, &name).await?, "a restore that runs", "a complete one")
}

/// Waits until a restore runs. `false`: it was complete before it was seen to.
pub(super) async fn is_seen_to_run(world: &World, name: &str) -> Result<bool, Failure> {
    until(format!("the begin of {name}"), LONG, || async {
        let object = existing(world, "restore", name).await?;
        let runs = condition(&object, "Restored").is_some_and(|it| it["reason"] == "Running");
        Ok(match runs || holds(&object, "Complete") {
            true => Look::Yes(runs),
            false => Look::NotYet(object["status"].to_string()),
        })
    })
    .await
}

#[when(expr = "the backup agent of {string} is killed")]
async fn kill_agent(world: &mut World, name: String) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    kill_in(&pods, &format!("{name}-0"), "agent backup").await
}

#[when("the process of the store is killed")]
pub(super) async fn kill_store(world: &mut World) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(world.client().await?, NAMESPACE);
    let pod = pods.list_metadata(&ListParams::default()).await?.items.into_iter().find_map(|pod| pod.metadata.name);
    kill_in(&pods, &pod.ok_or(Failure::Missing("pod of the store"))?, "object-store").await
}

async fn kill_in(pods: &Api<Pod>, pod: &str, words: &str) -> Result<(), Failure> {
    let uid = pods.get(pod).await?.metadata.uid.ok_or(Failure::Missing("uid of the pod"))?;
    let processes = inventory::processes_marked("A9S_POD_UID", &uid);
    let target = processes.iter().filter(|process| process.line.contains(words)).min_by_key(|process| process.pid);
    let target = target.ok_or_else(|| Failure::unexpected(format!("a process {words}"), format!("{processes:?}")))?;
    Ok(target.signal(Signal::SIGKILL)?)
}

#[given(expr = "{int} MB of random data in {string}")]
#[when(expr = "{int} MB of random data are put into {string}")]
async fn random_data(world: &mut World, megabytes: u32, name: String) -> Result<(), Failure> {
    let login = observe::login(&world.client().await?, world.namespace(), &name).await?;
    // 32 bytes of a digest do not compress, and an eighth of all is more than is compressed at a time.
    let rows = megabytes * 1000 / 8;
    let double = "INSERT INTO noise SELECT * FROM noise;";
    let sql = format!(
        "CREATE TABLE noise AS SELECT n, (SELECT string_agg(sha256((n::text || m)::bytea), '') \
         FROM generate_series(1, 30) m) AS bytes FROM generate_series(1, {rows}) n; {double} {double} {double}"
    );
    Ok(postgres::ask(&login, DATABASE, &sql).await.map(drop)?)
}

#[when(expr = "I create a backup {string} of {string} while a client writes to {string}")]
async fn while_writing(world: &mut World, name: String, of: String, table: String) -> Result<(), Failure> {
    let login = observe::login(&world.client().await?, world.namespace(), &of).await?;
    let client = postgres::connect(&login, DATABASE).await?;
    let writing = async {
        for number in 1.. {
            client.batch_execute(&format!("INSERT INTO {table} VALUES ('{number}')")).await?;
        }
        Ok::<(), Failure>(())
    };
    let words = ["create", "pg", "backup", "--name", &name, "-i", &of, "--yes"];
    tokio::select! {
        failed = writing => failed,
        done = world.a9s(&words) => done.map(drop),
    }
}

#[when(expr = "a byte of the backup {string} is changed in the store")]
async fn tamper(world: &mut World, name: String) -> Result<(), Failure> {
    let store = store(world).await?;
    let keys = keys(world, &name).await?;
    let part = keys.iter().find(|key| key.contains("/part-")).ok_or(Failure::Missing("part of the backup"))?;
    let mut content = store.get(part, 64 << 20).await.map_err(refused)?.to_vec();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    store.put(part, content.into()).await.map_err(refused)
}

/// The key and the text of a backup's manifest.
async fn manifest(world: &World, backup: &str) -> Result<(String, Vec<u8>), Failure> {
    let mut keys = keys(world, backup).await?.into_iter();
    let key = keys.find(|key| key.ends_with(manifest::NAME)).ok_or(Failure::Missing("manifest of the backup"))?;
    let text = store(world).await?.get(&key, manifest::LARGEST).await.map_err(refused)?;
    Ok((key, text.to_vec()))
}

#[when(expr = "somebody writes another time into the manifest of the backup {string}")]
async fn forge(world: &mut World, name: String) -> Result<(), Failure> {
    let (key, text) = manifest(world, &name).await?;
    let text = String::from_utf8_lossy(&text);
    let forged = text.replace(r#""startedAt":"2"#, r#""startedAt":"1"#);
    if forged == text {
        return Err(Failure::Missing("time in the manifest"));
    }
    store(world).await?.put(&key, forged.into_bytes().into()).await.map_err(refused)
}

#[when(expr = "the backup {string} in the store is one of PostgreSQL {int}")]
async fn of_another_major(world: &mut World, name: String, major: u32) -> Result<(), Failure> {
    rewrite(world, &name, |manifest| manifest.postgresql_major = major).await
}

#[when(expr = "the manifest of the backup {string} in the store is that of an earlier attempt")]
async fn of_another_attempt(world: &mut World, name: String) -> Result<(), Failure> {
    rewrite(world, &name, |manifest| manifest.backup_id = "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned()).await
}

/// Changes the manifest of a backup as a program with the encryption password would write it.
async fn rewrite(world: &World, name: &str, change: impl FnOnce(&mut Manifest)) -> Result<(), Failure> {
    let (key, text) = manifest(world, name).await?;
    let unusable = |error: &dyn std::fmt::Display| Failure::unexpected("a manifest", error.to_string());
    let settings = settings(world).await?;
    let backup = existing(world, "backup", name).await?;
    let data_key = DataKey::derive(&settings.password, backup["metadata"]["uid"].as_str().unwrap_or_default());
    let (place, _) = key.rsplit_once('/').ok_or(Failure::Missing("place of the backup"))?;
    let mut found = Manifest::read(&text, &data_key, place).map_err(|error| unusable(&error))?;
    change(&mut found);
    store(world).await?.put(&key, found.write(&data_key).into()).await.map_err(refused)
}

#[when(expr = "an object of the backup {string} is removed from the store")]
async fn lose(world: &mut World, name: String) -> Result<(), Failure> {
    let keys = keys(world, &name).await?;
    let part = keys.iter().find(|key| key.contains("/part-")).ok_or(Failure::Missing("part of the backup"))?;
    store(world).await?.delete(part).await.map_err(refused)
}

/// Changes one word of the store's configuration, and remembers how it was.
async fn configure(world: &mut World, word: &str, new: Option<&str>) -> Result<(), Failure> {
    let client = world.client().await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(client, SYSTEM_NAMESPACE);
    if word.contains('-') {
        let name = "a8s-backup-storage-credentials";
        let found = secrets.get(name).await?.data.unwrap_or_default().remove(word);
        let found = String::from_utf8_lossy(&found.ok_or(Failure::Missing("word in the Secret"))?.0).into_owned();
        let new = remembered(world, word, new, found)?;
        let patch = json!({"stringData": {word: new}});
        secrets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        return Ok(());
    }
    let (name, key) = ("a8s-backup-store-config", "backup-store-config.yaml");
    let text = maps.get(name).await?.data.unwrap_or_default().remove(key).ok_or(Failure::Missing("configuration"))?;
    let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{word}:")));
    let (before, value) = line.and_then(|line| line.split_once(": ")).ok_or(Failure::Missing("word to change"))?;
    let new = remembered(world, word, new, value.to_owned())?;
    let text = text.replace(&format!("{before}: {value}"), &format!("{before}: {new}"));
    maps.patch(name, &PatchParams::default(), &Patch::Merge(json!({"data": {key: text}}))).await?;
    Ok(())
}

/// The new word; without one, the one that was there first.
fn remembered(world: &mut World, word: &str, new: Option<&str>, found: String) -> Result<String, Failure> {
    match new {
        Some(new) => {
            world.notes.entry(word.to_owned()).or_insert(found);
            Ok(new.to_owned())
        }
        None => world.notes.remove(word).ok_or(Failure::Missing("earlier word")),
    }
}

#[when("the secret key of the store is wrong")]
async fn wrong_key(world: &mut World) -> Result<(), Failure> {
    configure(world, "secret-access-key", Some("wrong")).await
}

#[when("the secret key of the store is right again")]
async fn right_key(world: &mut World) -> Result<(), Failure> {
    configure(world, "secret-access-key", None).await
}

#[when("the encryption password is changed")]
async fn other_password(world: &mut World) -> Result<(), Failure> {
    configure(world, "encryption-password", Some("another password")).await
}

#[when("the encryption password is right again")]
async fn right_password(world: &mut World) -> Result<(), Failure> {
    configure(world, "encryption-password", None).await
}

#[when(expr = "the bucket of the store is {string}")]
async fn other_bucket(world: &mut World, name: String) -> Result<(), Failure> {
    configure(world, "container", Some(&name)).await
}

#[when("the bucket of the store is right again")]
async fn right_bucket(world: &mut World) -> Result<(), Failure> {
    configure(world, "container", None).await
}

/// Port 1 of loopback: nobody listens there.
#[when("the store is away")]
async fn away(world: &mut World) -> Result<(), Failure> {
    configure(world, "endpoint", Some("http://127.0.0.1:1")).await
}

#[when("the store is back")]
async fn back(world: &mut World) -> Result<(), Failure> {
    configure(world, "endpoint", None).await
}
