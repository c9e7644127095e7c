//! `a9s conformance run`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::cli::Session;
use crate::cli::progress::eprint_line;
use crate::conformance::catalogue::Sources;
use crate::conformance::options::Options;
use crate::conformance::recorder::Say;
use crate::conformance::results::{Results, Verdict};
use crate::finding::{Class, Finding};

/// Arguments of `conformance run`.
#[derive(Debug, Args)]
pub struct RunSuite {
    #[command(flatten)]
    options: Options,
}

impl RunSuite {
    pub(super) fn run(self, session: &Session, sources: &Sources) -> Result<(), Finding> {
        let program = self.program()?;
        let from_folder = self.options.features.as_deref().map(Sources::from_directory).transpose();
        let from_folder = from_folder.map_err(|error| Finding::new("no-features", Class::Missing, error))?;
        let sources = from_folder.as_ref().unwrap_or(sources);
        let console = session.console.clone();
        let say: Say = match console.words() {
            true => Arc::new(move |text| console.raw(text.as_bytes())),
            false => Arc::new(|text| eprint_line(text.trim_end())),
        };
        let results = session.block_on_many(async |cancel| {
            crate::conformance::run(&self.options, sources, &program, say, cancel).await
        })?;
        session.console.document(&results);
        verdict(&results)
    }

    fn program(&self) -> Result<PathBuf, Finding> {
        match &self.options.program {
            Some(program) => Ok(program.clone()),
            None => std::env::current_exe().map_err(|error| Finding::new("no-program", Class::Failed, error)),
        }
    }
}

/// The exit code agrees with the last line.
fn verdict(results: &Results) -> Result<(), Finding> {
    let (id, class, cause) = match results.verdict {
        Verdict::Passed => return Ok(()),
        Verdict::Failed => {
            let bad = results.counts.failed + results.problems.len();
            ("not-conformant", Class::Failed, format!("{bad} of the run's checks failed"))
        }
        Verdict::Interrupted => {
            ("interrupted", Class::Interrupted, "interrupted: the report tells of a part".to_owned())
        }
        Verdict::ClusterLost => {
            ("cluster-lost", Class::Missing, "the cluster stopped answering: the report tells of a part".to_owned())
        }
    };
    Err(Finding::new(id, class, cause))
}
