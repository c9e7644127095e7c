//! `a9s delete pg instance`.

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run};
use crate::finding::Finding;
use crate::manifest::names::{Namespace, ObjectName};
use crate::step::Plan;
use crate::steps;

/// Arguments of `delete pg instance`.
#[derive(Debug, Args)]
pub struct DeleteInstance {
    /// Name of the instance
    #[arg(long, value_name = "NAME")]
    name: ObjectName,
    /// Namespace of the instance [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl DeleteInstance {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let directory = session.journal();
        session.block_on(async |cancel| {
            let (access, namespace) = self.cluster.reach(self.namespace.as_ref()).await?;
            let name = &self.name;
            let mut plan = Plan::new("delete pg instance");
            plan.add(steps::instance::Deleted::new(access, &namespace, name));
            let Some(outcome) = session.carry_out(&plan, &self.run, cancel, directory.as_ref()).await? else {
                return Ok(());
            };
            let console = &session.console;
            if outcome.changed() {
                console.heading("Deleting a a8s Postgres Service Instance...");
                console.success(format!("Service instance {name} successfully deleted from namespace {namespace}."));
            } else {
                session.warn(format!(
                    "Can't delete service instance. Service instance {name} doesn't exist in namespace {namespace}!"
                ));
                console.info(format!("There is no service instance {name} in namespace {namespace}."));
            }
            console.document(&json!({
                "instance": name, "namespace": namespace, "deleted": outcome.changed(), "steps": outcome.steps,
            }));
            Ok(())
        })
    }
}
