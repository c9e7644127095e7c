//! What the store promises: versions, conflicts, watches, and that nothing acknowledged is lost.

use serde_json::json;

use super::*;
use crate::objects::ChangeKind;

fn configmaps() -> GroupResource {
    GroupResource::new("", "configmaps")
}

fn key(name: &str) -> Key {
    Key::new(configmaps(), "default", name)
}

fn value(name: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"k": text}})
}

#[tokio::test]
async fn a_committed_object_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = store.create(key("a"), value("a", "1")).await.unwrap();
    let second = store.update(key("a"), value("a", "2"), first.version).await.unwrap();
    store.create(key("b"), value("b", "1")).await.unwrap();
    let b = store.fetch(&key("b")).unwrap();
    store.delete(key("b"), b.version).await.unwrap();
    let version = store.version();
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.version(), version, "a removal counts, too");
    assert!(store.fetch(&key("b")).is_none());
    let a = store.fetch(&key("a")).unwrap();
    assert_eq!(a.value["data"]["k"], "2");
    assert_eq!(a.version, second.version);
    assert_eq!(a.value["metadata"]["resourceVersion"], second.version.to_string());
}

#[tokio::test]
async fn a_writer_with_an_old_version_gets_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = store.create(key("a"), value("a", "1")).await.unwrap();
    assert!(matches!(store.create(key("a"), value("a", "1")).await, Err(Error::AlreadyExists)));
    store.update(key("a"), value("a", "2"), first.version).await.unwrap();
    assert!(matches!(store.update(key("a"), value("a", "3"), first.version).await, Err(Error::Conflict)));
    assert!(matches!(store.delete(key("a"), first.version).await, Err(Error::Conflict)));
    assert!(matches!(store.delete(key("x"), 1).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn what_could_not_be_read_again_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let nested = |levels: usize| {
        let mut object = value("a", "1");
        // Below the object itself.
        object["data"] = (2..levels).fold(json!({}), |inner, _| json!({"k": inner}));
        object
    };
    let first = store.create(key("a"), nested(depth::MOST)).await.unwrap();
    for levels in [depth::MOST + 1, 140] {
        assert!(matches!(store.create(key("b"), nested(levels)).await, Err(Error::TooDeep)));
        assert!(matches!(store.update(key("a"), nested(levels), first.version).await, Err(Error::TooDeep)));
    }
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.fetch(&key("a")).unwrap().bytes, first.bytes);
}

#[tokio::test]
async fn what_is_too_large_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let large = "x".repeat(3 << 19);
    let first = store.create(key("a"), value("a", &large[1000..])).await.unwrap();
    assert!(matches!(store.create(key("b"), value("b", &large)).await, Err(Error::TooLarge)));
    assert!(matches!(store.update(key("a"), value("a", &large), first.version).await, Err(Error::TooLarge)));
    assert_eq!(store.version(), first.version, "nothing was written");
}

#[tokio::test]
async fn many_writers_at_once_get_distinct_versions() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let names: Vec<String> = (0..50).map(|i| format!("c{i}")).collect();
    let created = futures::future::join_all(names.iter().map(|name| store.create(key(name), value(name, "x")))).await;
    let mut versions: Vec<u64> = created.into_iter().map(|object| object.unwrap().version).collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 50);
    assert_eq!(store.snapshot(&configmaps(), Some("default")).1.len(), 50);
}

#[tokio::test]
async fn a_watch_tells_changes_of_its_resource_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut watch = store.watch(&configmaps(), store.version()).unwrap();
    let secret = Key::new(GroupResource::new("", "secrets"), "default", "s");
    store.create(secret, value("s", "1")).await.unwrap();
    let a = store.create(key("a"), value("a", "1")).await.unwrap();
    let a = store.update(key("a"), value("a", "2"), a.version).await.unwrap();
    store.delete(key("a"), a.version).await.unwrap();
    let kinds: Vec<ChangeKind> = watch.next().await.unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted]);
    assert_eq!(watch.version(), store.version());
}

