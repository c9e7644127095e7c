//! `a9s delete cluster a8s`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::arguments::{ProviderChoice, Run};
use crate::cli::{Session, group, prompt};
use crate::config::ConfigFile;
use crate::finding::Finding;
use crate::kubernetes::kubeconfig;
use crate::provider::{ClusterName, Name, Options, State};
use crate::step::Plan;
use crate::steps;
use crate::steps::cluster::Wanted;

/// Arguments of `delete cluster`.
#[derive(Debug, Args)]
pub struct DeleteCluster {
    #[command(flatten)]
    provider: ProviderChoice,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Delete a cluster with everything in it
    A8s(DeleteClusterA8s),
}

/// Arguments of `delete cluster a8s`.
#[derive(Debug, Args)]
struct DeleteClusterA8s {
    /// Name of the cluster
    #[arg(short, long, value_name = "NAME")]
    cluster_name: ClusterName,
    /// Also remove generated files, the encryption password of backups among them, and the configuration
    #[arg(long)]
    all: bool,
    /// Remove the context from this kubeconfig file instead of those of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    run: Run,
}

impl DeleteCluster {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let Some(What::A8s(arguments)) = self.what else {
            return group(
                session,
                &["delete", "cluster"],
                "Use a sub-command to choose the demo resource to be deleted.",
            );
        };
        let provider = session.provider(&self.provider, Options::default())?;
        let name = arguments.cluster_name.clone();
        let config = ConfigFile::of_user()?;
        let directory = config.read()?.working_dir.map(crate::config::WorkingDirectory);
        let there = session.look(async { Ok(!matches!(provider.state(&name).await, Ok(State::Absent))) })?;
        if (there || arguments.all) && !arguments.run.dry_run {
            let ours = !there || session.look(provider.made(&name))?;
            let whose = if ours { "" } else { ", which a9s did not make" };
            let what = match arguments.all {
                true => format!("deleting the cluster {name}{whose}, all generated files and the configuration"),
                false => format!("deleting the cluster {name}{whose}, with everything in it"),
            };
            prompt::confirm(session, &format!("Go on with {what}?"), &what)?;
        }
        let mut plan = Plan::new("delete cluster a8s");
        // The context first: afterwards, nothing tells it from one of the same name that somebody else has made.
        let removed = plan.add(steps::kubeconfig::Removed {
            paths: arguments.kubeconfig.map_or_else(kubeconfig::paths, |path| vec![crate::caller::path(&path)]),
            context: provider.context(&name),
            source: provider.kubeconfig(&name),
            is_unique: provider.name() == Name::Embedded,
        });
        let wanted = Wanted::Deleted;
        let gone = steps::cluster::Cluster { provider: provider.clone(), name: name.clone(), wanted };
        let gone = plan.after(&[removed], gone);
        if arguments.all {
            plan.after(&[gone], steps::working_directory::Removed { config, directory: directory.clone() });
        }
        // With --all, the journal goes too: nothing may write it again.
        let journal = directory.filter(|directory| !arguments.all && directory.0.is_dir());
        let outcome = session
            .block_on(async |cancel| session.carry_out(&plan, &arguments.run, cancel, journal.as_ref()).await)?;
        if let Some(outcome) = outcome {
            if !there {
                let provider = provider.name();
                session
                    .console
                    .info(format!("There was no cluster using {provider} named {name}. There's nothing to be done."));
            }
            session.console.success(format!("The Kubernetes Cluster {name} has been deleted."));
            session.console.document(&json!({
                "provider": provider.name(), "cluster": name, "deleted": outcome.step_changed("cluster"), "all": arguments.all,
                "steps": outcome.steps,
            }));
        }
        Ok(())
    }
}
