//! `a9s delete pg backup`, `a9s delete pg restore` and `a9s delete pg servicebinding`.

use clap::Args;
use serde_json::json;

use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run};
use crate::finding::Finding;
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{Kind, Reference};
use crate::step::Plan;
use crate::steps;
use crate::steps::capability::{self, Capability};
use crate::steps::resource::Deleted;

/// Arguments of commands that delete one custom resource.
#[derive(Debug, Args)]
pub struct DeleteOrder {
    /// Its name
    #[arg(long, value_name = "NAME")]
    name: ObjectName,
    /// Its namespace [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl DeleteOrder {
    pub(super) fn run(self, session: &Session, kind: Kind) -> Result<(), Finding> {
        let directory = session.journal();
        session.block_on(async |cancel| {
            let (access, namespace) = self.cluster.reach(self.namespace.as_ref()).await?;
            let (name, noun) = (&self.name, kind.noun());
            // Who may not know what the stack can do may delete a backup all the same.
            let stays = match kind {
                Kind::Backup => {
                    capability::stack(&access.client().await?).await.is_ok_and(|it| !it.can(Capability::BackupObjects))
                }
                _ => false,
            };
            let mut plan = Plan::new(format!("delete pg {}", kind.argument()));
            match kind {
                Kind::ServiceBinding => plan.add(steps::binding::Deleted::new(access, &namespace, name)),
                _ => plan.add(Deleted::new(access, Reference::new(kind, &namespace, name))),
            };
            let Some(outcome) = session.carry_out(&plan, &self.run, cancel, directory.as_ref()).await? else {
                return Ok(());
            };
            let title = capitalised(noun);
            if outcome.changed() {
                // The Go tool's words, each.
                session.console.success(match kind {
                    Kind::ServiceBinding => "The service binding has been deleted successfully.".to_owned(),
                    _ => format!("{title} {name} successfully deleted from namespace {namespace}."),
                });
                if stays {
                    session.warn("What the backup store has of it stays there: this stack does not remove it.");
                }
            } else {
                session.warn(format!("Can't delete {noun}. {title} {name} doesn't exist in namespace {namespace}!"));
                session.console.info(format!("There is no {noun} {name} in namespace {namespace}."));
            }
            session.console.document(&json!({
                kind.argument(): name, "namespace": namespace, "deleted": outcome.changed(), "steps": outcome.steps,
            }));
            Ok(())
        })
    }
}

fn capitalised(noun: &str) -> String {
    let mut letters = noun.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
