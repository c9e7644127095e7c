//! `a9s conformance run`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::conduct::Conduct;
use super::selectors::Selectors;
use crate::caller;
use crate::cli::Session;
use crate::cli::arguments::ClusterTarget;
use crate::cli::progress::eprint_line;
use crate::conformance::Ran;
use crate::conformance::catalogue::Sources;
use crate::conformance::options::Options;
use crate::conformance::recorder::Say;
use crate::conformance::results::{Results, Verdict};
use crate::finding::{Finding, Id};

/// Arguments of `conformance run`.
#[derive(Debug, Args)]
pub struct RunSuite {
    /// Which scenarios
    #[command(flatten)]
    selectors: Selectors,

    /// The cluster to test; without any, the run makes embedded clusters of its own
    #[command(flatten)]
    cluster: ClusterTarget,

    /// How they are run
    #[command(flatten)]
    conduct: Conduct,

    /// Start no more scenarios after one has failed
    #[arg(long)]
    fail_fast: bool,

    /// Try a scenario that failed again so many times; one that passes then is reported as flaky
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    retries: usize,

    /// Folder for the reports and the evidence of failures
    #[arg(long, value_name = "FOLDER", default_value = "a9s-conformance")]
    report: PathBuf,

    /// Only the scenarios that failed, or had no turn, in the run of this report; all of them where it failed for more than
    /// scenarios
    #[arg(long, value_name = "REPORT")]
    rerun_failed: Option<PathBuf>,
}

impl RunSuite {
    pub(super) fn run(self, session: &Session, sources: &Sources) -> Result<(), Finding> {
        let Ran { results, unwritten } = self.ran(session, sources)?;
        session.console.document(&results);
        match unwritten {
            Some(finding) => Err(finding),
            None => verdict(&results),
        }
    }

    /// What the suite is told. A cluster that is named in any way is an existing one.
    fn options(&self) -> Options {
        let is_existing = self.cluster.context.is_some() || self.cluster.kubeconfig.is_some();
        Options {
            tags: self.selectors.tags.clone(),
            name: self.selectors.name.clone(),
            existing: is_existing.then(|| self.cluster.target()),
            disruptive: self.conduct.disruptive,
            jobs: self.conduct.jobs,
            fail_fast: self.fail_fast,
            retries: self.retries,
            patience: self.conduct.patience,
            report: self.report.clone(),
            rerun_failed: self.rerun_failed.clone(),
        }
    }

    /// Runs the suite and gives what was found.
    ///
    /// # Errors
    /// The run could not begin.
    fn ran(&self, session: &Session, sources: &Sources) -> Result<Ran, Finding> {
        let program = match self.conduct.program() {
            Some(program) => program,
            None => caller::program().map_err(|error| Finding::new(Id::Internal, error))?,
        };
        let from_folder = self.conduct.features.as_deref().map(Sources::from_directory).transpose();
        let from_folder = from_folder.map_err(|error| Finding::new(Id::NoFeatures, error))?;
        let sources = from_folder.as_ref().unwrap_or(sources);
        let console = session.console.clone();
        let say: Say = match console.words() {
            true => Arc::new(move |text| console.line(text.trim_end())),
            false => Arc::new(|text| eprint_line(text.trim_end())),
        };
        let options = self.options();
        session.see_many_through(async |cancel| {
            crate::conformance::run(&options, sources, &program, say.clone(), cancel).await
        })
    }
}

/// The exit code agrees with the last line.
fn verdict(results: &Results) -> Result<(), Finding> {
    let (id, cause) = match results.verdict {
        Verdict::Passed => return Ok(()),
        Verdict::Failed => {
            let bad = results.counts.failed + results.problems.len();
            (Id::NotConformant, format!("{bad} of the run's checks failed"))
        }
        Verdict::Interrupted | Verdict::ClusterLost => return partial(results),
    };
    Err(Finding::new(id, cause))
}

/// A run that was cut off is an error, whatever its scenarios say.
///
/// # Errors
/// It was.
pub(super) fn partial(results: &Results) -> Result<(), Finding> {
    match results.verdict {
        Verdict::Interrupted => Err(Finding::new(Id::Interrupted, "interrupted: the report tells of a part")),
        Verdict::ClusterLost => {
            let cause = "the cluster stopped answering: the report tells of a part";
            Err(Finding::new(Id::ClusterLost, cause))
        }
        Verdict::Passed | Verdict::Failed => Ok(()),
    }
}
