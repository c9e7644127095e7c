//! Ways to pods of a cluster whose addresses this machine does not reach: ports of this machine, forwarded through the API
//! server for as long as the namespace is there.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Endpoints;
use kube::{Api, Client};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use super::failure::Failure;
use crate::kubernetes::forward;

/// Where a way leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// The pod that a Service leads to, looked up for each connection.
    Service {
        /// Namespace of the Service.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A port of one pod.
    Pod {
        /// Namespace of the pod.
        namespace: String,
        /// Its name.
        name: String,
        /// The port.
        port: u16,
    },
}

impl Goal {
    fn namespace(&self) -> &str {
        let (Self::Service { namespace, .. } | Self::Pod { namespace, .. }) = self;
        namespace
    }
}

/// The ways that have been made, and who takes their connections.
#[derive(Debug, Default)]
pub struct Ways(Mutex<BTreeMap<Goal, (SocketAddr, AbortHandle)>>);

impl Ways {
    /// The address of this machine from which the way to this goal starts.
    ///
    /// # Errors
    /// No port is to be had.
    pub async fn to(&self, client: &Client, goal: Goal) -> Result<SocketAddr, Failure> {
        let mut made = self.0.lock().await;
        if let Some((address, _)) = made.get(&goal) {
            return Ok(*address);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, client.clone(), goal.clone()));
        made.insert(goal, (address, accepting.abort_handle()));
        Ok(address)
    }

    /// Closes the ways into a namespace that is gone: a run has hundreds of them, and each has an open file.
    pub async fn close(&self, namespace: &str) {
        self.0.lock().await.retain(|goal, (_, accepting)| {
            let stays = goal.namespace() != namespace;
            if !stays {
                accepting.abort();
            }
            stays
        });
    }
}

async fn accept(listener: TcpListener, client: Client, goal: Goal) {
    while let Ok((local, _)) = listener.accept().await {
        tokio::spawn(serve(local, client.clone(), goal.clone()));
    }
}

/// What fails closes the connection, as a server that is not there would.
async fn serve(local: TcpStream, client: Client, goal: Goal) -> Result<(), Failure> {
    let (namespace, pod, port) = match goal {
        Goal::Pod { namespace, name, port } => (namespace, name, port),
        Goal::Service { namespace, name } => {
            let (pod, port) = behind(&client, &namespace, &name).await?;
            (namespace, pod, port)
        }
    };
    let forwarded = forward::connect(client, &namespace, &pod, port, local).await;
    forwarded.map_err(|error| Failure::File(io::Error::other(error)))
}

/// The first pod behind a Service, and its port.
async fn behind(client: &Client, namespace: &str, service: &str) -> Result<(String, u16), Failure> {
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), namespace);
    let subsets = endpoints.get(service).await?.subsets.unwrap_or_default();
    let found = subsets.into_iter().find_map(|subset| {
        let pod = subset.addresses?.into_iter().find_map(|address| address.target_ref?.name)?;
        let port = subset.ports?.into_iter().next()?.port;
        Some((pod, u16::try_from(port).ok()?))
    });
    found.ok_or(Failure::Missing("pod behind the Service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ways_end_with_their_namespace() {
        // Nothing is asked of it.
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let ways = Ways::default();
        let goal = |namespace: &str| Goal::Service { namespace: namespace.to_owned(), name: "solo-master".to_owned() };
        let (gone, kept) = (ways.to(&client, goal("e2e-1")).await.unwrap(), ways.to(&client, goal("e2e-12")).await);
        ways.close("e2e-1").await;
        // Whoever takes its connections ends when it has its next turn.
        while TcpStream::connect(gone).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(TcpStream::connect(kept.unwrap()).await.is_ok());
    }
}
