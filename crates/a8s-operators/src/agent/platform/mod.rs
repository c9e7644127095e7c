//! What an agent needs of the cluster it runs in, so that it can also be driven without one.

pub mod kubernetes;

use super::decide::Member;
use super::lease::Record;
use super::report::Standing;
use a8s_api::Postgresql;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

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
    /// A pod has been deleted, and another one may have its name.
    #[error("the pod {0} is gone")]
    Gone(String),
}

/// What the cluster answers, if it does so in time.
///
/// # Errors
/// It does not, or what it answers is an error.
pub async fn answered<T>(limit: Duration, asking: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(limit, asking).await;
    answer.unwrap_or_else(|_| Err(Error::Configuration("it does not answer".to_owned())))
}

/// What an agent says of its member: labels and annotations of its pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `master` or `replica`; `None`: what it said before stays.
    pub role: Option<&'static str>,
    /// What it has applied, as [`super::report::Applied`] in JSON.
    pub configuration: Option<String>,
    /// How far it is, if it receives nothing.
    pub standing: Option<Standing>,
    /// What it waits for, if people should know.
    pub trouble: Option<String>,
    /// Generation of the content it serves; `None`: the first, or it serves none yet.
    pub generation: Option<String>,
    /// Whether its disk is full.
    pub is_full: bool,
}

/// What an agent sees of the cluster, as far as it has been seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The instance.
    pub instance: Option<Postgresql>,
    /// The Lease; `Some(None)`: there is none.
    pub lease: Option<Option<Sighting>>,
    /// Whether one has been seen.
    pub was_leased: bool,
    /// All pods of the instance by name, this one among them.
    pub members: Option<BTreeMap<String, Member>>,
}

/// A Lease, and when it was seen to be so.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What it says.
    pub record: Record,
    /// When it was first seen with this version, on this machine's monotonic clock.
    pub since: Instant,
    /// Whether this is not the first version that this run has seen.
    pub has_changed: bool,
}

impl Seen {
    /// Whether all has been seen once.
    pub fn is_known(&self) -> bool {
        self.instance.is_some() && self.lease.is_some() && self.members.is_some()
    }

    /// The Lease, if there is one.
    pub fn sighting(&self) -> Option<&Sighting> {
        self.lease.as_ref()?.as_ref()
    }

    /// Whether the instance has had data, by what the operator noted of it.
    pub fn was_initialized(&self) -> bool {
        let status = self.instance.as_ref().and_then(|instance| instance.status.as_ref());
        status.is_some_and(|status| status.initialized == Some(true))
            && !sabotage::sabotaged!("begun-anew-without-lease")
    }

    /// Takes note of a Lease. The same version again is no change: a watch that begins anew tells what it told before.
    pub fn see_lease(&mut self, record: Option<Record>) {
        let known = self.sighting();
        if let (Some(known), Some(record)) = (known, &record)
            && known.record.version == record.version
        {
            return;
        }
        let has_changed = known.is_some();
        self.was_leased |= record.is_some();
        self.lease = Some(record.map(|record| Sighting { record, since: Instant::now(), has_changed }));
    }
}

/// How writing a Lease ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It says this now.
    Done(Box<Record>),
    /// Somebody else has written, made or removed it since it was read.
    Conflict,
}

/// The cluster, as an agent sees it. What an agent has begun to say of a pod, and given up before an answer came, does not
/// arrive after what is said of it later.
pub trait Platform: Primary + 'static {
    /// Follows instance, Lease and pods for ever, and puts what is seen into the channel.
    fn follow(&self, seen: watch::Sender<Seen>) -> impl Future<Output = ()>;

    /// Makes the Lease say this, if it is still as it was read; without a version: makes it, if there is none.
    fn write_lease(&self, instance: &Postgresql, record: &Record) -> impl Future<Output = Result<Written, Error>>;

    /// The Lease as it is now.
    fn lease(&self) -> impl Future<Output = Result<Option<Record>, Error>>;

    /// A pod of the instance as it is now, whatever has been seen.
    fn member(&self, pod: &str) -> impl Future<Output = Result<Option<Member>, Error>>;

    /// Says of another pod that it is no primary: it still claims to be, but cannot change that itself. Answers whether that was
    /// said, or the pod is gone; if not, it has changed meanwhile.
    fn depose(&self, pod: &str, uid: &str) -> impl Future<Output = Result<bool, Error>>;

    /// Publishes each change of the channel, also where it says the same as before, until the channel is closed. `said` is the
    /// last one that was published.
    fn publish(&self, reports: watch::Receiver<Report>, said: watch::Sender<Report>) -> impl Future<Output = ()>;
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
