//! One run of the suite: which scenarios, in what order, and what the verdict is.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cucumber::cli::{Empty, Opts};
use cucumber::event::ScenarioFinished;
use cucumber::gherkin::Feature;
use cucumber::{World as _, parser, runner};
use futures::stream;

use super::catalogue::{Catalogue, Entry, Sources};
use super::inventory::Inventory;
use super::options::Options;
use super::recorder::{self, Key, Recorder, Say, Shared, blank};
use super::results::{Outcome, Results, SCHEMA, Scenario, Selection, Verdict};
use super::stage::{Door, NO_CLASS, Notes, Stage};
use super::world::{self, World};
use super::{directory, environment, evidence, leftovers, needs, observations, preflight, reports};
use crate::finding::{Finding, Id};
use crate::provider::embedded;
use crate::step::Cancel;

/// Between two looks at whether the cluster is there.
const PULSE: Duration = Duration::from_secs(2);

/// How long a scenario may usually take. Its waits have deadlines of their own: this ends what has none by mistake.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long the cluster may take to say its version: on a busy machine, much longer than it should.
const ANSWER: Duration = Duration::from_secs(20);

/// So many looks without an answer in a row, and the cluster is lost.
const LOST_AFTER: usize = 5;

/// A run that has been.
#[derive(Debug)]
pub struct Ran {
    /// What it has found.
    pub results: Results,
    /// Why its report could not be written, if so.
    pub unwritten: Option<Finding>,
}

/// Runs the scenarios that the options ask for, writes the reports, and gives what was found.
///
/// # Errors
/// The run could not begin: the report's folder can't be written, an earlier report is damaged, there is no cluster to
/// test, or it can't be used. Everything after that is in what it gives.
pub async fn run(
    options: &Options,
    sources: &Sources,
    program: &Path,
    say: Say,
    cancel: Cancel,
) -> Result<Ran, Finding> {
    let door = crate::caller::variable("A9S_DOOR").unwrap_or_default().to_string_lossy().into_owned();
    let door: Door = door.parse().map_err(|why: String| Finding::new(Id::NoSuchDoor, why))?;
    let earlier = options.earlier()?;
    let filter = options.filter(earlier.as_ref());
    let catalogue = Catalogue::read(sources);
    let is_all_again = earlier.as_ref().is_some_and(Results::failed_beside_scenarios);
    if is_all_again {
        say("that run failed for more than its scenarios: all of them are run again\n");
    } else if filter.ids.as_ref().is_some_and(BTreeSet::is_empty) {
        // Before the report goes that is in the folder: it may be the one that tells what failed.
        return Ok(Ran { results: nothing_again(options, &catalogue, door, &say), unwritten: None });
    }
    let selected = catalogue.select(&filter);
    // It is this run's to the end.
    let mut folder = reports::prepare(&options.report, &say)?;
    let tags = tags_of(&selected, options);
    let existing = match &options.existing {
        Some(target) => tokio::select! {
            looked = preflight::check(target, &tags) => Some(looked?),
            () = cancel.cancelled() => {
                let cause = "the run was interrupted before the first scenario";
                return Err(Finding::new(Id::Interrupted, cause));
            }
        },
        None => {
            let way = "Then name its context, or that of any other cluster with the stack: --context NAME";
            embedded::supported().map_err(|finding| finding.advise(way))?;
            None
        }
    };
    let stage = Stage::open(program, &options.report, existing, door, options.patience)
        .map_err(|failure| Finding::new(Id::SuiteNotStarted, failure))?;
    let previous = folder.begin().inspect_err(|_| stage.clear_away())?;
    let mut run = Run { options, catalogue: &catalogue, stage, say, previous, problems: Vec::new() };
    run.problems.extend(catalogue.problems.iter().cloned());
    run.problems.extend(Catalogue::undefined(&selected));
    let unknown = catalogue.unknown(&filter);
    if selected.is_empty() && unknown.is_empty() {
        run.problems.push("no scenario matches the filter".to_owned());
    }
    run.problems.extend(unknown);
    if filter.is_empty() || is_all_again {
        run.problems.extend(miscounted(&catalogue));
    }
    let is_there = |id: &&String| catalogue.entries.iter().any(|entry| entry.id == **id);
    let gone = filter.ids.iter().flatten().filter(|id| !is_there(id));
    run.problems.extend(gone.map(|id| format!("there is no scenario {id:?} any more")));
    let results = run.carry_out(&selected, cancel).await;
    let written = reports::write(&results, run.previous.as_ref(), &stage.report);
    if written.is_ok() {
        (run.say)(&format!("report: {}\n", stage.report.join("index.html").display()));
    }
    (run.say)(&format!("{}\n", summary(&results)));
    let unwritten =
        written.err().map(|error| Finding::new(Id::ReportUnwritable, format!("the report can't be written: {error}")));
    Ok(Ran { results, unwritten })
}

