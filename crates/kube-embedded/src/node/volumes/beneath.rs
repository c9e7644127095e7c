//! Makes directories beneath one that is the node's own. Containers may put links there: each part of a path is opened
//! from the one before it and never through a link, so that nothing is made or given away elsewhere.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat};
use rustix::io::Errno;

use crate::node::HostUser;

const PASS: Mode = Mode::from_raw_mode(0o711);
/// As kubelets make them; who may get here is decided by the directories above.
const SHARED: Mode = Mode::from_raw_mode(0o777);

/// Makes a directory in `root` with all parents and gives it to `owner`, unless somebody else than this process owns it
/// already.
///
/// # Errors
/// A path that leads elsewhere, and what the system refuses.
pub fn make(root: &Path, relative: &Path, owner: Option<&HostUser>) -> io::Result<()> {
    let elsewhere = || io::Error::new(io::ErrorKind::InvalidInput, "not beneath the directory of the volumes");
    let mut names = Vec::new();
    for part in relative.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(elsewhere()),
        }
    }
    let Some((last, parents)) = names.split_last() else { return Err(elsewhere()) };
    let mut directory = openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for name in parents {
        (directory, _) = enter(&directory, name, PASS)?;
    }
    let (directory, is_new) = enter(&directory, last, SHARED)?;
    if is_new {
        // The process' mask may have taken something away.
        fchmod(&directory, SHARED)?;
    }
    let Some(user) = owner else { return Ok(()) };
    if fstat(&directory)?.st_uid == nix::unistd::Uid::effective().as_raw() {
        fchown(&directory, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
    }
    Ok(())
}

/// Opens a directory, made if it is not there, and tells whether it was made.
fn enter(parent: &OwnedFd, name: &OsStr, mode: Mode) -> rustix::io::Result<(OwnedFd, bool)> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, how, Mode::empty()) {
        Err(Errno::NOENT) => {}
        opened => return Ok((opened?, false)),
    }
    let is_new = match mkdirat(parent, name, mode) {
        Ok(()) => true,
        // Somebody was faster.
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error),
    };
    Ok((openat(parent, name, how, Mode::empty())?, is_new))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use fs_err::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directories_are_made_with_their_parents_and_found_again() {
        let root = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            make(root.path(), Path::new("./a/b"), None).unwrap();
        }
        let mode = |path: &str| fs_err::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a") & !0o711, mode("a/b")), (0, 0o777));
    }

    #[test]
    fn nothing_is_made_behind_a_link() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(elsewhere.path(), root.path().join("link")).unwrap();
        symlink(elsewhere.path().join("missing"), root.path().join("dangling")).unwrap();
        for path in ["link", "link/new", "link/a/b", "dangling", "dangling/a", "..", "a/../../b", "/", "", "."] {
            assert!(make(root.path(), Path::new(path), None).is_err(), "{path}");
        }
        assert_eq!(fs_err::read_dir(elsewhere.path()).unwrap().count(), 0);
        assert_eq!(fs_err::read_dir(root.path()).unwrap().count(), 2);
    }
}
