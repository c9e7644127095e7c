//! Takes down what happens while scenarios run, and says one plain line per scenario as it ends, with the reason where it
//! failed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cucumber::event::{Cucumber, Feature, Hook, RetryableScenario, Rule, Scenario, ScenarioFinished, Step, StepError};
use cucumber::gherkin;
use cucumber::{Event, Writer, parser};

use super::World;
use super::catalogue::Entry;
use super::results::{self, Attempt, Outcome, StepResult};
use super::stage::Stage;

/// Where lines for people go.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Feature, line and name: an outline's scenarios may differ in their lines only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    feature: String,
    line: usize,
    name: String,
}

impl Key {
    /// The key of a scenario of a feature.
    pub fn of(feature: &gherkin::Feature, scenario: &gherkin::Scenario) -> Self {
        Self { feature: feature.name.clone(), line: scenario.position.line, name: scenario.name.clone() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.feature, self.name)
    }
}

/// What is known of the scenarios so far. It outlives the runner, so that an interrupted run has a report, too.
#[derive(Debug)]
pub struct Record {
    begun: SystemTime,
    running: HashMap<Key, Running>,
    ended: HashMap<Key, Vec<Attempt>>,
}

#[derive(Debug)]
struct Running {
    since: SystemTime,
    steps: Vec<StepResult>,
    why: Vec<String>,
}

/// A record that is shared by the runner's writer and whoever waits for the end.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Record>>);

impl Shared {
    /// An empty record that begins now.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Record { begun: SystemTime::now(), running: HashMap::new(), ended: HashMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Scenarios that have ended.
    pub fn ended(&self) -> usize {
        self.lock().ended.len()
    }

    /// Whether a scenario has failed, at its last attempt so far.
    pub fn has_failed(&self) -> bool {
        let record = self.lock();
        record.ended.values().filter_map(|attempts| attempts.last()).any(|last| !last.message.is_empty())
    }

    /// A scenario that has been running for longer than `limit`, and the step that it is at.
    pub fn overdue(&self, limit: Duration) -> Option<String> {
        let now = SystemTime::now();
        let record = self.lock();
        let is_over = |running: &Running| now.duration_since(running.since).is_ok_and(|age| age > limit);
        let (key, running) = record.running.iter().find(|(_, running)| is_over(running))?;
        let step = running.steps.last().map_or("its beginning", |step| step.text.as_str());
        Some(format!("{key} (at {step})"))
    }

