//! `a9s create`.

mod binding;
mod cluster;
mod instance;

use clap::{Args, Subcommand};

pub(super) use self::instance::{chosen_namespace, journal_directory};
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
    Instance(instance::CreateInstance),
    /// Create a service binding: a login to an instance, with its credentials in a Secret
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
            Some(What::Cluster(cluster)) => return cluster.run(session),
            Some(What::Pg(CreatePg { what: Some(PgWhat::Instance(instance)) })) => return instance.run(session),
            Some(What::Pg(CreatePg { what: Some(PgWhat::Servicebinding(binding)) })) => return binding.run(session),
            Some(What::Pg(CreatePg { what: None })) => {
                group(session, &["create", "pg"], "Please select a PostgreSQL resource such as (service) instance.")
            }
        }
        Ok(())
    }
}
