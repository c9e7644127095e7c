//! The program `a9s`. One binary is everything: the commands, the embedded cluster's process, the operators' pod,
//! and the agents that run in an instance's containers. The hidden ones are told apart before anything else happens.

use std::process::ExitCode;

use a9s::conformance::catalogue::Sources;
use a9s::provider::embedded;
use include_dir::{Dir, include_dir};

/// The features, so that the suite needs nothing but this program. They are read only when they are asked for.
static FEATURES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/features");

fn main() -> ExitCode {
    // It must be first: the launcher of containers needs a process without threads.
    kube_embedded::node::launcher::dispatch();
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|word| word.to_str()) {
        Some("agent") => {
            abort_on_panic();
            a8s_operators::agent::main(arguments)
        }
        Some(a8s_operators::in_cluster::WORD) => {
            abort_on_panic();
            a8s_operators::in_cluster::main(arguments)
        }
        Some(embedded::daemon::WORD) => {
            abort_on_panic();
            embedded::process::main(arguments)
        }
        _ => a9s::cli::main(features),
    }
}

/// A server with a part that has panicked would go on as if it had not; its supervisor starts a new one. Only the
/// answer to a request leaves nothing behind. (Commands unwind: a step of the suite fails by a panic.)
fn abort_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        if !kube_embedded::api::panics::is_contained() {
            std::process::abort();
        }
    }));
}

fn features() -> Sources {
    let files = FEATURES.files();
    Sources::from_files(files.filter_map(|file| Some((file.path().to_str()?, file.contents_utf8()?))))
}
