//! The test target that runs the features: `cargo test --test e2e -- --tags @smoke`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let features = std::env::var_os("A9S_E2E_FEATURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("features"), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(a9s::conformance::run(&features, Path::new(env!("CARGO_BIN_EXE_a9s")))),
        Err(error) => {
            eprintln!("no runtime: {error}");
            ExitCode::FAILURE
        }
    }
}
