//! Directories of runs. Everything that a run makes on this machine lies in its own, which is locked for as long as the run
//! lives: what one has left that was killed is cleared away by the next.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err::File;
use nix::fcntl::{Flock, FlockArg};

use super::{command, inventory, mounts, teardown};

/// How their names begin.
const BEGIN: &str = "a9s-e2e-";
/// The file in them that is locked.
const LOCK: &str = "in-use";

/// That a directory is in use, until the process ends.
#[derive(Debug)]
pub struct InUse {
    _lock: Flock<std::fs::File>,
}

/// Makes the directory of a run: others may get to what is below it, since a server's user must.
///
/// # Errors
/// What the file system said.
pub fn make(run: &str) -> std::io::Result<(PathBuf, InUse)> {
    let path = std::env::temp_dir().join(format!("{BEGIN}{run}"));
    fs_err::create_dir_all(&path)?;
    match occupy(&path) {
        Ok(in_use) => Ok((path, in_use)),
        Err(error) => {
            let _ = fs_err::remove_dir_all(&path);
            Err(error)
        }
    }
}

fn occupy(path: &Path) -> std::io::Result<InUse> {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    // It has its name once it is locked: nobody else can lock it before.
    let unnamed = path.join(format!("{LOCK}.new"));
    let lock = lock(File::create(&unnamed)?)?;
    fs_err::rename(unnamed, path.join(LOCK))?;
    Ok(InUse { _lock: lock })
}

fn lock(file: File) -> std::io::Result<Flock<std::fs::File>> {
    Flock::lock(file.into_parts().0, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

/// Directories of runs of this user that have ended without clearing them away.
fn abandoned() -> Vec<(PathBuf, InUse)> {
    let user = nix::unistd::Uid::effective().as_raw();
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        entry.file_name().to_string_lossy().starts_with(BEGIN)
            && entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() == user)
    });
    ours.filter_map(|entry| {
        let lock = lock(File::open(entry.path().join(LOCK)).ok()?).ok()?;
        Some((entry.path(), InUse { _lock: lock }))
    })
    .collect()
}

/// Clears away what runs have left that were killed; gives the directories, and what would not go.
pub async fn sweep() -> Vec<(PathBuf, Vec<String>)> {
    let mut swept = Vec::new();
    for (path, _in_use) in abandoned() {
        inventory::end(&inventory::processes_naming(&path.to_string_lossy()));
        let mut left = clusters(&path).await;
        // What knows of a cluster that is still there stays for the next run.
        if left.is_empty() {
            left = rest(&path).await;
        }
        swept.push((path, left));
    }
    swept
}

/// Ends what runs in a directory, and removes it. Gives what had not gone by itself where it should have, and what would
/// not go.
pub async fn clear(directory: &Path) -> Vec<String> {
    let mut left = clusters(directory).await;
    left.extend(rest(directory).await);
    left
}

async fn clusters(directory: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        if let Ok(surroundings) = command::Surroundings::new(&entry.path()) {
            left.extend(teardown::delete_clusters(&surroundings).await);
        }
    }
    left
}

async fn rest(directory: &Path) -> Vec<String> {
    let mut left = teardown::end_processes_of(&directory.to_string_lossy()).await;
    for mount in inventory::mounts(directory) {
        if let Err(error) = mounts::unmount(Path::new(&mount)) {
            left.push(format!("{mount} is still mounted: {error}"));
        }
    }
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        left.extend(state_left(&entry.path().join("state")));
    }
    if let Err(error) = fs_err::remove_dir_all(directory) {
        left.push(error.to_string());
    }
    left
}

fn state_left(state: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    entries.map(|entry| format!("state {}", entry.path().display())).collect()
}