/// The tags of scenarios that are to run, without those that disturb others where nobody is to be disturbed.
fn tags_of(selected: &[&Entry], options: &Options) -> BTreeSet<String> {
    let is_to_run = |entry: &&&Entry| options.disruptive || !entry.tags.contains("disruptive");
    selected.iter().filter(is_to_run).flat_map(|entry| entry.tags.iter().cloned()).collect()
}

/// The results of a run that has nothing to do: of the run whose failures were to be run again there are none.
fn nothing_again(options: &Options, catalogue: &Catalogue, door: Door, say: &Say) -> Results {
    let results = Results {
        schema: SCHEMA.to_owned(),
        verdict: Verdict::Passed,
        started: jiff::Timestamp::now().to_string(),
        seconds: 0.0,
        environment: Default::default(),
        selection: selection(options, catalogue, door),
        counts: Default::default(),
        problems: Vec::new(),
        notes: Vec::new(),
        scenarios: Vec::new(),
    };
    say("no scenario failed in that run, and each had its turn: there is nothing to run again\n");
    say(&format!("{}\n", summary(&results)));
    results
}

/// What is asked for.
fn selection(options: &Options, catalogue: &Catalogue, door: Door) -> Selection {
    Selection {
        tags: options.tags.clone(),
        name: options.name.as_ref().map(ToString::to_string),
        rerun_failed: options.rerun_failed.clone(),
        available: catalogue.entries.len(),
        recorded: catalogue.recorded,
        jobs: options.jobs.get(),
        retries: options.retries,
        door: door.name().to_owned(),
    }
}

