//! `a9s conformance run`.

use std::sync::Arc;

use clap::Args;

use crate::cli::Session;
use crate::cli::progress::eprint_line;
use crate::conformance::catalogue::Sources;
use crate::conformance::options::Options;
use crate::conformance::recorder::Say;
use crate::conformance::results::{Results, Verdict};
use crate::finding::{Finding, Id};

/// Arguments of `conformance run`.
#[derive(Debug, Args)]
pub struct RunSuite {
    #[command(flatten)]
    options: Options,
}

impl RunSuite {
    pub(super) fn run(self, session: &Session, sources: &Sources) -> Result<(), Finding> {
        let results = results_of_run(session, &self.options, sources)?;
        session.console.document(&results);
        verdict(&results)
    }
}

/// Runs the suite and gives what was found.
///
/// # Errors
/// The run could not begin.
fn results_of_run(session: &Session, options: &Options, sources: &Sources) -> Result<Results, Finding> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|error| Finding::new(Id::Internal, error))?,
    };
    let from_folder = options.features.as_deref().map(Sources::from_directory).transpose();
    let from_folder = from_folder.map_err(|error| Finding::new(Id::NoFeatures, error))?;
    let sources = from_folder.as_ref().unwrap_or(sources);
    let console = session.console.clone();
    let say: Say = match console.words() {
        true => Arc::new(move |text| console.raw(text.as_bytes())),
        false => Arc::new(|text| eprint_line(text.trim_end())),
    };
    session.block_on_many(async |cancel| crate::conformance::run(options, sources, &program, say.clone(), cancel).await)
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
