//! `a9s create pg backup`: a manifest, the object, and the wait until the backup is complete.

use clap::Args;

use super::order::{Order, OrderArguments};
use crate::cli::Session;
use crate::finding::Finding;
use crate::manifest::names::{self, ObjectName};
use crate::manifest::order::{self, MaxRetries};
use crate::manifest::resource::Kind;
use crate::steps;

/// Arguments of `create pg backup`.
#[derive(Debug, Args)]
pub struct CreateBackup {
    /// Name of the backup
    #[arg(long, value_name = "NAME", default_value = "example-pg-1", value_parser = names::new)]
    name: ObjectName,
    /// The instance
    #[arg(short = 'i', long, value_name = "NAME", default_value = "example-pg")]
    service_instance: ObjectName,
    /// How often a failed attempt is repeated: a number or Infinite [default: the stack's, Infinite]
    #[arg(long, value_name = "NUMBER")]
    max_retries: Option<MaxRetries>,
    #[command(flatten)]
    order: OrderArguments,
}

impl CreateBackup {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let (access, reference) = session.block_on(async |_| self.order.reach(Kind::Backup, &self.name).await)?;
        let directory = session.generated_directory(&self.order.run)?;
        session.block_on(async |cancel| {
            let (name, namespace) = (&self.name, reference.namespace.clone());
            let backup = order::backup(reference, &self.service_instance, self.max_retries.as_ref());
            let path = backup.file(&directory.user_manifests());
            let order = Order {
                arguments: &self.order,
                resource: &backup,
                made: None,
                plan: steps::backup::create(&access, &backup, &self.service_instance, path),
                heading: "Creating an a8s Postgres service instance backup...",
                success: format!("The backup with the name {name} in namespace {namespace} has been successful."),
            };
            order.carry_out(session, cancel, &directory).await
        })
    }
}
