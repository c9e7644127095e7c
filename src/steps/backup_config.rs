//! The files that configure backups, in the place where the Go tool has them.
//!
//! The encryption password is made once and kept: whatever was encrypted with it is lost without it. All files are
//! readable by their owner only.

use std::path::PathBuf;

use async_trait::async_trait;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::json;

use crate::config::{WorkingDirectory, write_private};
use crate::finding::{Class, Finding};
use crate::step::{Context, Observation, Step};
use crate::yaml;

/// File with the encryption password, and its key in the Secret.
pub const PASSWORD: &str = "encryption-password";
/// All files, by the names that the kustomization of the released stack wants.
pub const FILES: [&str; 4] = [PASSWORD, "access-key-id", "secret-access-key", "backup-store-config.yaml"];
const DIGITS: &[u8] = b"0123456789";
const SYMBOLS: &[u8] = b"~!@#$%^&*()_+`-={}|[]\\:\"<>?,./";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Where backups go.
#[derive(Clone)]
pub struct Store {
    /// `minio` (any case), `AWS`, or another provider's name, passed through.
    pub provider: String,
    /// Bucket.
    pub bucket: String,
    /// Region.
    pub region: String,
    /// S3 endpoint; empty: the provider's own.
    pub endpoint: String,
    /// Path-style addressing.
    pub path_style: bool,
    /// Access key id.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
}

impl Store {
    /// Whether backups go to the MinIO that the program installs.
    pub fn is_minio(&self) -> bool {
        self.provider.eq_ignore_ascii_case("minio")
    }

    /// Refuses credentials that can't work.
    ///
    /// # Errors
    /// A key is empty.
    pub fn check(&self) -> Result<(), Finding> {
        for (flag, key) in [("backup-store-accesskey", &self.access_key), ("backup-store-secretkey", &self.secret_key)]
        {
            if key.is_empty() {
                return Err(Finding::new("empty-key", Class::Usage, format!("The {flag} can't be empty!")));
            }
        }
        Ok(())
    }

    fn document(&self) -> Result<String, yaml::Error> {
        let minio = self.provider.eq_ignore_ascii_case("minio");
        let mut cloud = json!({
            "provider": if minio { "AWS" } else { self.provider.as_str() },
            "container": self.bucket,
            "region": self.region,
        });
        let endpoint = if minio { "http://minio.minio-dev.svc.cluster.local:9000" } else { self.endpoint.as_str() };
        if !endpoint.is_empty() {
            cloud["endpoint"] = json!(endpoint);
        }
        if minio || self.path_style {
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
            (directory.join("access-key-id"), self.store.access_key.clone()),
            (directory.join("secret-access-key"), self.store.secret_key.clone()),
            (directory.join("backup-store-config.yaml"), document),
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

    fn store(provider: &str) -> Store {
        Store {
            provider: provider.to_owned(),
            bucket: "a8s-backups".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: String::new(),
            path_style: false,
            access_key: "a8s-user".to_owned(),
            secret_key: "a8s-password".to_owned(),
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
            insta::assert_snapshot!("backup_store_config_minio", store("MinIO").document().unwrap());
            insta::assert_snapshot!("backup_store_config_aws", store("AWS").document().unwrap());
        });
    }

    #[tokio::test]
    async fn the_password_is_kept_and_nobody_else_reads_the_files() {
        let home = tempfile::tempdir().unwrap();
        let directory = WorkingDirectory(home.path().join("a9s"));
        let plan = |provider: &str| {
            let mut plan = Plan::new("test");
            plan.add(Written { directory: directory.clone(), store: store(provider) });
            plan
        };
        let runner = Runner::new(Arc::new(Silent), Cancel::new(), Duration::from_secs(5));
        assert!(runner.run(&plan("minio")).await.unwrap().changed());
        let password = fs_err::read(directory.backup_config().join(PASSWORD)).unwrap();
        assert!(!runner.run(&plan("minio")).await.unwrap().changed());
        assert!(runner.run(&plan("AWS")).await.unwrap().changed());
        assert_eq!(fs_err::read(directory.backup_config().join(PASSWORD)).unwrap(), password);
        for entry in fs_err::read_dir(directory.backup_config()).unwrap() {
            assert!(is_private(&entry.unwrap().path()));
        }
    }
}
