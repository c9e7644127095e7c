//! The status of a pod, computed from what its containers do (kubernetes/kubernetes `pkg/kubelet/kubelet_pods.go`,
//! `status/generate.go`). Pure: nothing here runs or waits.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Terminated {
    /// Exit code; 128 plus the signal's number for a killed program.
    pub exit_code: i32,
    /// `Completed`, `Error`, `StartError`, …
    pub reason: String,
    /// The termination message.
    pub message: Option<String>,
    /// When it began; `None` if it never did.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Timestamp,
    /// The run's id.
    pub id: String,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Not started, or between two runs.
    Waiting {
        /// `PodInitializing`, `CrashLoopBackOff`, …
        reason: String,
        /// A sentence more.
        message: Option<String>,
    },
    /// Its process runs.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// Its process ended.
    Terminated(Terminated),
}

/// One container of a pod, as the node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// The image of its specification.
    pub image: String,
    /// It is an init container.
    pub is_init: bool,
    /// What it does now.
    pub state: State,
    /// How the run before ended.
    pub last: Option<Terminated>,
    /// Restarts so far.
    pub restarts: i32,
    /// Startup probe succeeded, or there is none.
    pub started: bool,
    /// Readiness probe succeeded, or there is none.
    pub ready: bool,
    /// Id of the present or latest run; empty before the first.
    pub id: String,
    /// It has to run again, whatever its last result was.
    pub again: bool,
}

impl Record {
    /// A container that has not run yet.
    pub fn new(container: &Container, is_init: bool, reason: &str) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            is_init,
            state: State::Waiting { reason: reason.to_owned(), message: None },
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            id: String::new(),
            again: false,
        }
    }

    /// The result of the latest run, if none is under way.
    pub fn result(&self) -> Option<&Terminated> {
        match &self.state {
            State::Terminated(terminated) => Some(terminated),
            State::Waiting { .. } => self.last.as_ref(),
            State::Running { .. } => None,
        }
    }

    /// It ended well.
    pub fn has_succeeded(&self) -> bool {
        matches!(&self.state, State::Terminated(terminated) if terminated.exit_code == 0)
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, State::Running { .. }) && self.started && self.ready
    }

    fn status(&self) -> ContainerStatus {
        let is_running = matches!(self.state, State::Running { .. });
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: if self.id.is_empty() { String::new() } else { format!("a9s://{}", self.image) },
            container_id: (!self.id.is_empty()).then(|| container_id(&self.id)),
            restart_count: self.restarts,
            ready: if self.is_init { self.has_succeeded() } else { self.is_ready() },
            started: Some(is_running && self.started),
            state: Some(state(&self.state)),
            last_state: self
                .last
                .as_ref()
                .filter(|_| !matches!(&self.state, State::Terminated(now) if Some(now) == self.last.as_ref()))
                .map(|last| ContainerState { terminated: Some(terminated(last)), ..ContainerState::default() }),
            ..ContainerStatus::default()
        }
    }
}

fn container_id(id: &str) -> String {
    format!("a9s://{id}")
}

fn time(timestamp: Timestamp) -> Time {
    // Kubernetes' times have whole seconds.
    Time(Timestamp::from_second(timestamp.as_second()).unwrap_or(timestamp))
}

fn state(state: &State) -> ContainerState {
    let mut result = ContainerState::default();
    match state {
        State::Waiting { reason, message } => {
            result.waiting = Some(ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() });
        }
        State::Running { since } => result.running = Some(ContainerStateRunning { started_at: Some(time(*since)) }),
        State::Terminated(ended) => result.terminated = Some(terminated(ended)),
    }
    result
}

fn terminated(ended: &Terminated) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: ended.exit_code,
        reason: Some(ended.reason.clone()),
        message: ended.message.clone(),
        // Go's zero time is what a container that never started shows.
        started_at: Some(ended.started.map_or(Time(Timestamp::UNIX_EPOCH), time)),
        finished_at: Some(time(ended.finished)),
        container_id: (!ended.id.is_empty()).then(|| container_id(&ended.id)),
        ..ContainerStateTerminated::default()
    }
}

/// How a container ended, from a status that was written before a restart of the node.
pub fn recorded(status: &ContainerStateTerminated) -> Terminated {
    Terminated {
        exit_code: status.exit_code,
        reason: status.reason.clone().unwrap_or_default(),
        message: status.message.clone(),
        started: status.started_at.as_ref().map(|time| time.0),
        finished: status.finished_at.as_ref().map_or_else(Timestamp::now, |time| time.0),
        id: status.container_id.as_deref().and_then(|id| id.strip_prefix("a9s://")).unwrap_or_default().to_owned(),
    }
}

