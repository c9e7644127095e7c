//! What a run of the suite found: the document behind every report. `docs/conformance-report.md` describes it, and its
//! schema is a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::finding::{Finding, Id};

/// The version of the document. Fields may be added within a version; none changes its meaning.
pub const SCHEMA: &str = "a9s.conformance/v1";

/// Name of the document in a report's folder.
pub const FILE: &str = "report.json";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every scenario that decides did what it says, and nothing is left.
    Passed,
    /// Something did not.
    Failed,
    /// The run was interrupted: what is here is a part.
    Interrupted,
    /// The cluster stopped answering: what is here is a part.
    ClusterLost,
}

impl Verdict {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::ClusterLost => "the cluster was lost",
        }
    }
}

/// How a scenario or a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did what it says.
    Passed,
    /// It did so only when it was tried again.
    Flaky,
    /// It did not.
    Failed,
    /// Something it needs is not there.
    Skipped,
    /// The run ended before its turn.
    NotRun,
}

impl Outcome {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Passed, Self::Flaky, Self::Failed, Self::Skipped, Self::NotRun];

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Flaky => "flaky",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::NotRun => "not run",
        }
    }
}

/// The whole document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: String,
    /// How the run ended.
    pub verdict: Verdict,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// What it ran on: program, cluster, PostgreSQL servers, machine.
    pub environment: BTreeMap<String, String>,
    /// What was asked for.
    pub selection: Selection,
    /// Scenarios by outcome.
    pub counts: Counts,
    /// What failed besides scenarios: leaks, features that can't be read, scenarios that have gone.
    pub problems: Vec<String>,
    /// What nobody could look at, and what else is to be said and fails nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The scenarios, by file and line.
    pub scenarios: Vec<Scenario>,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// The tag expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// The pattern of names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The report whose failures were run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerun_failed: Option<PathBuf>,
    /// Scenarios there are.
    pub available: usize,
    /// Scenarios there must be at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<usize>,
    /// Scenarios at a time.
    pub jobs: usize,
    /// How often a scenario that failed was tried again.
    pub retries: usize,
    /// Through the program's processes (`cli`) or in process (`plan`).
    pub door: String,
}

/// Scenarios by outcome. A quarantined one that failed is counted as quarantined only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// They did what they say.
    pub passed: usize,
    /// They did so at a later attempt.
    pub flaky: usize,
    /// They did not, and they decide.
    pub failed: usize,
    /// They could not run here.
    pub skipped: usize,
    /// They had no turn.
    pub not_run: usize,
    /// They do not decide for now, however they ended.
    pub quarantined: usize,
}

/// One scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scenario {
    /// The same in every run.
    pub id: String,
    /// Name of its feature.
    pub feature: String,
    /// Its own name.
    pub name: String,
    /// File and line.
    pub place: String,
    /// Its tags and those of its feature, and the levels that contain its own.
    pub tags: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was skipped, or why it failed, in one text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Who keeps it from deciding, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// Its attempts; the last one decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// The folder of its evidence, below the report's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<PathBuf>,
    /// What could be seen at its end, volatile fields removed: commands with what they said, objects by kind and name.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub observations: Value,
}

impl Scenario {
    /// Seconds of all its attempts.
    pub fn seconds(&self) -> f64 {
        self.attempts.iter().map(|attempt| attempt.seconds).sum()
    }

    /// Whether it fails the run.
    pub fn decides_against(&self) -> bool {
        self.outcome == Outcome::Failed && self.quarantine.is_none()
    }

    /// Whether it failed or had no turn.
    pub fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Failed | Outcome::NotRun)
    }
}

/// One attempt at a scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Seconds from the start of the run.
    pub start: f64,
    /// How long it took, cleaning up included.
    pub seconds: f64,
    /// Why it failed; empty if it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its steps, background first.
    pub steps: Vec<StepResult>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepResult {
    /// Keyword and text.
    pub text: String,
    /// Its line.
    pub line: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// Seconds from the start of the attempt.
    pub start: f64,
    /// How long it took.
    pub seconds: f64,
}

