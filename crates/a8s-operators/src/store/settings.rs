//! Where the store is and who we are there, as the stack's ConfigMap and Secret have it.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use serde::Deserialize;

use super::{ACCESS_KEY, CONFIG, CONFIG_KEY, CREDENTIALS, PASSWORD, SECRET_KEY};

/// Why there are no usable settings. Each names what to look at.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// An object or a key of it is not there.
    #[error("the configuration of backups is incomplete: {0} is missing")]
    Missing(String),
    /// The document is not what it should be.
    #[error("{CONFIG_KEY} in the ConfigMap {CONFIG} is not usable: {0}")]
    Document(String),
    /// The API.
    #[error("cannot read the configuration of backups")]
    Api(#[from] kube::Error),
}

impl SettingsError {
    /// What is wrong, without the place where it would be found on a cluster: for a document that is not there yet.
    pub fn reason(&self) -> String {
        match self {
            Self::Document(why) => why.clone(),
            other => other.to_string(),
        }
    }
}

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bucket.
    pub bucket: String,
    /// Region; what a store of ones own calls its region does not matter.
    pub region: String,
    /// URL of an S3-compatible store; `None`: AWS.
    pub endpoint: Option<String>,
    /// Whether the bucket is part of the path instead of the host's name.
    pub path_style: bool,
}

#[derive(Deserialize)]
struct Document {
    config: Section,
}

#[derive(Deserialize)]
struct Section {
    cloud_configuration: Cloud,
}

#[derive(Deserialize)]
struct Cloud {
    provider: Option<String>,
    container: String,
    region: Option<String>,
    endpoint: Option<String>,
    #[serde(default)]
    path_style: bool,
}

impl Config {
    /// Reads `backup-store-config.yaml`.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let wrong = |why: String| SettingsError::Document(why);
        let options = serde_saphyr::options! {
            legacy_octal_numbers: true,
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        };
        let document: Document = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| wrong(error.to_string().lines().next().unwrap_or_default().to_owned()))?;
        let cloud = document.config.cloud_configuration;
        let provider = cloud.provider.unwrap_or_default();
        if !["", "aws", "minio"].contains(&provider.to_ascii_lowercase().as_str()) {
            return Err(wrong(format!("the provider {provider} is not known; AWS is, also for S3-compatible stores")));
        }
        if !is_bucket(&cloud.container) {
            return Err(wrong(format!("container {:?} is no name of a bucket", cloud.container)));
        }
        let endpoint = cloud.endpoint.filter(|endpoint| !endpoint.is_empty());
        if let Some(endpoint) = &endpoint
            && !is_endpoint(endpoint)
        {
            return Err(wrong(format!("endpoint {endpoint:?} is no http or https URL of a host")));
        }
        let region = cloud.region.filter(|region| !region.is_empty());
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        Ok(Self { bucket: cloud.container, region, endpoint, path_style: cloud.path_style })
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("AWS, region {}", self.region),
        }
    }

    /// Whether it is AWS itself, which has endpoints of its regions and of networks of its customers, too.
    pub fn is_aws(&self) -> bool {
        let Some(endpoint) = &self.endpoint else { return true };
        let uri = endpoint.parse::<http::Uri>().ok();
        let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default().to_ascii_lowercase();
        [".amazonaws.com", ".amazonaws.com.cn"].iter().any(|domain| host.ends_with(domain))
    }
}

/// What S3 allows as a bucket's name: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>.
fn is_bucket(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| inner(byte) || byte == b'-' || byte == b'.')
        && name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && name.ends_with(|letter: char| letter.is_ascii_alphanumeric())
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && !uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none()
}

/// Who we are at the store. They are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
}

impl Credentials {
    /// Those of the Secret.
    ///
    /// # Errors
    /// One is not there.
    pub fn of(secret: &Secret) -> Result<Self, SettingsError> {
        let text = |key: &str| value(secret, key).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok(Self { access_key: text(ACCESS_KEY)?, secret_key: text(SECRET_KEY)? })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Credentials")
    }
}

/// All that the stack knows of its store.
#[derive(Clone)]
pub struct Settings {
    /// Where it is.
    pub config: Config,
    /// Who we are there.
    pub credentials: Credentials,
    /// What backups are encrypted with. As in the Secret, without line ends at its end.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Settings").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads them from the namespace of the stack.
    ///
    /// # Errors
    /// An object is not there or not usable, or the API does not answer.
    pub async fn read(client: &Client, namespace: &str) -> Result<Self, SettingsError> {
        let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
        let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
        let (map, secret) = futures::try_join!(maps.get_opt(CONFIG), secrets.get_opt(CREDENTIALS))?;
        let map = map.ok_or_else(|| SettingsError::Missing(format!("the ConfigMap {namespace}/{CONFIG}")))?;
        let secret = secret.ok_or_else(|| SettingsError::Missing(format!("the Secret {namespace}/{CREDENTIALS}")))?;
        Self::of(&map, &secret)
    }

