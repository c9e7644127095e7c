//! Files in the scenario's home: configuration, manifests, kubeconfig.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cucumber::gherkin::Step;
use cucumber::{given, then, when};

use crate::conformance::inventory;
use crate::conformance::{Failure, World};
use crate::step::quoted;

#[given(expr = "the file {string} with:")]
async fn write(world: &mut World, path: String, step: &Step) -> Result<(), Failure> {
    let text = world.expand(step.docstring.as_deref().unwrap_or_default().trim_start_matches('\n'));
    let path = world.surroundings.home.join(world.expand(&path));
    fs_err::create_dir_all(path.parent().unwrap_or(&path))?;
    fs_err::write(&path, text)?;
    Ok(fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?)
}

/// What an API server without Deployments takes of a release: its namespace, the kind of instances, and a certificate of
/// cert-manager's.
#[given(expr = "a release in small below {string}, and a cert-manager in small as {string}")]
async fn release(world: &mut World, directory: String, cert_manager: String) -> Result<(), Failure> {
    let manifests = world.surroundings.home.join(directory).join("deploy/a8s/manifests");
    fs_err::create_dir_all(&manifests)?;
    fs_err::write(manifests.join("kustomization.yaml"), "resources: [stack.yaml]\n")?;
    fs_err::write(manifests.join("stack.yaml"), include_str!("release.yaml"))?;
    Ok(fs_err::write(world.surroundings.home.join(cert_manager), include_str!("cert_manager.yaml"))?)
}

#[given(expr = "the file {string} can't be read")]
async fn unreadable(world: &mut World, path: String) -> Result<(), Failure> {
    // A directory in its place can't be read as a file by anyone, root included.
    let path = world.surroundings.home.join(path);
    if path.exists() {
        fs_err::remove_file(&path)?;
    }
    Ok(fs_err::create_dir(&path)?)
}

/// As a disk leaves them that was full, or a machine that lost its power.
#[when(expr = "half of every file below the folder {string} is lost")]
async fn halved(world: &mut World, folder: String) -> Result<(), Failure> {
    let files = below(&world.surroundings.home.join(world.expand(&folder)), &[]);
    if files.is_empty() {
        return Err(Failure::unexpected(format!("files below {folder}"), "none"));
    }
    for path in files {
        let content = fs_err::read(&path)?;
        fs_err::write(&path, content.get(..content.len() / 2).unwrap_or_default())?;
    }
    Ok(())
}

/// A program that died with it would have left an older one.
#[given("another program holds the lock of the kubeconfig")]
async fn locked_kubeconfig(world: &mut World) -> Result<(), Failure> {
    let mut name = world.surroundings.kubeconfig.clone().into_os_string();
    name.push(".lock");
    let path = PathBuf::from(name);
    fs_err::create_dir_all(path.parent().unwrap_or(&path))?;
    let lock = fs_err::File::create(&path)?;
    Ok(lock.set_modified(SystemTime::now() + Duration::from_secs(3600))?)
}

#[given(expr = "the variable {string} is {string}")]
async fn variable(world: &mut World, name: String, value: String) -> Result<(), Failure> {
    let value = world.expand(&value);
    // In a table, an empty cell is a variable that is not set.
    if !value.is_empty() {
        world.surroundings.env.push((name, value));
    }
    Ok(())
}

/// A stand-in for a program of the machine: what it says when its arguments begin so, and how it ends. What a failure says
/// is on standard error; a question that is not in the table is a failure.
#[given(expr = "a program {string} that answers:")]
async fn program(world: &mut World, name: String, step: &Step) -> Result<(), Failure> {
    let rows = &step.table.as_ref().ok_or(Failure::Missing("table"))?.rows;
    let mut script = "#!/bin/sh\ncase \"$*\" in\n".to_owned();
    for row in rows.iter().skip(1) {
        let [asked, says, code] = row.as_slice() else { return Err(Failure::Missing("three columns")) };
        let stream = if code == "0" { 1 } else { 2 };
        let says = quoted(&world.expand(says));
        script.push_str(&format!("{}*) printf '%s\\n' {says} >&{stream}; exit {code} ;;\n", quoted(asked)));
    }
    script.push_str("*) echo \"nobody expected: $*\" >&2; exit 64 ;;\nesac\n");
    let directory = world.surroundings.home.join("bin");
    fs_err::create_dir_all(&directory)?;
    let path = directory.join(name);
    fs_err::write(&path, script)?;
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    world.surroundings.env.retain(|(variable, _)| variable != "PATH");
    world.surroundings.env.push(("PATH".to_owned(), format!("{}:/usr/bin:/bin", directory.display())));
    Ok(())
}

