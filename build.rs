//! Release builds are told which commit they are of, where git and a repository are there; nothing depends on it. And they
//! are stripped: a profile's `strip` does not reach a package that has a level of its own in it. Development builds are
//! linked to a fixed address: otherwise each of the many processes of a run of the suite first moves 450 000 pointers.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |variable: &str, value: &str| std::env::var(variable).as_deref() == Ok(value);
    let is_linux = is("CARGO_CFG_TARGET_OS", "linux");
    // Development builds would be made anew with every commit.
    if !is("PROFILE", "release") {
        if is_linux && is("CARGO_CFG_TARGET_ENV", "gnu") {
            println!("cargo::rustc-link-arg-bins=-no-pie");
        }
        return;
    }
    if is_linux {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
    }
    println!("cargo::rerun-if-changed=.git/HEAD");
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output().ok().filter(|output| output.status.success());
    if let Some(commit) = commit.and_then(|output| String::from_utf8(output.stdout).ok()) {
        println!("cargo::rustc-env=A9S_COMMIT={}", commit.trim());
    }
}
