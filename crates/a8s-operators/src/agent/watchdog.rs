//! Ends a server that lives and answers nobody, such as one that a signal has stopped: then it is started again, as one that has
//! crashed. The kubelet could find that out by a liveness probe, but would end the agent with it.

use super::lease::LASTS;
use super::{bootstrap, postmaster};
use std::path::Path;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Between two questions.
const ROUND: Duration = Duration::from_secs(2);
/// So many times in a row no answer within [`LASTS`]. Once could be the agent's own sleep: it was frozen itself, say.
const IN_VAIN: u32 = 2;

/// Asks the server of a data directory for connections until it gives none, and kills all of its processes then. It must accept
/// connections already. A refusal is an answer: it may be shutting down, or have too many clients.
pub async fn watch(data: &Path, sockets: &Path) {
    let mut in_vain = 0;
    if sabotage::sabotaged!("frozen-server-stays") {
        return;
    }
    while in_vain < IN_VAIN {
        sleep(ROUND).await;
        let answered = timeout(LASTS, bootstrap::connect(sockets, "a9s watchdog")).await.is_ok();
        in_vain = if answered { 0 } else { in_vain + 1 };
    }
    tracing::error!("the server lives and does not answer: it is ended");
    // What is stopped takes no other signal than SIGKILL.
    postmaster::quit(data, Duration::ZERO).await;
}
