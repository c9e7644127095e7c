//! Where backups go: what is wanted of the place, and what becomes of that on a cluster that has one already.

use std::sync::{Arc, OnceLock};

use a8s_operators::object_store::manifests::ENDPOINT;
use a8s_operators::store::{Config, Credentials, SettingsError};
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::json;

use crate::finding::{Finding, Id};
use crate::yaml;

/// How the document of a store begins that is in the place of the stack's own and is of others. It says so to people, and to
/// the next run; operators pass over it.
const OF_OTHERS: &str = "# This store is of others: a9s does not install it.\n";

/// Access key id of the store that the program installs. It is a name: what nobody else may know is the secret key.
pub(super) const ACCESS_KEY_ID: &str = "a8s-user";
/// Length of a secret key that is made, as AWS makes them.
const SECRET_KEY_LENGTH: usize = 40;

/// Whose store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The one that is installed with the stack: MinIO, or the builtin stack's own, which is called the same.
    Minio,
    /// AWS, or any other that speaks S3.
    Aws,
}

/// Where backups go.
#[derive(Clone, PartialEq, Eq)]
pub struct Store {
    /// Whose it is.
    pub owner: Owner,
    /// Bucket.
    pub bucket: String,
    /// Region.
    pub region: String,
    /// S3 endpoint; empty: the owner's own.
    pub endpoint: String,
    /// Path-style addressing.
    pub path_style: bool,
    /// Access key id and secret key.
    pub credentials: Credentials,
}

impl Store {
    /// The store of an owner when nothing is said. The one that is installed gets a secret key that nobody has had before:
    /// whoever knew it could read, replace and remove every backup.
    fn usual(owner: Owner) -> Self {
        let (access_key, secret_key) = match owner {
            Owner::Minio if sabotage::sabotaged!("store-keys-are-known") => {
                (ACCESS_KEY_ID.to_owned(), "a8s-password".to_owned())
            }
            Owner::Minio => (ACCESS_KEY_ID.to_owned(), Alphanumeric.sample_string(&mut rand::rng(), SECRET_KEY_LENGTH)),
            Owner::Aws => (String::new(), String::new()),
        };
        Self::with(owner, Credentials { access_key, secret_key })
    }

    /// The store that is installed when nothing is said but its keys.
    pub(super) fn own(credentials: Credentials) -> Self {
        Self::with(Owner::Minio, credentials)
    }

    fn with(owner: Owner, credentials: Credentials) -> Self {
        Self {
            owner,
            bucket: "a8s-backups".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: String::new(),
            path_style: false,
            credentials,
        }
    }

    /// The store that a cluster or a working directory has, from its document.
    ///
    /// # Errors
    /// The document is none.
    pub(super) fn of(document: &str, credentials: Credentials) -> Result<Self, SettingsError> {
        let config = Config::parse(document)?;
        let is_minio = config.endpoint.as_deref() == Some(ENDPOINT) && !document.starts_with(OF_OTHERS);
        Ok(Self {
            owner: if is_minio { Owner::Minio } else { Owner::Aws },
            bucket: config.bucket,
            region: config.region,
            endpoint: config.endpoint.filter(|_| !is_minio).unwrap_or_default(),
            path_style: config.path_style && !is_minio,
            credentials,
        })
    }

    /// Whether backups go to the store that the program installs.
    pub fn is_minio(&self) -> bool {
        self.owner == Owner::Minio
    }

    /// Refuses what can't work.
    ///
    /// # Errors
    /// A key is empty, or bucket or endpoint are none.
    pub fn check(&self) -> Result<(), Finding> {
        let Credentials { access_key, secret_key } = &self.credentials;
        for (flag, key) in [("backup-store-accesskey", access_key), ("backup-store-secretkey", secret_key)] {
            if key.is_empty() {
                return Err(Finding::new(Id::EmptyKey, format!("The {flag} can't be empty!")));
            }
        }
        let wrong = |why: String| Finding::new(Id::BackupStore, why);
        let document = self.document().map_err(|error| wrong(error.to_string()))?;
        Config::parse(&document).map(drop).map_err(|error| wrong(error.reason()))
    }

    /// Where it is, for people: two stores with the same answer hold the same backups.
    pub(super) fn place(&self) -> String {
        let at = match (self.is_minio(), self.endpoint.as_str()) {
            (true, _) => "the stack's own store",
            (false, "") => "AWS",
            (false, endpoint) => endpoint,
        };
        format!("the bucket {} of {at}", self.bucket)
    }

