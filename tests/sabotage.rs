//! What shows that the tests can fail. Seeded defects: listed, used once each, and in no program but the one that
//! `ci/sabotage` builds. The modules in which `ci/mutants` changes something: all there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// How a defect is to be caught.
struct Catch {
    /// Matches the scenarios.
    scenarios: Regex,
    /// Matches a failure of theirs.
    failure: String,
}

/// The list, by names.
fn listed() -> BTreeMap<String, Catch> {
    let text = fs_err::read_to_string(root().join("ci/sabotage.tsv")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [name, scenarios, failure, _] = columns[..] else { panic!("not four columns: {line}") };
            (name.to_owned(), Catch { scenarios: Regex::new(scenarios).unwrap(), failure: failure.to_owned() })
        })
        .collect()
}

/// How often each name is in the sources.
fn used() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for part in ["src", "crates/a8s-operators/src", "crates/kube-embedded/src", "crates/a8s-api/src"] {
        count(&root().join(part), &mut found);
    }
    found
}

fn count(directory: &Path, found: &mut BTreeMap<String, usize>) {
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs_err::read_to_string(&path).unwrap();
            for part in text.split("sabotaged!(\"").skip(1) {
                *found.entry(part.split('"').next().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
}

#[test]
fn every_defect_is_listed_and_there_are_enough() {
    let (listed, used) = (listed(), used());
    assert!(listed.len() >= 40, "{}", listed.len());
    assert_eq!(listed.keys().collect::<Vec<_>>(), used.keys().collect::<Vec<_>>());
    assert!(used.values().all(|times| *times == 1), "{used:?}");
}

/// Of the failure, what stands before the dash is the step; why it fails only a run can tell.
#[test]
fn every_defect_has_a_scenario_with_the_step_that_is_to_fail() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_a9s"))
        .args(["conformance", "show", "-o", "json"])
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let scenarios = document["scenarios"].as_array().unwrap();
    for (name, catch) in listed() {
        let step = catch.failure.split(" — ").next().unwrap();
        let step = Regex::new(&format!("^[A-Z][a-z]+ ({step})")).unwrap();
        let selected = scenarios.iter().filter(|it| catch.scenarios.is_match(it["id"].as_str().unwrap()));
        let mut steps = selected.flat_map(|it| it["steps"].as_array().unwrap());
        assert!(steps.any(|it| step.is_match(it.as_str().unwrap())), "no step fails of {name}: {step}");
    }
}

/// The script looks for each before it says which they are.
#[test]
fn every_module_that_mutants_are_made_of_is_there() {
    let output = std::process::Command::new(root().join("ci/mutants")).arg("--list").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let modules = String::from_utf8(output.stdout).unwrap();
    assert!(modules.lines().count() > 20, "{modules}");
    assert!(modules.lines().all(|module| root().join(module).is_file()), "{modules}");
}

/// The names are nowhere in the file, so nothing can switch one on.
#[test]
#[cfg(not(feature = "sabotage"))]
fn the_program_has_no_defect_that_can_be_switched_on() {
    // A search of our own would take minutes without optimisation.
    let found = |words: Vec<String>| {
        let mut grep = std::process::Command::new("grep");
        for word in words {
            grep.args(["-e", &word]);
        }
        let output =
            grep.args(["--text", "--only-matching", "--fixed-strings", env!("CARGO_BIN_EXE_a9s")]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let known = "A tool to make the use of a9s Platform modules".to_owned();
    assert!(found(vec![known.clone()]).contains(&known), "texts can be found in the program");
    assert_eq!(found(listed().into_keys().collect()), "");
}
