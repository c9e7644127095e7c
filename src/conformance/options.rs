//! What a run of the suite is told on the command line.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;
use cucumber::gherkin::tagexpr::TagOperation;
use regex::Regex;

use super::catalogue::Filter;
use super::results::{Outcome, Results};
use crate::cli::arguments::ClusterTarget;
use crate::finding::Finding;

/// Arguments that choose scenarios.
#[derive(Debug, Clone, Default, Args)]
pub struct Selectors {
    /// Only scenarios with these tags, for example '@core and not @kubectl'. Levels: @smoke, @core, @full, @chaos
    #[arg(short, long, value_name = "EXPRESSION", value_parser = tags)]
    pub tags: Option<String>,

    /// Only scenarios whose "feature: scenario" matches this regular expression
    #[arg(short, long, value_name = "REGEX")]
    pub name: Option<Regex>,
}

/// Checked here, so that a wrong one is wrong usage; kept as text for the report.
fn tags(text: &str) -> Result<String, String> {
    match text.trim().parse::<TagOperation>() {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(_) => Err("an expression such as '@core and not (@sql or @kubectl)' is expected".to_owned()),
    }
}

impl Selectors {
    /// The filter.
    pub fn filter(&self) -> Filter {
        Filter { tags: self.tags.as_ref().and_then(|tags| tags.parse().ok()), name: self.name.clone(), ids: None }
    }
}

/// Arguments of a run.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Which scenarios
    #[command(flatten)]
    pub selectors: Selectors,

    /// The cluster to test; without any, the run makes embedded clusters of its own
    #[command(flatten)]
    pub cluster: ClusterTarget,

    /// Scenarios at a time
    #[arg(short, long, value_name = "NUMBER", default_value = "4")]
    pub jobs: NonZeroUsize,

    /// Start no more scenarios after one has failed
    #[arg(long)]
    pub fail_fast: bool,

    /// Try a scenario that failed again so many times; one that passes then is reported as flaky
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub retries: usize,

    /// No command and no wait for something to happen gets more time than this, however long a step would give it
    #[arg(long, value_name = "SECONDS")]
    pub patience: Option<NonZeroU32>,

    /// Folder for the reports and the evidence of failures
    #[arg(long, value_name = "FOLDER", default_value = "a9s-conformance")]
    pub report: PathBuf,

    /// Only the scenarios that failed, or had no turn, in the run of this report
    #[arg(long, value_name = "REPORT")]
    pub rerun_failed: Option<PathBuf>,

    /// Features of this folder instead of the program's own
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub features: Option<PathBuf>,

    /// Test this program instead of the one that runs
    #[arg(long, value_name = "FILE", env = "A9S_BIN", hide = true, hide_env_values = true)]
    pub program: Option<PathBuf>,
}

impl Options {
    /// Whether an existing cluster is to be tested.
    pub fn is_existing_cluster(&self) -> bool {
        self.cluster.context.is_some() || self.cluster.kubeconfig.is_some()
    }

    /// The filter, with what an earlier report adds to it.
    ///
    /// # Errors
    /// The earlier report can't be read.
    pub fn filter(&self) -> Result<Filter, Finding> {
        let mut filter = self.selectors.filter();
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
