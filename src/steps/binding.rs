//! Steps of a service binding: its instance, its manifest, the object, that it can be used, that it is gone.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, DynamicObject, ListParams, WatchParams};
use kube::{Api, Client, ResourceExt};

use crate::config::write_private;
use crate::finding::{Class, Evidence, Finding};
use crate::kubernetes::{Access, Error, apply, diagnosis};
use crate::manifest::binding::{Binding, resource, secret};
use crate::manifest::instance::ApiVersion;
use crate::manifest::names::{Namespace, ObjectName};
use crate::step::{Context, Observation, Step};

/// A trouble in the status that lasts longer does not heal by waiting.
const TROUBLE: Duration = Duration::from_secs(5);

/// The API of service bindings of a version in a namespace.
pub fn api(client: Client, namespace: &Namespace, api_version: &ApiVersion) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace.as_str(), &resource(api_version))
}

/// The instance must be there.
pub struct Instance {
    /// The cluster.
    pub access: Arc<Access>,
    /// The binding.
    pub binding: Binding,
}

#[async_trait]
impl Step for Instance {
    fn id(&self) -> String {
        "instance".to_owned()
    }

    fn title(&self) -> String {
        let Binding { instance, instance_namespace, .. } = &self.binding;
        format!("find the instance {instance} in the namespace {instance_namespace}")
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let Binding { instance, instance_namespace, api_version, .. } = &self.binding;
        let client = self.access.client().await?;
        let instances = super::instance::api(client.clone(), instance_namespace, api_version);
        let what = || format!("get the instance {instance_namespace}/{instance}");
        let there = instances.get_opt(instance.as_str()).await.map_err(|error| Error::request(what(), error))?;
        if there.is_some() {
            return Ok(Observation::satisfied("it is there"));
        }
        super::stack::require(&client).await?;
        let cause = format!(
            "Can't create service binding for non-existing service instance {instance} in namespace {instance_namespace}"
        );
        Err(Finding::new("no-instance", Class::Missing, cause)
            .advise(format!("Create it: a9s create pg instance --name {instance} -n {instance_namespace}")))
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        Ok(())
    }
}

/// The manifest of a service binding should be in its file.
pub struct Manifest {
    /// The binding.
    pub binding: Binding,
    /// The file.
    pub path: PathBuf,
}

impl Manifest {
    fn document(&self) -> Result<String, Finding> {
        self.binding.document().map_err(|error| Finding::new("manifest", Class::Failed, error))
    }
}

#[async_trait]
impl Step for Manifest {
    fn id(&self) -> String {
        "manifest".to_owned()
    }

    fn title(&self) -> String {
        format!("write the manifest of the service binding {}", self.binding.name)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let document = self.document()?;
        Ok(match fs_err::read_to_string(&self.path) {
            Ok(there) if there == document => Observation::satisfied(format!("it is at {}", self.path.display())),
            Ok(_) => Observation::unmet(format!("{} has another content", self.path.display())),
            Err(_) => Observation::unmet(format!("{} is not there", self.path.display())),
        })
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        let failed = |error: std::io::Error| {
            Finding::new("working-directory", Class::Failed, format!("cannot write the manifest: {error}"))
        };
        if let Some(directory) = self.path.parent() {
            fs_err::create_dir_all(directory).map_err(failed)?;
        }
        write_private(&self.path, self.document()?.as_bytes()).map_err(failed)
    }
}

/// The service binding should be on the cluster as its manifest says.
pub struct Applied {
    /// The cluster.
    pub access: Arc<Access>,
    /// The binding.
    pub binding: Binding,
}

#[async_trait]
impl Step for Applied {
    fn id(&self) -> String {
        "service-binding".to_owned()
    }

    fn title(&self) -> String {
        format!("apply the service binding {} in the namespace {}", self.binding.name, self.binding.namespace)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let wanted = self.binding.object();
        let api = api(self.access.client().await?, &self.binding.namespace, &self.binding.api_version);
        let there = match apply::get(&api, &wanted).await {
            Ok(there) => there,
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let Some(there) = there else { return Ok(Observation::unmet("it is not there")) };
        if there.metadata.deletion_timestamp.is_some() {
            return Ok(Observation::unmet("one of this name is being deleted"));
        }
        match apply::holds(&wanted, &there) {
            None => Ok(Observation::satisfied("it is there")),
            Some(_) => {
                let other = &there.data["spec"]["instance"];
                let words = |key: &str| other[key].as_str().unwrap_or_default().to_owned();
                let cause = format!(
                    "there is a service binding {} in the namespace {} already, to the instance {} in the namespace {}",
                    self.binding.name,
                    self.binding.namespace,
                    words("name"),
                    words("namespace")
                );
                Err(Finding::new("other-instance", Class::Refused, cause).advise("Choose another name with --name."))
            }
        }
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let name = &self.binding.name;
        context
            .command(format!("kubectl apply --server-side --field-manager a9s -f a8s-pg-service-binding-{name}.yaml"));
        let wanted = self.binding.object();
        let api = api(self.access.client().await?, &self.binding.namespace, &self.binding.api_version);
        // One of the same name may still be going; applying to it would be lost with it.
        while let Some(there) = apply::get(&api, &wanted).await?
            && there.metadata.deletion_timestamp.is_some()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(apply::apply(&api, &wanted, false).await.map(drop)?)
    }
}

/// The login of a service binding should exist.
pub struct Implemented {
    access: Arc<Access>,
    binding: Binding,
    /// Since when the status tells of a trouble.
    trouble: Mutex<Option<Instant>>,
}

impl Implemented {
    /// The step.
    pub fn new(access: Arc<Access>, binding: Binding) -> Self {
        Self { access, binding, trouble: Mutex::default() }
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
        format!("wait for the service binding {} to become ready", self.binding.name)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let object = self.binding.object();
        let api = api(self.access.client().await?, &self.binding.namespace, &self.binding.api_version);
        let there = apply::get(&api, &object).await?;
        let status = there.map(|there| there.data["status"].clone()).unwrap_or_default();
        let error = status["error"].as_str().filter(|error| !error.is_empty());
        let lasts = self.lasts(error.is_some());
        if let Some(error) = error {
            let cause = format!("A problem occurred creating the service binding: {error}");
            return match lasts {
                true => Err(Finding::new("service-binding-failed", Class::Failed, cause)),
                false => Ok(Observation::unmet(format!("its status says: {error}"))),
            };
        }
        Ok(match status["implemented"] == true {
            true => Observation::satisfied(format!("the Secret {} can be used", secret(&self.binding.name))),
            false => Observation::unmet("its login does not exist yet"),
        })
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        // The stack implements it.
        Ok(())
    }