    /// What became of a scenario that was to run.
    pub fn result(&self, entry: &Entry) -> results::Scenario {
        let mut record = self.lock();
        let key = Key::of(&entry.feature, &entry.scenario);
        let cut = record.running.remove(&key);
        let mut attempts = record.ended.remove(&key).unwrap_or_default();
        let mut scenario = blank(entry);
        (scenario.outcome, scenario.message) = match (&cut, attempts.as_slice()) {
            (Some(_), _) | (None, []) => (Outcome::NotRun, String::new()),
            (None, [only]) if only.message.is_empty() => (Outcome::Passed, String::new()),
            (None, [first, .., last]) if last.message.is_empty() => (Outcome::Flaky, first.message.clone()),
            (None, [.., last]) => (Outcome::Failed, last.message.clone()),
        };
        let notes = Stage::get().notes_of(&key);
        if let Some(mut cut) = cut {
            cut.fail(notes.failed);
            cut.why = cut.why.iter().map(|why| notes.secrets.hide(why)).collect();
            scenario.message = cut_off(&cut.why);
            attempts.push(cut.attempt(record.begun, SystemTime::now()));
        }
        scenario.attempts = attempts;
        scenario.evidence = notes.evidence;
        scenario.observations = notes.observations;
        scenario
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

/// A scenario of which nothing is known yet.
pub fn blank(entry: &Entry) -> results::Scenario {
    results::Scenario {
        id: entry.id.clone(),
        feature: entry.feature.name.clone(),
        name: entry.scenario.name.clone(),
        place: format!("features/{}.feature:{}", entry.file, entry.scenario.position.line),
        tags: entry.tags.iter().cloned().collect(),
        outcome: Outcome::NotRun,
        message: String::new(),
        quarantine: None,
        attempts: Vec::new(),
        evidence: None,
        observations: serde_json::Value::Null,
    }
}

impl Running {
    fn attempt(self, begun: SystemTime, end: SystemTime) -> Attempt {
        Attempt {
            start: seconds(begun, self.since),
            seconds: seconds(self.since, end),
            message: self.why.join("\n"),
            steps: self.steps,
        }
    }
}

/// Rounded to tenths of a millisecond: more says nothing.
fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    let seconds = to.duration_since(from).unwrap_or_default().as_secs_f64();
    round(seconds)
}

fn round(seconds: f64) -> f64 {
    (seconds * 10_000.0).round() / 10_000.0
}

/// The runner's writer.
pub struct Recorder {
    /// What it takes down.
    pub record: Shared,
    /// Where it says so.
    pub say: Say,
    /// Scenarios that do not decide.
    pub held: HashSet<Key>,
}

impl Recorder {
    fn scenario(
        &self,
        at: SystemTime,
        feature: &gherkin::Feature,
        scenario: &gherkin::Scenario,
        event: RetryableScenario<World>,
    ) {
        let key = Key::of(feature, scenario);
        let mut record = self.record.lock();
        match event.event {
            Scenario::Started => {
                record.running.insert(key, Running { since: at, steps: Vec::new(), why: Vec::new() });
            }
            Scenario::Background(step, event) | Scenario::Step(step, event) => {
                if let Some(running) = record.running.get_mut(&key) {
                    running.step(at, &step, &event);
                }
            }
            Scenario::Hook(_, Hook::Failed(_, info)) => {
                if let Some(running) = record.running.get_mut(&key) {
                    running.why.push(words(&info));
                }
            }
            Scenario::Hook(..) => {}
            Scenario::Log(text) => (self.say)(&text),
            Scenario::Finished => {
                let Some(mut running) = record.running.remove(&key) else { return };
                let notes = Stage::get().notes_of(&key);
                running.why = running.why.iter().map(|why| notes.secrets.hide(why)).collect();
                let attempt = running.attempt(record.begun, at);
                let again = event.retries.is_some_and(|retries| retries.left > 0);
                let word = match (attempt.message.is_empty(), again, self.held.contains(&key)) {
                    (true, ..) => "ok    ",
                    (false, true, _) => "again ",
                    (false, false, true) => "held  ",
                    (false, false, false) => "FAILED",
                };
                let mut said = line(word, &key, &attempt);
                if let Some(evidence) = notes.evidence.filter(|_| !attempt.message.is_empty()) {
                    said.push_str(&format!("         evidence: {}\n", Stage::get().report.join(evidence).display()));
                }
                (self.say)(&said);
                record.ended.entry(key).or_default().push(attempt);
            }
        }
    }
}

impl Running {
    fn step(&mut self, at: SystemTime, step: &gherkin::Step, event: &Step<World>) {
        let (outcome, why) = match event {
            Step::Started => {
                self.steps.push(StepResult {
                    text: format!("{}{}", step.keyword, step.value),
                    line: step.position.line,
                    outcome: Outcome::NotRun,
                    start: seconds(self.since, at),
                    seconds: 0.0,
                });
                return;
            }
            Step::Passed(..) => (Outcome::Passed, None),
            Step::Skipped => (Outcome::Failed, Some("no step definition says this".to_owned())),
            Step::Failed(.., error) => (Outcome::Failed, Some(words_of(error))),
        };
        if let Some(last) = self.steps.last_mut() {
            last.outcome = outcome;
            last.seconds = round((seconds(self.since, at) - last.start).max(0.0));
        }
        if let Some(why) = why {
            self.why.push(format!("{}{} (line {})\n{why}", step.keyword, step.value, step.position.line));
        }
    }

