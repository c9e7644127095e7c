//! The files that configure backups, in the place where the Go tool has them.
//!
//! The encryption password is made once and kept: whatever was encrypted with it is lost without it. All files are
//! readable by their owner only.

use std::path::PathBuf;

use a8s_operators::object_store::manifests::ENDPOINT;
use a8s_operators::store::{ACCESS_KEY, CONFIG_KEY, Config, Credentials, PASSWORD, SECRET_KEY};
use async_trait::async_trait;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::json;

use crate::config::{WorkingDirectory, write_private};
use crate::finding::{Class, Finding};
use crate::step::{Context, Observation, Step};
use crate::yaml;

/// All files, by the names that the kustomization of the released stack wants.
pub const FILES: [&str; 4] = [PASSWORD, ACCESS_KEY, SECRET_KEY, CONFIG_KEY];
const DIGITS: &[u8] = b"0123456789";
const SYMBOLS: &[u8] = b"~!@#$%^&*()_+`-={}|[]\\:\"<>?,./";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Whose store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The one that is installed with the stack: MinIO, or the builtin stack's own, which is called the same.
    Minio,
    /// AWS, or any other that speaks S3.
    Aws,
}

/// Where backups go.
#[derive(Clone)]
pub struct Store {
    /// Whose it is.
    pub provider: Provider,
    /// Bucket.
    pub bucket: String,
    /// Region.
    pub region: String,
    /// S3 endpoint; empty: the provider's own.
    pub endpoint: String,
    /// Path-style addressing.
    pub path_style: bool,
    /// Access key id and secret key.
    pub credentials: Credentials,
}

impl Store {
    /// Whether backups go to the store that the program installs.
    pub fn is_minio(&self) -> bool {
        self.provider == Provider::Minio
    }

    /// Refuses what can't work.
    ///
    /// # Errors
    /// A key is empty, or bucket or endpoint are none.
    pub fn check(&self) -> Result<(), Finding> {
        let Credentials { access_key, secret_key } = &self.credentials;
        for (flag, key) in [("backup-store-accesskey", access_key), ("backup-store-secretkey", secret_key)] {
            if key.is_empty() {
                return Err(Finding::new("empty-key", Class::Usage, format!("The {flag} can't be empty!")));
            }
        }
        let wrong = |why: String| Finding::new("backup-store", Class::Usage, why);
        let document = self.document().map_err(|error| wrong(error.to_string()))?;
        Config::parse(&document).map(drop).map_err(|error| wrong(error.reason()))
    }

    fn document(&self) -> Result<String, yaml::Error> {
        // Upstream writes AWS for MinIO too: it is the protocol that is meant.
        let mut cloud = json!({"provider": "AWS", "container": self.bucket, "region": self.region});
        let endpoint = if self.is_minio() { ENDPOINT } else { self.endpoint.as_str() };
        if !endpoint.is_empty() {
            cloud["endpoint"] = json!(endpoint);
        }
        if self.is_minio() || self.path_style {
            cloud["path_style"] = json!(true);
        }
        yaml::write(&json!({"config": {"cloud_configuration": cloud}}))
    }
}

/// The files of a working directory.
pub struct Written {
    /// The working directory.
    pub directory: WorkingDirectory,
    /// Where backups go.
    pub store: Store,
}

impl Written {
    /// Path and content of every file whose content is given.
    fn files(&self) -> Result<Vec<(PathBuf, String)>, Finding> {
        let directory = self.directory.backup_config();
        let document = self.store.document().map_err(|error| Finding::new("manifest", Class::Failed, error))?;
        Ok(vec![
            (directory.join(ACCESS_KEY), self.store.credentials.access_key.clone()),
            (directory.join(SECRET_KEY), self.store.credentials.secret_key.clone()),
            (directory.join(CONFIG_KEY), document),
        ])
    }

    fn password(&self) -> PathBuf {
        self.directory.backup_config().join(PASSWORD)
    }
}

#[async_trait]
impl Step for Written {
    fn id(&self) -> String {
        "backup-config".to_owned()
    }

