//! `a9s conformance compare`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::run::{partial, results_of_run};
use crate::cli::Session;
use crate::cli::arguments::ClusterTarget;
use crate::conformance::catalogue::Sources;
use crate::conformance::compare::compare;
use crate::conformance::options::{Options, Selectors};
use crate::conformance::results::Results;
use crate::finding::{Finding, Id};

/// Arguments of `conformance compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// Folder (or report.json) of one run; `run:embedded` or `run:CONTEXT` runs the suite there first
    #[arg(value_name = "REPORT")]
    one: Side,
    /// Folder (or report.json) of another, or where to run it
    #[arg(value_name = "REPORT")]
    other: Side,
    #[command(flatten)]
    selectors: Selectors,
    /// Use this kubeconfig file instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Scenarios at a time in what is run
    #[arg(short, long, value_name = "NUMBER", default_value = "4")]
    jobs: NonZeroUsize,
    /// Folder for the reports of what is run: `one` and `other` in it
    #[arg(long, value_name = "FOLDER", default_value = "a9s-conformance")]
    report: PathBuf,
    /// Test this program instead of the one that runs
    #[arg(long, value_name = "FILE", env = "A9S_BIN", hide = true, hide_env_values = true)]
    program: Option<PathBuf>,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    /// A run that has been.
    Report(PathBuf),
    /// One on embedded clusters of its own.
    Embedded,
    /// One on the cluster of a context.
    Context(String),
}

impl FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.strip_prefix("run:") {
            None => Self::Report(text.into()),
            Some("") => return Err("run:embedded or run:CONTEXT is expected".to_owned()),
            Some("embedded") => Self::Embedded,
            Some(context) => Self::Context(context.to_owned()),
        })
    }
}

impl Compare {
    pub(super) fn run(self, session: &Session, sources: &Sources) -> Result<(), Finding> {
        // What can be read is read first: a run is not made in vain.
        let [one, other] = [(&self.one, "one"), (&self.other, "other")];
        let read = |(side, _): (&Side, _)| match side {
            Side::Report(path) => Results::read(path).map(Some),
            _ => Ok(None),
        };
        let (read_one, read_other) = (read(one)?, read(other)?);
        let made = |read: Option<Results>, (side, name): (&Side, &str)| match read {
            Some(results) => Ok(results),
            None => self.made(session, sources, side, name),
        };
        let comparison = compare(&made(read_one, one)?, &made(read_other, other)?);
        session.console.raw(comparison.text().as_bytes());
        session.console.document(&comparison);
        match comparison.differences() {
            0 => Ok(()),
            count => Err(Finding::new(Id::RunsDiffer, format!("the two runs differ in {count} scenarios"))),
        }
    }

    /// Runs one side. That scenarios fail is for the comparison to tell; a run that is a part only is no side of one.
    fn made(&self, session: &Session, sources: &Sources, side: &Side, name: &str) -> Result<Results, Finding> {
        let context = match side {
            Side::Context(context) => Some(context.clone()),
            _ => None,
        };
        let kubeconfig = self.kubeconfig.clone().filter(|_| context.is_some());
        let options = Options {
            selectors: self.selectors.clone(),
            cluster: ClusterTarget { kubeconfig, context },
            jobs: self.jobs,
            fail_fast: false,
            retries: 0,
            patience: None,
            report: self.report.join(name),
            rerun_failed: None,
            features: None,
            program: self.program.clone(),
        };
        let results = results_of_run(session, &options, sources)?;
        partial(&results)?;
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_a_report_or_where_to_run() {
        let side = |text: &str| text.parse::<Side>();
        assert_eq!(side("run").unwrap(), Side::Report("run".into()));
        assert_eq!(side("run:embedded").unwrap(), Side::Embedded);
        assert_eq!(side("run:kind-a8s").unwrap(), Side::Context("kind-a8s".to_owned()));
        assert!(side("run:").is_err());
    }
}
