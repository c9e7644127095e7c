//! The API server. A request comes in by [`server`] (TLS, who is it) or from a client inside this process, is read by
//! [`request`], finds its resource in the [`registry`], and is answered by one of the [`handlers`].

mod admission;
pub mod audit;
pub mod body;
mod builtin;
mod call;
pub(crate) mod discovery;
mod duplicates;
mod handlers;
mod judge;
mod local;
mod metadata;
pub mod names;
mod openapi;
pub mod panics;
mod protobuf;
pub mod registry;
pub mod request;
mod retire;
#[cfg(test)]
mod rig;
mod schema;
mod selector;
pub mod server;
pub mod streaming;
mod table;
mod typed;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::sync::watch;

use self::admission::service_addresses::ServiceAddresses;
use self::audit::{Audit, Entry, Pending};
use self::body::Body;
use self::call::Call;
use self::registry::{Registry, Resource};
use self::request::{Query, ResourceRequest, Target, selected_name};
use crate::auth::Authenticator;
use crate::auth::rbac::{Attributes, Authorizer, ResourceAttributes};
use crate::auth::tokens::ServiceAccountTokens;
use crate::kubelet::Kubelet;
use crate::objects::Objects as _;
use crate::status::Status;
use crate::store::Store;
use crate::user::UserInfo;

/// The group of those who are not known, and of nobody else.
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// What an API server is made of.
pub struct ApiServerParts {
    /// Where the objects are.
    pub store: Arc<Store>,
    /// Who makes a request over the network.
    pub authenticator: Arc<Authenticator>,
    /// What they may do.
    pub authorizer: Arc<Authorizer>,
    /// The tokens of ServiceAccounts, for `serviceaccounts/token`.
    pub tokens: Arc<ServiceAccountTokens>,
    /// The node, once it runs: for logs, exec and port-forward.
    pub kubelet: Arc<OnceLock<Arc<dyn Kubelet>>>,
    /// First and last address that Services may get.
    pub service_addresses: (Ipv4Addr, Ipv4Addr),
    /// The audit log; `None`: there is none.
    pub audit: Option<audit::Policy>,
}

/// See the module.
pub struct ApiServer {
    store: Arc<Store>,
    registry: watch::Sender<Arc<Registry>>,
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
    tokens: Arc<ServiceAccountTokens>,
    addresses: ServiceAddresses,
    audit: Option<Audit>,
    kubelet: Arc<OnceLock<Arc<dyn Kubelet>>>,
    /// Held from the look whether a new definition's kind is free until the definition is stored.
    defining: tokio::sync::Mutex<()>,
    /// Whether it is going to end: requests are answered until then.
    stopping: AtomicBool,
    /// Told when an object of a definition that goes could not be deleted.
    retirements: watch::Sender<()>,
}

