//! `--ledger`: rows that a client writes while a command does something to an instance.

use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Session;
use crate::cli::arguments::Run;
use crate::config::WorkingDirectory;
use crate::finding::Finding;
use crate::postgres::ledger::{DATABASE, Verdict};
use crate::step::{Cancel, Outcome, Plan, Step};
use crate::steps::ledger::{Begun, Compared, Rows};

/// The flag.
#[derive(Debug, Args)]
pub struct Meanwhile {
    /// Write rows meanwhile, without a pause: one that was acknowledged and is not there afterwards is a failure
    #[arg(long)]
    ledger: bool,
}

/// What a command does, and the rows that are written meanwhile.
pub struct Watched {
    plan: Plan,
    rows: Option<Arc<Rows>>,
}

impl Meanwhile {
    /// The plan of a command of one step, with those of the rows before and after it where they are asked for.
    pub fn around(&self, name: &str, step: Arc<dyn Step>, rows: impl FnOnce() -> Arc<Rows>) -> Watched {
        let mut plan = Plan::new(name);
        let rows = self.ledger.then(rows);
        let begun: Vec<_> = rows.iter().map(|rows| plan.add(Begun(rows.clone()))).collect();
        let done = plan.push(&begun, step);
        if let Some(rows) = &rows {
            plan.after(&[done], Compared(rows.clone()));
        }
        Watched { plan, rows }
    }
}

impl Watched {
    /// Carries it out, as [`Session::carry_out`] does, and leaves no table behind.
    ///
    /// # Errors
    /// The finding of a step.
    pub async fn carry_out(
        self,
        session: &Session,
        run: &Run,
        cancel: Cancel,
        directory: Option<&WorkingDirectory>,
    ) -> Result<Option<(Outcome, Option<Verdict>)>, Finding> {
        let carried_out = session.carry_out(&self.plan, run, cancel, directory).await;
        if let Some(rows) = &self.rows
            && let Some(table) = rows.leave().await
        {
            session.warn(format!("the table {table} of the database {DATABASE} could not be removed"));
        }
        let verdict = self.rows.and_then(|rows| rows.verdict());
        Ok(carried_out?.map(|outcome| (outcome, verdict)))
    }
}

/// Says what became of the rows, and gives it as a document.
pub fn tell(session: &Session, verdict: Option<&Verdict>) -> Value {
    let Some(verdict) = verdict else { return Value::Null };
    let (rows, pause) = (verdict.acknowledged, verdict.longest_gap.as_secs_f64());
    session.console.info(format!(
        "{rows} rows were acknowledged meanwhile, and all of them are there; the longest pause was {pause:.1} s."
    ));
    json!({"acknowledged": rows, "lost": 0, "longestPauseSeconds": pause})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::member::{Killed, Member};

    #[test]
    fn rows_are_written_before_and_compared_afterwards() {
        let rows = || Rows::new(Arc::default(), "shop".parse().unwrap(), "solo".parse().unwrap());
        let step = Killed {
            access: Arc::default(),
            instance: "solo".parse().unwrap(),
            namespace: "shop".parse().unwrap(),
            member: Member::Primary,
            done: std::sync::Mutex::default(),
        };
        let watched = Meanwhile { ledger: true }.around("pg kill", Arc::new(step), rows);
        insta::with_settings!({snapshot_path => "../../../snapshots/plans", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("kill_with_ledger", watched.plan.describe());
        });
    }
}
