//! `a9s pg check`.

use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::Named;
use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Deadline, Run, duration};
use crate::finding::Finding;
use crate::postgres::DATABASE;
use crate::step::Plan;
use crate::steps::answer::Answers;
use crate::steps::sql::{PLAIN, Query, Source};

/// Arguments of `pg check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The question, in SQL
    #[arg(long, value_name = "STATEMENT", value_parser = NonEmptyStringValueParser::new())]
    sql: String,
    /// The answer: rows one below the other, columns separated by |
    #[arg(long, value_name = "TEXT")]
    is: String,
    /// Database to ask
    #[arg(long, value_name = "DATABASE", default_value = DATABASE, value_parser = NonEmptyStringValueParser::new())]
    database: String,
    #[command(flatten)]
    cluster: ClusterTarget,
    /// Only look: print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How long the answer may take to become right
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

impl Check {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        let instance = named.instance(None)?;
        let run = Run { dry_run: self.dry_run, deadline: Deadline { timeout: self.timeout } };
        let directory = session.journal();
        let (access, namespace) = session.block_on(async |_| self.cluster.reach(named.namespace.as_ref()).await)?;
        session.see_through(async |cancel| {
            let question = Query {
                access,
                instance: instance.clone(),
                namespace: namespace.clone(),
                database: self.database.clone(),
                source: Source::Statement(format!("{PLAIN}{}", self.sql)),
                keep: false,
                under_way: Mutex::default(),
            };
            let mut plan = Plan::new("pg check");
            plan.add(Answers { question, answer: self.is.clone() });
            let outcome = session.carry_out(&plan, &run, cancel, directory.as_ref()).await?;
            if let Some(outcome) = outcome {
                session.console.success(format!("{instance} answers {:?}", self.is));
                session.console.document(&json!({
                    "instance": instance, "namespace": namespace, "answer": self.is, "steps": outcome.steps,
                }));
            }
            Ok(())
        })
    }
}
