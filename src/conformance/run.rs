//! One run of the suite: which scenarios, in what order, and what the exit code says.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cucumber::cli::{Empty, Opts};
use cucumber::event::ScenarioFinished;
use cucumber::tag::Ext as _;
use cucumber::{World as _, gherkin, parser, runner};

use super::inventory::Inventory;
use super::report::{Report, print};
use super::stage::Stage;
use super::world::{self, World};
use super::{command, evidence};

/// Scenarios at a time. They mostly wait, for servers to start above all.
const AT_A_TIME: usize = 4;

/// Runs the features below `features` that the command line asks for against `program`.
///
/// The exit code is 0 only if at least one scenario ran, all of them passed, and nothing is left of them.
pub async fn run(features: &Path, program: &Path) -> ExitCode {
    let options = Opts::<parser::basic::Cli, runner::basic::Cli, Empty, Empty>::parsed();
    let stage = match Stage::open(program) {
        Ok(stage) => stage,
        Err(failure) => {
            print(&format!("{failure}\n0 passed, 1 failed\n"));
            return ExitCode::FAILURE;
        }
    };
    let before = Inventory::take(&stage.directory);
    let tally = tokio::select! {
        tally = scenarios(features, options) => tally,
        _ = tokio::signal::ctrl_c() => {
            print("interrupted\n");
            Tally { interrupted: true, ..Tally::default() }
        }
    };
    let leaks = close(stage, &before).await;
    for leak in &leaks {
        print(&format!("LEAK     {leak}\n"));
    }
    let failed = tally.failed + usize::from(!leaks.is_empty());
    if tally.passed + failed + tally.skipped == 0 && !tally.interrupted {
        print("no scenario matches the filter\n0 passed, 1 failed\n");
        return ExitCode::FAILURE;
    }
    let skipped = if tally.skipped == 0 { String::new() } else { format!(", {} skipped", tally.skipped) };
    print(&format!("{} passed, {failed} failed{skipped}\n", tally.passed));
    match (tally.interrupted, failed) {
        (true, _) => ExitCode::from(130),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    }
}

#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    interrupted: bool,
}

async fn scenarios(features: &Path, mut options: Opts<parser::basic::Cli, runner::basic::Cli, Empty, Empty>) -> Tally {
    let tags = options.tags_filter.take();
    let names = options.re_filter.take();
    let skipped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&skipped);
    let wanted = move |feature: &gherkin::Feature, rule: Option<&gherkin::Rule>, scenario: &gherkin::Scenario| {
        let own = || feature.tags.iter().chain(rule.iter().flat_map(|rule| &rule.tags)).chain(&scenario.tags);
        let asked = tags.as_ref().is_none_or(|tags| tags.eval(own()))
            && names.as_ref().is_none_or(|names| names.is_match(&scenario.name));
        let lacking = if asked { lacking(own()) } else { None };
        if let Some(lacking) = lacking {
            count.fetch_add(1, Ordering::Relaxed);
            print(&format!("skipped           {}: {} ({lacking})\n", feature.name, scenario.name));
        }
        asked && lacking.is_none()
    };
    let report = World::cucumber()
        .with_writer(Report::default())
        .max_concurrent_scenarios(AT_A_TIME)
        .before(|feature, _, scenario, world| {
            world.begin(&feature.name, &scenario.name, scenario.position.line);
            Box::pin(async {})
        })
        .after(|_, _, _, finished, world| Box::pin(after(finished, world)))
        .with_cli(options)
        .filter_run(features.to_owned(), wanted)
        .await;
    Tally {
        passed: report.passed(),
        failed: report.failed(),
        skipped: skipped.load(Ordering::Relaxed),
        interrupted: false,
    }
}

/// What this machine lacks for a scenario with these tags.
fn lacking<'a>(mut tags: impl Iterator<Item = &'a String>) -> Option<&'static str> {
    let root = nix::unistd::Uid::effective().is_root();
    tags.find_map(|tag| match tag.as_str() {
        "kubectl" => Stage::get().kubectl.as_ref().err().copied(),
        "root" if !root => Some("only root may do this"),
        _ => None,
    })
}

/// Keeps the evidence of a failure, then takes back what the scenario made. What would not go fails the scenario, too;
/// unwinding is how a hook tells the runner.
async fn after(finished: &ScenarioFinished, world: Option<&mut World>) {
    let Some(world) = world else { return };
    let mut words = Vec::new();
    if !matches!(finished, ScenarioFinished::StepPassed) {
        words.push(format!("evidence: {}", evidence::keep(world).await.display()));
    }
    words.extend(world.end().await.into_iter().map(|leak| format!("left over: {leak}")));
    if !words.is_empty() {
        std::panic::resume_unwind(Box::new(words.join("\n")));
    }
}

/// Deletes the shared cluster, and those of scenarios that were interrupted, and looks for what the run has left.
async fn close(stage: &Stage, before: &Inventory) -> Vec<String> {
    let mut leaks = Vec::new();
    for entry in std::fs::read_dir(&stage.directory).into_iter().flatten().flatten() {
        if let Ok(surroundings) = command::Surroundings::new(&entry.path()) {
            leaks.extend(world::delete_clusters(&surroundings).await);
            leaks.extend(state_left(&surroundings));
        }
    }
    leaks.extend(world::end_processes_of(&stage.directory.to_string_lossy()).await);
    leaks.extend(Inventory::take(&stage.directory).leaked_since(before, &stage.directory));
    if let Err(error) = fs_err::remove_dir_all(&stage.directory) {
        leaks.push(error.to_string());
    }
    leaks
}

fn state_left(surroundings: &command::Surroundings) -> Vec<String> {
    std::fs::read_dir(&surroundings.state)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| format!("state {} is left", entry.path().display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use cucumber::World as _;
    use cucumber::feature::Ext as _;
    use cucumber::gherkin::{Feature, GherkinEnv};

    use super::*;

    #[test]
    fn every_step_of_every_feature_has_exactly_one_definition() {
        let definitions = World::collection();
        let mut wrong = Vec::new();
        let mut steps = 0;
        for file in fs_err::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("features")).expect("features") {
            let path = file.expect("a file").path();
            if path.extension().is_none_or(|extension| extension != "feature") {
                continue;
            }
            let feature = Feature::parse_path(&path, GherkinEnv::default()).expect("a feature that can be read");
            let feature = feature.expand_examples().expect("outlines with all their columns");
            let background = feature.background.iter().flat_map(|background| &background.steps);
            for step in background.chain(feature.scenarios.iter().flat_map(|scenario| &scenario.steps)) {
                steps += 1;
                match definitions.find(step) {
                    Ok(Some(_)) => {}
                    Ok(None) => wrong.push(format!("{}: nothing says {:?} {}", feature.name, step.ty, step.value)),
                    Err(ambiguous) => wrong.push(format!("{}: {}: {ambiguous}", feature.name, step.value)),
                }
            }
        }
        assert!(steps > 100, "only {steps} steps were found");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
