//! The loop of both controllers: which objects are looked at, and when. What is done there is said by [`Controlled`].

use super::conditions;
use super::order::Order;
use super::plan::{FAREWELL, LOOK};
use super::shell::Context;
use crate::controller::{self, Error, deleted_for, failed, unless_absent};
use a8s_api::LABEL_NAME;
use futures::{StreamExt as _, future};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a controller does about an object of its kind.
pub trait Controlled: Order {
    /// Does what is next for one that stays.
    fn keep(&self, context: &Context) -> impl Future<Output = Result<Action, Error>> + Send;

    /// Removes what one has left that goes, and lets it go. No agent works on it any more.
    fn delete(&self, context: &Context) -> impl Future<Output = Result<Action, Error>> + Send;
}

/// Watches all objects of a kind, and the pods of their instances, until `shutdown`.
pub async fn run<K: Controlled>(context: Arc<Context>, shutdown: CancellationToken) {
    let controller = Controller::new(Api::<K>::all(context.client.clone()), watcher::Config::default());
    let known = controller.store();
    let pods: Api<PartialObjectMeta<Pod>> = Api::all(context.client.clone());
    let of_instances = watcher::Config::default().labels(LABEL_NAME);
    controller
        .watches(pods, of_instances, move |pod| {
            let open = |object: &Arc<K>| {
                object.namespace() == pod.namespace()
                    && pod.labels().get(LABEL_NAME) == Some(&object.instance().name)
                    && !conditions::is_finished(object.conditions())
            };
            known.state().into_iter().filter(open).map(|object| ObjectRef::from_obj(&*object)).collect::<Vec<_>>()
        })
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, retry, context)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a round of the controller of {}s did not end", K::WHAT);
            }
            future::ready(())
        })
        .await;
}

fn retry<K: Controlled>(object: Arc<K>, error: &Error, _: Arc<Context>) -> Action {
    controller::retry(&format!("{}s", K::WHAT), &object.name_any(), error)
}

async fn reconcile<K: Controlled>(seen: Arc<K>, context: Arc<Context>) -> Result<Action, Error> {
    let (Some(name), Some(namespace)) = (&seen.meta().name, &seen.meta().namespace) else {
        return Ok(Action::await_change());
    };
    // The cache may lag behind this controller's own writes.
    let found = unless_absent(context.api::<K>(namespace).get(name).await);
    let Some(object) = found.map_err(failed(format!("read the {}", K::WHAT)))? else {
        return Ok(Action::await_change());
    };
    let has_finalizer = object.finalizers().iter().any(|finalizer| finalizer == K::FINALIZER);
    match (object.meta().deletion_timestamp.is_some(), has_finalizer) {
        (true, true) => {
            let waited = deleted_for(object.meta());
            let has_time = object.is_running() && waited.is_some_and(|waited| waited < FAREWELL);
            // Its agent takes it back first, unless that does not answer.
            if has_time && context.seen(&object).await?.has_pod {
                return Ok(Action::requeue(LOOK / 4));
            }
            context.take_access(&object).await?;
            object.delete(&context).await
        }
        (true, false) => Ok(Action::await_change()),
        (false, true) => object.keep(&context).await,
        (false, false) => context.adopt(&object).await?.keep(&context).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::starting;
    use a8s_api::Backup;
    use serde_json::json;

    #[tokio::test]
    async fn one_that_the_api_server_cannot_find_yet_is_looked_at_again() {
        let backup = serde_json::from_value(json!({"metadata": {"name": "nightly", "namespace": "shop"}}));
        let backup: Backup = backup.expect("a backup");
        let looked = reconcile(Arc::new(backup), Context::new(starting())).await;
        assert!(looked.is_err(), "{looked:?}");
    }
}
