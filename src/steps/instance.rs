//! Steps of an instance: its manifest, the object, that it is ready, that it is gone.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, DynamicObject, ListParams, PropagationPolicy, WatchParams};
use kube::{Api, Client, ResourceExt};

use crate::config::write_private;
use crate::finding::{Class, Evidence, Finding};
use crate::kubernetes::{Access, Error, apply, diagnosis};
use crate::manifest::instance::{ApiVersion, Instance, resource};
use crate::manifest::names::{Namespace, ObjectName};
use crate::step::{Context, Observation, Step};

/// Labels that select what belongs to an instance, exactly.
pub fn labels(name: &ObjectName) -> String {
    format!("a8s.a9s/dsi-group={},a8s.a9s/dsi-name={name}", crate::manifest::instance::GROUP)
}

/// The API of instances of a version in a namespace.
pub fn api(client: Client, namespace: &Namespace, api_version: &ApiVersion) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace.as_str(), &resource(api_version))
}

/// The manifest of an instance should be in its file.
pub struct Manifest {
    /// The instance.
    pub instance: Instance,
    /// The file.
    pub path: PathBuf,
}

#[async_trait]
impl Step for Manifest {
    fn id(&self) -> String {
        "manifest".to_owned()
    }

    fn title(&self) -> String {
        format!("write the manifest of the instance {}", self.instance.name)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let document = self.instance.document().map_err(|error| Finding::new("manifest", Class::Failed, error))?;
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
        let document = self.instance.document().map_err(|error| Finding::new("manifest", Class::Failed, error))?;
        if let Some(directory) = self.path.parent() {
            fs_err::create_dir_all(directory).map_err(failed)?;
        }
        write_private(&self.path, document.as_bytes()).map_err(failed)
    }
}

/// The instance should be on the cluster as its manifest says.
pub struct Applied {
    /// The cluster.
    pub access: Arc<Access>,
    /// The instance.
    pub instance: Instance,
    /// Take over fields that others manage.
    pub force: bool,
}

impl Applied {
    async fn api(&self) -> Result<Api<DynamicObject>, Finding> {
        Ok(api(self.access.client().await?, &self.instance.namespace, &self.instance.api_version))
    }
}

#[async_trait]
impl Step for Applied {
    fn id(&self) -> String {
        "instance".to_owned()
    }

