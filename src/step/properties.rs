//! Properties of the engine: a plan that is cut off anywhere and run again ends as if run once, and a plan whose end is
//! reached converges nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::finding::{Class, Id};

/// A world of counters: a step raises its counter one by one to a goal, and each raise may be where the run is cut.
#[derive(Default)]
struct World {
    counters: Mutex<BTreeMap<usize, u32>>,
    converged: AtomicUsize,
    writes: AtomicUsize,
    cut_after_writes: Option<usize>,
    cancel: Cancel,
}

struct Raise {
    name: usize,
    goal: u32,
    /// So many of the raises happen by themselves, after `converge` has returned.
    later: u32,
    needs: Vec<usize>,
    world: Arc<World>,
}

impl Raise {
    fn value(&self) -> u32 {
        self.world.counters.lock().unwrap().get(&self.name).copied().unwrap_or(0)
    }

    async fn raise_to(&self, goal: u32) {
        while self.value() < goal {
            *self.world.counters.lock().unwrap().entry(self.name).or_insert(0) += 1;
            let writes = self.world.writes.fetch_add(1, Ordering::SeqCst) + 1;
            if self.world.cut_after_writes == Some(writes) {
                self.world.cancel.cancel();
            }
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Step for Raise {
    fn id(&self) -> String {
        format!("raise-{}", self.name)
    }

    fn title(&self) -> String {
        format!("raise {} to {}", self.name, self.goal)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        for needed in &self.needs {
            let there = self.world.counters.lock().unwrap().contains_key(needed);
            if !there {
                return Err(Finding::new(Id::Internal, format!("{needed} is not there yet")));
            }
        }
        match self.value() {
            value if value == self.goal => Ok(Observation::satisfied(format!("{value}"))),
            value if value > self.goal => Err(Finding::new(Id::Internal, format!("{value}"))),
            value => Ok(Observation::unmet(format!("is {value}"))),
        }
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        self.world.converged.fetch_add(1, Ordering::SeqCst);
        self.raise_to(self.goal - self.later.min(self.goal)).await;
        Ok(())
    }

    async fn changed(&self) {
        self.raise_to(self.goal).await;
    }
}

fn plan(goals: &[(u32, u32, Vec<usize>)], world: &Arc<World>) -> Plan {
    let mut plan = Plan::new("test");
    let mut handles = Vec::new();
    for (name, (goal, later, needs)) in goals.iter().enumerate() {
        let needs: Vec<usize> = needs.iter().map(|need| need % name.max(1)).filter(|need| *need < name).collect();
        let after: Vec<Handle> = needs.iter().map(|need| handles[*need]).collect();
        let step = Raise { name, goal: *goal, later: *later, needs, world: world.clone() };
        handles.push(plan.after(&after, step));
    }
    plan
}

fn run(goals: &[(u32, u32, Vec<usize>)], world: &Arc<World>) -> Result<Outcome, Finding> {
    let runner = Runner::new(Arc::new(Silent), world.cancel.clone(), Duration::from_secs(10));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(runner.run(&plan(goals, world)))
}

fn goals() -> impl Strategy<Value = Vec<(u32, u32, Vec<usize>)>> {
    prop::collection::vec((1..4u32, 0..3u32, prop::collection::vec(0..8usize, 0..3)), 1..7)
}

proptest! {
    #[test]
    fn a_plan_cut_off_anywhere_and_run_again_ends_as_if_run_once(goals in goals()) {
        let once = Arc::new(World::default());
        run(&goals, &once).unwrap();
        let end = once.counters.lock().unwrap().clone();
        let writes = once.writes.load(Ordering::SeqCst);
        for cut in 1..=writes {
            let world = Arc::new(World { cut_after_writes: Some(cut), ..World::default() });
            let first = run(&goals, &world);
            if cut < writes {
                prop_assert_eq!(first.unwrap_err().class(), Class::Interrupted);
            }
            let again = Arc::new(World {
                counters: Mutex::new(world.counters.lock().unwrap().clone()),
                ..World::default()
            });
            run(&goals, &again).unwrap();
            prop_assert_eq!(&*again.counters.lock().unwrap(), &end);
        }
    }

    #[test]
    fn a_plan_whose_end_is_reached_converges_nothing(goals in goals()) {
        let world = Arc::new(World::default());
        prop_assert!(run(&goals, &world).unwrap().changed());
        let converged = world.converged.load(Ordering::SeqCst);
        let second = run(&goals, &world).unwrap();
        prop_assert!(!second.changed());
        prop_assert_eq!(world.converged.load(Ordering::SeqCst), converged);
    }

    #[test]
    fn a_dry_run_changes_nothing_and_agrees_with_the_run_about_what_is_unmet(goals in goals()) {
        let world = Arc::new(World::default());
        let runner = Runner::new(Arc::new(Silent), Cancel::new(), Duration::from_secs(10));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let dry = runtime.block_on(runner.dry_run(&plan(&goals, &world))).unwrap();
        prop_assert_eq!(world.writes.load(Ordering::SeqCst), 0);
        prop_assert_eq!(world.converged.load(Ordering::SeqCst), 0);
        let real = run(&goals, &world).unwrap();
        for (dry, real) in dry.steps.iter().zip(&real.steps) {
            prop_assert_eq!(!dry.satisfied, real.changed);
        }
    }
}

struct Stuck(Observation);

#[async_trait]
impl Step for Stuck {
    fn id(&self) -> String {
        "stuck".to_owned()
    }
    fn title(&self) -> String {
        "finish".to_owned()
    }
    async fn observe(&self) -> Result<Observation, Finding> {
        Ok(self.0.clone())
    }
    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        Ok(())
    }
    async fn evidence(&self) -> Vec<Evidence> {
        vec![Evidence { about: "the log".to_owned(), lines: vec!["it hangs".to_owned()] }]
    }
}

struct Counting(AtomicUsize);

impl Reporter for Counting {
    fn event(&self, event: &Event<'_>) {
        if let Event::Waiting { difference, .. } = event {
            assert_eq!(*difference, "it is not done");
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn an_interrupt_tells_what_was_under_way() {
    let cancel = Cancel::new();
    let runner = Runner::new(Arc::new(Silent), cancel.clone(), Duration::from_secs(10));
    let mut plan = Plan::new("test");
    let first = plan.add(Stuck(Observation::unmet("it is not done")));
    plan.add(Stuck(Observation::satisfied("it is done")));
    plan.after(&[first], Stuck(Observation::unmet("it has to wait")));
    let (ended, ()) = tokio::join!(runner.run(&plan), async { cancel.cancel() });
    let finding = ended.unwrap_err();
    assert_eq!((finding.class(), finding.cause.as_str()), (Class::Interrupted, "interrupted while trying to finish"));
}

#[tokio::test]
async fn a_wait_ends_at_the_deadline_with_evidence_and_says_on_the_way_what_it_waits_for() {
    let reporter = Arc::new(Counting(AtomicUsize::new(0)));
    let runner = Runner::new(reporter.clone(), Cancel::new(), Duration::from_millis(200))
        .with_heartbeat_every(Duration::from_millis(10));
    let mut plan = Plan::new("test");
    plan.add(Stuck(Observation::unmet("it is not done")));
    let finding = runner.run(&plan).await.unwrap_err();
    assert_eq!(finding.class(), Class::Deadline);
    assert_eq!(finding.cause, "cannot finish in time: after 0 s it is not done");
    let advice = "Run the same command again to go on waiting, or give it more time than --timeout 0s.";
    assert_eq!(finding.advice, [advice]);
    assert_eq!(finding.evidence[0].lines, ["it hangs"]);
    assert!(reporter.0.load(Ordering::SeqCst) >= 2, "it was silent");
}

/// A step that goes on for ever, or fails; and how often one was called off.
struct CalledOff {
    fails: bool,
    times: Arc<AtomicUsize>,
}

#[async_trait]
impl Step for CalledOff {
    fn id(&self) -> String {
        format!("fails-{}", self.fails)
    }
    fn title(&self) -> String {
        "go on".to_owned()
    }
    async fn observe(&self) -> Result<Observation, Finding> {
        match self.fails {
            true => Err(Finding::new(Id::Internal, "it is torn")),
            false => Ok(Observation::unmet("it is not done")),
        }
    }
    async fn call_off(&self) -> Option<String> {
        self.times.fetch_add(1, Ordering::SeqCst);
        Some("It was ended.".to_owned())
    }
}

#[tokio::test]
async fn what_has_failed_and_what_is_under_way_then_is_called_off() {
    let times = Arc::new(AtomicUsize::new(0));
    let mut plan = Plan::new("test");
    for fails in [false, true] {
        plan.add(CalledOff { fails, times: times.clone() });
    }
    let runner = Runner::new(Arc::new(Silent), Cancel::new(), Duration::from_secs(10));
    let finding = runner.run(&plan).await.unwrap_err();
    assert_eq!(finding.cause, "it is torn");
    assert_eq!(finding.advice, ["It was ended."; 2]);
    assert_eq!(times.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_takes_too_long_is_called_off_once() {
    let times = Arc::new(AtomicUsize::new(0));
    let step = CalledOff { fails: false, times: times.clone() };
    let finding = alone(step, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((finding.id, finding.advice[0].as_str()), (Id::Deadline, "It was ended."));
    assert_eq!((finding.advice.len(), times.load(Ordering::SeqCst)), (2, 1));
}

/// A step whose cluster never answers, and goes on looking for an answer.
struct Blind;

#[async_trait]
impl Step for Blind {
    fn id(&self) -> String {
        "blind".to_owned()
    }
    fn title(&self) -> String {
        "look".to_owned()
    }
    async fn observe(&self) -> Result<Observation, Finding> {
        std::future::pending().await
    }
    async fn call_off(&self) -> Option<String> {
        Some("It was ended.".to_owned())
    }
}

#[tokio::test]
async fn a_dry_run_whose_look_has_no_end_ends_at_the_deadline_and_calls_it_off() {
    let runner = Runner::new(Arc::new(Silent), Cancel::new(), Duration::from_millis(50));
    let mut plan = Plan::new("test");
    plan.add(Blind);
    let finding = runner.dry_run(&plan).await.unwrap_err();
    assert_eq!((finding.id, finding.cause.as_str()), (Id::Deadline, "cannot look: looking takes too long"));
    assert_eq!(finding.advice, ["It was ended."]);
}

#[tokio::test]
async fn a_dry_run_that_is_interrupted_calls_off_what_it_looks_at() {
    let cancel = Cancel::new();
    let runner = Runner::new(Arc::new(Silent), cancel.clone(), Duration::from_secs(10));
    let mut plan = Plan::new("test");
    plan.add(Blind);
    let (ended, ()) = tokio::join!(runner.dry_run(&plan), async { cancel.cancel() });
    let finding = ended.unwrap_err();
    assert_eq!((finding.id, finding.cause.as_str()), (Id::Interrupted, "interrupted while trying to look"));
    assert_eq!(finding.advice[0], "It was ended.");
}
