//! `a9s delete`.

mod cluster;
mod instance;
mod order;
mod stack;

use clap::{Args, Subcommand};

use super::{Session, group};
use crate::finding::Finding;
use crate::manifest::resource::Kind;

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Delete a Kubernetes cluster
    Cluster(cluster::DeleteCluster),
    /// Remove the a8s stack from a cluster
    Stack(stack::DeleteStack),
    /// Delete PostgreSQL resources
    Pg(DeletePg),
}

/// Arguments of `delete pg`.
#[derive(Debug, Args)]
struct DeletePg {
    #[command(subcommand)]
    what: Option<PgWhat>,
}

#[derive(Debug, Subcommand)]
enum PgWhat {
    /// Delete a PostgreSQL instance with its data
    #[command(visible_alias = "pg")]
    Instance(instance::DeleteInstance),
    /// Delete a backup, and what it has in the store where the stack can do that
    #[command(visible_alias = "bkp")]
    Backup(order::DeleteOrder),
    /// Delete a restore; the instance keeps its content
    #[command(visible_alias = "rst")]
    Restore(order::DeleteOrder),
    /// Delete a service binding: its login ends at once, and what it made stays
    #[command(visible_alias = "sb")]
    Servicebinding(order::DeleteOrder),
}

impl Delete {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            None => {
                group(session, &["delete"], "Please select the data service resource type you would like to delete.")
            }
            Some(What::Cluster(cluster)) => cluster.run(session),
            Some(What::Stack(stack)) => stack.run(session),
            Some(What::Pg(DeletePg { what: Some(what) })) => what.run(session),
            Some(What::Pg(DeletePg { what: None })) => {
                group(session, &["delete", "pg"], "Please select a PostgreSQL resource such as (service) instance.")
            }
        }
    }
}

impl PgWhat {
    fn run(self, session: &Session) -> Result<(), Finding> {
        match self {
            Self::Instance(instance) => instance.run(session),
            Self::Backup(backup) => backup.run(session, Kind::Backup),
            Self::Restore(restore) => restore.run(session, Kind::Restore),
            Self::Servicebinding(binding) => binding.run(session, Kind::ServiceBinding),
        }
    }
}
