//! Finds `<service>.<namespace>.svc` where neither DNS nor a hosts file knows it.
//!
//! The operators of an embedded cluster run beside it, in no pod, and its pods may lack a hosts file of their own. So the
//! Kubernetes API is asked first for such a name: it knows for certain, and asking the machine's DNS server would
//! tell strangers of it and may take seconds. Whoever may not ask the API gets what the system knows.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::Name;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};

/// How long the API may take before the system is asked.
const PATIENCE: Duration = Duration::from_secs(5);
const SLICES: &str = "kubernetes.io/service-name";

/// The way from names to addresses.
#[derive(Clone)]
pub struct Names {
    client: Option<Client>,
    known: Option<(Arc<str>, Arc<[IpAddr]>)>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Names").field("of_cluster", &self.client.is_some()).finish()
    }
}

impl Names {
    /// What the system knows: its hosts file and its DNS server.
    pub fn system() -> Self {
        Self { client: None, known: None }
    }

    /// Names of Services are asked of the cluster.
    pub fn of_cluster(client: Client) -> Self {
        Self { client: Some(client), known: None }
    }

    /// As the system knows them, but for one host, whose addresses somebody else has found.
    pub fn with(host: &str, addresses: &[IpAddr]) -> Self {
        Self { client: None, known: Some((host.into(), addresses.into())) }
    }

    /// The addresses of a host, without a port.
    ///
    /// # Errors
    /// Neither the cluster nor the system knows it.
    pub async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Some((known, addresses)) = &self.known
            && **known == *host
            && !addresses.is_empty()
        {
            return Ok(addresses.to_vec());
        }
        if let Some(client) = &self.client
            && let Some((service, namespace)) = service(host)
        {
            match tokio::time::timeout(PATIENCE, of_service(client, service, namespace)).await {
                Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
                Ok(Ok(_)) => tracing::debug!(host, "the Service has no address"),
                Ok(Err(error)) => tracing::debug!(host, %error, "the API does not tell where the Service is"),
                Err(_) => tracing::debug!(host, "the API does not answer"),
            }
        }
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Service and namespace in the name, if it is one of the cluster's.
fn service(host: &str) -> Option<(&str, &str)> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let name = host.strip_suffix(".cluster.local").unwrap_or(host).strip_suffix(".svc")?;
    name.split_once('.').filter(|(service, namespace)| !service.is_empty() && is_label(namespace))
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && !text.contains('.')
}

async fn of_service(client: &Client, name: &str, namespace: &str) -> Result<Vec<IpAddr>, kube::Error> {
    let service = Api::<Service>::namespaced(client.clone(), namespace).get(name).await?;
    let spec = service.spec.unwrap_or_default();
    let own: Vec<IpAddr> =
        spec.cluster_ips.into_iter().flatten().chain(spec.cluster_ip).filter_map(|ip| ip.parse().ok()).collect();
    if !own.is_empty() {
        return Ok(own);
    }
    // A headless Service is its pods.
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
    let of_service = slices.list(&ListParams::default().labels(&format!("{SLICES}={name}"))).await?;
    let ready = of_service.into_iter().flat_map(|slice| slice.endpoints);
    let ready = ready.filter(|endpoint| endpoint.conditions.as_ref().and_then(|it| it.ready) != Some(false));
    Ok(ready.flat_map(|endpoint| endpoint.addresses).filter_map(|ip| ip.parse().ok()).collect())
}

impl tower::Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let names = self.clone();
        Box::pin(async move {
            let found = names.resolve(name.as_str()).await?;
            let addresses: Vec<_> = found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_services_are_asked_of_the_cluster() {
        for host in ["minio.minio-dev.svc.cluster.local", "minio.minio-dev.svc", "minio.minio-dev.svc.cluster.local."] {
            assert_eq!(service(host), Some(("minio", "minio-dev")), "{host}");
        }
        for host in ["s3.eu-central-1.amazonaws.com", "localhost", "svc", ".svc", "a.svc", "pod.minio.minio-dev.svc"] {
            assert_eq!(service(host), None, "{host}");
        }
    }

    #[tokio::test]
    async fn the_system_is_asked_for_the_rest() {
        let found = Names::system().resolve("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
    }
}