    async fn changed(&self) {
        let Ok(client) = self.access.client().await else { return std::future::pending().await };
        let api = api(client, &self.binding.namespace, &self.binding.api_version);
        next_change(&api, &self.binding.name).await;
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        let (namespace, name) = (self.binding.namespace.as_str(), self.binding.name.as_str());
        let events = diagnosis::events(&client, namespace, name).await;
        if events.lines.is_empty() { Vec::new() } else { vec![events] }
    }
}

/// Resolves with the first change of an object after its present state.
async fn next_change(api: &Api<DynamicObject>, name: &ObjectName) {
    let selector = format!("metadata.name={name}");
    let Ok(list) = api.list(&ListParams::default().fields(&selector)).await else {
        return std::future::pending().await;
    };
    let version = list.metadata.resource_version.unwrap_or_default();
    let parameters = WatchParams::default().fields(&selector);
    let Ok(stream) = api.watch(&parameters, &version).await else { return std::future::pending().await };
    // An error or the end of the watch is also a reason to look again.
    let _ = stream.boxed().next().await;
}

/// The service binding should be gone, with its Secret.
pub struct Deleted {
    /// The cluster.
    pub access: Arc<Access>,
    /// Its name.
    pub name: ObjectName,
    /// Its namespace.
    pub namespace: Namespace,
    /// Version of its API.
    pub api_version: ApiVersion,
}

impl Deleted {
    async fn there(&self) -> Result<Option<DynamicObject>, Finding> {
        let client = self.access.client().await?;
        let api = api(client.clone(), &self.namespace, &self.api_version);
        let what = || format!("get the service binding {}/{}", self.namespace, self.name);
        let there = api.get_opt(self.name.as_str()).await.map_err(|error| Error::request(what(), error))?;
        if there.is_none() {
            super::stack::require(&client).await?;
        }
        Ok(there)
    }

    async fn has_secret(&self) -> Result<bool, Finding> {
        let secrets: Api<Secret> = Api::namespaced(self.access.client().await?, self.namespace.as_str());
        let name = secret(&self.name);
        let found = secrets.get_opt(&name).await;
        let found =
            found.map_err(|error| Error::request(format!("get the Secret {}/{name}", self.namespace), error))?;
        let ours = |owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
            owner.kind == "ServiceBinding" && owner.name == self.name.as_str()
        };
        Ok(found.is_some_and(|found| found.owner_references().iter().any(ours)))
    }
}

#[async_trait]
impl Step for Deleted {
    fn id(&self) -> String {
        "service-binding".to_owned()
    }

    fn title(&self) -> String {
        format!("delete the service binding {} in the namespace {}", self.name, self.namespace)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if let Some(there) = self.there().await? {
            return Ok(Observation::unmet(match there.metadata.deletion_timestamp {
                Some(_) => "it is being deleted",
                None => "it is there",
            }));
        }
        Ok(match self.has_secret().await? {
            true => Observation::unmet("its Secret is still there"),
            false => Observation::satisfied("it is not there"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let (name, namespace) = (&self.name, &self.namespace);
        context.command(format!(
            "kubectl delete servicebindings.{} {name} -n {namespace}",
            crate::manifest::binding::GROUP
        ));
        let api = api(self.access.client().await?, namespace, &self.api_version);
        match api.delete(name.as_str(), &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(Error::request(format!("delete the service binding {namespace}/{name}"), error).into()),
        }
    }

    async fn changed(&self) {
        let Ok(client) = self.access.client().await else { return std::future::pending().await };
        next_change(&api(client, &self.namespace, &self.api_version), &self.name).await;
    }

    async fn evidence(&self) -> Vec<Evidence> {
        match self.there().await {
            Ok(Some(there)) => {
                let finalizers = there.finalizers().join(", ");
                let lines = vec![format!("it is still there and waits for the finalizers: {finalizers}")];
                vec![Evidence { about: format!("service binding {}", self.name), lines }]
            }
            _ => Vec::new(),
        }
    }
}
