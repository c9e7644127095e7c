//! `a9s create pg restore`: a manifest, the object, and the wait until the backup is restored.

use std::sync::Arc;

use clap::Args;

use super::order::{Order, OrderArguments};
use crate::cli::Session;
use crate::finding::Finding;
use crate::kubernetes::Access;
use crate::manifest::names::{self, ObjectName};
use crate::manifest::order;
use crate::manifest::resource::{Kind, Reference};
use crate::steps::restore::{self, Destination};

/// Arguments of `create pg restore`.
#[derive(Debug, Args)]
pub struct CreateRestore {
    /// Name of the restore
    #[arg(long, value_name = "NAME", default_value = "example-pg-1", value_parser = names::new)]
    name: ObjectName,
    /// The backup
    #[arg(short, long, value_name = "NAME")]
    backup: ObjectName,
    /// The instance whose content is replaced [default: the one the backup was made of]
    #[arg(short = 'i', long, value_name = "NAME")]
    service_instance: Option<ObjectName>,
    /// Restore into this new instance, made like the one the backup was made of
    #[arg(long, value_name = "NAME", conflicts_with = "service_instance", value_parser = names::new)]
    to: Option<ObjectName>,
    #[command(flatten)]
    order: OrderArguments,
}

impl CreateRestore {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let (access, reference, backup, into) = session.block_on(async |_| {
            let (access, reference) = self.order.reach(Kind::Restore, &self.name).await?;
            let backup = Reference::new(Kind::Backup, &reference.namespace, &self.backup);
            let into = self.destination(&access, &reference, &backup).await?;
            Ok((access, reference, backup, into))
        })?;
        let directory = session.generated_directory(&self.order.run)?;
        session.block_on(async |cancel| {
            let (name, namespace) = (&self.name, reference.namespace.clone());
            let instance = match &into {
                Destination::There(name) => name,
                Destination::Made(resource) => &resource.reference.name,
            };
            let wanted = restore::Order { restore: order::restore(reference, &self.backup, instance), backup, into };
            let order = Order {
                arguments: &self.order,
                resource: &wanted.restore,
                made: match &wanted.into {
                    Destination::Made(instance) => Some(instance),
                    Destination::There(_) => None,
                },
                plan: restore::create(&access, &wanted, &directory.user_manifests()),
                heading: "Creating an a8s Postgres Service Instance Backup Restore...",
                success: format!("The restore with the name {name} in namespace {namespace} has been successful."),
            };
            order.carry_out(session, cancel, &directory).await
        })
    }

    /// The instance that is restored into. What was not said is asked of the cluster.
    async fn destination(
        &self,
        access: &Arc<Access>,
        restore: &Reference,
        backup: &Reference,
    ) -> Result<Destination, Finding> {
        if let Some(instance) = &self.service_instance {
            return Ok(Destination::There(instance.clone()));
        }
        let client = access.client().await?;
        let object = restore::backup(&client, backup).await?;
        let source = restore::source(backup, &object)?;
        let Some(to) = &self.to else { return Ok(Destination::There(source)) };
        let source = Reference::new(Kind::Instance, &backup.namespace, &source);
        Ok(Destination::Made(restore::new(&client, &source, to, restore, &object).await?))
    }
}
