//! Secrets whose owner went before it could take them with it.
//!
//! Where a deletion meets the request that puts a finalizer on the object, Kubernetes may carry out both: the object is
//! gone, although its controller holds it (kubernetes/kubernetes, issue 77988). What the controller makes for it then is
//! deleted by the garbage collector, and stays for good for its own finalizer, in the way of the next of that name and of
//! its namespace's end. Nobody is left to take that finalizer off but this controller.

use std::sync::Arc;
use std::time::Duration;

use a8s_api::{LABEL_KIND, Postgresql, ServiceBinding};
use futures::{StreamExt as _, future};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::{PartialObjectMeta, Resource as _};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use crate::controller::TROUBLE_ROUND;
use crate::{binding, instance};

/// Between two looks at an owner that is there.
const ROUND: Duration = Duration::from_secs(30);

/// Those who own Secrets.
struct Owners {
    client: Client,
    resource: ApiResource,
    /// The labels that their Secrets have.
    labels: String,
    /// The finalizer that their Secrets have.
    finalizer: &'static str,
}

/// Releases the Secrets of instances and of service bindings until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let instances = Owners {
        client: client.clone(),
        resource: ApiResource::erase::<Postgresql>(&()),
        labels: format!("{LABEL_KIND}={}", Postgresql::KIND),
        finalizer: instance::names::FINALIZER,
    };
    let (name, value) = binding::secret::LABEL;
    let bindings = Owners {
        client,
        resource: ApiResource::erase::<ServiceBinding>(&()),
        labels: format!("{name}={value}"),
        finalizer: binding::FINALIZER,
    };
    tokio::join!(watch(instances, shutdown.clone()), watch(bindings, shutdown));
}

async fn watch(owners: Owners, shutdown: CancellationToken) {
    let secrets = Api::<PartialObjectMeta<Secret>>::all(owners.client.clone());
    Controller::new(secrets, watcher::Config::default().labels(&owners.labels))
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, retry, Arc::new(owners))
        .for_each(|_| future::ready(()))
        .await;
}

fn retry(secret: Arc<PartialObjectMeta<Secret>>, error: &kube::Error, _: Arc<Owners>) -> Action {
    tracing::warn!(secret = %secret.name_any(), %error, "it is not known yet whether its owner is there");
    Action::requeue(TROUBLE_ROUND)
}

async fn reconcile(seen: Arc<PartialObjectMeta<Secret>>, owners: Arc<Owners>) -> Result<Action, kube::Error> {
    let owner = seen.owner_references().iter().find(|owner| owner.kind == owners.resource.kind);
    let (Some(owner), Some(namespace), Some(_)) = (owner, seen.namespace(), seen.meta().deletion_timestamp.as_ref())
    else {
        return Ok(Action::await_change());
    };
    let is_held = seen.finalizers().iter().any(|finalizer| finalizer == owners.finalizer);
    if !is_held || sabotage::sabotaged!("orphaned-secrets-stay") {
        return Ok(Action::await_change());
    }
    let all: Api<DynamicObject> = Api::namespaced_with(owners.client.clone(), &namespace, &owners.resource);
    // Not a read by name: that finds nothing, too, where the kind is not served at the moment.
    let named = ListParams::default().fields(&format!("metadata.name={}", owner.name));
    if all.list_metadata(&named).await?.iter().any(|there| there.meta().uid.as_ref() == Some(&owner.uid)) {
        // It takes the Secret with it when it goes.
        return Ok(Action::requeue(ROUND));
    }
    let secrets: Api<Secret> = Api::namespaced(owners.client.clone(), &namespace);
    let Some(mut secret) = secrets.get_opt(&seen.name_any()).await? else { return Ok(Action::await_change()) };
    if secret.meta().uid == seen.meta().uid {
        secret.finalizers_mut().retain(|finalizer| finalizer != owners.finalizer);
        tracing::info!(secret = %seen.name_any(), %namespace, "its owner went before it: released");
        secrets.replace(&seen.name_any(), &PostParams::default(), &secret).await?;
    }
    Ok(Action::await_change())
}
