//! `a9s pg`.

mod apply;
mod connect;
mod psql;

use clap::{Args, Subcommand};

use super::{Session, group};
use crate::finding::{Class, Finding};
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
}

impl Pg {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            Some(What::Apply(apply)) => apply.run(session, self.namespace, self.service_instance),
            Some(What::Connect(connect)) => connect.run(session, self.namespace, self.service_instance),
            Some(What::Psql(psql)) => psql.run(session, self.namespace, self.service_instance),
            None => {
                group(session, &["pg"], "Please select a subcommand from the list below.");
                Ok(())
            }
        }
    }
}

/// The instance, named by its place or by `-i`.
fn named(place: Option<ObjectName>, flag: Option<ObjectName>) -> Result<ObjectName, Finding> {
    let usage = |text| Finding::new("no-instance-named", Class::Usage, text);
    match (place, flag) {
        (Some(place), Some(flag)) if place != flag => Err(usage("two instances are named: say one")),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(usage("no instance is named: say its name")),
    }
}
