//! The controller of Backups: it carries out what [`super::plan`] says.

use super::access::prefix;
use super::conditions::{self, IN_PROGRESS, TERMINATING, Trouble, UPLOADED};
use super::order::Order as _;
use super::plan::{self, LOOK, Pod, Turn, may_retry};
use super::rounds::Controlled;
use super::shell::{Context, Way, changed, ordered, remove};
use crate::archive::{self, manifest, part_name};
use crate::controller::Error;
use crate::instance::events::Type;
use crate::store::{Error as StoreError, Store};
use a8s_api::Backup;
use a8s_api::backup::{COMPLETE, PERMANENTLY_FAILED};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

impl Controlled for Backup {
    async fn keep(&self, context: &Context) -> Result<Action, Error> {
        let mut seen = context.seen(self).await?;
        match plan::next(self, &seen) {
            Turn::Rest(None) => Ok(Action::await_change()),
            Turn::Rest(Some(time)) => Ok(Action::requeue(time)),
            Turn::Verify => verify(context, self).await,
            Turn::GiveUp(trouble) => give_up(context, self, trouble).await,
            Turn::Fail(trouble) => fail(context, self, &trouble).await,
            Turn::Clean => clean(context, self).await,
            Turn::Wait(_) | Turn::Order(_) => {
                let _held = context.orders.lock().await;
                seen.other = context.other(self).await?;
                match plan::next(self, &seen) {
                    Turn::Order(pod) => order(context, self, &pod).await,
                    Turn::Wait(why) => context.wait(self, IN_PROGRESS, "False", &why).await,
                    _ => Ok(Action::requeue(LOOK)),
                }
            }
        }
    }

    async fn delete(&self, context: &Context) -> Result<Action, Error> {
        delete(context, self).await
    }
}

/// Everything that belongs to a Backup is below this. `None` if it never had an order.
fn place(backup: &Backup) -> Option<String> {
    let (namespace, uid) = (backup.namespace()?, backup.uid()?);
    Some(prefix(&namespace, backup.ordered_instance()?, &uid))
}

/// Everything that its last attempt has stored is below this. While one operator takes the place of another, the one
/// that goes may be late: what it removes must not be of an attempt that it does not know of.
fn attempt(backup: &Backup) -> Option<String> {
    Some(format!("{}/{}", place(backup)?, backup.order()?))
}

async fn order(context: &Context, backup: &Backup, pod: &Pod) -> Result<Action, Error> {
    let way = match context.way().await {
        Ok(way) => way,
        Err(trouble) if trouble.is_permanent() => return fail(context, backup, &trouble).await,
        Err(trouble) => return context.wait(backup, IN_PROGRESS, "False", &trouble).await,
    };
    // What an earlier attempt has left, also one whose end nobody could clean up after.
    if let Some(attempt) = attempt(backup)
        && let Err(error) = remove(&way.store, &attempt).await
    {
        let trouble = Trouble::store(&error);
        if trouble.is_permanent() {
            return fail(context, backup, &trouble).await;
        }
        return context.wait(backup, IN_PROGRESS, "False", &trouble).await;
    }
    let (id, uid) = (uuid::Uuid::new_v4().to_string(), backup.uid().unwrap_or_default());
    let (namespace, instance) = (backup.namespace().unwrap_or_default(), &backup.spec.service_instance.name);
    let place = format!("{}/{id}", prefix(&namespace, instance, &uid));
    if let Err(trouble) = context.give_access(backup, instance, way.access(&id, &uid, &place)).await? {
        return context.wait(backup, IN_PROGRESS, "False", &trouble).await;
    }
    let mut status = ordered(backup, pod);
    status["backupID"] = json!(id);
    status["podUsedNamespacedName"] = json!(format!("{namespace}/{}", pod.name));
    status["podUsedUID"] = json!(pod.uid);
    context.tell(backup, status).await?;
    Ok(Action::requeue(LOOK))
}

