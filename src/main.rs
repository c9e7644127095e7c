//! The program `a9s`. One binary is everything: the commands, the embedded cluster's process, the operators' pod,
//! and the agents that run in an instance's containers. The hidden ones are told apart before anything else happens.

use std::process::ExitCode;

use a9s::provider::embedded;

fn main() -> ExitCode {
    // It must be first: the launcher of containers needs a process without threads.
    kube_embedded::node::launcher::dispatch();
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|word| word.to_str()) {
        Some("agent") => a8s_operators::agent::main(arguments),
        Some(a8s_operators::in_cluster::WORD) => a8s_operators::in_cluster::main(arguments),
        Some(embedded::daemon::WORD) => embedded::process::main(arguments),
        _ => a9s::cli::main(),
    }
}
