//! Connections to a port of a pod.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use super::Error;

/// Connects a local connection with a port of a pod, until one of them ends it.
///
/// # Errors
/// The pod can't be reached. How a connection ends is between its two ends.
pub async fn connect(client: Client, namespace: &str, pod: &str, port: u16, mut local: TcpStream) -> Result<(), Error> {
    let what = format!("forward to port {port} of the pod {namespace}/{pod}");
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut forwarder = pods.portforward(pod, &[port]).await.map_err(|source| Error::request(what, source))?;
    if let Some(mut remote) = forwarder.take_stream(port) {
        let _ = copy_bidirectional(&mut local, &mut remote).await;
    }
    forwarder.abort();
    Ok(())
}
