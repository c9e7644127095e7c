//! What the agent of a primary asks of Kubernetes: the Secret with the logins, by its name, and annotations of its pod.

use super::{Error, Kubernetes, PATIENCE, PAUSE, failed};
use crate::agent::logins::KEY;
use crate::agent::platform::{Primary, answered};
use crate::instance::names;
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_objects};
use serde_json::json;
use tokio::sync::watch;

fn content(secret: Option<Secret>) -> Vec<u8> {
    secret.and_then(|secret| secret.data?.remove(KEY)).map(|bytes| bytes.0).unwrap_or_default()
}

impl Primary for Kubernetes {
    async fn logins(&self) -> Result<Vec<u8>, Error> {
        let api: Api<Secret> = Api::namespaced(self.client().await?, &self.pod.namespace);
        let secret = api.get_opt(&names::logins(&self.pod.instance)).await;
        Ok(content(secret.map_err(failed("read the instance's logins"))?))
    }

    async fn follow_logins(&self, contents: watch::Sender<Option<Vec<u8>>>) {
        let client = loop {
            match self.client().await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        let api: Api<Secret> = Api::namespaced(client, &self.pod.namespace);
        // Only with this selector the agent may list and watch.
        let only = watcher::Config::default().fields(&format!("metadata.name={}", names::logins(&self.pod.instance)));
        let stream = watch_objects(api, only).default_backoff();
        pin_mut!(stream);
        let mut listed = None;
        while let Some(event) = stream.next().await {
            let secret = match event {
                Ok(Event::Init) => {
                    listed = None;
                    continue;
                }
                Ok(Event::InitApply(secret)) => {
                    listed = Some(secret);
                    continue;
                }
                Ok(Event::InitDone) => listed.take(),
                Ok(Event::Apply(secret)) => Some(secret),
                Ok(Event::Delete(_)) => None,
                Err(error) => {
                    tracing::debug!(%error, "the watch of the logins was interrupted");
                    continue;
                }
            };
            let content = Some(content(secret));
            contents.send_if_modified(|known| {
                let is_new = *known != content;
                *known = content;
                is_new
            });
        }
    }

    async fn note(&self, annotation: &'static str, value: Option<&str>) -> Result<(), Error> {
        let (action, metadata) = ("note on the pod what its server has", json!({"annotations": {(annotation): value}}));
        let noting = async {
            while !self.amend(action, &self.pod.name, self.uid.as_deref(), metadata.clone()).await? {}
            Ok::<_, Error>(())
        };
        answered(PATIENCE, noting).await
    }
}
