//! `a9s cluster status`.

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::arguments::ProviderChoice;
use crate::finding::Finding;
use crate::provider::{ClusterName, Options, State, no_cluster};

/// Arguments of `cluster status`.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    provider: ProviderChoice,
    /// Name of the cluster
    #[arg(short, long, value_name = "NAME", default_value = "a8s")]
    cluster_name: ClusterName,
}

impl Status {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let provider = session.provider(&self.provider, Options::default())?;
        let name = &self.cluster_name;
        let (state, remarks) =
            session.look(async { Ok((provider.state(name).await?, provider.remarks(name).await)) })?;
        let console = &session.console;
        match &state {
            State::Absent => return Err(no_cluster(provider.name(), name)),
            State::Stopped { why } => console.warning(format!("The Kubernetes Cluster {name} is stopped: {why}.")),
            State::Unready { why } => console.warning(format!("The Kubernetes Cluster {name} is not ready: {why}.")),
            State::Running { server, pid } => {
                console.success(format!("The Kubernetes Cluster {name} is running at {server}."));
                console.line(format!("    Context: {}", provider.context(name)));
                if let Some(pid) = pid {
                    console.line(format!("    Process: {pid}"));
                }
            }
        }
        for remark in &remarks {
            console.info(remark);
        }
        console.document(&json!({
            "provider": provider.name(), "cluster": name, "context": provider.context(name), "status": state, "remarks": remarks,
        }));
        Ok(())
    }
}
