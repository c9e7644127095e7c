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
pub trait Platform: 'static {
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
