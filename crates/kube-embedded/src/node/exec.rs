//! Further processes in a running container: `kubectl exec`, probes and lifecycle hooks.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, unlockpt};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

use super::HostUser;
use super::launcher::spec::{Exec, Join, Order, Program, Spec, Stdin, encode};
use super::probe::Failed;
use super::spawner::Spawner;
use crate::kubelet::{ExecOptions, ExitStatus, Process, TerminalSize};

/// Most that is kept of the output of a probe or hook, in bytes (kubelet's `maxReadLength`).
const LONGEST_OUTPUT: u64 = 10 * 1024;

/// A container whose program runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its main process.
    pub pid: u32,
    /// The namespaces to enter; `None` where there are none.
    pub join: Option<Join>,
    /// The environment of its main process.
    pub env: Arc<Vec<(String, String)>>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Whom it runs as.
    pub user: Option<HostUser>,
    /// The marks of its processes.
    pub marks: Vec<(String, String)>,
}

impl Running {
    fn order(&self, command: Vec<String>, stdin: Stdin, is_terminal: bool) -> Spec {
        let mut env = (*self.env).clone();
        if is_terminal && !env.iter().any(|(name, _)| name == "TERM") {
            env.push(("TERM".into(), "xterm".into()));
        }
        let program = Program { command, env, directory: self.directory.clone(), user: self.user.clone() };
        Spec { parent: std::process::id(), order: Order::Exec(Exec { join: self.join.clone(), stdin, program }) }
    }
}

/// Starts a command for a client.
///
/// # Errors
/// When no process can be made. A program that does not exist ends with 127 instead.
pub async fn start(spawner: &Spawner, running: &Running, options: &ExecOptions) -> io::Result<Process> {
    let mut command = spawner.launcher(&running.marks);
    command.stdin(Stdio::piped());
    let terminal = if options.tty {
        let (terminal, slave) = Terminal::open()?;
        command.stdout(Stdio::from(slave.try_clone()?)).stderr(Stdio::from(slave));
        Some(terminal)
    } else {
        let output = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        command.stdout(output(options.stdout)).stderr(output(options.stderr));
        None
    };
    let mut child = spawner.spawn(command).await?;
    let has_ended = Arc::new(AtomicBool::new(false));
    let guard = Guard { process: id(&child), has_ended: has_ended.clone() };
    let stdin = match (&terminal, options.stdin) {
        (Some(_), _) => Stdin::Terminal,
        (None, true) => Stdin::Follows,
        (None, false) => Stdin::Nothing,
    };
    let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    input.write_all(&encode(&running.order(options.command.clone(), stdin, terminal.is_some()))?).await?;
    let mut process = Process {
        stdin: None,
        stdout: child.stdout.take().map(|stdout| Box::pin(stdout) as _),
        stderr: child.stderr.take().map(|stderr| Box::pin(stderr) as _),
        resize: None,
        exit: watch_exit(child, has_ended),
        guard: Box::new(guard),
    };
    match terminal {
        Some(terminal) => {
            process.resize = Some(resized(terminal.device));
            process.stdout = Some(Box::pin(Shown(terminal.output)));
            process.stdin = options.stdin.then(|| Box::pin(terminal.input) as _);
        }
        None if options.stdin => process.stdin = Some(Box::pin(input)),
        None => {}
    }
    Ok(process)
}

/// Runs a command to its end and answers its output.
///
/// # Errors
/// What it printed, when it fails; or that it took too long, or could not be started.
pub async fn run(spawner: &Spawner, running: &Running, command: &[String], limit: Duration) -> Result<String, Failed> {
    let options = ExecOptions { command: command.to_vec(), stdin: false, stdout: true, stderr: true, tty: false };
    let work = async {
        let mut process =
            start(spawner, running, &options).await.map_err(|error| Failed::Question(error.to_string()))?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        tokio::join!(collect(process.stdout.take(), &mut out), collect(process.stderr.take(), &mut err));
        out.extend(err);
        let output = String::from_utf8_lossy(&out).into_owned();
        match process.exit.await {
            Ok(ExitStatus::Code(0)) => Ok(output),
            _ => Err(Failed::Answer(output)),
        }
    };
    let late = || format!("command timed out: \"{}\" timed out after {}s", command.join(" "), limit.as_secs());
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(Failed::Answer(late())))
}

/// Reads to the end, but keeps only the beginning.
async fn collect(from: Option<Pin<Box<dyn AsyncRead + Send>>>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let _ = (&mut from).take(LONGEST_OUTPUT).read_to_end(into).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}

fn id(child: &Child) -> Option<Pid> {
    child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
}

fn watch_exit(mut child: Child, has_ended: Arc<AtomicBool>) -> oneshot::Receiver<ExitStatus> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let status = child.wait().await;
        has_ended.store(true, Ordering::SeqCst);
        if let Ok(status) = status {
            let _ = sender.send(exit_status(status));
        }
    });
    receiver
}

/// How a process ended, in the words of the kubelet's interface.
pub fn exit_status(status: std::process::ExitStatus) -> ExitStatus {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, signal) => ExitStatus::Signal(signal.unwrap_or_default()),
    }
}

/// Ends the process and its session when the client is gone before it has ended. What a finished process left in the
/// background goes on, as it does in a container.
struct Guard {
    process: Option<Pid>,
    has_ended: Arc<AtomicBool>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(process) = self.process.filter(|_| !self.has_ended.load(Ordering::SeqCst)) {
            let _ = killpg(process, Signal::SIGKILL);
            // The launcher may not have made its session yet.
            let _ = kill(process, Signal::SIGKILL);
        }
    }
}

/// The node's side of a terminal. The runtime knows pipes, and a terminal's descriptor is read and written like one.
struct Terminal {
    output: pipe::Receiver,
    input: pipe::Sender,
    device: OwnedFd,
}

impl Terminal {
    fn open() -> io::Result<(Self, OwnedFd)> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let slave = open_slave(Path::new(OsStr::from_bytes(name.as_bytes())))?;
        let device: OwnedFd = master.into();
        let output = pipe::Receiver::from_owned_fd_unchecked(device.try_clone()?)?;
        let input = pipe::Sender::from_owned_fd_unchecked(device.try_clone()?)?;
        Ok((Self { output, input, device }, slave))
    }
}

/// Applies the sizes that are sent.
fn resized(device: OwnedFd) -> mpsc::Sender<TerminalSize> {
    let (sender, mut receiver) = mpsc::channel::<TerminalSize>(4);
    tokio::spawn(async move {
        while let Some(size) = receiver.recv().await {
            let size = rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = rustix::termios::tcsetwinsize(&device, size);
        }
    });
    sender
}

fn open_slave(path: &Path) -> io::Result<OwnedFd> {
    use fs_err::os::unix::fs::OpenOptionsExt;
    let mut options = fs_err::OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open(path)?;
    Ok(file.into_parts().0.into())
}

/// What a terminal shows. It ends with an error when the last process has closed it (pty(7)), which is its end.
struct Shown(pipe::Receiver);

impl AsyncRead for Shown {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(context, buffer)) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