#[tokio::test]
async fn a_watch_that_lags_behind_is_told_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut watch = store.watch(&configmaps(), store.version()).unwrap();
    let a = store.create(key("a"), value("a", "1")).await.unwrap();
    store.update(key("a"), value("a", "2"), a.version).await.unwrap();
    let names: Vec<String> = (0..100).map(|i| format!("m{i}")).collect();
    futures::future::join_all(names.iter().map(|name| store.create(key(name), value(name, "x")))).await;
    let events = watch.next().await.unwrap();
    assert_eq!(events.len(), 102);
    assert_eq!(events[1].object.value["data"]["k"], "2");
    assert_eq!(events[1].previous.as_ref().unwrap().value["data"]["k"], "1");
    assert_eq!(events[1].version, events[1].object.version);
}

#[tokio::test]
async fn a_watch_wakes_up_for_a_later_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut watch = store.watch(&configmaps(), store.version()).unwrap();
    let waiting = tokio::spawn(async move { watch.next().await.map(|events| events.len()) });
    tokio::task::yield_now().await;
    store.create(key("a"), value("a", "1")).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_quiet_watch_does_not_grow_old_by_the_changes_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let secrets = GroupResource::new("", "secrets");
    let start = store.version();
    let mut watch = store.watch(&secrets, start).unwrap();
    let names: Vec<String> = (0..4200).map(|i| format!("n{i}")).collect();
    futures::future::join_all(names.iter().map(|name| store.create(key(name), value(name, "x")))).await;
    assert!(matches!(store.watch(&configmaps(), start), Err(Error::Expired { .. })));
    store.create(Key::new(secrets.clone(), "default", "s"), value("s", "1")).await.unwrap();
    assert_eq!(watch.next().await.unwrap().len(), 1);
    assert_eq!(store.watch(&secrets, start).unwrap().next().await.unwrap().len(), 1);
    drop(watch);
    drop(store);
    // Whoever asks for what was before a start asks for what nobody knows.
    let store = Store::open(dir.path()).unwrap();
    assert!(matches!(store.watch(&secrets, start), Err(Error::Expired { .. })));
}

#[tokio::test]
async fn an_old_list_is_reconstructed_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let a = store.create(key("a"), value("a", "1")).await.unwrap();
    store.create(key("b"), value("b", "1")).await.unwrap();
    let then = store.version();
    store.update(key("a"), value("a", "2"), a.version).await.unwrap();
    let b = store.fetch(&key("b")).unwrap();
    store.delete(key("b"), b.version).await.unwrap();
    store.create(key("c"), value("c", "1")).await.unwrap();
    // Enough for these changes to be kept as bytes only.
    let names: Vec<String> = (0..100).map(|i| format!("m{i}")).collect();
    futures::future::join_all(names.iter().map(|name| store.create(key(name), value(name, "x")))).await;
    let old = store.snapshot_at(&configmaps(), None, then).unwrap();
    let texts: Vec<_> =
        old.iter().map(|object| (object.key.name.as_str(), object.value["data"]["k"].as_str().unwrap())).collect();
    assert_eq!(texts, [("a", "1"), ("b", "1")]);

    // Many at once: they share transactions.
    let names: Vec<String> = (0..4200).map(|i| format!("n{i}")).collect();
    futures::future::join_all(names.iter().map(|name| store.create(key(name), value(name, "x")))).await;
    assert!(matches!(store.snapshot_at(&configmaps(), None, then), Err(Error::Expired { .. })));
    assert!(matches!(store.watch(&configmaps(), then), Err(Error::Expired { .. })));
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::InUse(_))));
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn foreign_damaged_and_vanished_files_are_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let file = dir.path().join("store.redb");
    let good = fs_err::read(&file).unwrap();

    fs_err::write(&file, b"this is not a database, it is a letter to a friend").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::Corrupt { .. })));
    assert!(fs_err::read(&file).unwrap().starts_with(b"this is not"));

    fs_err::write(&file, b"").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::Corrupt { .. })));
    fs_err::remove_file(&file).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::Corrupt { .. })));
    assert!(!file.exists());

    fs_err::write(&file, &good).unwrap();
    fs_err::write(dir.path().join("store.format"), "2\n").unwrap();
    let error = Store::open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("has data format 2; this program reads and writes 1"), "{error}");
}

#[tokio::test]
async fn followers_of_everything_see_every_resource() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut changes = store.subscribe();
    store.create(key("a"), value("a", "1")).await.unwrap();
    let change = changes.recv().await.unwrap();
    assert_eq!((change.kind, change.resource), (ChangeKind::Added, configmaps()));
    assert_eq!(Objects::all(&*store, Some("default")).len(), 1);
    assert_eq!(Objects::all(&*store, Some("other")).len(), 0);
}
