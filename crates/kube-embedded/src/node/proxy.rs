//! Service addresses: listens on each and hands connections on to ready endpoints, in turn.
//!
//! An address without ready endpoints is not listened on, so that clients are refused at once, as in a cluster.
//! Connections that exist stay when endpoints change: they end with one of their sides.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::container::Owned;

/// How long one endpoint is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Lowest port that is served.
const FIRST_PORT: u16 = 1024;

/// Why an address is not served.
#[derive(Debug)]
pub enum Problem {
    /// Ports below 1024 belong to the system's own services.
    Privileged,
    /// It can't be listened on.
    Listen(io::Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged => write!(f, "ports below {FIRST_PORT} are not served by this node"),
            Self::Listen(error) => error.fmt(f),
        }
    }
}

/// All addresses that are served.
#[derive(Default)]
pub struct Proxy {
    served: BTreeMap<SocketAddr, Served>,
    /// Addresses whose problem has been told.
    refused: BTreeMap<SocketAddr, ()>,
}

struct Served {
    targets: watch::Sender<Arc<Vec<SocketAddr>>>,
    _listener: Owned,
}

impl Proxy {
    /// Serves exactly these addresses. Answers what can't be, once for each.
    pub async fn apply(&mut self, wanted: BTreeMap<SocketAddr, Vec<SocketAddr>>) -> Vec<(SocketAddr, Problem)> {
        self.served.retain(|address, _| wanted.get(address).is_some_and(|targets| !targets.is_empty()));
        self.refused.retain(|address, ()| wanted.contains_key(address));
        let mut problems = Vec::new();
        for (address, targets) in wanted {
            if targets.is_empty() {
                continue;
            }
            if let Some(served) = self.served.get(&address) {
                served.targets.send_if_modified(|known| {
                    let differs = **known != targets;
                    if differs {
                        *known = Arc::new(targets);
                    }
                    differs
                });
                continue;
            }
            match listen(address).await {
                Ok(listener) => {
                    let (targets, received) = watch::channel(Arc::new(targets));
                    let listener = Owned(tokio::spawn(serve(listener, received)));
                    self.served.insert(address, Served { targets, _listener: listener });
                    self.refused.remove(&address);
                }
                Err(problem) if self.refused.insert(address, ()).is_none() => problems.push((address, problem)),
                Err(_) => {}
            }
        }
        problems
    }

    /// Whether an address could not be served that may be later: when its port or a descriptor is free.
    pub fn lacks_addresses(&self) -> bool {
        self.refused.keys().any(|address| address.port() >= FIRST_PORT)
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Problem> {
    if address.port() < FIRST_PORT {
        return Err(Problem::Privileged);
    }
    TcpListener::bind(address).await.map_err(Problem::Listen)
}

async fn serve(listener: TcpListener, targets: watch::Receiver<Arc<Vec<SocketAddr>>>) {
    let turn = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let targets = targets.borrow().clone();
                    // Detached: a connection outlives its Service's listener.
                    let service = listener.local_addr().ok();
                    tokio::spawn(hand_on(client, service, targets, turn.clone()));
                }
                // Out of file descriptors, most likely; not a reason to spin.
                Err(_) => { connections.spawn(tokio::time::sleep(Duration::from_millis(50))); connections.join_next().await; }
            },
        }
    }
}

/// A connection that comes from the Service's address: a server can tell it from one of its own pod.
async fn connect(service: Option<SocketAddr>, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(service) = service.filter(|service| service.is_ipv4() == target.is_ipv4()) {
        socket.bind(SocketAddr::new(service.ip(), 0))?;
    }
    socket.connect(target).await
}

async fn hand_on(
    mut client: TcpStream,
    service: Option<SocketAddr>,
    targets: Arc<Vec<SocketAddr>>,
    turn: Arc<AtomicUsize>,
) {
    let first = turn.fetch_add(1, Ordering::Relaxed);
    for offset in 0..targets.len() {
        let target = targets[(first + offset) % targets.len()];
        let Ok(Ok(mut server)) = tokio::time::timeout(CONNECT_LIMIT, connect(service, target)).await else {
            continue;
        };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    // The client sees a reset rather than an orderly end.
    let _ = client.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that says its name and ends each connection.
    async fn server(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(name.as_bytes()).await.unwrap();
            }
        });
        address
    }

    async fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    async fn ask(address: SocketAddr) -> io::Result<String> {
        let mut text = String::new();
        TcpStream::connect(address).await?.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn connections_take_turns_and_follow_the_endpoints() {
        let (a, b, address) = (server("a").await, server("b").await, free().await);
        let mut proxy = Proxy::default();
        assert!(proxy.apply([(address, vec![a, b])].into()).await.is_empty());
        let mut got = [ask(address).await.unwrap(), ask(address).await.unwrap()];
        got.sort();
        assert_eq!(got, ["a", "b"]);
        proxy.apply([(address, vec![b])].into()).await;
        assert_eq!(ask(address).await.unwrap(), "b");
    }

    #[tokio::test]
    async fn without_ready_endpoints_clients_are_refused() {
        let (a, address) = (server("a").await, free().await);
        let mut proxy = Proxy::default();
        proxy.apply([(address, vec![a])].into()).await;
        assert_eq!(ask(address).await.unwrap(), "a");
        proxy.apply([(address, vec![])].into()).await;
        let refused = async {
            // The listener's task is dropped by the runtime a moment later.
            loop {
                match ask(address).await {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), refused).await.unwrap();
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_passed_over() {
        let (a, dead, address) = (server("a").await, free().await, free().await);
        let mut proxy = Proxy::default();
        proxy.apply([(address, vec![a, dead])].into()).await;
        for _ in 0..4 {
            assert_eq!(ask(address).await.unwrap(), "a");
        }
    }

    #[tokio::test]
    async fn a_busy_port_is_told_once_and_others_are_served() {
        let (busy, low, address) = (server("x").await, "127.0.0.1:80".parse().unwrap(), free().await);
        let a = server("a").await;
        let mut proxy = Proxy::default();
        let wanted: BTreeMap<_, _> = [(busy, vec![a]), (low, vec![a]), (address, vec![a])].into();
        let problems = proxy.apply(wanted.clone()).await;
        assert_eq!(problems.len(), 2);
        assert!(proxy.apply(wanted).await.is_empty());
        assert_eq!(ask(address).await.unwrap(), "a");
        assert!(proxy.lacks_addresses());
        proxy.apply([(low, vec![a])].into()).await;
        assert!(!proxy.lacks_addresses(), "a port below 1024 is never served");
    }
}
