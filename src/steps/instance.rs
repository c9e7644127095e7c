//! Steps of an instance: that it is ready, that it is gone with all it owns.

use std::sync::Arc;

use a8s_api::Quantity;
use a8s_operators::instance::names;
use async_trait::async_trait;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DynamicObject, ListParams, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::members;
use super::resource::{self, change_of, next_change};
use crate::finding::{Evidence, Finding};
use crate::kubernetes::{Access, Error, diagnosis};
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{Kind, Reference, Resource};
use crate::step::{Context, Observation, Step};

/// The members of an instance should be ready, one of them the primary.
pub struct Ready {
    /// The cluster.
    pub access: Arc<Access>,
    /// The instance, as it should be.
    pub resource: Resource,
}

impl Ready {
    fn name(&self) -> &ObjectName {
        &self.resource.reference.name
    }

    fn namespace(&self) -> &str {
        self.resource.reference.namespace.as_str()
    }

    /// Number of members, as a StatefulSet counts them.
    fn replicas(&self) -> i32 {
        i32::try_from(members::wanted(&self.resource.spec)).unwrap_or(1)
    }

    /// The instance, which has been applied before anything is waited for.
    async fn there(&self, client: &Client) -> Result<DynamicObject, Finding> {
        let reference = &self.resource.reference;
        resource::get(client, reference).await?.ok_or_else(|| resource::deleted_meanwhile(reference))
    }

    async fn pods(&self, client: &Client) -> Result<Vec<Pod>, Error> {
        let pods = members::list(client, &self.resource.reference.namespace, self.name()).await;
        pods.map_err(|error| Error::request(format!("list the pods of the instance {}", self.name()), error))
    }

    /// What keeps the StatefulSet from being what the instance wants.
    async fn statefulset(&self, client: &Client) -> Result<Option<String>, Finding> {
        let api: Api<StatefulSet> = Api::namespaced(client.clone(), self.namespace());
        let name = self.name().as_str();
        let found =
            api.get_opt(name).await.map_err(|error| Error::request(format!("get statefulset {name}"), error))?;
        let Some(found) = found else { return Ok(Some("its StatefulSet is not there yet".to_owned())) };
        let replicas = self.replicas();
        let spec = found.spec.unwrap_or_default();
        let status = found.status.unwrap_or_default();
        // Neither stack says in the status of an instance which generation of its spec that is about.
        let server = spec.template.spec.as_ref().and_then(|pod| pod.containers.first());
        let resources = json!(server.and_then(|server| server.resources.as_ref()));
        if spec.replicas != Some(replicas) || !has_resources(&resources, &self.resource.spec["resources"]) {
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

    /// A volume that has not the size yet that the instance wants. Growing restarts no member.
    async fn volumes(&self, client: &Client) -> Result<Option<String>, Finding> {
        let wanted = &self.resource.spec["volumeSize"];
        let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), self.namespace());
        for index in 0..self.replicas() {
            let name = names::data_claim(&format!("{}-{index}", self.name()));
            let claim = match api.get_opt(&name).await {
                // What may not be looked at is not what somebody with so few rights waits for.
                Err(kube::Error::Api(status)) if status.code == 403 => return Ok(None),
                claim => claim.map_err(|error| Error::request(format!("get persistentvolumeclaim {name}"), error))?,
            };
            let has = json!(claim.and_then(|claim| claim.status?.capacity?.remove("storage")));
            if let (Some(size), Some(enough)) = (amount(&has), amount(wanted))
                && size < enough
            {
                return Ok(Some(format!("the volume {name} has not grown yet")));
            }
        }
        Ok(None)
    }
}

/// The amount of a quantity, if it is one. `1Gi` and `1024Mi` are the same; who stores it may write either.
fn amount(quantity: &Value) -> Option<i128> {
    Quantity::deserialize(quantity).ok()?.nano()
}

/// Whether a container's resources are those that an instance wants, as far as it says what it wants.
fn has_resources(container: &Value, wanted: &Value) -> bool {
    ["requests", "limits"].iter().all(|what| {
        let mut wanted = wanted[what].as_object().into_iter().flatten().map(|(name, wanted)| (name, amount(wanted)));
        wanted.all(|(name, wanted)| wanted.is_none() || wanted == amount(&container[what][name]))
    })
}

