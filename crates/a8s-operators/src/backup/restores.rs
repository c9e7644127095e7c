//! The controller of Restores: it carries out what [`super::restoring`] says.

use super::access::{Access, prefix};
use super::backups::check;
use super::conditions::{self, IN_PROGRESS, RESTORED, Trouble};
use super::order::Order as _;
use super::plan::{FAREWELL, LOOK, Pod, Turn};
use super::restoring::{self, Member};
use super::shell::{Context, changed, is_primary, is_ready, ordered, retry};
use crate::controller::{Error, deleted_for, failed};
use crate::instance::events::Type;
use crate::instance::names;
use a8s_api::backup::{COMPLETE, PERMANENTLY_FAILED};
use a8s_api::{Backup, LABEL_NAME, Restore};
use futures::{StreamExt as _, future};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod as KubernetesPod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often members are looked at whose content is awaited, beside what the watch of their pods tells.
const MEMBERS: Duration = Duration::from_millis(500);

/// Watches all Restores, and the pods of their instances, until `shutdown`.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let controller = Controller::new(Api::<Restore>::all(context.client.clone()), watcher::Config::default());
    let known = controller.store();
    let pods: Api<PartialObjectMeta<KubernetesPod>> = Api::all(context.client.clone());
    let of_instances = watcher::Config::default().labels(LABEL_NAME);
    controller
        .watches(pods, of_instances, move |pod| {
            let open = |restore: &Arc<Restore>| {
                restore.namespace() == pod.namespace()
                    && pod.labels().get(LABEL_NAME) == Some(&restore.spec.service_instance.name)
                    && !conditions::is_finished(restore.conditions())
            };
            known.state().into_iter().filter(open).map(|restore| ObjectRef::from_obj(&*restore)).collect::<Vec<_>>()
        })
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, retry, context)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a round of the controller of restores did not end");
            }
            future::ready(())
        })
        .await;
}

async fn reconcile(seen: Arc<Restore>, context: Arc<Context>) -> Result<Action, Error> {
    let (Some(name), Some(namespace)) = (&seen.metadata.name, &seen.metadata.namespace) else {
        return Ok(Action::await_change());
    };
    let found = context.api::<Restore>(namespace).get_opt(name).await.map_err(failed("read the restore"))?;
    let Some(restore) = found else { return Ok(Action::await_change()) };
    let has_finalizer = restore.finalizers().iter().any(|finalizer| finalizer == Restore::FINALIZER);
    match (restore.metadata.deletion_timestamp.is_some(), has_finalizer) {
        (true, true) => delete(&context, &restore).await,
        (true, false) => Ok(Action::await_change()),
        (false, true) => keep(&context, &restore).await,
        (false, false) => {
            let restore = context.adopt(&restore).await?;
            keep(&context, &restore).await
        }
    }
}

async fn keep(context: &Context, restore: &Restore) -> Result<Action, Error> {
    let (mut seen, backup) = future::try_join(context.seen(restore), backup(context, restore)).await?;
    match restoring::next(restore, backup.as_ref(), &seen) {
        Turn::Rest(None) => Ok(Action::await_change()),
        Turn::Rest(Some(time)) => Ok(Action::requeue(time)),
        Turn::Verify => verify(context, restore).await,
        Turn::GiveUp(_) if seen.has_instance && is_final(context, restore).await? => verify(context, restore).await,
        Turn::GiveUp(trouble) => give_up(context, restore, &trouble).await,
        Turn::Fail(trouble) => fail(context, restore, &trouble).await,
        Turn::Clean => clean(context, restore).await,
        Turn::Wait(_) | Turn::Order(_) => {
            let _held = context.orders.lock().await;
            seen.other = context.other(restore).await?;
            match restoring::next(restore, backup.as_ref(), &seen) {
                Turn::Order(pod) => order(context, restore, backup.as_ref(), &pod).await,
                Turn::Wait(why) => wait(context, restore, &why).await,
                _ => Ok(Action::requeue(LOOK)),
            }
        }
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
    if name.is_empty() {
        return Ok(None);
    }
    context.api::<Backup>(&namespace).get_opt(name).await.map_err(failed("read the backup"))
}

async fn wait(context: &Context, restore: &Restore, why: &Trouble) -> Result<Action, Error> {
    context.wait(restore, IN_PROGRESS, "False", why).await?;
    Ok(Action::requeue(LOOK))
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
        Err(trouble) => return wait(context, restore, &trouble).await,
    };
    let id = uuid::Uuid::new_v4().to_string();
    let settings = &way.settings;
    let access = Access::new(&id, &settings.config, &settings.credentials, &way.key(&uid), (&uid, &place));
    if let Err(trouble) = context.give_access(restore, &restore.spec.service_instance.name, access).await? {
        return wait(context, restore, &trouble).await;
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
    context.take_access(restore).await?;
    let done = Trouble::new("RestoreCompleted", "every member serves the content of the backup");
    let conditions = changed(restore, [(IN_PROGRESS, "False", done.clone()), (COMPLETE, "True", done.clone())]);
    context.tell(restore, json!({"conditions": conditions})).await?;
    context.report(restore, Type::Normal, "Completed", &done.message).await;
    Ok(Action::await_change())
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

/// Lets a Restore go. A running one is taken back by its agent first, unless it does not answer.
async fn delete(context: &Context, restore: &Restore) -> Result<Action, Error> {
    let waited = deleted_for(&restore.metadata);
    if restore.is_running() && waited.is_some_and(|waited| waited < FAREWELL) && context.seen(restore).await?.has_pod {
        return Ok(Action::requeue(LOOK / 4));
    }
    context.take_access(restore).await?;
    context.let_go(restore).await
}
