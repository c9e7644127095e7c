//! `exec`: a process' standard streams, terminal size and exit status over a connection
//! (k8s.io/kubelet `pkg/cri/streaming/remotecommand`).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status as Body, StatusCause, StatusDetails};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::channels::{CHUNK, Gone, Input, Link, Output};
use super::spdy;
use super::upgrade::{self, Agreement, Carrier};
use super::websocket::{self, Coding};
use crate::api::panics::{self, contain};
use crate::kubelet::{ContainerRef, ExecOptions, ExitStatus, Kubelet, Process, TerminalSize};
use crate::status::Status;

/// `""` is what clients without a subprotocol speak.
const WEBSOCKET: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];
const SPDY: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// How long a SPDY client may take to open its streams (the kubelet's `DefaultStreamCreationTimeout`).
const STREAMS_OPEN: Duration = Duration::from_secs(30);
/// Output that a process left in its pipes is there at once; this long after its end nothing more is waited for. Its
/// children may keep the pipes open for ever.
const LEFTOVERS: Duration = Duration::from_secs(2);

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// Runs a command in a container: `GET` or `POST …/pods/<pod>/exec?command=…&stdin=…&stdout=…&stderr=…&tty=…`.
///
/// The session goes on in a task of its own after the answer; it ends with the process, and the process ends with it.
///
/// # Errors
/// 400 where the request asks for no command, no stream or no upgrade, 403 where no protocol is shared, and what
/// [`Kubelet::exec`] says.
pub async fn exec<B>(
    mut request: Request<B>,
    kubelet: Arc<dyn Kubelet>,
    namespace: &str,
    pod: &str,
) -> Result<Response<()>, Status> {
    let (container, options) = parse_query(request.uri().query().unwrap_or_default())?;
    let container = ContainerRef { namespace: namespace.to_owned(), pod: pod.to_owned(), container };
    let agreement = upgrade::agree(&mut request, &WEBSOCKET, &SPDY)?;
    let process = kubelet.exec(&container, &options).await?;
    let Agreement { carrier, protocol, response, connection } = agreement;
    panics::spawn(async move {
        match connection.await {
            Ok(connection) => serve(connection, carrier, protocol, process, options).await,
            Err(error) => tracing::debug!(%error, "an exec client went away before its session began"),
        }
    });
    Ok(response)
}

/// The answer to who wants to attach to a running container, whose streams belong to its log.
pub fn no_attach(pod: &str) -> Status {
    let why = "the output of its containers goes to their logs; use logs or exec";
    Status::new(501, "NotImplemented", format!("pod {pod:?} cannot be attached to: {why}"))
}

/// Reads `PodExecOptions` from a query.
fn parse_query(query: &str) -> Result<(Option<String>, ExecOptions), Status> {
    let mut options = ExecOptions::default();
    let mut container = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let flag = || matches!(&*value, "" | "1" | "true" | "True" | "TRUE" | "t" | "T");
        match &*name {
            "command" => options.command.push(value.into_owned()),
            "container" => container = Some(value.into_owned()).filter(|name| !name.is_empty()),
            "stdin" => options.stdin = flag(),
            "stdout" => options.stdout = flag(),
            "stderr" => options.stderr = flag(),
            "tty" => options.tty = flag(),
            _ => {}
        }
    }
    // A terminal has one output.
    options.stderr &= !options.tty;
    if options.command.is_empty() {
        return Err(Status::bad_request("you must specify at least one command for the container"));
    }
    if !(options.stdin || options.stdout || options.stderr) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok((container, options))
}

async fn serve(connection: Upgraded, carrier: Carrier, protocol: &'static str, process: Process, options: ExecOptions) {
    let (link, streams) = match carrier {
        Carrier::WebSocket => open_websocket(connection, protocol, &options).await,
        Carrier::Spdy => match open_spdy(connection, protocol, &options).await {
            Some(opened) => opened,
            None => return,
        },
    };
    let gone = link.gone.clone();
    tokio::select! {
        ended = run(process, streams) => {
            if ended.is_ok() {
                link.close().await;
            }
        }
        // Dropping the session drops the process.
        () = gone.cancelled() => {}
    }
}

/// The streams of a session.
struct Streams {
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    resize: Option<Input>,
    error: Output,
    /// Whether the error stream carries a `metav1.Status`; before version 4 it was a sentence, and only for failures.
    status: bool,
}

