//! `port-forward`: connections to ports of a pod, several at a time over one connection of the client
//! (k8s.io/kubelet `pkg/cri/streaming/portforward`).

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use http::{Request, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::channels::{CHUNK, Input, Link, Output};
use super::spdy::{self, Stream};
use super::upgrade::{self, Agreement, Carrier};
use super::websocket::{self, Coding};
use crate::api::panics::{self, contain};
use crate::kubelet::{Duplex, Kubelet};
use crate::status::Status;

/// SPDY in the messages of a WebSocket: what kubectl speaks first.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const WEBSOCKET: [&str; 5] = [TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "portforward.k8s.io", ""];
const SPDY: [&str; 1] = ["portforward.k8s.io"];
/// Two channels for each port, and channels are numbered by one byte.
const MAX_PORTS: usize = 127;

/// Forwards ports of a pod: `GET` or `POST …/pods/<pod>/portforward`; WebSocket clients name the ports in the query.
///
/// The session goes on in a task of its own after the answer. A port that does not answer is no error of the session: it
/// is told on that connection's error stream.
///
/// # Errors
/// 400 for a request without upgrade, or without ports where they are needed; 403 where no protocol is shared.
pub async fn port_forward<B>(
    mut request: Request<B>,
    kubelet: Arc<dyn Kubelet>,
    namespace: &str,
    pod: &str,
) -> Result<Response<()>, Status> {
    let ports = parse_ports(request.uri().query().unwrap_or_default());
    let Agreement { carrier, protocol, response, connection } = upgrade::agree(&mut request, &WEBSOCKET, &SPDY)?;
    let tunnelled = protocol == TUNNEL;
    let ports = if carrier == Carrier::WebSocket && !tunnelled { ports? } else { Vec::new() };
    let target = Target { kubelet, namespace: namespace.to_owned(), pod: pod.to_owned() };
    panics::spawn(async move {
        let connection = match connection.await {
            Ok(connection) => connection,
            Err(error) => return tracing::debug!(%error, "a port-forward client went away before its session began"),
        };
        match carrier {
            Carrier::WebSocket if !tunnelled => forward_channels(connection, protocol, &ports, target).await,
            Carrier::WebSocket => {
                let (reader, writer) = websocket::tunnel(connection).await;
                let (link, streams) = spdy::open(reader, writer);
                forward_streams(link, streams, target).await;
            }
            Carrier::Spdy => {
                let (reader, writer) = tokio::io::split(TokioIo::new(connection));
                let (link, streams) = spdy::open(reader, writer);
                forward_streams(link, streams, target).await;
            }
        }
    });
    Ok(response)
}

/// The ports in a query: `ports=80&ports=443` or `ports=80,443`.
fn parse_ports(query: &str) -> Result<Vec<u16>, Status> {
    let mut ports = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == "ports" || name == "port" {
            for port in value.split(',') {
                let number = port.parse().ok().filter(|port| *port > 0);
                ports.push(number.ok_or_else(|| Status::bad_request(format!("invalid port {port:?}")))?);
            }
        }
    }
    match ports.len() {
        0 => Err(Status::bad_request("query parameter \"ports\" is required")),
        1..=MAX_PORTS => Ok(ports),
        _ => Err(Status::bad_request(format!("at most {MAX_PORTS} ports can be forwarded at once"))),
    }
}

/// The pod whose ports are forwarded.
#[derive(Clone)]
struct Target {
    kubelet: Arc<dyn Kubelet>,
    namespace: String,
    pod: String,
}

impl Target {
    async fn connect(&self, port: u16) -> io::Result<Box<dyn Duplex>> {
        self.kubelet.port_forward(&self.namespace, &self.pod, port).await
    }

    fn complaint(&self, port: u16, why: impl std::fmt::Display) -> String {
        format!("error forwarding port {port} to pod {}, namespace {}: {why}", self.pod, self.namespace)
    }
}

/// SPDY: for every connection the client opens an error and a data stream with the same request number.
async fn forward_streams(link: Link, mut streams: tokio::sync::mpsc::Receiver<Stream>, target: Target) {
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = streams.recv() => match stream {
                Some(stream) => {
                    if let Some((error, data)) = pair(&mut waiting, stream) {
                        connections.spawn(contain(forward_stream(error, data, target.clone())));
                    }
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
            () = link.gone.cancelled() => break,
        }
    }
}

