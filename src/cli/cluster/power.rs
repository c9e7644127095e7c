//! `a9s cluster start` and `a9s cluster stop`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::arguments::{ProviderChoice, Run};
use crate::cli::prompt;
use crate::finding::Finding;
use crate::kubernetes::kubeconfig;
use crate::provider::{ClusterName, Options, Provider};
use crate::step::Plan;
use crate::steps;
use crate::steps::cluster::Wanted;

/// Arguments of `cluster start`.
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    power: Power,
    /// Keep the context in this kubeconfig file up to date instead of the first of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Arguments of `cluster stop`, which `cluster start` has too.
#[derive(Debug, Args)]
pub struct Power {
    #[command(flatten)]
    provider: ProviderChoice,
    /// Name of the cluster
    #[arg(short, long, value_name = "NAME", default_value = "a8s")]
    cluster_name: ClusterName,
    #[command(flatten)]
    run: Run,
}

impl Start {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let named = self.kubeconfig.map(|path| crate::caller::path(&path));
        let kubeconfig = named.or_else(|| kubeconfig::paths().into_iter().next());
        self.power.bring_to(session, Wanted::Started, "started", kubeconfig)
    }
}

impl Power {
    pub(super) fn stop(self, session: &Session) -> Result<(), Finding> {
        self.bring_to(session, Wanted::Stopped, "stopped", None)
    }

    fn bring_to(
        self,
        session: &Session,
        wanted: Wanted,
        done: &str,
        kubeconfig: Option<PathBuf>,
    ) -> Result<(), Finding> {
        let provider = session.provider(&self.provider, Options::default())?;
        let name = self.cluster_name;
        if wanted == Wanted::Stopped && !self.run.dry_run && !session.look(provider.made(&name))? {
            let what = format!("stopping the {} cluster {name}, which a9s did not make", provider.name());
            prompt::confirm(session, &format!("Go on with {what}?"), &what)?;
        }
        let plan = plan(&provider, &name, wanted, kubeconfig);
        let journal = session.journal();
        let outcome =
            session.block_on(async |cancel| session.carry_out(&plan, &self.run, cancel, journal.as_ref()).await)?;
        if let Some(outcome) = outcome {
            let changed = outcome.step_changed("cluster");
            session.console.success(match changed {
                true => format!("The Kubernetes Cluster {name} has been {done}."),
                false => format!("The Kubernetes Cluster {name} was {done} already."),
            });
            session.console.document(&json!({
                "provider": provider.name(), "cluster": name, "state": if wanted == Wanted::Started { "running" } else { "stopped" },
                "changed": changed, "steps": outcome.steps,
            }));
        }
        Ok(())
    }
}

/// The plan that brings a cluster there, and its context in a kubeconfig up to date: it may have another address than before.
fn plan(provider: &Arc<dyn Provider>, name: &ClusterName, wanted: Wanted, kubeconfig: Option<PathBuf>) -> Plan {
    let mut plan = Plan::new(format!("cluster {}", if wanted == Wanted::Started { "start" } else { "stop" }));
    let brought = plan.add(steps::cluster::Cluster { provider: provider.clone(), name: name.clone(), wanted });
    if let Some(path) = kubeconfig {
        plan.after(
            &[brought],
            steps::kubeconfig::Written {
                path,
                context: provider.context(name),
                source: provider.kubeconfig(name),
                introduced: provider.introduced(name),
                is_new: false,
            },
        );
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Name, of_name};

    #[test]
    fn the_plans_are_as_reviewed() {
        let provider = of_name(Name::Kind, Options::default()).unwrap();
        let described = |wanted, kubeconfig| plan(&provider, &"a8s".parse().unwrap(), wanted, kubeconfig).describe();
        insta::with_settings!({snapshot_path => "../../../snapshots/plans", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("cluster_start", described(Wanted::Started, Some("/home/me/.kube/config".into())));
            insta::assert_snapshot!("cluster_stop", described(Wanted::Stopped, None));
        });
    }
}
