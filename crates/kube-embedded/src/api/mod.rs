//! The API server. A request comes in by [`server`] (TLS, who is it) or from a client inside this process, is read by
//! [`request`], finds its resource in the [`registry`], and is answered by one of the [`handlers`].

pub mod body;
mod builtin;
mod call;
mod discovery;
mod handlers;
mod local;
mod metadata;
pub mod names;
pub mod registry;
pub mod request;
mod selector;
pub mod server;
mod typed;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, RwLock};

use bytes::Bytes;
use http::{Request, Response, StatusCode};

use self::body::Body;
use self::call::Call;
use self::registry::Registry;
use self::request::{Query, Target};
use crate::kubelet::Kubelet;
use crate::status::Status;
use crate::store::Store;
use crate::user::UserInfo;

/// What an API server is made of.
pub struct ApiServerParts {
    /// Where the objects are.
    pub store: Arc<Store>,
    /// The node, once it runs: for logs, exec and port-forward.
    pub kubelet: Arc<OnceLock<Arc<dyn Kubelet>>>,
    /// First and last address that Services may get.
    pub service_addresses: (Ipv4Addr, Ipv4Addr),
    /// File that gets a line of JSON for every mutating request; `None`: no such file.
    pub audit: Option<PathBuf>,
}

/// See the module.
pub struct ApiServer {
    store: Arc<Store>,
    registry: RwLock<Arc<Registry>>,
    #[expect(dead_code, reason = "log, exec and port-forward come with the streaming module")]
    kubelet: Arc<OnceLock<Arc<dyn Kubelet>>>,
}

impl ApiServer {
    /// An API server over what the store holds.
    pub fn new(parts: ApiServerParts) -> Arc<Self> {
        Arc::new(Self {
            store: parts.store,
            registry: RwLock::new(Arc::new(Registry::new(builtin::resources()))),
            kubelet: parts.kubelet,
        })
    }

    /// A client inside this process that acts as `user`. Its default namespace is `default`.
    pub fn client(self: &Arc<Self>, user: UserInfo) -> kube::Client {
        kube::Client::new(local::LocalService::new(Arc::clone(self), user), "default")
    }

    /// Answers an authenticated request.
    pub async fn handle<B>(self: &Arc<Self>, user: UserInfo, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<body::Error>,
    {
        let query = Query::parse(request.uri().query());
        let answer = match request::target(request.method(), request.uri().path(), &query) {
            Ok(Target::Resource(target)) => self.handle_resource(user, target, query, request).await,
            Ok(Target::Path) => self.handle_path(&request),
            Err(status) => Err(status),
        };
        answer.unwrap_or_else(|status| body::error(&status))
    }

    async fn handle_resource<B>(
        self: &Arc<Self>,
        user: UserInfo,
        target: request::ResourceRequest,
        query: Query,
        request: Request<B>,
    ) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<body::Error>,
    {
        let registry = self.registry();
        let resource = registry
            .get(&target.group, &target.version, &target.resource)
            .cloned()
            .ok_or_else(Status::no_such_resource)?;
        let (parts, body) = request.into_parts();
        let body = body::read(body).await?;
        let call = Call::new(user, target, resource, query, &parts.headers, body)?;
        self.dispatch(call).await
    }

    fn handle_path<B>(&self, request: &Request<B>) -> Result<Response<Body>, Status> {
        let path = request.uri().path().trim_end_matches('/');
        match path {
            "/healthz" | "/livez" | "/readyz" => Ok(body::typed(StatusCode::OK, "text/plain; charset=utf-8", "ok")),
            "/version" => Ok(body::json(StatusCode::OK, &discovery::version())),
            _ => discovery::answer(&self.registry(), path, request.headers()),
        }
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
