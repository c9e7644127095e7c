//! Persistent volumes: claims are bound to volumes, which are made for them as directories of this host where their
//! StorageClass says so, and go with their data when nobody claims them any more.
//!
//! [`claim`] plans for a claim, [`volume`] for a volume. What `pkg/controller/volume/persistentvolume` and
//! `pvcprotection` of Kubernetes do, as seen through the API.

mod claim;
mod directory;
mod volume;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use self::directory::Directories;
use super::action::Action;
use super::engine::Controller;
use super::view::{Name, claims_of, is, name_of, read, resource_of};
use super::{Context, Error, Options};
use crate::api::names::default_class;
use crate::objects::{Change, ChangeKind};

/// The provisioner that this controller is: directories of the host, as Kubernetes' own `--enable-hostpath-provisioner`.
pub const PROVISIONER: &str = "kubernetes.io/host-path";
/// Set by the scheduler on a claim whose volume is to be made for a pod.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// A StorageClass' mode in which a volume is made only when a pod needs it.
pub const WAIT_FOR_FIRST_CONSUMER: &str = "WaitForFirstConsumer";

const COMPONENT: &str = "persistentvolume-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// One thing to do: a request, or something on the disk.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "plans are lists of a few that live for one reconciliation")]
enum Step {
    Make(String),
    Remove(String),
    Do(Action),
}

async fn carry_out(context: &Context, directories: &Directories, steps: Vec<Step>) -> Result<(), Error> {
    for step in steps {
        match step {
            Step::Make(volume) => directories.make(&volume).await?,
            Step::Remove(volume) => directories.remove(&volume).await?,
            Step::Do(action) => context.apply(action).await?,
        }
    }
    Ok(())
}

/// Clears away what a crash has left between the making of a directory and the writing of its volume. To be called
/// before the controllers run, so that no directory is being made meanwhile.
pub async fn clear_leftovers(context: &Context, options: &Options) -> Result<(), Error> {
    let directories = Directories::new(options.volumes.clone(), options.volume_owner);
    let objects = std::sync::Arc::clone(&context.objects);
    let is_known = move |name: &str| objects.get(&resource_of::<PersistentVolume>(), None, name).is_some();
    directories.remove_empty(is_known).await
}

/// The controller of claims.
pub struct Claims {
    context: Context,
    directories: Directories,
    /// The last thing said about a claim that waits, by its uid: the same is not said again and again.
    said: Mutex<BTreeMap<String, String>>,
}

impl Claims {
    pub fn new(context: Context, options: &Options) -> Self {
        let directories = Directories::new(options.volumes.clone(), options.volume_owner);
        Self { context, directories, said: Mutex::new(BTreeMap::new()) }
    }

    fn observe(&self, (namespace, name): &Name) -> Result<Option<claim::Observed>, Error> {
        let Some(claim) = self.context.get::<PersistentVolumeClaim>(Some(namespace), name)? else {
            return Ok(None);
        };
        let classes = self.context.list_plain::<StorageClass>(None);
        let default_class = default_class(&classes).map(str::to_owned);
        let classes = classes.iter().map(|class| read(class)).collect::<Result<Vec<StorageClass>, _>>()?;
        let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
        let volumes = self.context.list::<PersistentVolume>(None, |volume| {
            let free = volume["spec"]["claimRef"].is_null();
            free || volume["spec"]["claimRef"]["name"] == *name
                || wanted.as_deref() == volume["metadata"]["name"].as_str()
        })?;
        let uses = |pod: &Value| {
            // Only a pod on a node can have the volume in use.
            !pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty()
                && claims_of(pod).any(|claim| claim == name)
        };
        let used = self.context.list_plain::<Pod>(Some(namespace)).iter().any(|pod| uses(pod));
        Ok(Some(claim::Observed { claim, classes, default_class, volumes, used }))
    }

    fn is_news(&self, step: &Step) -> bool {
        let Step::Do(Action::Tell(note)) = step else { return true };
        let uid = note.about.uid.clone().unwrap_or_default();
        // A panic elsewhere does not make a map of sentences wrong.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(uid, note.message.clone()).is_none_or(|before| before != note.message)
    }

    fn pending(&self) -> Vec<Name> {
        let claims = self.context.list_plain::<PersistentVolumeClaim>(None);
        let pending = claims.iter().filter(|claim| claim["status"]["phase"] != "Bound");
        pending.map(|claim| name_of(claim)).collect()
    }
}

impl Controller for Claims {
    type Key = Name;
    const NAME: &'static str = "persistentvolumeclaim";

    fn keys(&self, change: &Change) -> Vec<Name> {
        let object = &change.object;
        if is::<PersistentVolumeClaim>(&change.resource) {
            if change.kind == ChangeKind::Deleted {
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
                self.said.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
                return Vec::new();
            }
            return vec![name_of(object)];
        }
        if is::<PersistentVolume>(&change.resource) {
            let reference = &object["spec"]["claimRef"];
            return match (reference["namespace"].as_str(), reference["name"].as_str()) {
                (Some(namespace), Some(name)) => vec![(namespace.to_owned(), name.to_owned())],
                _ => self.pending(),
            };
        }
        if is::<StorageClass>(&change.resource) {
            return self.pending();
        }
        // A pod that goes may free a claim that waits for it.
        if is::<Pod>(&change.resource) && change.kind == ChangeKind::Deleted {
            let (namespace, _) = name_of(object);
            return claims_of(object).map(|claim| (namespace.clone(), claim.to_owned())).collect();
        }
        Vec::new()
    }

    async fn reconcile(&self, key: &Name) -> Result<Option<Duration>, Error> {
        if let Some(observed) = self.observe(key)? {
            let mut steps = claim::plan(&observed, &self.directories)?;
            steps.retain(|step| self.is_news(step));
            carry_out(&self.context, &self.directories, steps).await?;
        }
        Ok(None)
    }
}

/// The controller of volumes.
pub struct Volumes {
    context: Context,
    directories: Directories,
}

impl Volumes {
    pub fn new(context: Context, options: &Options) -> Self {
        Self { context, directories: Directories::new(options.volumes.clone(), options.volume_owner) }
    }
}

impl Controller for Volumes {
    type Key = String;
    const NAME: &'static str = "persistentvolume";

    fn keys(&self, change: &Change) -> Vec<String> {
        let object = &change.object;
        if is::<PersistentVolume>(&change.resource) && change.kind != ChangeKind::Deleted {
            return vec![name_of(object).1];
        }
        if is::<PersistentVolumeClaim>(&change.resource) {
            return object["spec"]["volumeName"]
                .as_str()
                .map(str::to_owned)
                .into_iter()
                .chain(
                    // It may have been made, and the claim have gone before it heard of it.
                    object["metadata"]["uid"].as_str().map(claim::volume_name),
                )
                .collect();
        }
        Vec::new()
    }

    async fn reconcile(&self, name: &String) -> Result<Option<Duration>, Error> {
        let Some(volume) = self.context.get::<PersistentVolume>(None, name)? else {
            return Ok(None);
        };
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let claim = reference.and_then(|reference| {
            let (namespace, name) = (reference.namespace.as_deref()?, reference.name.as_deref()?);
            self.context.objects.get(&resource_of::<PersistentVolumeClaim>(), Some(namespace), name)
        });
        let steps = volume::plan(&volume, claim.as_deref(), &self.directories);
        carry_out(&self.context, &self.directories, steps).await?;
        Ok(None)
    }
}
