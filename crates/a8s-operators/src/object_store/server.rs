//! The process in the store's pod: S3 over plain HTTP, every request signed with version 4.
//!
//! The credentials are read from the mounted Secret at every request, so that new ones need no restart.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpResponse, S3Error, S3ErrorCode, S3Result, s3_error};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::backend::Backend;
use super::protocol::Protocol;
use super::unread::Shared;
use super::{Error as StoreError, manifests};
use crate::agent::signals::told_to_end;
use crate::agent::{environment, health};
use crate::store::{ACCESS_KEY, SECRET_KEY};

/// Port of the store.
pub const PORT: u16 = 9000;
/// Answered without a signature: MinIO's, so that what watches one watches the other.
pub const HEALTH: &str = "/minio/health/live";
/// Time for the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest document of a client: ten thousand parts with their checksums.
const LONGEST_DOCUMENT: usize = 4 << 20;
/// Connections at a time. Each has a few hundred KiB in its hands at most.
const CONNECTIONS: usize = 128;
/// What the HTTP library may read ahead per connection.
const READ_AHEAD: usize = 64 << 10;

/// Why the store's process ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment.
    #[error(transparent)]
    Environment(#[from] environment::Error),
    /// The directory.
    #[error("the directory {} cannot be used", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A bucket of the environment.
    #[error("the bucket {bucket} cannot be made")]
    Bucket {
        /// The bucket.
        bucket: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The port.
    #[error(transparent)]
    Listen(#[from] health::Error),
}

/// What the process is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The pod's address.
    pub address: IpAddr,
    /// Directory of the volume.
    pub data: PathBuf,
    /// Directory with access key id and secret key.
    pub credentials: PathBuf,
    /// Buckets that should be there.
    pub buckets: Vec<String>,
}

impl Environment {
    /// Reads the variables.
    ///
    /// # Errors
    /// One is missing or wrong.
    pub fn read(variables: environment::Variables<'_>) -> Result<Self, environment::Error> {
        let buckets = variables(manifests::BUCKETS).unwrap_or_default();
        Ok(Self {
            address: environment::parsed(variables, "POD_IP", "address")?,
            data: environment::volume(variables, "A9S_MOUNT_DATA", manifests::DATA_PATH),
            credentials: environment::volume(variables, "A9S_MOUNT_CREDENTIALS", manifests::CREDENTIALS_PATH),
            buckets: buckets.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        })
    }
}

/// Runs until it is told to end.
///
/// # Errors
/// The directory or the port can't be had.
pub async fn run(environment: Environment) -> Result<(), Error> {
    let directory = |source| Error::Directory { path: environment.data.clone(), source };
    let backend = Backend::open(&environment.data).map_err(directory)?;
    for bucket in &environment.buckets {
        match backend.create_bucket(bucket) {
            Ok(()) | Err(StoreError::BucketExists) => {}
            Err(source) => return Err(Error::Bucket { bucket: bucket.clone(), source }),
        }
    }
    let listener = health::listen_in_pod(environment.address, PORT).await?;
    tracing::info!("objects are served on {}:{PORT}", environment.address);
    tokio::select! {
        () = serve(listener, service(backend, &environment.credentials)) => {}
        () = told_to_end() => {}
    }
    Ok(())
}

/// The service over a backend, for whoever has the credentials in a directory.
pub fn service(backend: Backend, credentials: &Path) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Protocol::new(backend));
    builder.set_auth(Files(credentials.to_owned()));
    let mut config = S3Config::default();
    config.xml_max_body_size = LONGEST_DOCUMENT;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

struct Files(PathBuf);

#[async_trait::async_trait]
impl S3Auth for Files {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let read = |name: &str| {
            let content = fs_err::read_to_string(self.0.join(name));
            content.map(|content| content.trim_end().to_owned()).map_err(|error| {
                tracing::error!("the credentials cannot be read: {error}");
                s3_error!(ServiceUnavailable, "The store does not know its credentials")
            })
        };
        let (known, secret) = (read(ACCESS_KEY)?, read(SECRET_KEY)?);
        if known != access_key || secret.is_empty() {
            return Err(s3_error!(InvalidAccessKeyId, "The access key id is not known"));
        }
        Ok(SecretKey::from(secret))
    }
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, service: S3Service) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, say.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Answers in two small packets must not wait for each other.
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        let service = hyper::service::service_fn(move |request| answer(service.clone(), request));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(READ_AHEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // A client that went away is no trouble of ours.
            let _ = connection.await;
            drop(place);
        });
    }
}

async fn answer(service: S3Service, request: http::Request<Incoming>) -> Result<HttpResponse, HttpError> {
    if request.uri().path() == HEALTH && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(http::Response::new(Body::empty()));
    }
    let waits = request.headers().contains_key(header::EXPECT);
    let refusal = unwanted(&request);
    let (parts, body) = request.into_parts();
    let body = Shared::new(body);
    let request = http::Request::from_parts(parts, Body::http_body(body.clone()));
    let mut response = match refusal {
        Some(refusal) => refusal.to_http_response().map_err(|error| HttpError::new(Box::new(error)))?,
        None => service.call(request).await?,
    };
    if !body.drain(waits).await {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// What the protocol's library would take and we don't: signatures of version 2, and forms, which it holds in memory.
fn unwanted<B>(request: &http::Request<B>) -> Option<S3Error> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    if text(header::AUTHORIZATION).starts_with("AWS ") || has("AWSAccessKeyId") || has("Signature") {
        let mut refusal =
            S3Error::with_message(S3ErrorCode::InvalidRequest, "Requests are signed with version 4 (AWS4-HMAC-SHA256)");
        refusal.set_status_code(StatusCode::BAD_REQUEST);
        return Some(refusal);
    }
    if text(header::CONTENT_TYPE).to_ascii_lowercase().starts_with("multipart/form-data") {
        return Some(s3_error!(NotImplemented, "Forms are not taken"));
    }
    None
}
