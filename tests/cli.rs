//! The program as a person runs it, where no cluster is needed: streams, exit codes, dry-run plans, bad input.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use rstest::rstest;

fn a9s(home: &Path, words: &[&str]) -> Output {
    command(home, words).output().expect("the program can be started")
}

fn command(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_a9s"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", home).env("A9S_STATE_DIR", home.join("state"));
    command.current_dir(home).stdin(Stdio::null()).args(words);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output, with the home directory's name taken out.
fn stdout(home: &Path, words: &[&str]) -> String {
    let output = a9s(home, words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).replace(&home.display().to_string(), "[HOME]")
}

fn snapshot(name: &str, content: &str) {
    insta::with_settings!({snapshot_path => "../snapshots/plans", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, content);
    });
}

fn configured() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let text = format!("WorkingDir: {}/a9s\nDemoSpace: a8s-demo\n", home.path().display());
    fs_err::write(home.path().join(".a9s"), text).unwrap();
    home
}

#[test]
fn dry_runs_show_the_plan_and_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    snapshot("create_cluster", &stdout(home.path(), &["create", "cluster", "a8s", "--dry-run"]));
    snapshot("delete_cluster", &stdout(home.path(), &["delete", "cluster", "a8s", "-c", "a8s", "--all", "--dry-run"]));
    assert_eq!(fs_err::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_manifest_alone_needs_no_cluster() {
    let home = configured();
    let words = ["create", "pg", "instance", "--name", "solo", "--service-version", "15", "--no-apply"];
    snapshot("create_instance_no_apply", &stdout(home.path(), &words));
    let file = home.path().join("a9s/usermanifests/a8s-pg-instance-solo.yaml");
    snapshot("instance_manifest", &fs_err::read_to_string(&file).unwrap());
    let before = fs_err::metadata(&file).unwrap().modified().unwrap();
    stdout(home.path(), &words);
    assert_eq!(fs_err::metadata(&file).unwrap().modified().unwrap(), before, "a second run writes nothing");
}

#[test]
fn every_flag_of_an_instance_is_in_its_manifest() {
    let home = configured();
    let flags = [
        "--replicas=3",
        "--volume-size=2Gi",
        "--requests-cpu=250m",
        "--limits-memory=512Mi",
        "--service-version=14",
        "--strict-version",
        "--namespace=on",
    ];
    let words = [&["create", "pg", "instance", "--name", "no", "--no-apply"][..], &flags].concat();
    stdout(home.path(), &words);
    let file = home.path().join("a9s/usermanifests/on/a8s-pg-instance-no.yaml");
    snapshot("instance_manifest_with_every_flag", &fs_err::read_to_string(&file).unwrap());
}

#[test]
fn the_images_of_a_release_are_listed_with_what_they_become() {
    let home = configured();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/stack");
    let (map, issuer) = (home.path().join("map.yaml"), home.path().join("cert-manager.yaml"));
    fs_err::write(&map, "registry.test/: registry.example.com/mirror/\n").unwrap();
    fs_err::write(&issuer, "{apiVersion: v1, kind: Namespace, metadata: {name: cert-manager}}\n").unwrap();
    let [map, issuer] = [map, issuer].map(|path| path.display().to_string());
    let words = ["images", "list", "--deployment-version", fixture, "--cert-manager", &issuer, "--image-map", &map];
    snapshot("images_list", &stdout(home.path(), &words));
}

#[test]
fn the_manifests_of_orders_need_no_cluster() {
    let home = configured();
    let binding = ["create", "pg", "servicebinding", "--name", "yes", "-i", "solo", "-n", "shop", "--no-apply"];
    snapshot("create_servicebinding_no_apply", &stdout(home.path(), &binding));
    let backup = ["create", "pg", "backup", "--name", "b", "-i", "solo", "--max-retries", "2", "--no-apply"];
    snapshot("create_backup_no_apply", &stdout(home.path(), &backup));
    let restore = ["create", "pg", "restore", "--name", "r", "-b", "b", "-i", "solo", "-n", "shop", "--no-apply"];
    snapshot("create_restore_no_apply", &stdout(home.path(), &restore));
}

#[test]
fn the_working_directory_is_printed_without_a_newline() {
    let home = configured();
    assert_eq!(stdout(home.path(), &["cluster", "pwd"]), "[HOME]/a9s");
}

#[rstest]
#[case::unknown_flag(&["create", "--bogus"], 2)]
#[case::typo(&["create", "pg", "instnace"], 2)]
#[case::impossible_name(&["create", "pg", "instance", "--name", "../x"], 2)]
#[case::no_config(&["create", "pg", "instance"], 3)]
#[case::no_cluster(&["cluster", "start"], 3)]
#[case::no_backup_named(&["create", "pg", "restore", "-i", "x"], 2)]
#[case::two_destinations(&["create", "pg", "restore", "-b", "b", "-i", "x", "--to", "y"], 2)]
#[case::retries_that_are_none(&["create", "pg", "backup", "--max-retries", "often"], 2)]
#[case::unknown_kind(&["list", "pg", "tables"], 2)]
#[case::two_namespaces(&["list", "pg", "bkp", "-A", "-n", "x"], 2)]
#[case::no_instance_named(&["pg", "status"], 2)]
#[case::two_instances_named(&["pg", "logs", "x", "-i", "y"], 2)]
#[case::no_config_for_a_backup(&["create", "pg", "backup"], 3)]
#[case::nothing_to_list_from(&["list", "pg", "bkp"], 3)]
#[case::no_kubeconfig(&["pg", "apply", "-i", "x", "--sql", "SELECT 1"], 3)]
#[case::no_file(&["pg", "apply", "-i", "x", "--file", "nowhere.sql"], 3)]
#[case::empty_key(&["create", "cluster", "a8s", "--backup-store-accesskey", ""], 2)]
fn what_cannot_work_is_said_on_standard_error(#[case] words: &[&str], #[case] code: i32) {
    let home = tempfile::tempdir().unwrap();
    let output = a9s(home.path(), words);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    assert!(!output.stderr.is_empty());
    assert!(!home.path().join("state").exists() && !home.path().join(".a9s").exists());
}

#[test]
fn a_failure_is_one_document_too() {
    let home = tempfile::tempdir().unwrap();
    let output = a9s(home.path(), &["cluster", "start", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["id"], "no-cluster");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn groups_warn_and_help_and_succeed() {
    let home = tempfile::tempdir().unwrap();
    for (words, warning) in [
        (&["create"][..], "Please select the data service resource type you would like to instantiate."),
        (&["create", "pg"], "Please select a PostgreSQL resource such as (service) instance."),
        (&["create", "cluster"], "Please use a sub-command."),
        (&["delete"], "Please select the data service resource type you would like to delete."),
        (&["delete", "cluster"], "Use a sub-command to choose the demo resource to be deleted."),
        (&["pg"], "Please select a subcommand from the list below."),
        (&["list"], "Please select what to list."),
        (&["list", "pg"], "Please select a PostgreSQL resource such as (service) instance."),
        (&["describe"], "Please select what to describe."),
        (&["cluster"], "Please select a cluster sub-command."),
    ] {
        let said = stdout(home.path(), words);
        assert!(said.contains(warning) && said.contains("Usage: a9s"), "{said}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let mut child = command(home.path(), &["completion", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let home = tempfile::tempdir().unwrap();
    let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = command(home.path(), &["version", "--client"])
        .stdout(full.into_parts().0)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn nobody_is_asked_without_a_terminal_and_nothing_is_deleted() {
    let home = configured();
    let output = a9s(home.path(), &["delete", "cluster", "a8s", "-c", "a8s", "--all"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("--yes"));
    assert!(home.path().join(".a9s").exists());
}