/// The last line of a run. It agrees with the exit code.
fn summary(results: &Results) -> String {
    let counts = results.counts;
    let mut text = format!("{} passed, {} failed", counts.passed, counts.failed + results.problems.len());
    for (count, word) in [
        (counts.flaky, "flaky"),
        (counts.skipped, "skipped"),
        (counts.not_run, "not run"),
        (counts.quarantined, "quarantined"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    text
}

/// A suite that has lost scenarios must not pass for that reason. One that has more must say so, or it could lose them.
fn miscounted(catalogue: &Catalogue) -> Option<String> {
    let (there, recorded) = (catalogue.entries.len(), catalogue.recorded?);
    let than = match there.cmp(&recorded) {
        Ordering::Less => "fewer",
        Ordering::Greater => "more",
        Ordering::Equal => return None,
    };
    Some(format!("there are {there} scenarios, {than} than the {recorded} of features/COUNT"))
}

struct Run<'a> {
    options: &'a Options,
    catalogue: &'a Catalogue,
    stage: &'static Stage,
    say: Say,
    previous: Option<Results>,
    problems: Vec<String>,
}

impl Run<'_> {
    /// The whole run: who has a turn, what comes of that, and what is to be said of it.
    async fn carry_out(&mut self, selected: &[&Entry], cancel: Cancel) -> Results {
        let begun = (jiff::Timestamp::now(), Instant::now());
        let (turn, skipped) = self.turn(selected);
        let record = Shared::new();
        let verdict = if self.problems.is_empty() {
            self.on_stage(&turn, &record, &cancel).await
        } else {
            // A run that can't tell the truth does not begin.
            self.stage.clear_away();
            Verdict::Passed
        };
        for problem in &self.problems {
            (self.say)(&format!("PROBLEM  {problem}\n"));
        }
        for note in self.stage.notes() {
            (self.say)(&format!("NOTE     {note}\n"));
        }
        let today = jiff::Zoned::now().date();
        let scenarios = selected.iter().map(|entry| {
            let scenario = match skipped.get(entry.id.as_str()) {
                Some(why) => Scenario { outcome: Outcome::Skipped, message: why.clone(), ..blank(entry) },
                None => record.result(entry),
            };
            decided(entry, scenario, today)
        });
        let results = self.results(verdict, begun, scenarios);
        self.say_of_quarantine(&results);
        results
    }

    /// Those of the selected scenarios that can run here, and why the others are skipped, by their identifiers.
    fn turn<'e>(&mut self, selected: &[&'e Entry]) -> (Vec<&'e Entry>, HashMap<&'e str, String>) {
        let (mut turn, mut skipped) = (Vec::new(), HashMap::new());
        for &entry in selected {
            match needs::lacking(&entry.tags, self.stage, self.options) {
                Some(why) => {
                    (self.say)(&format!("skipped           {} ({why})\n", entry.id));
                    skipped.insert(entry.id.as_str(), why);
                }
                None => turn.push(entry),
            }
        }
        if turn.is_empty() && !selected.is_empty() {
            self.problems.push("nothing was looked at: every scenario that was asked for is skipped".to_owned());
        }
        (turn, skipped)
    }

    /// Runs the scenarios on a stage that is clean before and after. What is left there is a problem.
    async fn on_stage(&mut self, turn: &[&Entry], record: &Shared, cancel: &Cancel) -> Verdict {
        self.sweep(cancel).await;
        self.say_of_cluster();
        let before = Inventory::take(&self.stage.directory);
        let (mut verdict, overdue) = self.scenarios(turn, record, cancel.clone()).await;
        self.problems.extend(overdue);
        if let Some(shared) = self.stage.shared_if_there() {
            self.problems.extend(observations::clusters_panicked(&shared.surroundings.state));
            if verdict == Verdict::Passed && self.stage.existing.is_none() {
                self.problems.extend(observations::stack_panicked(&shared.onlooker).await);
            }
        }
        let mut leaks = Vec::new();
        // Scenarios that were cut off have left what they had: it goes with their cluster, or is looked for at the end.
        if verdict == Verdict::Passed {
            tokio::select! {
                left = leftovers::on_cluster(self.stage) => leaks = left,
                () = cancel.cancelled() => verdict = Verdict::Interrupted,
            }
        }
        leaks.extend(leftovers::close(self.stage, &before, verdict).await);
        self.problems.extend(leaks.into_iter().map(|leak| format!("left over: {leak}")));
        verdict
    }

    /// An existing cluster may be used by others, have what a run has left that was killed elsewhere, and lack what
    /// instances need.
    fn say_of_cluster(&self) {
        if self.stage.existing.as_ref().is_some_and(|existing| existing.has_no_class) {
            (self.say)(&format!("{NO_CLASS}\n"));
        }
        let of_others = self.stage.existing.iter().flat_map(|existing| &existing.of_other_runs);
        let of_others: Vec<&str> = of_others.map(String::as_str).collect();
        if !of_others.is_empty() {
            let (names, label) = (of_others.join(", "), world::RUN_LABEL);
            (self.say)(&format!("namespaces of runs that go on, or were killed: {names} (label {label})\n"));
        }
    }

    /// The document of a run that ended so, with what decides whether it has passed.
    fn results(
        &self,
        verdict: Verdict,
        (started, begun): (jiff::Timestamp, Instant),
        scenarios: impl Iterator<Item = Scenario>,
    ) -> Results {
        let mut results = Results {
            schema: SCHEMA.to_owned(),
            verdict,
            started: started.to_string(),
            seconds: (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            environment: environment::facts(self.stage),
            selection: selection(self.options, self.catalogue, self.stage.door),
            counts: Default::default(),
            problems: self.problems.clone(),
            notes: self.stage.notes(),
            scenarios: scenarios.collect(),
        };
        results.count();
        let bad = results.counts.failed + results.problems.len();
        if verdict == Verdict::Passed && (bad > 0 || results.counts.not_run > 0) {
            results.verdict = Verdict::Failed;
        }
        results
    }

    /// What has passed and fails nevertheless, because its quarantine has ended, was not said while it ran.
    fn say_of_quarantine(&self, results: &Results) {
        for scenario in results.scenarios.iter().filter(|scenario| scenario.decides_against()) {
            if scenario.attempts.last().is_some_and(|attempt| attempt.message.is_empty()) {
                (self.say)(&format!("FAILED            {}: {}\n", scenario.id, scenario.message));
            }
        }
    }

    /// Clears away what runs that were killed have left on this machine.
    async fn sweep(&self, cancel: &Cancel) {
        let swept = tokio::select! {
            swept = directory::sweep() => swept,
            () = cancel.cancelled() => return,
        };
        for (path, left) in swept {
            let left = if left.is_empty() { String::new() } else { format!(", but for: {}", left.join("; ")) };
            (self.say)(&format!("removed what a run that was killed has left: {}{left}\n", path.display()));
        }
    }

    /// How the run ended, and the problem with which it did.
    async fn scenarios(&self, turn: &[&Entry], record: &Shared, cancel: Cancel) -> (Verdict, Option<String>) {
        let ended = tokio::select! {
            () = self.all(turn, record) => return (Verdict::Passed, None),
            () = cancel.cancelled() => {
                let left = self.stage.left_at_once();
                (self.say)(&format!("interrupted: cleaning up. Interrupted again, it ends at once and leaves {left}\n"));
                (Verdict::Interrupted, None)
            }
            () = lost(self.stage) => {
                (self.say)(&format!("the cluster has stopped answering after {} scenarios\n", record.ended()));
                (Verdict::ClusterLost, None)
            }
            scenario = overdue(record) => {
                let minutes = Stage::ample_patience(LIMIT).as_secs() / 60;
                let problem = format!("a scenario did not end within {minutes} min: {scenario}");
                (Verdict::Failed, Some(problem))
            }
        };
        // The runner keeps panics quiet, and was cut off before it could undo that.
        drop(std::panic::take_hook());
        ended
    }

    /// Those that decide, then those that do not: what is quarantined must not end a run that ends with the first
    /// failure, and begins no more after one.
    async fn all(&self, turn: &[&Entry], record: &Shared) {
        let held = self.held(turn);
        let is_held = |entry: &&Entry| held.contains(&Key::of(&entry.feature, &entry.scenario));
        let (held, deciding): (Vec<&Entry>, Vec<&Entry>) = turn.iter().copied().partition(is_held);
        for (turn, fail_fast) in [(deciding, self.options.fail_fast), (held, false)] {
            let is_over = self.options.fail_fast && record.has_failed();
            if !turn.is_empty() && !is_over {
                self.cucumber(&turn, record, fail_fast).await;
            }
        }
    }

    async fn cucumber(&self, turn: &[&Entry], record: &Shared, fail_fast: bool) {
        let cli = Opts::<Empty, runner::basic::Cli, Empty, Empty> {
            runner: runner::basic::Cli {
                concurrency: Some(self.options.jobs.get()),
                fail_fast,
                retry: Some(self.options.retries),
                ..runner::basic::Cli::default()
            },
            ..Opts::default()
        };
        World::cucumber::<&str>()
            .with_parser::<Ready, Vec<Feature>>(Ready)
            .with_writer(Recorder { record: record.clone(), say: self.say.clone(), held: self.held(turn) })
            .before(|feature, _, scenario, world| {
                world.begin(feature, scenario);
                Box::pin(async {})
            })
            .after(|_, _, _, finished, world| Box::pin(after(finished, world)))
            .with_cli(cli)
            .run(self.in_order(turn))
            .await;
    }

    /// The scenarios whose failure does not decide.
    fn held(&self, turn: &[&Entry]) -> HashSet<Key> {
        let today = jiff::Zoned::now().date();
        let holds = |entry: &&&Entry| entry.quarantine.as_ref().is_some_and(|quarantine| quarantine.until >= today);
        turn.iter().filter(holds).map(|entry| Key::of(&entry.feature, &entry.scenario)).collect()
    }

    /// Long ones first, so that no processor waits for the last one: as long as they took in the last run, and those with
    /// a cluster of their own before others.
    fn in_order(&self, turn: &[&Entry]) -> Vec<Feature> {
        let earlier = self.previous.iter().flat_map(|results| &results.scenarios);
        let earlier: HashMap<&str, f64> = earlier.map(|scenario| (scenario.id.as_str(), scenario.seconds())).collect();
        let guess = |entry: &Entry| if entry.tags.contains("cluster") { 10.0 } else { 2.0 };
        let expected = |entry: &Entry| earlier.get(entry.id.as_str()).copied().filter(|seconds| *seconds > 0.0);
        let mut turn: Vec<(f64, &Entry)> =
            turn.iter().map(|entry| (expected(entry).unwrap_or_else(|| guess(entry)), *entry)).collect();
        turn.sort_by(|left, right| right.0.total_cmp(&left.0));
        turn.into_iter().map(|(_, entry)| entry.feature.clone()).collect()
    }
}

