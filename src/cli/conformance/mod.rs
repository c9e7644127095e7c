//! `a9s conformance`: the suite as a command.

mod compare;
mod conduct;
mod list;
mod run;
mod selectors;
mod show;

use clap::{Args, Subcommand};

use super::{Session, group};
use crate::conformance::catalogue::Sources;
use crate::finding::Finding;

/// Arguments of `conformance`.
#[derive(Debug, Args)]
pub struct Conformance {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run scenarios, on the clusters they make or on an existing one, and report with evidence
    #[command(args_override_self = true)]
    #[command(
        long_about = "Run scenarios, on the clusters they make or on an existing one, and report with evidence.\n\n\
        Exit codes: 0 every scenario that decides has passed and nothing is left; 1 something has not; 2 wrong usage; \
        3 the run could not begin (the report's folder, an earlier report, the cluster, its stack or permissions), or the \
        cluster stopped answering; 5 another run reports to the folder; 130 interrupted. Where the cluster stopped \
        answering, or the run was interrupted, the report tells of the part that was run."
    )]
    Run(Box<run::RunSuite>),
    /// List the scenarios
    List(list::List),
    /// Show scenarios with their steps
    Show(show::Show),
    /// Say where two runs differ: verdicts, messages, and what could be observed
    #[command(
        long_about = "Say where two runs differ: verdicts, messages, and what could be observed. Reports of earlier runs \
        are read, and what is to be run is run first.\n\n\
        A list of accepted differences is a YAML list. An entry has a `scenario` (a regular expression, as --name), `what` \
        differs (`verdict`, `message` or a path, as they are printed), `one` and `other` (what the two runs have there; \
        without them, anything), and a `reason`. `what`, `one` and `other` are regular expressions that match all of it. An \
        entry that nothing matches fails the comparison, unless none of its scenarios ran in both or it says \
        `sometimes: true`.\n\n\
        Exit codes: 0 they don't, but for what is accepted; 1 they do, no scenario ran in both, what is accepted is \
        gone, or a report tells of a part of its run; 2 wrong usage, or a list that is none; 3 a report or list is \
        missing, a report is damaged, or a run that is made ends with 3; 5 another run reports to the folder; \
        130 interrupted."
    )]
    Compare(Box<compare::Compare>),
}

impl Conformance {
    pub(super) fn run(self, session: &Session, sources: &Sources) -> Result<(), Finding> {
        match self.what {
            None => group(session, &["conformance"], "Please select what to do with the suite."),
            Some(What::Run(run)) => run.run(session, sources),
            Some(What::List(list)) => list.run(session, sources),
            Some(What::Show(show)) => show.run(session, sources),
            Some(What::Compare(compare)) => compare.run(session),
        }
    }
}
