//! `a9s conformance compare`.

use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;

use clap::Args;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout, Command};

use super::conduct::Conduct;
use super::run::partial;
use super::selectors::Selectors;
use crate::caller;
use crate::cli::Session;
use crate::cli::interrupt;
use crate::cli::progress::eprint_line;
use crate::cli::session::interrupted;
use crate::conformance::accepted;
use crate::conformance::compare::{CUT_OFF, compare};
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
    /// Accept the differences of this list; can be given more than once
    #[arg(long, value_name = "FILE")]
    accepted: Vec<PathBuf>,
    #[command(flatten)]
    selectors: Selectors,
    /// Use this kubeconfig file instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    conduct: Conduct,
    /// Folder for the reports of what is run: `one` and `other` in it
    #[arg(long, value_name = "FOLDER", default_value = "a9s-conformance")]
    report: PathBuf,
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
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        // What can be read is read first: a run is not made in vain.
        let accepted = accepted::read(&self.accepted)?;
        let [one, other] = [(&self.one, "one"), (&self.other, "other")];
        let read = |(side, _): (&Side, _)| match side {
            Side::Report(path) => Results::read(&caller::path(path)).map(Some),
            _ => Ok(None),
        };
        let (read_one, read_other) = (read(one)?, read(other)?);
        let made = |read: Option<Results>, (side, name): (&Side, &str)| match read {
            Some(results) => Ok(results),
            None => self.made(session, side, name),
        };
        let comparison = compare(&made(read_one, one)?, &made(read_other, other)?, &accepted);
        session.console.line(comparison.text().trim_end());
        session.console.document(&comparison);
        let cause = match (comparison.common, comparison.differences()) {
            (_, count) if count > 0 => format!("the two runs differ in {count} scenarios"),
            (0, _) => "no scenario ran in both of the runs: there was nothing to compare".to_owned(),
            _ if !comparison.run.is_empty() => "the two runs ended otherwise".to_owned(),
            _ if comparison.cut_off => CUT_OFF.to_owned(),
            _ if comparison.stale() > 0 => {
                let cause = format!("{} entries accept differences that are not there any more", comparison.stale());
                return Err(Finding::new(Id::AcceptedStale, cause)
                    .advise("Remove them from the list, or say of one that comes and goes `sometimes: true`."));
            }
            _ => return Ok(()),
        };
        Err(Finding::new(Id::RunsDiffer, cause))
    }

    /// Runs one side, in a process of its own: a run has its process to itself. That scenarios fail is for the comparison to
    /// tell; a run that is a part only is no side of one.
    fn made(&self, session: &Session, side: &Side, name: &str) -> Result<Results, Finding> {
        let failed =
            |error: std::io::Error| Finding::new(Id::SuiteNotStarted, format!("cannot run the suite: {error}"));
        let report = caller::path(&self.report).join(name);
        let mut command = Command::new(caller::program().map_err(failed)?);
        command.args(["conformance", "run", "--output", "json", "--report"]).arg(&report);
        command.args(self.conduct.arguments());
        if let Side::Context(context) = side {
            command.args(["--context", context]);
            command.args(
                self.kubeconfig.iter().flat_map(|path| ["--kubeconfig".into(), caller::path(path).into_os_string()]),
            );
        }
        command.args(self.selectors.tags.iter().flat_map(|tags| ["--tags", tags]));
        command.args(self.selectors.name.iter().flat_map(|name| ["--name", name.as_str()]));
        command.env_clear().envs(caller::variables());
        // An interrupt is handed on once, and not by the terminal, too.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let said = session.see_through(async |cancel| {
            let mut child = command.spawn().map_err(failed)?;
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let run = async { tokio::join!(document(stdout), progress(session, stderr), child.wait()) };
            let interrupt = async {
                cancel.cancelled().await;
                if let (Some(pid), Ok(signal)) = (pid, interrupt::usual()) {
                    let _ = kill(pid, signal);
                }
                std::future::pending().await
            };
            let (said, (), ended) = tokio::select! {
                ended = run => ended,
                () = interrupt => unreachable!("it only hands on"),
            };
            ended.map_err(failed)?;
            Ok(said)
        })?;
        // What it found, or why it could not begin.
        match Results::deserialize(&said) {
            Ok(results) => partial(&results).map(|()| results),
            // It may have been ended before it could say anything.
            Err(_) if said.is_null() && session.interrupt.is_cancelled() => Err(interrupted()),
            Err(_) => Err(finding(&said["error"])),
        }
    }
}

/// The document that a run ends with.
async fn document(stdout: Option<ChildStdout>) -> Value {
    let mut said = Vec::new();
    if let Some(mut stdout) = stdout {
        // What can't be read is no document.
        let _ = stdout.read_to_end(&mut said).await;
    }
    serde_json::from_slice(&said).unwrap_or_default()
}

/// Hands on what a run says of its scenarios. How it ended is told by whoever reads its document.
async fn progress(session: &Session, stderr: Option<ChildStderr>) {
    let Some(stderr) = stderr else { return };
    let mut lines = BufReader::new(stderr).lines();
    let mut is_over = false;
    while let Ok(Some(line)) = lines.next_line().await {
        is_over |= line.starts_with(" ❌");
        match session.console.words() {
            _ if is_over => {}
            true => session.console.line(line),
            false => eprint_line(&line),
        }
    }
}

/// The finding that a document tells of.
fn finding(error: &Value) -> Finding {
    let id = error["id"].as_str().and_then(Id::named).unwrap_or(Id::SuiteNotStarted);
    let cause = error["cause"].as_str().unwrap_or("the run ended without saying why");
    let advice = error["advice"].as_array().into_iter().flatten().filter_map(Value::as_str);
    advice.fold(Finding::new(id, cause), Finding::advise)
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
        assert_eq!(side("run:").unwrap_err(), "run:embedded or run:CONTEXT is expected");
    }

    #[test]
    fn a_run_that_says_nothing_has_not_begun() {
        let finding = finding(&Value::Null);
        assert_eq!((finding.id, finding.cause.as_str()), (Id::SuiteNotStarted, "the run ended without saying why"));
    }
}