/// Gives the runner features that were read before.
#[derive(Debug, Clone)]
struct Ready;

impl cucumber::Parser<Vec<Feature>> for Ready {
    type Cli = Empty;
    type Output = stream::Iter<std::vec::IntoIter<parser::Result<Feature>>>;

    fn parse(self, features: Vec<Feature>, _: Empty) -> Self::Output {
        stream::iter(features.into_iter().map(Ok).collect::<Vec<_>>())
    }
}

/// A quarantined scenario does not decide until its day has passed; from then on it fails, whatever it did.
fn decided(entry: &Entry, mut scenario: Scenario, today: jiff::civil::Date) -> Scenario {
    let Some(quarantine) = &entry.quarantine else { return scenario };
    if quarantine.until < today {
        scenario.outcome = Outcome::Failed;
        let why =
            format!("its quarantine ended on {}: {} has to mend it or let it go", quarantine.until, quarantine.owner);
        scenario.message = [why, scenario.message].join("\n").trim_end().to_owned();
    } else if scenario.outcome != Outcome::Skipped {
        scenario.quarantine = Some(format!("{} until {}", quarantine.owner, quarantine.until));
    }
    scenario
}

/// Looks at what is there and keeps the evidence of a failure, then takes back what the scenario made. What would not go
/// fails the scenario, too, and so do a command that told a password and a panic; unwinding is how a hook tells the
/// runner.
async fn after(finished: &ScenarioFinished, world: Option<&mut World>) {
    let Some(world) = world else { return };
    let failed = recorder::failure(finished).map(|why| (SystemTime::now(), why));
    // Whoever looks at what is there need not wait for it.
    world.silent = None;
    let seen = observations::look(world).await;
    // What passes now may have failed before; then that is what there is evidence of.
    let evidence = world.key().and_then(|key| Stage::get().notes_of(&key).evidence);
    let mut notes = Notes { observations: seen.observations, secrets: seen.secrets.clone(), evidence, failed };
    if let Some(key) = world.key() {
        // The run may end before the rest is known.
        Stage::get().note(key, notes.clone());
    }
    let mut wrong = observations::told(world, &seen.secrets);
    wrong.extend(observations::panicked(world.outcomes(), &seen.secrets));
    wrong.extend(seen.panicked);
    // What of the shared one is to be said is said once.
    if !world.is_shared() {
        wrong.extend(observations::clusters_panicked(&world.surroundings.state));
    }
    if !matches!(finished, ScenarioFinished::StepPassed) || !wrong.is_empty() {
        if world.is_shared() {
            answer_of_shared_cluster().await;
        }
        notes.evidence = Some(evidence::keep(world, seen.secrets.clone()).await);
    }
    let left = world.end().await.into_iter().map(|leak| format!("left over: {leak}"));
    let words: Vec<String> = wrong.into_iter().chain(left).collect();
    if !words.is_empty() && notes.evidence.is_none() {
        // Its namespace is gone, so there is less than of other failures.
        notes.evidence = Some(evidence::keep(world, seen.secrets).await);
    }
    if let Some(key) = world.key() {
        Stage::get().note(key, notes);
    }
    if !words.is_empty() {
        std::panic::resume_unwind(Box::new(words.join("\n")));
    }
}

