//! The runner: observes, converges, waits. It owns the deadline, the heartbeat, cancellation, evidence and the journal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::{Plan, Planned};
use super::{Event, Journal, Observation, Reporter, Step};
use crate::finding::{Finding, Id};

/// How long the gathering of evidence may take: it must not add much to a deadline that has passed.
const EVIDENCE: Duration = Duration::from_secs(5);
/// The first look after converging; the interval doubles up to [`SLOWEST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(10);
const SLOWEST_LOOK: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a step that was cut off may take to end what would go on by itself.
const CALL_OFF: Duration = Duration::from_secs(5);
/// How long a cluster may be away while something is waited for there: it may be starting again.
const OUTAGE: Duration = Duration::from_secs(30);

/// Tells a run to stop, for example on an interrupt.
pub type Cancel = CancellationToken;

/// What steps get from the runner.
#[derive(Clone)]
pub struct Context {
    reporter: Arc<dyn Reporter>,
    /// What the step waits for, as the heartbeat tells it.
    difference: Arc<Mutex<String>>,
    /// When the command's time is up.
    deadline: Instant,
}

impl Context {
    /// Says something the user may want to know.
    pub fn note(&self, text: impl AsRef<str>) {
        self.reporter.event(&Event::Note(text.as_ref()));
    }

    /// Says what the step is at, for the heartbeat.
    pub fn progress(&self, text: impl Into<String>) {
        say(&self.difference, text.into());
    }

    /// Warns.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.reporter.event(&Event::Warning(text.as_ref()));
    }

    /// Says which shell command does the same.
    pub fn command(&self, text: impl AsRef<str>) {
        self.reporter.event(&Event::Command(text.as_ref()));
    }

    /// Time left until the deadline.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// How one step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepOutcome {
    /// [`Step::id`].
    pub step: String,
    /// [`Step::title`].
    pub title: String,
    /// Whether the step is satisfied now. Only a dry run ends with unmet steps.
    pub satisfied: bool,
    /// Whether this run changed something.
    pub changed: bool,
    /// What was found, or what is unmet.
    pub observed: String,
}

/// How a plan ended, in the order of its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Its steps.
    pub steps: Vec<StepOutcome>,
}

impl Outcome {
    /// Whether this run changed anything.
    pub fn changed(&self) -> bool {
        self.steps.iter().any(|step| step.changed)
    }

    /// Whether the step of this identifier was converged in this run.
    pub fn step_changed(&self, id: &str) -> bool {
        self.steps.iter().any(|step| step.step == id && step.changed)
    }
}

/// Runs plans.
pub struct Runner {
    reporter: Arc<dyn Reporter>,
    cancel: Cancel,
    timeout: Duration,
    heartbeat: Duration,
    journal: Option<Journal>,
}

impl Runner {
    /// A runner that gives a plan `timeout` and stops when `cancel` is cancelled.
    pub fn new(reporter: Arc<dyn Reporter>, cancel: Cancel, timeout: Duration) -> Self {
        Self { reporter, cancel, timeout, heartbeat: HEARTBEAT, journal: None }
    }

