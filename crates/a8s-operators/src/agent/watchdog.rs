//! Ends a server that lives and answers nobody, such as one that a signal has stopped: then it is started again, as one that has
//! crashed. The kubelet could find that out by a liveness probe, but would end the agent with it.

use super::lease::LASTS;
use super::{bootstrap, postmaster};
use std::error::Error as _;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Between two questions.
const ROUND: Duration = Duration::from_secs(2);
/// A server that is silent for so long is ended.
const PATIENCE: Duration = LASTS.saturating_mul(2);
/// And at least so many questions in a row: one could be the agent's own sleep, if it was frozen itself.
const IN_VAIN: u32 = 2;

/// Asks the server of a data directory for connections until it gives none, and kills all of its processes then. It must accept
/// connections already.
pub async fn watch(data: &Path, sockets: &Path) {
    let (mut in_vain, mut heard) = (0, Instant::now());
    if sabotage::sabotaged!("frozen-server-stays") {
        return;
    }
    while in_vain < IN_VAIN || heard.elapsed() < PATIENCE {
        sleep(ROUND).await;
        let asked = Instant::now();
        if answers(sockets).await {
            (in_vain, heard) = (0, asked);
        } else {
            in_vain += 1;
        }
    }
    tracing::error!("the server lives and has not answered for {} s: it is ended", heard.elapsed().as_secs());
    // What is stopped takes no other signal than SIGKILL.
    postmaster::quit(data, Duration::ZERO).await;
}

/// A refusal is an answer: the server may be shutting down, or have too many clients. A full queue of its socket is none.
async fn answers(sockets: &Path) -> bool {
    match timeout(LASTS, bootstrap::connect(sockets, "a9s watchdog")).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
            cause.is_none_or(|cause| cause.kind() != io::ErrorKind::WouldBlock)
        }
        Err(_) => false,
    }
}

// Elsewhere a full queue refuses.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::agent::SQL_PORT;

    #[tokio::test]
    async fn nobody_there_is_an_answer_and_a_full_queue_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(answers(directory.path()).await, "the server has ended");

        let listener = tokio::net::UnixSocket::new_stream().expect("a socket");
        let path = directory.path().join(format!(".s.PGSQL.{SQL_PORT}"));
        listener.bind(&path).expect("bound");
        let _listener = listener.listen(1).expect("listening");
        let mut waiting = Vec::new();
        while let Ok(client) = tokio::net::UnixSocket::new_stream().expect("a socket").connect(&path).await {
            waiting.push(client);
        }
        assert!(!answers(directory.path()).await, "{} wait", waiting.len());
    }
}