    /// `backup-store-config.yaml`.
    pub(super) fn document(&self) -> Result<String, yaml::Error> {
        // Upstream writes AWS for MinIO too: it is the protocol that is meant.
        let mut cloud = json!({"provider": "AWS", "container": self.bucket, "region": self.region});
        let endpoint = if self.is_minio() { ENDPOINT } else { self.endpoint.as_str() };
        if !endpoint.is_empty() {
            cloud["endpoint"] = json!(endpoint);
        }
        if self.is_minio() || self.path_style {
            cloud["path_style"] = json!(true);
        }
        let remark = if !self.is_minio() && endpoint == ENDPOINT { OF_OTHERS } else { "" };
        Ok(remark.to_owned() + &yaml::write(&json!({"config": {"cloud_configuration": cloud}}))?)
    }
}

/// What is wanted of the place of backups. What is not said stays as it is found; another owner begins with what is
/// usual for it.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Whose it is to be.
    pub owner: Option<Owner>,
    /// Bucket.
    pub bucket: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// S3 endpoint; empty: the owner's own.
    pub endpoint: Option<String>,
    /// Path-style addressing.
    pub path_style: Option<bool>,
    /// Access key id.
    pub access_key: Option<String>,
    /// Secret key. A wish is never shown with it.
    pub secret_key: Option<Secret>,
}

/// A text that is not shown.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Wish {
    /// Whether the keys of a store that is there are good for the one that is wanted: it is the same.
    pub fn goes_on_with(&self, found: &Store) -> bool {
        self.owner == Some(found.owner) && self.endpoint.as_ref().is_none_or(|endpoint| *endpoint == found.endpoint)
    }

    /// The store, where `found` is there already.
    pub fn over(&self, found: Option<&Store>) -> Store {
        let owner = self.owner.or(found.map(|found| found.owner)).unwrap_or(Owner::Minio);
        let base = found.filter(|found| found.owner == owner).cloned();
        let base = base.unwrap_or_else(|| Store::usual(owner));
        let is_minio = owner == Owner::Minio;
        Store {
            owner,
            bucket: self.bucket.clone().unwrap_or(base.bucket),
            region: self.region.clone().unwrap_or(base.region),
            endpoint: self.endpoint.clone().filter(|_| !is_minio).unwrap_or(base.endpoint),
            path_style: self.path_style.filter(|_| !is_minio).unwrap_or(base.path_style),
            credentials: Credentials {
                access_key: self.access_key.clone().unwrap_or(base.credentials.access_key),
                secret_key: self.secret_key.clone().map_or(base.credentials.secret_key, |secret| secret.0),
            },
        }
    }
}

/// The choice of a run: a wish, and the store as soon as it is known what the cluster has.
pub struct Choice {
    wish: Wish,
    /// The store where nothing is found. It is made once: keys that are made must not differ within a run.
    fresh: Store,
    store: OnceLock<Store>,
}

impl Choice {
    /// The wish alone, until something is found.
    pub fn new(wish: Wish) -> Arc<Self> {
        Arc::new(Self { fresh: wish.over(None), wish, store: OnceLock::new() })
    }

    /// The store is the one that was found, with what is wished otherwise.
    pub fn made(&self, found: Option<&Store>) -> Store {
        let found = found.filter(|_| !sabotage::sabotaged!("store-is-forgotten"));
        let made = || found.map_or_else(|| self.fresh.clone(), |found| self.wish.over(Some(found)));
        self.store.get_or_init(made).clone()
    }

    /// The store; as long as nobody has looked for one, what is wished.
    pub fn store(&self) -> Store {
        self.store.get().unwrap_or(&self.fresh).clone()
    }

