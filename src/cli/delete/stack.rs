//! `a9s delete stack a8s`.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::arguments::Run;
use crate::cli::create::Chosen;
use crate::cli::{Session, group, prompt};
use crate::finding::Finding;
use crate::kubernetes::Access;
use crate::step::Plan;
use crate::steps::{backup_config, stack};

/// Arguments of `delete stack`.
#[derive(Debug, Args)]
pub struct DeleteStack {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Remove what `create stack a8s` or `create cluster a8s` has installed on a cluster. Instances and Backups go with it,
    /// after asking again, with the builtin stack also what the store has of them; what was there before the stack stays, and
    /// the encryption password of backups stays in the working directory
    A8s(DeleteStackA8s),
}

#[derive(Debug, Args)]
struct DeleteStackA8s {
    #[command(flatten)]
    cluster: Chosen,
    #[command(flatten)]
    run: Run,
}

impl DeleteStack {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            Some(What::A8s(arguments)) => arguments.run(session),
            None => group(session, &["delete", "stack"], "Please use a sub-command."),
        }
    }
}

impl DeleteStackA8s {
    fn run(self, session: &Session) -> Result<(), Finding> {
        let (connection, is_installed, namespaces, lost, dependants) = session.look(async {
            let connection = self.cluster.connect().await?;
            let is_installed = stack::is_installed(&connection.client).await?;
            let namespaces = stack::namespaces(&connection.client).await?;
            let lost = stack::lost(&connection.client).await?;
            let dependants = stack::dependants(&connection.client).await?;
            Ok((connection, is_installed, namespaces, lost, dependants))
        })?;
        let context = connection.context.clone();
        if !self.run.dry_run {
            let what = format!("removing the a8s stack from the cluster of the context {context}");
            let namespaces = match namespaces.join(", ") {
                none if none.is_empty() => none,
                names => format!(", namespaces {names}"),
            };
            let question = format!("Go on with {what} ({}{namespaces})?", connection.server);
            prompt::confirm(session, &question, &what)?;
            for (names, what) in [
                (&lost.instances, "instances with their data"),
                (&lost.backups, "backups, also in the store where the stack removes them there"),
                (&dependants, "objects of others, whose kinds go with the stack"),
            ] {
                if !names.is_empty() {
                    let what = format!("deleting {} {what}: {}", names.len(), names.join(", "));
                    prompt::confirm(session, &format!("Go on with {what}?"), &what)?;
                }
            }
        }
        let access = Arc::new(Access::connected(connection));
        let mut plan = Plan::new("delete stack a8s");
        let mut before = Vec::new();
        if is_installed {
            let directory = session.generated_directory(&self.run)?;
            before.push(plan.add(backup_config::Saved::new(access.clone(), directory)));
        }
        plan.after(&before, stack::Removed::new(access, lost.clone()));
        let journal = session.journal();
        let outcome =
            session.block_on(async |cancel| session.carry_out(&plan, &self.run, cancel, journal.as_ref()).await)?;
        if let Some(outcome) = outcome {
            let is_deleted = outcome.step_changed("stack");
            match is_deleted {
                true => session.console.success(format!("The a8s stack has been removed from {context}.")),
                false => session
                    .console
                    .info(format!("There was no a8s stack of ours on {context}. There's nothing to be done.")),
            }
            session.console.document(&json!({
                "context": context, "deleted": is_deleted, "instances": lost.instances, "backups": lost.backups,
                "dependants": dependants, "steps": outcome.steps,
            }));
        }
        Ok(())
    }
}
