//! One HTTPS request to a webhook, with the authority that its configuration names.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::dial;

/// The largest answer that is read.
const LIMIT: usize = 3 << 20;

/// Where a webhook listens.
pub struct Endpoint {
    /// The name its certificate is for.
    pub host: String,
    /// Where to connect; `None`: look the host up.
    pub address: Option<SocketAddr>,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// PEM of the authorities to trust.
    pub authorities: Vec<u8>,
}

impl Endpoint {
    /// Sends JSON and answers what came back.
    ///
    /// # Errors
    /// A sentence about what went wrong.
    pub async fn post(&self, body: Vec<u8>) -> Result<Bytes, String> {
        let stream = match self.address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((self.host.as_str(), self.port)).await,
        };
        let stream = stream.map_err(|error| format!("dial tcp {}:{}: {}", self.host, self.port, dial::why(&error)))?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| format!("tls: {error}"))?;
        let tls = TlsConnector::from(Arc::new(self.tls()?)).connect(name, stream).await;
        let tls = tls.map_err(|error| format!("tls: {error}"))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let request = Request::post(&self.path)
            .header(HOST, format!("{}:{}", self.host, self.port))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let code = response.status();
        let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|error| error.to_string())?;
        match code {
            StatusCode::OK => Ok(body.to_bytes()),
            other => Err(format!("the server responded with status {other}")),
        }
    }

    fn tls(&self) -> Result<rustls::ClientConfig, String> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.authorities) {
            let certificate = certificate.map_err(|error| format!("unable to load root certificates: {error}"))?;
            roots.add(certificate).map_err(|error| format!("unable to load root certificates: {error}"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}
