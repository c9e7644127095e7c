//! `a9s create pg servicebinding`: a manifest, the object, and the wait until its login exists.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::order::OrderArguments;
use crate::cli::Session;
use crate::cli::console::NOTHING_CHANGED;
use crate::finding::Finding;
use crate::manifest::names::{self, Namespace, ObjectName};
use crate::manifest::order;
use crate::manifest::resource::{Kind, Reference, Resource};
use crate::step::Plan;
use crate::steps;
use crate::steps::binding::secret;
use crate::steps::resource::Manifest;

/// Arguments of `create pg servicebinding`.
#[derive(Debug, Args)]
pub struct CreateBinding {
    /// Name of the service binding
    #[arg(long, value_name = "NAME", default_value = "example-pg-1", value_parser = names::new)]
    name: ObjectName,
    /// The instance
    #[arg(short = 'i', long, value_name = "NAME", default_value = "example-pg")]
    service_instance: ObjectName,
    /// Namespace of the instance [default: that of the service binding]
    #[arg(long, value_name = "NAMESPACE")]
    instance_namespace: Option<Namespace>,
    #[command(flatten)]
    order: OrderArguments,
}

impl CreateBinding {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let (access, reference) =
            session.block_on(async |_| self.order.reach(Kind::ServiceBinding, &self.name).await)?;
        let directory = session.generated_directory(&self.order.run)?;
        session.block_on(async |cancel| {
            let instance = Reference {
                kind: Kind::Instance,
                namespace: self.instance_namespace.clone().unwrap_or_else(|| reference.namespace.clone()),
                name: self.service_instance.clone(),
                api_version: reference.api_version.clone(),
            };
            let binding = order::binding(reference, &instance);
            let path = binding.file(&directory.user_manifests());
            session.console.heading("Creating a a8s Postgres Service Binding...");
            let plan = if self.order.no_apply {
                let mut plan = Plan::new("create pg servicebinding");
                plan.add(Manifest { resource: binding.clone(), path: path.clone() });
                plan
            } else {
                steps::binding::create(&access, &binding, instance.clone(), path.clone())
            };
            let outcome = session.carry_out(&plan, &self.order.run, cancel, Some(&directory)).await?;
            if let Some(outcome) = outcome {
                self.answer(session, &binding, &path, outcome.changed())?;
                session.console.document(&json!({
                    "servicebinding": self.name, "namespace": binding.reference.namespace,
                    "instance": instance.name, "instanceNamespace": instance.namespace,
                    "secret": secret(&self.name), "manifest": path, "applied": !self.order.no_apply,
                    "implemented": !self.order.no_apply, "changed": outcome.changed(), "steps": outcome.steps,
                }));
            }
            Ok(())
        })
    }

    fn answer(&self, session: &Session, binding: &Resource, path: &Path, changed: bool) -> Result<(), Finding> {
        session.tell_manifest(binding, path, self.order.no_apply)?;
        if !self.order.no_apply {
            let console = &session.console;
            console.success("The service binding has been created successfully.");
            console.info(format!(
                "The credentials are in the Secret {} of the namespace {}.",
                secret(&self.name),
                binding.reference.namespace
            ));
            if !changed {
                console.info(NOTHING_CHANGED);
            }
        }
        Ok(())
    }
}