impl Results {
    /// Counts the scenarios anew.
    pub fn count(&mut self) {
        let mut counts = Counts::default();
        for scenario in &self.scenarios {
            counts.quarantined += usize::from(scenario.quarantine.is_some());
            match scenario.outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Flaky => counts.flaky += 1,
                Outcome::Failed if scenario.quarantine.is_some() => {}
                Outcome::Failed => counts.failed += 1,
                Outcome::Skipped => counts.skipped += 1,
                Outcome::NotRun => counts.not_run += 1,
            }
        }
        self.counts = counts;
    }

    /// Whether it tells of a part of a run, which was cut off.
    pub fn is_partial(&self) -> bool {
        matches!(self.verdict, Verdict::Interrupted | Verdict::ClusterLost)
    }

    /// Whether the run failed for something that none of its scenarios tells: a leak, or one that has gone.
    pub fn failed_beside_scenarios(&self) -> bool {
        let is_open = self.scenarios.iter().any(Scenario::is_open);
        !self.problems.is_empty() || (self.verdict != Verdict::Passed && !is_open)
    }

    /// The identifiers of what is to be run again: what failed or had no turn; everything where that would not show again why
    /// the run failed.
    pub fn to_run_again(&self) -> BTreeSet<String> {
        let everything = self.failed_beside_scenarios();
        let again = self.scenarios.iter().filter(|scenario| everything || scenario.is_open());
        again.map(|scenario| scenario.id.clone()).collect()
    }

    /// Reads a report: its folder, or the document itself.
    ///
    /// # Errors
    /// There is none, or it is damaged or of another version.
    pub fn read(path: &Path) -> Result<Self, Finding> {
        let file = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let text = fs_err::read(&file).map_err(|error| {
            Finding::new(Id::ReportMissing, format!("there is no report to read: {error}"))
                .advise("Name the folder that `a9s conformance run --report` wrote.")
        })?;
        let damaged = |why: String| {
            Finding::new(Id::ReportDamaged, format!("the report {} is damaged: {why}", file.display()))
                .advise("Run the suite again with --report to have a new one.")
        };
        let document: Value = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        match document["schema"].as_str() {
            Some(SCHEMA) => {}
            Some(other) => {
                return Err(damaged(format!("it is of version {other:?}, and this program reads {SCHEMA:?}")));
            }
            None => return Err(damaged("it has no field \"schema\"".to_owned())),
        }
        serde_json::from_value(document).map_err(|error| damaged(error.to_string()))
    }
}

