//! `a9s create cluster a8s`: a cluster, its context, the configuration of backups and the stack.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Subcommand};
use serde_json::json;

use super::store::BackupStore;
use crate::cli::arguments::{ProviderChoice, Run};
use crate::cli::{Session, group};
use crate::config::WorkingDirectory;
use crate::finding::Finding;
use crate::kubernetes::{Access, Target, kubeconfig};
use crate::provider::{ClusterName, Name, Options, Provider};
use crate::step::{Event, Plan, Reporter};
use crate::steps;
use crate::steps::backup_config::{Provider as StoreProvider, Store};
use crate::steps::cluster::Wanted;

/// Arguments of `create cluster`.
#[derive(Debug, Args)]
pub struct CreateCluster {
    #[command(flatten)]
    provider: ProviderChoice,
    /// Name of the cluster
    #[arg(short, long, global = true, value_name = "NAME", default_value = "a8s")]
    cluster_name: ClusterName,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Create a cluster with the a8s stack, or bring an existing one to that state
    A8s(CreateClusterA8s),
}

/// Arguments of `create cluster a8s`.
#[derive(Debug, Args)]
struct CreateClusterA8s {
    #[command(flatten)]
    store: BackupStore,
    /// Version of the released a8s manifests; the builtin stack has none [default: v1.3.0]
    #[arg(long, value_name = "TAG")]
    deployment_version: Option<String>,
    /// Go on without checking this machine
    #[arg(long)]
    no_precheck: bool,
    /// Number of nodes; the embedded cluster has one [default: 3]
    #[arg(long, value_name = "NUMBER")]
    cluster_nr_of_nodes: Option<u16>,
    /// Memory of the cluster; only minikube can limit it [default: 4gb]
    #[arg(long, value_name = "SIZE")]
    cluster_memory: Option<String>,
    /// User that runs PostgreSQL when root runs a9s [default: postgres]
    #[arg(long, value_name = "USER")]
    run_as: Option<String>,
    /// Write the context to this kubeconfig file instead of the first of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    run: Run,
}

impl CreateCluster {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let Some(What::A8s(arguments)) = self.what else {
            group(session, &["create", "cluster"], "Please use a sub-command.");
            return Ok(());
        };
        let options = Options { run_as: arguments.run_as.clone(), no_precheck: arguments.no_precheck };
        let provider = session.provider(&self.provider, options)?;
        arguments.warn_about_unused(session, provider.name());
        let store = arguments.store.store(session)?;
        // A dry run must not write the configuration.
        let directory = match arguments.run.dry_run {
            true => proposed_directory()?,
            false => session.establish_working_directory()?,
        };
        let kubeconfig = match &arguments.kubeconfig {
            Some(path) => path.clone(),
            None => kubeconfig::paths().into_iter().next().ok_or(crate::config::Error::NoHome)?,
        };
        session.console.heading("Let's set up a Kubernetes stack together...");
        let store_is_ours = store.provider == StoreProvider::Minio;
        let plan = plan(&provider, &self.cluster_name, &kubeconfig, &directory, store);
        let outcome = session
            .block_on(async |cancel| session.carry_out(&plan, &arguments.run, cancel, Some(&directory)).await)?;
        if let Some(outcome) = outcome {
            let created = outcome.step_changed("cluster");
            summary(session, provider.name(), &self.cluster_name, created, store_is_ours);
            session.console.document(&json!({
                "provider": provider.name(), "cluster": self.cluster_name, "context": provider.context(&self.cluster_name),
                "kubeconfig": kubeconfig, "workingDir": directory.0, "changed": outcome.changed(), "steps": outcome.steps,
            }));
        }
        Ok(())
    }
}

fn proposed_directory() -> Result<WorkingDirectory, Finding> {
    let file = crate::config::ConfigFile::of_user()?;
    Ok(WorkingDirectory(file.read()?.working_dir.unwrap_or_else(|| file.proposal())))
}

impl CreateClusterA8s {
    /// Flags of other providers are taken, so that one command line works everywhere, and said to have no effect.
    fn warn_about_unused(&self, session: &Session, provider: Name) {
        let given = [
            ("--deployment-version", self.deployment_version.is_some()),
            ("--cluster-nr-of-nodes", self.cluster_nr_of_nodes.is_some_and(|nodes| nodes != 1)),
            ("--cluster-memory", self.cluster_memory.is_some()),
        ];
        for (flag, _) in given.into_iter().filter(|(_, given)| *given && provider == Name::Embedded) {
            session.progress.event(&Event::Warning(&format!("{flag} has no effect on the {provider} cluster")));
        }
    }
}

/// The plan: the cluster and the files at the same time, then the context and the stack.
pub fn plan(
    provider: &Arc<dyn Provider>,
    cluster: &ClusterName,
    kubeconfig: &Path,
    directory: &WorkingDirectory,
    store: Store,
) -> Plan {
    let mut plan = Plan::new("create cluster a8s");
    let made = plan.add(steps::cluster::Cluster {
        provider: provider.clone(),
        name: cluster.clone(),
        wanted: Wanted::Created,
    });
    plan.add(steps::backup_config::Written { directory: directory.clone(), store: store.clone() });
    plan.after(
        &[made],
        steps::kubeconfig::Written {
            path: kubeconfig.to_owned(),
            context: provider.context(cluster),
            source: provider.kubeconfig(cluster),
            introduced: provider.introduced(cluster),
        },
    );
    let access = Arc::new(Access::new(Target { kubeconfig: Some(provider.kubeconfig(cluster)), context: None }));
    let source = steps::stack::Source { provider: provider.clone(), cluster: cluster.clone(), store: store.builtin() };
    let fresh = Arc::new(AtomicBool::new(false));
    let objects = plan.after(&[made], steps::stack::Objects::new(access.clone(), source.clone(), fresh.clone()));
    let served = plan.after(&[objects], steps::stack::Established { access: access.clone(), source });
    if store.builtin().is_some() {
        plan.after(&[objects], steps::object_store::Ready { access: access.clone() });
    }
    plan.after(
        &[objects],
        steps::backup_settings::Known { access: access.clone(), directory: directory.clone(), store },
    );
    plan.after(&[served], steps::stack::Admission { access, fresh });
    plan
}

fn summary(session: &Session, provider: Name, cluster: &ClusterName, created: bool, store_is_ours: bool) {
    let console = &session.console;
    console.heading("Summary");
    console.line(" You've successfully accomplished the followings steps:");
    let verb = if created { "Created" } else { "Found" };
    console.success(format!("{verb} a Kubernetes Cluster using {provider} named: {cluster}."));
    if store_is_ours {
        console.success("Installed the MinIO object store.");
    }
    console.success("Created a configuration for the backup object store.");
    console.success("Installing the a8s Postgres control plane.");
    console.line("");
    console.celebrate("You are now ready to create a8s Postgres service instances.");
}