#[given(expr = "I may run the file {string}")]
async fn executable(world: &mut World, path: String) -> Result<(), Failure> {
    let path = world.surroundings.home.join(world.expand(&path));
    Ok(fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?)
}

#[then(expr = "there is a file {string}")]
async fn exists(world: &mut World, path: String) -> Result<(), Failure> {
    let path = world.surroundings.home.join(world.expand(&path));
    Failure::unless(path.exists(), path.display().to_string(), "nothing there")
}

/// Wherever below it they are: folders of namespaces have random names.
#[then(expr = "below the folder {string} are the files {string}")]
async fn files_below(world: &mut World, folder: String, names: String) -> Result<(), Failure> {
    let mut found = below(&world.surroundings.home.join(world.expand(&folder)), &[]);
    found.retain(|path| path.metadata().is_ok_and(|file| file.len() > 0));
    let missing: Vec<&str> = names.split(", ").filter(|name| !found.iter().any(|path| path.ends_with(name))).collect();
    Failure::unless(missing.is_empty(), missing.join(", "), format!("{found:?}"))
}

#[then(expr = "only the files {string} are below the folder {string}, and no process uses it")]
async fn only_files(world: &mut World, names: String, folder: String) -> Result<(), Failure> {
    let folder = world.surroundings.home.join(world.expand(&folder));
    require_only(&folder, &names)?;
    let processes = inventory::processes_naming(&folder.to_string_lossy());
    Failure::unless(processes.is_empty(), "no process", format!("{processes:?}"))
}

/// The folder has to be there: of one that was never made, nothing is shown. A folder in it is something that was left,
/// also without files.
fn require_only(folder: &Path, names: &str) -> Result<(), Failure> {
    let there = fs_err::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let there = there.collect::<Result<BTreeSet<PathBuf>, _>>()?;
    let wanted: BTreeSet<PathBuf> = names.split(", ").map(|name| folder.join(name)).collect();
    let are_files = there.iter().all(|path| path.is_file());
    Failure::unless(there == wanted && are_files, format!("only {names}"), format!("{there:?}"))
}

/// The files of a folder and of those below it, but for the folders of these names.
pub(super) fn below(folder: &Path, but: &[&str]) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        // What is gone meanwhile holds nothing.
        for path in fs_err::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if !path.is_dir() {
                found.push(path);
            } else if !but.iter().any(|name| path.ends_with(name)) {
                folders.push(path);
            }
        }
    }
    found
}

#[then(expr = "there is no file {string}")]
async fn absent(world: &mut World, path: String) -> Result<(), Failure> {
    let path = world.surroundings.home.join(world.expand(&path));
    Failure::unless(!path.exists(), format!("no {}", path.display()), "one")
}

#[then(expr = "the file {string} says {string}")]
async fn says(world: &mut World, path: String, text: String) -> Result<(), Failure> {
    let text = world.expand(&text);
    let found = read(world, &path)?;
    Failure::unless(found.contains(&text), format!("{text:?} in {path}"), found)
}

#[then(expr = "the file {string} says {string} once")]
async fn says_once(world: &mut World, path: String, text: String) -> Result<(), Failure> {
    let text = world.expand(&text);
    let found = read(world, &path)?;
    Failure::unless(found.matches(&text).count() == 1, format!("{text:?} once in {path}"), found)
}

#[then(expr = "only its owner may read the file {string}")]
async fn private(world: &mut World, path: String) -> Result<(), Failure> {
    let path = world.surroundings.home.join(world.expand(&path));
    let mode = fs_err::metadata(&path)?.permissions().mode() & 0o777;
    Failure::unless(mode & 0o077 == 0, "mode 600", format!("{mode:o}"))
}

fn read(world: &World, path: &str) -> Result<String, Failure> {
    Ok(fs_err::read_to_string(world.surroundings.home.join(world.expand(path)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_only_the_files_that_are_named() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("runs");
        assert!(require_only(&folder, "empty").is_err(), "it is not there");
        fs_err::create_dir(&folder).unwrap();
        assert!(require_only(&folder, "empty").is_err(), "the file is missing");
        fs_err::write(folder.join("empty"), "").unwrap();
        require_only(&folder, "empty").unwrap();
        assert!(require_only(&folder, "empty, other").is_err(), "one of them is missing");
        fs_err::create_dir_all(folder.join("a9s-e2e-1/s0")).unwrap();
        assert!(require_only(&folder, "empty").is_err(), "there are folders beside it");
        assert!(require_only(&folder, "a9s-e2e-1, empty").is_err(), "a folder is no file");
    }
}
