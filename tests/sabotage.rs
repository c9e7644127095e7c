//! What shows that the tests can fail. Seeded defects: listed, used once each, and in no program but the one that
//! `ci/sabotage` builds. The modules in which `ci/mutants` changes something: all there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Names in the list with the pattern of their area.
fn listed() -> BTreeMap<String, String> {
    let text = fs_err::read_to_string(root().join("ci/sabotage.tsv")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            assert_eq!(columns.len(), 3, "{line}");
            (columns[0].to_owned(), columns[1].to_owned())
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

#[test]
fn every_area_has_scenarios() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_a9s"))
        .args(["conformance", "list", "-o", "json"])
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ids: Vec<&str> =
        document["scenarios"].as_array().unwrap().iter().filter_map(|entry| entry["id"].as_str()).collect();
    for (name, pattern) in listed() {
        let pattern = regex::Regex::new(&pattern).unwrap();
        assert!(ids.iter().any(|id| pattern.is_match(id)), "nothing runs first for {name}");
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
