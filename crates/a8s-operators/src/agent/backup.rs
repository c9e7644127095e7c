//! The container for backups. It answers for its own health; orders come with backups, which this version of the agent
//! does not make yet.

use super::environment::Pod;
use super::{BACKUP_PORT, health};
use http::StatusCode;
use tokio::signal::unix::{SignalKind, signal};

/// Runs until it is told to end.
///
/// # Errors
/// If its port cannot be had.
pub async fn run(pod: Pod) -> Result<(), health::Error> {
    let listener = health::listen(pod.address, BACKUP_PORT).await?;
    tracing::info!("ready; this agent does not make backups yet");
    let answer = |path: String| async move {
        let is_known = matches!(path.as_str(), "/liveness" | "/readiness" | "/health");
        health::status(if is_known { StatusCode::OK } else { StatusCode::NOT_FOUND })
    };
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            tokio::select! {
                () = health::serve(listener, answer) => {}
                () = told_to_end() => {}
            }
        })
        .await;
    Ok(())
}

/// Waits for SIGTERM or SIGINT.
pub async fn told_to_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
