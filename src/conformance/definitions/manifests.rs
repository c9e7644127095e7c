//! Manifests that the program has written: how others read them, and whether a cluster would take them.

use std::path::PathBuf;

use cucumber::then;
use serde_json::Value;

use super::files::below;
use crate::conformance::command;
use crate::conformance::{Failure, World};
use crate::yaml;

/// The directories of the working directory that hold manifests.
const DIRECTORIES: [&str; 2] = ["a9s/usermanifests", "a9s/stackmanifests"];
/// What `kubectl` adds to an object so that it has something to do; the objects have no annotations of this name.
const READ: &str = "a9s.test/read";

#[then(expr = "there are {int} manifests")]
async fn there_are(world: &mut World, count: usize) -> Result<(), Failure> {
    let found = written(world);
    Failure::unless(found.len() == count, format!("{count} manifests"), format!("{found:?}"))
}

/// `kubectl` reads YAML 1.1, and we read and write it as 1.2: a text that both read the same has one meaning.
#[then("kubectl reads every manifest as it was meant")]
async fn read_alike(world: &mut World) -> Result<(), Failure> {
    for path in some(world)? {
        let text = fs_err::read_to_string(&path)?;
        let meant: Vec<Value> =
            yaml::read_all(&text).map_err(|error| Failure::unexpected("YAML", error.to_string()))?;
        let file = path.to_string_lossy();
        let words = ["annotate", "--local", "--overwrite", "-o", "json", "-f", &file, &format!("{READ}=yes")];
        let outcome = command::kubectl(&world.surroundings, &words, None).await?;
        outcome.require_success()?;
        let read: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&outcome.stdout).into_iter().collect();
        let read: Vec<Value> = read.map_err(|error| Failure::unexpected("JSON", error.to_string()))?;
        let read: Vec<Value> = read.into_iter().map(without_mark).collect();
        if read != meant {
            return Err(Failure::unexpected(format!("{meant:#?}"), format!("{read:#?}")));
        }
    }
    Ok(())
}

/// As a dry run, so that nothing of it is there afterwards.
#[then("the cluster would take every manifest")]
async fn taken(world: &mut World) -> Result<(), Failure> {
    for path in some(world)? {
        let file = path.to_string_lossy();
        let words =
            ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--field-manager=suite", "-f", &file];
        let outcome = command::kubectl(&world.surroundings, &words, None).await?;
        outcome.require_success()?;
    }
    Ok(())
}

/// Takes the annotation away again.
fn without_mark(mut object: Value) -> Value {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(READ);
        if annotations.is_empty()
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("annotations");
        }
    }
    object
}

/// The manifests that were written. That there are none is a failure: nothing would have been looked at.
fn some(world: &World) -> Result<Vec<PathBuf>, Failure> {
    let found = written(world);
    if found.is_empty() { Err(Failure::Missing("manifest")) } else { Ok(found) }
}

/// All manifests, in the order of their names.
fn written(world: &World) -> Vec<PathBuf> {
    let mut found = DIRECTORIES.map(|directory| below(&world.surroundings.home.join(directory), &[])).concat();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    found.sort();
    found
}
