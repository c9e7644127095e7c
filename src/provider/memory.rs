//! What a provider whose clusters are kept by another program remembers of those made here: a directory for each, which only
//! their owner may enter.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::{ClusterName, POLL, private_directory};
use crate::config::{gone_is_fine, hold, leads_to, write_private};
use crate::finding::{Finding, Id};

/// Our kubeconfig of a cluster.
pub const KUBECONFIG: &str = "kubeconfig";
/// Is there once the user's kubeconfig has got the context.
pub const INTRODUCED: &str = "introduced";
/// The mark of a cluster that was made here.
pub const MADE: &str = "made";
/// Holds, from the moment its making begins to its end, how many nodes a cluster is to have.
pub const MAKING: &str = "making";

/// The memory of one provider.
#[derive(Debug, Clone)]
pub struct Memory {
    directory: PathBuf,
}

impl Memory {
    /// That of the provider of this name.
    pub fn new(state: &Path, provider: super::Name) -> Self {
        // No cluster's name begins with a dot.
        Self { directory: state.join(format!(".{provider}")) }
    }

    /// Where something of a cluster is noted.
    pub fn file(&self, cluster: &ClusterName, name: &str) -> PathBuf {
        self.directory.join(cluster.as_str()).join(name)
    }

    /// Makes the directory of a cluster.
    ///
    /// # Errors
    /// It can't be made.
    pub fn prepare(&self, cluster: &ClusterName) -> Result<(), Finding> {
        make(&self.directory.join(cluster.as_str()))
    }

    /// The right to make a cluster, for which this waits, and says so. It is given back when it is dropped, or when the
    /// process ends. A file system may have no locks; there, nobody waits.
    ///
    /// # Errors
    /// The directory of the cluster can't be made.
    pub async fn take_turn(
        &self,
        cluster: &ClusterName,
        waits: impl Fn() + Send,
    ) -> Result<Option<Flock<File>>, Finding> {
        let directory = self.directory.join(cluster.as_str());
        loop {
            make(&directory)?;
            match hold(&directory, FlockArg::LockExclusiveNonblock) {
                Ok(turn) if leads_to(&directory, &turn) => return Ok(Some(turn)),
                // Whoever had it before has deleted the cluster, and the directory with it.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    waits();
                    tokio::time::sleep(POLL).await;
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// Makes a directory for what is large and soon of no use. Whoever asks for one of this name gets one of their own, also at
    /// the same time. What was left by those who were killed goes before.
    ///
    /// # Errors
    /// It can't be made.
    pub fn scratch(&self, cluster: &ClusterName, name: &str) -> Result<Scratch, Finding> {
        self.prepare(cluster)?;
        let all = self.file(cluster, name);
        make(&all)?;
        let failed = |error: std::io::Error| cannot_make(&all, &error);
        // In turns: what is made is held before anybody looks whether it is.
        let _turn = hold(&all, FlockArg::LockExclusive).map_err(failed)?;
        for there in std::fs::read_dir(&all).into_iter().flatten().flatten() {
            if hold(&there.path(), FlockArg::LockExclusiveNonblock).is_ok() {
                // What stays goes with the next one, or with the cluster.
                let _ = std::fs::remove_dir_all(there.path());
            }
        }
        let path = all.join(format!("{:016x}", rand::random::<u64>()));
        make(&path)?;
        let held = hold(&path, FlockArg::LockExclusiveNonblock).map_err(failed)?;
        Ok(Scratch { path, _held: held })
    }

    /// Notes something of a cluster.
    ///
    /// # Errors
    /// It can't be written.
    pub fn note(&self, cluster: &ClusterName, name: &str, content: &str) -> Result<(), Finding> {
        self.prepare(cluster)?;
        let path = self.file(cluster, name);
        write_private(&path, content.as_bytes())
            .map_err(|error| Finding::new(Id::StateUnwritable, format!("cannot write {}: {error}", path.display())))
    }

    /// What is noted; nothing if that can't be read.
    pub fn read(&self, cluster: &ClusterName, name: &str) -> Option<String> {
        std::fs::read_to_string(self.file(cluster, name)).ok()
    }

    /// Forgets what is noted under a name.
    pub fn forget(&self, cluster: &ClusterName, name: &str) {
        // Not being there is what is wanted.
        let _ = std::fs::remove_file(self.file(cluster, name));
    }

    /// Forgets a cluster.
    ///
    /// # Errors
    /// What is noted can't be removed.
    pub fn forget_all(&self, cluster: &ClusterName) -> Result<(), Finding> {
        gone_is_fine(fs_err::remove_dir_all(self.directory.join(cluster.as_str())))
            .map_err(|error| Finding::new(Id::StateUnremovable, error.to_string()))
    }
}

fn make(directory: &Path) -> Result<(), Finding> {
    private_directory(directory).map_err(|error| cannot_make(directory, &error))
}

fn cannot_make(directory: &Path, error: &std::io::Error) -> Finding {
    Finding::new(Id::StateUnwritable, format!("cannot make {}: {error}", directory.display()))
}

/// A directory that goes with whoever has it, also where that is cut off.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _held: Flock<File>,
}

impl Scratch {
    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays goes with the next one, or with the cluster.
        let _ = std::fs::remove_dir_all(&self.path);
        // Of a cluster that somebody else made, nothing else is known.
        for directory in self.path.ancestors().skip(1).take(3) {
            if std::fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_makes_a_cluster_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let memory = Memory { directory: home.path().join(".kind") };
        let (demo, waits): (ClusterName, _) = ("demo".parse().unwrap(), AtomicBool::new(false));
        let turn = memory.take_turn(&demo, || ()).await.unwrap();
        let next = memory.take_turn(&demo, || waits.store(true, Ordering::SeqCst));
        tokio::time::timeout(Duration::from_millis(50), next).await.unwrap_err();
        assert!(turn.is_some() && waits.load(Ordering::SeqCst));
        memory.forget_all(&demo).unwrap();
        assert!(memory.take_turn(&demo, || ()).await.unwrap().is_some(), "nothing is left of that one");
    }

    #[test]
    fn nothing_stays_of_a_cluster_that_only_had_something_on_its_way() {
        let home = tempfile::tempdir().unwrap();
        let memory = Memory { directory: home.path().join(".kind") };
        let demo: ClusterName = "demo".parse().unwrap();
        let (one, other) = (memory.scratch(&demo, "images").unwrap(), memory.scratch(&demo, "images").unwrap());
        assert_ne!(one.file("images.tar"), other.file("images.tar"));
        drop(one);
        assert!(other.file("").exists(), "it is somebody else's");
        drop(other);
        assert_eq!(fs_err::read_dir(home.path()).unwrap().count(), 0);
        memory.note(&demo, "making", "begun").unwrap();
        drop(memory.scratch(&demo, "images").unwrap());
        assert_eq!(memory.read(&demo, "making").as_deref(), Some("begun"));
    }
}
