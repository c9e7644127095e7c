//! What a launcher process does with its order: become the container's program, or help the node otherwise.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Pid, Uid, chroot, dup2_stdin, fchdir, getppid, setgid, setgroups, setsid, setuid};

use super::mount::enter_view;
use super::spec::{Exec, Join, Program, Run, Stdin, Sweep, View};
use super::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Refusal};
use crate::node::marks;

/// Becomes a container's main process.
pub(super) fn run(parent: u32, run: Run) -> Refusal {
    let control = match keep_control() {
        Ok(control) => control,
        Err(error) => return Refusal::new("cannot keep the node's socket", error),
    };
    let refusal = match prepare_run(&run) {
        // SIGTERM, not SIGKILL: when the node is gone, a server should still shut down as it is used to.
        Ok(()) => execute(parent, &run.program, Signal::SIGTERM),
        Err(refusal) => refusal,
    };
    let message = format!("{}\n{}", refusal.code, refusal.message);
    let _ =
        io::Write::write_all(&mut fs_err::File::from_parts(control.into(), "the node's socket"), message.as_bytes());
    refusal
}

/// Takes the socket away from standard input. The copy is closed by the execution of the program.
fn keep_control() -> io::Result<OwnedFd> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    null_input()?;
    Ok(control)
}

fn null_input() -> io::Result<()> {
    let null = fs_err::File::open("/dev/null")?;
    Ok(dup2_stdin(&null)?)
}

fn prepare_run(run: &Run) -> Result<(), Refusal> {
    if let Some(view) = &run.view {
        enter_view(view)?;
    }
    setsid().map_err(|error| Refusal::new("cannot make a session", error))?;
    Ok(())
}

/// Becomes a further process of a container.
pub(super) fn exec(parent: u32, exec: Exec) -> Refusal {
    match prepare_exec(&exec) {
        Ok(()) => execute(parent, &exec.program, Signal::SIGKILL),
        Err(refusal) => refusal,
    }
}

fn prepare_exec(exec: &Exec) -> Result<(), Refusal> {
    let refuse = |error: io::Error| Refusal::new("cannot prepare standard input", error);
    setsid().map_err(|error| Refusal::new("cannot make a session", error))?;
    match exec.stdin {
        Stdin::Nothing => null_input().map_err(refuse)?,
        Stdin::Follows => {}
        Stdin::Terminal => {
            rustix::process::ioctl_tiocsctty(io::stdout()).map_err(|error| refuse(error.into()))?;
            dup2_stdin(io::stdout()).map_err(|error| refuse(error.into()))?;
        }
    }
    exec.join.as_ref().map_or(Ok(()), join).map_err(|error| Refusal::new("cannot enter the container", error))
}

fn join(join: &Join) -> io::Result<()> {
    let process = PathBuf::from(format!("/proc/{}", join.pid));
    // Everything is opened before the view changes, and with it /proc.
    let user = join.user_namespace.then(|| fs_err::File::open(process.join("ns/user"))).transpose()?;
    let mounts = fs_err::File::open(process.join("ns/mnt"))?;
    let root = fs_err::File::open(process.join("root"))?;
    if let Some(user) = user {
        setns(&user, CloneFlags::CLONE_NEWUSER)?;
    }
    setns(&mounts, CloneFlags::CLONE_NEWNS)?;
    fchdir(&root)?;
    chroot(".")?;
    Ok(())
}

/// Gives up rights and executes the program.
fn execute(parent: u32, program: &Program, death: Signal) -> Refusal {
    match prepare_process(parent, program, death).and_then(|()| find(program)) {
        Err(refusal) => refusal,
        Ok(path) => {
            let error = Command::new(&path)
                .arg0(&program.command[0])
                .args(&program.command[1..])
                .env_clear()
                .envs(program.env.iter().map(|(name, value)| (name, value)))
                .exec();
            let code = if error.kind() == io::ErrorKind::NotFound { EXIT_NOT_FOUND } else { EXIT_NOT_EXECUTABLE };
            Refusal { code, message: format!("exec: \"{}\": {}", program.command[0], why(program, &error)) }
        }
    }
}