/// What of a pod's status is not its containers'.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// The pod's address; `None` before it has one.
    pub pod_ip: Option<String>,
    /// The node's.
    pub host_ip: String,
    /// When the node first saw the pod.
    pub start_time: Option<Timestamp>,
    /// The pod fails as a whole: reason and message.
    pub failure: Option<(String, String)>,
    /// Its containers have ended for good: it was deleted, or has failed as a whole.
    pub is_over: bool,
}

/// The pod's status, on top of what its object has: conditions of others stay.
pub fn compute(pod: &Pod, records: &[Record], frame: &Frame, now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let (phase, reason, message) = outcome(pod, records, frame);
    let mut status = PodStatus {
        phase: Some(phase.clone()),
        reason,
        message,
        host_ip: Some(frame.host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: frame.host_ip.clone() }]),
        pod_ip: frame.pod_ip.clone(),
        pod_ips: frame.pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        start_time: old.start_time.clone().or_else(|| frame.start_time.map(time)),
        container_statuses: statuses(records, false),
        init_container_statuses: statuses(records, true),
        ..old.clone()
    };
    let mut conditions = old.conditions.unwrap_or_default();
    for (kind, verdict) in verdicts(pod, records, &phase, frame, &conditions) {
        set_condition(&mut conditions, kind, verdict, now);
    }
    status.conditions = Some(conditions);
    status
}

fn statuses(records: &[Record], is_init: bool) -> Option<Vec<ContainerStatus>> {
    let mut all: Vec<_> = records.iter().filter(|record| record.is_init == is_init).map(Record::status).collect();
    // Init containers stay in the order in which they run (kubelet's `SortInitContainerStatuses`).
    if !is_init {
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
    (!all.is_empty()).then_some(all)
}

/// The pod's restart policy: `Always`, `OnFailure` or `Never`.
pub fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

/// Phase, reason and message of the pod.
fn outcome(pod: &Pod, records: &[Record], frame: &Frame) -> (String, Option<String>, Option<String>) {
    if let Some(old) = pod.status.as_ref().filter(|_| has_ended(pod)) {
        return (old.phase.clone().unwrap_or_default(), old.reason.clone(), old.message.clone());
    }
    match (frame.is_over, &frame.failure) {
        (true, Some((reason, message))) => ("Failed".to_owned(), Some(reason.clone()), Some(message.clone())),
        (true, None) => (last_phase(records).to_owned(), None, None),
        (false, _) => (phase(records, restart_policy(pod)).to_owned(), None, None),
    }
}

/// Whether the pod's object says that it has ended. It stays so, whatever its restart policy.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The phase of a pod of which nothing will run again (kubelet's `getPhase`, where `podIsTerminal`).
fn last_phase(records: &[Record]) -> &'static str {
    let mut mains = records.iter().filter(|record| !record.is_init);
    let has_succeeded = mains.all(|record| record.result().is_some_and(|result| result.exit_code == 0));
    if has_succeeded { "Succeeded" } else { "Failed" }
}

/// kubelet's `getPhase`.
fn phase(records: &[Record], policy: &str) -> &'static str {
    let inits = || records.iter().filter(|record| record.is_init);
    if inits().any(|record| policy == "Never" && record.result().is_some_and(|result| result.exit_code != 0)) {
        return "Failed";
    }
    let mains: Vec<&Record> = records.iter().filter(|record| !record.is_init).collect();
    // Init containers that run anew, since the node has, do not make a pod pending whose containers ran before.
    let has_begun = mains.iter().any(|record| !matches!(record.state, State::Waiting { .. }));
    if !has_begun && inits().any(|record| !record.has_succeeded()) {
        return "Pending";
    }
    let has_never_run = |record: &&&Record| matches!(record.state, State::Waiting { .. }) && record.last.is_none();
    if mains.iter().any(|record| has_never_run(&record)) {
        return "Pending";
    }
    if mains.iter().any(|record| record.result().is_none()) || policy == "Always" {
        return "Running";
    }
    if mains.iter().all(|record| record.result().is_some_and(|result| result.exit_code == 0)) {
        return "Succeeded";
    }
    if policy == "Never" { "Failed" } else { "Running" }
}

