//! Carries out a [`view::plan`] in a mount namespace of this process, and makes the result its root.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, chdir, chroot, pivot_root};

use super::Refusal;
use super::spec::View;
use super::view::{Step, ThisHost, plan};

/// Gives this process namespaces of its own and the view as its root directory.
pub(super) fn enter_view(view: &View) -> Result<(), Refusal> {
    let steps = plan(&ThisHost, &view.mounts).map_err(|error| Refusal::new("cannot plan the mounts", error))?;
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
                    &below(&view.root, target),
                    Some("tmpfs"),
                    MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
                    Some(options.as_str()),
                )
            })
        }
        Step::Directory { target } => made(fs_err::create_dir(below(&view.root, target))),
        Step::File { target } => {
            let mut options = fs_err::OpenOptions::new();
            options.write(true).create(true).custom_flags(nix::libc::O_NOFOLLOW);
            made(options.open(below(&view.root, target)).map(drop))
        }
        Step::Link { target, to } => made(symlink(to, below(&view.root, target))),
        Step::Bind { source, target, read_only, .. } => {
            let place = below(&view.root, target);
            attempt(format_args!("cannot mount {} on {}", source.display(), target.display()), || {
                mount(Some(source), &place, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
                if *read_only { write_protect(&place) } else { Ok(()) }
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

fn below(root: &Path, target: &Path) -> PathBuf {
    root.join(target.strip_prefix("/").unwrap_or(target))
}

fn made(result: io::Result<()>) -> Result<(), Refusal> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Refusal::new("cannot make a mount point", error))
        }
        _ => Ok(()),
    }
}

fn attempt(what: impl std::fmt::Display, call: impl FnOnce() -> nix::Result<()>) -> Result<(), Refusal> {
    call().map_err(|error| Refusal::new(what, error.desc()))
}
