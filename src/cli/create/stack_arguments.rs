//! Arguments of what is installed on a cluster, and where its backups go.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};

use super::store::BackupStore;
use crate::cli::Session;
use crate::finding::{Finding, Id};
use crate::manifest::images;
use crate::manifest::release::Version;
use crate::provider::{ClusterName, Name, Provider};
use crate::steps::install::{Stack, StackName};
use crate::steps::stack::supply::{Choice, Supply};

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
    /// [default: as it is on the cluster, else v1.3.0]
    #[arg(long, value_name = "VERSION", value_hint = ValueHint::AnyPath)]
    pub deployment_version: Option<Version>,
    /// Version of cert-manager, or a file with its manifests; only the upstream stack needs it
    /// [default: as it is on the cluster, else v1.12.0]
    #[arg(long, value_name = "VERSION", value_hint = ValueHint::AnyPath)]
    pub cert_manager: Option<String>,
    /// YAML file that says which images are elsewhere: old name to new name; {} says none are
    /// [default: as it is on the cluster]
    #[arg(long, value_name = "FILE")]
    pub image_map: Option<PathBuf>,
}

impl WhichStack {
    /// What the stack is made of on a cluster of this provider, as far as the flags say.
    ///
    /// # Errors
    /// The image map can't be used.
    pub fn supply(&self, provider: Option<Name>) -> Result<Arc<Choice>, Finding> {
        let name = self.name(provider);
        let rows = |path| images::rows(&crate::caller::path(path));
        let images = self.image_map.as_deref().map(rows).transpose()?;
        let wish = match name {
            StackName::Builtin => Supply { images, ..Supply::default() },
            StackName::Upstream => {
                Supply { version: self.deployment_version.clone(), cert_manager: self.cert_manager.clone(), images }
            }
        };
        Ok(Choice::new(name, wish.with_whole_paths()))
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
            StackName::Upstream => Ok(Stack::Upstream),
        }
    }
}

/// Says what the stack keeps because no flag says otherwise.
pub(super) fn tell_kept(session: &Session, supply: &Choice) {
    for kept in supply.kept() {
        session.console.info(format!("The stack keeps {kept}."));
    }
}
