//! `a9s pg`.

mod apply;
mod failover;

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
    /// Make another member of an instance its primary, without losing anything
    Failover(failover::Failover),
}

impl Pg {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            Some(What::Apply(apply)) => apply.run(session, self.namespace, self.service_instance),
            Some(What::Failover(failover)) => failover.run(session, self.namespace),
            None => {
                group(session, &["pg"], "Please select a subcommand from the list below.");
                Ok(())
            }
        }
    }
}
