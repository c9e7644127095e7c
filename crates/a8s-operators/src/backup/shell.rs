//! What both controllers share: reading what is there, writing what has changed, and the way to the store.

use super::COMPONENT;
use super::access::{Access, answering, belongs_to_order};
use super::conditions::{self, IN_PROGRESS, ORDERED, Trouble};
use super::order::Order;
use super::plan::{LOOK, Pod as Target, Seen};
use crate::archive::keys::DataKey;
use crate::controller::{self, Error, failed, gone_is_fine, parameters, unless_absent, unless_refused};
use crate::instance::events::{self, Clock, Happening, Type};
use crate::instance::names;
use crate::store::{Error as StoreError, Limits, Names, Settings, Store};
use crate::{SYSTEM_NAMESPACE, chain};
use a8s_api::backup::COMPLETE;
use a8s_api::{Backup, LABEL_ROLE, Postgresql, Restore};
use futures::future;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, DeleteParams, ListParams, Patch, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The store is asked small things only here.
const LIMITS: Limits = Limits { silence: Duration::from_secs(10), patience: Duration::from_secs(3) };

/// The store, the bucket in it, and what backups are encrypted with.
pub struct Way {
    pub store: Store,
    pub settings: Settings,
}

impl Way {
    pub fn key(&self, backup_uid: &str) -> DataKey {
        DataKey::derive(&self.settings.password, backup_uid)
    }

    /// What an agent needs for an order about the backup with this UID, whose objects are below `place`.
    pub fn access(&self, order: &str, backup_uid: &str, place: &str) -> Access {
        let Settings { config, credentials, .. } = &self.settings;
        Access::new(order, config, credentials, &self.key(backup_uid), (backup_uid, place))
    }
}

/// What is written for an order.
trait Given:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize
{
}

impl Given for Secret {}
impl Given for Role {}
impl Given for RoleBinding {}

/// What rounds share.
pub struct Context {
    pub client: kube::Client,
    /// Held while it is looked whether an instance has another order and one is given.
    pub orders: tokio::sync::Mutex<()>,
    /// What an order's agent said last, and since when.
    heard: Mutex<HashMap<String, (String, Instant)>>,
    clock: Clock,
}

impl Context {
    pub fn new(client: kube::Client) -> Arc<Self> {
        Arc::new(Self {
            client,
            orders: tokio::sync::Mutex::default(),
            heard: Mutex::default(),
            clock: Clock::default(),
        })
    }

    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The way to the store, or why there is none.
    pub async fn way(&self) -> Result<Way, Trouble> {
        let settings = Settings::read(&self.client, SYSTEM_NAMESPACE).await;
        let settings = settings.map_err(|error| Trouble::new("NotConfigured", chain(&error)))?;
        let names = Names::of_cluster(self.client.clone());
        let store = Store::new(&settings.config, &settings.credentials, names, LIMITS);
        let store = store.map_err(|error| Trouble::store(&error))?;
        Ok(Way { store, settings })
    }

    /// What is there beside an object.
    pub async fn seen<K: Order>(&self, object: &K) -> Result<Seen, Error> {
        let namespace = object.namespace().unwrap_or_default();
        let name = object.ordered_instance().filter(|_| object.is_ordered()).unwrap_or(&object.instance().name);
        let (silence, now) = (self.silence(object), Timestamp::now());
        if !names::is_instance_name(name) {
            return Ok(Seen { has_instance: false, primary: None, has_pod: false, other: None, silence, now });
        }
        let (instances, pods) = (self.api::<Postgresql>(&namespace), self.api::<Pod>(&namespace));
        let selector = names::selector(name);
        let pods = async { pods.list(&ListParams::default().labels(&selector)).await.map_err(failed("list pods")) };
        let instance = async { unless_absent(instances.get(name).await).map_err(failed("read the instance")) };
        let (instance, pods) = future::try_join(instance, pods).await?;
        let is_usable = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        let has_order = |pod: &Pod| pod.metadata.uid.as_deref() == object.pod_uid() && object.pod_uid().is_some();
        Ok(Seen {
            has_instance: instance.is_some_and(|instance| instance.metadata.deletion_timestamp.is_none()),
            primary: pods.items.iter().filter(is_usable).find(|pod| is_ready_primary(pod)).map(target),
            // Also while it ends: until it is gone, its agent may store another object.
            has_pod: pods.items.iter().any(has_order),
            other: None,
            silence,
            now,
        })
    }