    /// The runner with another interval between two [`Event::Waiting`] than a second.
    #[must_use]
    pub fn with_heartbeat_every(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// The runner with a journal.
    #[must_use]
    pub fn with_journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Observes every step and changes nothing. A step that waits for an unmet one and can't be observed yet is unmet.
    ///
    /// # Errors
    /// The finding of a step that would fail.
    pub async fn dry_run(&self, plan: &Plan) -> Result<Outcome, Finding> {
        let mut unmet = vec![false; plan.steps.len()];
        let mut steps = Vec::new();
        for (index, planned) in plan.steps.iter().enumerate() {
            let step = &planned.step;
            let cut_off = tokio::select! {
                observed = step.observe() => Ok(observed),
                () = self.cancel.cancelled() => Err(interrupted([planned], true)),
                () = tokio::time::sleep(self.timeout) => {
                    Err(Finding::new(Id::Deadline, format!("cannot {}: looking takes too long", step.title())))
                }
            };
            let observed = match cut_off {
                Ok(observed) => observed,
                // A look may be a question that goes on by itself.
                Err(finding) => return Err(called_off(step.as_ref(), finding).await),
            };
            let observation = match observed {
                Ok(observation) => observation,
                Err(_) if plan.depends(index, &unmet) => {
                    Observation::unmet("not known before the steps above are done")
                }
                Err(finding) => return Err(finding),
            };
            self.reporter.event(&Event::Observed { title: &step.title(), observation: &observation });
            unmet[index] = matches!(observation, Observation::Unmet(_));
            steps.push(outcome(step.as_ref(), observation, false));
        }
        Ok(Outcome { steps })
    }

    /// Brings every step of the plan to satisfied. Steps that don't wait for each other run at the same time.
    ///
    /// # Errors
    /// The first finding; the other steps are cut off. What is done stays, and the next run goes on from there.
    pub async fn run(&self, plan: &Plan) -> Result<Outcome, Finding> {
        let deadline = Instant::now() + self.timeout;
        self.record(plan, None, "begin", "");
        let result = self.run_steps(plan, deadline).await;
        match &result {
            Ok(outcome) => self.record(plan, None, "end", if outcome.changed() { "changed" } else { "unchanged" }),
            Err(finding) => self.record(plan, None, "failed", &format!("{}: {}", finding.id, finding.cause)),
        }
        result
    }

    async fn run_steps(&self, plan: &Plan, deadline: Instant) -> Result<Outcome, Finding> {
        let mut done: Vec<Option<StepOutcome>> = vec![None; plan.steps.len()];
        let mut started = vec![false; plan.steps.len()];
        let mut running = FuturesUnordered::new();
        loop {
            for (index, planned) in plan.steps.iter().enumerate() {
                if !started[index] && ready(planned, &done) {
                    started[index] = true;
                    running.push(async move { (index, self.run_step(plan, planned.step.as_ref(), deadline).await) });
                }
            }
            if running.is_empty() {
                return Ok(Outcome { steps: done.into_iter().flatten().collect() });
            }
            let ended = tokio::select! {
                biased;
                () = self.cancel.cancelled() => None,
                ended = running.next() => ended,
            };
            let failed = match ended {
                Some((index, Ok(outcome))) => {
                    done[index] = Some(outcome);
                    continue;
                }
                Some((_, Err(finding))) => Some(finding),
                None => None,
            };
            // What they were at ends with them.
            drop(running);
            let is_under_way = |index: &usize| started[*index] && done[*index].is_none();
            let under_way = (0..plan.steps.len()).filter(is_under_way).map(|index| &plan.steps[index]);
            let mut finding = failed.unwrap_or_else(|| {
                let begun = plan.steps.iter().zip(&started).filter(|(_, started)| **started);
                let is_resumed = begun.map(|(planned, _)| planned).all(|planned| planned.step.is_resumed());
                interrupted(under_way.clone(), is_resumed)
            });
            // Also the one that has failed: what it was at may go on where only the way there is lost.
            for planned in under_way {
                finding = called_off(planned.step.as_ref(), finding).await;
            }
            return Err(finding);
        }
    }

    async fn run_step(&self, plan: &Plan, step: &dyn Step, deadline: Instant) -> Result<StepOutcome, Finding> {
        let title = step.title();
        match self.with_heartbeat(plan, step, &title, deadline).await {
            Ok(outcome) => {
                let event = if outcome.changed { "converged" } else { "satisfied" };
                self.record(plan, Some(&outcome.step), event, &outcome.observed);
                self.reporter.event(&Event::Satisfied {
                    title: &title,
                    what: &outcome.observed,
                    changed: outcome.changed,
                });
                Ok(outcome)
            }
            Err(mut finding) => {
                self.record(plan, Some(&step.id()), "failed", &format!("{}: {}", finding.id, finding.cause));
                self.reporter.event(&Event::Failed { title: &title });
                if finding.evidence.is_empty() {
                    // Too slow is as good as none: the cause is what counts.
                    finding.evidence = tokio::time::timeout(EVIDENCE, step.evidence()).await.unwrap_or_default();
                    finding.evidence.retain(|evidence| !evidence.lines.is_empty());
                }
                Err(finding)
            }
        }
    }

    /// Brings a step about, saying every second what it waits for, until the deadline.
    async fn with_heartbeat(
        &self,
        plan: &Plan,
        step: &dyn Step,
        title: &str,
        deadline: Instant,
    ) -> Result<StepOutcome, Finding> {
        let begun = Instant::now();
        let difference = Arc::new(Mutex::new(String::from("still looking")));
        let context = Context { reporter: self.reporter.clone(), difference: difference.clone(), deadline };
        let mut work = std::pin::pin!(self.bring_about(plan, step, title, &context));
        let mut heartbeat = tokio::time::interval_at(begun + self.heartbeat, self.heartbeat);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep_until(deadline) => break,
                _ = heartbeat.tick() => {
                    let difference = said(&difference);
                    self.reporter.event(&Event::Waiting { title, difference: &difference, elapsed: begun.elapsed() });
                }
            }
        }
        let is_resumed = plan.steps.iter().all(|planned| planned.step.is_resumed());
        Err(self.deadline_passed(title, &said(&difference), begun, is_resumed))
    }

    async fn bring_about(
        &self,
        plan: &Plan,
        step: &dyn Step,
        title: &str,
        context: &Context,
    ) -> Result<StepOutcome, Finding> {
        match step.observe().await? {
            satisfied @ Observation::Satisfied(_) => return Ok(outcome(step, satisfied, false)),
            Observation::Unmet(unmet) => {
                self.record(plan, Some(&step.id()), "converge", &unmet);
                self.reporter.event(&Event::Started { title, difference: &unmet });
                context.progress(unmet);
            }
        }
        step.converge(context).await?;
        let mut pause = FIRST_LOOK;
        let mut away = None;
        loop {
            match step.confirm().await {
                Ok(satisfied @ Observation::Satisfied(_)) => return Ok(outcome(step, satisfied, true)),
                Ok(Observation::Unmet(unmet)) => {
                    away = None;
                    context.progress(unmet);
                }
                // What goes on there goes on all the same.
                Err(finding)
                    if finding.id == Id::ClusterUnreachable
                        && away.get_or_insert_with(Instant::now).elapsed() < OUTAGE =>
                {
                    context.progress(finding.cause);
                }
                Err(finding) => return Err(finding),
            }
            tokio::select! {
                () = step.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(SLOWEST_LOOK);
        }
    }

    fn deadline_passed(&self, title: &str, difference: &str, begun: Instant, is_resumed: bool) -> Finding {
        let (waited, given) = (begun.elapsed().as_secs(), self.timeout.as_secs());
        let advice = match is_resumed {
            true => {
                format!("Run the same command again to go on waiting, or give it more time than --timeout {given}s.")
            }
            false => format!("{NOT_RESUMED} Give it more time than --timeout {given}s."),
        };
        Finding::new(Id::Deadline, format!("cannot {title} in time: after {waited} s {difference}")).advise(advice)
    }

    fn record(&self, plan: &Plan, step: Option<&str>, event: &str, detail: &str) {
        if let Some(journal) = &self.journal {
            journal.record(plan.name(), step, event, detail);
        }
    }
}

