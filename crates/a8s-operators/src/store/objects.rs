//! A store and its objects: put, look, list, delete.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt, RetryConfig};

use super::error::About;
use super::http::Connector;
use super::settings::{Config, Credentials};
use super::{Download, Error, Names};

/// How long the store may let us wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long nothing at all may happen within a request.
    pub silence: Duration,
    /// How long a request is tried again after it failed for a reason that may pass. Below five minutes: signatures
    /// grow old.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { silence: Duration::from_secs(30), patience: Duration::from_secs(120) }
    }
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its whole key.
    pub key: String,
    /// In bytes.
    pub size: u64,
}

/// A bucket of a store. Cheap to clone: clones share connections.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<AmazonS3>,
    place: Arc<str>,
    bucket: Arc<str>,
}

impl Store {
    /// A client of the bucket that the configuration names. No request is made.
    ///
    /// # Errors
    /// The machine's certificate authorities can't be read, or the configuration makes no URL.
    pub fn new(config: &Config, credentials: &Credentials, names: Names, limits: Limits) -> Result<Self, Error> {
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(10),
                base: 2.,
            },
            // Time is what limits them.
            max_retries: usize::MAX,
            retry_timeout: limits.patience,
        };
        let tls = config.endpoint.as_ref().is_none_or(|endpoint| !endpoint.starts_with("http://"));
        let mut builder = AmazonS3Builder::new()
            .with_http_connector(Connector { names, silence: limits.silence, tls })
            .with_retry(retry)
            .with_region(&config.region)
            .with_bucket_name(&config.bucket)
            .with_access_key_id(&credentials.access_key)
            .with_secret_access_key(&credentials.secret_key)
            .with_virtual_hosted_style_request(!config.path_style);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_allow_http(true).with_endpoint(endpoint_of(endpoint, config));
        }
        // A bucket with S3 Object Lock takes nothing without it. Others refuse headers that they do not know.
        if config.is_aws() {
            builder = builder.with_checksum_algorithm(Checksum::SHA256);
        }
        let inner = builder.build().map_err(|error| Error::Client(error.to_string()))?;
        Ok(Self { inner: Arc::new(inner), place: config.place().into(), bucket: config.bucket.as_str().into() })
    }

    /// Where it is, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn error(&self, what: &str, key: &str, error: &object_store::Error) -> Error {
        About { endpoint: &self.place, bucket: &self.bucket, key, what }.error(error)
    }

    /// Sends a small object whole.
    ///
    /// # Errors
    /// The key is none, or the store does not take it.
    pub async fn put(&self, key: &str, content: Bytes) -> Result<(), Error> {
        let path = path(key)?;
        self.inner.put(&path, content.into()).await.map_err(|error| self.error("take an object", key, &error))?;
        Ok(())
    }

    /// Starts to fetch an object.
    ///
    /// # Errors
    /// It is not there, or the store does not give it.
    pub async fn download(&self, key: &str) -> Result<Download, Error> {
        let path = path(key)?;
        let result = self.inner.get(&path).await.map_err(|error| self.error("give an object", key, &error))?;
        Ok(Download::new(self.clone(), key.to_owned(), result))
    }

    /// Fetches an object that is known to be small.
    ///
    /// # Errors
    /// As [`Store::download`], and where it has more than `limit` bytes.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Bytes, Error> {
        let mut download = self.download(key).await?;
        let size = download.size();
        if size > limit {
            return Err(Error::TooLarge { endpoint: self.place().to_owned(), key: key.to_owned(), size, limit });
        }
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        while let Some(chunk) = download.next().await? {
            content.extend_from_slice(&chunk);
        }
        Ok(content.into())
    }

    /// The size of an object, `None` where there is none.
    ///
    /// # Errors
    /// The store does not say.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        match self.inner.head(&path(key)?).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("look at an object", key, &error)),
        }
    }

    /// All objects below a prefix, which is taken by whole segments: `a/b` has `a/b/c` below it and not `a/bc`.
    ///
    /// # Errors
    /// The prefix is none, or the store does not say.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        self.listed(Some(&path(prefix.trim_end_matches('/'))?)).await
    }

    /// All objects of the bucket.
    ///
    /// # Errors
    /// The store does not say.
    pub async fn list_all(&self) -> Result<Vec<Entry>, Error> {
        self.listed(None).await
    }

    async fn listed(&self, below: Option<&Path>) -> Result<Vec<Entry>, Error> {
        let entries = self.inner.list(below).map_ok(|meta| Entry { key: meta.location.into(), size: meta.size });
        let prefix = below.map_or("", |path| path.as_ref());
        entries.try_collect().await.map_err(|error| self.error("list objects", prefix, &error))
    }

    /// Deletes an object. One that is not there is fine.
    ///
    /// # Errors
    /// The store does not do it.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        match self.inner.delete(&path(key)?).await {
            Ok(()) => Ok(()),
            Err(error) => match self.error("delete an object", key, &error) {
                Error::NoSuchObject { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Deletes all objects below a prefix and says how many there were. It may be run again after it was cut off.
    ///
    /// # Errors
    /// The prefix is none, or the store does not do it.
    pub async fn delete_below(&self, prefix: &str) -> Result<u64, Error> {
        let path = path(prefix.trim_end_matches('/'))?;
        let found = self.inner.list(Some(&path)).map_ok(|meta| meta.location).boxed();
        let mut deleted = self.inner.delete_stream(found);
        let mut count = 0;
        while let Some(result) = deleted.next().await {
            match result.map_err(|error| self.error("delete objects", prefix, &error)) {
                Ok(_) => count += 1,
                // Somebody else was quicker.
                Err(Error::NoSuchObject { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }
}

/// Where buckets are part of the host's name, the library wants to be told that name.
fn endpoint_of(endpoint: &str, config: &Config) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((scheme, host)) if !config.path_style => format!("{scheme}://{}.{host}", config.bucket),
        _ => endpoint.to_owned(),
    }
}

/// A key of ours: segments between slashes, none of them empty, `.` or `..`.
fn path(key: &str) -> Result<Path, Error> {
    let wrong = |why: String| Error::Key { key: key.to_owned(), why };
    let path = Path::parse(key).map_err(|error| wrong(error.to_string()))?;
    // An empty prefix would be the whole bucket; and nobody should find an object under another key than they gave.
    match path.as_ref() == key && !key.is_empty() {
        true => Ok(path),
        false => Err(wrong("it is empty, or begins or ends with a slash".to_owned())),
    }
}
