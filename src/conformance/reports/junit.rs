//! JUnit's XML, as CI systems read it. A scenario that passed when it was tried again is a success with flaky failures.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use crate::conformance::results::{Attempt, Outcome, Results, Scenario, Verdict};

/// The suite of what is wrong with the run itself.
const RUN: &str = "the run";
/// Elsewhere the name of an exception: the schemas of Surefire and Jenkins demand one.
const TYPE: &str = "failed";

/// The document.
///
/// # Errors
/// It can't be serialised.
pub fn document(results: &Results) -> std::io::Result<String> {
    let mut report = Report::new("a9s conformance");
    report.set_time(Duration::from_secs_f64(results.seconds.max(0.0)));
    let mut suites: Vec<TestSuite> = Vec::new();
    for scenario in &results.scenarios {
        let case = case(scenario);
        match suites.iter_mut().find(|suite| suite.name.as_str() == scenario.feature) {
            Some(suite) => drop(suite.add_test_case(case)),
            None => {
                let mut suite = TestSuite::new(scenario.feature.as_str());
                suite.add_test_case(case);
                suites.push(suite);
            }
        }
    }
    let cut_off = match results.verdict {
        Verdict::Interrupted | Verdict::ClusterLost => {
            Some(format!("{}: what is here is a part", results.verdict.text()))
        }
        Verdict::Passed | Verdict::Failed => None,
    };
    let mut run = TestSuite::new(RUN);
    for problem in results.problems.iter().chain(&cut_off) {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_message(problem.as_str()).set_type(TYPE);
        let mut case = TestCase::new(problem.as_str(), status);
        case.set_classname(RUN);
        run.add_test_case(case);
    }
    if !run.test_cases.is_empty() {
        suites.push(run);
    }
    report.add_test_suites(suites);
    let document = report.to_string().map_err(std::io::Error::other)?;
    // Of all suites together, the schema of Jenkins knows no such number. Each of them has its own.
    let (together, suites) = document.split_at(document.find("<testsuite ").unwrap_or(document.len()));
    Ok(together.replace(&format!(" skipped=\"{}\"", report.skipped), "") + suites)
}

fn case(scenario: &Scenario) -> TestCase {
    let mut status = match scenario.outcome {
        Outcome::Passed | Outcome::Flaky => TestCaseStatus::success(),
        Outcome::Failed if scenario.quarantine.is_none() => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Failed | Outcome::Skipped | Outcome::NotRun => TestCaseStatus::skipped(),
    };
    match scenario.outcome {
        Outcome::Flaky => {
            for attempt in failed(scenario) {
                status.add_rerun(rerun(attempt));
            }
        }
        Outcome::Failed if scenario.quarantine.is_some() => {
            let why = scenario.quarantine.as_deref().unwrap_or_default();
            status.set_message(format!("quarantined ({why}): {}", scenario.message));
        }
        Outcome::Failed => {
            status.set_message(scenario.message.lines().next().unwrap_or_default()).set_type(TYPE);
            status.set_description(scenario.message.as_str());
            let attempts: Vec<&Attempt> = failed(scenario).collect();
            for attempt in attempts.iter().rev().skip(1).rev() {
                status.add_rerun(rerun(attempt));
            }
        }
        Outcome::NotRun if scenario.message.is_empty() => drop(status.set_message("the run ended before its turn")),
        // It was cut off, and may have failed by then.
        Outcome::NotRun => drop(status.set_message(scenario.message.as_str())),
        Outcome::Skipped => drop(status.set_message(scenario.message.as_str())),
        Outcome::Passed => {}
    }
    // Of two with one name the second has a number there: CI systems would take them for one.
    let of_feature = format!("{}: ", scenario.feature);
    let name = scenario.id.strip_prefix(&of_feature).unwrap_or(&scenario.name);
    let mut case = TestCase::new(name, status);
    case.set_classname(scenario.feature.as_str());
    case.set_time(Duration::from_secs_f64(scenario.attempts.last().map_or(0.0, |attempt| attempt.seconds)));
    case
}

fn failed(scenario: &Scenario) -> impl Iterator<Item = &Attempt> {
    scenario.attempts.iter().filter(|attempt| !attempt.message.is_empty())
}

/// It tells no time: the schema of Jenkins knows none of it.
fn rerun(attempt: &Attempt) -> TestRerun {
    let mut rerun = TestRerun::new(NonSuccessKind::Failure);
    rerun.set_message(attempt.message.lines().next().unwrap_or_default()).set_type(TYPE);
    rerun.set_description(attempt.message.as_str());
    rerun
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::results::tests::sample;

    #[test]
    fn what_was_cut_off_had_a_turn() {
        let mut results = sample();
        results.scenarios[5].message = "the run ended while it ran".to_owned();
        let document = document(&results).unwrap();
        assert!(document.contains("<skipped message=\"the run ended while it ran\"/>"), "{document}");
        assert!(!document.contains("before its turn"), "{document}");
    }

    #[test]
    fn two_scenarios_with_one_name_are_two_cases() {
        let mut results = sample();
        let second = Scenario { id: "Rows: good (2)".to_owned(), ..results.scenarios[0].clone() };
        results.scenarios.insert(1, second);
        let document = document(&results).unwrap();
        for name in ["good", "good (2)"] {
            assert_eq!(document.matches(&format!("<testcase name=\"{name}\" ")).count(), 1, "{document}");
        }
    }

    #[test]
    fn the_document_is_as_reviewed() {
        insta::with_settings!({snapshot_path => "../../../snapshots/reports", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("junit.xml", document(&sample()).unwrap());
        });
    }
}
