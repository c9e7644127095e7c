//! `a9s create pg servicebinding`: a manifest, the object, and the wait until its login exists.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::chosen_namespace;
use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run};
use crate::finding::{Class, Finding};
use crate::kubernetes::Access;
use crate::manifest::binding::{Binding, secret};
use crate::manifest::instance::ApiVersion;
use crate::manifest::names::{Namespace, ObjectName};
use crate::step::Plan;
use crate::steps;

/// Arguments of `create pg servicebinding`.
#[derive(Debug, Args)]
pub struct CreateBinding {
    /// Name of the service binding
    #[arg(long, value_name = "NAME", default_value = "example-pg-1")]
    name: ObjectName,
    /// The instance
    #[arg(short = 'i', long, value_name = "NAME", default_value = "example-pg")]
    service_instance: ObjectName,
    /// Namespace of the service binding and its Secret [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    /// Namespace of the instance [default: that of the service binding]
    #[arg(long, value_name = "NAMESPACE")]
    instance_namespace: Option<Namespace>,
    /// Version of the API
    #[arg(long, value_name = "VERSION", default_value = "v1beta3")]
    api_version: ApiVersion,
    /// Only write the manifest
    #[arg(long)]
    no_apply: bool,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl CreateBinding {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let directory = session.working_directory()?;
        session.block_on(async |cancel| {
            let access = Arc::new(Access::new(self.cluster.target()));
            let binding = self.binding(&access).await?;
            let path = binding.file(&directory.user_manifests());
            session.console.heading("Creating a a8s Postgres Service Binding...");
            let plan = self.plan(&access, &binding, path.clone());
            let outcome = session.carry_out(&plan, &self.run, cancel, Some(&directory)).await?;
            if let Some(outcome) = outcome {
                self.answer(session, &binding, &path, outcome.changed())?;
                session.console.document(&json!({
                    "servicebinding": binding.name, "namespace": binding.namespace,
                    "instance": binding.instance, "instanceNamespace": binding.instance_namespace,
                    "secret": secret(&binding.name), "manifest": path, "applied": !self.no_apply,
                    "implemented": !self.no_apply, "changed": outcome.changed(), "steps": outcome.steps,
                }));
            }
            Ok(())
        })
    }

    async fn binding(&self, access: &Access) -> Result<Binding, Finding> {
        let namespace = match chosen_namespace(self.namespace.as_ref(), access).await {
            Err(_) if self.no_apply => "default".parse().map_err(|why: String| {
                Finding::new("bad-namespace", Class::Usage, format!("the namespace can't be used: {why}"))
            })?,
            chosen => chosen?,
        };
        Ok(Binding {
            name: self.name.clone(),
            instance: self.service_instance.clone(),
            instance_namespace: self.instance_namespace.clone().unwrap_or_else(|| namespace.clone()),
            namespace,
            api_version: self.api_version.clone(),
        })
    }

    /// What the cluster refuses is not written either: manifests tell what was applied.
    fn plan(&self, access: &Arc<Access>, binding: &Binding, path: PathBuf) -> Plan {
        let mut plan = Plan::new("create pg servicebinding");
        let (access, binding) = (access.clone(), binding.clone());
        let manifest = steps::binding::Manifest { binding: binding.clone(), path };
        if self.no_apply {
            plan.add(manifest);
            return plan;
        }
        let there = plan.add(steps::binding::Instance { access: access.clone(), binding: binding.clone() });
        let applied =
            plan.after(&[there], steps::binding::Applied { access: access.clone(), binding: binding.clone() });
        plan.after(&[applied], manifest);
        plan.after(&[applied], steps::binding::Implemented::new(access, binding));
        plan
    }

    fn answer(&self, session: &Session, binding: &Binding, path: &Path, changed: bool) -> Result<(), Finding> {
        let console = &session.console;
        console.info(format!("The YAML manifest is located at: {}", path.display()));
        if session.global.verbose || self.no_apply {
            console.line(" The YAML manifest contains: ");
            let document = binding.document().map_err(|error| Finding::new("manifest", Class::Failed, error))?;
            console.raw(document.as_bytes());
        }
        if !self.no_apply {
            console.success("The service binding has been created successfully.");
            console.info(format!(
                "The credentials are in the Secret {} of the namespace {}.",
                secret(&binding.name),
                binding.namespace
            ));
            if !changed {
                console.info("Nothing had to be changed.");
            }
        }
        Ok(())
    }
}
