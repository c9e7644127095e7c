//! The test target that runs the features: `cargo test --test e2e -- --tags @smoke` is `a9s conformance run --tags @smoke`
//! with the features of this directory and the program that cargo has just built.
//!
//! A run of everything by root on the embedded cluster must also have brought about every finding there is: what no scenario has
//! seen may say anything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use a9s::conformance::catalogue::Sources;
use a9s::conformance::results::{Results, Verdict};
use a9s::finding::Id;
use nix::unistd::Uid;

/// Findings that the embedded cluster on a machine like this one can't bring about, and who shows them instead.
const ELSEWHERE: [(Id, &str); 14] = [
    (Id::ClusterStopped, "a cluster that is just starting: a moment that a scenario can't hit"),
    (Id::ContainerConfig, "a cluster of containers; a unit test has the pod"),
    (Id::DirectoryTooLong, "the runtime directory of somebody who is not root; a unit test"),
    (
        Id::FailoverElsewhere,
        "a standby that overtakes the named one in the middle of a failover: the unit tests of the election",
    ),
    (Id::FetchNotFound, "a network; a unit test has the server"),
    (Id::ReleaseDamaged, "a network; a unit test has the archive"),
    (Id::Internal, "a bug"),
    (Id::JobFailed, "a cluster that runs Jobs; a unit test has the Job"),
    (Id::NoCredentials, "a Secret without a word, which the stack puts right at once"),
    (Id::NoHome, "a user whom the system does not know"),
    (Id::NoPort, "a machine with no free port"),
    (Id::NoPostgresql, "a machine without PostgreSQL, where nothing else runs either"),
    (Id::ProviderUnsupported, "a system other than Linux; a unit test"),
    (Id::RequestFailed, "an answer that no server of ours gives; the unit tests of the client have it"),
];

fn main() -> ExitCode {
    let report =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from).join("e2e");
    let features = std::env::var_os("A9S_E2E_FEATURES");
    let own: [OsString; 9] = [
        "a9s".into(),
        "conformance".into(),
        "run".into(),
        "--features".into(),
        features.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("features").into()),
        "--program".into(),
        std::env::var_os("A9S_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_a9s").into()),
        "--report".into(),
        report.clone().into(),
    ];
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    let everything = match given.as_slice() {
        [] => Some(report),
        [flag, directory] if flag == "--report" => Some(directory.into()),
        _ => None,
    };
    let code = a9s::cli::main_with(own.into_iter().chain(given), Sources::default);
    // Some need root, and are skipped for others.
    let is_whole = std::env::var_os("A9S_E2E_FEATURES").is_none() && Uid::effective().is_root();
    match everything.filter(|_| is_whole).map(|report| Results::read(&report)) {
        Some(Ok(results)) if results.verdict == Verdict::Passed && results.selection.door == "cli" => {
            findings(&results)
        }
        _ => code,
    }
}

/// Every finding must have been seen in what a command said.
fn findings(results: &Results) -> ExitCode {
    let said: String = results.scenarios.iter().map(|scenario| scenario.observations.to_string()).collect();
    let elsewhere = |id: &Id| ELSEWHERE.iter().any(|(there, _)| there == id);
    let unseen: Vec<&str> =
        Id::ALL.iter().filter(|id| !elsewhere(id) && !said.contains(&format!("[{id}]"))).map(|id| id.name()).collect();
    println!("{} of {} findings seen", Id::ALL.len() - ELSEWHERE.len() - unseen.len(), Id::ALL.len());
    if unseen.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("PROBLEM  no scenario has seen: {}", unseen.join(", "));
    ExitCode::FAILURE
}
