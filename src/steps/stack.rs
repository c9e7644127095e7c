//! The builtin stack on a cluster: its objects, its definitions being served, its admission answering.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use a8s_operators::object_store;
use async_trait::async_trait;
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Mutex;

use crate::finding::{Class, Evidence, Finding};
use crate::kubernetes::apply::{self, Kind};
use crate::kubernetes::{Access, Error};
use crate::manifest::instance::{self, ApiVersion};
use crate::provider::{ClusterName, Provider};
use crate::step::{Context, Observation, Step};

const DEFINITION: &str = "CustomResourceDefinition";
const WEBHOOK: &str = "ValidatingWebhookConfiguration";
/// How long admission may take to take a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Between two attempts to have an instance admitted.
const ATTEMPT: Duration = Duration::from_millis(20);

/// Where the objects of the stack come from.
#[derive(Clone)]
pub struct Source {
    /// The cluster's provider knows the images and where admission is.
    pub provider: Arc<dyn Provider>,
    /// The cluster.
    pub cluster: ClusterName,
    /// The stack's own object store, unless backups go elsewhere.
    pub store: Option<object_store::manifests::Options>,
}

impl Source {
    fn objects(&self) -> Result<Vec<DynamicObject>, Finding> {
        let mut objects = a8s_operators::manifests::manifests(&self.provider.builtin_stack(&self.cluster)?);
        objects.extend(self.store.iter().flat_map(object_store::manifests::manifests));
        Ok(objects)
    }
}

/// The stack's objects should be on the cluster.
pub struct Objects {
    /// The cluster.
    pub access: Arc<Access>,
    /// Its objects.
    pub source: Source,
    /// Set when this run has applied them, so that [`Admission`] tries them out.
    pub fresh: Arc<AtomicBool>,
    kinds: Mutex<HashMap<(String, String), Kind>>,
}

impl Objects {
    /// The step.
    pub fn new(access: Arc<Access>, source: Source, fresh: Arc<AtomicBool>) -> Self {
        Self { access, source, fresh, kinds: Mutex::default() }
    }

    async fn api(&self, client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>, Error> {
        let Some(types) = &object.types else { unreachable!("the stack's manifests all have a kind") };
        let key = (types.api_version.clone(), types.kind.clone());
        let known = self.kinds.lock().await.get(&key).cloned();
        let kind = match known {
            Some(kind) => kind,
            None => {
                let kind = Kind::discover(client, types).await?;
                self.kinds.lock().await.insert(key, kind.clone());
                kind
            }
        };
        Ok(kind.api(client.clone(), object.namespace().as_deref().unwrap_or("default")))
    }

    /// What is missing or different, if anything.
    async fn difference(&self, client: &Client, object: &DynamicObject) -> Result<Option<String>, Error> {
        let api = self.api(client, object).await?;
        Ok(match apply::get(&api, object).await? {
            None => Some(format!("{} is not there", apply::describe(object))),
            Some(there) => {
                apply::holds(object, &there).map(|path| format!("{} differs at {path}", apply::describe(object)))
            }
        })
    }

    async fn apply(&self, client: &Client, object: &DynamicObject) -> Result<(), Error> {
        // The stack is ours: what somebody changed in it is set right.
        apply::apply(&self.api(client, object).await?, object, true).await.map(drop)
    }
}

/// What must be there before the rest can be, and what must come last.
fn rank(object: &DynamicObject) -> u8 {
    match object.types.as_ref().map(|types| types.kind.as_str()) {
        Some("Namespace") => 0,
        Some(WEBHOOK) => 2,
        _ => 1,
    }
}

#[async_trait]
impl Step for Objects {
    fn id(&self) -> String {
        "stack".to_owned()
    }

