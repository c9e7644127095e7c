//! Probes: what is asked of a container, how often, and what follows from the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How long a probe is asked often, until it succeeds for the first time, so that readiness is seen at once.
const EAGER_FOR: Duration = Duration::from_secs(20);
/// First distance of two eager probes; it grows by a tenth each time.
const EAGER_FIRST: Duration = Duration::from_millis(20);
/// Greatest distance of two eager probes.
const EAGER_LAST: Duration = Duration::from_millis(250);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Run a command in the container.
    Exec(Vec<String>),
    /// Get a page; 200 to 399 is a success.
    Http(Box<Request>),
    /// Open a connection.
    Tcp {
        /// Address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Why an attempt to ask a container did not succeed, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// It gave a bad answer, or none.
    Answer(String),
    /// It was not asked: the node had nothing to ask it with. Nothing is known of it.
    Question(String),
}

impl Failed {
    /// The words.
    pub fn into_words(self) -> String {
        match self {
            Self::Answer(words) | Self::Question(words) => words,
        }
    }

    /// The same in other words.
    pub fn say(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Answer(words) => Self::Answer(change(words)),
            Self::Question(words) => Self::Question(change(words)),
        }
    }
}

/// An HTTP request of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// With TLS, whose certificate is not looked at.
    pub tls: bool,
    /// Address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Additional headers.
    pub headers: BTreeMap<String, String>,
}

/// A probe of a container, with Kubernetes' defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is asked.
    pub check: Check,
    /// Time before the first question.
    pub initial_delay: Duration,
    /// Distance of questions.
    pub period: Duration,
    /// Longest time for an answer.
    pub timeout: Duration,
    /// So many successes in a row are one.
    pub success_threshold: u32,
    /// So many failures in a row are one.
    pub failure_threshold: u32,
}

impl Plan {
    /// The plan of a probe.
    ///
    /// # Errors
    /// One sentence for a probe that can't be carried out.
    pub fn new(probe: &Probe, container: &Container, pod_ip: &str) -> Result<Self, String> {
        let seconds = |value: Option<i32>, default: u64, least: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default).max(least))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        Ok(Self {
            check: check(probe, container, pod_ip)?,
            initial_delay: seconds(probe.initial_delay_seconds, 0, 0),
            period: seconds(probe.period_seconds.filter(|seconds| *seconds > 0), 10, 1),
            timeout: seconds(probe.timeout_seconds.filter(|seconds| *seconds > 0), 1, 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
        })
    }
}

fn check(probe: &Probe, container: &Container, pod_ip: &str) -> Result<Check, String> {
    if let Some(exec) = &probe.exec {
        return Ok(Check::Exec(exec.command.clone().unwrap_or_default()));
    }
    let host = |host: Option<&String>| host.filter(|host| !host.is_empty()).map_or(pod_ip, |host| host).to_owned();
    if let Some(get) = &probe.http_get {
        return Ok(Check::Http(Box::new(request(get, host(get.host.as_ref()), container)?)));
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Ok(Check::Tcp { host: host(tcp.host.as_ref()), port: port(&tcp.port, container)? });
    }
    Err("probes of this kind are not supported by this node".into())
}

/// The request of an `httpGet` action, also of lifecycle hooks.
///
/// # Errors
/// One sentence for a port that does not exist.
pub fn request(get: &HTTPGetAction, host: String, container: &Container) -> Result<Request, String> {
    let path = get.path.as_deref().unwrap_or("/");
    let headers = get.http_headers.iter().flatten();
    Ok(Request {
        tls: get.scheme.as_deref() == Some("HTTPS"),
        host,
        port: port(&get.port, container)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
    })
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name}"),
    })
}

/// Turns single answers into the state of a probe.
#[derive(Debug)]
pub struct Tally {
    success_threshold: u32,
    failure_threshold: u32,
    state: Option<bool>,
    streak: (bool, u32),
}

impl Tally {
    /// Nothing known yet.
    pub fn new(plan: &Plan) -> Self {
        Self {
            success_threshold: plan.success_threshold,
            failure_threshold: plan.failure_threshold,
            state: None,
            streak: (false, 0),
        }
    }

