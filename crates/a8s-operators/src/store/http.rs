//! Carries the requests of the S3 library over the HTTP and TLS stack that the Kubernetes client brings.
//!
//! There is no limit to how long a request may take, since a part may be large and a line slow: there is one to how
//! long nothing at all may happen.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector as Connect, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::names::Names;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection without requests is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Nothing happened.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {} s", .0.as_secs())]
struct Silence(Duration);

fn silent(limit: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Silence(limit))
}

type Https = HttpsConnector<HttpConnector<Names>>;

/// Makes clients.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    /// Finds hosts.
    pub names: Names,
    /// How long nothing may happen.
    pub silence: Duration,
    /// Whether the store has TLS. Without it the machine's authorities, some 150 as a rule, are not read for each client.
    pub tls: bool,
}

impl Connect for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let generic = |source| object_store::Error::Generic { store: "S3", source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| generic(Box::new(error)))?;
        let builder = if self.tls {
            builder.with_platform_verifier().map_err(|error| generic(Box::new(error)))?
        } else {
            builder.with_root_certificates(rustls::RootCertStore::empty())
        };
        let mut tcp = HttpConnector::new_with_resolver(self.names.clone());
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(builder.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(https);
        Ok(HttpClient::new(Http { client, silence: self.silence }))
    }
}

#[derive(Debug)]
struct Http {
    client: legacy::Client<Https, Sent>,
    silence: Duration,
}

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (moved, mut seen) = watch::channel(());
        let request = request.map(|body| Sent { body, moved });
        let response = self.client.request(request);
        tokio::pin!(response);
        let mut sending = true;
        let response = loop {
            tokio::select! {
                response = &mut response => break response.map_err(failed)?,
                // The body was dropped when all of it was sent: from then on it is the store's turn.
                more = seen.changed(), if sending => sending = more.is_ok(),
                () = tokio::time::sleep(self.silence) => return Err(silent(self.silence)),
            }
        };
        let limit = self.silence;
        let (parts, body) = response.into_parts();
        let received = Received { body, limit, quiet: Box::pin(tokio::time::sleep(limit)) };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(received)))
    }
}

/// What was sent, told to whoever waits.
#[derive(Debug)]
struct Sent {
    body: HttpRequestBody,
    moved: watch::Sender<()>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.moved.send_replace(());
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body that ends with an error where nothing comes.
struct Received {
    body: Incoming,
    limit: Duration,
    quiet: Pin<Box<Sleep>>,
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                let until = Instant::now() + self.limit;
                self.quiet.as_mut().reset(until);
                Poll::Ready(frame.map(|frame| frame.map_err(|error| broken(&error))))
            }
            Poll::Pending => self.quiet.as_mut().poll(context).map(|()| Some(Err(silent(self.limit)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("the connection broke: {0}")]
struct Broken(String);

/// Whether the request may be made again is the library's to decide, by these kinds.
fn failed(error: legacy::Error) -> HttpError {
    if error.is_connect() {
        return HttpError::new(HttpErrorKind::Connect, error);
    }
    let cause = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<hyper::Error>());
    let kind = cause.map_or(HttpErrorKind::Unknown, kind);
    HttpError::new(kind, error)
}

fn broken(error: &hyper::Error) -> HttpError {
    HttpError::new(kind(error), Broken(error.to_string()))
}

fn kind(error: &hyper::Error) -> HttpErrorKind {
    if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_parse() {
        HttpErrorKind::Decode
    } else {
        // Closed, reset, cut off: whoever may do it twice does.
        HttpErrorKind::Interrupted
    }
}
