//! `a9s cluster`.

mod list;
mod power;
mod pwd;
mod status;

use clap::{Args, Subcommand};

use super::{Session, group};
use crate::finding::Finding;

/// Arguments of `cluster`.
#[derive(Debug, Args)]
pub struct Cluster {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the configured working directory, without a newline
    Pwd(pwd::Pwd),
    /// Start a cluster that is stopped
    Start(power::Start),
    /// Stop a cluster; its objects and data stay
    Stop(power::Power),
    /// List the clusters there are
    List(list::List),
    /// Say how a cluster is
    Status(status::Status),
}

impl Cluster {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            Some(What::Pwd(pwd)) => pwd.run(session),
            Some(What::Start(start)) => start.run(session),
            Some(What::Stop(power)) => power.stop(session),
            Some(What::List(list)) => list.run(session),
            Some(What::Status(status)) => status.run(session),
            None => group(session, &["cluster"], "Please select a cluster sub-command."),
        }
    }
}
