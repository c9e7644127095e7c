//! Why a request to a cluster failed, and what that means for the exit code.

use std::path::PathBuf;

use http::StatusCode;
use kube::client::AuthError;
use kube::config::KubeconfigError;

use super::CONNECT;
use crate::finding::{Finding, Id, chain};

/// What to do about a cluster that does not answer.
pub const DOES_IT_RUN: &str = "Is the cluster running? a9s cluster status says so; a9s cluster start starts it.";

/// What failed on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no kubeconfig file.
    #[error("there is no kubeconfig: none of {} exists", looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoKubeconfig {
        /// Where it could have been.
        looked: Vec<PathBuf>,
    },
    /// No context is named and the kubeconfig has no current one.
    #[error("no Kubernetes context is selected")]
    NoContext,
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no context {context:?}")]
    UnknownContext {
        /// The context.
        context: String,
    },
    /// The kubeconfig can't be used.
    #[error("the kubeconfig can't be used")]
    Kubeconfig {
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The credentials are over.
    #[error("the client certificate of the context {context} has expired on {}", end.strftime("%F"))]
    Expired {
        /// The context.
        context: String,
        /// When that was.
        end: jiff::Timestamp,
    },
    /// The program that gets the credentials (client-go credential plugins) gives none.
    #[error("the program {program} gives no credentials")]
    Credentials {
        /// The program, as the kubeconfig names it.
        program: String,
        /// Why.
        #[source]
        source: Box<AuthError>,
    },
    /// A request failed.
    #[error("cannot {what}")]
    Request {
        /// What was tried, as an infinitive: `get postgresql default/solo`.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A watch ended in an error.
    #[error("cannot {what}")]
    Watch {
        /// What was waited for.
        what: String,
        /// Why it can't be.
        #[source]
        source: Box<kube::runtime::wait::Error>,
    },
    /// What a command in a container is to read can't be read.
    #[error("cannot read what the command is to read")]
    Input {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A request was not answered in time.
    #[error("cannot {what}: no answer within {seconds} s")]
    Unanswered {
        /// What was tried.
        what: String,
        /// How long.
        seconds: u64,
    },
}

impl Error {
    /// A failed request; `what` is an infinitive.
    pub fn request(what: impl Into<String>, source: kube::Error) -> Self {
        Self::Request { what: what.into(), source: Box::new(source) }
    }

    /// A watch that ended in an error; `what` is an infinitive.
    pub fn watch(what: impl Into<String>, source: kube::runtime::wait::Error) -> Self {
        Self::Watch { what: what.into(), source: Box::new(source) }
    }

    /// What a request or a watch has failed of.
    fn failure(&self) -> Option<&kube::Error> {
        use kube::runtime::{wait, watcher};
        match self {
            Self::Request { source, .. } => Some(source),
            Self::Watch { source, .. } => match source.as_ref() {
                wait::Error::ProbeFailed(
                    watcher::Error::InitialListFailed(error)
                    | watcher::Error::WatchStartFailed(error)
                    | watcher::Error::WatchFailed(error),
                ) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Why a request was not sent: the credentials that a program has given are over, and, asked again, it gave none.
    fn refused(&self) -> Option<&AuthError> {
        self.failure().and_then(refused)
    }

    /// Whether there are no credentials any more to ask with.
    pub fn is_without_credentials(&self) -> bool {
        self.refused().is_some()
    }

    /// The server's answer, if it gave one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self.failure() {
            Some(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    /// Whether the server said 404.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// Whether there is an object of the name of one that should have been made.
    pub fn is_there_already(&self) -> bool {
        self.status().is_some_and(|status| status.reason == "AlreadyExists")
    }

    /// Whether the server does not serve the kind that was asked for.
    pub fn is_unknown_kind(&self) -> bool {
        matches!(self, Self::Request { source, .. } if matches!(source.as_ref(), kube::Error::Discovery(_)))
    }

    /// Whether an object could not be tried yet: its webhook does not answer, or its API is so new that not every server
    /// has it.
    pub fn is_admission_away(&self) -> bool {
        self.is_webhook_away() || self.status().is_some_and(|status| matches!(status.code, 404 | 429 | 502..=504))
    }

    /// Whether a webhook did not answer (k8s.io/apiserver `pkg/admission/plugin/webhook/generic`: `failed calling
    /// webhook`; with a code of 500, which stands for much else).
    pub fn is_webhook_away(&self) -> bool {
        self.status().is_some_and(|status| status.code == 500 && status.message.contains("failed calling webhook"))
    }

    /// What failed and why, on one line.
    pub fn reason(&self) -> String {
        match self.status() {
            Some(status) => format!("{self}: {}", said(status)),
            None => self.words(),
        }
    }

    /// The error and its causes. Below their first line, the library for YAML shows what is around a mistake; in a
    /// kubeconfig, and in what a program gives as credentials, those are secrets. So may be what a program has written
    /// that failed.
    fn words(&self) -> String {
        let refused = if let Self::Credentials { source, .. } = self { Some(source.as_ref()) } else { self.refused() };
        match refused {
            Some(AuthError::AuthExecRun { out, .. }) => format!("{self}: {}", without_output(out)),
            _ => first_line(&chain(self)),
        }
    }

    /// Whether the server could not be reached: a later attempt may reach it.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            _ => {
                let has_failed = matches!(self.failure(), Some(kube::Error::Service(_) | kube::Error::HyperError(_)));
                (has_failed && self.refused().is_none()) || self.status().is_some_and(cannot_now)
            }
        }
    }
}

/// Why a request was not sent, where that is for want of credentials.
fn refused(error: &kube::Error) -> Option<&AuthError> {
    match error {
        kube::Error::Auth(error) => Some(error),
        kube::Error::Service(error) => error.downcast_ref(),
        _ => None,
    }
}

/// What a request has failed of, for those who say themselves what it was for; without the secrets of credentials.
pub fn told(error: &kube::Error) -> String {
    match refused(error) {
        Some(AuthError::AuthExecRun { out, .. }) => without_output(out),
        Some(error) => first_line(&chain(error)),
        None => error.to_string(),
    }
}

fn without_output(ended: &std::process::Output) -> String {
    format!("the program for credentials: {}", ended.status)
}

/// What is wrong, in short. Below that may be more than everybody is to see: what a program has written, or, by the library for
/// YAML, what is around the wrong place of a kubeconfig.
pub fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What a server says by an answer that is none: its own words, or else what its code stands for.
pub fn said(status: &kube::core::Status) -> String {
    if !status.message.is_empty() {
        return status.message.clone();
    }
    let code = StatusCode::from_u16(status.code).map(|code| code.to_string());
    format!("it answers {}", code.unwrap_or_else(|_| status.code.to_string()))
}

impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        let unreachable = error.is_unreachable();
        if let Some(status) = error.status() {
            return of_status(&error, status);
        }
        // Layers of the client, which say nothing, and hyper-timeout's words for a connection that is not made in time.
        let cause = error
            .words()
            .replace("ServiceError: ", "")
            .replace("client error (Connect): ", "")
            .replace("deadline has elapsed", &format!("no answer within {} s", CONNECT.as_secs()));
        match error {
            Error::NoKubeconfig { .. } | Error::NoContext => Self::new(Id::NoCluster, cause)
                .advise("Create a cluster with: a9s create cluster a8s")
                .advise("Or name one with --kubeconfig and --context."),
            Error::UnknownContext { .. } => {
                Self::new(Id::UnknownContext, cause).advise("kubectl config get-contexts lists the contexts there are.")
            }
            Error::Kubeconfig { .. } => Self::new(Id::KubeconfigUnusable, cause),
            Error::Expired { .. } => Self::new(Id::CertificateExpired, cause)
                .advise("Get new credentials from whoever runs the cluster, and put them into the kubeconfig."),
            Error::Credentials { program, source } => of_program(&program, &source, cause),
            Error::Input { .. } => Self::new(Id::NoFile, cause),
            Error::Unanswered { .. } => Self::new(Id::ClusterUnreachable, cause).advise(DOES_IT_RUN),
            // rustls, `rustls::Error::InvalidCertificate`: it has expired, or is of nobody whom the kubeconfig trusts.
            _ if cause.contains("invalid peer certificate") => Self::new(Id::ServerCertificate, cause)
                .advise("If the cluster was made anew, or has new certificates, get its kubeconfig anew."),
            Error::Request { .. } | Error::Watch { .. } => match error.refused() {
                Some(why) => of_program("that the kubeconfig names", why, cause),
                None if unreachable => Self::new(Id::ClusterUnreachable, cause).advise(DOES_IT_RUN),
                None => Self::new(Id::RequestFailed, cause),
            },
        }
    }
}

fn of_program(program: &str, error: &AuthError, cause: String) -> Finding {
    match error {
        AuthError::AuthExecStart(error) => {
            let cause =
                format!("the context gets its credentials from the program {program}, which can't be run: {error}");
            Finding::new(Id::NoTool, cause).advise("Install it, or name another context.")
        }
        AuthError::AuthExecRun { out, .. } => {
            let cause = format!("the program {program} gives no credentials for the context: {}", out.status);
            Finding::new(Id::Unauthorized, cause)
                .with("what it says", String::from_utf8_lossy(&out.stderr).lines())
                .advise("Log in with it again, as it says.")
        }
        _ => Finding::new(Id::Unauthorized, cause),
    }
}

fn of_status(error: &Error, status: &kube::core::Status) -> Finding {
    let cause = error.reason();
    match status.code {
        _ if error.is_webhook_away() => Finding::new(Id::WebhookUnreachable, cause)
            .advise("See whether what the webhook asks runs: kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations")
            .advise("If nobody needs it any more, delete that configuration."),
        401 => Finding::new(Id::Unauthorized, cause)
            .advise("The credentials of the context are not accepted by the cluster."),
        403 if is_of_ending_namespace(status) => Finding::new(Id::Forbidden, cause)
            .advise("Wait until the namespace is gone: kubectl get namespaces shows it; or name another."),
        403 => Finding::new(Id::Forbidden, cause)
            .advise("Use a context that may do this, or have somebody grant it: kubectl auth can-i --list shows what is."),
        404 => Finding::new(Id::NotFound, cause),
        409 => Finding::new(Id::Conflict, cause),
        422 => Finding::new(Id::Invalid, cause),
        _ if error.is_unreachable() => Finding::new(Id::ClusterUnreachable, cause),
        _ => Finding::new(Id::RequestFailed, cause),
    }
}

/// Whether a server says that it can't answer at the moment. What its etcd can't do comes with a code of 500, which
/// stands for much else (go.etcd.io/etcd `api/v3rpc/rpctypes/error.go`).
fn cannot_now(status: &kube::core::Status) -> bool {
    const ETCD: [&str; 4] = ["request timed out", "leader changed", "no leader", "too many requests"];
    let is_of_etcd = || ETCD.iter().any(|words| status.message.contains(&format!("etcdserver: {words}")));
    matches!(status.code, 429 | 502..=504) || (status.code == 500 && is_of_etcd())
}

/// Whether something was refused because its namespace is being deleted: as 403, which most often means something else
/// (k8s.io/api `core/v1`, `NamespaceTerminatingCause`).
fn is_of_ending_namespace(status: &kube::core::Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a server's refusal.
    fn refused(code: u16, message: &str, cause: &str) -> Finding {
        let details = serde_json::json!({"causes": [{"reason": cause}]});
        let status = serde_json::json!({"code": code, "message": message, "details": details});
        let status = serde_json::from_value(status).unwrap();
        Finding::from(Error::request("create it", kube::Error::Api(Box::new(status))))
    }

    #[test]
    fn a_namespace_that_is_going_is_no_lack_of_rights() {
        let message = "unable to create new content in namespace n because it is being terminated";
        let finding = refused(403, message, "NamespaceTerminating");
        assert_eq!(finding.id, Id::Forbidden);
        assert!(finding.advice[0].starts_with("Wait until the namespace is gone"), "{:?}", finding.advice);
        assert!(refused(403, "no", "").advice[0].contains("kubectl auth can-i"));
    }

    #[test]
    fn what_the_store_of_the_server_cannot_do_at_the_moment_is_no_failure() {
        for (code, message, id) in [
            (500, "etcdserver: request timed out", Id::ClusterUnreachable),
            (500, "Internal error occurred: etcdserver: leader changed", Id::ClusterUnreachable),
            (500, "etcdserver: mvcc: database space exceeded", Id::RequestFailed),
            (500, "something else", Id::RequestFailed),
            (503, "later", Id::ClusterUnreachable),
        ] {
            assert_eq!(refused(code, message, "").id, id, "{message}");
        }
    }
}
