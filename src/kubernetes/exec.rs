//! Commands in containers.

use std::io::ErrorKind;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachParams;
use kube::{Api, Client};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Error;

/// So much of the beginning, and so much of the end, of a command's standard error is kept: one of them names the cause.
const KEPT: usize = 32 * 1024;
/// How long what has come over a connection that broke may take to be handed on.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Buffers of the connection; the library's own default of 1 KiB makes uploads slow.
const BUFFER: usize = 256 * 1024;

/// The container of the server, in the pod of a member.
pub const POSTGRES: &str = "postgres";

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
}

impl Container {
    /// The one of the server, in the pod of a member.
    pub fn postgres(namespace: &str, pod: &str) -> Self {
        Self { namespace: namespace.to_owned(), pod: pod.to_owned(), container: POSTGRES.to_owned() }
    }
}

/// What a command reads, and how many bytes of it.
pub type Input = (Box<dyn AsyncRead + Send + Unpin>, u64);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; `None` where the connection ended before it was known.
    pub code: Option<i32>,
    /// Its standard error; of a long one only the beginning and the end.
    pub stderr: String,
    /// The server's message for anything but success.
    pub message: String,
}

/// Runs `command` in a container, feeds it `stdin`, and gives its standard output to `output` as it comes.
///
/// The end of `stdin` does not reach the command: API servers before 1.30 can't carry it, and the library would close the
/// whole connection instead. A command must know how much it reads.
///
/// # Errors
/// The command can't be started: no such pod or container, forbidden, unreachable. Or there is less to read than was said.
pub async fn run(
    client: Client,
    container: &Container,
    command: Vec<String>,
    stdin: Option<Input>,
    output: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<Ended, Error> {
    let what = format!("run a command in the pod {}/{}", container.namespace, container.pod);
    let pods: Api<Pod> = Api::namespaced(client, &container.namespace);
    let parameters = AttachParams::default()
        .container(&container.container)
        .stdin(stdin.is_some())
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER)
        .max_stderr_buf_size(BUFFER);
    let mut process =
        pods.exec(&container.pod, command, &parameters).await.map_err(|source| Error::request(what.clone(), source))?;

    let status = process.take_status();
    let stdout = process.stdout();
    let stderr = process.stderr();
    let input = process.stdin();
    // All streams at the same time: a command may stop reading its input while it still writes.
    let feeding = async {
        let (Some((source, length)), Some(mut sink)) = (stdin, input) else { return Ok(None) };
        feed(source, length, &mut sink).await?;
        Ok::<_, std::io::Error>(Some(sink))
    };
    let mut kept = Ends::default();
    let mut keep = |bytes: &[u8]| kept.add(bytes);
    let streams = async {
        tokio::join!(copy(stdout, output), copy(stderr, &mut keep));
    };
    let answer = end(streams, status);
    let mut feeding = std::pin::pin!(feeding);
    let mut answer = Box::pin(answer);
    // It stays open until the command has ended.
    let mut open = None;
    let status = loop {
        tokio::select! {
            sink = &mut feeding, if open.is_none() => {
                open = Some(sink.map_err(|source| Error::Input { source })?);
            }
            status = &mut answer => break status,
        }
    };
    drop(answer);
    Ok(ended(kept.text(), status.as_ref()))
}

/// Gives a command what it reads. It may end before it has read everything; its exit code says what that means.
///
/// # Errors
/// The source can't be read, or ends too early: the command would wait for the rest for ever.
async fn feed(
    source: impl AsyncRead + Unpin,
    length: u64,
    sink: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    match tokio::io::copy(&mut source.take(length), sink).await {
        Ok(copied) if copied < length => {
            Err(std::io::Error::new(ErrorKind::UnexpectedEof, "there is less in it than its size says"))
        }
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => {
            let _ = sink.flush().await;
            Ok(())
        }
    }
}

