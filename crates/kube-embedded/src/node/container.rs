//! One run of a container, from its start to the last of its processes.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitStatus as SystemExit;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ask;
use super::context::Context;
use super::exec::{self, Running, exit_status};
use super::launcher::spec::{Join, Run};
use super::logs::{Log, Stream, pump};
use super::marks::{self, Mark};
use super::probe::{self, Check, Failed, Pace, Plan, Tally};
use super::spawner::{StartError, Started};
use super::status::Terminated;
use crate::kubelet::ExitStatus;

/// Longest termination message, in bytes (kubelet's `MaxContainerTerminationMessageLength`).
const LONGEST_MESSAGE: usize = 4096;
/// Lines of the log that stand in for a termination message, with `FallbackToLogsOnError`.
const MESSAGE_LINES: u64 = 80;
/// The least time from SIGTERM to SIGKILL (kubelet's `minimumGracePeriodInSeconds`).
pub const LEAST_GRACE: Duration = Duration::from_secs(2);
/// How long the outputs of a container are read after its last process has been killed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Which probe of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// Has it started?
    Startup,
    /// Can it serve?
    Readiness,
    /// Does it work?
    Liveness,
}

impl ProbeKind {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What a run tells its pod.
#[derive(Debug)]
pub enum Report {
    /// Its process exists; hooks may still run.
    Created(Arc<Running>),
    /// It runs.
    Started(Timestamp),
    /// A hook failed: event reason and message.
    HookFailed(&'static str, String),
    /// A probe failed once.
    ProbeFailed(ProbeKind, Failed),
    /// The state of a probe changed.
    Probed(ProbeKind, bool),
    /// It is over, to the last process.
    Ended(Terminated),
}

/// Everything one run needs.
pub struct Plans {
    /// The specification.
    pub container: Container,
    /// What is started.
    pub run: Run,
    /// Id of the run.
    pub id: String,
    /// Finds its processes.
    pub mark: Mark,
    /// Environment marks.
    pub marks: Vec<(String, String)>,
    /// Where its output goes.
    pub log: Log,
    /// File of the termination message.
    pub message: PathBuf,
    /// The pod's address, for probes.
    pub pod_ip: String,
}

/// When the run shall end: `Some(deadline)` for SIGKILL. The deadline may be moved forward later.
pub type Stop = watch::Receiver<Option<Instant>>;

/// Runs the container and reports until [`Report::Ended`], which is the last.
pub async fn supervise(
    context: Arc<Context>,
    plans: Plans,
    reports: mpsc::UnboundedSender<(usize, Report)>,
    index: usize,
    stop: Stop,
) {
    let tell = |report| {
        let _ = reports.send((index, report));
    };
    let terminated = match context.spawner.run(plans.run.clone(), &plans.marks).await {
        Err(error) => {
            plans.log.finish();
            never_started(&plans, &error)
        }
        Ok(started) => {
            let began = Timestamp::now();
            let (exit, finished) = live(&context, &plans, started, began, &tell, stop).await;
            describe(&plans, exit, began, finished)
        }
    };
    tell(Report::Ended(terminated));
}

fn never_started(plans: &Plans, error: &StartError) -> Terminated {
    let cause = match error {
        StartError::Spawn(source) => format!("{error}: {source}"),
        StartError::Refused { message, .. } => message.clone(),
    };
    Terminated {
        // As containerd and the kubelet report it.
        exit_code: 128,
        reason: "StartError".into(),
        message: Some(format!("failed to start container \"{}\": {cause}", plans.container.name)),
        started: None,
        finished: Timestamp::now(),
        id: plans.id.clone(),
    }
}

async fn live(
    context: &Arc<Context>,
    plans: &Plans,
    started: Started,
    began: Timestamp,
    tell: &impl Fn(Report),
    stop: Stop,
) -> (Option<SystemExit>, Timestamp) {
    let Started { mut child, pid } = started;
    let view = plans.run.view.as_ref();
    let running = Arc::new(Running {
        pid,
        join: view.map(|view| Join { pid, user_namespace: view.user_namespace }),
        env: Arc::new(plans.run.program.env.clone()),
        directory: plans.run.program.directory.clone(),
        user: plans.run.program.user.clone(),
        marks: plans.marks.clone(),
    });
    let pumps = [
        child.stdout.take().map(|output| tokio::spawn(pump(output, Stream::Stdout, plans.log.clone()))),
        child.stderr.take().map(|output| tokio::spawn(pump(output, Stream::Stderr, plans.log.clone()))),
    ];
    tell(Report::Created(running.clone()));
    if post_start(plans).is_none() {
        // Told even of a program that has ended by now.
        tell(Report::Started(began));
    }
    // Probes and hooks run beside the process and are dropped with it.
    let exit = tokio::select! {
        exit = until_ended(context, plans, &running, &mut child, stop.clone()) => exit,
        () = active(context, plans, &running, began, tell, &stop) => std::future::pending().await,
    };
    let finished = Timestamp::now();
    let mark = plans.mark.clone();
    let _ = tokio::task::spawn_blocking(move || marks::kill_all(&mark)).await;
    let deadline = Instant::now() + LAST_WORDS;
    for mut reading in pumps.into_iter().flatten() {
        if tokio::time::timeout_at(deadline, &mut reading).await.is_err() {
            reading.abort();
        }
    }
    plans.log.finish();
    (exit, finished)
}

/// Waits for the process to end, and ends it when that is asked for.
async fn until_ended(
    context: &Arc<Context>,
    plans: &Plans,
    running: &Running,
    child: &mut Child,
    mut stop: Stop,
) -> Option<SystemExit> {
    tokio::select! {
        exit = child.wait() => exit.ok(),
        deadline = asked_to_stop(&mut stop) => end(context, plans, running, child, deadline, stop).await,
    }
}

async fn asked_to_stop(stop: &mut Stop) -> Instant {
    match stop.wait_for(Option::is_some).await {
        Ok(deadline) => deadline.unwrap_or_else(Instant::now),
        // The pod's task is gone.
        Err(_) => Instant::now(),
    }
}

/// The life of a container beside its process: the hook, then probes. Never ends.
async fn active(
    context: &Arc<Context>,
    plans: &Plans,
    running: &Arc<Running>,
    began: Timestamp,
    tell: &impl Fn(Report),
    stop: &Stop,
) {
    if let Some(handler) = post_start(plans) {
        if let Err(message) = hook(context, plans, running, handler, Duration::from_secs(3600)).await {
            // The pod answers with a stop order.
            tell(Report::HookFailed("FailedPostStartHook", format!("PostStartHook failed: {message}")));
            return std::future::pending().await;
        }
        tell(Report::Started(began));
    }
    let probed = |kind| async move {
        let Some(plan) = plan(plans, kind, tell) else { return };
        let asking = keep_asking(context, running, &plan, kind, tell);
        if kind == ProbeKind::Readiness {
            asking.await;
            return;
        }
        let mut stop = stop.clone();
        tokio::select! {
            () = asking => {}
            // A container that ends is asked only whether it is ready (kubelet's `StopLivenessAndStartup`).
            _ = asked_to_stop(&mut stop) => std::future::pending().await,
        }
    };
    probed(ProbeKind::Startup).await;
    tokio::join!(probed(ProbeKind::Readiness), probed(ProbeKind::Liveness));
    std::future::pending().await
}

fn post_start(plans: &Plans) -> Option<&LifecycleHandler> {
    plans.container.lifecycle.as_ref()?.post_start.as_ref()
}

fn plan(plans: &Plans, kind: ProbeKind, tell: &impl Fn(Report)) -> Option<Plan> {
    let container = &plans.container;
    let probe = match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
    }?;
    match Plan::new(probe, container, &plans.pod_ip) {
        Ok(plan) => Some(plan),
        Err(message) => {
            tell(Report::ProbeFailed(kind, Failed::Answer(message)));
            None
        }
    }
}

/// Asks on and on; whether it has started, until it has.
async fn keep_asking(
    context: &Arc<Context>,
    running: &Arc<Running>,
    plan: &Plan,
    kind: ProbeKind,
    tell: &impl Fn(Report),
) {
    // A liveness probe is taken to have succeeded before it is asked: there is no hurry, and a program that has just
    // started is not told off for it.
    let delay = if kind == ProbeKind::Liveness { plan.initial_delay.max(plan.period) } else { plan.initial_delay };
    tokio::time::sleep(delay).await;
    let first = Instant::now();
    let mut tally = Tally::new(plan);
    let mut pace = Pace::new(plan.period);
    loop {
        let answer = ask::ask(&context.spawner, running, &plan.check, plan.timeout).await;
        let (wait, counts) = match kind {
            ProbeKind::Liveness => (plan.period, true),
            ProbeKind::Startup | ProbeKind::Readiness => pace.next(answer.is_ok(), first.elapsed()),
        };
        if answer.is_ok() || counts {
            // A container is not ended for what its node lacks, as by the kubelet (`pkg/kubelet/prober`).
            let is_asked = !matches!(answer, Err(Failed::Question(_)));
            let change = if is_asked { tally.answer(answer.is_ok()) } else { None };
            if let Err(failed) = answer {
                tell(Report::ProbeFailed(kind, failed));
            }
            if let Some(state) = change {
                tell(Report::Probed(kind, state));
                if kind == ProbeKind::Startup && state {
                    return;
                }
            }
        }
        tokio::time::sleep(wait).await;
    }
}

async fn hook(
    context: &Context,
    plans: &Plans,
    running: &Running,
    handler: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        return exec::run(&context.spawner, running, &command, limit).await.map(drop).map_err(Failed::into_words);
    }
    if let Some(get) = &handler.http_get {
        let host = get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| plans.pod_ip.clone());
        let check = Check::Http(Box::new(probe::request(get, host, &plans.container)?));
        return ask::ask(&context.spawner, running, &check, limit).await.map_err(Failed::into_words);
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default()).min(limit)).await;
        return Ok(());
    }
    Err("hooks of this kind are not supported by this node".into())
}

