//! `a9s pg failover`.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::Named;
use super::meanwhile::{self, Meanwhile};
use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run};
use crate::finding::{Finding, Id};
use crate::manifest::names::ObjectName;
use crate::step::Step;
use crate::steps;
use crate::steps::ledger::Rows;
use crate::steps::member::Member;

/// Arguments of `pg failover`.
#[derive(Debug, Args)]
pub struct Failover {
    /// The instance
    #[arg(value_name = "NAME", required_unless_present = "service_instance", conflicts_with = "service_instance")]
    name: Option<ObjectName>,
    /// The next primary: its number, or the name of its pod [default: the one with most data]
    #[arg(long, value_name = "MEMBER")]
    to: Option<Member>,
    #[command(flatten)]
    meanwhile: Meanwhile,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl Failover {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        let name = named.instance(self.name.as_ref())?;
        let is_primary = || Finding::new(Id::Usage, "--to primary: the primary is the member that is to make way");
        let to = self.to.as_ref().map(|to| to.pod(&name).ok_or_else(is_primary)).transpose()?;
        let directory = session.journal();
        let (access, namespace) = session.block_on(async |_| self.cluster.reach(named.namespace.as_ref()).await)?;
        session.see_through(async |cancel| {
            let rows = || Rows::new(access.clone(), namespace.clone(), name.clone());
            let step = steps::failover::Failover::new(access.clone(), name.clone(), namespace.clone(), to);
            let step = Arc::new(step);
            let watched = self.meanwhile.around("pg failover", step.clone(), rows);
            let carried_out = watched.carry_out(session, &self.run, cancel, directory.as_ref()).await?;
            let Some((outcome, rows)) = carried_out else { return Ok(()) };
            let found = outcome.steps.iter().find(|found| found.step == step.id());
            let found = found.map(|found| found.observed.clone()).unwrap_or_default();
            let console = &session.console;
            match step.before() {
                Some(before) => console.success(format!("Failover of {name}: {found} now, {before} was.")),
                None => console.info(format!("Nothing to do: {found}.")),
            }
            let ledger = meanwhile::tell(session, rows.as_ref());
            console.document(&json!({
                "instance": name, "namespace": namespace, "before": step.before(), "changed": outcome.changed(),
                "ledger": ledger, "steps": outcome.steps,
            }));
            Ok(())
        })
    }
}
