//! A port of this machine that leads to the primary of an instance, whichever member that is when a client connects.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use a8s_operators::agent::SQL_PORT;
use kube::Client;
use tokio::net::{TcpListener, TcpStream};

use super::primary;
use crate::finding::{Finding, Id};
use crate::kubernetes::forward;
use crate::manifest::names::{Namespace, ObjectName};
use crate::step::Cancel;

/// Between two attempts to take a connection, where the system has no descriptor for it.
const AGAIN: Duration = Duration::from_millis(100);

/// What to do where no port is free.
const ALL_TAKEN: &str = "All ports are taken, perhaps by connections that have just ended: try again in a minute, or \
                         widen their range (on Linux net.ipv4.ip_local_port_range).";

/// The instance behind the port.
struct Behind {
    client: Client,
    namespace: Namespace,
    instance: ObjectName,
    patience: Duration,
}

impl Behind {
    async fn connect(&self, local: TcpStream) -> Result<(), Finding> {
        let pod = primary::wait_for(&self.client, &self.namespace, &self.instance, self.patience, |_| {}).await?;
        Ok(forward::connect(self.client.clone(), self.namespace.as_str(), &pod, SQL_PORT, local).await?)
    }
}

fn no_port(error: io::Error) -> Finding {
    let finding = Finding::new(Id::NoPort, format!("cannot listen on 127.0.0.1: {error}"));
    if error.kind() == io::ErrorKind::AddrInUse { finding.advise(ALL_TAKEN) } else { finding }
}

/// The port. Nobody listens once it is dropped.
pub struct Gateway {
    listener: TcpListener,
    port: u16,
    behind: Arc<Behind>,
}

impl Gateway {
    /// Takes a free port of 127.0.0.1. A client waits for a primary that is away for as long as there is `patience`, half a
    /// minute at most.
    ///
    /// # Errors
    /// There is none.
    pub async fn open(
        client: Client,
        namespace: Namespace,
        instance: ObjectName,
        patience: Duration,
    ) -> Result<Self, Finding> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(no_port)?;
        let port = listener.local_addr().map_err(no_port)?.port();
        Ok(Self { listener, port, behind: Arc::new(Behind { client, namespace, instance, patience }) })
    }

    /// Its number.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Lets clients through until it is cancelled, and tells `failed` why one could not get to a server.
    pub async fn serve(self, cancel: Cancel, failed: impl Fn(Finding) + Clone + Send + 'static) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = cancel.cancelled() => return,
            };
            let Ok((local, _)) = accepted else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let (behind, cancel, failed) = (self.behind.clone(), cancel.clone(), failed.clone());
            tokio::spawn(async move {
                tokio::select! {
                    ended = behind.connect(local) => if let Err(finding) = ended { failed(finding) },
                    () = cancel.cancelled() => {}
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_all_ports_are_taken_there_is_a_way_out() {
        assert_eq!(no_port(io::ErrorKind::AddrInUse.into()).advice, [ALL_TAKEN]);
        assert!(no_port(io::ErrorKind::PermissionDenied.into()).advice.is_empty());
    }
}
