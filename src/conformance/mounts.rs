//! Disks of a size of their own, in memory (tmpfs(5)). Only Linux has them, and there only root may make one.

use std::io;
use std::path::Path;

#[cfg(target_os = "linux")]
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Mounts a new disk with these options on a directory.
///
/// # Errors
/// What the system said.
#[cfg(target_os = "linux")]
pub fn disk(directory: &Path, options: &str) -> io::Result<()> {
    Ok(mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options))?)
}

/// Shows a directory at the place of another one.
///
/// # Errors
/// As [`disk`].
#[cfg(target_os = "linux")]
pub fn bind(directory: &Path, place: &Path) -> io::Result<()> {
    let nothing: Option<&str> = None;
    Ok(mount(Some(directory), place, nothing, MsFlags::MS_BIND, nothing)?)
}

/// Takes away what is mounted on a directory and used by nobody.
///
/// # Errors
/// As [`disk`].
#[cfg(target_os = "linux")]
pub fn unmount(directory: &Path) -> io::Result<()> {
    Ok(umount2(directory, MntFlags::empty())?)
}

/// Takes away what is mounted on a directory: whoever still uses it keeps it until he ends.
///
/// # Errors
/// As [`disk`].
#[cfg(target_os = "linux")]
pub fn detach(directory: &Path) -> io::Result<()> {
    Ok(umount2(directory, MntFlags::MNT_DETACH)?)
}

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{bind, detach, disk, unmount};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{Path, io};

    pub fn disk(_: &Path, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn bind(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn unmount(_: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn detach(_: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