    /// The wish.
    pub(super) fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Whether backups may come to go to the store that the program installs.
    pub fn may_be_minio(&self) -> bool {
        self.wish.owner != Some(Owner::Aws)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Class;

    fn aws() -> Store {
        let credentials = Credentials { access_key: "key".to_owned(), secret_key: "secret".to_owned() };
        Store { bucket: "ours".to_owned(), credentials, ..Store::usual(Owner::Aws) }
    }

    #[test]
    fn minio_has_its_endpoint_and_aws_has_none() {
        insta::with_settings!({snapshot_path => "../../../snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("backup_store_config_minio", Store::usual(Owner::Minio).document().unwrap());
            insta::assert_snapshot!("backup_store_config_aws", Store::usual(Owner::Aws).document().unwrap());
        });
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_made() {
        Store::usual(Owner::Minio).check().unwrap();
        let bucket = Store { bucket: "UPPER".to_owned(), ..Store::usual(Owner::Minio) };
        let endpoint = Store { endpoint: "ftp://host".to_owned(), ..aws() };
        let mut keyless = aws();
        keyless.credentials.secret_key.clear();
        for (store, word) in [(bucket, "UPPER"), (endpoint, "ftp://host"), (keyless, "backup-store-secretkey")] {
            let finding = store.check().unwrap_err();
            assert!(finding.class() == Class::Usage && finding.cause.contains(word), "{finding:?}");
        }
    }

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        assert!(Wish::default().over(Some(&aws())) == aws());
        let moved = Wish { bucket: Some("other".to_owned()), ..Wish::default() }.over(Some(&aws()));
        assert!(moved == Store { bucket: "other".to_owned(), ..aws() });
    }

    #[test]
    fn every_new_store_has_a_secret_key_of_its_own() {
        let keys = || Choice::new(Wish::default()).store().credentials;
        let (one, other) = (keys(), keys());
        assert_ne!(one.secret_key, other.secret_key);
        for Credentials { access_key, secret_key } in [one, other] {
            assert_eq!(access_key, ACCESS_KEY_ID);
            assert!(secret_key.len() == SECRET_KEY_LENGTH && secret_key.chars().all(|c| c.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn within_a_run_a_new_store_has_one_secret_key() {
        let choice = Choice::new(Wish::default());
        let before = choice.store();
        assert!(choice.made(None) == before && choice.store() == before);
    }

    #[test]
    fn keys_that_are_there_or_are_said_are_not_made() {
        let found = Store::own(Credentials { access_key: "me".to_owned(), secret_key: "mine".to_owned() });
        assert!(Choice::new(Wish::default()).made(Some(&found)) == found);
        let said = Wish { secret_key: Some(Secret("said".to_owned())), ..Wish::default() };
        assert_eq!(Choice::new(said).made(None).credentials.secret_key, "said");
        let nothing = Wish { secret_key: Some(Secret(String::new())), ..Wish::default() };
        assert!(nothing.over(None).check().is_err());
    }

    #[test]
    fn another_owner_gets_nothing_of_the_one_before() {
        let back = Wish { owner: Some(Owner::Minio), ..Wish::default() }.over(Some(&aws()));
        assert!(back == Store::own(back.credentials.clone()));
        assert_eq!(back.credentials.access_key, ACCESS_KEY_ID);
        assert_ne!(back.credentials.secret_key, aws().credentials.secret_key);
        let away = Wish { owner: Some(Owner::Aws), ..Wish::default() };
        let away = away.over(Some(&Store::usual(Owner::Minio)));
        assert!(away.credentials.secret_key.is_empty() && away.check().is_err());
    }

    #[test]
    fn keys_are_kept_for_the_same_owner_and_address() {
        let wish =
            |owner, endpoint: Option<&str>| Wish { owner, endpoint: endpoint.map(str::to_owned), ..Wish::default() };
        let found = Store { endpoint: "https://s3".to_owned(), ..aws() };
        for (owner, endpoint, is_kept) in [
            (Some(Owner::Aws), None, true),
            (Some(Owner::Aws), Some("https://s3"), true),
            (Some(Owner::Aws), Some("https://other"), false),
            (Some(Owner::Minio), None, false),
            (None, None, false),
        ] {
            assert_eq!(wish(owner, endpoint).goes_on_with(&found), is_kept, "{owner:?} {endpoint:?}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_found() {
        let elsewhere = |endpoint: &str| Store { endpoint: endpoint.to_owned(), ..aws() };
        for store in [aws(), Store::usual(Owner::Minio), elsewhere("https://s3"), elsewhere(ENDPOINT)] {
            let found = Store::of(&store.document().unwrap(), store.credentials.clone()).unwrap();
            assert!(found == store && Wish::default().over(Some(&found)) == store);
        }
    }

    #[test]
    fn a_secret_key_is_not_shown() {
        let wish = Wish { secret_key: Some(Secret("hidden".to_owned())), ..Wish::default() };
        assert!(!format!("{wish:?}").contains("hidden"));
    }
}
