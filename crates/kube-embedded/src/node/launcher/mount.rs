//! Carries out a [`view::plan`] in a mount namespace of this process, and makes the result its root.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, chdir, chroot, pivot_root, symlinkat};

use super::Refusal;
use super::opened::Opened;
use super::spec::View;
use super::view::{Step, ThisHost, plan};

/// Gives this process namespaces of its own and the view as its root directory.
pub(super) fn enter_view(view: &View) -> Result<(), Refusal> {
    let steps =
        plan(&ThisHost, &view.hidden, &view.mounts).map_err(|error| Refusal::new("cannot plan the mounts", error))?;
    own_namespaces(view.user_namespace)?;
    // Nothing done here may reach the host; what the host unmounts must not stay busy because of us.
    attempt("cannot detach from the host's mounts", || {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
    })?;
    for step in &steps {
        carry_out(step, view).or_else(|refusal| if is_optional(step) { Ok(()) } else { Err(refusal) })?;
    }
    become_root(&view.root)
}

fn own_namespaces(user_namespace: bool) -> Result<(), Refusal> {
    if !user_namespace {
        return attempt("cannot make a mount namespace", || unshare(CloneFlags::CLONE_NEWNS));
    }
    let (uid, gid) = (Uid::effective(), Gid::effective());
    attempt("cannot make a user namespace", || unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS))?;
    // user_namespaces(7): without privileges setgroups has to be given up before gid_map can be written.
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ] {
        fs_err::write(file, text).map_err(|error| Refusal::new("cannot map the user", error))?;
    }
    Ok(())
}

fn is_optional(step: &Step) -> bool {
    matches!(step, Step::Bind { optional: true, .. })
}

fn carry_out(step: &Step, view: &View) -> Result<(), Refusal> {
    match step {
        Step::Tmpfs { target, mode } => {
            let source = if target == Path::new("/") { view.label.as_str() } else { "tmpfs" };
            let options = format!("mode={mode:o}");
            attempt(format_args!("cannot mount a tmpfs on {}", target.display()), || {
                mount(
                    Some(source),
                    &Opened::find(&view.root, target)?.path(),
                    Some("tmpfs"),
                    MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
                    Some(options.as_str()),
                )
            })
        }
        Step::Directory { target } => make(view, target, |at, name| mkdirat(at, name, Mode::from_bits_truncate(0o777))),
        Step::File { target } => make(view, target, |at, name| {
            let how = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            openat(at, name, how, Mode::from_bits_truncate(0o666)).map(drop)
        }),
        Step::Link { target, to } => make(view, target, |at, name| symlinkat(to, at, name)),
        Step::Bind { source, target, read_only, .. } => {
            attempt(format_args!("cannot mount {} on {}", source.display(), target.display()), || {
                let (from, place) = (Opened::find(Path::new("/"), source)?, Opened::find(&view.root, target)?);
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                mount(Some(&from.path()), &place.path(), None::<&str>, flags, None::<&str>)?;
                // What was opened before is below the mount.
                if *read_only { write_protect(&Opened::find(&view.root, target)?.path()) } else { Ok(()) }
            })
        }
    }
}

/// A bind mount becomes read-only only by a second call, which must repeat the flags that the source's mount has: a
/// user namespace may not drop them (mount_namespaces(7), *Restrictions on mount namespaces*).
fn write_protect(place: &Path) -> nix::Result<()> {
    let has = statvfs(place)?.flags();
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    for (given, keep) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if has.contains(given) {
            flags |= keep;
        }
    }
    mount(None::<&str>, place, None::<&str>, flags, None::<&str>)
}

fn become_root(root: &Path) -> Result<(), Refusal> {
    attempt("cannot enter the new root", || chdir(root))?;
    match pivot_root(".", ".") {
        // pivot_root(2): the old root is stacked on the new one and has to go.
        Ok(()) => attempt("cannot leave the host's root", || umount2(".", MntFlags::MNT_DETACH))?,
        // The host's root is the kernel's first file system, which can't be pivoted away.
        Err(Errno::EINVAL) => attempt("cannot change the root", || chroot("."))?,
        Err(error) => return Err(Refusal::new("cannot change the root", error)),
    }
    attempt("cannot enter the new root", || chdir("/"))
}

/// Makes something in a directory of the view, unless there is something of its name.
fn make(view: &View, target: &Path, work: impl FnOnce(&OwnedFd, &OsStr) -> nix::Result<()>) -> Result<(), Refusal> {
    attempt(format_args!("cannot make the mount point {}", target.display()), || {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return Err(Errno::EINVAL) };
        match work(Opened::find(&view.root, parent)?.descriptor(), name) {
            Err(Errno::EEXIST) => Ok(()),
            result => result,
        }
    })
}

fn attempt(what: impl std::fmt::Display, call: impl FnOnce() -> nix::Result<()>) -> Result<(), Refusal> {
    call().map_err(|error| Refusal::new(what, error.desc()))
}