#[async_trait]
impl Step for Ready {
    fn id(&self) -> String {
        "instance-ready".to_owned()
    }

    fn title(&self) -> String {
        format!("wait for the instance {} to become ready", self.name())
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        if sabotage::sabotaged!("ready-without-waiting") {
            return Ok(Observation::satisfied("it is ready"));
        }
        let pods = self.pods(&client).await?;
        for pod in &pods {
            if let Some(finding) = diagnosis::terminal(&client, pod).await {
                return Err(finding);
            }
        }
        for index in 0..self.replicas() {
            let name = format!("{}-{index}", self.name());
            match pods.iter().find(|pod| pod.name_any() == name) {
                None => {
                    // No pod comes of an instance that is gone.
                    let there = self.there(&client).await?;
                    let why = error(&there).map(|error| format!(": {error}")).unwrap_or_default();
                    return Ok(Observation::unmet(format!("the pod {name} is not there yet{why}")));
                }
                Some(pod) if !diagnosis::is_ready(pod) => return Ok(Observation::unmet(diagnosis::difference(pod))),
                Some(_) => {}
            }
        }
        if let Some(difference) = self.statefulset(&client).await? {
            return Ok(Observation::unmet(difference));
        }
        if self.replicas() > 0 && !pods.iter().any(|pod| members::is_primary(pod) && diagnosis::is_ready(pod)) {
            return Ok(Observation::unmet("it has no primary yet"));
        }
        let there = self.there(&client).await?;
        // A server without an extension is a server; what the host does not have does not come by waiting.
        if let Some(error) = error(&there).filter(|error| !pods.iter().any(|pod| extensions(pod) == Some(error))) {
            return Ok(Observation::unmet(format!("its status says: {error}")));
        }
        if self.replicas() > 0 && there.data["status"]["clusterStatus"] != "Running" {
            return Ok(Observation::unmet("its status is not Running yet"));
        }
        if let Some(difference) = self.volumes(&client).await? {
            return Ok(Observation::unmet(difference));
        }
        Ok(Observation::satisfied(format!("{} of {0} members are ready", self.replicas())))
    }

    async fn changed(&self) {
        // A change of a pod or of the status is worth a look. What happens before the watch begins is seen by the
        // runner's own looks.
        let Ok(client) = self.access.client().await else { return std::future::pending().await };
        let pods: Api<Pod> = Api::namespaced(client, self.namespace());
        tokio::select! {
            () = next_change(&pods, WatchParams::default().labels(&members::selector(self.name()))) => {}
            () = change_of(&self.access, &self.resource.reference) => {}
        }
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        let mut evidence =
            vec![diagnosis::events(&client, self.namespace(), Kind::Instance.kind(), self.name().as_str()).await];
        for pod in self.pods(&client).await.unwrap_or_default() {
            if !diagnosis::is_ready(&pod) {
                evidence.extend(diagnosis::of_pod(&client, &pod).await);
            }
        }
        evidence
    }
}

/// What the status of an instance says that is wrong.
fn error(instance: &DynamicObject) -> Option<&str> {
    instance.data["status"]["error"].as_str().filter(|error| !error.is_empty())
}

/// Why extensions that an instance asks for are not installed, as a member says.
fn extensions(pod: &Pod) -> Option<&str> {
    pod.annotations().get(a8s_operators::agent::extensions::ANNOTATION).map(String::as_str)
}

/// What an instance asks for and does not get, although it runs: constraints that no node meets, extensions that the
/// host does not have. One sentence each.
///
/// # Errors
/// A request fails.
pub async fn remarks(client: &Client, namespace: &Namespace, name: &ObjectName) -> Result<Vec<String>, Finding> {
    let failed = |error| Error::request(format!("look at the members of {namespace}/{name}"), error);
    let pods = members::list(client, namespace, name).await.map_err(failed)?;
    let events: Api<Event> = Api::namespaced(client.clone(), namespace.as_str());
    let events = events.list(&ListParams::default().fields("reason=ConstraintNotKept")).await.map_err(failed)?;
    let of_pod = |pod: &Pod, event: &&Event| event.involved_object.uid == pod.metadata.uid;
    let mut remarks: Vec<String> = pods
        .iter()
        .filter_map(|pod| {
            let event = events.items.iter().find(|event| of_pod(pod, event))?;
            Some(format!("The pod {}: {}.", pod.name_any(), event.message.as_deref()?.trim_end_matches('.')))
        })
        .collect();
    remarks.extend(pods.iter().filter_map(extensions).map(|trouble| format!("In the instance {name}, {trouble}.")));
    Ok(remarks)
}