async fn open_websocket(connection: Upgraded, protocol: &str, options: &ExecOptions) -> (Link, Streams) {
    let version_four = protocol.starts_with("v4.") || protocol.starts_with("v5.");
    let coding = Coding { base64: protocol.contains("base64"), close: protocol.starts_with("v5.") };
    let mut inputs = vec![RESIZE];
    inputs.extend(options.stdin.then_some(STDIN));
    let (link, mut inputs, queue) = websocket::open(connection, coding, &inputs).await;
    let output = |channel, wanted: bool| wanted.then(|| websocket::output(&queue, channel));
    let streams = Streams {
        stdin: inputs.remove(&STDIN),
        stdout: output(STDOUT, options.stdout),
        stderr: output(STDERR, options.stderr),
        resize: inputs.remove(&RESIZE).filter(|_| options.tty),
        error: websocket::output(&queue, ERROR),
        status: version_four,
    };
    // An empty message tells the client that the connection stands. Whether it arrives shows with the next one.
    if let Some(first) = streams.stdout.as_ref().or(streams.stderr.as_ref()) {
        let _ = first.send(Bytes::new()).await;
    }
    (link, streams)
}

/// Waits for the streams that the client's options promise; `None` where they don't come.
async fn open_spdy(connection: Upgraded, protocol: &str, options: &ExecOptions) -> Option<(Link, Streams)> {
    let version = match protocol {
        "v4.channel.k8s.io" => 4,
        "v3.channel.k8s.io" => 3,
        _ => 2,
    };
    let (reader, writer) = tokio::io::split(TokioIo::new(connection));
    let (link, mut opened) = spdy::open(reader, writer);
    let wanted = [
        ("error", true),
        ("stdin", options.stdin),
        ("stdout", options.stdout),
        ("stderr", options.stderr),
        ("resize", options.tty && version >= 3),
    ];
    let mut missing: Vec<&str> = wanted.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| *name).collect();
    let mut streams: HashMap<String, spdy::Stream> = HashMap::new();
    let all = timeout(STREAMS_OPEN, async {
        while !missing.is_empty() {
            let stream = opened.recv().await?;
            let kind = stream.header("streamtype").to_owned();
            missing.retain(|name| *name != kind);
            streams.insert(kind, stream);
        }
        Some(())
    });
    if all.await.ok().flatten().is_none() {
        tracing::debug!(?missing, "an exec client did not open its streams");
        return None;
    }
    let output = |name: &str| streams.get(name).map(|stream| stream.output.clone());
    let (stdout, stderr, error) = (output("stdout"), output("stderr"), output("error")?);
    let mut input = |name: &str| streams.remove(name).map(|stream| stream.input);
    let streams =
        Streams { stdin: input("stdin"), resize: input("resize"), stdout, stderr, error, status: version >= 4 };
    Some((link, streams))
}

/// Lets the process and the client talk until the process has ended, and says how it ended.
async fn run(process: Process, streams: Streams) -> Result<(), Gone> {
    let Process { stdin, stdout, stderr, resize, exit, guard } = process;
    let exited = CancellationToken::new();
    // Dropped at the end, which ends them: nobody waits for a client to close its input.
    let mut inputs = JoinSet::new();
    if let Some(client) = streams.stdin {
        inputs.spawn(contain(copy_input(client, stdin)));
    }
    if let Some(client) = streams.resize {
        inputs.spawn(contain(copy_sizes(client, resize)));
    }
    let wait = async {
        let status = exit.await;
        exited.cancel();
        Ok(status)
    };
    let (status, (), ()) = tokio::try_join!(
        wait,
        copy_output(stdout, streams.stdout.as_ref(), &exited),
        copy_output(stderr, streams.stderr.as_ref(), &exited),
    )?;
    drop(guard);
    for output in [&streams.stdout, &streams.stderr].into_iter().flatten() {
        output.finish().await?;
    }
    let verdict = verdict(status);
    let failed = verdict.status.as_deref() != Some("Success");
    if streams.status {
        streams.error.send(serde_json::to_vec(&verdict).unwrap_or_default()).await?;
    } else if failed {
        streams.error.send(verdict.message.unwrap_or_default()).await?;
    }
    streams.error.finish().await
}

/// Copies what the client sends until it closes its side; then the process' input is closed.
async fn copy_input(mut client: Input, process: Option<Pin<Box<dyn AsyncWrite + Send>>>) {
    if let Some(mut stdin) = process {
        while let Some(data) = client.recv().await {
            // Flushed at once: the process may answer to every line.
            if stdin.write_all(&data).await.is_err() || stdin.flush().await.is_err() {
                break;
            }
        }
        // A process that closed its input already is no error.
        let _ = stdin.shutdown().await;
    }
    // A process that does not read to the end must not keep the client from sending (and seeing) the rest.
    while client.recv().await.is_some() {}
}

