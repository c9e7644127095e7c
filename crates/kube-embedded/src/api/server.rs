//! The listener: TLS, HTTP/1.1 and HTTP/2, upgrades.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ApiServer, body, panics};
use crate::status::Status;

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long connections may take to end after the server was asked to stop: enough for what is being written, and no
/// reason to wait for watches, which never end by themselves.
const DRAIN: Duration = Duration::from_millis(500);

/// Serves until `shutdown`, then lets the connections end.
pub async fn serve(
    server: Arc<ApiServer>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: CancellationToken,
) {
    let mut tls = (*tls).clone();
    if tls.alpn_protocols.is_empty() {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let connections = TaskTracker::new();
    let mut is_told = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                is_told = false;
                let connection = connection(Arc::clone(&server), acceptor.clone(), stream, shutdown.clone());
                connections.spawn(connection);
            }
            Err(error) => {
                // Out of file descriptors, most likely: others will be closed. Until then every attempt would say so.
                if !is_told {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                is_told = true;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn connection(server: Arc<ApiServer>, acceptor: TlsAcceptor, stream: TcpStream, shutdown: CancellationToken) {
    // Small answers should leave at once.
    let _ = stream.set_nodelay(true);
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => handshake,
        () = shutdown.cancelled() => return,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates().and_then(|certificates| certificates.first().cloned());
    let certificate = certificates.map(|certificate| Arc::<[u8]>::from(certificate.as_ref()));
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, certificate) = (Arc::clone(&server), certificate.clone());
        let answering =
            async move { panics::contain(server.handle_from_network(certificate.as_deref(), request)).await };
        // What was begun is finished, also if its client leaves: more may have to follow a change that is committed.
        let answering = tokio::spawn(answering);
        async move {
            let answer = answering.await.ok().flatten();
            let answer = answer.unwrap_or_else(|| body::error(&Status::internal(panics::WHY)));
            Ok::<_, Infallible>(answer.map(panics::Contained))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(250);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}