/// A condition's status, reason and message.
type Verdict = (bool, Option<&'static str>, Option<String>);

fn verdicts(
    pod: &Pod,
    records: &[Record],
    phase: &str,
    frame: &Frame,
    conditions: &[PodCondition],
) -> Vec<(&'static str, Verdict)> {
    let is_over = phase == "Succeeded" || phase == "Failed";
    let completed = |reason_for_success: &'static str| {
        (false, Some(if phase == "Succeeded" { reason_for_success } else { "PodFailed" }), None)
    };
    let unfinished = names(records.iter().filter(|record| record.is_init && !record.has_succeeded()));
    let initialized = match unfinished {
        None => (true, (phase == "Succeeded").then_some("PodCompleted"), None),
        Some(names) => {
            (false, Some("ContainersNotInitialized"), Some(format!("containers with incomplete status: [{names}]")))
        }
    };
    let unready = names(records.iter().filter(|record| !record.is_init && !record.is_ready()));
    let containers_ready = match unready {
        _ if is_over => completed("PodCompleted"),
        None => (true, None, None),
        Some(names) => (false, Some("ContainersNotReady"), Some(format!("containers with unready status: [{names}]"))),
    };
    let ready = match unmet_gates(pod, conditions) {
        _ if !containers_ready.0 => containers_ready.clone(),
        gates if gates.is_empty() => (true, None, None),
        gates => (false, Some("ReadinessGatesNotReady"), Some(format!("[{}]", gates.join(", ")))),
    };
    vec![
        ("PodReadyToStartContainers", (frame.pod_ip.is_some() && !is_over, None, None)),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", (true, None, None)),
    ]
}