    /// The runner tells that a step has failed only when what the scenario made is taken back: the run may end before.
    fn fail(&mut self, noted: Option<(SystemTime, String)>) {
        // It may have been noted of an earlier attempt.
        let of_this = noted.filter(|(at, _)| self.why.is_empty() && *at >= self.since);
        if let (Some((at, why)), Some(last)) = (of_this, self.steps.last_mut()) {
            last.outcome = Outcome::Failed;
            last.seconds = round((seconds(self.since, at) - last.start).max(0.0));
            self.why.push(format!("{} (line {})\n{why}", last.text, last.line));
        }
    }
}

/// What is said of a scenario in which the run ended.
fn cut_off(why: &[String]) -> String {
    match why {
        [] => "the run ended while it ran".to_owned(),
        why => format!("the run ended while it ran; by then a step had failed:\n{}", why.join("\n")),
    }
}

/// One line about an attempt, and below it why it failed.
fn line(verdict: &str, key: &Key, attempt: &Attempt) -> String {
    let mut text = format!("{verdict} {:6.1} s  {key}\n", attempt.seconds);
    for line in attempt.message.lines() {
        text.push_str("         ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

impl Writer<World> for Recorder {
    type Cli = cucumber::cli::Empty;

    async fn handle_event(&mut self, event: parser::Result<Event<Cucumber<World>>>, _cli: &Self::Cli) {
        // Features were read before the run: there is no error of a parser.
        let Ok(event) = event else { return };
        let at = event.at;
        match event.into_inner() {
            Cucumber::Feature(feature, Feature::Scenario(scenario, event))
            | Cucumber::Feature(feature, Feature::Rule(_, Rule::Scenario(scenario, event))) => {
                self.scenario(at, &feature, &scenario, event);
            }
            _ => {}
        }
    }
}

/// This writer orders nothing: lines come as scenarios end.
impl cucumber::writer::Normalized for Recorder {}

/// Why a step has failed, as the hook is told that comes after it.
pub fn failure(finished: &ScenarioFinished) -> Option<String> {
    match finished {
        ScenarioFinished::StepFailed(.., error) => Some(words_of(error)),
        _ => None,
    }
}

fn words_of(error: &StepError) -> String {
    match error {
        StepError::Panic(info) => words(info),
        StepError::NotFound | StepError::AmbiguousMatch(_) => error.to_string(),
    }
}

fn words(info: &cucumber::event::Info) -> String {
    info.downcast_ref::<String>()
        .cloned()
        .or_else(|| info.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_failed_when_the_run_ended_is_said() {
        let since = SystemTime::now();
        let step = StepResult {
            text: "Then it is there".to_owned(),
            line: 3,
            outcome: Outcome::NotRun,
            start: 0.5,
            seconds: 0.0,
        };
        let mut cut = Running { since, steps: vec![step], why: Vec::new() };
        cut.fail(Some((since - Duration::from_secs(1), "it was not either".to_owned())));
        assert_eq!(cut_off(&cut.why), "the run ended while it ran");
        cut.fail(Some((since + Duration::from_secs(2), "it is not".to_owned())));
        assert_eq!((cut.steps[0].outcome, cut.steps[0].seconds), (Outcome::Failed, 1.5));
        let wanted = "the run ended while it ran; by then a step had failed:\nThen it is there (line 3)\nit is not";
        assert_eq!(cut_off(&cut.why), wanted);
    }

    #[test]
    fn a_scenario_has_failed_unless_its_last_attempt_did_not() {
        let shared = Shared::new();
        let key = |name: &str| Key { feature: "Odd".to_owned(), line: 2, name: name.to_owned() };
        let attempt = |message: &str| Attempt { message: message.to_owned(), ..Attempt::default() };
        shared.lock().ended.insert(key("Flaky"), vec![attempt("no"), attempt("")]);
        assert!(!shared.has_failed());
        shared.lock().ended.insert(key("Fails"), vec![attempt("no")]);
        assert!(shared.has_failed());
    }

    #[test]
    fn a_scenario_that_does_not_end_is_named_with_its_step() {
        let shared = Shared::new();
        let step = StepResult {
            text: "Then it waits".to_owned(),
            line: 3,
            outcome: Outcome::NotRun,
            start: 0.0,
            seconds: 0.0,
        };
        let running =
            Running { since: SystemTime::now() - Duration::from_secs(61), steps: vec![step], why: Vec::new() };
        let key = Key { feature: "Waits".to_owned(), line: 2, name: "For ever".to_owned() };
        shared.lock().running.insert(key, running);
        assert_eq!(shared.overdue(Duration::from_secs(62)), None);
        assert_eq!(shared.overdue(Duration::from_secs(60)).as_deref(), Some("Waits: For ever (at Then it waits)"));
    }
}
