//! `a9s pg kill`.

use std::sync::{Arc, Mutex};

use clap::Args;
use serde_json::json;

use super::Named;
use super::meanwhile::{self, Meanwhile};
use crate::cli::arguments::{ClusterTarget, Run};
use crate::cli::{Session, prompt};
use crate::finding::Finding;
use crate::steps::ledger::Rows;
use crate::steps::member::{Killed, Member};

/// Arguments of `pg kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// Which: primary, or the number of a member
    #[arg(long, value_name = "MEMBER")]
    member: Member,
    #[command(flatten)]
    meanwhile: Meanwhile,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl Kill {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        let instance = named.instance(None)?;
        if !self.run.dry_run {
            let question = format!("Do you want to kill a member of the instance {instance}?");
            prompt::confirm(session, &question, "killing a member")?;
        }
        let directory = session.journal();
        let (access, namespace) = session.block_on(async |_| self.cluster.reach(named.namespace.as_ref()).await)?;
        session.see_through(async |cancel| {
            let (member, done) = (self.member.clone(), Mutex::default());
            let rows = || Rows::new(access.clone(), namespace.clone(), instance.clone());
            let step = Killed {
                access: access.clone(),
                instance: instance.clone(),
                namespace: namespace.clone(),
                member,
                done,
            };
            let step = Arc::new(step);
            let watched = self.meanwhile.around("pg kill", step.clone(), rows);
            let carried_out = watched.carry_out(session, &self.run, cancel, directory.as_ref()).await?;
            let Some((outcome, rows)) = carried_out else { return Ok(()) };
            let pod = step.done.lock().ok().and_then(|done| Some(done.as_ref()?.0.clone())).unwrap_or_default();
            session.console.success(format!("Killed the pod {pod}; it was made anew."));
            let ledger = meanwhile::tell(session, rows.as_ref());
            session.console.document(&json!({"pod": pod, "ledger": ledger, "steps": outcome.steps}));
            Ok(())
        })
    }
}
