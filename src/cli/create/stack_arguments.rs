//! Arguments of what is installed on a cluster, and where its backups go.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::finding::{Class, Finding};
use crate::manifest::images::ImageMap;
use crate::manifest::release::{self, Version};
use crate::provider::{ClusterName, Name, Provider};
use crate::steps::backup_config::Store;
use crate::steps::install::{Stack, StackName};
use crate::steps::release::CERT_MANAGER;

/// Arguments of what is installed.
#[derive(Debug, Clone, Args)]
pub struct StackArguments {
    /// What is installed: upstream (the released a8s) or builtin (the operators of this program) [default: builtin on
    /// the embedded cluster, else upstream]
    #[arg(long, value_name = "STACK")]
    pub stack: Option<StackName>,
    /// Version of the released a8s manifests: a git tag, latest, or a directory; the builtin stack has none
    /// [default: v1.3.0]
    #[arg(long, value_name = "VERSION")]
    pub deployment_version: Option<Version>,
    /// Version of cert-manager, or a file with its manifests; only the upstream stack needs it [default: v1.12.0]
    #[arg(long, value_name = "VERSION")]
    pub cert_manager: Option<String>,
    /// YAML file that says which images are elsewhere: old name to new name
    #[arg(long, value_name = "FILE")]
    pub image_map: Option<PathBuf>,
    /// Where backups go: minio or AWS
    #[arg(long, value_name = "PROVIDER", default_value = "minio", help_heading = "Backups")]
    backup_provider: String,
    /// Bucket of backups
    #[arg(long, value_name = "BUCKET", default_value = "a8s-backups", help_heading = "Backups")]
    backup_bucket: String,
    /// Region of the bucket
    #[arg(long, value_name = "REGION", default_value = "eu-central-1", help_heading = "Backups")]
    backup_region: String,
    /// S3 endpoint; minio has its own
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true, help_heading = "Backups")]
    backup_store_endpoint: String,
    /// Address buckets by path; always so for minio
    #[arg(long, help_heading = "Backups")]
    backup_store_pathstyle: bool,
    /// Access key id of the store
    #[arg(long, value_name = "KEY", default_value = "a8s-user", help_heading = "Backups")]
    backup_store_accesskey: String,
    /// Secret key of the store
    #[arg(
        long,
        value_name = "KEY",
        default_value = "a8s-password",
        env = "A9S_BACKUP_STORE_SECRETKEY",
        hide_env_values = true,
        help_heading = "Backups"
    )]
    backup_store_secretkey: String,
}

impl StackArguments {
    /// Where backups go.
    ///
    /// # Errors
    /// The credentials can't work.
    pub fn store(&self) -> Result<Store, Finding> {
        let store = Store {
            provider: self.backup_provider.clone(),
            bucket: self.backup_bucket.clone(),
            region: self.backup_region.clone(),
            endpoint: self.backup_store_endpoint.clone(),
            path_style: self.backup_store_pathstyle,
            access_key: self.backup_store_accesskey.clone(),
            secret_key: self.backup_store_secretkey.clone(),
        };
        store.check()?;
        Ok(store)
    }

    /// Images that are elsewhere.
    ///
    /// # Errors
    /// The file can't be used.
    pub fn images(&self) -> Result<ImageMap, Finding> {
        self.image_map.as_deref().map_or_else(|| Ok(ImageMap::default()), ImageMap::with_file)
    }

    /// Which stack, on a cluster of this provider.
    pub fn name(&self, provider: Option<Name>) -> StackName {
        let usual = if provider == Some(Name::Embedded) { StackName::Builtin } else { StackName::Upstream };
        self.stack.unwrap_or(usual)
    }

    /// The stack with what it needs to know.
    ///
    /// # Errors
    /// It can't run on such a cluster.
    pub fn stack(&self, provider: Option<(Arc<dyn Provider>, ClusterName)>) -> Result<Stack, Finding> {
        let kind = provider.as_ref().map(|(provider, _)| provider.name());
        match self.name(kind) {
            StackName::Builtin => Ok(Stack::Builtin { provider }),
            StackName::Upstream if kind == Some(Name::Embedded) => Err(Finding::new(
                "stack-unsupported",
                Class::Refused,
                "the embedded cluster runs no container images: the upstream stack can't run on it",
            )
            .advise("Leave out --stack, or take another provider: -p kind")),
            StackName::Upstream => Ok(Stack::Upstream {
                version: self.version(),
                cert_manager: self.cert_manager.clone().unwrap_or_else(|| CERT_MANAGER.to_owned()),
            }),
        }
    }

    /// Which released manifests.
    pub fn version(&self) -> Version {
        self.deployment_version.clone().unwrap_or_else(|| Version::Tag(release::DEFAULT.to_owned()))
    }
}
