//! Where orders come in and answers go out: the status of Backups and Restores.

use crate::agent::environment::Pod;
use crate::agent::platform::kubernetes::Kubernetes;
use crate::backup::access::Access;
use crate::backup::conditions;
use crate::backup::conditions::{RUNNING, Trouble};
use crate::backup::order::Order;
use crate::instance::names;
use crate::store::{Names, Store};
use futures::{StreamExt as _, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use serde_json::json;
use std::time::Duration;
use tokio::sync::watch;

/// Between attempts to reach the API.
const PAUSE: Duration = Duration::from_millis(500);

/// What an agent says of an order.
#[derive(Clone, Debug)]
pub enum Said {
    /// It works on it, and is so far.
    Working(String),
    /// It is done.
    Done(Trouble),
    /// It was not done.
    Failed(Trouble),
}

/// The orders of one pod.
pub struct Desk {
    platform: Kubernetes,
    namespace: String,
    uid: String,
}

impl Desk {
    /// Of the pod with this UID.
    pub fn new(platform: Kubernetes, pod: &Pod, uid: &str) -> Self {
        Self { platform, namespace: pod.namespace.clone(), uid: uid.to_owned() }
    }

    async fn api<K: Order>(&self) -> Result<Api<K>, String> {
        let client = self.platform.client().await.map_err(|error| crate::chain(&error))?;
        Ok(Api::namespaced(client, &self.namespace))
    }

    /// Puts the orders for this pod that run into the channel, for ever: oldest first.
    pub async fn follow<K: Order + PartialEq>(&self, orders: &watch::Sender<Vec<K>>) {
        let api = loop {
            match self.api::<K>().await {
                Ok(api) => break api,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        let (known, writer) = reflector::store();
        let stream = reflector(writer, watcher(api, watcher::Config::default())).default_backoff();
        pin_mut!(stream);
        while let Some(result) = stream.next().await {
            if let Err(error) = result {
                tracing::debug!(%error, "the watch of orders was interrupted");
                continue;
            }
            let is_ours = |object: &K| object.pod_uid() == Some(&self.uid) && is_wanted(object);
            let mut ours: Vec<K> = known.state().iter().filter(|it| is_ours(it)).map(|it| (**it).clone()).collect();
            ours.sort_by_key(|object| object.meta().creation_timestamp.as_ref().map(|time| time.0));
            orders.send_if_modified(|before| {
                let is_new = *before != ours;
                *before = ours;
                is_new
            });
        }
    }

    /// The Secret for an order.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn access(&self, instance: &str, order: &str) -> Result<Access, Trouble> {
        let trouble = |text: String| Trouble::new("NoAccess", text);
        let name = names::backup_store(instance);
        let client = self.platform.client().await.map_err(|error| trouble(crate::chain(&error)))?;
        let secret = Api::<Secret>::namespaced(client, &self.namespace).get(&name).await;
        let secret = secret.map_err(|error| trouble(format!("the agent cannot read the Secret {name}: {error}")))?;
        Access::of(&secret)
            .filter(|access| access.order == order)
            .ok_or_else(|| trouble(format!("the Secret {name} is not for this order")))
    }

    /// A client of the store for an order. The API tells where it is, if it is a Service.
    ///
    /// # Errors
    /// If there is no way to it.
    pub async fn store(&self, access: &Access) -> Result<Store, Trouble> {
        let client = self.platform.client().await;
        let client = client.map_err(|error| Trouble::new("NoAccess", crate::chain(&error)))?;
        let store = Store::new(&access.config(), &access.credentials(), Names::of_cluster(client), super::LIMITS);
        store.map_err(|error| Trouble::store(&error))
    }

    /// Says something of an order, as long as it runs. Answers whether anybody wants what is made for it.
    async fn say<K: Order>(&self, name: &str, order: &str, said: &Said) -> Result<bool, String> {
        let api = self.api::<K>().await?;
        let object = match api.get(name).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
            result => result.map_err(|error| error.to_string())?,
        };
        if !object.is_running() || object.order() != Some(order) {
            return Ok(!is_void(&object, order));
        }
        let (status, trouble) = match said {
            Said::Working(text) => ("Unknown", Trouble::new(RUNNING, text.as_str())),
            Said::Done(trouble) => ("True", trouble.clone()),
            Said::Failed(trouble) => ("False", trouble.clone()),
        };
        let now = Timestamp::now();
        let mut all = object.conditions().cloned().unwrap_or_default();
        conditions::set(&mut all, K::SAID, status, &trouble, now);
        let patch = json!({
            "metadata": {"resourceVersion": object.meta().resource_version},
            "status": {"conditions": all, "lastObservationTime": Time(now)},
        });
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|error| error.to_string())?;
        Ok(true)
    }

    /// Says something of an order, until that was heard or the order does not run any more. Answers whether anybody
    /// wants what is made for it.
    pub async fn insist<K: Order>(&self, name: &str, order: &str, said: &Said) -> bool {
        loop {
            match self.say::<K>(name, order, said).await {
                Ok(is_wanted) => return is_wanted,
                Err(error) => {
                    tracing::debug!("an answer could not be given: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Says again and again how far the work is.
    pub async fn tell_often<K: Order>(&self, name: &str, order: &str, every: Duration, how_far: impl Fn() -> String) {
        loop {
            tokio::time::sleep(every).await;
            // The next one may get through.
            let _ = self.say::<K>(name, order, &Said::Working(how_far())).await;
        }
    }
}

/// Whether an order was given up: nobody looks for what is made for it.
fn is_void<K: Order>(object: &K, order: &str) -> bool {
    let said = conditions::get(object.conditions(), K::SAID);
    object.order() != Some(order) || said.is_some_and(|said| said.status == "False")
}

/// Whether an order is to be carried out: it runs, and its object is not being deleted.
fn is_wanted<K: Order>(object: &K) -> bool {
    object.is_running() && object.meta().deletion_timestamp.is_none() && object.order().is_some()
}
