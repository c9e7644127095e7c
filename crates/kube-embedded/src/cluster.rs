//! A whole cluster: store, API server, controllers and node, started and stopped together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::{self, AddressRange};
use crate::api::{ApiServer, ApiServerParts, audit, server};
use crate::auth::tokens::{self, ServiceAccountTokens};
use crate::auth::{Authenticator, files, pki, rbac::Authorizer};
use crate::controllers;
use crate::image::ImageCatalogue;
use crate::kubelet::Kubelet;
use crate::node::{self, ApiAccess, HostUser, Node, NodeOptions};
use crate::objects::Objects;
use crate::store::{self, Store};
use crate::user::UserInfo;

/// The port API servers use by custom. Another is taken when somebody else listens on it on every address.
const PORT: u16 = 6443;
/// How many ports are tried.
const PORTS: u16 = 64;

/// What a cluster is started with.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Its name; the node is called after it.
    pub name: String,
    /// The store, keys, volumes and logs: everything that outlives the process.
    pub directory: PathBuf,
    /// Short-lived files of this process, with a short path.
    pub run_directory: PathBuf,
    /// What pods can run.
    pub images: Arc<dyn ImageCatalogue>,
    /// Whom pods run as; `None`: the caller.
    pub run_as: Option<HostUser>,
    /// Whether the audit log also tells of requests that only read.
    pub audits_reads: bool,
    /// Longest time pods get to end when the cluster stops.
    pub stop_grace: Duration,
}

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No addresses.
    #[error(transparent)]
    Addresses(#[from] addresses::Error),
    /// No port for the API server.
    #[error("no port from {PORT} to {last} of {address} is free for the API server", last = PORT + PORTS - 1)]
    Port {
        /// The API server's address.
        address: Ipv4Addr,
        /// What the last attempt said.
        #[source]
        source: std::io::Error,
    },
    /// Keys and certificates.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// The key of ServiceAccount tokens.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The objects every cluster has.
    #[error("cannot write the objects that every cluster has")]
    Bootstrap(#[source] Box<controllers::Error>),
    /// The node.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// A file.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A client certificate and its key, both PEM.
#[derive(Clone)]
pub struct Credentials {
    /// Certificate.
    pub certificate: String,
    /// Private key.
    pub key: String,
}

/// A running cluster. Dropping it does not stop it in order: call [`Cluster::stop`].
pub struct Cluster {
    address: SocketAddr,
    ca_pem: String,
    administrator: Credentials,
    api: Arc<ApiServer>,
    store: Arc<Store>,
    node: Arc<Node>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    _addresses: AddressRange,
}

impl Cluster {
    /// Starts a cluster in its directory, made anew if it is empty, else with everything that was in it.
    ///
    /// It is ready when this returns: requests are answered, and pods that were there are being started.
    ///
    /// # Errors
    /// [`Error`]; nothing keeps running then.
    pub async fn start(options: ClusterOptions) -> Result<Self, Error> {
        let shutdown = CancellationToken::new();
        // Ends what was started when this function fails; `stop` does so later.
        let guard = shutdown.clone().drop_guard();
        let addresses = AddressRange::claim(remembered_range(&options.directory))?;
        let store = Store::open(&options.directory)?;
        remember_range(&options.directory, &addresses)?;
        let listener = listen(addresses.api_server()).await?;
        let address =
            listener.local_addr().map_err(|source| Error::Port { address: addresses.api_server(), source })?;
        let keys = options.directory.join("pki");
        let names = [address.ip().to_string(), "localhost".to_owned(), "kubernetes.default.svc".to_owned()];
        let pki = pki::Pki::open_or_create(&keys, &names)?;
        let tokens = Arc::new(ServiceAccountTokens::open_or_create(&keys)?);
        let administrator = administrator(&keys, &pki)?;
        let objects: Arc<dyn Objects> = Arc::clone(&store) as _;
        let kubelet: Arc<OnceLock<Arc<dyn Kubelet>>> = Arc::default();
        let api = ApiServer::new(ApiServerParts {
            store: Arc::clone(&store),
            authenticator: Arc::new(Authenticator::new(Arc::clone(&tokens), Arc::clone(&objects))),
            authorizer: Arc::new(Authorizer::new(Arc::clone(&objects))),
            tokens: Arc::clone(&tokens),
            kubelet: Arc::clone(&kubelet),
            service_addresses: addresses.services(),
            audit: Some(audit::Policy { file: options.directory.join("audit.log"), has_reads: options.audits_reads }),
        });
        let tasks = TaskTracker::new();
        let system = |name: &str| api.client(UserInfo::master(name));
        controllers::bootstrap(&system("system:apiserver")).await.map_err(|error| Error::Bootstrap(Box::new(error)))?;
        tasks.spawn(server::serve(Arc::clone(&api), listener, pki.server_config(), shutdown.clone()));
        tasks.spawn(controllers::run(
            system("system:kube-controller-manager"),
            objects,
            controllers::Options {
                volumes: options.directory.join("volumes"),
                volume_owner: options.run_as.as_ref().map(|user| (user.uid, user.gid)),
                ca_pem: pki.ca_pem().to_owned(),
            },
            shutdown.clone(),
        ));
        let name = format!("{}-node", options.name);
        let node = Node::start(
            system(&format!("system:node:{name}")),
            NodeOptions {
                name,
                cluster: options.name,
                directory: options.directory.join("node"),
                volumes: options.directory.join("volumes"),
                hidden: vec![options.directory],
                run_directory: options.run_directory,
                images: options.images,
                run_as: options.run_as,
                address: addresses.api_server(),
                pod_addresses: addresses.pods(),
                api_server: ApiAccess {
                    address: addresses.api_server(),
                    port: address.port(),
                    ca_pem: pki.ca_pem().to_owned(),
                    tokens,
                },
                stop_grace: options.stop_grace,
                launcher: node::THIS_PROGRAM.into(),
            },
            shutdown.clone(),
        )
        .await?;
        // The only writer of this cell: it was made above.
        let _ = kubelet.set(Arc::clone(&node) as _);
        let ca_pem = pki.ca_pem().to_owned();
        let shutdown = guard.disarm();
        Ok(Self { address, ca_pem, administrator, api, store, node, shutdown, tasks, _addresses: addresses })
    }

    /// URL of the API server.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate authority of the API server.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The credentials of the cluster's administrator. They stay the same for the cluster's life.
    pub fn administrator(&self) -> &Credentials {
        &self.administrator
    }

    /// A client inside this process.
    pub fn client(&self, user: UserInfo) -> kube::Client {
        self.api.client(user)
    }

    /// What containers are given of the host.
    pub fn isolation(&self) -> &node::isolation::Isolation {
        self.node.isolation()
    }

    /// Cancelled when the cluster stops.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Stops pods, controllers and API server, in this order, and closes the store.
    pub async fn stop(self) {
        self.api.begin_to_stop();
        self.node.stop().await;
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close();
    }
}

/// Listens on the first free port: one is busy on every address while somebody listens on 0.0.0.0.
async fn listen(address: Ipv4Addr) -> Result<TcpListener, Error> {
    let mut port = PORT;
    loop {
        match TcpListener::bind((address, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && port < PORT + PORTS - 1 => port += 1,
            Err(source) => return Err(Error::Port { address, source }),
        }
    }
}

/// The administrator's certificate is kept: kubeconfig files hold it.
fn administrator(keys: &Path, pki: &pki::Pki) -> Result<Credentials, Error> {
    let (certificate_path, key_path) = (keys.join("admin.crt"), keys.join("admin.key"));
    let read = |path: &Path| {
        files::read_private(path).map_err(|source| Error::Pki(pki::Error::Io { path: path.to_owned(), source }))
    };
    if let (Some(certificate), Some(key)) = (read(&certificate_path)?, read(&key_path)?) {
        return Ok(Credentials { certificate, key });
    }
    let (certificate, key) = pki.issue_client("kubernetes-admin", &["system:masters"])?;
    for (path, content) in [(key_path, &key), (certificate_path, &certificate)] {
        files::write_private(&path, content).map_err(|source| Error::Write { path, source })?;
    }
    Ok(Credentials { certificate, key })
}

/// The range the cluster had last time, so that kubeconfig files stay true. It is only a wish.
fn remembered_range(directory: &Path) -> Option<u32> {
    fs_err::read_to_string(directory.join("addresses")).ok()?.trim().parse().ok()
}

fn remember_range(directory: &Path, range: &AddressRange) -> Result<(), Error> {
    let path = directory.join("addresses");
    files::write_private(&path, &format!("{}\n", range.index())).map_err(|source| Error::Write { path, source })
}
