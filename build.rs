//! Release builds are told which commit they are of, where git and a repository are there; nothing depends on it. And they
//! are stripped: a profile's `strip` does not reach a package that has a level of its own in it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Development builds would be made anew with every commit.
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
    }
    println!("cargo::rerun-if-changed=.git/HEAD");
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output().ok().filter(|output| output.status.success());
    if let Some(commit) = commit.and_then(|output| String::from_utf8(output.stdout).ok()) {
        println!("cargo::rustc-env=A9S_COMMIT={}", commit.trim());
    }
}
