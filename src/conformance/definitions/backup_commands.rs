//! Backups and restores, as commands make and delete them.

use cucumber::{given, then, when};

use crate::conformance::observe;
use crate::conformance::{Failure, World};

#[given(expr = "a backup {string} of {string}")]
async fn given_backup(world: &mut World, name: String, instance: String) -> Result<(), Failure> {
    create_backup(world, name, instance).await?;
    world.last()?.require_success()
}

#[when(expr = "I create a backup {string} of {string}")]
async fn create_backup(world: &mut World, name: String, instance: String) -> Result<(), Failure> {
    world.a9s(&["create", "pg", "backup", "--name", &name, "-i", &instance, "--yes"]).await.map(drop)
}

#[when(regex = r#"^I create a backup "([^"]+)" of "([^"]+)" with `(.+)`$"#)]
async fn create_backup_with(world: &mut World, name: String, instance: String, flags: String) -> Result<(), Failure> {
    let flags = world.expand(&flags);
    let mut words = vec!["create", "pg", "backup", "--name", &name, "-i", &instance, "--yes"];
    words.extend(flags.split_whitespace());
    world.a9s(&words).await.map(drop)
}

#[when(expr = "I create a backup {string} of {string} in the namespace {string}")]
async fn create_backup_in(world: &mut World, name: String, instance: String, namespace: String) -> Result<(), Failure> {
    let namespace = world.namespace_called(&namespace);
    let words = ["create", "pg", "backup", "--name", &name, "-i", &instance, "-n", &namespace, "--yes"];
    world.a9s(&words).await.map(drop)
}

#[when(expr = "I create a restore {string} of the backup {string} into {string}")]
async fn create_restore(world: &mut World, name: String, backup: String, instance: String) -> Result<(), Failure> {
    world.a9s(&["create", "pg", "restore", "--name", &name, "-b", &backup, "-i", &instance, "--yes"]).await.map(drop)
}

#[when(regex = r#"^I create a restore "([^"]+)" of the backup "([^"]+)" with `(.+)`$"#)]
async fn create_restore_with(world: &mut World, name: String, backup: String, flags: String) -> Result<(), Failure> {
    let flags = world.expand(&flags);
    let mut words = vec!["create", "pg", "restore", "--name", &name, "-b", &backup, "--yes"];
    words.extend(flags.split_whitespace());
    world.a9s(&words).await.map(drop)
}

#[when(expr = "I create a restore {string} of the backup {string} into {string} in the namespace {string}")]
async fn create_restore_in(
    world: &mut World,
    name: String,
    backup: String,
    instance: String,
    namespace: String,
) -> Result<(), Failure> {
    let namespace = world.namespace_called(&namespace);
    let words = ["create", "pg", "restore", "--name", &name, "-b", &backup, "-i", &instance, "-n", &namespace, "--yes"];
    world.a9s(&words).await.map(drop)
}

#[when(expr = "I create a restore {string} of the backup {string} into a new instance {string}")]
async fn create_restore_to(world: &mut World, name: String, backup: String, to: String) -> Result<(), Failure> {
    world.a9s(&["create", "pg", "restore", "--name", &name, "-b", &backup, "--to", &to, "--yes"]).await.map(drop)
}

#[when(regex = r#"^I delete the (backup|restore) "([^"]+)"$"#)]
async fn delete(world: &mut World, kind: String, name: String) -> Result<(), Failure> {
    world.a9s(&["delete", "pg", &kind, "--name", &name, "--yes"]).await.map(drop)
}

/// As any client would look for it: the condition `Complete` is true. Without a namespace it is the scenario's own.
#[then(regex = r#"^the (backup|restore) "([^"]+)"(?: in the namespace "([^"]+)")? is complete$"#)]
async fn complete(world: &mut World, kind: String, name: String, namespace: String) -> Result<(), Failure> {
    let namespace = world.namespace_or_own(&namespace);
    let found = observe::object(&world.client().await?, &namespace, &kind, &name).await?;
    let object = found.ok_or_else(|| Failure::unexpected(format!("a {kind} {name}"), "none"))?;
    Failure::unless(observe::holds(&object, "Complete"), "the condition Complete", &object["status"])
}
