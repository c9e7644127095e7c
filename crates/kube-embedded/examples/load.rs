//! A load generator for any Kubernetes API server: the same requests, over the same kind of connection, from as many
//! clients at once as asked. Prints one `name value` line per figure.
//!
//! ```text
//! load KUBECONFIG [CLIENTS [CREATES [GETS]]]
//! ```
//!
//! It speaks HTTP/1.1 over TLS by itself, without a client library in between, so that it takes little of the machine it
//! shares with the server.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use kube::Config;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

type Failure = Box<dyn Error + Send + Sync>;

const NAMESPACE: &str = "load";
const WATCHED: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let kubeconfig = words.first().ok_or("usage: load KUBECONFIG [CLIENTS [CREATES [GETS]]]")?;
    let number = |index: usize, default| words.get(index).map_or(Ok(default), |word| word.parse::<usize>());
    let (clients, creates, gets) = (number(1, 8)?, number(2, 2000)?, number(3, 20000)?);
    let target = Arc::new(Target::read(kubeconfig).await?);
    let mut first = target.connect().await?;
    let namespace = format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{NAMESPACE}"}}}}"#);
    target.send(&mut first, Method::POST, "/api/v1/namespaces", namespace).await?;

    let took = shared_out(&target, clients, creates, Work::Create).await?;
    figure("creates_per_second", rate(creates, took));
    let took = shared_out(&target, clients, gets, Work::Get).await?;
    figure("gets_per_second", rate(gets, took));
    let (from_request, from_answer) = watch_delays(&target, &mut first).await?;
    figure("watch_median_ms_after_request", median(from_request));
    figure("watch_median_ms_after_answer", median(from_answer));
    Ok(())
}

fn figure(name: &str, value: f64) {
    println!("{name} {value:.2}");
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(requests: usize, took: Duration) -> f64 {
    requests as f64 / took.as_secs_f64()
}

fn median(mut delays: Vec<f64>) -> f64 {
    delays.sort_by(f64::total_cmp);
    delays.get(delays.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Where the server is, and how to speak to it.
struct Target {
    host: String,
    port: u16,
    tls: TlsConnector,
}

impl Target {
    async fn read(kubeconfig: &str) -> Result<Self, Failure> {
        let config =
            Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
        let host = config.cluster_url.host().ok_or("a server without host")?.to_owned();
        let port = config.cluster_url.port_u16().unwrap_or(443);
        Ok(Self { host, port, tls: TlsConnector::from(Arc::new(config.rustls_client_config()?)) })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.host.clone().try_into()?, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self, method: Method, path: &str, body: String) -> Result<Request<Full<Bytes>>, http::Error> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("{}:{}", self.host, self.port))
            .header("user-agent", "load")
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(Full::new(Bytes::from(body)))
    }

    /// Sends a request and reads the whole answer; whatever was there already is as good as created.
    async fn send(
        &self,
        connection: &mut SendRequest<Full<Bytes>>,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(), Failure> {
        connection.ready().await?;
        let response = connection.send_request(self.request(method, path, body)?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() || status == StatusCode::CONFLICT {
            return Ok(());
        }
        Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)).into())
    }
}

#[derive(Clone, Copy)]
enum Work {
    Create,
    Get,
}

/// `count` requests, taken one by one by `clients` connections of their own.
async fn shared_out(target: &Arc<Target>, clients: usize, count: usize, work: Work) -> Result<Duration, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(target.connect().await?);
    }
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for mut connection in connections {
        let (target, next) = (Arc::clone(target), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<(), Failure>(());
                }
                let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
                match work {
                    Work::Create => {
                        let body = config_map(&format!("c{number}"));
                        target.send(&mut connection, Method::POST, &path, body).await?;
                    }
                    Work::Get => {
                        let path = format!("{path}/c{}", number % 500);
                        target.send(&mut connection, Method::GET, &path, String::new()).await?;
                    }
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(started.elapsed())
}

/// About a kilobyte, as configuration files are.
fn config_map(name: &str) -> String {
    let text = "key = value of a setting\\n".repeat(36);
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"file":"{text}"}}}}"#)
}

/// Milliseconds until a watcher has the event, for objects created one after the other: since the request was sent,
/// and since its answer was there.
async fn watch_delays(
    target: &Arc<Target>,
    writer: &mut SendRequest<Full<Bytes>>,
) -> Result<(Vec<f64>, Vec<f64>), Failure> {
    let mut watcher = target.connect().await?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&labelSelector=watched");
    let mut stream = watcher.send_request(target.request(Method::GET, &path, String::new())?).await?.into_body();
    let (events, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut rest = Vec::new();
        while let Some(Ok(frame)) = stream.frame().await {
            let now = Instant::now();
            rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if events.send((now, line)).is_err() {
                    return;
                }
            }
        }
    });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let run = std::process::id();
    let (mut from_request, mut from_answer) = (Vec::new(), Vec::new());
    for number in 0..WATCHED {
        let name = format!("w{run}-{number}");
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"watched":"yes"}}}}}}"#
        );
        let sent = Instant::now();
        target.send(writer, Method::POST, &path, body).await?;
        let answered = Instant::now();
        let arrived = loop {
            let (arrived, line) =
                tokio::time::timeout(Duration::from_secs(10), seen.recv()).await?.ok_or("the watch ended")?;
            if String::from_utf8_lossy(&line).contains(&format!("\"{name}\"")) {
                break arrived;
            }
        };
        from_request.push(milliseconds(arrived.duration_since(sent)));
        from_answer.push(milliseconds(arrived.saturating_duration_since(answered)));
    }
    Ok((from_request, from_answer))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