/// Copies what the process writes to its end. Without a client for it, it is read and dropped.
async fn copy_output(
    process: Option<Pin<Box<dyn AsyncRead + Send>>>,
    client: Option<&Output>,
    exited: &CancellationToken,
) -> Result<(), Gone> {
    let Some(mut process) = process else { return Ok(()) };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let read = tokio::select! {
            biased;
            read = process.read_buf(&mut buffer) => read,
            () = async { exited.cancelled().await; sleep(LEFTOVERS).await } => return Ok(()),
        };
        // The end, or that of a terminal, which is an error (EIO).
        if read.unwrap_or(0) == 0 {
            return Ok(());
        }
        let data = buffer.split().freeze();
        if let Some(client) = client {
            client.send(data).await?;
        }
    }
}

/// Hands on the sizes of the client's terminal: a sequence of JSON objects.
async fn copy_sizes(mut client: Input, process: Option<mpsc::Sender<TerminalSize>>) {
    let mut pending = BytesMut::new();
    while let Some(data) = client.recv().await {
        pending.extend_from_slice(&data);
        let (sizes, read) = read_sizes(&pending);
        let _ = pending.split_to(read);
        for size in sizes {
            if let Some(process) = &process {
                // A process that is ending has no use for a size.
                let _ = process.send(size).await;
            }
        }
    }
}

/// The complete sizes at the beginning of `data`, and how many bytes they and whatever is no size take.
fn read_sizes(data: &[u8]) -> (Vec<TerminalSize>, usize) {
    let mut stream = serde_json::Deserializer::from_slice(data).into_iter::<TerminalSize>();
    let mut sizes = Vec::new();
    loop {
        match stream.next() {
            Some(Ok(size)) => sizes.push(size),
            Some(Err(error)) if error.is_eof() && data.len() < CHUNK => return (sizes, stream.byte_offset()),
            Some(Err(_)) => return (sizes, data.len()),
            None => return (sizes, data.len()),
        }
    }
}

/// The `metav1.Status` of a process' end.
fn verdict(status: Result<ExitStatus, oneshot::error::RecvError>) -> Body {
    let code = match status {
        Ok(ExitStatus::Code(0)) => return Body { status: Some("Success".to_owned()), ..Body::default() },
        Ok(ExitStatus::Code(_)) if sabotage::sabotaged!("exec-forgets-exit-codes") => {
            return Body { status: Some("Success".to_owned()), ..Body::default() };
        }
        Ok(ExitStatus::Code(code)) => code,
        // As a shell and every container runtime count it.
        Ok(ExitStatus::Signal(signal)) => 128 + signal,
        Err(_) => {
            return *Status::internal("error executing command in container: its end was not observed").0;
        }
    };
    Body {
        status: Some("Failure".to_owned()),
        reason: Some("NonZeroExitCode".to_owned()),
        message: Some(format!("command terminated with exit code {code}")),
        details: Some(StatusDetails {
            causes: Some(vec![StatusCause {
                reason: Some("ExitCode".to_owned()),
                message: Some(code.to_string()),
                field: None,
            }]),
            ..StatusDetails::default()
        }),
        ..Body::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_are_read_from_the_query() {
        let (container, options) =
            parse_query("command=sh&command=-c&command=a%20b&container=c&stdin=true&stdout=1&tty=false").unwrap();
        assert_eq!(container.as_deref(), Some("c"));
        assert_eq!(options.command, ["sh", "-c", "a b"]);
        assert_eq!((options.stdin, options.stdout, options.stderr, options.tty), (true, true, false, false));
        let (_, terminal) = parse_query("command=sh&stdout=true&stderr=true&tty=true").unwrap();
        assert!(!terminal.stderr, "a terminal has one output");
    }

    #[test]
    fn nothing_to_run_or_to_see_is_a_bad_request() {
        assert_eq!(parse_query("stdout=true").unwrap_err().code(), 400);
        assert_eq!(
            parse_query("command=ls").unwrap_err().to_string(),
            "you must specify at least 1 of stdin, stdout, stderr"
        );
    }

    #[test]
    fn the_exit_code_is_a_cause_of_the_status() {
        assert_eq!(verdict(Ok(ExitStatus::Code(0))).status.as_deref(), Some("Success"));
        let failed = verdict(Ok(ExitStatus::Signal(9)));
        assert_eq!(failed.reason.as_deref(), Some("NonZeroExitCode"));
        assert_eq!(failed.message.as_deref(), Some("command terminated with exit code 137"));
        let cause = &failed.details.unwrap().causes.unwrap()[0];
        assert_eq!((cause.reason.as_deref(), cause.message.as_deref()), (Some("ExitCode"), Some("137")));
    }

    #[test]
    fn sizes_may_come_in_pieces() {
        let size = TerminalSize { width: 80, height: 24 };
        let text = br#"{"Width":80,"Height":24}{"Width":80,"#;
        assert_eq!(read_sizes(text), (vec![size], 24));
        assert_eq!(read_sizes(b"nonsense").0, []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_sizes_or_dropped(data in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(read_sizes(&data).1 <= data.len());
        }
    }
}
