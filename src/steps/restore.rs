//! The plan that restores a backup: into the instance it was made of, into another one, or into a new one.

use std::path::Path;
use std::sync::Arc;

use a8s_operators::instance::names::GENERATION;
use async_trait::async_trait;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt};

use super::capability::{self, Capability, Capable};
use super::condition::{self, Verdict};
use super::instance::Ready;
use super::look;
use super::resource::{Applied, Existing, Exists, Manifest, Ordered, Settled, get, order};
use crate::finding::{Finding, Id};
use crate::kubernetes::{Access, Error};
use crate::manifest::instance::{self, LIMITS_MEMORY, REQUESTS_CPU};
use crate::manifest::names::ObjectName;
use crate::manifest::resource::{Kind, Reference, Resource};
use crate::step::{Handle, Observation, Plan, Step};

/// Annotation of an instance that was made for a restore, whose name it is.
const MADE_FOR: &str = "a8s.a9s/made-for";

/// What is said when there is no such backup.
fn no_backup(backup: &Reference) -> Finding {
    let Reference { namespace, name, .. } = backup;
    let cause = format!("Can't create restore for non-existing backup {name} in namespace {namespace}");
    Kind::Backup.missing(cause)
}

/// A backup that is to be restored.
///
/// # Errors
/// There is no such backup, or the cluster can't be asked.
pub async fn backup(client: &Client, backup: &Reference) -> Result<DynamicObject, Finding> {
    get(client, backup).await?.ok_or_else(|| no_backup(backup))
}

/// The instance that a backup was made of.
///
/// # Errors
/// It names none.
pub fn source(backup: &Reference, there: &DynamicObject) -> Result<ObjectName, Finding> {
    condition::instance(there).parse().map_err(|why: String| {
        Finding::new(Id::NoSource, format!("the {backup} does not say which instance it is of: {why}"))
    })
}

/// The instance `to` as it should be: as it is, if it is there, else like `source`, else as `backup` needs it.
///
/// # Errors
/// The backup does not say what it needs, or the cluster can't be asked.
pub async fn like(
    client: &Client,
    source: &Reference,
    to: &ObjectName,
    backup: &DynamicObject,
) -> Result<Resource, Finding> {
    let reference = Reference { name: to.clone(), ..source.clone() };
    match get(client, &reference).await? {
        Some(there) => Ok(Resource::new(reference, there.data["spec"].clone())),
        None => copied(client, source, reference, backup).await,
    }
}

/// An instance that is not there, like `source`. Where that is gone, too, its backup says what it takes to hold it.
async fn copied(
    client: &Client,
    source: &Reference,
    reference: Reference,
    backup: &DynamicObject,
) -> Result<Resource, Finding> {
    if let Some(found) = get(client, source).await? {
        return Ok(Resource::new(reference, found.data["spec"].clone()));
    }
    let Some((bytes, major)) = condition::made_of(backup) else {
        let to = &reference.name;
        let cause = format!("neither the instance {to} nor the instance {} is there to copy", source.name);
        return Err(Finding::new(Id::NoInstance, cause).advise(
            "Make an instance, a9s create pg instance --name NAME, and restore into it: a9s create pg restore -i NAME.",
        ));
    };
    // Until the new content is in its place, there are two.
    let gibibytes = bytes.saturating_mul(2).div_ceil(1 << 30).max(1);
    Ok(Resource::new(
        reference,
        instance::spec(1, major, &format!("{gibibytes}Gi"), Some(REQUESTS_CPU), Some(LIMITS_MEMORY)),
    ))
}

/// The new instance `to`, like `source`, for the content of a backup. One that an earlier run of the same restore has made,
/// or was about to, is the same.
///
/// # Errors
/// As [`like`], or there is an instance of that name whose content would be lost, or the restore was already, into an
/// instance that is gone.
pub async fn new(
    client: &Client,
    source: &Reference,
    to: &ObjectName,
    restore: &Reference,
    backup: &DynamicObject,
) -> Result<Resource, Finding> {
    let reference = Reference { name: to.clone(), ..source.clone() };
    let (there, order) = (get(client, &reference).await?, get(client, restore).await?);
    // Cut off before the restore was ordered. Once it has been carried out, the content is the instance's own.
    let is_for_this =
        there.as_ref().and_then(|it| it.annotations().get(MADE_FOR)).is_some_and(|it| it == restore.name.as_str());
    let is_cut_off = is_for_this
        && (!has_been_restored(client, &reference).await? || sabotage::sabotaged!("restore-takes-any-place"));
    let mut resource = match (there, order) {
        (None, None) => copied(client, source, reference, backup).await?,
        (None, Some(_)) => {
            let cause = format!("there is a {restore} already, and no instance {to}");
            return Err(Finding::new(Id::OtherSpec, cause).advise("Choose another --name."));
        }
        // Nothing is ordered again, so no content is replaced.
        (Some(there), Some(order)) if condition::instance(&order) == to.as_str() => {
            return Ok(Resource::new(reference, there.data["spec"].clone()));
        }
        (Some(there), None) if is_cut_off => Resource::new(reference, there.data["spec"].clone()),
        (Some(_), _) => {
            let why = if is_for_this { "has been restored before" } else { "was not made for this" };
            let cause =
                format!("there is an instance {to} already, which {why}: the {restore} would replace its content");
            return Err(Finding::new(Id::InstanceTaken, cause)
                .advise(format!("To replace its content: a9s create pg restore -b {} -i {to}", backup.name_any()))
                .advise("Or choose a name that is free."));
        }
    };
    resource.annotations.insert(MADE_FOR.to_owned(), restore.name.to_string());
    Ok(resource)
}

