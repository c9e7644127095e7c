//! The object store and the password that backups are encrypted with, as the stack knows them.

use std::path::PathBuf;
use std::time::Duration;

use a8s_operators::object_store::manifests::NAMESPACE;
use a8s_operators::store::{Credentials, Limits, Names, PASSWORD, Store};
use bytes::Bytes;
use cucumber::{given, then, when};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::backup::settings;
use crate::conformance::beside::ObjectStore;
use crate::conformance::{Failure, World, observe};

/// Directory of the home with the keys of a store beside the cluster.
const KEYS: &str = "store-keys";
/// The note of a secret key that is remembered.
const SECRET: &str = "remembered secret key";
const COPY: &str = "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password";
/// No object of ours in the features is larger.
const LARGEST: u64 = 1 << 20;

async fn client(world: &World, credentials: Option<Credentials>) -> Result<Store, Failure> {
    let settings = settings(world).await?;
    let cluster = world.client().await?;
    let config = observe::of_store(&cluster, settings.config).await?;
    let names = Names::of_cluster(cluster);
    let limits = Limits { silence: Duration::from_secs(10), patience: Duration::from_secs(20) };
    Store::new(&config, &credentials.unwrap_or(settings.credentials), names, limits)
        .map_err(|error| Failure::unexpected("a client of the store", error.to_string()))
}

async fn get(world: &World, key: &str) -> Result<String, Failure> {
    let found = client(world, None).await?.get(key, LARGEST).await;
    let found = found.map_err(|error| Failure::unexpected(format!("the object {key}"), error.to_string()))?;
    Ok(String::from_utf8_lossy(&found).into_owned())
}

#[given(expr = "the object {string} with {string}")]
async fn put(world: &mut World, key: String, text: String) -> Result<(), Failure> {
    let key = world.expand(&key);
    let put = client(world, None).await?.put(&key, Bytes::from(text)).await;
    put.map_err(|error| Failure::unexpected(format!("the store takes {key}"), error.to_string()))
}

#[then(expr = "the object {string} is {string}")]
async fn is(world: &mut World, key: String, text: String) -> Result<(), Failure> {
    let found = get(world, &key).await?;
    Failure::unless(found == text, text, found)
}

/// Its address is `{store}`, and the keys are in the environment.
#[given(expr = "an object store in a container, with the bucket {string}")]
async fn in_container(world: &mut World, bucket: String) -> Result<(), Failure> {
    let keys = keys_beside();
    let store = ObjectStore::in_container(&world.surroundings.home.join(KEYS), &bucket, &keys)?;
    let variables = [("A9S_BACKUP_STORE_ACCESSKEY", keys.access_key), ("A9S_BACKUP_STORE_SECRETKEY", keys.secret_key)];
    world.surroundings.env.extend(variables.map(|(name, value)| (name.to_owned(), value)));
    world.store = Some(store);
    Ok(())
}

fn keys_beside() -> Credentials {
    Credentials { access_key: "beside".to_owned(), secret_key: "the-cluster".to_owned() }
}

/// Its address is `{store}`, and the keys are in files below `{home}/store-keys`.
#[given(expr = "an object store beside the cluster, with the bucket {string}")]
async fn beside(world: &mut World, bucket: String) -> Result<(), Failure> {
    let (keys, data) = (world.surroundings.home.join(KEYS), world.surroundings.home.join("store-data"));
    world.store = Some(ObjectStore::as_process(&world.surroundings, &keys, &data, &bucket, &keys_beside()).await?);
    Ok(())
}

fn store_beside(world: &World) -> Result<&ObjectStore, Failure> {
    world.store.as_ref().ok_or(Failure::Missing("object store beside the cluster"))
}

#[when("the store beside the cluster is frozen")]
async fn freeze(world: &mut World) -> Result<(), Failure> {
    store_beside(world)?.freeze(true)
}

#[when("the store beside the cluster goes on")]
async fn unfreeze(world: &mut World) -> Result<(), Failure> {
    store_beside(world)?.freeze(false)
}

/// A backup is what lies below one attempt of one Backup (`docs/backup-format.md`).
#[then(expr = "the object store has {int} backups of {string}")]
async fn has_backups(world: &mut World, count: usize, instance: String) -> Result<(), Failure> {
    let found = client(world, None).await?.list(&format!("{}/{instance}", world.namespace())).await;
    let found = found.map_err(|error| Failure::unexpected("objects", error.to_string()))?;
    let whole: Vec<&str> = found.iter().filter_map(|entry| entry.key.strip_suffix("/manifest.json")).collect();
    Failure::unless(whole.len() == count, count.to_string(), format!("{whole:?}"))
}