    fn title(&self) -> String {
        "install the a8s stack".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let objects = self.source.objects()?;
        let client = self.access.client().await?;
        let mut looks: FuturesUnordered<_> = objects.iter().map(|object| self.difference(&client, object)).collect();
        let mut found = Vec::new();
        while let Some(difference) = looks.next().await {
            found.extend(difference?);
        }
        Ok(match found.as_slice() {
            [] => Observation::satisfied(format!("all {} objects are there", objects.len())),
            [one] => Observation::unmet(one.clone()),
            [first, rest @ ..] => Observation::unmet(format!("{first}, and {} more", rest.len())),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let objects = self.source.objects()?;
        let client = self.access.client().await?;
        self.fresh.store(true, Ordering::SeqCst);
        context.command("kubectl apply --server-side --force-conflicts --field-manager a9s -f STACK");
        for turn in 0..=2 {
            let applied =
                objects.iter().filter(|object| rank(object) == turn).map(|object| self.apply(&client, object));
            try_join_all(applied).await?;
        }
        Ok(())
    }
}

/// The stack's definitions should be served.
pub struct Established {
    /// The cluster.
    pub access: Arc<Access>,
    /// Its objects.
    pub source: Source,
}

#[async_trait]
impl Step for Established {
    fn id(&self) -> String {
        "stack-definitions".to_owned()
    }

    fn title(&self) -> String {
        "serve the a8s custom resources".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let objects = self.source.objects()?;
        let wanted =
            objects.iter().filter(|object| object.types.as_ref().is_some_and(|types| types.kind == DEFINITION));
        let api: Api<CustomResourceDefinition> = Api::all(self.access.client().await?);
        let there =
            api.list(&ListParams::default()).await.map_err(|error| Error::request("list definitions", error))?;
        let established = |name: &str| {
            let definition = there.iter().find(|definition| definition.name_any() == name);
            let conditions = definition.and_then(|definition| definition.status.as_ref()?.conditions.as_deref());
            conditions
                .unwrap_or_default()
                .iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True")
        };
        let missing = wanted.map(ResourceExt::name_any).find(|name| !established(name));
        Ok(match missing {
            Some(name) => Observation::unmet(format!("{name} is not served yet")),
            None => Observation::satisfied("they are served"),
        })
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        // The API server serves them by itself.
        Ok(())
    }
}

/// Admission should answer. Right after the stack was applied, an instance is tried (as a dry run).
pub struct Admission {
    /// The cluster.
    pub access: Arc<Access>,
    /// Whether the stack was applied in this run and not tried yet.
    pub fresh: Arc<AtomicBool>,
}

impl Admission {
    /// Whether whoever should review instances takes connections. Only read requests are made.
    async fn answers(&self, client: &Client) -> Result<Option<String>, Finding> {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
        let list = api.list(&ListParams::default()).await.map_err(|error| Error::request("list webhooks", error))?;
        let of_ours = |webhook: &&k8s_openapi::api::admissionregistration::v1::ValidatingWebhook| {
            let rules = webhook.rules.as_deref().unwrap_or_default();
            rules
                .iter()
                .any(|rule| rule.api_groups.as_deref().unwrap_or_default().iter().any(|group| group == instance::GROUP))
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
        "stack-admission".to_owned()
    }

    fn title(&self) -> String {
        "wait for the a8s System to become ready".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if self.fresh.load(Ordering::SeqCst) {
            return Ok(Observation::unmet("admission was not tried yet"));
        }
        Ok(match self.answers(&self.access.client().await?).await? {
            Some(difference) => Observation::unmet(difference),
            None => Observation::satisfied("it is ready"),
        })
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        let client = self.access.client().await?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(client, "default", &instance::resource(&ApiVersion(a8s_api::VERSION.to_owned())));
        let mut probe = DynamicObject::new("a9s-probe", &instance::resource(&ApiVersion(a8s_api::VERSION.to_owned())));
        probe.data = serde_json::json!({"spec": {"version": 14}});
        let parameters = PostParams { dry_run: true, field_manager: None };
        loop {
            match api.create(&parameters, &probe).await {
                Ok(_) => break,
                // An object of that name passed admission before; that is an answer too.
                Err(kube::Error::Api(status)) if status.code == 409 => break,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429 | 500 | 502..=504) => {
                    tracing::debug!(message = status.message, "admission is not ready");
                    tokio::time::sleep(ATTEMPT).await;
                }
                Err(error) => return Err(Error::request("have an instance admitted", error).into()),
            }
        }
        self.fresh.store(false, Ordering::SeqCst);
        Ok(())
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        match self.answers(&client).await {
            Ok(Some(difference)) => vec![Evidence { about: "admission".to_owned(), lines: vec![difference] }],
            _ => Vec::new(),
        }
    }
}

/// The stack must be there: a clear word instead of "the server could not find the requested resource".
///
/// # Errors
/// It is not installed, or the cluster can't be asked.
pub async fn require(client: &Client) -> Result<(), Finding> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = format!("postgresqls.{}", instance::GROUP);
    match api.get_opt(&name).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Finding::new("no-stack", Class::Missing, "the a8s stack is not installed on this cluster")
            .advise("Create a cluster with it: a9s create cluster a8s")),
        Err(error) => Err(Error::request("look for the a8s stack", error).into()),
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
