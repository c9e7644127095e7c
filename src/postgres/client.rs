//! Talks to PostgreSQL as a client outside of the pod would: TCP, TLS, scram.
//!
//! The server's certificate is not checked, as with `sslmode=require`: the released operator's is self-signed.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, Socket};

use super::{Error, Login};

/// How long an answer may take: data of hundreds of MB is made by one statement.
const ANSWER: Duration = Duration::from_secs(120);

/// Versions of the servers that have taken a connection of this process.
static VERSIONS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The versions of the servers that this process was connected to, such as `15.14`.
pub fn versions() -> BTreeSet<String> {
    VERSIONS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Asks one question and gives the rows, columns separated by `|` as `psql -At` prints them.
///
/// # Errors
/// What the server said, that it can't be reached, or that it says nothing.
pub async fn ask(login: &Login, database: &str, sql: &str) -> Result<Vec<String>, Error> {
    let answer = async { query(&connect(login, database).await?, sql).await };
    tokio::time::timeout(ANSWER, answer).await.map_err(|_| Error::Silent(ANSWER))?
}

/// Asks one question in a session, and gives the rows as [`ask`] does.
///
/// # Errors
/// What the server said.
pub async fn query(client: &Client, sql: &str) -> Result<Vec<String>, Error> {
    let messages = client.simple_query(sql).await?;
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|column| row.get(column).unwrap_or("")).collect::<Vec<_>>().join("|"));
        }
    }
    Ok(rows)
}

/// A connection with TLS; without it the attempt fails.
///
/// # Errors
/// What the server said, that it can't be reached, or that it says nothing.
pub async fn connect(login: &Login, database: &str) -> Result<Client, Error> {
    with_tls(settings(login, database)).await
}

/// As [`connect`], for a session that begins with these options (`-c name=value`), whatever its role has.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(login: &Login, database: &str, options: &str) -> Result<Client, Error> {
    let mut config = settings(login, database);
    config.options(options);
    with_tls(config).await
}

async fn with_tls(mut config: tokio_postgres::Config) -> Result<Client, Error> {
    config.ssl_mode(SslMode::Require);
    // Who has taken the connection may say nothing.
    let connected = tokio::time::timeout(ANSWER, config.connect(Tls::new())).await;
    let (client, connection) = connected.map_err(|_| Error::Silent(ANSWER))??;
    // 15.14 (Debian 15.14-0+deb12u1)
    let version = connection.parameter("server_version").and_then(|version| version.split(' ').next());
    VERSIONS.lock().unwrap_or_else(PoisonError::into_inner).extend(version.map(str::to_owned));
    tokio::spawn(connection);
    Ok(client)
}

/// Tries a connection without TLS.
///
/// # Errors
/// What the server said, such as its refusal, or that it can't be reached.
pub async fn connect_in_the_clear(login: &Login, database: &str) -> Result<Client, Error> {
    let mut config = settings(login, database);
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn settings(login: &Login, database: &str) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&login.host)
        .port(login.port)
        .user(&login.user)
        .password(&login.password)
        .dbname(database)
        .connect_timeout(Duration::from_secs(5));
    config
}

#[derive(Clone)]
struct Tls(tokio_rustls::TlsConnector);

impl Tls {
    fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        #[expect(clippy::expect_used, reason = "ring speaks both versions")]
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions");
        let config =
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(provider))).with_no_client_auth();
        Self(tokio_rustls::TlsConnector::from(Arc::new(config)))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = std::io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, std::io::Error> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        Ok(Handshake { connector: self.0.clone(), name })
    }
}

struct Handshake {
    connector: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, std::io::Error>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move { Ok(Encrypted(self.connector.connect(self.name, stream).await?)) })
    }
}

struct Encrypted(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Accepts whatever name and issuer a certificate has, but checks that the server holds its key.
#[derive(Debug)]
struct AnyName(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
