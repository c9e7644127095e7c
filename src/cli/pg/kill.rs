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
    /// The member: its number, the name of its pod, or primary
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
        let directory = session.journal();
        let (access, namespace, place) = session.block_on(async |_| {
            let (access, namespace) = self.cluster.reach(named.namespace.as_ref()).await?;
            let connection = access.connection().await?;
            let place = format!("{} ({})", connection.context, connection.server);
            Ok((access, namespace, place))
        })?;
        if !self.run.dry_run {
            // It is done there, also when another context becomes the current one before that is answered.
            let what = format!("killing a member of {namespace}/{instance} on the cluster of the context {place}");
            prompt::confirm(session, &format!("Go on with {what}?"), &what)?;
        }
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
