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
use kube::Client;

use super::catalogue::{Catalogue, Entry, Sources};
use super::failure::Failure;
use super::inventory::Inventory;
use super::observe::Look;
use super::options::Options;
use super::recorder::{self, Key, Recorder, Say, Shared, blank};
use super::results::{Outcome, Results, SCHEMA, Scenario, Selection, Verdict};
use super::stage::{Door, NO_CLASS, Notes, SharedCluster, Stage};
use super::world::{self, World};
use super::{directory, environment, evidence, observations, observe, preflight, reports, teardown};
use crate::finding::{Finding, Id};
use crate::kubernetes::is_before;
use crate::provider::embedded;
use crate::step::Cancel;

/// Between two looks at whether the cluster is there.
const PULSE: Duration = Duration::from_secs(2);

/// How long a scenario may usually take. Its waits have deadlines of their own: this ends what has none by mistake.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long the cluster may take to clear away what belonged to the last namespace.
const SETTLING: Duration = Duration::from_secs(5);

/// How long it may take to delete a volume: a cloud takes its disk from the node before.
const DELETING_VOLUMES: Duration = Duration::from_secs(120);

/// How long what is done to nodes may take to end and to be undone.
const MENDING: Duration = Duration::from_secs(120);

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
            match lacking(&entry.tags, self.stage, self.options) {
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
                left = left_on_cluster(self.stage) => leaks = left,
                () = cancel.cancelled() => verdict = Verdict::Interrupted,
            }
        }
        leaks.extend(close(self.stage, &before, verdict).await);
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

/// How tags begin that name the Kubernetes with which something came.
const SINCE: &str = "k8s-1.";