/// Looks whether what the agent has stored is there, whole and authentic, and says that the Backup is complete.
async fn verify(context: &Context, backup: &Backup) -> Result<Action, Error> {
    let known = (place(backup), attempt(backup), backup.order(), backup.uid());
    let (Some(place), Some(attempt), Some(id), Some(uid)) = known else {
        return give_up(context, backup, Trouble::new("Lost", "nobody knows where the backup was stored")).await;
    };
    let way = match context.way().await {
        Ok(way) => way,
        Err(trouble) => return context.wait(backup, IN_PROGRESS, "True", &trouble).await,
    };
    let checked = check(&way, &attempt, &uid).await;
    if checked.is_ok()
        && let Err(error) = remove_others(&way.store, &place, id).await
    {
        let trouble = Trouble::store(&error);
        if !trouble.is_permanent() {
            return context.wait(backup, IN_PROGRESS, "True", &trouble).await;
        }
        // The backup is whole all the same, and other orders wait for it.
        let text = format!("what another attempt has left stays as long as the backup does: {error}");
        context.report(backup, Type::Warning, "NotRemoved", &text).await;
    }
    match checked {
        Ok(found) => {
            let summary = &found.summary;
            let text = format!(
                "{} bytes in {} objects are stored, for {} bytes of PostgreSQL {}",
                summary.stored_bytes, summary.parts, summary.plain_bytes, found.postgresql_major
            );
            context.complete(backup, Trouble::new("BackupCompleted", text)).await
        }
        Err(trouble) if trouble.reason == "StoreUnreachable" => {
            context.wait(backup, IN_PROGRESS, "True", &trouble).await
        }
        Err(trouble) => give_up(context, backup, trouble).await,
    }
}

/// Removes what other attempts have left: a request of an agent that has died may have been carried out after everything
/// of its attempt was removed.
async fn remove_others(store: &Store, place: &str, id: &str) -> Result<(), StoreError> {
    let attempt = |key: &str| key.strip_prefix(place)?.strip_prefix('/')?.split('/').next().map(str::to_owned);
    let entries = store.list(place).await?;
    let attempts: BTreeSet<String> = entries.iter().filter_map(|entry| attempt(&entry.key)).collect();
    for other in attempts.iter().filter(|attempt| *attempt != id) {
        store.delete_below(&format!("{place}/{other}")).await?;
    }
    Ok(())
}

/// The manifest of a backup whose objects are all there.
pub async fn check(way: &Way, place: &str, backup_uid: &str) -> Result<manifest::Manifest, Trouble> {
    let text = way.store.get(&format!("{place}/{}", manifest::NAME), manifest::LARGEST).await;
    let text = text.map_err(|error| match error {
        StoreError::NoSuchObject { .. } => {
            let text =
                format!("the objects of the backup are not in the store: there is no {place}/{}", manifest::NAME);
            Trouble::new("BackupIncomplete", text)
        }
        error => Trouble::store(&error),
    })?;
    let found = manifest::Manifest::read(&text, &way.key(backup_uid), place).map_err(|error| match error {
        manifest::Error::Key => Trouble::new("EncryptionPasswordChanged", error.to_string()),
        error => Trouble::new("BackupDamaged", error.to_string()),
    })?;
    let entries = way.store.list(place).await.map_err(|error| Trouble::store(&error))?;
    match is_whole(&found.summary, entries.iter().map(|entry| (entry.key.as_str(), entry.size)), place) {
        true => Ok(found),
        false => Err(Trouble::new("BackupIncomplete", format!("objects of the backup are missing below {place}"))),
    }
}

/// Whether objects are the parts of a stream.
fn is_whole<'a>(summary: &archive::Summary, entries: impl Iterator<Item = (&'a str, u64)>, place: &str) -> bool {
    let sizes: std::collections::HashMap<&str, u64> = entries.collect();
    let part = |number| sizes.get(format!("{place}/{}", part_name(number)).as_str()).copied();
    (0..summary.parts).map(part).sum::<Option<u64>>() == Some(summary.stored_bytes)
}

