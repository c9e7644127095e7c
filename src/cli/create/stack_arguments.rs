//! Arguments of what is installed on a cluster, and where its backups go.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::store::BackupStore;
use crate::finding::{Finding, Id};
use crate::manifest::images::ImageMap;
use crate::manifest::release::{self, Version};
use crate::provider::{ClusterName, Name, Provider};
use crate::steps::install::{Stack, StackName};
use crate::steps::release::CERT_MANAGER;

/// Arguments of what is installed.
#[derive(Debug, Clone, Args)]
pub struct StackArguments {
    /// Which stack.
    #[command(flatten)]
    pub which: WhichStack,
    /// Where its backups go.
    #[command(flatten)]
    pub store: BackupStore,
}

/// Arguments that say which stack it is, and where its parts come from.
#[derive(Debug, Clone, Args)]
pub struct WhichStack {
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
}

impl WhichStack {
    /// Images that are elsewhere.
    ///
    /// # Errors
    /// The file can't be used.
    pub fn images(&self) -> Result<ImageMap, Finding> {
        let with_file = |path| ImageMap::with_file(&crate::caller::path(path));
        self.image_map.as_deref().map_or_else(|| Ok(ImageMap::default()), with_file)
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
                Id::StackUnsupported,
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
