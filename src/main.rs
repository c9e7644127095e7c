//! The program `a9s`. One binary is everything: the commands, the embedded cluster's process, and the agents that run
//! in an instance's containers. The hidden ones are told apart before anything else happens.

use std::process::ExitCode;

fn main() -> ExitCode {
    a9s::cli::main()
}
