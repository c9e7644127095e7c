//! `a9s delete pg servicebinding`.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run};
use crate::cli::create::{chosen_namespace, journal_directory};
use crate::finding::Finding;
use crate::kubernetes::Access;
use crate::manifest::names::{Namespace, ObjectName};
use crate::step::{Event, Plan, Reporter};
use crate::steps;

/// Arguments of `delete pg servicebinding`.
#[derive(Debug, Args)]
pub struct DeleteBinding {
    /// Name of the service binding
    #[arg(long, value_name = "NAME")]
    name: ObjectName,
    /// Namespace of the service binding [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl DeleteBinding {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let directory = journal_directory();
        session.block_on(async |cancel| {
            let access = Arc::new(Access::new(self.cluster.target()));
            let namespace = chosen_namespace(self.namespace.as_ref(), &access).await?;
            let name = &self.name;
            let mut plan = Plan::new("delete pg servicebinding");
            plan.add(steps::binding::Deleted::new(access.clone(), &namespace, name));
            let Some(outcome) = session.carry_out(&plan, &self.run, cancel, directory.as_ref()).await? else {
                return Ok(());
            };
            let console = &session.console;
            if outcome.changed() {
                console.heading("Deleting a a8s Postgres Service Binding...");
                console.success("The service binding has been deleted successfully.");
            } else {
                let warning = format!(
                    "Can't delete service binding. Service binding {name} doesn't exist in namespace {namespace}!"
                );
                session.progress.event(&Event::Warning(&warning));
                console.info(format!("There is no service binding {name} in namespace {namespace}."));
            }
            console.document(&json!({
                "servicebinding": name, "namespace": namespace, "deleted": outcome.changed(), "steps": outcome.steps,
            }));
            Ok(())
        })
    }
}