/// Why a program is not executed. Of what there may be too few, it can only be the processes of its user (execve(2)).
fn why(program: &Program, error: &io::Error) -> String {
    let plain = plain(error);
    if error.kind() != io::ErrorKind::WouldBlock {
        return plain;
    }
    let user = program.user.as_ref().map_or("its user", |user| user.name.as_str());
    format!("{plain}: {user} has as many processes as its limit (ulimit -u) allows")
}

fn prepare_process(parent: u32, program: &Program, death: Signal) -> Result<(), Refusal> {
    let refuse = |what| move |error: nix::errno::Errno| Refusal::new(what, error.desc());
    umask(Mode::from_bits_truncate(0o022));
    limit_resources();
    if let Some(user) = &program.user {
        setgroups(&[]).map_err(refuse("cannot drop the groups"))?;
        setgid(Gid::from_raw(user.gid)).map_err(refuse("cannot change the group"))?;
        setuid(Uid::from_raw(user.uid)).map_err(refuse("cannot change the user"))?;
    }
    prctl::set_no_new_privs().map_err(refuse("cannot give up privileges"))?;
    // After the change of user, which clears it (prctl(2)).
    prctl::set_pdeathsig(death).map_err(refuse("cannot ask for the parent's death"))?;
    if getppid() != Pid::from_raw(i32::try_from(parent).unwrap_or(0)) {
        return Err(Refusal::new("cannot start", "the node is gone"));
    }
    std::env::set_current_dir(&program.directory).map_err(|error| Refusal {
        code: EXIT_NOT_EXECUTABLE,
        message: format!("chdir to cwd (\"{}\"): {}", program.directory.display(), plain(&error)),
    })
}

/// No core files, which would fill the disk, and a number of files that servers expect. Failing to is no harm.
fn limit_resources() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard);
    }
}

/// The program's path, with the messages of Go's `os/exec`, which container runtimes show.
fn find(program: &Program) -> Result<PathBuf, Refusal> {
    let name = program.command.first().map(String::as_str).unwrap_or_default();
    let refuse = |code, why: &str| Refusal { code, message: format!("exec: \"{name}\": {why}") };
    if name.contains('/') {
        return match fs_err::metadata(name) {
            Ok(meta) if is_executable(&meta) => Ok(PathBuf::from(name)),
            Ok(_) => Err(refuse(EXIT_NOT_EXECUTABLE, "permission denied")),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(refuse(EXIT_NOT_EXECUTABLE, "permission denied"))
            }
            Err(_) => Err(refuse(EXIT_NOT_FOUND, "no such file or directory")),
        };
    }
    let path = program.env.iter().rfind(|(key, _)| key == "PATH").map(|(_, value)| value.as_str()).unwrap_or_default();
    path.split(':')
        .filter(|directory| directory.starts_with('/') && !name.is_empty())
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| fs_err::metadata(candidate).is_ok_and(|meta| is_executable(&meta)))
        .ok_or_else(|| refuse(EXIT_NOT_FOUND, "executable file not found in $PATH"))
}

fn is_executable(meta: &std::fs::Metadata) -> bool {
    meta.is_file() && meta.permissions().mode() & 0o111 != 0
}

/// The system's words without `(os error 2)`.
fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// Makes the view and throws it away, to learn whether that is possible here.
pub(super) fn survey(view: &View) -> Result<(), Refusal> {
    enter_view(view)
}

/// Waits for the node's end, then ends what it left running.
pub(super) fn sweep(sweep: &Sweep) {
    // The terminal's Ctrl-C is for the node. Without a session of our own we only end earlier.
    let _ = setsid();
    let _ = io::stdout().flush();
    let mut byte = [0];
    while matches!(io::stdin().read(&mut byte), Ok(count) if count > 0) {}
    marks::end(&sweep.mark, Duration::from_secs(sweep.grace_seconds));
}
