//! The shell around [`super::plan`]: it watches, reads what is there, and does the next thing until there is none.
//!
//! Everything is read anew in each round, so one that was cut off is simply done again.

use super::logins::{Refusals, reference};
use super::plan::{self, Next, Seen};
use super::secret;
use super::{COMPONENT, FINALIZER};
use crate::agent::logins::{ANNOTATION, KEY};
use crate::agent::report;
use crate::controller::{
    self, Error, TROUBLE_ROUND, failed, gone_is_fine, only_this, parameters, unless_absent, unless_refused,
};
use crate::instance::events::{self, Clock, Happening, Type};
use crate::instance::names;
use a8s_api::{LABEL_KIND, LABEL_NAME, LABEL_ROLE, Postgresql, ServiceBinding, ServiceBindingStatus};
use futures::{StreamExt as _, future};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A deletion is looked at this often, beside what watches tell.
const DELETION_ROUND: Duration = Duration::from_millis(500);
/// More things than these are never to be done in a row.
const STEPS: usize = 8;

struct Context {
    client: kube::Client,
    clock: Clock,
    refusals: Refusals,
}

/// Watches bindings, their Secrets and instances, and the pods that say which logins there are, until `shutdown`.
pub async fn run(client: kube::Client, refusals: Refusals, shutdown: CancellationToken) {
    let controller = Controller::new(Api::<ServiceBinding>::all(client.clone()), watcher::Config::default());
    let (of_instance, of_pod) = (controller.store(), controller.store());
    let ours = watcher::Config::default().labels(&format!("{}={}", secret::LABEL.0, secret::LABEL.1));
    let pods = watcher::Config::default().labels(&format!("{LABEL_KIND}={},{LABEL_ROLE}=master", Postgresql::KIND));
    let controller = controller
        .owns(Api::<PartialObjectMeta<Secret>>::all(client.clone()), ours)
        .watches(
            Api::<PartialObjectMeta<Postgresql>>::all(client.clone()),
            watcher::Config::default(),
            move |instance| {
                bindings_of(&of_instance, instance.metadata.namespace.as_deref(), instance.metadata.name.as_deref())
            },
        )
        .watches(Api::<PartialObjectMeta<Pod>>::all(client.clone()), pods, move |pod| {
            let name = pod.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_NAME));
            bindings_of(&of_pod, pod.metadata.namespace.as_deref(), name.map(String::as_str))
        })
        .graceful_shutdown_on(shutdown.cancelled_owned());
    let context = Arc::new(Context { client, clock: Clock::default(), refusals });
    let rounds = controller.run(reconcile, retry, context);
    rounds.for_each(|_| future::ready(())).await;
}

/// The bindings to an instance.
fn bindings_of(
    bindings: &Store<ServiceBinding>,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Vec<ObjectRef<ServiceBinding>> {
    let is_to = |binding: &Arc<ServiceBinding>| {
        let found = reference(binding);
        found.as_ref().map(|(namespace, name)| (Some(namespace.as_str()), Some(name.as_str())))
            == Some((namespace, name))
    };
    bindings
        .state()
        .iter()
        .filter(|binding| is_to(binding))
        .map(|binding| ObjectRef::from_obj(binding.as_ref()))
        .collect()
}

fn retry(binding: Arc<ServiceBinding>, error: &Error, _: Arc<Context>) -> Action {
    controller::retry("service bindings", &binding.name_any(), error)
}

async fn reconcile(binding: Arc<ServiceBinding>, context: Arc<Context>) -> Result<Action, Error> {
    let (Some(name), Some(namespace)) = (&binding.metadata.name, &binding.metadata.namespace) else {
        return Ok(Action::await_change());
    };
    let round = Round { context: &context, name, namespace };
    for _ in 0..STEPS {
        let Some(seen) = round.look().await? else { return Ok(Action::await_change()) };
        if let Some(action) = round.act(&seen, plan::plan(&seen)).await? {
            return Ok(action);
        }
    }
    Ok(Action::requeue(TROUBLE_ROUND))
}

/// One look at one binding.
struct Round<'a> {
    context: &'a Context,
    name: &'a str,
    namespace: &'a str,
}

