//! Where an embedded cluster lives, and whether it can live there.
//!
//! State lies in `/var/lib/a9s/<cluster>` for root, else in `${XDG_STATE_HOME:-~/.local/state}/a9s/<cluster>`;
//! `A9S_STATE_DIR` overrides. Sockets need short paths, so they are in a directory of their own, and so are the secrets of
//! pods. It may lie in `/tmp`, where anybody may have made it first: what others could write to is refused. Everything is
//! checked before anything is made, and a finding names the directory that blocks.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kube_embedded::node::HostUser;
use nix::unistd::{AccessFlags, Uid, access};

use crate::config::{Error, home};
use crate::finding::{Finding, Id};
use crate::provider::ClusterName;
use crate::step::quoted;

/// A cluster with one small instance needs about this much.
const SPACE: u128 = 200 * 1024 * 1024;
/// The longest path of a directory of sockets: the limit of a socket's path is 107 bytes (unix(7)), and names follow.
const SOCKETS: usize = 60;

/// The directories of a user's clusters.
#[derive(Debug, Clone)]
pub struct Places {
    /// Holds one directory per cluster.
    pub state: PathBuf,
    run: PathBuf,
}

/// The files of one cluster.
#[derive(Debug, Clone)]
pub struct Place {
    /// Everything but sockets.
    pub directory: PathBuf,
    /// Sockets and short-lived files.
    pub run: PathBuf,
}

impl Places {
    /// The directories of the user who runs the program.
    ///
    /// # Errors
    /// No home directory is known, or `A9S_STATE_DIR` is not absolute.
    pub fn of_user() -> Result<Self, Finding> {
        let root = Uid::effective().is_root();
        let variable = |name| crate::caller::given(name).map(PathBuf::from);
        let state = match variable("A9S_STATE_DIR") {
            Some(directory) if directory.is_absolute() => directory,
            Some(directory) => {
                let cause = format!("A9S_STATE_DIR is not an absolute path: {}", directory.display());
                return Err(Finding::new(Id::StateDirectory, cause));
            }
            None if root => PathBuf::from("/var/lib/a9s"),
            None => match variable("XDG_STATE_HOME").filter(|directory| directory.is_absolute()) {
                Some(directory) => directory.join("a9s"),
                None => home().ok_or(Error::NoHome)?.join(".local/state/a9s"),
            },
        };
        let run = if root {
            PathBuf::from("/run/a9s")
        } else {
            match variable("XDG_RUNTIME_DIR").filter(|directory| access(directory, AccessFlags::W_OK).is_ok()) {
                Some(directory) => directory.join("a9s"),
                None => PathBuf::from(format!("/tmp/a9s-{}", Uid::effective())),
            }
        };
        Ok(Self { state, run })
    }

    /// The files of a cluster. The directory of its sockets is named after its state's path, so that two states with
    /// clusters of one name don't meet.
    pub fn of(&self, cluster: &ClusterName) -> Place {
        let directory = self.state.join(cluster.as_str());
        let run = self.run.join(format!("{:016x}", fnv1a(directory.as_os_str().as_encoded_bytes())));
        Place { directory, run }
    }
}

/// In the directory for sockets: a link to the cluster that it is of, as its name does not tell.
pub const OWNER: &str = "cluster";

impl Place {
    /// Is there a cluster, and which process serves it.
    pub fn cluster_file(&self) -> PathBuf {
        self.directory.join("cluster.json")
    }

    /// The node's files, by which its processes are known.
    pub fn node(&self) -> PathBuf {
        self.directory.join("node")
    }

    /// What the cluster's process says.
    pub fn log(&self) -> PathBuf {
        self.directory.join("cluster.log")
    }

    /// Kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    /// Says that the user's kubeconfig has got the context.
    pub fn introduced(&self) -> PathBuf {
        self.directory.join("introduced")
    }

    /// Held by whoever starts, stops or deletes the cluster.
    pub fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Checks that a cluster can live here, before anything is made. `run_as` runs the servers, where it is another
    /// than the caller.
    ///
    /// # Errors
    /// A finding that names the directory that blocks.
    pub fn check(&self, run_as: Option<&HostUser>) -> Result<(), Finding> {
        for level in self.run_levels() {
            // What is not there can't be wrong, and why else it can't be seen is found below.
            fs_err::symlink_metadata(level).map_or(Ok(()), |found| own(level, &found))?;
        }
        for directory in [&self.directory, &self.run] {
            let ancestor = existing_ancestor(directory)?;
            access(ancestor, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| {
                let cause = format!("cannot write to {}: {}", ancestor.display(), errno.desc());
                Finding::new(Id::DirectoryBlocked, cause)
                    .advise("Make it writable, or name another place with A9S_STATE_DIR.")
            })?;
            if let Some(user) = run_as {
                traversable(ancestor, user)?;
            }
        }
        if self.run.as_os_str().len() > SOCKETS {
            let cause = format!("the directory for sockets has a path that is too long: {}", self.run.display());
            return Err(Finding::new(Id::DirectoryTooLong, cause).advise("Set XDG_RUNTIME_DIR to a shorter one."));
        }
        let ancestor = existing_ancestor(&self.directory)?;
        if let Ok(system) = nix::sys::statvfs::statvfs(ancestor) {
            // These have another width on other systems.
            let free = u128::from(system.blocks_available()) * u128::from(system.fragment_size());
            if free < SPACE {
                let cause = format!(
                    "the disk of {} is full: {} MiB are free, {} MiB are needed",
                    ancestor.display(),
                    free >> 20,
                    SPACE >> 20
                );
                return Err(Finding::new(Id::DiskFull, cause)
                    .advise("Free some space, or name another place with A9S_STATE_DIR."));
            }
        }
        Ok(())
    }