impl ApiServer {
    /// An API server over what the store holds.
    pub fn new(parts: ApiServerParts) -> Arc<Self> {
        let (retirements, failures) = watch::channel(());
        let server = Arc::new(Self {
            store: parts.store,
            registry: watch::Sender::new(Arc::default()),
            authenticator: parts.authenticator,
            authorizer: parts.authorizer,
            tokens: parts.tokens,
            addresses: ServiceAddresses::new(parts.service_addresses),
            audit: parts.audit.map(Audit::new),
            kubelet: parts.kubelet,
            defining: tokio::sync::Mutex::default(),
            stopping: AtomicBool::new(false),
            retirements,
        });
        server.load_registry();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(retire::resume(Arc::downgrade(&server), failures));
        }
        server
    }

    /// Serves what the committed CustomResourceDefinitions define, beside the built-in resources.
    fn load_registry(&self) {
        // Locked before the definitions are read: of two changes at once, the later reader has both.
        self.registry.send_modify(|registry| {
            let mut all = builtin::resources();
            let definitions = self.store.list(&retire::definitions(), None);
            // What was answered until now was answered by the definitions as they were.
            let now = self.store.version();
            all.extend(definitions.iter().flat_map(|definition| {
                let since = registry.since(definition).unwrap_or(now);
                schema::definition::resources(definition, since)
            }));
            *registry = Arc::new(Registry::new(all));
        });
    }

    /// A client inside this process that acts as `user`. Its default namespace is `default`.
    pub fn client(self: &Arc<Self>, user: UserInfo) -> kube::Client {
        kube::Client::new(local::LocalService::new(Arc::clone(self), user), "default")
    }

    /// Answers a request that comes over the network: finds out who makes it, then [`ApiServer::handle`]s it.
    pub async fn handle_from_network<B>(
        self: &Arc<Self>,
        certificate: Option<&[u8]>,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<body::Error>,
    {
        let bearer = header(&request, &AUTHORIZATION).strip_prefix("Bearer ").map(str::trim);
        match self.authenticator.authenticate(certificate, bearer) {
            Ok(user) => self.handle(user, request).await,
            Err(status) => body::error(&status),
        }
    }

    /// Answers an authenticated request.
    pub async fn handle<B>(self: &Arc<Self>, user: UserInfo, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<body::Error>,
    {
        let query = Query::parse(request.uri().query());
        match (self.impersonate(user, &request), Target::of(&request, &query)) {
            (Ok(user), Ok(Target::Resource(target))) => self.handle_resource(user, target, query, request).await,
            (Ok(user), Ok(Target::Path)) => {
                let pending = self.pending("get", &user, &request, None);
                told(pending, self.handle_path(&user, &request).unwrap_or_else(|status| body::error(&status)))
            }
            (Err(status), _) | (_, Err(status)) => body::error(&status),
        }
    }

    async fn handle_resource<B>(
        self: &Arc<Self>,
        user: UserInfo,
        target: ResourceRequest,
        query: Query,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<body::Error>,
    {
        let pending = self.pending(target.verb, &user, &request, Some(&target));
        let resource = self.registry().get(&target.group, &target.version, &target.resource).cloned();
        // What is in no namespace has no path through one, else rights in a namespace would reach it.
        let answer = if target.in_namespace && resource.as_ref().is_some_and(|resource| !resource.namespaced) {
            Err(Status::no_such_resource())
        } else {
            match self.authorizer.check(&user, &Attributes::Resource(attributes(&target, &query))) {
                Ok(()) => self.answer_resource(user, target, resource, query, request).await,
                Err(status) => Err(status),
            }
        };
        told(pending, answer.unwrap_or_else(|status| body::error(&status)))
    }

    fn pending<B>(
        &self,
        verb: &'static str,
        user: &UserInfo,
        request: &Request<B>,
        target: Option<&ResourceRequest>,
    ) -> Option<Pending<'_>> {
        let audit = self.audit.as_ref().filter(|audit| audit.tells(verb, target))?;
        Some(audit.begin(Entry {
            verb,
            user: user.clone(),
            user_agent: header(request, &USER_AGENT).to_owned(),
            uri: request.uri().to_string(),
            request: target.cloned(),
        }))
    }

    async fn answer_resource<B>(
        self: &Arc<Self>,
        user: UserInfo,
        target: ResourceRequest,
        resource: Option<Arc<Resource>>,
        query: Query,
        request: Request<B>,
    ) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<body::Error>,
    {
        let Some(resource) = resource else {
            // What definitions define is served by nobody as soon as they are gone.
            let registry = self.registry();
            let mut built_in = registry.all().filter(|resource| !resource.is_custom());
            let is_there = built_in.any(|one| one.group == target.group && one.version == target.version);
            return if is_there { Err(Status::no_such_resource()) } else { Ok(body::page_not_found()) };
        };
        if handlers::leads_to_node(&target) {
            return self.connect(&target, &query, request).await;
        }
        let (parts, body) = request.into_parts();
        let body = body::read(body).await?;
        let call = Call::new(user, target, resource, query, &parts.headers, body)?;
        self.dispatch(call).await
    }

    /// The user that the request acts as (Kubernetes documentation, "User impersonation").
    fn impersonate<B>(&self, user: UserInfo, request: &Request<B>) -> Result<UserInfo, Status> {
        let wanted = Impersonated::read(request.headers())?;
        let Some(name) = wanted.user else {
            return Ok(user);
        };
        let may = |resource: &str, namespace: &str, name: &str| {
            self.authorizer.check(
                &user,
                &Attributes::Resource(ResourceAttributes {
                    verb: "impersonate".to_owned(),
                    resource: resource.to_owned(),
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    ..ResourceAttributes::default()
                }),
            )
        };
        let account = name.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
        match account {
            Some((namespace, account)) => may("serviceaccounts", namespace, account)?,
            None => may("users", "", name)?,
        }
        for group in &wanted.groups {
            may("groups", "", group)?;
        }
        match account {
            // An account is in the groups of accounts, unless others are asked for.
            Some((namespace, account)) if wanted.groups.is_empty() => Ok(UserInfo::service_account(namespace, account)),
            _ if name == "system:anonymous" || wanted.groups.contains(&UNAUTHENTICATED) => {
                let mut groups = wanted.groups;
                if !groups.contains(&UNAUTHENTICATED) {
                    groups.push(UNAUTHENTICATED);
                }
                Ok(UserInfo { name: name.to_owned(), groups: groups.into_iter().map(str::to_owned).collect() })
            }
            _ => Ok(UserInfo::new(name, wanted.groups)),
        }
    }

    /// Says from now on that it is not ready for more.
    pub fn begin_to_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    fn handle_path<B>(&self, user: &UserInfo, request: &Request<B>) -> Result<Response<Body>, Status> {
        let path = request.uri().path().trim_end_matches('/');
        let verb = request.method().as_str().to_ascii_lowercase();
        self.authorizer.check(user, &Attributes::Path { verb, path: path.to_owned() })?;
        match path {
            // As the API server of Kubernetes, which is told of its end before it ends: who looks goes elsewhere, or waits.
            "/readyz" if self.stopping.load(Ordering::SeqCst) => {
                let text = "[-]shutdown failed: process is shutting down\nreadyz check failed\n";
                Ok(body::typed(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text))
            }
            "/healthz" | "/livez" | "/readyz" => Ok(body::typed(StatusCode::OK, "text/plain; charset=utf-8", "ok")),
            "/version" => Ok(body::json(StatusCode::OK, &discovery::version())),
            _ if path.starts_with("/openapi") => openapi::answer(&self.registry(), path),
            _ => Ok(discovery::answer(&self.registry(), path, request.headers()).unwrap_or_else(body::page_not_found)),
        }
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.borrow())
    }
}