#[then("the object store takes and gives objects")]
async fn works(world: &mut World) -> Result<(), Failure> {
    put(world, "probe/object".to_owned(), "content".to_owned()).await?;
    is(world, "probe/object".to_owned(), "content".to_owned()).await?;
    let deleted = client(world, None).await?.delete_below("probe").await;
    match deleted {
        Ok(1) => Ok(()),
        other => Err(Failure::unexpected("one deleted object", format!("{other:?}"))),
    }
}

async fn refused(world: &World, credentials: Credentials, code: &str) -> Result<(), Failure> {
    match client(world, Some(credentials)).await?.list("probe").await {
        Err(error) if error.is_permanent() && error.to_string().contains(code) => Ok(()),
        other => Err(Failure::unexpected(format!("a refusal with {code}"), format!("{other:?}"))),
    }
}

#[then(expr = "the object store refuses the secret key {string} with {string}")]
async fn refuses_secret(world: &mut World, secret_key: String, code: String) -> Result<(), Failure> {
    let access_key = settings(world).await?.credentials.access_key;
    refused(world, Credentials { access_key, secret_key }, &code).await
}

#[then(expr = "the object store refuses the remembered secret key with {string}")]
async fn refuses_remembered(world: &mut World, code: String) -> Result<(), Failure> {
    let secret_key = remembered_key(world)?.to_owned();
    refuses_secret(world, secret_key, code).await
}

#[given("the secret key of the store is remembered")]
async fn remember_key(world: &mut World) -> Result<(), Failure> {
    let key = settings(world).await?.credentials.secret_key;
    world.notes.insert(SECRET.to_owned(), key);
    Ok(())
}

fn remembered_key(world: &World) -> Result<&str, Failure> {
    world.notes.get(SECRET).map(String::as_str).ok_or(Failure::Missing("remembered secret key"))
}

#[then(regex = r"^the secret key of the store is (the|another than the) remembered one$")]
async fn compare_key(world: &mut World, which: String) -> Result<(), Failure> {
    // Not even a key of a test is shown.
    let is_same = settings(world).await?.credentials.secret_key == remembered_key(world)?;
    let found = if is_same { "it" } else { "another" };
    Failure::unless(is_same == (which == "the"), format!("{which} remembered one"), found)
}

#[then(expr = "the object store refuses the access key {string} with {string}")]
async fn refuses_access(world: &mut World, access_key: String, code: String) -> Result<(), Failure> {
    let secret_key = settings(world).await?.credentials.secret_key;
    refused(world, Credentials { access_key, secret_key }, &code).await
}

#[then("there is no object store")]
async fn no_store(world: &mut World) -> Result<(), Failure> {
    let namespaces = Api::<Namespace>::all(world.client().await?);
    match namespaces.get_opt(NAMESPACE).await? {
        None => Ok(()),
        Some(_) => Err(Failure::unexpected(format!("no namespace {NAMESPACE}"), "one")),
    }
}

fn copy(world: &World) -> PathBuf {
    world.surroundings.home.join(COPY)
}

#[given("the encryption password is remembered")]
async fn remember(world: &mut World) -> Result<(), Failure> {
    let password = settings(world).await?.password;
    world.notes.insert(PASSWORD.to_owned(), String::from_utf8_lossy(&password).into_owned());
    Ok(())
}

fn compare(world: &World, found: &[u8]) -> Result<(), Failure> {
    // Not even a password of a test is shown.
    let is_same = world.notes.get(PASSWORD).map(String::as_bytes) == Some(found);
    Failure::unless(is_same, "the remembered password", "another")
}

#[then("the encryption password of the stack is the remembered one")]
async fn same(world: &mut World) -> Result<(), Failure> {
    compare(world, &settings(world).await?.password)
}

#[then("the copy of the encryption password is the remembered one")]
async fn same_copy(world: &mut World) -> Result<(), Failure> {
    compare(world, &fs_err::read(copy(world))?)
}

#[then(expr = "the file {string} holds the remembered encryption password")]
async fn held(world: &mut World, path: String) -> Result<(), Failure> {
    compare(world, &fs_err::read(world.surroundings.home.join(path))?)
}

#[when("the copy of the encryption password is lost")]
async fn lose(world: &mut World) -> Result<(), Failure> {
    Ok(fs_err::remove_file(copy(world))?)
}

#[when(expr = "the copy of the encryption password becomes {string}")]
async fn change(world: &mut World, text: String) -> Result<(), Failure> {
    Ok(fs_err::write(copy(world), text)?)
}
