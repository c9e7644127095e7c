//! The test target that runs the features: `cargo test --test e2e -- --tags @smoke` is `a9s conformance run --tags @smoke`
//! with the features of this directory and the program that cargo has just built.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use a9s::conformance::catalogue::Sources;

fn main() -> ExitCode {
    let report = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let own: [OsString; 9] = [
        "a9s".into(),
        "conformance".into(),
        "run".into(),
        "--features".into(),
        std::env::var_os("A9S_E2E_FEATURES")
            .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("features").into()),
        "--program".into(),
        std::env::var_os("A9S_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_a9s").into()),
        "--report".into(),
        report.join("e2e").into(),
    ];
    a9s::cli::main_with(own.into_iter().chain(std::env::args_os().skip(1)), Sources::default)
}