/// The error and the data stream of a connection, once both are there. Clients without request numbers open the data
/// stream right after the error stream.
fn pair(waiting: &mut HashMap<String, Stream>, stream: Stream) -> Option<(Stream, Stream)> {
    let is_error = stream.header("streamtype") == "error";
    let request = match stream.header("requestid") {
        "" if is_error => format!("#{}", stream.id),
        "" => format!("#{}", stream.id.wrapping_sub(2)),
        request => request.to_owned(),
    };
    // One that was left alone, or that comes twice, is of no use any more.
    waiting.retain(|_, stream| !stream.reset.is_cancelled());
    match waiting.remove(&request) {
        Some(other) if (other.header("streamtype") == "error") != is_error => {
            Some(if is_error { (stream, other) } else { (other, stream) })
        }
        _ => {
            waiting.insert(request, stream);
            None
        }
    }
}

/// One forwarded connection. Both streams are closed at its end: kubectl waits for the end of the error stream.
async fn forward_stream(error: Stream, data: Stream, target: Target) {
    let port = data.header("port").parse().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("invalid port {:?}", data.header("port")));
    let Stream { input, output, reset, .. } = data;
    let outcome = match port {
        Ok(port) => tokio::select! {
            outcome = forward(port, input, &output, &target) => outcome,
            () = reset.cancelled() => Ok(()),
        },
        Err(complaint) => Err(complaint),
    };
    // The client may be gone; then there is nobody to tell.
    if let Err(complaint) = outcome {
        let _ = error.output.send(complaint).await;
    }
    let _ = output.finish().await;
    let _ = error.output.finish().await;
}

/// WebSocket channels: channel 2n carries the data of the nth port, 2n+1 its error; each begins with the port's number.
async fn forward_channels(connection: Upgraded, protocol: &str, ports: &[u16], target: Target) {
    let coding = Coding { base64: protocol.contains("base64"), close: false };
    let numbered = || (0u8..).step_by(2).zip(ports.iter().copied());
    let inputs: Vec<u8> = numbered().map(|(channel, _)| channel).collect();
    let (link, mut inputs, queue) = websocket::open(connection, coding, &inputs).await;
    let mut connections = JoinSet::new();
    for (channel, port) in numbered() {
        let (data, error) = (websocket::output(&queue, channel), websocket::output(&queue, channel + 1));
        let Some(input) = inputs.remove(&channel) else { continue };
        let number = port.to_le_bytes().to_vec();
        if data.send(number.clone()).await.is_err() || error.send(number).await.is_err() {
            return;
        }
        let target = target.clone();
        connections.spawn(contain(async move {
            if let Err(complaint) = forward(port, input, &data, &target).await {
                // The client may be gone; then there is nobody to tell.
                let _ = error.send(complaint).await;
            }
        }));
    }
    let gone = link.gone.clone();
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => link.close().await,
        () = gone.cancelled() => {}
    }
}

/// Copies both ways until the pod has closed its side, or takes no more and has nothing more to say.
///
/// # Errors
/// A sentence for the client, where no connection was made. How one ends is between the two programs: kubectl would
/// give up all its connections for an error of one.
async fn forward(port: u16, mut client: Input, output: &Output, target: &Target) -> Result<(), String> {
    let pod = target.connect(port).await.map_err(|error| target.complaint(port, error))?;
    let (mut from_pod, mut to_pod) = tokio::io::split(pod);
    let upload = async {
        while let Some(data) = client.recv().await {
            to_pod.write_all(&data).await?;
            to_pod.flush().await?;
        }
        to_pod.shutdown().await
    };
    let download = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            let read = from_pod.read_buf(&mut buffer).await;
            if read.unwrap_or(0) == 0 || output.send(buffer.split()).await.is_err() {
                break;
            }
        }
        // The client may be gone.
        let _ = output.finish().await;
    };
    tokio::pin!(upload, download);
    tokio::select! {
        result = &mut upload => {
            if let Err(error) = result {
                tracing::debug!(port, %error, "a forwarded port takes nothing more");
            }
            download.await;
        }
        () = &mut download => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_separately_or_with_commas() {
        assert_eq!(parse_ports("ports=80&ports=443").unwrap(), [80, 443]);
        assert_eq!(parse_ports("ports=80%2C443").unwrap(), [80, 443]);
        for wrong in ["", "ports=", "ports=0", "ports=65536", "ports=x"] {
            assert_eq!(parse_ports(wrong).unwrap_err().code(), 400, "{wrong}");
        }
    }
}
