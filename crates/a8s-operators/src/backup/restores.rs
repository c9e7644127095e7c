//! The controller of Restores: it carries out what [`super::restoring`] says.

use super::access::prefix;
use super::backups::check;
use super::conditions::{self, IN_PROGRESS, RESTORED, Trouble};
use super::order::Order as _;
use super::plan::{LOOK, Pod, Turn};
use super::restoring::{self, Member};
use super::rounds::Controlled;
use super::shell::{Context, changed, is_primary, is_ready, ordered};
use crate::controller::{Error, failed, unless_absent};
use crate::instance::events::Type;
use crate::instance::names;
use a8s_api::backup::{COMPLETE, PERMANENTLY_FAILED};
use a8s_api::{Backup, Restore};
use futures::future;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod as KubernetesPod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::runtime::controller::Action;
use serde_json::json;
use std::time::Duration;

/// How often members are looked at whose content is awaited, beside what the watch of their pods tells.
const MEMBERS: Duration = Duration::from_millis(500);

impl Controlled for Restore {
    async fn keep(&self, context: &Context) -> Result<Action, Error> {
        let (mut seen, backup) = future::try_join(context.seen(self), backup(context, self)).await?;
        match restoring::next(self, backup.as_ref(), &seen) {
            Turn::Rest(None) => Ok(Action::await_change()),
            Turn::Rest(Some(time)) => Ok(Action::requeue(time)),
            Turn::Verify => verify(context, self).await,
            Turn::GiveUp(_) if seen.has_instance && is_final(context, self).await? => verify(context, self).await,
            Turn::GiveUp(trouble) => give_up(context, self, &trouble).await,
            Turn::Fail(trouble) => fail(context, self, &trouble).await,
            Turn::Clean => clean(context, self).await,
            Turn::Wait(_) | Turn::Order(_) => {
                let _held = context.orders.lock().await;
                seen.other = context.other(self).await?;
                match restoring::next(self, backup.as_ref(), &seen) {
                    Turn::Order(pod) => order(context, self, backup.as_ref(), &pod).await,
                    Turn::Wait(why) => context.wait(self, IN_PROGRESS, "False", &why).await,
                    _ => Ok(Action::requeue(LOOK)),
                }
            }
        }
    }

    async fn delete(&self, context: &Context) -> Result<Action, Error> {
        context.let_go(self).await
    }
}

/// Whether the instance has the content already, though nobody has said so: to restore it again would take what was written
/// since.
async fn is_final(context: &Context, restore: &Restore) -> Result<bool, Error> {
    Ok(restoring::has_content(restore, lease(context, restore).await?.as_ref()) == Some(true))
}

async fn lease(context: &Context, restore: &Restore) -> Result<Option<Lease>, Error> {
    let instance = restore.ordered_instance().unwrap_or_default();
    let leases: Api<Lease> = context.api(&restore.namespace().unwrap_or_default());
    leases.get_opt(instance).await.map_err(failed("read the Lease of the instance"))
}

async fn backup(context: &Context, restore: &Restore) -> Result<Option<Backup>, Error> {
    let (name, namespace) = (&restore.spec.backup_name, restore.namespace().unwrap_or_default());
    if !names::is_name(name) {
        return Ok(None);
    }
    unless_absent(context.api::<Backup>(&namespace).get(name).await).map_err(failed("read the backup"))
}

/// Looks whether the backup is whole and fits, and gives the order.
async fn order(context: &Context, restore: &Restore, backup: Option<&Backup>, pod: &Pod) -> Result<Action, Error> {
    let ready = async {
        let backup = restoring::source(restore, backup)?;
        let (namespace, uid) = (backup.namespace().unwrap_or_default(), backup.uid().unwrap_or_default());
        let (Some(source), Some(id)) = (backup.ordered_instance(), backup.order()) else {
            let text = format!("the status of the backup {} does not say where it is stored", backup.name_any());
            return Err(Trouble::new("BackupIncomplete", text));
        };
        let place = format!("{}/{id}", prefix(&namespace, source, &uid));
        let way = context.way().await?;
        let manifest = check(&way, &place, &uid).await?;
        if let Some(major) = pod.major {
            Trouble::unless_same_major(manifest.postgresql_major, major)?;
        }
        Ok((way, place, uid))
    };
    let (way, place, uid) = match ready.await {
        Ok(ready) => ready,
        Err(trouble) if trouble.is_permanent() => return fail(context, restore, &trouble).await,
        Err(trouble) => return context.wait(restore, IN_PROGRESS, "False", &trouble).await,
    };
    let id = uuid::Uuid::new_v4().to_string();
    let access = way.access(&id, &uid, &place);
    if let Err(trouble) = context.give_access(restore, &restore.spec.service_instance.name, access).await? {
        return context.wait(restore, IN_PROGRESS, "False", &trouble).await;
    }
    let mut status = ordered(restore, pod);
    status["restoreID"] = json!(id);
    let namespaced_name = format!("{}/{}", restore.namespace().unwrap_or_default(), pod.name);
    status["podToPoll"] = json!({"ip": pod.ip, "namespacedName": namespaced_name, "uid": pod.uid});
    context.tell(restore, status).await?;
    Ok(Action::requeue(LOOK))
}