/// The instance should be gone, with everything that was its own.
pub struct Deleted {
    /// The object.
    pub object: resource::Deleted,
}

impl Deleted {
    /// The step.
    pub fn new(access: Arc<Access>, namespace: &Namespace, name: &ObjectName) -> Self {
        Self { object: resource::Deleted::new(access, Reference::new(Kind::Instance, namespace, name)) }
    }

    fn name(&self) -> &ObjectName {
        &self.object.reference.name
    }

    /// Something that belonged to it and is still there.
    async fn left(&self) -> Result<Option<String>, Finding> {
        let client = self.object.access.client().await?;
        let (namespace, selector) = (self.object.reference.namespace.as_str(), members::selector(self.name()));
        macro_rules! look {
            ($($kind:ty => $word:literal),* $(,)?) => {{
                $(
                    let api: Api<$kind> = Api::namespaced(client.clone(), namespace);
                    let list = api.list(&ListParams::default().labels(&selector)).await;
                    let list = match list {
                        // What may not be looked at is not what somebody with so few rights waits for.
                        Err(kube::Error::Api(status)) if status.code == 403 => Vec::new(),
                        list => list.map_err(|error| Error::request(concat!("list ", $word, "s"), error))?.items,
                    };
                    // Its backups and bindings have Secrets and ConfigMaps of their own: only what it owns counts.
                    if let Some(first) = list.iter().find(|object| self.owned(object.owner_references(), &object.name_any())) {
                        return Ok(Some(format!(concat!("the ", $word, " {} is still there"), first.name_any())));
                    }
                )*
            }};
        }
        look!(
            Pod => "pod", StatefulSet => "statefulset", PersistentVolumeClaim => "persistentvolumeclaim", Secret => "secret",
            Service => "service", ServiceAccount => "serviceaccount", RoleBinding => "rolebinding", Role => "role", ConfigMap => "configmap",
        );
        Ok(None)
    }

    /// Whether an object with the instance's labels goes with it: the instance or its StatefulSet owns it, or it is a
    /// member's volume.
    fn owned(&self, owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference], name: &str) -> bool {
        let ours = |owner: &str| matches!(owner, "Postgresql" | "StatefulSet");
        owners.iter().any(|owner| ours(&owner.kind) && owner.name == self.name().as_str())
            || name.starts_with(&names::data_claim(&format!("{}-", self.name())))
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
            Observation::Unmet(difference)
                if difference != "it is there" && sabotage::sabotaged!("deleted-without-waiting") =>
            {
                Observation::Satisfied(difference)
            }
            Observation::Unmet(difference) => Observation::Unmet(difference),
            // What is there now is the other one's.
            Observation::Satisfied(gone) if gone == resource::REPLACED => Observation::Satisfied(gone),
            Observation::Satisfied(gone) => match self.left().await? {
                Some(left) => Observation::unmet(left),
                None => Observation::Satisfied(gone),
            },
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        self.object.converge(context).await
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let mut evidence = self.object.evidence().await;
        if let Ok(Some(left)) = self.left().await {
            evidence.push(Evidence { about: format!("instance {}", self.name()), lines: vec![left] });
        }
        evidence
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(json!({"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}}), true)]
    #[case(json!({"requests": {"cpu": 0.1}, "limits": {"memory": "1024Mi"}}), true)]
    #[case(json!({"limits": {"memory": 1_073_741_824}}), true)]
    #[case(json!({}), true)]
    #[case(Value::Null, true)]
    #[case(json!({"requests": {"cpu": "101m"}}), false)]
    #[case(json!({"limits": {"memory": "1G"}}), false)]
    #[case(json!({"limits": {"cpu": "1"}}), false)]
    fn a_container_has_the_resources_that_are_asked_for(#[case] wanted: Value, #[case] has: bool) {
        let container = json!({"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}});
        assert_eq!(has_resources(&container, &wanted), has);
    }
}
