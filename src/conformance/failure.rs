//! Why a step definition says no.

use std::fmt::Display;
use std::time::Duration;

use kube::config::KubeconfigError;

use crate::kubernetes::{first_line, told};
use crate::postgres;

/// The reason a scenario fails. Its text is what the report prints under the step.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something is not as the feature says.
    #[error("expected {expected}\nbut found {found}")]
    Unexpected {
        /// What the feature says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A condition did not come true in time.
    #[error("waited {} s for {what}; last seen: {last}", waited.as_secs())]
    Deadline {
        /// The condition.
        what: String,
        /// How long.
        waited: Duration,
        /// The state last seen.
        last: String,
    },
    /// The step needs something earlier in the scenario.
    #[error("the scenario has no {0} yet")]
    Missing(&'static str),
    /// A program could not be run.
    #[error("{program} can't be run: {cause}")]
    Run {
        /// Which.
        program: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The Kubernetes API said no.
    #[error("the API server: {}", told(.0))]
    Kubernetes(#[from] kube::Error),
    /// A kubeconfig can't be used.
    #[error("kubeconfig: {}", first_line(&.0.to_string()))]
    Kubeconfig(#[from] KubeconfigError),
    /// PostgreSQL said no, or nothing.
    #[error(transparent)]
    Database(#[from] postgres::Error),
    /// A file or a socket.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// A document could not be read.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Failure {
    /// `expected … but found …`.
    pub fn unexpected(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Unexpected { expected: expected.into(), found: found.into() }
    }

    /// `expected … but found …`, unless it holds.
    ///
    /// # Errors
    /// It does not.
    pub fn unless(holds: bool, expected: impl Into<String>, found: impl Display) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::unexpected(expected, found.to_string())) }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

#[cfg(test)]
mod tests {
    use kube::client::AuthError;
    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn what_a_kubeconfig_holds_is_not_told_where_it_cannot_be_read() {
        let text = "apiVersion: v1\nkind: Config\nusers:\n- name: demo\n  user:\n    token: s3cr3t: x\n";
        let told = Failure::from(Kubeconfig::from_yaml(text).unwrap_err()).to_string();
        assert!(told.starts_with("kubeconfig: failed to parse ") && !told.contains("s3cr3t"), "{told}");
    }

    #[test]
    fn what_a_program_for_credentials_has_written_is_not_told_where_it_fails() {
        let out = std::process::Command::new("sh").args(["-c", "echo s3cr3t; exit 7"]).output().unwrap();
        let error = AuthError::AuthExecRun { cmd: "sh".to_owned(), out: Box::new(out) };
        let why = "the API server: the program for credentials: exit status: 7";
        assert_eq!(Failure::from(kube::Error::Service(Box::new(error))).to_string(), why);
    }
}
