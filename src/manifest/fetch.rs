//! Fetching over https, for released documents and for looking at image registries. Redirects are followed; plain http is
//! only spoken with this machine.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;

use crate::finding::{Finding, Id, chain};
use crate::kubernetes::AGENT;
use crate::proxy::{self, Proxy};

/// The largest body that is read.
const LARGEST: usize = 64 << 20;
/// So many redirects are a circle.
const REDIRECTS: usize = 5;
/// For one answer with its body.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Speaks https with certificates as this system trusts them.
#[derive(Clone)]
pub struct Fetcher {
    certificates: ClientConfig,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Fetcher {
    /// A fetcher with the system's certificates.
    ///
    /// # Errors
    /// The system has none.
    pub fn new() -> Result<Self, Finding> {
        let untrusting = |error: &dyn Display| {
            Finding::new(Id::NoCertificates, "this system trusts no certificates")
                .with("what was looked for", [error.to_string()])
                .advise("Install them, on Debian with: apt-get install ca-certificates")
        };
        let certificates = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| untrusting(&error))?
            .with_native_roots()
            .map_err(|error| untrusting(&error))?
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(certificates.clone()).https_or_http().enable_http1().build();
        Ok(Self { certificates, client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    fn through(&self, proxy: Proxy) -> Client<HttpsConnector<Tunnel<HttpConnector>>, Empty<Bytes>> {
        let tunnel = Tunnel::new(proxy.address, HttpConnector::new());
        let tunnel = match proxy.authorization {
            Some(authorization) => tunnel.with_auth(authorization),
            None => tunnel,
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(self.certificates.clone());
        let connector = connector.https_only().enable_http1().wrap_connector(tunnel);
        Client::builder(TokioExecutor::new()).build(connector)
    }

    /// Asks, following redirects. Every status is an answer.
    ///
    /// # Errors
    /// There is none.
    pub async fn ask(&self, method: Method, url: &str, headers: &HeaderMap) -> Result<Answer, Finding> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| unreachable(&url, "it is no URL"))?;
            let answer = tokio::time::timeout(PATIENCE, self.once(method.clone(), &uri, headers));
            let answer = answer.await.map_err(|_| unreachable(&url, "no answer in time"))??;
            match answer.headers.get(LOCATION).filter(|_| answer.status.is_redirection()) {
                Some(location) => url = target(&uri, location)?,
                None => return Ok(answer),
            }
        }
        Err(unreachable(&url, "it redirects in a circle"))
    }

    /// The body of a successful answer.
    ///
    /// # Errors
    /// There is none; 404 is a finding of its own.
    pub async fn get(&self, url: &str) -> Result<Bytes, Finding> {
        let answer = self.ask(Method::GET, url, &HeaderMap::new()).await?;
        match answer.status {
            status if status.is_success() => Ok(answer.body),
            StatusCode::NOT_FOUND => Err(Finding::new(Id::FetchNotFound, format!("there is nothing at {url}"))),
            status => Err(unreachable(url, &format!("it answers {status}"))),
        }
    }

    async fn once(&self, method: Method, uri: &Uri, headers: &HeaderMap) -> Result<Answer, Finding> {
        let host = uri.host().unwrap_or_default();
        if uri.scheme_str() != Some("https") && !["127.0.0.1", "localhost", "[::1]"].contains(&host) {
            return Err(Finding::new(Id::FetchInsecure, format!("{uri} is not fetched: it is not https")));
        }
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let answer = match proxy::of(request.uri()) {
            Some(proxy) => self.through(proxy).request(request).await,
            None => self.client.request(request).await,
        };
        let answer = answer.map_err(|error| unreachable(uri, &chain(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|error| unreachable(uri, &error.to_string()))?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

fn unreachable(url: impl Display, why: &str) -> Finding {
    Finding::new(Id::FetchFailed, format!("cannot fetch {url}: {why}"))
        .advise("What was fetched before is used without a network; a local directory needs none.")
}

/// Where a redirect leads. Headers go along, so it must not lead to plain http.
fn target(from: &Uri, location: &HeaderValue) -> Result<String, Finding> {
    let location = location.to_str().map_err(|_| unreachable(from, "it redirects to nowhere"))?;
    if location.contains("://") {
        return Ok(location.to_owned());
    }
    let scheme = from.scheme_str().unwrap_or("https");
    let authority = from.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    Ok(format!("{scheme}://{authority}{location}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives these answers, one per connection, and then ends. Its URL, and what it was asked.
    pub(crate) async fn server(answers: Vec<Vec<u8>>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                asked.push(String::from_utf8_lossy(&head).into_owned());
                stream.write_all(&answer).await.unwrap();
                stream.shutdown().await.unwrap();
            }
            asked
        });
        (url, asked)
    }

    pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let mut answer =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n").into_bytes();
        answer.extend(body);
        answer
    }

    #[tokio::test]
    async fn redirects_are_followed_to_the_body() {
        let moved = answer("302 Found", "location: /there\r\n", b"");
        let (url, asked) = server(vec![moved, answer("200 OK", "", b"text")]).await;
        let body = Fetcher::new().unwrap().get(&format!("{url}/here")).await.unwrap();
        assert_eq!(body, "text");
        assert!(asked.await.unwrap()[1].starts_with("GET /there "));
    }

    #[tokio::test]
    async fn what_is_not_there_and_who_does_not_answer_are_told_apart() {
        let (url, _asked) = server(vec![answer("404 Not Found", "", b"")]).await;
        let fetcher = Fetcher::new().unwrap();
        let gone = fetcher.get(&url).await.unwrap_err();
        assert_eq!((gone.id, gone.cause), (Id::FetchNotFound, format!("there is nothing at {url}")));
        assert_eq!(fetcher.get("http://127.0.0.1:1/x").await.unwrap_err().id, Id::FetchFailed);
        assert_eq!(fetcher.get("http://example.test/x").await.unwrap_err().id, Id::FetchInsecure);
    }

    #[rstest]
    #[case(vec![answer("503 Service Unavailable", "", b"")], ": it answers 503 Service Unavailable")]
    #[case(vec![answer("302 Found", "location: /\u{e9}\r\n", b"")], ": it redirects to nowhere")]
    #[case(vec![answer("302 Found", "location: http://a b/\r\n", b"")], "http://a b/: it is no URL")]
    #[case(vec![answer("302 Found", "location: /again\r\n", b""); REDIRECTS + 1], "/again: it redirects in a circle")]
    #[tokio::test]
    async fn an_answer_that_leads_nowhere_is_said(#[case] answers: Vec<Vec<u8>>, #[case] why: &str) {
        let (url, _asked) = server(answers).await;
        let finding = Fetcher::new().unwrap().get(&url).await.unwrap_err();
        assert_eq!(finding.id, Id::FetchFailed);
        assert!(finding.cause.starts_with("cannot fetch http://") && finding.cause.ends_with(why), "{finding}");
    }

    #[tokio::test]
    async fn a_redirect_to_plain_http_elsewhere_is_refused() {
        let (url, _asked) = server(vec![answer("302 Found", "location: http://example.test/\r\n", b"")]).await;
        assert_eq!(Fetcher::new().unwrap().get(&url).await.unwrap_err().id, Id::FetchInsecure);
    }
}
