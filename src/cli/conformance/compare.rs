//! `a9s conformance compare`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Session;
use crate::conformance::compare::compare;
use crate::conformance::results::Results;
use crate::finding::{Class, Finding};

/// Arguments of `conformance compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// Folder (or report.json) of one run
    #[arg(value_name = "REPORT")]
    one: PathBuf,
    /// Folder (or report.json) of another
    #[arg(value_name = "REPORT")]
    other: PathBuf,
}

impl Compare {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let (one, other) = (Results::read(&self.one)?, Results::read(&self.other)?);
        let comparison = compare(&one, &other);
        session.console.raw(comparison.text().as_bytes());
        session.console.document(&comparison);
        match comparison.differences() {
            0 => Ok(()),
            count => {
                Err(Finding::new("runs-differ", Class::Failed, format!("the two runs differ in {count} scenarios")))
            }
        }
    }
}