/// Ends an attempt: what it left is removed, and it is counted.
async fn give_up(context: &Context, backup: &Backup, trouble: Trouble) -> Result<Action, Error> {
    let retries = backup.status.as_ref().and_then(|status| status.retries).unwrap_or(0);
    if trouble.is_permanent() || !may_retry(backup.spec.max_retries.as_deref(), retries) {
        return fail(context, backup, &trouble).await;
    }
    context.take_access(backup).await?;
    if let (Some(attempt), Ok(way)) = (attempt(backup), context.way().await)
        && let Err(error) = remove(&way.store, &attempt).await
    {
        // It is removed before the next attempt.
        tracing::info!(backup = backup.name_any(), "cannot remove what an attempt has left: {error}");
    }
    context.report(backup, Type::Warning, "AttemptFailed", &trouble.message).await;
    let conditions = changed(backup, [(IN_PROGRESS, "False", trouble.clone()), (UPLOADED, "False", trouble)]);
    context.tell(backup, json!({"conditions": conditions, "retries": retries + 1})).await?;
    Ok(Action::requeue(LOOK))
}

/// Says that it will never be.
async fn fail(context: &Context, backup: &Backup, trouble: &Trouble) -> Result<Action, Error> {
    context.tell(backup, json!({"conditions": failed(backup, trouble)})).await?;
    context.report(backup, Type::Warning, "Failed", &trouble.message).await;
    Ok(if backup.order().is_some() { Action::requeue(Duration::ZERO) } else { Action::await_change() })
}

/// The conditions of a Backup that will never be. After an attempt something may be left to be cleaned up, also after
/// one that was given up and whose objects could not be removed then.
fn failed(backup: &Backup, trouble: &Trouble) -> Vec<Condition> {
    let had_order = backup.order().is_some();
    let is_in_progress = if had_order { "True" } else { "False" };
    let mut changes = vec![
        (IN_PROGRESS, is_in_progress, trouble.clone()),
        (COMPLETE, "False", trouble.clone()),
        (PERMANENTLY_FAILED, "True", trouble.clone()),
    ];
    if had_order {
        changes.push((UPLOADED, "False", trouble.clone()));
    }
    changed(backup, changes)
}

/// Removes what a failed Backup has left.
async fn clean(context: &Context, backup: &Backup) -> Result<Action, Error> {
    context.take_access(backup).await?;
    let removed = match (context.way().await, place(backup)) {
        (Ok(way), Some(place)) => remove(&way.store, &place).await.map_err(|error| Trouble::store(&error)),
        (Err(trouble), _) => Err(trouble),
        (_, None) => Ok(()),
    };
    if let Err(trouble) = &removed
        && !trouble.is_permanent()
    {
        return Ok(Action::requeue(LOOK * 5));
    }
    let left = match removed {
        Ok(()) => "nothing of it is left".to_owned(),
        Err(trouble) => format!("what is left of it in the store could not be removed: {}", trouble.message),
    };
    let conditions = changed(backup, [(IN_PROGRESS, "False", Trouble::new("Failed", left))]);
    context.tell(backup, json!({"conditions": conditions})).await?;
    Ok(Action::await_change())
}

/// So often the objects of a Backup are deleted in a row.
const ROUNDS: usize = 10;
/// How long a store may take to carry out what an agent has asked for that has ended since.
const SETTLED: Duration = Duration::from_secs(3);
/// What is said of a complete Backup of which the store has nothing.
const NOT_IN_STORE: &str =
    "the store has nothing of the backup: if it was made with another store, its objects are still there";

/// Removes the objects of a Backup, and then the Backup itself.
async fn delete(context: &Context, backup: &Backup) -> Result<Action, Error> {
    let Some(place) = place(backup) else { return context.let_go(backup).await };
    let way = match context.way().await {
        Ok(way) => way,
        Err(trouble) => return hold(context, backup, &trouble).await,
    };
    let is = |type_| conditions::is_true(backup.conditions(), type_);
    let mut unsettled = backup.order().is_some() && !is(COMPLETE);
    let mut removed = 0;
    // Until there is nothing: an agent that did not hear of it may just have stored another object.
    for _ in 0..ROUNDS {
        match way.store.delete_below(&place).await {
            Ok(_) if unsettled => {
                unsettled = false;
                tokio::time::sleep(SETTLED).await;
            }
            Ok(0) => {
                if removed == 0 && is(COMPLETE) && !is(TERMINATING) {
                    context.report(backup, Type::Warning, "NotInStore", NOT_IN_STORE).await;
                }
                return context.let_go(backup).await;
            }
            Ok(more) => removed += more,
            Err(error @ StoreError::NoSuchBucket { .. }) => {
                let text = format!("{error}: the backup goes without its objects");
                context.report(backup, Type::Warning, "BucketNotFound", &text).await;
                return context.let_go(backup).await;
            }
            Err(error) => return hold(context, backup, &Trouble::store(&error)).await,
        }
    }
    Ok(Action::requeue(LOOK))
}