    fn title(&self) -> String {
        format!("apply the instance {} in the namespace {}", self.instance.name, self.instance.namespace)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let wanted = self.instance.object();
        let there = match apply::get(&self.api().await?, &wanted).await {
            Ok(there) => there,
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let Some(there) = there else { return Ok(Observation::unmet("it is not there")) };
        if there.metadata.deletion_timestamp.is_some() {
            return Ok(Observation::unmet("one of this name is being deleted"));
        }
        Ok(match apply::holds(&wanted, &there) {
            Some(path) => Observation::unmet(format!("{path} is another")),
            None => Observation::satisfied("it is there"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let name = &self.instance.name;
        context.command(format!("kubectl apply --server-side --field-manager a9s -f a8s-pg-instance-{name}.yaml"));
        let client = self.access.client().await?;
        let wanted = self.instance.object();
        let api = self.api().await?;
        // One of the same name may still be going; applying to it would be lost with it.
        while let Some(there) = apply::get(&api, &wanted).await?
            && there.metadata.deletion_timestamp.is_some()
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        match apply::apply(&api, &wanted, self.force).await {
            Ok(_) => Ok(()),
            Err(error) => {
                if error.is_not_found() {
                    super::stack::require(&client).await?;
                }
                let conflict = error.status().is_some_and(|status| status.code == 409);
                let finding = Finding::from(error);
                Err(match conflict {
                    true => finding.advise("Take these fields over with --force-conflicts."),
                    false => finding,
                })
            }
        }
    }
}

/// The members of an instance should be ready, one of them the primary.
pub struct Ready {
    /// The cluster.
    pub access: Arc<Access>,
    /// The instance.
    pub instance: Instance,
}

impl Ready {
    async fn pods(&self, client: &Client) -> Result<Vec<Pod>, Finding> {
        let api: Api<Pod> = Api::namespaced(client.clone(), self.instance.namespace.as_str());
        let parameters = ListParams::default().labels(&labels(&self.instance.name));
        let what = || format!("list the pods of the instance {}", self.instance.name);
        Ok(api.list(&parameters).await.map_err(|error| Error::request(what(), error))?.items)
    }

    /// What keeps the StatefulSet from being what the instance wants.
    async fn statefulset(&self, client: &Client) -> Result<Option<String>, Finding> {
        let api: Api<StatefulSet> = Api::namespaced(client.clone(), self.instance.namespace.as_str());
        let name = self.instance.name.as_str();
        let found =
            api.get_opt(name).await.map_err(|error| Error::request(format!("get statefulset {name}"), error))?;
        let Some(found) = found else { return Ok(Some("its StatefulSet is not there yet".to_owned())) };
        let replicas = i32::from(self.instance.replicas);
        let spec = found.spec.unwrap_or_default();
        let status = found.status.unwrap_or_default();
        let limit = spec
            .template
            .spec
            .as_ref()
            .and_then(|pod| pod.containers.first())
            .and_then(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory").cloned());
        if spec.replicas != Some(replicas) || limit.is_some_and(|limit| limit != self.instance.limits_memory.quantity())
        {
            return Ok(Some("its StatefulSet is not up to date yet".to_owned()));
        }
        if status.observed_generation != found.metadata.generation {
            return Ok(Some("its StatefulSet is being rolled out".to_owned()));
        }
        if status.updated_replicas.unwrap_or(0) < replicas || status.ready_replicas.unwrap_or(0) < replicas {
            let ready = status.ready_replicas.unwrap_or(0);
            return Ok(Some(format!("{ready} of {replicas} members are ready")));
        }
        Ok(None)
    }
}

#[async_trait]
impl Step for Ready {
    fn id(&self) -> String {
        "instance-ready".to_owned()
    }

    fn title(&self) -> String {
        format!("wait for the instance {} to become ready", self.instance.name)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        let pods = self.pods(&client).await?;
        for pod in &pods {
            if let Some(finding) = diagnosis::terminal(&client, pod).await {
                return Err(finding);
            }
        }
        for index in 0..self.instance.replicas {
            let name = format!("{}-{index}", self.instance.name);
            match pods.iter().find(|pod| pod.name_any() == name) {
                None => return Ok(Observation::unmet(format!("the pod {name} is not there yet"))),
                Some(pod) if !diagnosis::is_ready(pod) => return Ok(Observation::unmet(diagnosis::difference(pod))),
                Some(_) => {}
            }
        }
        if let Some(difference) = self.statefulset(&client).await? {
            return Ok(Observation::unmet(difference));
        }
        let primary = |pod: &Pod| pod.labels().get("a8s.a9s/replication-role").is_some_and(|role| role == "master");
        if self.instance.replicas > 0 && !pods.iter().any(|pod| primary(pod) && diagnosis::is_ready(pod)) {
            return Ok(Observation::unmet("it has no primary yet"));
        }
        let object = self.instance.object();
        let api = api(client, &self.instance.namespace, &self.instance.api_version);
        let there = apply::get(&api, &object).await?;
        let status = there.as_ref().map(|there| &there.data["status"]);
        if let Some(error) = status.and_then(|status| status["error"].as_str()).filter(|error| !error.is_empty()) {
            return Ok(Observation::unmet(format!("its status says: {error}")));
        }
        let running = status.is_some_and(|status| status["clusterStatus"] == "Running");
        if self.instance.replicas > 0 && !running {
            return Ok(Observation::unmet("its status is not Running yet"));
        }
        Ok(Observation::satisfied(format!("{} of {0} members are ready", self.instance.replicas)))
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        // The stack makes it ready.
        Ok(())
    }

    async fn changed(&self) {
        // A change of a pod or of the status is worth a look. What happens before the watch begins is seen by the
        // runner's own looks.
        let Ok(client) = self.access.client().await else { return std::future::pending().await };
        let pods: Api<Pod> = Api::namespaced(client.clone(), self.instance.namespace.as_str());
        let instances = api(client, &self.instance.namespace, &self.instance.api_version);
        let selector = labels(&self.instance.name);
        let name = self.instance.name.as_str();
        tokio::select! {
            () = next_change(&pods, WatchParams::default().labels(&selector)) => {}
            () = next_change(&instances, WatchParams::default().fields(&format!("metadata.name={name}"))) => {}
        }
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        let mut evidence =
            vec![diagnosis::events(&client, self.instance.namespace.as_str(), self.instance.name.as_str()).await];
        for pod in self.pods(&client).await.unwrap_or_default() {
            if !diagnosis::is_ready(&pod) {
                evidence.extend(diagnosis::of_pod(&client, &pod).await);
            }
        }
        evidence.retain(|evidence| !evidence.lines.is_empty());
        evidence
    }
}

/// Resolves with the first change after the objects' present state.
pub(super) async fn next_change<K>(api: &Api<K>, parameters: WatchParams)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug + kube::Resource,
{
    let list = ListParams {
        label_selector: parameters.label_selector.clone(),
        field_selector: parameters.field_selector.clone(),
        ..ListParams::default()
    };
    let Ok(list) = api.list(&list).await else { return std::future::pending().await };
    let version = list.metadata.resource_version.unwrap_or_default();
    let Ok(stream) = api.watch(&parameters, &version).await else { return std::future::pending().await };
    // An error or the end of the watch is also a reason to look again.
    let _ = stream.boxed().next().await;
}

/// The instance should be gone, with everything that was its own.
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
        let what = || format!("get the instance {}/{}", self.namespace, self.name);
        let there = api.get_opt(self.name.as_str()).await.map_err(|error| Error::request(what(), error))?;
        if there.is_none() {
            super::stack::require(&client).await?;
        }
        Ok(there)
    }

    /// Something that belonged to it and is still there.
    async fn left(&self) -> Result<Option<String>, Finding> {
        let client = self.access.client().await?;
        let (namespace, labels) = (self.namespace.as_str(), labels(&self.name));
        macro_rules! look {
            ($($kind:ty => $word:literal),* $(,)?) => {{
                $(
                    let api: Api<$kind> = Api::namespaced(client.clone(), namespace);
                    let list = api.list(&ListParams::default().labels(&labels)).await;
                    let list = list.map_err(|error| Error::request(concat!("list ", $word, "s"), error))?;
                    // Its backups and bindings have Secrets and ConfigMaps of their own: only what it owns counts.
                    if let Some(first) = list.items.iter().find(|object| self.owned(object.owner_references(), &object.name_any())) {
                        return Ok(Some(format!(concat!("the ", $word, " {} is still there"), first.name_any())));
                    }
                )*
            }};
        }
        look!(
            Pod => "pod", StatefulSet => "statefulset", PersistentVolumeClaim => "persistentvolumeclaim", Secret => "secret",
            Service => "service", ServiceAccount => "serviceaccount", RoleBinding => "rolebinding", ConfigMap => "configmap",
        );
        Ok(None)
    }

    /// Whether an object with the instance's labels goes with it: the instance or its StatefulSet owns it, or it is a
    /// member's volume.
    fn owned(&self, owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference], name: &str) -> bool {
        let ours = |owner: &str| matches!(owner, "Postgresql" | "StatefulSet");
        owners.iter().any(|owner| ours(&owner.kind) && owner.name == self.name.as_str())
            || name.starts_with(&format!("pgdata-{}-", self.name))
    }
}

#[async_trait]
impl Step for Deleted {
    fn id(&self) -> String {
        "instance".to_owned()
    }

    fn title(&self) -> String {
        format!("delete the instance {} in the namespace {}", self.name, self.namespace)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if let Some(there) = self.there().await? {
            return Ok(Observation::unmet(match there.metadata.deletion_timestamp {
                Some(_) => "it is being deleted",
                None => "it is there",
            }));
        }
        Ok(match self.left().await? {
            Some(left) => Observation::unmet(left),
            None => Observation::satisfied("it is not there"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        context.command(format!(
            "kubectl delete postgresqls.{} {} -n {}",
            crate::manifest::instance::GROUP,
            self.name,
            self.namespace
        ));
        let client = self.access.client().await?;
        let api = api(client, &self.namespace, &self.api_version);
        let parameters =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
        match api.delete(self.name.as_str(), &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => {
                Err(Error::request(format!("delete the instance {}/{}", self.namespace, self.name), error).into())
            }
        }
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let mut lines = Vec::new();
        if let Ok(Some(there)) = self.there().await {
            let finalizers = there.finalizers().join(", ");
            lines.push(format!("the instance is still there; it waits for the finalizers: {finalizers}"));
        }
        if let Ok(Some(left)) = self.left().await {
            lines.push(left);
        }
        match lines.as_slice() {
            [] => Vec::new(),
            _ => vec![Evidence { about: format!("instance {}", self.name), lines }],
        }
    }
}