/// Ends the container: the hook, SIGTERM for its main process, SIGKILL at the deadline. A hook is cut off there, too,
/// and leaves the process some time.
async fn end(
    context: &Arc<Context>,
    plans: &Plans,
    running: &Running,
    child: &mut Child,
    mut deadline: Instant,
    mut stop: Stop,
) -> Option<SystemExit> {
    let pre_stop = plans.container.lifecycle.as_ref().and_then(|hooks| hooks.pre_stop.as_ref());
    if let Some(handler) = pre_stop {
        let limit = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            exit = child.wait() => return exit.ok(),
            () = passed(&mut deadline, &mut stop) => {
                tracing::warn!(container = plans.container.name, "a preStop hook was cut off");
            }
            result = hook(context, plans, running, handler, limit) => if let Err(message) = result {
                tracing::warn!(container = plans.container.name, message, "a preStop hook failed");
            }
        }
    }
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    deadline = deadline.max(Instant::now() + LEAST_GRACE);
    tokio::select! {
        exit = child.wait() => return exit.ok(),
        () = passed(&mut deadline, &mut stop) => {}
    }
    let _ = child.start_kill();
    child.wait().await.ok()
}

/// Waits until the deadline has passed, which may be moved forward meanwhile.
async fn passed(deadline: &mut Instant, stop: &mut Stop) {
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(*deadline) => return,
            Ok(()) = stop.changed() => if let Some(sooner) = *stop.borrow_and_update() {
                *deadline = sooner.min(*deadline);
            }
        }
    }
}

