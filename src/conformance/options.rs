//! What a run of the suite is told.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;

use super::catalogue::Filter;
use super::results::{Outcome, Results};
use crate::finding::Finding;
use crate::kubernetes::Target;

/// What a run is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only scenarios with these tags: an expression, as text for the report.
    pub tags: Option<String>,
    /// Only scenarios whose identifier matches.
    pub name: Option<Regex>,
    /// The cluster to test; without any, the run makes embedded clusters of its own.
    pub existing: Option<Target>,
    /// Scenarios at a time.
    pub jobs: NonZeroUsize,
    /// Start no more scenarios after one has failed.
    pub fail_fast: bool,
    /// How often a scenario that failed is tried again.
    pub retries: usize,
    /// The most that a wait may take.
    pub patience: Option<Duration>,
    /// Folder for the reports and the evidence of failures.
    pub report: PathBuf,
    /// Only the scenarios that failed, or had no turn, in the run of this report.
    pub rerun_failed: Option<PathBuf>,
}

impl Options {
    /// The filter, with what an earlier report adds to it.
    ///
    /// # Errors
    /// The earlier report can't be read.
    pub fn filter(&self) -> Result<Filter, Finding> {
        let mut filter = Filter::new(self.tags.as_deref(), self.name.as_ref());
        if let Some(path) = &self.rerun_failed {
            let again = |outcome| matches!(outcome, Outcome::Failed | Outcome::NotRun);
            let earlier = Results::read(path)?;
            let ids: BTreeSet<String> = earlier
                .scenarios
                .into_iter()
                .filter(|scenario| again(scenario.outcome))
                .map(|scenario| scenario.id)
                .collect();
            filter.ids = Some(ids);
        }
        Ok(filter)
    }
}