fn say(difference: &Mutex<String>, text: String) {
    *difference.lock().unwrap_or_else(PoisonError::into_inner) = text;
}

fn said(difference: &Mutex<String>) -> String {
    difference.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn ready(planned: &Planned, done: &[Option<StepOutcome>]) -> bool {
    planned.after.iter().all(|handle| done[handle.0].is_some())
}

fn outcome(step: &dyn Step, observation: Observation, changed: bool) -> StepOutcome {
    let (satisfied, observed) = match observation {
        Observation::Satisfied(what) => (true, what),
        Observation::Unmet(difference) => (false, difference),
    };
    StepOutcome { step: step.id(), title: step.title(), satisfied, changed, observed }
}

/// What is said where the same command would do again what may be done.
const NOT_RESUMED: &str = "Look whether it was done before you run the same command again: it would be done once more.";

/// The finding of a run that was interrupted while these were under way.
fn interrupted<'a>(under_way: impl IntoIterator<Item = &'a Planned>, is_resumed: bool) -> Finding {
    let titles: Vec<String> = under_way.into_iter().map(|planned| planned.step.title()).collect();
    Finding::new(Id::Interrupted, format!("interrupted while trying to {}", titles.join(" and to "))).advise(
        match is_resumed {
            true => "What was done stays. Run the same command again to go on.",
            false => NOT_RESUMED,
        },
    )
}

/// Has a step that was cut off end what would go on by itself. What became of it comes before other advice.
async fn called_off(step: &dyn Step, mut finding: Finding) -> Finding {
    if let Ok(Some(said)) = tokio::time::timeout(CALL_OFF, step.call_off()).await {
        finding.advice.insert(0, said);
    }
    finding
}
