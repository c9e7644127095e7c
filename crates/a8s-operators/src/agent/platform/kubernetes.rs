//! The cluster is Kubernetes: the agent reads its instance, notes on a Lease that it is initialised, and labels its
//! own pod. Clients are made when they are needed: the API server may come later than the pod.

mod primary;

use super::{Error, Platform, Report};
use crate::agent::environment::{Pod as Environment, Variables};
use crate::instance::names::{self, CONFIGURATION, SYSTEM_IDENTIFIER};
use a8s_api::{LABEL_ROLE, Postgresql};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Config};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{OnceCell, watch};

const ACCOUNT_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Pause after a request that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kubernetes, seen from a pod.
pub struct Kubernetes {
    pod: Environment,
    host: Option<String>,
    port: Option<String>,
    account: PathBuf,
    client: OnceCell<Client>,
}

fn failed(action: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| match source {
        kube::Error::Api(status) => Error::Refused { action, message: status.message },
        source => Error::Request { action, source: Box::new(source) },
    }
}

impl Kubernetes {
    /// From the variables that every pod has.
    pub fn new(pod: &Environment, variables: Variables<'_>) -> Self {
        let account = variables("A9S_SERVICEACCOUNT_DIR").unwrap_or_else(|| ACCOUNT_DIRECTORY.to_owned());
        Self {
            pod: pod.clone(),
            host: variables("KUBERNETES_SERVICE_HOST"),
            port: variables("KUBERNETES_SERVICE_PORT"),
            account: account.into(),
            client: OnceCell::new(),
        }
    }

    async fn client(&self) -> Result<Client, Error> {
        self.client.get_or_try_init(|| async { self.connect() }).await.cloned()
    }

    fn connect(&self) -> Result<Client, Error> {
        let wrong = |text: String| Error::Configuration(text);
        let (Some(host), Some(port)) = (&self.host, &self.port) else {
            return Err(wrong("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set".into()));
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let url = format!("https://{host}:{port}").parse().map_err(|error| wrong(format!("{host}:{port}: {error}")))?;
        let mut config = Config::new(url);
        let authority = self.account.join("ca.crt");
        let authority = fs_err::read(authority).map_err(|error| wrong(error.to_string()))?;
        config.root_cert = Some(certificates(&authority));
        config.auth_info.token_file = Some(self.account.join("token").to_string_lossy().into_owned());
        config.default_namespace.clone_from(&self.pod.namespace);
        config.connect_timeout = Some(PATIENCE);
        Client::try_from(config).map_err(failed("prepare a connection to the Kubernetes API"))
    }

    async fn lease(&self) -> Result<Option<Lease>, Error> {
        let api: Api<Lease> = Api::namespaced(self.client().await?, &self.pod.namespace);
        api.get_opt(&self.pod.instance).await.map_err(failed("read the instance's Lease"))
    }

    async fn say(&self, report: &Report) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client().await?, &self.pod.namespace);
        let patch = json!({"metadata": {
            "labels": {(LABEL_ROLE): report.role},
            "annotations": {(CONFIGURATION): report.configuration},
        }});
        let patched = api.patch(&self.pod.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(|_| ()).map_err(failed("label the pod"))
    }
}

/// The certificates of a PEM file, in the form kube wants.
fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    CertificateDer::pem_slice_iter(pem).flatten().map(|certificate| certificate.to_vec()).collect()
}

fn identifier_of(lease: &Lease) -> Option<String> {
    lease.metadata.annotations.as_ref()?.get(SYSTEM_IDENTIFIER).cloned()
}

impl Platform for Kubernetes {
    async fn instance(&self) -> Result<Postgresql, Error> {
        let api: Api<Postgresql> = Api::namespaced(self.client().await?, &self.pod.namespace);
        api.get(&self.pod.instance).await.map_err(failed("read the instance"))
    }

    async fn claimed(&self) -> Result<Option<String>, Error> {
        Ok(self.lease().await?.as_ref().and_then(identifier_of))
    }

    async fn claim(&self, instance: &Postgresql, system_identifier: u64) -> Result<String, Error> {
        let api: Api<Lease> = Api::namespaced(self.client().await?, &self.pod.namespace);
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {
                "name": self.pod.instance,
                "labels": names::reserved_labels(&self.pod.instance),
                "annotations": {(SYSTEM_IDENTIFIER): system_identifier.to_string()},
                "ownerReferences": [{
                    "apiVersion": Postgresql::API_VERSION, "kind": Postgresql::KIND,
                    "name": self.pod.instance, "uid": instance.metadata.uid,
                }],
            },
            "spec": {"holderIdentity": self.pod.name, "leaseTransitions": 0},
        }))
        .map_err(|error| Error::Configuration(error.to_string()))?;
        match api.create(&PostParams::default(), &lease).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            result => {
                let made = result.map_err(failed("make the instance's Lease"))?;
                return Ok(identifier_of(&made).unwrap_or_default());
            }
        }
        Ok(self.lease().await?.as_ref().and_then(identifier_of).unwrap_or_default())
    }

    async fn follow(&self, instances: watch::Sender<Option<Postgresql>>) {
        let client = loop {
            match self.client().await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        let api: Api<Postgresql> = Api::namespaced(client, &self.pod.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.pod.instance));
        let stream = watcher(api, only).default_backoff().applied_objects();
        pin_mut!(stream);
        while let Some(result) = stream.next().await {
            match result {
                Ok(instance) => drop(instances.send_replace(Some(instance))),
                Err(error) => tracing::debug!(%error, "the watch of the instance was interrupted"),
            }
        }
    }

    async fn publish(&self, mut reports: watch::Receiver<Option<Report>>) {
        loop {
            let report = reports.borrow_and_update().clone();
            if let Some(report) = report {
                match tokio::time::timeout(PATIENCE, self.say(&report)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!("{}", crate::agent::chain(&error));
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    Err(_) => continue,
                }
            }
            if reports.changed().await.is_err() {
                return;
            }
        }
    }
}