    /// Makes the directories. Others may pass through to what they own, and see nothing.
    ///
    /// # Errors
    /// They can't be made, or somebody else could write to the directory of sockets.
    pub fn make(&self) -> Result<(), Finding> {
        self.make_state().map_err(|error| unmade(&self.directory, &error))?;
        self.make_run()?;
        // Best effort: nothing but people and the conformance suite asks.
        let _ = fs_err::os::unix::fs::symlink(&self.directory, self.run.join(OWNER));
        Ok(())
    }

    fn make_state(&self) -> io::Result<()> {
        fs_err::create_dir_all(&self.directory)?;
        for ours in [self.directory.as_path(), self.directory.parent().unwrap_or(&self.directory)] {
            let metadata = fs_err::metadata(ours)?;
            if metadata.uid() == Uid::effective().as_raw() && !shared(ours) {
                fs_err::set_permissions(ours, std::fs::Permissions::from_mode(0o711))?;
            }
        }
        Ok(())
    }

    fn make_run(&self) -> Result<(), Finding> {
        // Only root has users for whom there is something behind.
        let mode = if Uid::effective().is_root() { 0o711 } else { 0o700 };
        for level in self.run_levels() {
            let failed = |error: io::Error| unmade(level, &error);
            match std::fs::DirBuilder::new().mode(0o700).create(level) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
            own(level, &fs_err::symlink_metadata(level).map_err(failed)?)?;
            fs_err::set_permissions(level, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
        }
        Ok(())
    }

    /// The directories that are made for sockets, from above. What they are in belongs to the system.
    fn run_levels(&self) -> [&Path; 2] {
        [self.run.parent().unwrap_or(&self.run), &self.run]
    }
}

fn unmade(directory: &Path, error: &io::Error) -> Finding {
    Finding::new(Id::DirectoryBlocked, format!("cannot make {}: {error}", directory.display()))
}

/// Refuses a directory that somebody else made, or could put something into.
fn own(directory: &Path, found: &std::fs::Metadata) -> Result<(), Finding> {
    let why = if !found.is_dir() {
        "it is not a directory".to_owned()
    } else if found.uid() != Uid::effective().as_raw() {
        format!("it belongs to another user ({})", found.uid())
    } else if found.mode() & 0o022 != 0 {
        format!("others may write to it (mode {:o})", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    let cause = format!("{} is no safe place for sockets and secrets: {why}", directory.display());
    Err(Finding::new(Id::DirectoryBlocked, cause)
        .advise(format!("Remove it, or have it removed: {}", directory.display()))
        .advise("Unless you are root, XDG_RUNTIME_DIR can name a directory of yours that is used instead."))
}

/// Directories of the system that only look like ours because root runs the program.
fn shared(directory: &Path) -> bool {
    ["/", "/tmp", "/run", "/var", "/var/lib"].iter().any(|shared| directory == Path::new(shared))
}

fn existing_ancestor(path: &Path) -> Result<&Path, Finding> {
    let found = path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    if found.is_dir() {
        Ok(found)
    } else {
        let cause = format!("{} is in the way: it is not a directory", found.display());
        Err(Finding::new(Id::DirectoryBlocked, cause).advise("Move it away, or name another place with A9S_STATE_DIR."))
    }
}

/// Whether `user` may pass through every directory down to `directory`.
fn traversable(directory: &Path, user: &HostUser) -> Result<(), Finding> {
    let resolved = fs_err::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    for ancestor in resolved.ancestors() {
        let Ok(metadata) = fs_err::metadata(ancestor) else { continue };
        if !user.may_pass(ancestor) {
            let cause = format!(
                "the user {} that runs PostgreSQL may not pass through {} (mode {:o})",
                user.name,
                ancestor.display(),
                metadata.mode() & 0o7777
            );
            return Err(Finding::new(Id::DirectoryBlocked, cause)
                .advise(format!("Allow it with: chmod o+x {}", quoted(&ancestor.to_string_lossy())))
                .advise("Or name another place with A9S_STATE_DIR."));
        }
    }
    Ok(())
}

/// FNV-1a, 64 bits: stable across releases, which the standard library's hasher is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(state: &Path) -> Places {
        Places { state: state.to_owned(), run: state.join("run") }
    }

    #[test]
    fn a_directory_the_server_may_not_enter_is_named() {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let closed = root.path().join("closed");
        fs_err::create_dir(&closed).unwrap();
        fs_err::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        fs_err::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        let user = HostUser { name: "somebody".to_owned(), uid: 54321, gid: 54321, home: PathBuf::from("/") };
        let place = places(&closed.join("state")).of(&"a8s".parse().unwrap());
        let finding = place.check(Some(&user)).unwrap_err();
        assert!(finding.cause.contains(&closed.display().to_string()), "{}", finding.cause);
        assert!(!closed.join("state").exists());
        fs_err::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).unwrap();
        place.check(Some(&user)).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state");
        fs_err::write(&file, "").unwrap();
        let finding = places(&file).of(&"a8s".parse().unwrap()).check(None).unwrap_err();
        assert_eq!(finding.id, Id::DirectoryBlocked);
        assert_eq!(finding.cause, format!("{} is in the way: it is not a directory", file.display()));
        // Whoever does not look before meets it when it is made.
        let finding = places(&file).of(&"a8s".parse().unwrap()).make().unwrap_err();
        assert!(finding.cause.starts_with(&format!("cannot make {}/a8s: ", file.display())), "{finding}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs_err::set_permissions(root.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
        let checked = places(root.path()).of(&"a8s".parse().unwrap()).check(None);
        // Root may write everywhere.
        let blocked = format!("cannot write to {}: Permission denied", root.path().display());
        let expected = if Uid::effective().is_root() { None } else { Some(blocked) };
        assert_eq!(checked.err().map(|finding| finding.cause), expected);
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let mut places = places(root.path());
        places.run = root.path().join("x".repeat(SOCKETS));
        let finding = places.of(&"a8s".parse().unwrap()).check(None).unwrap_err();
        assert_eq!(finding.id, Id::DirectoryTooLong);
        let said = format!("the directory for sockets has a path that is too long: {}/", places.run.display());
        assert!(finding.cause.starts_with(&said), "{finding}");
    }

    #[test]
    fn directories_of_sockets_are_made_for_their_owner() {
        // The usual temporary directory has a path that is too long for sockets on some systems, such as macOS.
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let place = places(root.path()).of(&"a8s".parse().unwrap());
        for _ in 0..2 {
            place.check(None).unwrap();
            place.make().unwrap();
        }
        let mode = if Uid::effective().is_root() { 0o711 } else { 0o700 };
        for level in place.run_levels() {
            assert_eq!(fs_err::metadata(level).unwrap().mode() & 0o7777, mode, "{}", level.display());
        }
    }

    #[test]
    fn a_directory_of_sockets_that_others_could_write_to_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let place = places(root.path()).of(&"a8s".parse().unwrap());
        let elsewhere = root.path().join("elsewhere");
        fs_err::create_dir(&elsewhere).unwrap();
        let refused = |why: &str| {
            for finding in [place.check(None).unwrap_err(), place.make().unwrap_err()] {
                assert_eq!(finding.id, Id::DirectoryBlocked);
                assert!(finding.cause.contains(why) && !finding.advice.is_empty(), "{}", finding.cause);
            }
        };
        for level in place.run_levels() {
            fs_err::create_dir_all(level.parent().unwrap()).unwrap();
            fs_err::os::unix::fs::symlink(&elsewhere, level).unwrap();
            refused("it is not a directory");
            fs_err::remove_file(level).unwrap();
            fs_err::create_dir(level).unwrap();
            for mode in [0o777, 0o770, 0o1777, 0o702] {
                fs_err::set_permissions(level, std::fs::Permissions::from_mode(mode)).unwrap();
                refused("others may write to it");
            }
            fs_err::set_permissions(level, std::fs::Permissions::from_mode(0o700)).unwrap();
            // Only root can give something away.
            if std::os::unix::fs::chown(level, Some(54321), None).is_ok() {
                refused("it belongs to another user (54321)");
                std::os::unix::fs::chown(level, Some(0), None).unwrap();
            }
        }
        place.make().unwrap();
        assert_eq!(fs_err::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn clusters_of_one_name_in_two_states_have_their_own_sockets() {
        let name = "a8s".parse().unwrap();
        let mut one = places(Path::new("/one"));
        let mut two = places(Path::new("/two"));
        one.run = PathBuf::from("/run/a9s");
        two.run = one.run.clone();
        assert_ne!(one.of(&name).run, two.of(&name).run);
        assert_eq!(one.of(&name).run, one.of(&name).run);
    }
}
