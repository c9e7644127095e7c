//! What a run of the suite is told.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use regex::Regex;

use super::catalogue::Filter;
use super::results::Results;
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
    /// Also what disturbs others who use an existing cluster.
    pub disruptive: bool,
    /// Scenarios at a time.
    pub jobs: NonZeroUsize,
    /// Start no more scenarios after one has failed.
    pub fail_fast: bool,
    /// How often a scenario that failed is tried again.
    pub retries: usize,
    /// So many times the usual deadlines are those of this run.
    pub patience: f64,
    /// Folder for the reports and the evidence of failures.
    pub report: PathBuf,
    /// Only the scenarios that failed, or had no turn, in the run of this report; all of them where it failed for more than
    /// scenarios.
    pub rerun_failed: Option<PathBuf>,
}

impl Options {
    /// The earlier run whose failures are asked for.
    ///
    /// # Errors
    /// Its report can't be read.
    pub fn earlier(&self) -> Result<Option<Results>, Finding> {
        self.rerun_failed.as_deref().map(Results::read).transpose()
    }

    /// The filter, with what an earlier run adds to it.
    pub fn filter(&self, earlier: Option<&Results>) -> Filter {
        let filter = Filter::new(self.tags.as_deref(), self.name.as_ref());
        Filter { ids: earlier.map(Results::to_run_again), ..filter }
    }
}
