//! What the API server asks of a node for `logs`, `exec`, `attach` and `port-forward`.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use crate::status::Status;

/// A container of a running pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRef {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name; `None` where the client named none: the pod's only or default container.
    pub container: Option<String>,
}

/// `kubectl logs` options (`PodLogOptions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Keep the stream open and send what is written.
    pub follow: bool,
    /// The log of the container's previous run.
    pub previous: bool,
    /// Prefix each line with its RFC 3339 time.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<i64>,
    /// Only lines since this time.
    pub since_time: Option<jiff::Timestamp>,
}

/// `kubectl exec` options (`PodExecOptions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// Open standard input.
    pub stdin: bool,
    /// Open standard output.
    pub stdout: bool,
    /// Open standard error.
    pub stderr: bool,
    /// Give the process a terminal; its output arrives on `stdout` only.
    pub tty: bool,
}

/// Size of a terminal in characters, as clients send it on the resize channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A process that was started in a container, and its streams.
///
/// Dropping it ends the process.
pub struct Process {
    /// Standard input, when asked for. Dropping it closes the process' standard input.
    pub stdin: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// Standard output (with a terminal: everything).
    pub stdout: Option<Pin<Box<dyn AsyncRead + Send>>>,
    /// Standard error.
    pub stderr: Option<Pin<Box<dyn AsyncRead + Send>>>,
    /// New sizes of the terminal; `None` without one.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// Resolves when the process has ended.
    pub exit: oneshot::Receiver<ExitStatus>,
    /// Dropped with this value: tells the node that the client is gone, so the process is ended.
    pub guard: Box<dyn Send>,
}

/// A stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The node, as the API server sees it (the kubelet's API).
#[async_trait]
pub trait Kubelet: Send + Sync + 'static {
    /// A container's log.
    ///
    /// # Errors
    /// `BadRequest` for a container that does not exist or has not started yet, as a kubelet words it.
    async fn logs(
        &self,
        container: &ContainerRef,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, Status>;

    /// Runs a command in a container.
    ///
    /// # Errors
    /// As [`Kubelet::logs`], and `InternalError` where the program can't be started. A program that is not in the
    /// container is not an error here: it ends with exit code 127 or 126, as a shell would say it.
    async fn exec(&self, container: &ContainerRef, options: &ExecOptions) -> Result<Process, Status>;

    /// Connects to a port of a pod.
    ///
    /// # Errors
    /// What the connection said; it goes to the client's error stream.
    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> std::io::Result<Box<dyn Duplex>>;
}
