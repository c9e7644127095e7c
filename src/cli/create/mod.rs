//! `a9s create`.

mod backup;
mod binding;
mod cluster;
mod instance;
mod order;
mod restore;
mod stack;
mod stack_arguments;
mod store;

use clap::{Args, Subcommand};

pub(super) use self::stack::Chosen;
pub(super) use self::stack_arguments::WhichStack;
pub(super) use self::store::StoreOwner;
use super::{Session, group};
use crate::finding::Finding;

/// Arguments of `create`.
#[derive(Debug, Args)]
pub struct Create {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Create a Kubernetes cluster
    Cluster(cluster::CreateCluster),
    /// Install the a8s stack on an existing cluster
    Stack(stack::CreateStack),
    /// Create PostgreSQL resources
    Pg(CreatePg),
}

/// Arguments of `create pg`.
#[derive(Debug, Args)]
struct CreatePg {
    #[command(subcommand)]
    what: Option<PgWhat>,
}

#[derive(Debug, Subcommand)]
enum PgWhat {
    /// Create a PostgreSQL instance, or bring one to the given values
    #[command(visible_alias = "pg")]
    Instance(instance::CreateInstance),
    /// Make a backup of an instance, and wait until it is complete
    #[command(visible_alias = "bkp")]
    Backup(backup::CreateBackup),
    /// Restore a backup: the content of an instance becomes what it was
    #[command(visible_alias = "rst")]
    Restore(restore::CreateRestore),
    /// Create a service binding: a login to an instance, with its credentials in a Secret
    #[command(visible_alias = "sb")]
    Servicebinding(binding::CreateBinding),
}

impl Create {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            None => group(
                session,
                &["create"],
                "Please select the data service resource type you would like to instantiate.",
            ),
            Some(What::Cluster(cluster)) => cluster.run(session),
            Some(What::Stack(stack)) => stack.run(session),
            Some(What::Pg(CreatePg { what: Some(what) })) => what.run(session),
            Some(What::Pg(CreatePg { what: None })) => {
                group(session, &["create", "pg"], "Please select a PostgreSQL resource such as (service) instance.")
            }
        }
    }
}

impl PgWhat {
    fn run(self, session: &Session) -> Result<(), Finding> {
        match self {
            Self::Instance(instance) => instance.run(session),
            Self::Backup(backup) => backup.run(session),
            Self::Restore(restore) => restore.run(session),
            Self::Servicebinding(binding) => binding.run(session),
        }
    }
}
