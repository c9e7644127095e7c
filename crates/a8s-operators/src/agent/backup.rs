//! The container for backups. It answers for its own health; orders come with backups, which this version of the agent
//! does not make yet.

use super::environment::Pod;
use super::{BACKUP_PORT, health};
use http::StatusCode;

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
    health::serve_until_told_to_end(listener, answer).await;
    Ok(())
}