fn describe(plans: &Plans, exit: Option<SystemExit>, began: Timestamp, finished: Timestamp) -> Terminated {
    let exit_code = match exit.map(exit_status) {
        Some(ExitStatus::Code(code)) => code,
        Some(ExitStatus::Signal(signal)) => 128 + signal,
        None => 255,
    };
    Terminated {
        exit_code,
        reason: if exit_code == 0 { "Completed".into() } else { "Error".into() },
        message: message(plans, exit_code),
        started: Some(began),
        finished,
        id: plans.id.clone(),
    }
}

fn message(plans: &Plans, exit_code: i32) -> Option<String> {
    let mut text = end_of(&plans.message).unwrap_or_default();
    let fallback = plans.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if text.is_empty() && fallback && exit_code != 0 {
        text = super::logs::last_lines(&plans.log, MESSAGE_LINES);
    }
    let start = text.len().saturating_sub(LONGEST_MESSAGE);
    let text = String::from_utf8_lossy(&text[start..]).into_owned();
    (!text.is_empty()).then_some(text)
}

/// As much of the end of a file as a message can have. The container writes it: it may be larger than the memory.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let longest = LONGEST_MESSAGE as u64;
    let mut file = fs_err::File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(longest)))?;
    let mut text = Vec::new();
    file.take(longest).read_to_end(&mut text)?;
    Ok(text)
}

/// A task that ends with its handle.
pub struct Owned(pub JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_message_that_is_larger_than_the_memory_only_the_end_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("message");
        fs_err::write(&path, "short").unwrap();
        assert_eq!(end_of(&path).unwrap(), b"short");
        // It takes no room: there is a hole before the end.
        let mut file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(1 << 40)).unwrap();
        io::Write::write_all(&mut file, b"the last words").unwrap();
        let text = end_of(&path).unwrap();
        assert!(text.len() == LONGEST_MESSAGE && text.ends_with(b"\0the last words"), "{}", text.len());
    }
}
