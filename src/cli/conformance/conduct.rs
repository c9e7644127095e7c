//! Arguments of what runs the suite, here or first.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::caller;

/// Arguments of what runs the suite.
#[derive(Debug, Clone, Args)]
pub struct Conduct {
    /// On an existing cluster, also what disturbs others there (@disruptive): nodes are drained, operators stopped
    #[arg(long)]
    pub disruptive: bool,

    /// Scenarios at a time
    #[arg(short, long, value_name = "NUMBER", default_value = "4")]
    pub jobs: NonZeroUsize,

    /// Give everything so many times its time: 3 for a cluster with slow storage
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = factor)]
    pub patience: f64,

    /// Features of this folder instead of the program's own
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub features: Option<PathBuf>,

    /// Test this program instead of the one that runs
    #[arg(long, value_name = "FILE", hide = true)]
    program: Option<PathBuf>,
}

impl Conduct {
    /// The program to test, if it is another than the one that runs.
    pub fn program(&self) -> Option<PathBuf> {
        self.program.clone().or_else(|| caller::given("A9S_BIN").map(PathBuf::from))
    }

    /// The same, for a process of its own.
    pub fn arguments(&self) -> Vec<OsString> {
        let (jobs, patience) = (self.jobs.to_string(), self.patience.to_string());
        let mut arguments: Vec<OsString> = ["--jobs", &jobs, "--patience", &patience].map(OsString::from).into();
        arguments.extend(self.disruptive.then(|| OsString::from("--disruptive")));
        for (flag, path) in [("--features", &self.features), ("--program", &self.program())] {
            arguments.extend(path.iter().flat_map(|path| [flag.into(), caller::path(path).into_os_string()]));
        }
        arguments
    }
}

/// So many times as long, within reason: a deadline is never none, nor is it never.
fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse::<f64>().ok().filter(|factor| (0.01..=100.0).contains(factor));
    factor.ok_or_else(|| "a number from 0.01 to 100 is expected".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        conduct: Conduct,
    }

    #[rstest]
    #[case(&["--program", "/a9s"], &["--jobs", "4", "--patience", "1", "--program", "/a9s"])]
    #[case(&["--program", "/a9s", "--disruptive", "-j", "2", "--patience", "2.5", "--features", "/f"], &["--jobs", "2", "--patience", "2.5", "--disruptive", "--features", "/f", "--program", "/a9s"])]
    fn a_process_of_its_own_is_told_the_same(#[case] said: &[&str], #[case] handed_on: &[&str]) {
        let line = Line::parse_from(["run"].iter().chain(said));
        assert_eq!(line.conduct.arguments(), handed_on);
        assert_eq!(Line::parse_from(["run"].iter().chain(handed_on)).conduct.arguments(), handed_on);
    }

    #[test]
    fn a_factor_leaves_a_deadline_that_is_one() {
        assert_eq!(["0.01", "1", "2.5", "100"].map(factor), [Ok(0.01), Ok(1.0), Ok(2.5), Ok(100.0)]);
        for text in ["0", "-1", "101", "inf", "NaN", "3x", ""] {
            assert!(factor(text).is_err(), "{text}");
        }
    }
}
