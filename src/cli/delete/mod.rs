//! `a9s delete`.

mod cluster;
mod instance;
mod stack;

use clap::{Args, Subcommand};

use super::{Session, group};
use crate::finding::Finding;

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
    Instance(instance::DeleteInstance),
}

impl Delete {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            None => {
                group(session, &["delete"], "Please select the data service resource type you would like to delete.")
            }
            Some(What::Cluster(cluster)) => return cluster.run(session),
            Some(What::Stack(stack)) => return stack.run(session),
            Some(What::Pg(DeletePg { what: Some(PgWhat::Instance(instance)) })) => return instance.run(session),
            Some(What::Pg(DeletePg { what: None })) => {
                group(session, &["delete", "pg"], "Please select a PostgreSQL resource such as (service) instance.");
            }
        }
        Ok(())
    }
}