/// Waits until every member serves what was restored, and says that the Restore is complete.
async fn verify(context: &Context, restore: &Restore) -> Result<Action, Error> {
    let (instance, order) = (restore.ordered_instance().unwrap_or_default(), restore.order().unwrap_or_default());
    let pods: Api<KubernetesPod> = context.api(&restore.namespace().unwrap_or_default());
    let pods = pods.list(&ListParams::default().labels(&names::selector(instance))).await;
    let members: Vec<Member> = pods.map_err(failed("list pods"))?.items.iter().map(member).collect();
    let since = conditions::get(restore.conditions(), RESTORED).map(|it| it.last_transition_time.0);
    let since = since.and_then(|time| Duration::try_from(Timestamp::now().duration_since(time)).ok());
    if let Some(why) = restoring::waits_for(order, &members, since.unwrap_or_default()) {
        if restoring::has_content(restore, lease(context, restore).await?.as_ref()) == Some(false) {
            let text = format!("the instance {instance} that had the content is gone, and another one has its name");
            return fail(context, restore, &Trouble::new("InstanceNotFound", text)).await;
        }
        context.wait(restore, IN_PROGRESS, "True", &Trouble::new("WaitingForMembers", why)).await?;
        return Ok(Action::requeue(MEMBERS));
    }
    let done = Trouble::new("RestoreCompleted", "every member serves the content of the backup");
    context.complete(restore, done).await
}

fn member(pod: &KubernetesPod) -> Member {
    Member {
        pod: pod.name_any(),
        is_ready: is_ready(pod),
        is_primary: is_primary(pod),
        generation: pod.annotations().get(names::GENERATION).cloned(),
    }
}

/// Ends an attempt, which is repeated unless that would give the same. The instance is as it was, or as it should be.
async fn give_up(context: &Context, restore: &Restore, trouble: &Trouble) -> Result<Action, Error> {
    context.take_access(restore).await?;
    if trouble.is_permanent() {
        return fail(context, restore, trouble).await;
    }
    context.report(restore, Type::Warning, "AttemptFailed", &trouble.message).await;
    let again = Trouble::new(&trouble.reason, format!("the restore is done again: {}", trouble.message));
    let conditions = changed(restore, [(IN_PROGRESS, "False", again), (RESTORED, "False", trouble.clone())]);
    context.tell(restore, json!({"conditions": conditions})).await?;
    Ok(Action::requeue(LOOK))
}

async fn fail(context: &Context, restore: &Restore, trouble: &Trouble) -> Result<Action, Error> {
    context.take_access(restore).await?;
    let conditions = changed(
        restore,
        [
            (IN_PROGRESS, "False", trouble.clone()),
            (COMPLETE, "False", trouble.clone()),
            (PERMANENTLY_FAILED, "True", trouble.clone()),
        ],
    );
    context.tell(restore, json!({"conditions": conditions})).await?;
    context.report(restore, Type::Warning, "Failed", &trouble.message).await;
    Ok(Action::await_change())
}

async fn clean(context: &Context, restore: &Restore) -> Result<Action, Error> {
    context.take_access(restore).await?;
    let conditions = changed(restore, [(IN_PROGRESS, "False", Trouble::new("Failed", "nothing of it is left"))]);
    context.tell(restore, json!({"conditions": conditions})).await?;
    Ok(Action::await_change())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::starting;

    #[tokio::test]
    async fn a_backup_that_the_api_server_cannot_find_yet_is_not_taken_for_gone() {
        let context = Context::new(starting());
        let instance = json!({"apiGroup": "postgresql.anynines.com", "kind": "Postgresql", "name": "solo"});
        let spec = json!({"backupName": "nightly", "serviceInstance": instance});
        let restore = json!({"metadata": {"name": "back", "namespace": "shop"}, "spec": spec});
        let restore: Restore = serde_json::from_value(restore).expect("a restore");
        assert!(backup(&context, &restore).await.is_err());
    }
}
