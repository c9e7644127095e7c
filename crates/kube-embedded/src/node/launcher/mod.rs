//! The program that becomes a container's process: the node starts its own binary again with the word [`WORD`], hands
//! it a [`Spec`] on standard input, and that process makes the container's view of the file system, gives up its
//! rights and executes the container's program.
//!
//! It is a program of its own because these calls concern a whole process and must be made while it has one thread.
//! [`dispatch`] has to be the first thing `main` does. Nothing secret is in arguments, environment or files.

#[cfg(target_os = "linux")]
mod enter;
#[cfg(target_os = "linux")]
mod mount;
#[cfg(target_os = "linux")]
mod opened;
pub mod spec;
pub mod view;

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::exit;

use spec::Spec;

/// First argument with which the binary is the launcher.
pub const WORD: &str = "__launch";

/// Exit code of a launcher that could not start the program for another reason than the program.
pub const EXIT_LAUNCHER: i32 = 125;
/// Exit code for a program that exists and can't be executed, as shells have it.
pub const EXIT_NOT_EXECUTABLE: i32 = 126;
/// Exit code for a program that does not exist, as shells have it.
pub const EXIT_NOT_FOUND: i32 = 127;

/// Why a program was not started.
#[derive(Debug)]
pub struct Refusal {
    /// Exit code of the launcher.
    pub code: i32,
    /// One sentence, as a lower-case fragment.
    pub message: String,
}

impl Refusal {
    fn new(what: impl std::fmt::Display, cause: impl std::fmt::Display) -> Self {
        Self { code: EXIT_LAUNCHER, message: format!("{what}: {cause}") }
    }
}

/// Becomes the launcher, and never returns, if the first argument is [`WORD`]. Must be called by `main` before any
/// thread exists.
pub fn dispatch() {
    if std::env::args_os().nth(1).as_deref() != Some(OsStr::new(WORD)) {
        return;
    }
    let refusal = match spec::read(std::io::stdin().as_fd()) {
        Ok(spec) => follow(spec),
        Err(error) => Refusal::new("cannot read the order", error),
    };
    // Standard error is the container's log, or what `exec` shows.
    let _ = writeln!(std::io::stderr(), "{}", refusal.message);
    exit(refusal.code);
}

#[cfg(target_os = "linux")]
fn follow(spec: Spec) -> Refusal {
    use spec::Order;
    match spec.order {
        Order::Run(run) => enter::run(spec.parent, run),
        Order::Exec(exec) => enter::exec(spec.parent, exec),
        Order::Survey(survey) => match enter::survey(&survey) {
            Ok(()) => exit(0),
            Err(refusal) => refusal,
        },
        Order::Sweep(sweep) => {
            enter::sweep(&sweep);
            exit(0)
        }
    }
}

/// A container is made of what only Linux has: namespaces, and signals for the death of a parent.
#[cfg(not(target_os = "linux"))]
fn follow(_: Spec) -> Refusal {
    Refusal::new("cannot make a container", "this system is not Linux")
}