/// Waits for the end of a command: of its `streams`, and of the connection, which brings its `status`. The library never ends
/// the streams of a connection that broke; it only lets go of the status.
pub(super) async fn end(
    streams: impl Future<Output = ()>,
    status: Option<impl Future<Output = Option<Status>>>,
) -> Option<Status> {
    let status = async {
        match status {
            Some(status) => status.await,
            None => None,
        }
    };
    let (mut streams, mut status) = (std::pin::pin!(streams), std::pin::pin!(status));
    tokio::select! {
        () = &mut streams => status.await,
        status = &mut status => {
            match &status {
                Some(_) => streams.await,
                // What has come is in its buffers.
                None => drop(tokio::time::timeout(LAST_WORDS, streams).await),
            }
            status
        }
    }
}

/// Gives everything of a stream to `output`, as it comes.
pub(super) async fn copy(stream: Option<impl AsyncRead + Unpin>, mut output: impl FnMut(&[u8])) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        output(&buffer[..read]);
    }
}

/// The beginning and the end of a stream.
#[derive(Default)]
struct Ends {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    cut: bool,
}

impl Ends {
    fn add(&mut self, bytes: &[u8]) {
        let room = (KEPT - self.head.len()).min(bytes.len());
        let (head, tail) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        if self.tail.len() > KEPT {
            self.cut = true;
            self.tail.drain(..self.tail.len() - KEPT);
        }
    }

    fn text(self) -> String {
        let mut bytes = self.head;
        if self.cut {
            bytes.extend_from_slice(b"\n...\n");
        }
        bytes.extend(self.tail);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The exit code is in the cause `ExitCode` of a `NonZeroExitCode` status (k8s.io/kubernetes `pkg/kubelet/server`).
pub(super) fn ended(stderr: String, status: Option<&Status>) -> Ended {
    let Some(status) = status else {
        return Ended { code: None, stderr, message: "the connection was closed before the command ended".to_owned() };
    };
    if status.status.as_deref() == Some("Success") {
        return Ended { code: Some(0), stderr, message: String::new() };
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default();
    let code = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .and_then(|cause| cause.message.as_deref())
        .and_then(|text| text.parse().ok());
    let message = status.message.clone().or_else(|| status.reason.clone()).unwrap_or_default();
    Ended { code, stderr, message }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_long_standard_error_both_ends_are_kept() {
        let mut kept = Ends::default();
        kept.add(b"first line\n");
        for _ in 0..1000 {
            kept.add(&[b'x'; 1000]);
        }
        kept.add(b"\nERROR: the cause\n");
        let text = kept.text();
        assert!(text.starts_with("first line\n") && text.ends_with("\nERROR: the cause\n"));
        assert!(text.len() < 2 * KEPT + 10);
    }

    #[tokio::test]
    async fn what_is_shorter_than_was_said_is_no_input() {
        let mut read: Vec<u8> = Vec::new();
        assert_eq!(feed(&b"SELECT"[..], 10, &mut read).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        read.clear();
        feed(&b"SELECT 1;\nand more"[..], 10, &mut read).await.unwrap();
        assert_eq!(read, b"SELECT 1;\n");
    }

    #[tokio::test]
    async fn a_command_may_end_before_it_has_read_everything() {
        let (mut sink, command) = tokio::io::duplex(4);
        drop(command);
        feed(&b"SELECT 1;\n"[..], 10, &mut sink).await.unwrap();
    }

    #[test]
    fn the_exit_code_is_read_from_the_status() {
        let status: Status = serde_json::from_value(json!({
            "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
        }))
        .unwrap();
        assert_eq!(ended(String::new(), Some(&status)).code, Some(3));
        let success: Status = serde_json::from_value(json!({"status": "Success"})).unwrap();
        assert_eq!(ended(String::new(), Some(&success)).code, Some(0));
        assert_eq!(ended(String::new(), None).code, None);
    }
}
