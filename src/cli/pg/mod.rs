//! `a9s pg`.

mod apply;
mod check;
mod connect;
mod failover;
mod kill;
mod logs;
mod meanwhile;
mod psql;
mod status;
mod verify;

use clap::{Args, Subcommand};

use super::{Session, group};
use crate::finding::{Finding, Id};
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
    /// Reach an instance from this machine, until interrupted
    Connect(connect::Connect),
    /// Run psql in an instance
    Psql(psql::Psql),
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

/// What the arguments of `pg` itself name.
struct Named {
    namespace: Option<Namespace>,
    instance: Option<ObjectName>,
}

impl Named {
    /// The instance: named by the command's own argument, or by `--service-instance`.
    fn instance(&self, own: Option<&ObjectName>) -> Result<ObjectName, Finding> {
        own.or(self.instance.as_ref())
            .cloned()
            .ok_or_else(|| Finding::new(Id::NoInstanceNamed, "no instance is named: use --service-instance (-i)"))
    }
}

impl Pg {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let named = Named { namespace: self.namespace, instance: self.service_instance };
        match self.what {
            Some(What::Apply(apply)) => apply.run(session, &named),
            Some(What::Connect(connect)) => connect.run(session, &named),
            Some(What::Psql(psql)) => psql.run(session, &named),
            Some(What::Status(status)) => status.run(session, &named),
            Some(What::Logs(logs)) => logs.run(session, &named),
            Some(What::Verify(verify)) => verify.run(session, &named),
            Some(What::Failover(failover)) => failover.run(session, &named),
            Some(What::Check(check)) => check.run(session, &named),
            Some(What::Kill(kill)) => kill.run(session, &named),
            None => group(session, &["pg"], "Please select a subcommand from the list below."),
        }
    }
}
