//! The stack on a cluster: its record, its namespaces, its objects, its definitions being served, its operators running, its
//! admission answering; and all of that gone again.
//!
//! [`record`] and [`install`] list the steps. Where the objects come from is a [`Source`]; the steps are the same for the
//! builtin stack, the released one, cert-manager and the object store.

mod admission;
mod inventory;
mod made;
mod manifests;
mod objects;
mod offspring;
mod removal;
mod rollouts;
mod site;
mod source;
pub mod supply;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use kube::api::{ApiResource, DynamicObject};
use kube::{Client, ResourceExt};

pub use self::admission::Admission;
pub use self::inventory::{Inventory, OneStack};
pub use self::manifests::Manifests;
pub use self::objects::{Established, Namespaces, Objects};
pub use self::removal::{Lost, Removed, dependants, is_installed, lost, namespaces};
pub use self::rollouts::Rollouts;
pub use self::site::{Origin, Site};
pub use self::source::{Source, values_of};
use crate::finding::{Finding, Id};
use crate::kubernetes::{Error, apply};
use crate::manifest::resource::{ApiVersion, Kind};
use crate::step::{Handle, Plan};

/// The short name of the part with the operators, whichever stack they are of.
pub const STACK: &str = "stack";

/// What is installed by one [`install`], once it has begun.
pub struct Part {
    /// The cluster.
    pub site: Arc<Site>,
    /// What is installed, in the user's words: `the a8s stack`.
    pub title: &'static str,
    /// Short name, unique in a plan.
    pub id: &'static str,
    /// The objects.
    pub source: Arc<Source>,
    /// An object that admission must let pass, as a dry run, before the part is usable.
    pub probe: Option<Probe>,
}

/// An object that admission is tried with.
#[derive(Clone)]
pub struct Probe {
    /// Its kind: discovery tells of a new one only a moment after it is served.
    pub resource: ApiResource,
    /// The object.
    pub object: DynamicObject,
}

/// A part while it is installed: what its steps share.
pub struct Installing {
    site: Arc<Site>,
    title: &'static str,
    id: &'static str,
    source: Arc<Source>,
    probe: Option<Probe>,
    /// What this run has applied, if it has, as the server has answered: by how objects are called.
    applied: OnceLock<BTreeMap<String, DynamicObject>>,
}

impl Part {
    /// The part, for the steps that share it.
    pub fn begin(self) -> Arc<Installing> {
        let Self { site, title, id, source, probe } = self;
        Arc::new(Installing { site, title, id, source, probe, applied: OnceLock::new() })
    }
}

impl Installing {
    /// Whether this run has made a namespace of it: nothing else of it can be there then.
    async fn is_new(&self) -> Result<bool, Finding> {
        let objects = self.source.objects().await?;
        let mut namespaces = objects.iter().filter(|object| objects::rank(object) == 0);
        Ok(namespaces.any(|object| self.site.origin(&object.name_any()) == Some(Origin::Made)))
    }

    /// Whether this run has applied it: how it is since, nobody has looked yet.
    fn is_fresh(&self) -> bool {
        self.applied.get().is_some()
    }

    /// An object as it was when this run had applied it.
    fn applied(&self, object: &DynamicObject) -> Option<&DynamicObject> {
        self.applied.get()?.get(&apply::describe(object))
    }
}

/// Adds the step that puts parts on record, with what they are made of, before any of them is installed.
pub fn record(plan: &mut Plan, after: &[Handle], supply: &Arc<supply::Choice>, parts: Vec<Arc<Installing>>) -> Handle {
    plan.after(after, Inventory::new(parts, supply.clone()))
}

/// Adds the steps that install a part which is on record. Each waits for the one before.
pub fn install(plan: &mut Plan, after: &[Handle], part: Arc<Installing>) -> Handle {
    let spaces = plan.after(after, Namespaces::new(part.clone()));
    let objects = plan.after(&[spaces], Objects::new(part.clone()));
    let served = plan.after(&[objects], Established { part: part.clone() });
    let running = plan.after(&[served], Rollouts { part: part.clone() });
    match part.probe.clone() {
        Some(probe) => plan.after(&[running], Admission { part, probe }),
        None => running,
    }
}

/// Adds the step that prepares the namespaces of a part, and no more.
pub fn prepare(plan: &mut Plan, after: &[Handle], part: Part) -> Handle {
    plan.after(after, Namespaces::new(part.begin()))
}

/// Whether a controller is there, in any namespace, that this program has not installed: `selector` finds it by its labels.
///
/// # Errors
/// The cluster can't be asked.
pub async fn is_foreign(client: &Client, selector: &str) -> Result<bool, Error> {
    use k8s_openapi::api::apps::v1::Deployment;
    let api: kube::Api<Deployment> = kube::Api::all(client.clone());
    let there = api.list(&kube::api::ListParams::default().labels(selector)).await;
    let there = match there {
        // The embedded cluster runs none.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
        there => there.map_err(|error| Error::request(format!("list deployments with {selector}"), error))?,
    };
    if there.items.is_empty() {
        return Ok(false);
    }
    let ours = inventory::read(client).await?.installed;
    let is_ours = |deployment: &Deployment| {
        let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
        ours.iter().any(|entry| entry.kind == "Deployment" && entry.namespace == namespace && entry.name == name)
    };
    Ok(!there.iter().all(is_ours))
}

/// The instance with which the a8s stack's admission is tried.
pub fn instance_probe() -> Probe {
    let resource = Kind::Instance.resource(&ApiVersion::default());
    let mut object = DynamicObject::new("a9s-probe", &resource);
    object.metadata.namespace = Some("default".to_owned());
    object.data = serde_json::json!({"spec": {"version": 14}});
    Probe { resource, object }
}

/// The stack must be there: a clear word instead of "the server could not find the requested resource".
///
/// # Errors
/// It is not installed, or the cluster can't be asked.
pub async fn require(client: &Client) -> Result<(), Finding> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let api: kube::Api<CustomResourceDefinition> = kube::Api::all(client.clone());
    match api.get_opt(&Kind::Instance.definition()).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Finding::new(Id::NoStack, "the a8s stack is not installed on this cluster")
            .advise("Create a cluster with it: a9s create cluster a8s")
            .advise("Or install it on this cluster: a9s create stack a8s")),
        // Who may not look at definitions may have the right to use what they define.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        Err(error) => Err(Error::request("look for the a8s stack", error).into()),
    }
}
