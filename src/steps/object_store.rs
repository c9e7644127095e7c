//! The stack's own object store, which [`stack`](super::stack) installs with its other objects.

use std::sync::Arc;

use a8s_operators::object_store::manifests::{NAME, NAMESPACE};
use async_trait::async_trait;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::finding::{Evidence, Finding};
use crate::kubernetes::{Access, Error, diagnosis};
use crate::step::{Context, Observation, Step};

/// The store should answer.
pub struct Ready {
    /// The cluster.
    pub access: Arc<Access>,
}

impl Ready {
    async fn pods(&self, client: &Client) -> Result<Vec<Pod>, Finding> {
        let api = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
        let of_store = ListParams::default().labels(&format!("app={NAME}"));
        Ok(api.list(&of_store).await.map_err(|error| Error::request("list the pods of the object store", error))?.items)
    }

    async fn is_rolled_out(&self, client: &Client) -> Result<bool, Finding> {
        let api = Api::<StatefulSet>::namespaced(client.clone(), NAMESPACE);
        let found =
            api.get_opt(NAME).await.map_err(|error| Error::request(format!("get statefulset {NAME}"), error))?;
        Ok(found.is_some_and(|found| {
            let status = found.status.unwrap_or_default();
            status.observed_generation == found.metadata.generation
                && status.updated_replicas.unwrap_or(0) > 0
                && status.ready_replicas.unwrap_or(0) > 0
        }))
    }
}

#[async_trait]
impl Step for Ready {
    fn id(&self) -> String {
        "object-store".to_owned()
    }

    fn title(&self) -> String {
        "wait for the object store to become ready".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        let pods = self.pods(&client).await?;
        for pod in &pods {
            if let Some(finding) = diagnosis::terminal(&client, pod).await {
                return Err(finding);
            }
        }
        Ok(match pods.iter().find(|pod| !diagnosis::is_ready(pod)) {
            _ if pods.is_empty() => Observation::unmet("its pod is not there yet"),
            Some(pod) => Observation::unmet(diagnosis::difference(pod)),
            None if !self.is_rolled_out(&client).await? => Observation::unmet("it is being rolled out"),
            None => Observation::satisfied(format!("{} is ready", pods[0].name_any())),
        })
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        // The cluster starts its pod.
        Ok(())
    }

    async fn changed(&self) {
        let Ok(client) = self.access.client().await else { return std::future::pending().await };
        let pods = Api::<Pod>::namespaced(client, NAMESPACE);
        let of_store = kube::api::WatchParams::default().labels(&format!("app={NAME}"));
        super::resource::next_change(&pods, of_store).await;
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        let mut evidence = vec![diagnosis::events(&client, NAMESPACE, NAME).await];
        for pod in self.pods(&client).await.unwrap_or_default() {
            if !diagnosis::is_ready(&pod) {
                evidence.extend(diagnosis::of_pod(&client, &pod).await);
            }
        }
        evidence
    }
}
