//! Prints one plain line per scenario as it ends, the reason where it failed, and a closing line that agrees with the
//! exit code.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Instant;

use cucumber::event::{Cucumber, Feature, Hook, RetryableScenario, Rule, Scenario, Step, StepError};
use cucumber::gherkin;
use cucumber::{Event, Writer, parser};

use super::World;

/// The writer, which is also the count.
#[derive(Debug, Default)]
pub struct Report {
    running: HashMap<Key, Running>,
    passed: usize,
    failed: usize,
    broken: usize,
}

/// Feature, line and name: an outline's scenarios differ in their lines only.
type Key = (String, usize, String);

#[derive(Debug)]
struct Running {
    since: Instant,
    why: Vec<String>,
}

impl Report {
    /// Scenarios that did what they say.
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// Scenarios that did not, and feature files that can't be read.
    pub fn failed(&self) -> usize {
        self.failed + self.broken
    }

    fn scenario(&mut self, feature: &gherkin::Feature, scenario: &gherkin::Scenario, event: RetryableScenario<World>) {
        let key = (feature.name.clone(), scenario.position.line, scenario.name.clone());
        match event.event {
            Scenario::Started => {
                self.running.insert(key, Running { since: Instant::now(), why: Vec::new() });
            }
            Scenario::Background(step, event) | Scenario::Step(step, event) => {
                let reason = match event {
                    Step::Started | Step::Passed(..) => return,
                    Step::Skipped => "no step definition says this".to_owned(),
                    Step::Failed(.., error) => words_of(&error),
                };
                let text = format!("{}{} (line {})\n{reason}", step.keyword, step.value, step.position.line);
                self.note(&key, text);
            }
            Scenario::Hook(_, Hook::Failed(_, info)) => self.note(&key, words(&info)),
            Scenario::Hook(..) => {}
            Scenario::Log(text) => print(&text),
            Scenario::Finished => self.finish(&key),
        }
    }

    fn note(&mut self, key: &Key, why: String) {
        if let Some(running) = self.running.get_mut(key) {
            running.why.push(why);
        }
    }

    fn finish(&mut self, key: &Key) {
        let Some(running) = self.running.remove(key) else { return };
        let seconds = running.since.elapsed().as_secs_f64();
        let verdict = if running.why.is_empty() { "ok    " } else { "FAILED" };
        let mut text = format!("{verdict} {seconds:6.1} s  {}: {}\n", key.0, key.2);
        for line in running.why.iter().flat_map(|why| why.lines()) {
            text.push_str("         ");
            text.push_str(line);
            text.push('\n');
        }
        print(&text);
        if running.why.is_empty() {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

impl Writer<World> for Report {
    type Cli = cucumber::cli::Empty;

    async fn handle_event(&mut self, event: parser::Result<Event<Cucumber<World>>>, _cli: &Self::Cli) {
        match event.map(Event::into_inner) {
            Err(error) => {
                self.broken += 1;
                print(&format!("FAILED           a feature can't be read: {error}\n"));
            }
            Ok(Cucumber::Feature(feature, Feature::Scenario(scenario, event))) => {
                self.scenario(&feature, &scenario, event);
            }
            Ok(Cucumber::Feature(feature, Feature::Rule(_, Rule::Scenario(scenario, event)))) => {
                self.scenario(&feature, &scenario, event);
            }
            Ok(_) => {}
        }
    }
}

/// This writer orders nothing: lines come as scenarios end.
impl cucumber::writer::Normalized for Report {}

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

/// Progress of a long run should be seen as it happens, also through a pipe.
pub fn print(text: &str) {
    let mut out = anstream::stdout().lock();
    // A reader that has gone away changes nothing in the verdict.
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
