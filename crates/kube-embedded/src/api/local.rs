//! The way into the API server for clients of this process: a tower service without sockets.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};

use super::ApiServer;
use super::body::Body;
use crate::user::UserInfo;

/// See the module.
#[derive(Clone)]
pub struct LocalService {
    server: Arc<ApiServer>,
    user: UserInfo,
}

impl LocalService {
    pub fn new(server: Arc<ApiServer>, user: UserInfo) -> Self {
        Self { server, user }
    }
}

impl tower::Service<Request<kube::client::Body>> for LocalService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let (server, user) = (Arc::clone(&self.server), self.user.clone());
        Box::pin(async move { Ok(server.handle(user, request).await) })
    }
}
