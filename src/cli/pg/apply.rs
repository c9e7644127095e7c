//! `a9s pg apply`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::Named;
use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run};
use crate::finding::Finding;
use crate::postgres::DATABASE;
use crate::step::Plan;
use crate::steps::sql::{Output, Query, Source, Sql, open_file};

/// Arguments of `pg apply`.
#[derive(Debug, Args)]
#[group(id = "sql-source", required = true, multiple = false, args = ["file", "sql"])]
pub struct Apply {
    /// File of SQL on this machine
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// SQL; of several statements, each is a transaction of its own
    #[arg(long, value_name = "STATEMENT", value_parser = NonEmptyStringValueParser::new())]
    sql: Option<String>,
    /// Database to run it in
    #[arg(long, value_name = "DATABASE", default_value = DATABASE, value_parser = NonEmptyStringValueParser::new())]
    database: String,
    /// Keep the uploaded file in the pod
    #[arg(long)]
    no_delete: bool,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl Apply {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        let instance = named.instance(None)?;
        let source = match (&self.file, &self.sql) {
            (Some(path), _) => {
                // Before anything is asked of the cluster.
                open_file(path)?;
                Source::File(path.clone())
            }
            (None, sql) => Source::Statement(sql.clone().unwrap_or_default()),
        };
        let is_file = matches!(source, Source::File(_));
        let directory = session.journal();
        let (access, namespace) = session.block_on(async |_| self.cluster.reach(named.namespace.as_ref()).await)?;
        session.see_through(async |cancel| {
            let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
            let streams = is_file && session.console.words();
            let (database, keep) = (self.database.clone(), self.no_delete);
            let query = Query { access, instance, namespace, database, source, keep, under_way: Mutex::default() };
            let step = Arc::new(Sql::new(query, output(session, streams, kept.clone())));
            let mut plan = Plan::new("pg apply");
            plan.push(&[], step.clone());
            let outcome = session.carry_out(&plan, &self.run, cancel, directory.as_ref()).await;
            let output = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
            if streams {
                // A last line that nothing ends.
                session.console.raw(&output);
            }
            let Some(outcome) = outcome? else { return Ok(()) };
            let pod = step.pod().unwrap_or_default();
            let console = &session.console;
            if is_file {
                console.success(format!("Successfully applied SQL file to pod {pod}"));
            } else {
                console.success(format!("Successfully executed SQL statement in pod {pod}"));
                console.line(" Output from the Pod:");
                console.line("");
                console.raw(&output);
            }
            console.document(&json!({
                "pod": pod, "database": self.database, "output": String::from_utf8_lossy(&output), "steps": outcome.steps,
            }));
            Ok(())
        })
    }
}

/// What a file prints may be long: it is shown as it comes, in whole lines, as the live line is drawn over what stands
/// in its own. A statement's comes after the word about its success.
fn output(session: &Session, streams: bool, kept: Arc<Mutex<Vec<u8>>>) -> Output {
    let (console, progress) = (session.console.clone(), session.progress.clone());
    Box::new(move |bytes| {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.len();
        kept.extend_from_slice(bytes);
        if streams && let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
            progress.clear();
            console.raw(&kept[..=before + end]);
            kept.drain(..=before + end);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{Caller, instead};
    use crate::cli::arguments::Global;
    use crate::step::Cancel;

    #[test]
    fn what_a_file_prints_is_shown_in_whole_lines() {
        let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
        let said = instead(Caller::default(), || {
            let global = Global { yes: false, verbose: false, show_commands: false, output: None };
            let mut output = output(&Session::new(global, Cancel::new()), true, kept.clone());
            for bytes in ["one\ntw", "o", "\nthree"] {
                output(bytes.as_bytes());
            }
        })
        .1;
        assert_eq!(said.stdout, b"one\ntwo\n");
        assert_eq!(*kept.lock().unwrap(), b"three", "what is left is shown at the end");
    }
}