fn told(pending: Option<Pending<'_>>, response: Response<Body>) -> Response<Body> {
    if let Some(pending) = pending {
        pending.end(response.status());
    }
    response
}

/// As whom a request wants to act.
struct Impersonated<'a> {
    user: Option<&'a str>,
    groups: Vec<&'a str>,
}

impl<'a> Impersonated<'a> {
    /// Reads the headers. Whatever is not understood is an error: the request would otherwise be made with other rights
    /// than it asks for.
    fn read(headers: &'a HeaderMap) -> Result<Self, Status> {
        let mut wanted = Self { user: None, groups: Vec::new() };
        for (name, value) in headers {
            let Some(what) = name.as_str().strip_prefix("impersonate-") else { continue };
            let value = std::str::from_utf8(value.as_bytes())
                .map_err(|_| Status::bad_request(format!("the header {name} is not UTF-8")))?;
            match what {
                "user" if wanted.user.is_none() => wanted.user = Some(value).filter(|user| !user.is_empty()),
                "user" => return Err(Status::bad_request("only one user can be impersonated")),
                "group" => wanted.groups.push(value),
                _ => return Err(Status::bad_request(format!("the header {name} is not supported by this cluster"))),
            }
        }
        if wanted.user.is_none() && !wanted.groups.is_empty() {
            let message = format!("requested the groups {:?} without impersonating a user", wanted.groups);
            return Err(Status::bad_request(message));
        }
        Ok(wanted)
    }
}

fn header<'a, B>(request: &'a Request<B>, name: &HeaderName) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn attributes(request: &ResourceRequest, query: &Query) -> ResourceAttributes {
    ResourceAttributes {
        verb: request.verb.to_owned(),
        group: request.group.clone(),
        resource: request.resource.clone(),
        subresource: request.subresource.clone(),
        namespace: request.namespace.clone(),
        name: selected_name(request, query).unwrap_or(&request.name).to_owned(),
    }
}
