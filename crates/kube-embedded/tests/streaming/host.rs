//! A kubelet whose only pod is the host itself.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use kube_embedded::api::panics;
use kube_embedded::kubelet::{
    ContainerRef, Duplex, ExecOptions, ExitStatus, Kubelet, LogOptions, Process, TerminalSize,
};
use kube_embedded::status::Status;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Runs commands of the host, and connects to ports of its loopback address.
#[derive(Debug, Default)]
pub struct Host {
    /// Processes that have not ended.
    pub running: Arc<AtomicUsize>,
    /// Sizes that terminals were given.
    pub sizes: Arc<Mutex<Vec<TerminalSize>>>,
    /// Bytes that were taken from the process `endless`.
    pub taken: Arc<AtomicU64>,
}

/// A process that writes for ever.
struct Endless(Arc<AtomicU64>);

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = buffer.remaining().min(4096);
        buffer.put_slice(&vec![b'x'; count]);
        self.0.fetch_add(count as u64, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

/// Counts a process for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Kubelet for Host {
    async fn logs(&self, _: &ContainerRef, _: &LogOptions) -> Result<BoxStream<'static, io::Result<Bytes>>, Status> {
        Err(Status::bad_request("this pod has no logs"))
    }

    async fn exec(&self, container: &ContainerRef, options: &ExecOptions) -> Result<Process, Status> {
        if container.container.as_deref().is_some_and(|name| name != "main") {
            return Err(Status::bad_request(format!("container {:?} is not valid for pod p", container.container)));
        }
        let cancelled = CancellationToken::new();
        let guard = Box::new(cancelled.clone().drop_guard());
        let (exited, exit) = oneshot::channel();
        self.running.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(Arc::clone(&self.running));
        let mut process = Process { stdin: None, stdout: None, stderr: None, resize: None, exit, guard };
        if options.tty {
            let (sender, mut receiver) = mpsc::channel(1);
            let sizes = Arc::clone(&self.sizes);
            tokio::spawn(async move {
                while let Some(size) = receiver.recv().await {
                    sizes.lock().unwrap().push(size);
                }
            });
            process.resize = Some(sender);
        }
        if options.command == ["endless"] {
            process.stdout = Some(Box::pin(Endless(Arc::clone(&self.taken))));
            tokio::spawn(async move {
                cancelled.cancelled().await;
                drop((exited, counted));
            });
            return Ok(process);
        }
        let pipe = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        let mut child = tokio::process::Command::new(&options.command[0])
            .args(&options.command[1..])
            .stdin(pipe(options.stdin))
            .stdout(pipe(options.stdout))
            .stderr(pipe(options.stderr))
            .kill_on_drop(true)
            .spawn()
            .map_err(Status::internal)?;
        process.stdin = child.stdin.take().map(|pipe| Box::pin(pipe) as _);
        process.stdout = child.stdout.take().map(|pipe| Box::pin(pipe) as _);
        process.stderr = child.stderr.take().map(|pipe| Box::pin(pipe) as _);
        tokio::spawn(async move {
            tokio::select! {
                status = child.wait() => {
                    let status = status.unwrap();
                    use std::os::unix::process::ExitStatusExt as _;
                    let signal = || ExitStatus::Signal(status.signal().unwrap_or_default());
                    let _ = exited.send(status.code().map_or_else(signal, ExitStatus::Code));
                }
                () = cancelled.cancelled() => child.kill().await.unwrap(),
            }
            drop(counted);
        });
        Ok(process)
    }

    async fn port_forward(&self, _: &str, _: &str, port: u16) -> io::Result<Box<dyn Duplex>> {
        assert!(panics::is_contained(), "a panic here would end more than this session");
        Ok(Box::new(tokio::net::TcpStream::connect(("127.0.0.1", port)).await?))
    }
}
