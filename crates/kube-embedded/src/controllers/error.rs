//! What keeps a controller from its work; it will be tried again.

use std::path::PathBuf;

/// Why a reconciliation was not completed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused a request, or didn't answer.
    #[error("cannot {verb} {kind} {name:?}")]
    Request {
        /// What was tried.
        verb: &'static str,
        /// On which kind.
        kind: String,
        /// On which object.
        name: String,
        /// What was answered.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object is not what its kind says.
    #[error("cannot read {what}")]
    Unreadable {
        /// Which object.
        what: String,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// A volume's directory can't be made or removed.
    #[error("cannot use {path}")]
    Volume {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something has to go first.
    #[error("{0} is still being deleted")]
    Waiting(String),
}

impl Error {
    /// The API's answer, if there was one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// The error and its causes in one line, for logs and events.
    pub fn with_causes(&self) -> String {
        if let Some(status) = self.status() {
            return status.message.clone();
        }
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}
