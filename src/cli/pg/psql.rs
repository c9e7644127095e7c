//! `a9s pg psql`: psql in the primary's container, on a terminal or in a pipe.

use std::sync::atomic::Ordering;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::Named;
use crate::cli::Session;
use crate::cli::arguments::ClusterTarget;
use crate::finding::{Class, Finding, Id};
use crate::kubernetes::exec::{Container, POSTGRES};
use crate::kubernetes::terminal;
use crate::manifest::names::ObjectName;
use crate::postgres::DATABASE;
use crate::step::{Event, Reporter};
use crate::steps::primary;

/// Ends psql (PostgreSQL manual, psql, "Meta-Commands"); a statement that was not ended before it is lost.
const FAREWELL: &[u8] = b"\n\\q\n";

/// Arguments of `pg psql`.
#[derive(Debug, Args)]
pub struct Psql {
    /// The instance
    #[arg(value_name = "NAME", required_unless_present = "service_instance", conflicts_with = "service_instance")]
    name: Option<ObjectName>,
    /// Database to begin in
    #[arg(long, value_name = "DATABASE", default_value = DATABASE, value_parser = NonEmptyStringValueParser::new())]
    database: String,
    #[command(flatten)]
    cluster: ClusterTarget,
    /// Arguments for psql. Its exit code becomes this program's
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

impl Psql {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        let instance = named.instance(self.name.as_ref())?;
        if !session.console.words() {
            return Err(Finding::new(Id::NoDocument, "psql's output is no document: leave out --output"));
        }
        let code = session.block_on(async |_| {
            let (access, namespace) = self.cluster.reach(named.namespace.as_ref()).await?;
            let client = access.client().await?;
            let most = std::time::Duration::MAX;
            let pod = primary::wait_for(&client, &namespace, &instance, most, |_| {}).await?;
            let database = &self.database;
            let text = format!("kubectl exec -it -n {namespace} {pod} -c {POSTGRES} -- psql -U postgres -d {database}");
            session.progress.event(&Event::Command(&text));
            session.progress.clear();
            let mut command = ["psql", "-U", "postgres", "-d", database].map(str::to_owned).to_vec();
            command.extend(self.arguments.iter().cloned());
            let container = Container::postgres(namespace.as_str(), &pod);
            // What can't be written is told at the end: whoever copies a table into a file has to know.
            let answer = |bytes: &[u8]| session.console.raw(bytes);
            let ended = terminal::run(client, &container, command, FAREWELL, answer).await?;
            ended.code.ok_or_else(|| Finding::new(Id::PsqlCutOff, format!("psql was cut off: {}", ended.message)))
        })?;
        session.exit_code.store(u8::try_from(code).unwrap_or(Class::Failed.exit_code()), Ordering::Relaxed);
        Ok(())
    }
}