impl Round<'_> {
    fn bindings(&self) -> Api<ServiceBinding> {
        Api::namespaced(self.context.client.clone(), self.namespace)
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    /// What there is; `None` if the binding is gone.
    async fn look(&self) -> Result<Option<Seen>, Error> {
        // The cache may lag behind this controller's own writes.
        let binding = unless_absent(self.bindings().get(self.name).await);
        let Some(binding) = binding.map_err(failed("read the service binding"))? else { return Ok(None) };
        let (namespace, instance) = reference(&binding).unwrap_or_default();
        let secret = self.secrets(self.namespace);
        let secret = async { secret.get_opt(&secret::name(self.name)).await.map_err(failed("read the Secret")) };
        if !names::is_instance_name(&instance) || !names::is_instance_name(&namespace) {
            let now = Timestamp::now();
            return Ok(Some(Seen {
                binding,
                secret: secret.await?,
                instance: None,
                logins: vec![],
                refused: None,
                applied: None,
                now,
            }));
        }
        let instances: Api<Postgresql> = Api::namespaced(self.context.client.clone(), &namespace);
        let is_going = binding.metadata.deletion_timestamp.is_some();
        let found = async {
            let found = match unless_absent(instances.get_metadata(&instance).await) {
                // One that is to go does not wait for a kind that may never be served again.
                Err(kube::Error::Api(status)) if status.code == 404 && is_going => Ok(None),
                found => found,
            };
            found.map_err(failed("read the instance"))
        };
        let lists = self.secrets(&namespace);
        let logins = async { lists.get_opt(&names::logins(&instance)).await.map_err(failed("read the logins")) };
        let (secret, found, logins, notes) =
            futures::try_join!(secret, found, logins, self.notes(&namespace, &instance))?;
        let logins = logins.and_then(|list| list.data?.remove(KEY)).map(|bytes| bytes.0).unwrap_or_default();
        // A primary that died keeps its label until it is back.
        let current = report::hash(&logins);
        let applied = notes.into_iter().max_by_key(|note| *note == current);
        let uid = found.as_ref().and_then(|instance| instance.metadata.uid.as_deref());
        let refused = uid.and_then(|uid| self.context.refusals.of(uid));
        Ok(Some(Seen { binding, secret, instance: found, logins, refused, applied, now: Timestamp::now() }))
    }

    /// What the primaries of an instance say of their logins.
    async fn notes(&self, namespace: &str, instance: &str) -> Result<Vec<String>, Error> {
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let selector = format!("{},{LABEL_ROLE}=master", names::selector(instance));
        let list = pods.list_metadata(&ListParams::default().labels(&selector)).await;
        let list = list.map_err(failed("list the instance's pods"))?;
        Ok(list.items.into_iter().filter_map(|pod| pod.metadata.annotations?.remove(ANNOTATION)).collect())
    }

    /// Does the next thing. `None`: look again.
    async fn act(&self, seen: &Seen, next: Next) -> Result<Option<Action>, Error> {
        let binding = &seen.binding;
        match next {
            Next::Nothing => return Ok(Some(rest(binding.status.as_ref()))),
            Next::Wait => return Ok(Some(Action::requeue(DELETION_ROUND))),
            Next::Adopt => {
                let mut finalizers = binding.metadata.finalizers.clone().unwrap_or_default();
                finalizers.push(FINALIZER.to_owned());
                self.set_finalizers(binding, &finalizers).await?;
            }
            Next::Make(secret) => {
                let made = self.secrets(self.namespace).create(&PostParams::default(), &secret).await;
                if let Err(text) = unless_refused(made).map_err(failed("make the Secret"))? {
                    // Such as for the name of the binding, which may be longer than one of a Secret leaves room for.
                    if let Next::Tell(status) = plan::trouble(seen, text) {
                        self.tell(binding, &status).await?;
                    }
                    return Ok(Some(Action::requeue(TROUBLE_ROUND)));
                }
                self.report(binding, "SecretCreated", "Successfully created secret").await?;
            }
            Next::Tell(status) => {
                self.tell(binding, &status).await?;
                return Ok(Some(rest(Some(&status))));
            }
            Next::DeleteBinding => {
                let parameters = DeleteParams::background().preconditions(only_this(&binding.metadata));
                gone_is_fine(self.bindings().delete(self.name, &parameters).await)
                    .map_err(failed("delete the service binding"))?;
            }
            Next::DeleteSecret => self.delete_secret(seen).await?,
            Next::ReleaseSecret => self.release_secret(seen).await?,
            Next::Release => {
                let rest = binding.metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER);
                self.set_finalizers(binding, &rest.cloned().collect::<Vec<_>>()).await?;
                return Ok(Some(Action::await_change()));
            }
        }
        Ok(None)
    }

    async fn set_finalizers(&self, binding: &ServiceBinding, finalizers: &[String]) -> Result<(), Error> {
        let patched = controller::set_finalizers(&self.bindings(), binding, finalizers, COMPONENT).await;
        gone_is_fine(patched).map_err(failed("change the finalizers of the service binding"))
    }

    async fn tell(&self, binding: &ServiceBinding, status: &ServiceBindingStatus) -> Result<(), Error> {
        let patch = Patch::Merge(plan::patch(status));
        let patched = self.bindings().patch_status(self.name, &parameters(COMPONENT), &patch).await;
        gone_is_fine(patched).map_err(failed("write the status of the service binding"))?;
        if status.implemented == Some(true) {
            self.report(binding, "Created", "Successfully created service binding").await?;
        }
        Ok(())
    }

    async fn delete_secret(&self, seen: &Seen) -> Result<(), Error> {
        let Some(secret) = &seen.secret else { return Ok(()) };
        let parameters = DeleteParams::background().preconditions(only_this(&secret.metadata));
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let deleted = self.secrets(self.namespace).delete(name, &parameters).await;
        gone_is_fine(deleted).map_err(failed("delete the Secret"))
    }

    async fn release_secret(&self, seen: &Seen) -> Result<(), Error> {
        let Some(mut secret) = seen.secret.clone() else { return Ok(()) };
        secret.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
        let name = secret.metadata.name.clone().unwrap_or_default();
        let replaced = self.secrets(self.namespace).replace(&name, &PostParams::default(), &secret).await;
        gone_is_fine(replaced).map_err(failed("take the finalizer off the Secret"))
    }

    async fn report(&self, binding: &ServiceBinding, reason: &'static str, message: &str) -> Result<(), Error> {
        let happening = Happening { reason, message: message.to_owned(), at: None };
        let event = events::about(binding, COMPONENT, Type::Normal, &happening, self.context.clock.now());
        let api: Api<Event> = Api::namespaced(self.context.client.clone(), self.namespace);
        controller::report(&api, &event).await
    }
}

