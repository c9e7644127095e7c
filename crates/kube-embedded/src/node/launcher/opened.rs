//! Opens what is mounted, and what it is mounted on, part by part and never through a link: whoever shares a volume may
//! have put one there since the path was looked at (CVE-2021-25741).

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};

/// A file or directory, whatever becomes of the path by which it was found.
pub(super) struct Opened(OwnedFd);

impl Opened {
    /// What is at a path below a directory. Links may be on the way to that directory, but not behind it.
    pub(super) fn find(root: &Path, path: &Path) -> nix::Result<Self> {
        let mut reached = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        for part in path.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let how = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    // Of a link the descriptor is the link's own, in which nothing is found.
                    reached = openat(&reached, name, how, Mode::empty())?;
                }
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::EINVAL),
            }
        }
        if SFlag::from_bits_truncate(fstat(&reached)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK {
            return Err(Errno::ELOOP);
        }
        Ok(Self(reached))
    }

    /// The descriptor, for what is made in it.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// A path that leads there for as long as this lives.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use fs_err::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_found_stays_when_its_path_becomes_another() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        fs_err::create_dir_all(&path).unwrap();
        fs_err::write(path.join("mine"), "").unwrap();
        let found = Opened::find(root.path(), Path::new("/a/./b")).unwrap();
        fs_err::rename(&path, root.path().join("aside")).unwrap();
        symlink("/", &path).unwrap();
        assert!(found.path().join("mine").exists());
        assert!(Opened::find(&path, Path::new("/")).is_ok(), "the root itself may be a link");
    }

    #[test]
    fn nothing_is_found_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(root.path().join("a/b")).unwrap();
        fs_err::write(root.path().join("a/file"), "").unwrap();
        for (to, name) in [("a", "inside"), ("/etc", "outside"), ("a/file", "file"), ("nowhere", "dangling")] {
            symlink(to, root.path().join(name)).unwrap();
        }
        for path in ["inside", "inside/b", "outside", "outside/passwd", "file", "dangling", "a/../a", "a/file/x"] {
            assert!(Opened::find(root.path(), Path::new(path)).is_err(), "{path}");
        }
        assert!(Opened::find(root.path(), Path::new("a/file")).is_ok());
    }
}