/// A scenario that failed because the cluster is gone has not failed: it waits here until the run is ended for that, or
/// the cluster answers.
async fn answer_of_shared_cluster() {
    while !answers(Stage::get()).await.unwrap_or(true) {
        tokio::time::sleep(PULSE).await;
    }
}

/// Whether the cluster that scenarios share answers, if it was asked for yet. Any answer is one, also a refusal.
async fn answers(stage: &Stage) -> Option<bool> {
    let onlooker = &stage.shared_if_there()?.onlooker;
    let answer = tokio::time::timeout(ANSWER, onlooker.apiserver_version()).await;
    Some(matches!(answer, Ok(Ok(_) | Err(kube::Error::Api(_)))))
}

/// Resolves when a scenario has not ended in time: whatever it waits for should have had a deadline.
async fn overdue(record: &Shared) -> String {
    loop {
        tokio::time::sleep(PULSE).await;
        if let Some(scenario) = record.overdue(Stage::ample_patience(LIMIT)) {
            return scenario;
        }
    }
}

/// Resolves when the cluster that scenarios share does not answer any more.
async fn lost(stage: &Stage) {
    let mut silent = 0;
    while silent < LOST_AFTER {
        tokio::time::sleep(PULSE).await;
        match answers(stage).await {
            Some(true) => silent = 0,
            Some(false) => silent += 1,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::catalogue::Filter;

    fn catalogue() -> Catalogue {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("features");
        Catalogue::read(&Sources::from_directory(&directory).unwrap())
    }

    #[test]
    fn every_step_of_every_feature_has_exactly_one_definition() {
        let catalogue = catalogue();
        let all = catalogue.select(&Filter::default());
        assert!(all.len() > 100, "only {} scenarios were found", all.len());
        let wrong = Catalogue::undefined(&all);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(catalogue.problems.is_empty(), "{}", catalogue.problems.join("\n"));
    }

    #[test]
    fn there_are_as_many_scenarios_as_when_they_last_landed() {
        let catalogue = catalogue();
        assert_eq!(miscounted(&catalogue), None);
        let fewer = Catalogue { entries: Vec::new(), ..catalogue };
        assert!(miscounted(&fewer).unwrap().starts_with("there are 0 scenarios, fewer than"));
        let more = Catalogue { recorded: Some(1), ..self::catalogue() };
        assert!(miscounted(&more).unwrap().contains(" scenarios, more than the 1 of"));
    }

    #[test]
    fn an_expired_quarantine_fails_and_one_that_holds_does_not_decide() {
        let text = "Feature: x\n  @quarantine-anna-2026-05-01\n  Scenario: y\n    Given z\n";
        let catalogue = Catalogue::read(&Sources::from_files([("x.feature", text)]));
        let entry = &catalogue.entries[0];
        let passed = || Scenario { outcome: Outcome::Passed, ..blank(entry) };
        let failed = || Scenario { outcome: Outcome::Failed, message: "no".to_owned(), ..blank(entry) };
        let holds = decided(entry, failed(), "2026-05-01".parse().unwrap());
        assert!(!holds.decides_against() && holds.outcome == Outcome::Failed);
        let expired = decided(entry, passed(), "2026-05-02".parse().unwrap());
        assert!(expired.decides_against(), "{expired:?}");
        assert_eq!(expired.message, "its quarantine ended on 2026-05-01: anna has to mend it or let it go");
        let skipped = || Scenario { outcome: Outcome::Skipped, ..blank(entry) };
        assert_eq!(decided(entry, skipped(), "2026-05-01".parse().unwrap()).outcome, Outcome::Skipped);
        assert!(decided(entry, skipped(), "2026-05-02".parse().unwrap()).decides_against());
    }
}