fn names<'a>(records: impl Iterator<Item = &'a Record>) -> Option<String> {
    let names: Vec<&str> = records.map(|record| record.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

fn unmet_gates(pod: &Pod, conditions: &[PodCondition]) -> Vec<String> {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match conditions.iter().find(|condition| condition.type_ == *kind) {
                None => Some(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
                Some(condition) if condition.status == "True" => None,
                Some(condition) => {
                    let status = &condition.status;
                    Some(format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {status}"))
                }
            }
        })
        .collect()
}

fn set_condition(conditions: &mut Vec<PodCondition>, kind: &str, (is_true, reason, message): Verdict, now: Timestamp) {
    let status = if is_true { "True" } else { "False" };
    let old = conditions.iter_mut().find(|condition| condition.type_ == kind);
    let since = match &old {
        Some(old) if old.status == status => old.last_transition_time.clone(),
        _ => Some(time(now)),
    };
    let new = PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.map(ToOwned::to_owned),
        message,
        last_transition_time: since,
        ..PodCondition::default()
    };
    match old {
        // Also observed fields that others may have set stay.
        Some(old) => *old = PodCondition { last_probe_time: old.last_probe_time.clone(), ..new },
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn ended(exit_code: i32) -> Terminated {
        Terminated {
            exit_code,
            reason: if exit_code == 0 { "Completed" } else { "Error" }.into(),
            message: None,
            started: Some(Timestamp::UNIX_EPOCH),
            finished: Timestamp::UNIX_EPOCH,
            id: "1".into(),
        }
    }

    fn waiting(reason: &str) -> State {
        State::Waiting { reason: reason.into(), message: None }
    }

    fn running() -> State {
        State::Running { since: Timestamp::UNIX_EPOCH }
    }

    fn record(name: &str, is_init: bool, state: State) -> Record {
        let container = Container { name: name.into(), ..Container::default() };
        Record { state, ..Record::new(&container, is_init, "") }
    }

    fn ready(name: &str) -> Record {
        Record { started: true, ready: true, ..record(name, false, running()) }
    }

    #[test]
    fn the_phase_follows_the_containers_and_the_restart_policy() {
        let one = |state| vec![record("c", false, state)];
        let done = || State::Terminated(ended(0));
        let failed = || State::Terminated(ended(3));
        for (records, policy, expected) in [
            (one(waiting("ContainerCreating")), "Always", "Pending"),
            (one(running()), "Always", "Running"),
            (one(done()), "Always", "Running"),
            (one(done()), "OnFailure", "Succeeded"),
            (one(failed()), "OnFailure", "Running"),
            (one(failed()), "Never", "Failed"),
            (
                vec![Record { last: Some(ended(1)), ..record("c", false, waiting("CrashLoopBackOff")) }],
                "Always",
                "Running",
            ),
            (vec![record("i", true, running()), record("c", false, waiting("PodInitializing"))], "Always", "Pending"),
            (vec![record("i", true, failed()), record("c", false, waiting("PodInitializing"))], "Never", "Failed"),
            (vec![record("i", true, done()), record("c", false, running())], "Always", "Running"),
            (vec![record("i", true, waiting("PodInitializing")), record("c", false, failed())], "Always", "Running"),
            (vec![record("a", false, done()), record("b", false, running())], "Never", "Running"),
        ] {
            assert_eq!(phase(&records, policy), expected, "{records:?} {policy}");
        }
    }

    #[test]
    fn a_pod_that_has_ended_for_good_stays_so() {
        let deleted = Frame { is_over: true, ..Frame::default() };
        let why = ("DeadlineExceeded".to_owned(), "too long".to_owned());
        let ending = Frame { failure: Some(why), ..Frame::default() };
        let late = Frame { is_over: true, ..ending.clone() };
        let pod = || pod(json!({"containers": []}));
        let after = |state, frame: &Frame| {
            let status = compute(&pod(), &[record("c", false, state)], frame, Timestamp::now());
            (status.phase.unwrap(), status.reason)
        };
        let exceeded = Some("DeadlineExceeded".to_owned());
        assert_eq!(after(State::Terminated(ended(0)), &deleted), ("Succeeded".into(), None));
        assert_eq!(after(State::Terminated(ended(143)), &deleted), ("Failed".into(), None));
        assert_eq!(after(waiting("ContainerCreating"), &deleted), ("Failed".into(), None));
        assert_eq!(after(running(), &ending), ("Running".into(), None));
        assert_eq!(after(State::Terminated(ended(143)), &late), ("Failed".into(), exceeded.clone()));

        let mut pod = pod();
        pod.status = Some(compute(&pod, &[record("c", false, State::Terminated(ended(1)))], &late, Timestamp::now()));
        let again = compute(&pod, &[ready("c")], &Frame::default(), Timestamp::now());
        assert_eq!((again.phase.as_deref(), again.reason.clone()), (Some("Failed"), exceeded));
        assert_eq!(condition(&again, "Ready").1.as_deref(), Some("PodFailed"));
    }

    fn condition(status: &PodStatus, kind: &str) -> (String, Option<String>, Option<String>) {
        let found = status.conditions.as_ref().unwrap().iter().find(|condition| condition.type_ == kind).unwrap();
        (found.status.clone(), found.reason.clone(), found.message.clone())
    }

    #[test]
    fn statuses_are_in_the_order_of_names_and_those_of_init_containers_in_that_of_their_runs() {
        let done = |name| record(name, true, State::Terminated(ended(0)));
        let records = [done("z"), done("y"), ready("c"), ready("a"), ready("b")];
        let names = |is_init| -> Vec<String> {
            statuses(&records, is_init).unwrap().into_iter().map(|status| status.name).collect()
        };
        assert_eq!(
            (names(true), names(false)),
            (vec!["z".into(), "y".into()], ["a", "b", "c"].map(String::from).to_vec())
        );
    }

    #[test]
    fn an_unready_container_is_named_by_the_conditions() {
        let records = [ready("a"), Record { ready: false, ..ready("b") }];
        let status = compute(&pod(json!({"containers": []})), &records, &Frame::default(), Timestamp::now());
        let message = Some("containers with unready status: [b]".to_owned());
        assert_eq!(condition(&status, "Ready"), ("False".into(), Some("ContainersNotReady".into()), message));
        assert_eq!(condition(&status, "Initialized").0, "True");
        assert_eq!(condition(&status, "PodScheduled").0, "True");
    }

    #[test]
    fn a_readiness_gate_keeps_the_pod_from_ready_but_not_its_containers() {
        let mut pod = pod(json!({"containers": [], "readinessGates": [{"conditionType": "x/y"}]}));
        let status = compute(&pod, &[ready("a")], &Frame::default(), Timestamp::now());
        assert_eq!(condition(&status, "Ready").1.as_deref(), Some("ReadinessGatesNotReady"));
        assert_eq!(condition(&status, "ContainersReady").0, "True");
        let mut conditions = status.conditions.unwrap();
        conditions.push(PodCondition { type_: "x/y".into(), status: "True".into(), ..PodCondition::default() });
        pod.status = Some(PodStatus { conditions: Some(conditions), ..PodStatus::default() });
        let status = compute(&pod, &[ready("a")], &Frame::default(), Timestamp::now());
        assert_eq!(condition(&status, "Ready").0, "True");
        assert_eq!(condition(&status, "x/y").0, "True", "conditions of others stay");
    }

    #[test]
    fn a_status_that_says_the_same_is_equal() {
        let mut pod = pod(json!({"containers": []}));
        let first = compute(&pod, &[ready("a")], &Frame::default(), Timestamp::now());
        pod.status = Some(first.clone());
        let later = Timestamp::now() + std::time::Duration::from_secs(100);
        assert_eq!(compute(&pod, &[ready("a")], &Frame::default(), later), first);
    }

    #[test]
    fn a_restarting_container_shows_its_last_run() {
        let crashed = Record {
            last: Some(ended(3)),
            restarts: 2,
            id: "2".into(),
            ..record("c", false, waiting("CrashLoopBackOff"))
        };
        let status = crashed.status();
        assert_eq!(status.restart_count, 2);
        assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 3);
        assert_eq!(status.state.unwrap().waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
        assert!(!status.ready);
    }
}
