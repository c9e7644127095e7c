//! `a9s pg failover`.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::Named;
use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run};
use crate::cli::create::{chosen_namespace, journal_directory};
use crate::finding::Finding;
use crate::kubernetes::Access;
use crate::manifest::names::ObjectName;
use crate::step::Plan;
use crate::steps;

/// Arguments of `pg failover`.
#[derive(Debug, Args)]
pub struct Failover {
    /// The instance
    #[arg(value_name = "NAME")]
    name: ObjectName,
    /// Member that becomes the primary, by the name of its pod [default: the one with most data]
    #[arg(long, value_name = "MEMBER")]
    to: Option<ObjectName>,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl Failover {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        let directory = journal_directory();
        session.block_on(async |cancel| {
            let access = Arc::new(Access::new(self.cluster.target()));
            let namespace = chosen_namespace(named.namespace.as_ref(), &access).await?;
            let to = self.to.as_ref().map(ToString::to_string);
            let name = self.name.clone();
            let step = Arc::new(steps::failover::Failover::new(access, name.clone(), namespace.clone(), to));
            let mut plan = Plan::new("pg failover");
            plan.push(&[], step.clone());
            let Some(outcome) = session.carry_out(&plan, &self.run, cancel, directory.as_ref()).await? else {
                return Ok(());
            };
            let found = outcome.steps.last().map(|step| step.observed.clone()).unwrap_or_default();
            let console = &session.console;
            match step.before() {
                Some(before) => console.success(format!("Failover of {name}: {found} now, {before} was.")),
                None => console.info(format!("Nothing to do: {found}.")),
            }
            console.document(&json!({
                "instance": name, "namespace": namespace, "before": step.before(), "changed": outcome.changed(),
                "steps": outcome.steps,
            }));
            Ok(())
        })
    }
}
