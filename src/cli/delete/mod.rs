//! `a9s delete`.

mod binding;
mod cluster;
mod instance;

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
    /// Delete a service binding: its login ends at once, and what it made stays
    Servicebinding(binding::DeleteBinding),
}

impl Delete {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            None => {
                group(session, &["delete"], "Please select the data service resource type you would like to delete.")
            }
            Some(What::Cluster(cluster)) => return cluster.run(session),
            Some(What::Pg(DeletePg { what: Some(PgWhat::Instance(instance)) })) => return instance.run(session),
            Some(What::Pg(DeletePg { what: Some(PgWhat::Servicebinding(binding)) })) => return binding.run(session),
            Some(What::Pg(DeletePg { what: None })) => {
                group(session, &["delete", "pg"], "Please select a PostgreSQL resource such as (service) instance.");
            }
        }
        Ok(())
    }
}
