//! The HTTPS server of the webhook, on a listener it is given.

use super::{PATH, review};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Largest review that is read, in bytes. An API server's own limit for an object is 3 MiB; a review has two.
const LIMIT: usize = 8 << 20;
/// Time for the TLS handshake and the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// A certificate for the webhook, which is its own authority.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// What the API server has to trust, PEM.
    pub ca_pem: String,
    /// What the server serves with.
    pub config: Arc<rustls::ServerConfig>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key or certificate could not be made.
    #[error("cannot make the webhook's certificate")]
    Make(#[source] rcgen::Error),
    /// TLS did not accept them.
    #[error("cannot use the webhook's certificate")]
    Use(#[source] rustls::Error),
}

/// Makes a certificate for names and addresses. The key stays in this process.
///
/// # Errors
/// If the names are no DNS names or addresses.
pub fn certificate(names: &[String]) -> Result<Certificate, Error> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names.to_vec()).map_err(Error::Make)?;
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
        .map_err(Error::Use)?;
    Ok(Certificate { ca_pem: cert.pem(), config: Arc::new(config) })
}

/// Answers reviews until `shutdown`.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, shutdown: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let mut is_told = false;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                is_told = false;
                let (acceptor, shutdown) = (acceptor.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = converse(acceptor, stream) => {}
                    }
                });
            }
            Err(error) => {
                // Such as too many open files: it passes, and must become neither a busy loop nor a long log.
                if !is_told {
                    tracing::warn!(%error, "the webhook cannot accept a connection");
                }
                is_told = true;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else { return };
    let service = hyper::service::service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the webhook ended");
    }
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return text(StatusCode::NOT_FOUND, "no such path");
    }
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "reviews are posted");
    }
    let Ok(body) = Limited::new(request.into_body(), LIMIT).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the review is too large or was cut off");
    };
    let Ok(asked) = serde_json::from_slice(&body.to_bytes()) else {
        return text(StatusCode::BAD_REQUEST, "the body is no AdmissionReview");
    };
    match serde_json::to_vec(&review(asked)) {
        Ok(json) => {
            let mut response = Response::new(Full::from(json));
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
            response
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written"),
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject as _;

    /// Sends one request over TLS, trusting the webhook's own certificate only, and returns the whole answer.
    async fn ask(address: std::net::SocketAddr, ca_pem: &str, request: String) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut roots = rustls::RootCertStore::empty();
        let der = rustls::pki_types::CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("PEM");
        roots.add(der).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::from(address.ip());
        let stream = TcpStream::connect(address).await.expect("connected");
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        // The server may end without TLS' own goodbye.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn a_review_is_answered_over_tls_and_rubbish_is_refused() {
        let certificate = certificate(&["127.0.0.1".to_owned()]).expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, certificate.config.clone(), shutdown.clone()));
        for (path, body, status) in [
            (PATH, r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#, "200"),
            (PATH, "rubbish", "400"),
            ("/other", "{}", "404"),
        ] {
            let length = body.len();
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let answer = ask(address, &certificate.ca_pem, request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        shutdown.cancel();
        server.await.expect("the server ended");
    }
}
