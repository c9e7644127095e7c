//! What an agent needs of the cluster it runs in, so that it can also be driven without one.

pub mod kubernetes;

use a8s_api::Postgresql;
use std::future::Future;
use tokio::sync::watch;

/// Why the cluster did not help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment does not lead to an API server.
    #[error("cannot find the Kubernetes API: {0}")]
    Configuration(String),
    /// The API refused a request.
    #[error("cannot {action}: {message}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The API's own words.
        message: String,
    },
    /// A request failed.
    #[error("cannot {action}")]
    Request {
        /// What was tried.
        action: &'static str,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
}

/// What an agent says of its member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `master` or `replica`.
    pub role: &'static str,
    /// What it has applied, as [`super::report::Applied`] in JSON.
    pub configuration: String,
}

/// The cluster, as an agent sees it.
pub trait Platform: Primary + 'static {
    /// The instance.
    fn instance(&self) -> impl Future<Output = Result<Postgresql, Error>>;

    /// Notes that the instance is initialised with a system identifier, unless another one has been noted before, and
    /// answers with what is noted.
    fn claim(&self, instance: &Postgresql, system_identifier: u64) -> impl Future<Output = Result<String, Error>>;

    /// The identifier that has been noted, if any.
    fn claimed(&self) -> impl Future<Output = Result<Option<String>, Error>>;

    /// Follows the instance for ever, and puts each state of it into the channel.
    fn follow(&self, instances: watch::Sender<Option<Postgresql>>) -> impl Future<Output = ()>;

    /// Publishes each report of the channel, until the channel is closed.
    fn publish(&self, reports: watch::Receiver<Option<Report>>) -> impl Future<Output = ()>;
}

/// What the agent of a primary needs beyond that.
pub trait Primary {
    /// The content of the instance's Secret of logins now; empty if there is no such Secret.
    fn logins(&self) -> impl Future<Output = Result<Vec<u8>, Error>>;

    /// Follows that content for ever, and puts each state of it into the channel. `None` there: it is not known yet.
    fn follow_logins(&self, contents: watch::Sender<Option<Vec<u8>>>) -> impl Future<Output = ()>;

    /// Notes something on the pod, in an annotation; without a value, takes the note away.
    fn note(&self, annotation: &'static str, value: Option<&str>) -> impl Future<Output = Result<(), Error>>;
}