    fn title(&self) -> String {
        format!("write the configuration of backups to {}", self.directory.backup_config().display())
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if fs_err::metadata(self.password()).map_or(true, |metadata| metadata.len() == 0) {
            return Ok(Observation::unmet("there is no encryption password yet"));
        }
        if !is_private(&self.password()) {
            return Ok(Observation::unmet("others can read the encryption password"));
        }
        for (path, content) in self.files()? {
            if fs_err::read_to_string(&path).ok().as_deref() != Some(&content) || !is_private(&path) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ok(Observation::unmet(format!("{name} is not there, or another")));
            }
        }
        Ok(Observation::satisfied("it is there"))
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        let failed = |error: std::io::Error| {
            Finding::new("working-directory", Class::Failed, format!("cannot write the working directory: {error}"))
                .advise("Make it writable and leave some space on its disk.")
        };
        fs_err::create_dir_all(self.directory.user_manifests()).map_err(failed)?;
        fs_err::create_dir_all(self.directory.backup_config()).map_err(failed)?;
        let kept = fs_err::read(self.password()).unwrap_or_default();
        let password = if kept.is_empty() { password() } else { kept };
        write_private(&self.password(), &password).map_err(failed)?;
        for (path, content) in self.files()? {
            write_private(&path, content.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

fn is_private(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs_err::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0)
}

/// 64 characters: the ten digits, ten symbols and 44 letters, none twice, in random order.
fn password() -> Vec<u8> {
    let mut random = rand::rng();
    let mut characters: Vec<u8> = DIGITS.to_vec();
    characters.extend(SYMBOLS.sample(&mut random, 10));
    characters.extend(LETTERS.sample(&mut random, 44));
    characters.shuffle(&mut random);
    characters
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::step::{Cancel, Plan, Runner, Silent};

    fn store(provider: Provider) -> Store {
        Store {
            provider,
            bucket: "a8s-backups".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: String::new(),
            path_style: false,
            credentials: Credentials { access_key: "a8s-user".to_owned(), secret_key: "a8s-password".to_owned() },
        }
    }

    #[test]
    fn a_password_is_made_as_the_go_tool_makes_it() {
        let password = password();
        assert_eq!(password.len(), 64);
        assert_eq!(password.iter().collect::<BTreeSet<_>>().len(), 64);
        assert_eq!(password.iter().filter(|byte| byte.is_ascii_digit()).count(), 10);
        assert_eq!(password.iter().filter(|byte| byte.is_ascii_alphabetic()).count(), 44);
        assert!(password.iter().filter(|byte| !byte.is_ascii_alphanumeric()).all(|byte| SYMBOLS.contains(byte)));
    }

    #[test]
    fn minio_has_its_endpoint_and_aws_has_none() {
        insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("backup_store_config_minio", store(Provider::Minio).document().unwrap());
            insta::assert_snapshot!("backup_store_config_aws", store(Provider::Aws).document().unwrap());
        });
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_made() {
        store(Provider::Minio).check().unwrap();
        let bucket = Store { bucket: "UPPER".to_owned(), ..store(Provider::Minio) };
        let endpoint = Store { endpoint: "ftp://host".to_owned(), ..store(Provider::Aws) };
        let mut keyless = store(Provider::Aws);
        keyless.credentials.secret_key.clear();
        for (store, word) in [(bucket, "UPPER"), (endpoint, "ftp://host"), (keyless, "backup-store-secretkey")] {
            let finding = store.check().unwrap_err();
            assert!(finding.class == Class::Usage && finding.cause.contains(word), "{finding:?}");
        }
    }

    #[tokio::test]
    async fn the_password_is_kept_and_nobody_else_reads_the_files() {
        let home = tempfile::tempdir().unwrap();
        let directory = WorkingDirectory(home.path().join("a9s"));
        let plan = |provider| {
            let mut plan = Plan::new("test");
            plan.add(Written { directory: directory.clone(), store: store(provider) });
            plan
        };
        let runner = Runner::new(Arc::new(Silent), Cancel::new(), Duration::from_secs(5));
        assert!(runner.run(&plan(Provider::Minio)).await.unwrap().changed());
        let password = fs_err::read(directory.backup_config().join(PASSWORD)).unwrap();
        assert!(!runner.run(&plan(Provider::Minio)).await.unwrap().changed());
        assert!(runner.run(&plan(Provider::Aws)).await.unwrap().changed());
        assert_eq!(fs_err::read(directory.backup_config().join(PASSWORD)).unwrap(), password);
        for entry in fs_err::read_dir(directory.backup_config()).unwrap() {
            assert!(is_private(&entry.unwrap().path()));
        }
    }
}