    /// For how long nothing new was said about an order.
    fn silence<K: Order>(&self, object: &K) -> Duration {
        let uid = object.uid().unwrap_or_default();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if !object.is_running() {
            heard.remove(&uid);
            return Duration::ZERO;
        }
        let said = format!("{:?} {:?}", object.order(), object.observed());
        match heard.get(&uid) {
            Some((before, since)) if *before == said => since.elapsed(),
            _ => {
                heard.insert(uid, (said, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Another order of the instance, if one runs. Asked of the API itself, while [`Self::orders`] is held.
    pub async fn other<K: Order>(&self, object: &K) -> Result<Option<String>, Error> {
        let namespace = object.namespace().unwrap_or_default();
        let all = ListParams::default();
        let (backups, restores) = (self.api::<Backup>(&namespace), self.api::<Restore>(&namespace));
        let (backups, restores) = future::try_join(backups.list(&all), restores.list(&all))
            .await
            .map_err(failed("list backups and restores"))?;
        let instance = &object.instance().name;
        let found = running(&backups.items, instance, object.uid().as_deref());
        Ok(found.or_else(|| running(&restores.items, instance, object.uid().as_deref())))
    }

    /// Writes what the agents of an instance need for an order, or says why not: what is somebody else's is not replaced.
    pub async fn give_access<K: Order>(
        &self,
        object: &K,
        instance: &str,
        access: Access,
    ) -> Result<Result<(), Trouble>, Error> {
        let namespace = object.namespace().unwrap_or_default();
        let (role, binding) = answering(object, &namespace, instance);
        if let Err(trouble) = self.give::<K, _>(role).await? {
            return Ok(Err(trouble));
        }
        if let Err(trouble) = self.give::<K, _>(binding).await? {
            return Ok(Err(trouble));
        }
        // Last: an order that waits for somebody's name leaves no key of the store behind.
        self.give::<K, _>(access.secret(&namespace, instance, object.owner())).await
    }

    /// Writes one object for an order, in the place of what is there for an earlier one, or says why not.
    async fn give<K: Order, T: Given>(&self, mut object: T) -> Result<Result<(), Trouble>, Error> {
        let api: Api<T> = self.api(&object.namespace().unwrap_or_default());
        let (name, kind, parameters) = (object.name_any(), T::kind(&()), controller::post_parameters(COMPONENT));
        let written = match api.get_opt(&name).await.map_err(failed("read what an order needs"))? {
            Some(before) if !belongs_to_order(before.meta()) => {
                let text = format!(
                    "there is a {kind} {name:?} that does not belong to an order: the {} waits until it is gone",
                    K::WHAT
                );
                return Ok(Err(Trouble::new(&format!("{kind}Taken"), text)));
            }
            Some(before) => {
                object.meta_mut().resource_version.clone_from(&before.meta().resource_version);
                api.replace(&name, &parameters, &object).await
            }
            None => api.create(&parameters, &object).await,
        };
        let written = unless_refused(written).map_err(failed("write what an order needs"))?;
        Ok(written.map(drop).map_err(|text| Trouble::new(&format!("{kind}Refused"), text)))
    }

    /// Removes what agents needed for an object's last order, and for no other.
    pub async fn take_access<K: Order>(&self, object: &K) -> Result<(), Error> {
        let Some(instance) = object.ordered_instance() else { return Ok(()) };
        let role = names::order_role(instance);
        self.take::<K, RoleBinding>(object, &role).await?;
        self.take::<K, Role>(object, &role).await?;
        self.take::<K, Secret>(object, &names::backup_store(instance)).await
    }

    async fn take<K: Order, T: Given>(&self, object: &K, name: &str) -> Result<(), Error> {
        let api: Api<T> = self.api(&object.namespace().unwrap_or_default());
        let Some(found) = api.get_opt(name).await.map_err(failed("read what an order needed"))? else {
            return Ok(());
        };
        let uid = object.uid();
        if !found.owner_references().iter().any(|owner| uid.as_ref() == Some(&owner.uid)) {
            return Ok(());
        }
        let same = Preconditions { uid: found.uid(), resource_version: found.resource_version() };
        match api.delete(name, &DeleteParams::default().preconditions(same)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            result => result.map(drop).map_err(failed("remove what an order needed")),
        }
    }

    /// Writes a status, unless somebody else has written since it was read.
    pub async fn tell<K: Order>(&self, object: &K, mut status: Value) -> Result<(), Error> {
        status["lastObservationTime"] = json!(Time(Timestamp::now()));
        self.write(object, status).await
    }

    async fn write<K: Order>(&self, object: &K, status: Value) -> Result<(), Error> {
        let patch = json!({"metadata": {"resourceVersion": object.meta().resource_version}, "status": status});
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let patched = api.patch_status(&object.name_any(), &parameters(COMPONENT), &Patch::Merge(patch)).await;
        patched.map(drop).map_err(failed("write a status"))
    }

    /// Says that all is done. The agent needs nothing more.
    pub async fn complete<K: Order>(&self, object: &K, done: Trouble) -> Result<Action, Error> {
        self.take_access(object).await?;
        let conditions = changed(object, [(IN_PROGRESS, "False", done.clone()), (COMPLETE, "True", done.clone())]);
        self.tell(object, json!({"conditions": conditions})).await?;
        self.report(object, Type::Normal, "Completed", &done.message).await;
        Ok(Action::await_change())
    }

    /// Says in one condition why something waits, if that is new, and looks again.
    pub async fn wait<K: Order>(
        &self,
        object: &K,
        type_: &'static str,
        status: &'static str,
        why: &Trouble,
    ) -> Result<Action, Error> {
        let is_said = conditions::get(object.conditions(), type_)
            .is_some_and(|before| before.status == status && Trouble::of(before) == *why);
        if !is_said {
            let all = changed(object, [(type_, status, why.clone())]);
            // A pause counts from the last attempt, not from what was said since.
            let observed = object.observed().map(Time);
            self.write(object, json!({"conditions": all, "lastObservationTime": observed})).await?;
        }
        Ok(Action::requeue(LOOK))
    }

    /// Reports an event. A namespace that is going away takes none.
    pub async fn report<K: Order>(&self, object: &K, type_: Type, reason: &'static str, message: &str) {
        let happening = Happening { reason, message: message.to_owned(), at: None };
        let event = events::about(object, COMPONENT, type_, &happening, self.clock.now());
        let api: Api<Event> = self.api(&object.namespace().unwrap_or_default());
        if let Err(error) = controller::report(&api, &event).await {
            tracing::debug!(%error, "an event could not be reported");
        }
    }

    /// Puts the finalizer on an object.
    pub async fn adopt<K: Order>(&self, object: &K) -> Result<K, Error> {
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        finalizers.push(K::FINALIZER.to_owned());
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let patched = controller::set_finalizers(&api, object, &finalizers, COMPONENT).await;
        patched.map_err(failed("put the finalizer on an object"))
    }

    /// Takes the finalizer off.
    pub async fn let_go<K: Order>(&self, object: &K) -> Result<Action, Error> {
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != K::FINALIZER);
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let patched = controller::set_finalizers(&api, object, &finalizers, COMPONENT).await;
        gone_is_fine(patched).map_err(failed("take the finalizer off an object"))?;
        Ok(Action::await_change())
    }
}

/// The status fields that give an order, beside those that name the pod.
pub fn ordered<K: Order>(object: &K, pod: &Target) -> Value {
    let said = Trouble::new(ORDERED, format!("the agent of the pod {} has the order", pod.name));
    json!({"conditions": changed(object, [
        (IN_PROGRESS, "True", said.clone()),
        (K::SAID, "Unknown", said),
    ])})
}

/// The conditions of an object after some have changed.
pub fn changed<K: Order>(
    object: &K,
    changes: impl IntoIterator<Item = (&'static str, &'static str, Trouble)>,
) -> Vec<Condition> {
    let mut all = object.conditions().cloned().unwrap_or_default();
    for (type_, status, trouble) in changes {
        conditions::set(&mut all, type_, status, &trouble, Timestamp::now());
    }
    all
}

/// Removes everything below a prefix, and looks whether it is gone. A bucket that is not there has nothing.
pub async fn remove(store: &Store, prefix: &str) -> Result<(), StoreError> {
    match store.delete_below(prefix).await {
        Ok(0) | Err(StoreError::NoSuchBucket { .. }) => Ok(()),
        Ok(_) => match store.list(prefix).await?.is_empty() {
            true => Ok(()),
            false => store.delete_below(prefix).await.map(drop),
        },
        Err(error) => Err(error),
    }
}

fn running<K: Order>(all: &[K], instance: &str, but: Option<&str>) -> Option<String> {
    let is_of = |object: &&K| object.ordered_instance() == Some(instance) && object.uid().as_deref() != but;
    let found = all.iter().filter(|object| object.is_ordered()).find(is_of)?;
    Some(format!("{} {}", K::WHAT, found.name_any()))
}

fn is_ready_primary(pod: &Pod) -> bool {
    is_primary(pod) && is_ready(pod)
}

pub fn is_primary(pod: &Pod) -> bool {
    pod.labels().get(LABEL_ROLE).is_some_and(|role| role == "master")
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

fn target(pod: &Pod) -> Target {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
    let major = pod.annotations().get(names::VERSION).and_then(|text| text.parse().ok());
    Target { name: pod.name_any(), uid: pod.uid().unwrap_or_default(), ip, major }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::{absence, answered_by, refusal};
    use crate::store::{Config, Credentials};

    #[tokio::test]
    async fn an_order_that_may_not_have_what_it_needs_waits_and_says_why() {
        let client = answered_by(|head, _| match head.method.as_str() {
            "POST" => refusal("exceeded quota"),
            _ => absence(),
        });
        let config = Config { bucket: "b".into(), region: "r".into(), endpoint: None, path_style: false };
        let credentials = Credentials { access_key: "a".into(), secret_key: "s".into() };
        let key = DataKey::derive(b"password", "b-1");
        let access = Access::new("o-1", &config, &credentials, &key, ("b-1", "shop/solo/b-1"));
        let mut backup = Backup::new("nightly", Default::default());
        backup.metadata.namespace = Some("shop".into());
        let given = Context::new(client).give_access(&backup, "solo", access).await.expect("answered");
        assert_eq!(given, Err(Trouble::new("RoleRefused", "exceeded quota")));
    }
}