    /// Takes an answer in; `Some` when the state has changed by it.
    pub fn answer(&mut self, is_success: bool) -> Option<bool> {
        self.streak = if self.streak.0 == is_success { (is_success, self.streak.1 + 1) } else { (is_success, 1) };
        let threshold = if is_success { self.success_threshold } else { self.failure_threshold };
        if self.streak.1 < threshold || self.state == Some(is_success) {
            return None;
        }
        self.state = Some(is_success);
        self.state
    }
}

/// When to ask again. A probe that has not succeeded yet is asked often for a while; only one failure per period
/// counts then, as if it had been asked at its own pace.
#[derive(Debug)]
pub struct Pace {
    period: Duration,
    distance: Duration,
    spent: Duration,
    counted: Duration,
    has_succeeded: bool,
}

impl Pace {
    /// The pace of a probe from its first question on.
    pub fn new(period: Duration) -> Self {
        Self { period, distance: EAGER_FIRST, spent: Duration::ZERO, counted: Duration::ZERO, has_succeeded: false }
    }

    /// Time until the next question, after an answer at `spent` since the first question; and whether a failure counts.
    pub fn next(&mut self, is_success: bool, spent: Duration) -> (Duration, bool) {
        self.spent = spent;
        self.has_succeeded |= is_success;
        if self.has_succeeded || spent >= EAGER_FOR {
            self.counted = spent;
            return (self.period, true);
        }
        let counts = spent >= self.counted + self.period;
        if counts {
            self.counted = spent;
        }
        let distance = self.distance;
        self.distance = (self.distance * 11 / 10).min(EAGER_LAST);
        (distance.min(self.period), counts)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(probe: serde_json::Value) -> Result<Plan, String> {
        let container = serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}));
        Plan::new(&serde_json::from_value(probe).unwrap(), &container.unwrap(), "127.64.0.9")
    }

    #[test]
    fn defaults_are_kubernetes() {
        let plan = plan(json!({"tcpSocket": {"port": "web"}})).unwrap();
        assert_eq!(plan.check, Check::Tcp { host: "127.64.0.9".into(), port: 8080 });
        assert_eq!((plan.period.as_secs(), plan.timeout.as_secs()), (10, 1));
        assert_eq!((plan.success_threshold, plan.failure_threshold), (1, 3));
    }

    #[test]
    fn a_port_that_does_not_exist_is_said() {
        assert_eq!(plan(json!({"httpGet": {"port": "x"}})).unwrap_err(), "couldn't find port: x");
        assert_eq!(plan(json!({"tcpSocket": {"port": 70000}})).unwrap_err(), "invalid port number: 70000");
        assert!(plan(json!({"grpc": {"port": 1}})).is_err());
    }

    #[test]
    fn a_request_has_a_path() {
        let made = plan(json!({"httpGet": {"port": 1, "path": "x?y", "scheme": "HTTPS"}})).unwrap();
        let Check::Http(request) = made.check else { panic!("{made:?}") };
        assert_eq!((request.path.as_str(), request.tls, request.port), ("/x?y", true, 1));
    }

    #[test]
    fn thresholds_turn_answers_into_a_state() {
        let mut tally = Tally { success_threshold: 2, failure_threshold: 3, state: None, streak: (false, 0) };
        let answers = [true, true, false, false, true, false, false, false, false, true, true];
        let changes: Vec<_> = answers.map(|answer| tally.answer(answer)).to_vec();
        let mut expected = vec![None; 11];
        (expected[1], expected[7], expected[10]) = (Some(true), Some(false), Some(true));
        assert_eq!(changes, expected);
    }

    #[test]
    fn a_probe_is_asked_often_until_its_first_success_and_fails_at_its_own_pace() {
        let mut pace = Pace::new(Duration::from_secs(1));
        let mut spent = Duration::ZERO;
        let (mut asked, mut counted) = (0, 0);
        while spent < Duration::from_secs(5) {
            let (wait, counts) = pace.next(false, spent);
            spent += wait;
            asked += 1;
            counted += u32::from(counts);
        }
        assert!(asked > 25 && (4..=5).contains(&counted), "{asked} {counted}");
        assert_eq!(pace.next(true, spent), (Duration::from_secs(1), true));
        assert_eq!(pace.next(false, spent), (Duration::from_secs(1), true));
    }
}
