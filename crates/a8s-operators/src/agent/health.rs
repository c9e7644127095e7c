//! The HTTP side of an agent: `/readiness`, `/liveness` and `/health` with empty bodies.

use super::signals::told_to_end;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Time for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept, such as for too many open files.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a port is waited for that an ended process may still hold.
const BIND_ATTEMPTS: u32 = 50;

/// A port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct Error {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Takes a port, waiting a little for a process that is just ending.
///
/// # Errors
/// If somebody keeps it, or the address is not this machine's.
pub async fn listen(address: IpAddr, port: u16) -> Result<TcpListener, Error> {
    let address = SocketAddr::new(address, port);
    let mut attempt = 0;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(source) if source.kind() == std::io::ErrorKind::AddrInUse && attempt < BIND_ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(source) => return Err(Error { address, source }),
        }
    }
}

/// Takes a port of a container. Pods of one machine share its loopback addresses: there, only the pod's own is taken.
/// Elsewhere all of the pod's are: a port-forward arrives at its 127.0.0.1.
///
/// # Errors
/// As [`listen`].
pub async fn listen_in_pod(pod: IpAddr, port: u16) -> Result<TcpListener, Error> {
    listen(of_container(pod), port).await
}

fn of_container(pod: IpAddr) -> IpAddr {
    match pod {
        pod if pod.is_loopback() => pod,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Answers requests for ever, each by `answer` from its path. It must run within a `LocalSet`.
pub async fn serve<F>(listener: TcpListener, answer: impl Fn(String) -> F + 'static)
where
    F: Future<Output = Response<Full<Bytes>>> + 'static,
{
    let answer = Rc::new(answer);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let answer = answer.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let response = answer(request.uri().path().to_owned());
            async { Ok::<_, Infallible>(response.await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(async move {
            // A client that went away is no trouble of ours.
            let _ = connection.await;
        });
    }
}

/// Answers requests as [`serve`] does, until the container is told to end.
pub async fn serve_until_told_to_end<F>(listener: TcpListener, answer: impl Fn(String) -> F + 'static)
where
    F: Future<Output = Response<Full<Bytes>>> + 'static,
{
    let serving = async {
        tokio::select! {
            () = serve(listener, answer) => {}
            () = told_to_end() => {}
        }
    };
    tokio::task::LocalSet::new().run_until(serving).await;
}

/// An empty answer.
pub fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// An empty answer: all is well, or not.
pub fn verdict(is_good: bool) -> Response<Full<Bytes>> {
    status(if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_forward_reaches_a_container_and_pods_of_one_machine_keep_apart() {
        let listens = |pod: &str| of_container(pod.parse().unwrap()).to_string();
        assert_eq!(listens("10.244.0.7"), "0.0.0.0");
        assert_eq!(listens("fd00::7"), "::");
        assert_eq!(listens("127.64.0.9"), "127.64.0.9");
    }
}
