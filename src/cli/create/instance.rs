//! `a9s create pg instance`: a manifest, the object, and the wait until it is ready.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use kube::Client;
use serde_json::{Value, json};

use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run, namespace_of_context};
use crate::cli::console::NOTHING_CHANGED;
use crate::finding::{Finding, Id};
use crate::kubernetes::{self, Access, Error};
use crate::manifest::instance::{Instance, LIMITS_MEMORY, REQUESTS_CPU, Size};
use crate::manifest::names::{self, Namespace, ObjectName};
use crate::manifest::resource::{ApiVersion, Kind, Reference};
use crate::step::{Event, Plan, Reporter};
use crate::steps;
use crate::steps::look::majors;

/// What the released operator has when nobody can be asked.
const FALLBACK_MAJOR: u16 = 14;

/// What a new instance has, where nothing else was said.
const REPLICAS: u16 = 1;
const VOLUME_SIZE: &str = "1Gi";

/// Arguments of `create pg instance`.
#[derive(Debug, Args)]
#[command(after_help = "Of an instance that is there, what is not said stays as it is.")]
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
    /// Number of members [default: 1]
    #[arg(long, value_name = "NUMBER")]
    replicas: Option<u16>,
    /// Size of each member's volume [default: 1Gi]
    #[arg(long, value_name = "SIZE")]
    volume_size: Option<Size>,
    /// PostgreSQL major version [default: the newest that the builtin stack has, else 14]
    #[arg(long, value_name = "MAJOR")]
    service_version: Option<u16>,
    /// Refuse a PostgreSQL major that the cluster does not have, instead of taking the nearest newer one
    #[arg(long)]
    strict_version: bool,
    /// CPU each member requests [default: 100m]
    #[arg(long, value_name = "CPU")]
    requests_cpu: Option<Size>,
    /// Memory each member may use [default: 100Mi]
    #[arg(long, value_name = "SIZE")]
    limits_memory: Option<Size>,
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

/// A number or a quantity, as a person would write it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl CreateInstance {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let access = self.cluster.access();
        let instance = session.block_on(async |_| self.instance(session, &access).await)?;
        let directory = session.generated_directory(&self.run)?;
        session.block_on(async |cancel| {
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
        let namespace = match (&self.namespace, &connection) {
            (Some(namespace), _) => namespace.clone(),
            (None, connection) => {
                let connection = connection.as_ref();
                namespace_of_context(connection.map_or("default", |connection| &connection.namespace))?
            }
        };
        let there = match &connection {
            Some(connection) if !self.no_apply => self.there(&connection.client, &namespace).await?,
            _ => None,
        };
        let known = |path: &str| there.as_ref().and_then(|spec| spec.pointer(path)).map(text);
        let version = match (self.service_version, known("/version").and_then(|version| version.parse().ok())) {
            (None, Some(version)) => version,
            _ => {
                let majors = match &connection {
                    Some(connection) if self.service_version.is_none() || !self.no_apply => {
                        majors(&connection.client).await
                    }
                    _ => Ok(Vec::new()),
                };
                let majors = match majors {
                    // A manifest can be written without a cluster.
                    Err(error) if self.no_apply => {
                        let cause = Finding::from(error).cause;
                        session.warn(format!("{cause}; without --service-version, it is PostgreSQL {FALLBACK_MAJOR}"));
                        Vec::new()
                    }
                    majors => majors?,
                };
                self.version(session, &majors)?
            }
        };
        // What an instance that is there does not have, it is not given either.
        let size = |said: &Option<Size>, path: &str, usual: &str| match (said, &there) {
            (Some(said), _) => Some(said.clone()),
            (None, Some(_)) => known(path).map(Size),
            (None, None) => Some(Size(usual.to_owned())),
        };
        let replicas = known("/replicas").and_then(|replicas| replicas.parse().ok());
        Ok(Instance {
            name: self.name.clone(),
            namespace,
            api_version: self.api_version.clone(),
            replicas: self.replicas.or(replicas).unwrap_or(REPLICAS),
            volume_size: size(&self.volume_size, "/volumeSize", VOLUME_SIZE)
                .unwrap_or_else(|| Size(VOLUME_SIZE.to_owned())),
            version,
            strict_version: self.strict_version,
            requests_cpu: size(&self.requests_cpu, "/resources/requests/cpu", REQUESTS_CPU),
            limits_memory: size(&self.limits_memory, "/resources/limits/memory", LIMITS_MEMORY),
        })
    }

    /// The spec of the instance, if it is there and stays.
    async fn there(&self, client: &Client, namespace: &Namespace) -> Result<Option<Value>, Finding> {
        let reference = Reference {
            kind: Kind::Instance,
            namespace: namespace.clone(),
            name: self.name.clone(),
            api_version: self.api_version.clone(),
        };
        let there = kubernetes::get_opt(&steps::resource::api(client.clone(), &reference), self.name.as_str()).await;
        let there = there.map_err(|error| Error::request(format!("look for the {reference}"), error))?;
        let stays = there.filter(|there| there.metadata.deletion_timestamp.is_none());
        Ok(stays.map(|mut there| there.data["spec"].take()))
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
