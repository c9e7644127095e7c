//! `a9s create cluster a8s`: a cluster, its context, the configuration of backups and the stack.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::stack::namespaces;
use super::stack_arguments::{StackArguments, tell_kept};
use crate::cli::arguments::{ProviderChoice, Run};
use crate::cli::{Session, group, prompt};
use crate::finding::{Finding, Id};
use crate::kubernetes::{Access, Target, kubeconfig};
use crate::provider::kind::Configuration;
use crate::provider::{ClusterName, Name, Options, Provider, State};
use crate::step::Plan;
use crate::steps;
use crate::steps::backup_config::{self, Choice, Store};
use crate::steps::cluster::Wanted;
use crate::steps::install::{self, Installation, StackName};
use crate::steps::stack::supply::Supply;

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
    stack: StackArguments,
    /// Go on without checking this machine
    #[arg(long)]
    no_precheck: bool,
    /// Image of the nodes; kind and minikube only
    #[arg(long, value_name = "IMAGE")]
    node_image: Option<String>,
    /// File with a configuration of kind for the cluster: nodes, networking, mounts; kind only
    #[arg(long, value_name = "FILE")]
    kind_config: Option<PathBuf>,
    /// Number of nodes, unless the configuration of kind names them; the embedded cluster has one [default: 3]
    #[arg(long, value_name = "NUMBER")]
    cluster_nr_of_nodes: Option<u16>,
    /// Memory of each node; only minikube can limit it [default: 4gb]
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
            return group(session, &["create", "cluster"], "Please use a sub-command.");
        };
        let kind_config = arguments.kind_config.as_deref().map(crate::caller::path);
        let options = Options {
            kind_config: kind_config.as_deref().map(Configuration::of_file).transpose()?,
            run_as: arguments.run_as.clone(),
            no_precheck: arguments.no_precheck,
            nodes: arguments.cluster_nr_of_nodes,
            memory: arguments.cluster_memory.clone(),
            node_image: arguments.node_image.clone(),
            // Only kind heeds it, and which provider is meant is not known yet.
            stack_images: arguments.stack.which.name(Some(Name::Kind)) == StackName::Builtin,
        };
        let provider = session.provider(&self.provider, options)?;
        arguments.warn_about_unused(session, provider.name());
        let found = || found_store(session, provider.as_ref(), &self.cluster_name);
        let choice = Choice::new(arguments.stack.store.wish(session, found)?);
        let supply = arguments.stack.which.supply(Some(provider.name()))?;
        let stack = arguments.stack.which.stack(Some((provider.clone(), self.cluster_name.clone())))?;
        let is_ours = is_ours(session, provider.as_ref(), &self.cluster_name)?;
        if !is_ours && !arguments.run.dry_run {
            ask_about_foreign(session, provider.as_ref(), &self.cluster_name, &namespaces(stack.name(), &choice))?;
        }
        let state = session.look(async { Ok(provider.state(&self.cluster_name).await) })?;
        if matches!(state, Ok(State::Absent)) {
            // Nothing is on record there.
            supply.settle(Supply::default());
        }
        let directory = session.generated_directory(&arguments.run)?;
        let kubeconfig = match &arguments.kubeconfig {
            Some(path) => crate::caller::path(path),
            None => kubeconfig::paths().into_iter().next().ok_or(crate::config::Error::NoHome)?,
        };
        // What is no kubeconfig is told before anything is made.
        kubeconfig::check(&kubeconfig)?;
        session.console.heading("Let's set up a Kubernetes stack together...");
        let (supplied, stored) = (supply.clone(), choice.clone());
        let installation = Installation { directory: directory.clone(), stack, supply: supplied, choice: stored };
        let plan = plan(&provider, &self.cluster_name, &kubeconfig, is_ours, installation);
        let outcome =
            session.block_on(async |cancel| session.carry_out(&plan, &arguments.run, cancel, Some(&directory)).await);
        tell_kept(session, &supply);
        if let Some(outcome) = outcome? {
            let made = if outcome.step_changed("cluster") { "Created" } else { "Found" };
            let cluster =
                format!("{made} a Kubernetes Cluster using {} named: {}.", provider.name(), self.cluster_name);
            let stack = arguments.stack.which.name(Some(provider.name()));
            for remark in session.look(async { Ok(provider.remarks(&self.cluster_name).await) })? {
                session.console.info(remark);
            }
            summary(session, &cluster, stack, choice.store().is_minio());
            session.console.document(&json!({
                "stack": stack, "provider": provider.name(), "cluster": self.cluster_name,
                "context": provider.context(&self.cluster_name), "kubeconfig": kubeconfig, "workingDir": directory.0,
                "changed": outcome.changed(), "steps": outcome.steps,
            }));
        }
        Ok(())
    }
}