    /// From the two objects.
    ///
    /// # Errors
    /// One is not usable.
    pub fn of(map: &ConfigMap, secret: &Secret) -> Result<Self, SettingsError> {
        let document = map.data.as_ref().and_then(|data| data.get(CONFIG_KEY));
        let document =
            document.ok_or_else(|| SettingsError::Missing(format!("{CONFIG_KEY} in the ConfigMap {CONFIG}")))?;
        Ok(Self {
            config: Config::parse(document)?,
            credentials: Credentials::of(secret)?,
            password: value(secret, PASSWORD)?.to_vec(),
        })
    }
}

/// A value of the Secret. Files made with an editor end with a line end, which upstream's own tests cut off too.
fn value<'a>(secret: &'a Secret, key: &str) -> Result<&'a [u8], SettingsError> {
    let found: Option<&ByteString> = secret.data.as_ref().and_then(|data| data.get(key));
    let found = found.map(|value| value.0.trim_ascii_end()).filter(|value| !value.is_empty());
    found.ok_or_else(|| SettingsError::Missing(format!("{key} in the Secret {CREDENTIALS}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(rest: &str) -> String {
        format!("config:\n  cloud_configuration:\n    provider: AWS\n    container: a8s-backups\n{rest}")
    }

    #[test]
    fn the_documents_of_both_stacks_are_read() {
        let minio = "    region: eu-central-1\n    endpoint: http://minio.minio-dev.svc.cluster.local:9000\n    path_style: true\n";
        let minio = Config::parse(&document(minio)).unwrap();
        assert_eq!(minio.endpoint.as_deref(), Some("http://minio.minio-dev.svc.cluster.local:9000"));
        assert!(minio.path_style && minio.bucket == "a8s-backups");
        let aws = Config::parse(&document("    region: eu-central-1\n")).unwrap();
        assert_eq!((aws.endpoint.as_ref(), aws.path_style), (None, false));
        assert_eq!(aws.place(), "AWS, region eu-central-1");
    }

    #[test]
    fn what_is_not_usable_is_said() {
        for (rest, word) in [
            ("    endpoint: ftp://host\n", "ftp://host"),
            ("    endpoint: http://user:password@host\n", "endpoint"),
            ("    endpoint: http://host/path\n", "endpoint"),
            ("    container: twice\n", "container"),
            ("    path_style: perhaps\n", "invalid"),
        ] {
            let error = Config::parse(&document(rest)).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
        let text = document("").replace("a8s-backups", "Up..");
        assert!(Config::parse(&text).unwrap_err().to_string().contains("bucket"));
        let text = document("").replace("AWS", "Azure");
        let why = "the provider Azure is not known; AWS is, also for S3-compatible stores";
        let error = Config::parse(&text).unwrap_err();
        assert_eq!(error.reason(), why);
        assert_eq!(error.to_string(), format!("{CONFIG_KEY} in the ConfigMap {CONFIG} is not usable: {why}"));
    }

    #[test]
    fn names_of_buckets_are_those_of_s3() {
        assert!(["a8s-backups", "abc", "a.b.c"].into_iter().all(is_bucket));
        assert!(
            ["ab", "A-b", "a_b", "-ab", "ab-", "a..b", "10.0.0.1", "..", "a/b"]
                .into_iter()
                .all(|name| !is_bucket(name))
        );
    }

    #[test]
    fn line_ends_of_the_files_are_not_part_of_the_values() {
        let secret: Secret = serde_json::from_value(serde_json::json!({"data": {
            "access-key-id": "a2V5Cg==", "secret-access-key": "c2VjcmV0DQo=", "encryption-password": "cGFzcw==",
        }}))
        .unwrap();
        let map: ConfigMap = serde_json::from_value(serde_json::json!({"data": {CONFIG_KEY: document("")}})).unwrap();
        let settings = Settings::of(&map, &secret).unwrap();
        assert_eq!(settings.credentials.access_key, "key");
        assert_eq!(settings.credentials.secret_key, "secret");
        assert_eq!(settings.password, b"pass");
        let shown = format!("{settings:?} {:?}", settings.credentials);
        assert!(!shown.contains("secret") && !shown.contains("pass"), "{shown}");
    }

    #[test]
    fn a_missing_key_is_named() {
        let map: ConfigMap = serde_json::from_value(serde_json::json!({"data": {CONFIG_KEY: document("")}})).unwrap();
        let error = Settings::of(&map, &Secret::default()).unwrap_err().to_string();
        assert!(error.contains("access-key-id"), "{error}");
    }
}