/// Keeps a Backup whose objects cannot be removed yet. Its agent has ended, or does not answer: other orders of the
/// instance do not wait for it.
async fn hold(context: &Context, backup: &Backup, why: &Trouble) -> Result<Action, Error> {
    if !backup.is_ordered() {
        return context.wait(backup, TERMINATING, "True", why).await;
    }
    let changes = [(IN_PROGRESS, "False", why.clone()), (TERMINATING, "True", why.clone())];
    context.tell(backup, json!({"conditions": changed(backup, changes)})).await?;
    Ok(Action::requeue(LOOK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_fails_after_an_attempt_is_cleaned_up_also_where_that_was_given_up() {
        let seen = plan::Seen {
            has_instance: false,
            primary: None,
            has_pod: false,
            other: None,
            silence: Duration::ZERO,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let gone = Trouble::new("InstanceNotFound", "the instance is gone");
        for (status, turn) in [
            (json!({}), Turn::Rest(None)),
            (json!({"backupID": "o", "podUsedNamespacedName": "shop/solo-0", "retries": 1}), Turn::Clean),
        ] {
            let reference = json!({"apiGroup": "postgresql.anynines.com", "kind": "Postgresql", "name": "solo"});
            let (metadata, spec) = (json!({"name": "b", "namespace": "shop"}), json!({"serviceInstance": reference}));
            let backup = json!({"metadata": metadata, "spec": spec, "status": status});
            let mut backup: Backup = serde_json::from_value(backup).expect("a backup");
            assert!(matches!(plan::next(&backup, &seen), Turn::Fail(_)));
            let conditions = failed(&backup, &gone);
            backup.status.as_mut().expect("a status").conditions = Some(conditions);
            assert_eq!(plan::next(&backup, &seen), turn);
        }
    }

    #[test]
    fn what_is_removed_of_an_attempt_is_nothing_of_another() {
        let with = |id: &str| -> Backup {
            let status = json!({"backupID": id, "podUsedNamespacedName": "shop/solo-0"});
            let metadata = json!({"name": "b", "namespace": "shop", "uid": "b-1"});
            serde_json::from_value(json!({"metadata": metadata, "status": status})).expect("a backup")
        };
        let [first, second] = ["o-1", "o-2"].map(|id| attempt(&with(id)).expect("an attempt"));
        let whole = place(&with("o-1")).expect("a place");
        assert_eq!([first, second], ["o-1", "o-2"].map(|id| format!("{whole}/{id}")));
        assert_eq!(attempt(&Backup::default()), None);
    }

    #[test]
    fn a_stream_is_whole_when_every_part_is_there_with_the_right_size() {
        let summary = archive::Summary { stream: String::new(), parts: 2, stored_bytes: 30, plain_bytes: 0 };
        let whole = |entries: &[(&str, u64)]| is_whole(&summary, entries.iter().copied(), "n/i/u/o");
        let (first, second) = (("n/i/u/o/part-000000", 20), ("n/i/u/o/part-000001", 10));
        assert!(whole(&[second, ("n/i/u/o/manifest.json", 5), first]));
        assert!(!whole(&[first]));
        assert!(!whole(&[first, ("n/i/u/o/part-000001", 9)]));
        assert!(!whole(&[first, ("n/i/u/o/part-000002", 10)]));
        assert!(!whole(&[first, ("n/i/u/other/part-000001", 10)]));
    }
}
