//! Admission: whether whoever should review objects answers. A Deployment that is available is no proof of it: a
//! certificate may still be on its way. So an object is tried, as a dry run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};

use super::{Installing, Probe};
use crate::finding::{Evidence, Finding};
use crate::kubernetes::Error;
use crate::step::{Context, Observation, Step};

/// How long admission may take to take a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Between two attempts to have an object admitted; it doubles up to [`SLOWEST`].
const ATTEMPT: Duration = Duration::from_millis(20);
const SLOWEST: Duration = Duration::from_secs(1);

/// Admission should answer. Right after the part was applied, an object is tried.
pub struct Admission {
    /// The part.
    pub part: Arc<Installing>,
    /// The object that must be admitted.
    pub probe: Probe,
}

impl Admission {
    /// Whether whoever should review instances takes connections. Only read requests are made.
    async fn answers(&self, client: &Client) -> Result<Option<String>, Finding> {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
        let list = api.list(&ListParams::default()).await.map_err(|error| Error::request("list webhooks", error))?;
        let group = self.probe.resource.group.as_str();
        let of_ours = |webhook: &&k8s_openapi::api::admissionregistration::v1::ValidatingWebhook| {
            let rules = webhook.rules.as_deref().unwrap_or_default();
            rules.iter().any(|rule| rule.api_groups.as_deref().unwrap_or_default().iter().any(|of| of == group))
        };
        for webhook in list.iter().flat_map(|entry| entry.webhooks.as_deref().unwrap_or_default()).filter(of_ours) {
            if let Some(url) = &webhook.client_config.url
                && let Some(address) = authority(url)
            {
                let connected = tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(&address)).await;
                if !matches!(connected, Ok(Ok(_))) {
                    return Ok(Some(format!("admission does not answer at {address}")));
                }
            }
        }
        Ok(None)
    }
}

/// Host and port of an https URL.
fn authority(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    Some(format!("{}:{}", uri.host()?, uri.port_u16().unwrap_or(443)))
}

#[async_trait]
impl Step for Admission {
    fn id(&self) -> String {
        format!("{}-admission", self.part.id)
    }

    fn title(&self) -> String {
        format!("wait for {} to become ready", self.part.title)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if self.part.fresh.load(Ordering::SeqCst) {
            return Ok(Observation::unmet("admission was not tried yet"));
        }
        Ok(match self.answers(&self.part.site.client().await?).await? {
            Some(difference) => Observation::unmet(difference),
            None => Observation::satisfied("it is ready"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let client = self.part.site.client().await?;
        let mut pause = ATTEMPT;
        let api: Api<DynamicObject> = Api::namespaced_with(
            client,
            self.probe.object.namespace().as_deref().unwrap_or("default"),
            &self.probe.resource,
        );
        let parameters = PostParams { dry_run: true, field_manager: None };
        loop {
            match api.create(&parameters, &self.probe.object).await {
                Ok(_) => break,
                // An object of that name passed admission before; that is an answer too.
                Err(kube::Error::Api(status)) if status.code == 409 => break,
                // "failed calling webhook" is a 500: a certificate or an endpoint is not known everywhere yet.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429 | 500 | 502..=504) => {
                    context.progress(format!("admission is not ready: {}", status.message));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(SLOWEST);
                }
                Err(error) => {
                    let what = format!("have {} admitted", self.probe.object.name_any());
                    return Err(Error::request(what, error).into());
                }
            }
        }
        Ok(())
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied("it is ready"))
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.part.site.client().await else { return Vec::new() };
        match self.answers(&client).await {
            Ok(Some(difference)) => vec![Evidence { about: "admission".to_owned(), lines: vec![difference] }],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_of_a_webhook_has_a_port() {
        assert_eq!(authority("https://127.64.0.1:9443/validate").as_deref(), Some("127.64.0.1:9443"));
        assert_eq!(authority("https://host/validate").as_deref(), Some("host:443"));
        assert_eq!(authority("no url"), None);
    }
}
