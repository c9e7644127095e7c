//! Where the node keeps what of a pod.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::HostUser;
use crate::removal::remove_tree;

/// The directories of one pod.
#[derive(Debug, Clone)]
pub struct PodPaths {
    /// Its data and logs.
    pub data: PathBuf,
    /// What is gone after a reboot: secrets above all.
    pub run: PathBuf,
}

impl PodPaths {
    /// The paths of the pod with this uid.
    pub fn new(directory: &Path, run_directory: &Path, uid: &str) -> Self {
        Self { data: directory.join("pods").join(uid), run: run_directory.join("pods").join(uid) }
    }

    /// Makes them: of other users only the containers' can look in, and nobody else can put anything there, links least
    /// of all, since the node writes here with its own rights.
    ///
    /// # Errors
    /// When they can't be made.
    pub fn make(&self, owner: Option<&HostUser>) -> io::Result<()> {
        for directory in [&self.data, &self.run] {
            if let Some(parent) = directory.parent() {
                std::fs::DirBuilder::new().recursive(true).mode(0o711).create(parent)?;
            }
            if !directory.is_dir() {
                std::fs::DirBuilder::new().mode(0o700).create(directory)?;
            }
            if let Some(user) = owner {
                std::os::unix::fs::chown(directory, None, Some(user.gid))?;
                fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o750))?;
            }
            for part in ["containers", "volumes"] {
                std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory.join(part))?;
            }
        }
        Ok(())
    }

    /// Removes everything.
    ///
    /// # Errors
    /// When something can't be removed.
    pub fn remove(&self) -> io::Result<()> {
        // Secrets go, whatever keeps the rest.
        remove_tree(&self.run)?;
        remove_tree(&self.data)
    }

    /// The pod's `/etc/hosts`.
    pub fn hosts(&self) -> PathBuf {
        self.data.join("hosts")
    }

    /// What belongs to one container.
    pub fn container(&self, name: &str) -> PathBuf {
        self.data.join("containers").join(name)
    }

    /// The log of one run of a container.
    pub fn log(&self, container: &str, restarts: i32) -> PathBuf {
        self.container(container).join(format!("{restarts}.log"))
    }

    /// An empty `/tmp` for a run of a container.
    ///
    /// # Errors
    /// When it can't be emptied or made.
    pub fn fresh_tmp(&self, container: &str) -> io::Result<PathBuf> {
        let path = self.container(container).join("tmp");
        remove_tree(&path)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&path)?;
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o1777))?;
        Ok(path)
    }

    /// An empty termination message, writable by the container.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn fresh_termination_message(&self, container: &str, owner: Option<&HostUser>) -> io::Result<PathBuf> {
        let path = self.container(container).join("termination-message");
        fs_err::write(&path, "")?;
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        if let Some(user) = owner {
            std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid))?;
        }
        Ok(path)
    }
}