/// What is lacking here for a scenario with these tags.
fn lacking(tags: &BTreeSet<String>, stage: &Stage, options: &Options) -> Option<String> {
    let root = nix::unistd::Uid::effective().is_root();
    let is_without = |has: fn(&preflight::Existing) -> bool| !stage.existing.as_ref().is_some_and(has);
    tags.iter().find_map(|tag| match (tag.as_str(), &stage.existing) {
        ("kubectl", _) => stage.kubectl.as_ref().err().map(|why| (*why).to_owned()),
        ("root", _) if !root => Some("only root may do this".to_owned()),
        ("linux", _) if !cfg!(target_os = "linux") => Some("only Linux has what it needs".to_owned()),
        ("cut-off", None) => super::cut::lacking(),
        ("docker", None) => super::beside::lacking(),
        ("nodes", existing) => super::nodes::lacking(existing.as_ref()),
        ("local-volumes", Some(existing)) => super::nodes::lacking(Some(existing)),
        ("process", _) if stage.door == Door::Plan => Some("it is about the program as a process".to_owned()),
        ("cluster", Some(_)) => Some("it needs a cluster of its own".to_owned()),
        ("disruptive", Some(_)) if !options.disruptive => {
            Some("it disturbs others on the cluster: --disruptive runs it".to_owned())
        }
        ("needs-audit", Some(_)) => Some("only an embedded cluster shows which requests were made".to_owned()),
        ("embedded-only", Some(_)) => Some("it needs the embedded cluster and its host".to_owned()),
        ("builtin", Some(existing)) if existing.stack != "builtin" => {
            Some("it is about what only the builtin stack has".to_owned())
        }
        ("deployments", _) if is_without(|existing| existing.has_deployments) => {
            Some("it needs a cluster that runs Deployments".to_owned())
        }
        ("fixed-volumes", _) if is_without(|existing| existing.has_fixed_volumes) => {
            Some("it needs a cluster whose volumes cannot grow".to_owned())
        }
        ("several-nodes", _) if is_without(|existing| existing.has_several_nodes) => {
            Some("it needs a cluster of which several nodes take pods".to_owned())
        }
        (tag, Some(existing)) if tag.starts_with(SINCE) => {
            let wanted = tag.strip_prefix(SINCE).and_then(|minor| minor.parse::<u32>().ok());
            let is_older = wanted.is_some_and(|wanted| is_before(&existing.version, wanted));
            is_older.then(|| format!("it needs Kubernetes {}", tag.trim_start_matches("k8s-")))
        }
        (tag, Some(existing)) => {
            let capability = tag.strip_prefix("needs-")?;
            let there = existing.capabilities.contains(capability);
            (!there).then(|| format!("the stack of this cluster has no {capability}"))
        }
        _ => None,
    })
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

/// What the shared cluster has outside the namespaces of scenarios that it did not have before the first of them, and
/// what is in its store. Other people's clusters change by themselves: there only what names a namespace of this run
/// counts, such as the volume of a claim that was in it, or a ConfigMap in `default` that was made for it.
async fn left_on_cluster(stage: &Stage) -> Vec<String> {
    let Some(SharedCluster { onlooker, before, .. }) = stage.shared_if_there() else { return Vec::new() };
    let marks = if stage.existing.is_some() { stage.namespaces_begin() } else { String::new() };
    let own: Vec<String> = stage.namespaces_left().iter().map(|name| format!("namespace {name}")).collect();
    let begun = Instant::now();
    let settled = observe::until_cleared("nothing being left", DELETING_VOLUMES, || async {
        let mut now = observe::outside(onlooker, &marks).await;
        if stage.existing.is_none() {
            now.extend(left_in_store(stage).await);
            now.extend(left_in_gone_namespaces(stage, onlooker).await);
        }
        let left: Vec<String> = now.into_iter().filter(|it| !before.contains(it) && !own.contains(it)).collect();
        let is_over = is_settled(&left, begun.elapsed(), Stage::ample_patience(SETTLING));
        Ok(if is_over { Look::Yes(left) } else { Look::NotYet(left.join("\n")) })
    });
    match settled.await {
        Ok(left) => left,
        Err(Failure::Deadline { last, .. }) => last.lines().map(str::to_owned).collect(),
        Err(other) => vec![other.to_string()],
    }
}

/// Whether what is left after so long will not go any more, where everything else than volumes is `settling` for so
/// long. Volumes go some time after the claims of the last namespace.
fn is_settled(left: &[String], waited: Duration, settling: Duration) -> bool {
    left.is_empty() || (waited >= settling && !left.iter().any(|it| it.starts_with("persistentvolume ")))
}

/// What scenarios have left where it can't be any more, and which.
async fn left_in_gone_namespaces(stage: &Stage, onlooker: &Client) -> Vec<String> {
    let left = match observe::in_gone_namespaces(onlooker, &stage.namespaces_begin()).await {
        Ok(left) => left,
        Err(failure) => return vec![format!("nobody knows what, without a namespace: {failure}").replace('\n', " ")],
    };
    let named = left.into_iter().map(|(namespace, object)| match stage.maker(&namespace) {
        Some(scenario) => format!("{object}, of {scenario}"),
        None => object,
    });
    named.collect()
}

/// Everything in the store of a cluster that only this run uses.
async fn left_in_store(stage: &Stage) -> Vec<String> {
    let look = async { stage.store().await?.list_all().await.map_err(observe::refused) };
    match look.await {
        Ok(left) => left.into_iter().map(|entry| format!("{} in the store", entry.key)).collect(),
        Err(failure) => vec![format!("nobody knows what, in the store: {failure}").replace('\n', " ")],
    }
}

/// Deletes what scenarios that were interrupted have left and the shared cluster, and looks for what the run has left.
async fn close(stage: &Stage, before: &Inventory, verdict: Verdict) -> Vec<String> {
    let mut leaks = Vec::new();
    // It goes on beside a scenario that was cut off.
    if tokio::time::timeout(MENDING, stage.nodes_mended()).await.is_err() {
        leaks.push(format!("what was done to nodes: it was not undone within {} s", MENDING.as_secs()));
    }
    leaks.extend(stage.left());
    match (&stage.existing, verdict) {
        (None, _) => {}
        (Some(_), Verdict::ClusterLost) => {
            leaks.extend(
                stage.namespaces_left().into_iter().map(|name| format!("namespace {name} of the lost cluster")),
            );
        }
        (Some(_), _) => {
            leaks.extend(teardown::delete_namespaces(stage.namespaces_left()).await);
            // Of a run that came to its end this is known. Of one that was cut off nothing else tells it.
            if verdict != Verdict::Passed {
                leaks.extend(left_on_cluster(stage).await);
            }
        }
    }
    leaks.extend(directory::clear(&stage.directory).await);
    // An existing cluster may be of this machine, and come and go on it.
    if stage.existing.is_none() {
        leaks.extend(Inventory::take(&stage.directory).leaked_since(before, &stage.directory));
    }
    leaks
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use regex::Regex;

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

    /// What scenarios are about and how important they are, then what they need where they run.
    const TAGS: [&str; 4] = [
        "smoke core full chaos",
        "backup binding disorder extension failover ha maintenance namespace negative restore sql stack store",
        "builtin cluster cut-off deployments disruptive docker embedded-only fixed-volumes kubectl linux needs-audit",
        "local-volumes nodes process root serial several-nodes",
    ];

    /// A misspelt `@needs-…` skips a scenario for good, and any other that is misspelt lets it run where it can't.
    #[test]
    fn every_tag_is_known() {
        use crate::steps::capability::Capability::{BackupObjects, Failover, ReplicationLag, RestoreInto};
        let capabilities =
            [BackupObjects, Failover, ReplicationLag, RestoreInto].map(|it| format!("needs-{}", it.word()));
        for entry in &catalogue().entries {
            for tag in &entry.tags {
                let is_version = tag.strip_prefix(SINCE).is_some_and(|minor| minor.parse::<u32>().is_ok());
                let is_named = TAGS.iter().flat_map(|tags| tags.split(' ')).any(|known| known == tag);
                let is_known = is_named || is_version || capabilities.contains(tag) || tag.starts_with("quarantine-");
                assert!(is_known, "{} is @{tag}", entry.id);
            }
        }
    }

    /// What a step needs where it runs, by the tag that says so: how its sentence begins, and what is in it.
    const NEEDING: [(&str, &str, &str); 37] = [
        ("cluster", "a cluster of its own", ""),
        ("kubectl", "", "`kubectl "),
        // These run it and do not show its line.
        ("kubectl", "the object:", ""),
        ("kubectl", "I apply the object:", ""),
        ("kubectl", "a port-forward to ", ""),
        ("kubectl", "kubectl reads every manifest", ""),
        ("kubectl", "the cluster would take every manifest", ""),
        ("needs-failover", "", "`a9s pg failover "),
        ("needs-failover", "I fail ", " over"),
        ("needs-restore-into", "I run `a9s create pg restore ", " --to "),
        ("needs-restore-into", "I create a restore ", " into a new instance "),
        ("needs-backup-objects", "the store has ", ""),
        ("needs-backup-objects", "the store soon has ", ""),
        ("needs-backup-objects", "no object of the backup ", ""),
        ("needs-backup-objects", "a byte of the backup ", ""),
        ("needs-backup-objects", "an object of the backup ", ""),
        ("needs-backup-objects", "the backup ", " in the store is "),
        ("needs-backup-objects", "the backup ", " has begun to upload"),
        ("needs-backup-objects", "the manifest of the backup ", " in the store is "),
        ("needs-backup-objects", "somebody writes another time into the manifest ", ""),
        ("builtin", "the Lease of ", ""),
        ("builtin", "", "synchronous_standby_names"),
        ("builtin", "", "configmap a8s-stack"),
        ("builtin", "somebody puts a Secret with the username ", ""),
        // The words are the builtin operators' own.
        ("builtin", "the status of ", " soon says "),
        ("builtin", "the instance ", " soon tells the error "),
        ("builtin", "the service binding ", " soon tells the error "),
        ("builtin", "the restore ", " has begun"),
        ("builtin", "the namespace has exactly these objects:", ""),
        ("disruptive", "", "`kubectl drain "),
        ("disruptive", "", "`kubectl taint "),
        ("disruptive", "", "`kubectl scale deployment "),
        ("disruptive", "the nodes that take pods are ", ""),
        ("disruptive", "the node of the primary of ", " is drained"),
        ("disruptive", "the nodes have lost ", ""),
        ("disruptive", "the disks of the nodes are ", ""),
        ("local-volumes", "the volume of the member ", " is emptied"),
    ];

    /// Whether a backup of one instance is restored into another, as far as the steps tell.
    fn restores_into_another(entry: &Entry) -> bool {
        static MADE: LazyLock<Regex> = LazyLock::new(|| {
            let words = r#"^(?:a|I create a|somebody orders a) backup "([^"]+)" of (?:the "[^"]+" )?"([^"]+)""#;
            Regex::new(words).unwrap()
        });
        static RESTORED: LazyLock<Regex> = LazyLock::new(|| {
            let words = r#"^I create a restore "[^"]+" of the backup "([^"]+)" into "([^"]+)""#;
            Regex::new(words).unwrap()
        });
        let mut instances = HashMap::new();
        entry.steps().any(|step| {
            if let Some(made) = MADE.captures(&step.value) {
                instances.insert(made[1].to_owned(), made[2].to_owned());
            }
            let restored = RESTORED.captures(&step.value);
            restored.is_some_and(|it| instances.get(&it[1]).is_some_and(|instance| *instance != it[2]))
        })
    }

    /// The steps of features that a scenario has in its texts, for a run of the suite that it makes.
    fn in_texts(entry: &Entry) -> impl Iterator<Item = &str> {
        let lines = entry.steps().filter_map(|step| step.docstring.as_deref()).flat_map(str::lines);
        lines.filter_map(|line| {
            let (keyword, step) = line.trim_start().split_once(' ')?;
            ["Given", "When", "Then", "And", "But"].contains(&keyword).then_some(step)
        })
    }

    /// Where a scenario runs only on a cluster of the run's own, which is an embedded one, the stack is the builtin one.
    #[test]
    fn what_a_scenario_needs_is_in_its_tags() {
        for entry in &catalogue().entries {
            let is_embedded = ["cluster", "embedded-only", "needs-audit"].iter().any(|tag| entry.tags.contains(*tag));
            let is_of_stack = |tag: &str| tag == "builtin" || tag.starts_with("needs-");
            let is_said = |tag: &str| entry.tags.contains(tag) || (is_embedded && is_of_stack(tag));
            for (tag, begin, within) in NEEDING {
                let own = entry.steps().map(|step| step.value.as_str());
                // There, who needs a cluster of its own is skipped where it has none.
                let others = in_texts(entry).filter(|_| tag != "cluster");
                let needs = own.chain(others).find(|step| step.starts_with(begin) && step.contains(within));
                let step = needs.unwrap_or_default();
                assert!(needs.is_none() || is_said(tag), "{} is not @{tag}: {step}", entry.id);
            }
            let tag = "needs-restore-into";
            assert!(!restores_into_another(entry) || is_said(tag), "{} is not @{tag}", entry.id);
        }
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
    fn volumes_have_more_time_to_go_than_what_nobody_takes_away() {
        let left = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (claim, volume) = ("persistentvolumeclaim default/data", "persistentvolume pvc-1");
        for (left, waited, settling, is_over) in [
            (left(&[]), Duration::ZERO, SETTLING, true),
            (left(&[claim]), SETTLING / 2, SETTLING, false),
            (left(&[claim]), SETTLING, SETTLING, true),
            // A run with more patience.
            (left(&[claim]), SETTLING, SETTLING * 3, false),
            (left(&[claim, volume]), SETTLING * 2, SETTLING, false),
        ] {
            assert_eq!(is_settled(&left, waited, settling), is_over, "{left:?} after {waited:?}");
        }
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
