//! `a9s pg`.

mod apply;
mod check;
mod failover;
mod kill;
mod logs;
mod status;
mod verify;

use clap::{Args, Subcommand};

use super::{Session, group};
use crate::finding::Finding;
use crate::manifest::names::{Namespace, ObjectName};

/// Arguments of `pg`.
#[derive(Debug, Args)]
pub struct Pg {
    /// Namespace of the instance [default: the context's, else default]
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    /// The instance
    #[arg(short = 'i', long, global = true, value_name = "NAME")]
    service_instance: Option<ObjectName>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run SQL from a file or a statement in an instance
    Apply(apply::Apply),
    /// Tell how an instance is: its members, its last backup, its service bindings
    Status(status::Status),
    /// Print the logs of an instance's members
    Logs(logs::Logs),
    /// Prove that a backup restores: restore it into a scratch instance and read all of it
    Verify(verify::Verify),
    /// Make another member of an instance its primary, without losing anything
    Failover(failover::Failover),
    /// Check what an instance answers to a question in SQL; waits until the answer is right
    Check(check::Check),
    /// Kill a member of an instance, to see what happens: its pod is deleted without grace
    Kill(kill::Kill),
}

impl Pg {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            Some(What::Apply(apply)) => apply.run(session, self.namespace, self.service_instance),
            Some(What::Status(status)) => status.run(session, self.namespace, self.service_instance),
            Some(What::Logs(logs)) => logs.run(session, self.namespace, self.service_instance),
            Some(What::Verify(verify)) => verify.run(session, self.namespace),
            Some(What::Failover(failover)) => failover.run(session, self.namespace),
            Some(What::Check(check)) => check.run(session, self.namespace, self.service_instance),
            Some(What::Kill(kill)) => kill.run(session, self.namespace, self.service_instance),
            None => {
                group(session, &["pg"], "Please select a subcommand from the list below.");
                Ok(())
            }
        }
    }
}
