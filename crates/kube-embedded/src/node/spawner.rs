//! Starts the launchers, all from one thread that lives as long as the node: the kernel sends the parent-death signal
//! when the *thread* that forked ends (prctl(2), `PR_SET_PDEATHSIG`), and the runtime's threads come and go.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::launcher::WORD;
use super::launcher::spec::{Order, Run, Spec, encode};

struct Job {
    command: Command,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// Starts launcher processes.
pub struct Spawner {
    jobs: mpsc::Sender<Job>,
    program: PathBuf,
}

/// A container's main process, executed.
pub struct Started {
    /// The process.
    pub child: Child,
    /// Its id, also of its process group.
    pub pid: u32,
}

/// Why a container's program does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The launcher itself could not be started.
    #[error("cannot start a process")]
    Spawn(#[source] io::Error),
    /// The launcher says why not.
    #[error("{message}")]
    Refused {
        /// Exit code, see [`super::launcher`].
        code: i32,
        /// One sentence.
        message: String,
    },
}

impl Spawner {
    /// Starts the thread, inside a tokio runtime.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn new(program: PathBuf) -> io::Result<Self> {
        let (jobs, received) = mpsc::channel::<Job>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("a9s-spawner".into()).stack_size(256 * 1024).spawn(move || {
            let _context = runtime.enter();
            for mut job in received {
                let _ = job.answer.send(job.command.spawn());
            }
        })?;
        Ok(Self { jobs, program })
    }

    /// A command that starts the launcher with nothing of the node's environment but these variables.
    pub fn launcher(&self, marks: &[(String, String)]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg0("a9s").arg(WORD).env_clear().current_dir("/");
        command.envs(marks.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a command on the long-lived thread.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job { command, answer }).map_err(|_| io::Error::other("the spawner has ended"))?;
        answered.await.map_err(|_| io::Error::other("the spawner has ended"))?
    }

    /// Starts a container's main process and waits until its program has been executed.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn run(&self, run: Run, marks: &[(String, String)]) -> Result<Started, StartError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(StartError::Spawn)?;
        let mut command = self.launcher(marks);
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(command).await.map_err(StartError::Spawn)?;
        let pid = child.id().unwrap_or_default();
        let message = order(ours, Order::Run(run)).await;
        match message {
            Ok(message) if message.is_empty() => Ok(Started { child, pid }),
            Ok(message) => {
                let _ = child.wait().await;
                Err(refused(&message))
            }
            Err(error) => {
                let _ = child.start_kill();
                let _ = child.wait().await;
                Err(StartError::Spawn(error))
            }
        }
    }
}

/// Sends the order, and waits for the refusal, which is empty when the program was executed.
async fn order(socket: std::os::unix::net::UnixStream, order: Order) -> io::Result<String> {
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    socket.write_all(&encode(&Spec { parent: std::process::id(), order })?).await?;
    let mut message = Vec::new();
    socket.read_to_end(&mut message).await?;
    Ok(String::from_utf8_lossy(&message).into_owned())
}

fn refused(message: &str) -> StartError {
    let (code, message) = message.split_once('\n').unwrap_or(("", message));
    StartError::Refused { code: code.parse().unwrap_or(super::launcher::EXIT_LAUNCHER), message: message.to_owned() }
}
