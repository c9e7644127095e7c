//! Steps of a service binding: that it can be used, that it is gone with its Secret, and the plan that makes one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, ResourceExt};

use super::condition::{self, Verdict};
use super::resource::{self, Applied, Existing, Exists, Manifest, change_of};
use crate::finding::{Evidence, Finding, Id};
use crate::kubernetes::{Access, Error, diagnosis};
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{Kind, Reference, Resource};
use crate::step::{Context, Observation, Plan, Step};

/// A trouble in the status that lasts longer does not heal by waiting.
const TROUBLE: Duration = Duration::from_secs(5);

/// Name of the Secret of a service binding.
pub fn secret(binding: &ObjectName) -> String {
    format!("{binding}-service-binding")
}

/// The plan that makes a service binding to an instance. What the cluster refuses is not written to the file either.
pub fn create(access: &Arc<Access>, binding: &Resource, instance: Reference, path: PathBuf) -> Plan {
    let mut plan = Plan::new("create pg servicebinding");
    let otherwise = format!(
        "Can't create service binding for non-existing service instance {} in namespace {}",
        instance.name, instance.namespace
    );
    let exists = plan.add(Exists { access: access.clone(), reference: instance, otherwise });
    let applied = plan.after(&[exists], Applied::new(access.clone(), binding.clone(), Existing::Kept));
    plan.after(&[applied], Manifest { resource: binding.clone(), path });
    plan.after(&[applied], Implemented::new(access.clone(), binding.reference.clone()));
    plan
}

/// The login of a service binding should exist.
pub struct Implemented {
    access: Arc<Access>,
    reference: Reference,
    /// Since when the status tells of a trouble.
    trouble: Mutex<Option<Instant>>,
}

impl Implemented {
    /// The step.
    pub fn new(access: Arc<Access>, reference: Reference) -> Self {
        Self { access, reference, trouble: Mutex::default() }
    }

    fn lasts(&self, has_trouble: bool) -> bool {
        let mut since = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *since = has_trouble.then(|| since.unwrap_or_else(Instant::now));
        since.is_some_and(|since| since.elapsed() > TROUBLE)
    }
}

#[async_trait]
impl Step for Implemented {
    fn id(&self) -> String {
        "service-binding-implemented".to_owned()
    }

    fn title(&self) -> String {
        format!("wait for the {} to become ready", self.reference)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let there = resource::get(&self.access.client().await?, &self.reference).await?;
        let Some(there) = there else { return Ok(Observation::unmet("it is not there")) };
        let error = there.data["status"]["error"].as_str().filter(|error| !error.is_empty());
        let lasts = self.lasts(error.is_some());
        if let Some(error) = error.filter(|_| lasts) {
            let cause = format!("A problem occurred creating the service binding: {error}");
            return Err(Finding::new(Id::ServiceBindingFailed, cause));
        }
        Ok(match condition::verdict(Kind::ServiceBinding, &there) {
            Verdict::Done(_) => {
                Observation::satisfied(format!("the Secret {} can be used", secret(&self.reference.name)))
            }
            Verdict::Pending(what) | Verdict::Failed(what) => Observation::unmet(what),
        })
    }

    async fn changed(&self) {
        change_of(&self.access, &self.reference).await;
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        let (namespace, name) = (self.reference.namespace.as_str(), self.reference.name.as_str());
        vec![diagnosis::events(&client, namespace, self.reference.kind.kind(), name).await]
    }
}

/// The service binding should be gone, with its Secret.
pub struct Deleted {
    object: resource::Deleted,
}

impl Deleted {
    /// The step.
    pub fn new(access: Arc<Access>, namespace: &Namespace, name: &ObjectName) -> Self {
        Self { object: resource::Deleted::new(access, Reference::new(Kind::ServiceBinding, namespace, name)) }
    }

    async fn has_secret(&self) -> Result<bool, Finding> {
        let Reference { namespace, name, .. } = &self.object.reference;
        let secrets: Api<Secret> = Api::namespaced(self.object.access.client().await?, namespace.as_str());
        let secret = secret(name);
        let found = secrets.get_opt(&secret).await;
        let found = found.map_err(|error| Error::request(format!("get the Secret {namespace}/{secret}"), error))?;
        let ours = |owner: &OwnerReference| owner.kind == Kind::ServiceBinding.kind() && owner.name == name.as_str();
        Ok(found.is_some_and(|found| found.owner_references().iter().any(ours)))
    }
}

#[async_trait]
impl Step for Deleted {
    fn id(&self) -> String {
        self.object.id()
    }

    fn title(&self) -> String {
        self.object.title()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        Ok(match self.object.observe().await? {
            Observation::Unmet(difference) => Observation::Unmet(difference),
            Observation::Satisfied(_) if self.has_secret().await? => Observation::unmet("its Secret is still there"),
            gone => gone,
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        self.object.converge(context).await
    }

    async fn changed(&self) {
        self.object.changed().await;
    }

    async fn evidence(&self) -> Vec<Evidence> {
        self.object.evidence().await
    }
}