impl CreateClusterA8s {
    /// Flags of other providers are taken, so that one command line works everywhere, and said to have no effect.
    fn warn_about_unused(&self, session: &Session, provider: Name) {
        let stack = self.stack.which.name(Some(provider));
        let (is_embedded, is_upstream) = (provider == Name::Embedded, stack == StackName::Upstream);
        let on_cluster = format!("the {provider} cluster");
        let flags = [
            ("--deployment-version", self.stack.which.deployment_version.is_some(), is_upstream, "the builtin stack"),
            ("--cert-manager", self.stack.which.cert_manager.is_some(), is_upstream, "the builtin stack"),
            (
                "--cluster-nr-of-nodes",
                self.cluster_nr_of_nodes.is_some_and(|nodes| nodes != 1),
                !is_embedded,
                &on_cluster,
            ),
            ("--cluster-memory", self.cluster_memory.is_some(), provider == Name::Minikube, &on_cluster),
            ("--node-image", self.node_image.is_some(), !is_embedded, &on_cluster),
            ("--kind-config", self.kind_config.is_some(), provider == Name::Kind, &on_cluster),
            ("--run-as", self.run_as.is_some(), is_embedded, &on_cluster),
        ];
        for (flag, is_given, has_effect, on) in flags {
            if is_given && !has_effect {
                session.warn(format!("{flag} has no effect on {on}"));
            }
        }
    }
}

/// Whether this program has made the cluster, or will.
fn is_ours(session: &Session, provider: &dyn Provider, cluster: &ClusterName) -> Result<bool, Finding> {
    session.look(async {
        match provider.made(cluster).await {
            // What is not installed is the plan's to tell, and has made nothing.
            Err(finding) if finding.id == Id::NoTool => Ok(true),
            made => made,
        }
    })
}

/// The store that a cluster is configured for. One that does not answer, or is not there yet, tells of none.
fn found_store(session: &Session, provider: &dyn Provider, cluster: &ClusterName) -> Result<Option<Store>, Finding> {
    let target = Target { kubeconfig: Some(provider.kubeconfig(cluster)), context: None };
    session.look(async {
        let Ok(connection) = target.connect().await else { return Ok(None) };
        Ok(backup_config::of_cluster(&connection.client).await.unwrap_or_default())
    })
}

/// A cluster that this program did not make is not touched without asking.
fn ask_about_foreign(
    session: &Session,
    provider: &dyn Provider,
    cluster: &ClusterName,
    namespaces: &str,
) -> Result<(), Finding> {
    let what = format!("installing the a8s stack on the {} cluster {cluster}, which a9s did not make", provider.name());
    let context = provider.context(cluster);
    prompt::confirm(session, &format!("Go on with {what} (context {context}, namespaces {namespaces})?"), &what)
}

/// The plan: the cluster, then the context and the installation; what needs no cluster at the same time.
pub fn plan(
    provider: &Arc<dyn Provider>,
    cluster: &ClusterName,
    kubeconfig: &Path,
    is_ours: bool,
    installation: Installation,
) -> Plan {
    let mut plan = Plan::new("create cluster a8s");
    let possible = steps::cluster::Possible { provider: provider.clone(), name: cluster.clone() };
    let possible = provider.has_nodes().then(|| plan.add(possible));
    let mut prepared = install::prepare(&mut plan, possible.as_slice(), &installation);
    prepared.extend(possible);
    let wanted = Wanted::Created;
    let made = steps::cluster::Cluster { provider: provider.clone(), name: cluster.clone(), wanted };
    let made = plan.after(&prepared, made);
    plan.after(
        &[made],
        steps::kubeconfig::Written {
            path: kubeconfig.to_owned(),
            context: provider.context(cluster),
            source: provider.kubeconfig(cluster),
            introduced: provider.introduced(cluster),
            is_new: is_ours,
        },
    );
    let target = Target { kubeconfig: Some(provider.kubeconfig(cluster)), context: None };
    install::add(&mut plan, &[made], Arc::new(Access::new(target)), installation);
    plan
}

/// What was done, in the words of the Go tool.
pub(super) fn summary(session: &Session, cluster: &str, stack: StackName, minio: bool) {
    let console = &session.console;
    console.heading("Summary");
    console.line(" You've successfully accomplished the followings steps:");
    console.success(cluster);
    if stack == StackName::Upstream {
        console.success("Installed cert-manager on the Kubernetes cluster.");
    }
    if minio {
        console.success("Installed the MinIO object store.");
    }
    console.success("Created a configuration for the backup object store.");
    console.success("Installing the a8s Postgres control plane.");
    console.line("");
    console.celebrate("You are now ready to create a8s Postgres service instances.");
}