/// When to look again at a binding with this status.
fn rest(status: Option<&ServiceBindingStatus>) -> Action {
    match status.and_then(|status| status.implemented) {
        Some(false) => Action::requeue(TROUBLE_ROUND),
        _ => Action::await_change(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret::tests::binding;
    use super::*;
    use crate::controller::tests::{absence, answered_by, refusal, starting};
    use serde_json::{Value, json};
    use std::sync::Mutex;

    #[tokio::test]
    async fn a_binding_that_the_api_server_cannot_find_yet_is_looked_at_again() {
        let binding = json!({"metadata": {"name": "app", "namespace": "shop"}, "spec": {"instance": {"name": "solo"}}});
        let binding: ServiceBinding = serde_json::from_value(binding).expect("a binding");
        let context = Context { client: starting(), clock: Clock::default(), refusals: Refusals::default() };
        let looked = reconcile(Arc::new(binding), Arc::new(context)).await;
        assert!(looked.is_err(), "{looked:?}");
    }

    #[tokio::test]
    async fn a_binding_says_why_its_secret_is_refused() {
        let told: Arc<Mutex<Vec<Value>>> = Arc::default();
        let noted = told.clone();
        let client = answered_by(move |head, body| {
            let name = head.uri.path().rsplit('/').next().unwrap_or_default();
            match (head.method.as_str(), name) {
                ("GET", "app") => (200, json!(binding())),
                ("GET", "solo") => (200, json!({"metadata": {"name": "solo", "uid": "i-1"}})),
                ("GET", "pods") => (200, json!({"metadata": {}, "items": []})),
                ("PATCH", "status") => {
                    let patch: Value = serde_json::from_slice(body).expect("a patch");
                    noted.lock().expect("no panic").push(patch["status"].clone());
                    (200, json!(binding()))
                }
                ("POST", "secrets") => refusal("secrets is forbidden: exceeded quota"),
                _ => absence(),
            }
        });
        let context = Arc::new(Context { client, clock: Clock::default(), refusals: Refusals::default() });
        reconcile(Arc::new(binding()), context).await.expect("a round");
        let status = json!({"implemented": false, "error": "secrets is forbidden: exceeded quota", "secret": null});
        assert_eq!(*told.lock().expect("no panic"), [status]);
    }
}
