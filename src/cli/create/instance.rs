//! `a9s create pg instance`: a manifest, the object, and the wait until it is ready.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run, namespace_of_context};
use crate::cli::console::NOTHING_CHANGED;
use crate::finding::{Finding, Id};
use crate::kubernetes::Access;
use crate::manifest::instance::{Instance, Size};
use crate::manifest::names::{self, Namespace, ObjectName};
use crate::manifest::resource::ApiVersion;
use crate::step::{Event, Plan, Reporter};
use crate::steps;
use crate::steps::look::majors;

/// What the released operator has when nobody can be asked.
const FALLBACK_MAJOR: u16 = 14;

/// Arguments of `create pg instance`.
#[derive(Debug, Args)]
pub struct CreateInstance {
    /// Name of the instance
    #[arg(long, value_name = "NAME", default_value = "example-pg", value_parser = names::new)]
    name: ObjectName,
    /// Namespace of the instance [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    /// Version of the API
    #[arg(long, value_name = "VERSION", default_value = "v1beta3")]
    api_version: ApiVersion,
    /// Number of members
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    replicas: u16,
    /// Size of each member's volume
    #[arg(long, value_name = "SIZE", default_value = "1Gi")]
    volume_size: Size,
    /// PostgreSQL major version [default: the newest that the builtin stack has, else 14]
    #[arg(long, value_name = "MAJOR")]
    service_version: Option<u16>,
    /// Refuse a PostgreSQL major that the cluster does not have, instead of taking the nearest newer one
    #[arg(long)]
    strict_version: bool,
    /// CPU each member requests
    #[arg(long, value_name = "CPU", default_value = "100m")]
    requests_cpu: Size,
    /// Memory each member may use
    #[arg(long, value_name = "SIZE", default_value = "100Mi")]
    limits_memory: Size,
    /// Only write the manifest
    #[arg(long)]
    no_apply: bool,
    /// Take over fields that somebody else has set
    #[arg(long)]
    force_conflicts: bool,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl CreateInstance {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let directory = session.working_directory()?;
        session.block_on(async |cancel| {
            let access = self.cluster.access();
            let instance = self.instance(session, &access).await?;
            let path = instance.resource().file(&directory.user_manifests());
            session.console.heading("Creating a a8s Postgres Service Instance...");
            let plan = self.plan(&access, &instance, path.clone());
            let outcome = session.carry_out(&plan, &self.run, cancel, Some(&directory)).await?;
            if let Some(outcome) = outcome {
                if !self.no_apply {
                    let client = access.client().await?;
                    // The instance runs: that nothing more can be said of it is no failure.
                    let remarks = steps::instance::remarks(&client, &instance.namespace, &instance.name).await;
                    for remark in remarks.unwrap_or_default() {
                        session.warn(remark);
                    }
                }
                self.answer(session, &instance, &path, outcome.changed())?;
                session.console.document(&json!({
                    "instance": instance.name, "namespace": instance.namespace, "manifest": path,
                    "applied": !self.no_apply, "ready": !self.no_apply, "changed": outcome.changed(), "steps": outcome.steps,
                }));
            }
            Ok(())
        })
    }

    /// The instance that is wanted. What was not said is asked of the cluster, unless it is not to be used at all.
    async fn instance(&self, session: &Session, access: &Access) -> Result<Instance, Finding> {
        let connection = match access.connection().await {
            Ok(connection) => {
                let text = format!("The context is {} ({})", connection.context, connection.server);
                session.progress.event(&Event::Note(&text));
                Some(connection)
            }
            Err(_) if self.no_apply => None,
            Err(finding) => return Err(finding),
        };
        let there = match connection {
            Some(connection) if self.service_version.is_none() || !self.no_apply => majors(&connection.client).await?,
            _ => Vec::new(),
        };
        let version = self.version(session, &there)?;
        let namespace = match (&self.namespace, connection) {
            (Some(namespace), _) => namespace.clone(),
            (None, connection) => {
                namespace_of_context(connection.map_or("default", |connection| &connection.namespace))?
            }
        };
        Ok(Instance {
            name: self.name.clone(),
            namespace,
            api_version: self.api_version.clone(),
            replicas: self.replicas,
            volume_size: self.volume_size.clone(),
            version,
            strict_version: self.strict_version,
            requests_cpu: self.requests_cpu.clone(),
            limits_memory: self.limits_memory.clone(),
        })
    }

    fn version(&self, session: &Session, there: &[u32]) -> Result<u16, Finding> {
        let newest = there.last().and_then(|major| u16::try_from(*major).ok());
        let Some(wanted) = self.service_version else { return Ok(newest.unwrap_or(FALLBACK_MAJOR)) };
        if there.is_empty() {
            // Another stack, or nobody to ask: the operator decides.
            return Ok(wanted);
        }
        let chosen = a8s_operators::postgresql::choose(u32::from(wanted), there.iter().copied(), self.strict_version)
            .map_err(|error| {
            let list: Vec<String> = there.iter().map(u32::to_string).collect();
            Finding::new(Id::NoSuchVersion, error).advise(format!("The cluster has: {}.", list.join(", ")))
        })?;
        if chosen != u32::from(wanted) {
            session.warn(format!("The cluster has no PostgreSQL {wanted}; the instance will run PostgreSQL {chosen}."));
        }
        Ok(wanted)
    }

    /// What the cluster refuses is not written either: manifests tell what was applied.
    fn plan(&self, access: &Arc<Access>, instance: &Instance, path: PathBuf) -> Plan {
        let mut plan = Plan::new("create pg instance");
        let manifest = steps::resource::Manifest { resource: instance.resource(), path };
        if self.no_apply {
            plan.add(manifest);
            return plan;
        }
        let existing = steps::resource::Existing::Updated { force: self.force_conflicts };
        let applied = plan.add(steps::resource::Applied::new(access.clone(), instance.resource(), existing));
        plan.after(&[applied], manifest);
        plan.after(&[applied], steps::instance::Ready { access: access.clone(), resource: instance.resource() });
        plan
    }

    fn answer(&self, session: &Session, instance: &Instance, path: &Path, changed: bool) -> Result<(), Finding> {
        session.tell_manifest(&instance.resource(), path, self.no_apply)?;
        if !self.no_apply {
            let (console, name) = (&session.console, &instance.name);
            console.celebrate(format!("The {name} system appears to be ready. All expected pods are running."));
            if !changed {
                console.info(NOTHING_CHANGED);
            }
        }
        Ok(())
    }
}
