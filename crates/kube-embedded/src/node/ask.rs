//! Asks a container what its probes want to know.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use nix::libc;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::exec::{self, Running};
use super::probe::{Check, Failed, Request};
use super::spawner::Spawner;
use crate::dial;

/// What the system says when the node itself has no descriptor, memory or port left for a connection (socket(2),
/// connect(2)).
const LACKING: [i32; 5] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];

/// One question. `Err` has the words for the event that says the probe failed.
///
/// # Errors
/// As said.
pub async fn ask(spawner: &Spawner, running: &Running, check: &Check, limit: Duration) -> Result<(), Failed> {
    match check {
        Check::Exec(command) => exec::run(spawner, running, command, limit).await.map(drop),
        Check::Tcp { host, port } => within(limit, connect(host, *port)).await.map(drop),
        Check::Http(request) => within(limit, get(request)).await,
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    let late = || "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned();
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(Failed::Answer(late())))
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Failed> {
    let stream = TcpStream::connect((host, port)).await;
    stream.map_err(|error| unconnected(host, port, &error))
}

fn unconnected(host: &str, port: u16, error: &io::Error) -> Failed {
    let words = format!("dial tcp {host}:{port}: {}", dial::why(error));
    let is_own = error.raw_os_error().is_some_and(|code| LACKING.contains(&code));
    if is_own { Failed::Question(words) } else { Failed::Answer(words) }
}

/// Sends the request; a status from 200 to 399 is a success.
///
/// # Errors
/// In the kubelet's words.
pub async fn get(request: &Request) -> Result<(), Failed> {
    let scheme = if request.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}:{}{}", request.host, request.port, request.path);
    let told = |error: String| format!("Get \"{url}\": {error}");
    let fail = |error: String| Failed::Answer(told(error));
    let stream = connect(&request.host, request.port).await.map_err(|failed| failed.say(told))?;
    let status = if request.tls {
        let name = ServerName::try_from(request.host.clone()).map_err(|error| fail(error.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(trusting_config().map_err(|error| fail(error.to_string()))?);
        let stream = connector.connect(name, stream).await.map_err(|error| fail(error.to_string()))?;
        send(request, stream).await
    } else {
        send(request, stream).await
    }
    .map_err(fail)?;
    if (200..400).contains(&status) {
        return Ok(());
    }
    Err(Failed::Answer(format!("HTTP probe failed with statuscode: {status}")))
}

async fn send(request: &Request, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<u16, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let mut builder = http::Request::get(&request.path);
    if !request.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
        builder = builder.header("Host", format!("{}:{}", request.host, request.port));
    }
    builder = builder.header("User-Agent", "kube-probe/1.33").header("Connection", "close");
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let message = builder.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(message).await.map_err(|error| error.to_string());
    connection.abort();
    Ok(answer?.status().as_u16())
}

/// Kubelets don't look at certificates of probes: programs have their own.
fn trusting_config() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust = Arc::new(Trusting(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(trust)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn answer(status: &'static str) -> (Result<(), Failed>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let headers: BTreeMap<String, String> = [("X-A".to_owned(), "1".to_owned())].into();
        let request = Request { tls: false, host: "127.0.0.1".into(), port, path: "/healthz?x".into(), headers };
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let count = stream.read(&mut seen).await.unwrap();
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
            String::from_utf8_lossy(&seen[..count]).into_owned()
        };
        tokio::join!(get(&request), server)
    }

    #[tokio::test]
    async fn a_status_from_200_to_399_is_a_success() {
        let (result, request) = answer("302 Found").await;
        assert_eq!(result, Ok(()));
        assert!(request.starts_with("GET /healthz?x HTTP/1.1\r\n") && request.contains("x-a: 1"), "{request}");
        let (result, _) = answer("503 Not Now").await;
        assert_eq!(result.unwrap_err(), Failed::Answer("HTTP probe failed with statuscode: 503".to_owned()));
    }

    #[tokio::test]
    async fn a_refused_connection_is_said_in_the_kubelets_words() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let result = connect("127.0.0.1", port).await;
        let said = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(result.unwrap_err(), Failed::Answer(said));
    }

    #[test]
    fn a_node_that_has_nothing_to_ask_with_blames_nobody() {
        let failed = |code: i32| unconnected("127.0.0.1", 1, &io::Error::from_raw_os_error(code));
        for code in LACKING {
            assert!(matches!(failed(code), Failed::Question(_)), "{code}");
        }
        let failed = failed(libc::EMFILE).say(|words| format!("Get: {words}"));
        let said = "Get: dial tcp 127.0.0.1:1: Too many open files (os error 24)";
        assert_eq!(failed, Failed::Question(said.to_owned()));
    }
}