/// Whether a restore has ever given an instance its content. The stacks that restore into other instances say so on its Lease.
async fn has_been_restored(client: &Client, instance: &Reference) -> Result<bool, Finding> {
    let Reference { namespace, name, .. } = instance;
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace.as_str());
    let lease = leases.get_opt(name.as_str()).await;
    let lease = lease.map_err(|error| Error::request(format!("look at the Lease {namespace}/{name}"), error))?;
    Ok(lease.is_some_and(|lease| lease.annotations().contains_key(GENERATION)))
}

/// A backup should be one that can be restored into an instance: complete, and of that instance, unless the stack can
/// restore into another one. The instance should have nothing else to do: what is ordered beside that waits, and nobody who
/// waits for the one knows what the other leaves there.
struct Restorable {
    access: Arc<Access>,
    backup: Reference,
    /// One that is there already is only waited for.
    restore: Reference,
    into: ObjectName,
}

#[async_trait]
impl Step for Restorable {
    fn id(&self) -> String {
        "backup-restorable".to_owned()
    }

    fn title(&self) -> String {
        format!("look whether the {} can be restored into the instance {}", self.backup, self.into)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        let there = backup(&client, &self.backup).await?;
        let unusable = |why: String| {
            let cause = format!("the {} can't be restored: {why}", self.backup);
            Err(Finding::new(Id::BackupUnusable, cause))
        };
        match condition::verdict(Kind::Backup, &there) {
            Verdict::Done(_) => {}
            Verdict::Pending(what) => return unusable(format!("it is not complete yet: {what}")),
            Verdict::Failed(why) => return unusable(format!("it has failed: {why}")),
        }
        let source = condition::instance(&there);
        if source != self.into.as_str() {
            capability::require(&client, Capability::RestoreInto).await.map_err(|finding| {
                let of = format!("The {} is of the instance {source}, not of {}.", self.backup, self.into);
                finding.advise(of)
            })?;
        }
        if get(&client, &self.restore).await?.is_none() && !sabotage::sabotaged!("restore-beside-others") {
            self.require_idle(&client).await?;
        }
        Ok(Observation::satisfied(format!("it is complete, and of the instance {source}")))
    }
}

impl Restorable {
    async fn require_idle(&self, client: &Client) -> Result<(), Finding> {
        let instance = Reference { kind: Kind::Instance, name: self.into.clone(), ..self.restore.clone() };
        for kind in [Kind::Backup, Kind::Restore] {
            let orders = look::list_for(client, kind, &instance).await?;
            let mut pending = orders.iter().filter(|it| matches!(condition::verdict(kind, it), Verdict::Pending(_)));
            if let Some(name) = pending.next().and_then(|it| it.metadata.name.as_deref()) {
                let (noun, Reference { namespace, name: into, .. }) = (kind.noun(), &instance);
                let cause = format!("the instance {namespace}/{into} is busy with the {noun} {name}");
                let way_out = format!(
                    "Wait until it is complete, or delete it: a9s delete pg {noun} --name {name} -n {namespace}"
                );
                return Err(Finding::new(Id::InstanceBusy, cause).advise(way_out));
            }
        }
        Ok(())
    }
}

/// What a restore is to do.
pub struct Order {
    /// The restore.
    pub restore: Resource,
    /// The backup.
    pub backup: Reference,
    /// The instance, and what is to be made of it if it is to be a new one.
    pub into: Destination,
}

/// The instance that is restored into.
pub enum Destination {
    /// One that must be there.
    There(ObjectName),
    /// One that is made, if it is not there.
    Made(Resource),
}

/// The plan that restores a backup, and the step that knows how it ended.
pub fn create(access: &Arc<Access>, wanted: &Order, user_manifests: &Path) -> (Plan, Arc<Settled>) {
    let mut plan = Plan::new("create pg restore");
    let ordered = add(&mut plan, access, wanted, Some(user_manifests));
    (plan, ordered.settled)
}

/// Adds the steps that restore a backup, with the manifests if they are to be kept.
pub fn add(plan: &mut Plan, access: &Arc<Access>, wanted: &Order, user_manifests: Option<&Path>) -> Ordered {
    let Order { restore, backup, into } = wanted;
    let restorable = |into: &ObjectName| Restorable {
        access: access.clone(),
        backup: backup.clone(),
        restore: restore.reference.clone(),
        into: into.clone(),
    };
    let ready = match into {
        Destination::There(instance) => {
            let namespace = &restore.reference.namespace;
            let exists = plan.add(Exists {
                access: access.clone(),
                reference: Reference::new(Kind::Instance, namespace, instance),
                otherwise: format!(
                    "Can't create restore for non-existing service instance {instance} in namespace {namespace}"
                ),
            });
            plan.after(&[exists], restorable(instance))
        }
        Destination::Made(instance) => {
            let capable = plan.add(Capable { access: access.clone(), capability: Capability::RestoreInto });
            let restorable = plan.after(&[capable], restorable(&instance.reference.name));
            make(plan, &[restorable], access, instance, user_manifests)
        }
    };
    order(plan, &[ready], access, restore, user_manifests.map(|directory| restore.file(directory)))
}

/// Makes an instance and waits until it is ready.
fn make(
    plan: &mut Plan,
    after: &[Handle],
    access: &Arc<Access>,
    instance: &Resource,
    user_manifests: Option<&Path>,
) -> Handle {
    // One that somebody has made meanwhile would lose its content.
    let applied = plan.after(after, Applied::new(access.clone(), instance.clone(), Existing::Kept));
    if let Some(directory) = user_manifests {
        plan.after(&[applied], Manifest { resource: instance.clone(), path: instance.file(directory) });
    }
    plan.after(&[applied], Ready { access: access.clone(), resource: instance.clone() })
}