#[cfg(test)]
#[expect(missing_docs, reason = "a sample for the tests of the reports")]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// A run with one scenario of every outcome.
    pub fn sample() -> Results {
        let step = |text: &str, outcome, start, seconds| StepResult {
            text: text.to_owned(),
            line: 7,
            outcome,
            start,
            seconds,
        };
        let attempt =
            |start: f64, message: &str, steps| Attempt { start, seconds: 1.5, message: message.to_owned(), steps };
        let scenario = |name: &str, outcome| Scenario {
            id: format!("Rows: {name}"),
            feature: "Rows".to_owned(),
            name: name.to_owned(),
            place: "features/rows.feature:7".to_owned(),
            tags: vec!["core".to_owned(), "full".to_owned()],
            outcome,
            message: String::new(),
            quarantine: None,
            attempts: Vec::new(),
            evidence: None,
            observations: Value::Null,
        };
        let good = || vec![step("Given a", Outcome::Passed, 0.0, 0.25), step("Then b", Outcome::Passed, 0.25, 1.25)];
        let bad = || vec![step("Given a", Outcome::Passed, 0.0, 0.5), step("Then <b> & c", Outcome::Failed, 0.5, 1.0)];
        let why = "expected <one> & two\nbut found three";
        let mut results = Results {
            schema: SCHEMA.to_owned(),
            verdict: Verdict::Failed,
            started: "2026-01-02T03:04:05Z".to_owned(),
            seconds: 12.5,
            environment: [
                ("program".to_owned(), "a9s 0.1.0".to_owned()),
                ("cluster".to_owned(), "embedded".to_owned()),
                ("postgresql".to_owned(), "15.14".to_owned()),
            ]
            .into(),
            selection: Selection {
                tags: Some("@core".to_owned()),
                available: 9,
                recorded: Some(8),
                jobs: 4,
                retries: 1,
                door: "cli".to_owned(),
                ..Selection::default()
            },
            counts: Counts::default(),
            problems: vec!["port 127.64.0.1:5432 still listens".to_owned()],
            notes: Vec::new(),
            scenarios: vec![
                Scenario {
                    attempts: vec![attempt(0.0, "", good())],
                    observations: json!({"commands": [{"line": "a9s version", "code": 0}], "objects": {"pod/solo-0": {"phase": "Running"}}}),
                    ..scenario("good", Outcome::Passed)
                },
                Scenario {
                    attempts: vec![attempt(0.0, why, bad()), attempt(2.0, "", good())],
                    message: why.to_owned(),
                    ..scenario("now and then", Outcome::Flaky)
                },
                Scenario {
                    attempts: vec![attempt(3.0, why, bad())],
                    message: why.to_owned(),
                    evidence: Some("evidence/rows-7-bad".into()),
                    ..scenario("bad", Outcome::Failed)
                },
                Scenario {
                    message: "this machine has no kubectl".to_owned(),
                    ..scenario("elsewhere", Outcome::Skipped)
                },
                Scenario {
                    quarantine: Some("anna until 2030-01-31".to_owned()),
                    attempts: vec![attempt(4.0, why, bad())],
                    message: why.to_owned(),
                    ..scenario("held", Outcome::Failed)
                },
                scenario("late", Outcome::NotRun),
            ],
        };
        results.count();
        results
    }

    #[test]
    fn a_quarantined_failure_is_counted_but_does_not_decide() {
        let results = sample();
        assert_eq!(results.counts, Counts { passed: 1, flaky: 1, failed: 1, skipped: 1, not_run: 1, quarantined: 1 });
        assert_eq!(results.scenarios.iter().filter(|scenario| scenario.decides_against()).count(), 1);
    }

    #[test]
    fn what_failed_is_run_again_and_everything_where_that_does_not_tell_why() {
        let with_problem = sample();
        assert_eq!(with_problem.to_run_again().len(), with_problem.scenarios.len());
        let without = Results { problems: Vec::new(), ..sample() };
        assert_eq!(Vec::from_iter(without.to_run_again()), ["Rows: bad", "Rows: held", "Rows: late"]);
        let mut good = without;
        good.scenarios.retain(|scenario| scenario.outcome == Outcome::Passed);
        let cut_off = Results { verdict: Verdict::Interrupted, ..good.clone() };
        assert_eq!(Vec::from_iter(cut_off.to_run_again()), ["Rows: good"]);
        assert!(Results { verdict: Verdict::Passed, ..good }.to_run_again().is_empty());
    }

    #[test]
    fn the_document_is_as_reviewed() {
        insta::with_settings!({snapshot_path => "../../snapshots/reports", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("report.json", serde_json::to_string_pretty(&sample()).unwrap());
            insta::assert_snapshot!("report.schema.json", serde_json::to_string_pretty(&schemars::schema_for!(Results)).unwrap());
        });
    }

    #[test]
    fn a_report_is_read_as_it_was_written_and_damage_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        let text = serde_json::to_string(&sample()).unwrap();
        fs_err::write(&file, &text).unwrap();
        assert_eq!(Results::read(directory.path()).unwrap(), sample());
        for damage in [
            &text[..text.len() / 2],
            "{}",
            "{\"schema\": \"a9s.conformance/v999\"}",
            "{\"schema\": \"a9s.conformance/v1\", \"verdict\": \"maybe\"}",
        ] {
            fs_err::write(&file, damage).unwrap();
            let finding = Results::read(&file).unwrap_err();
            assert_eq!(finding.id, Id::ReportDamaged, "{damage}");
        }
        assert_eq!(Results::read(Path::new("/nowhere")).unwrap_err().id, Id::ReportMissing);
    }
}
