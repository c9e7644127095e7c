//! Whether an image can be pulled, asked of its registry as a container runtime would
//! (github.com/opencontainers/distribution-spec): the manifest's head, with an anonymous token where one is wanted.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, StatusCode};

use super::fetch::{Answer, Fetcher};
use super::images::Reference;
use crate::finding::Finding;

const TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Seconds between attempts, where a registry says that it was asked too often. Amazon's lets who has no account ask once
/// a second (Amazon ECR Public, "Service quotas"), and a release has several images there.
const PAUSES: [u64; 4] = [1, 2, 4, 8];

/// What a registry says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is there, with this digest where the registry says it.
    There(Option<String>),
    /// It is not.
    Gone,
    /// It may be, but not for everybody.
    Denied,
    /// Nobody knows: what the registry said instead.
    Unknown(String),
}

/// Asks the registry of an image by `scheme`: `https`, or `http` where it is on this machine.
///
/// # Errors
/// The registry does not answer.
pub async fn look(fetcher: &Fetcher, reference: &Reference, scheme: &str) -> Result<Verdict, Finding> {
    let (host, name) = reference.registry();
    let version = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
    let url = format!("{scheme}://{host}/v2/{name}/manifests/{version}");
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(TYPES));
    let mut answer = head(fetcher, &url, &headers).await?;
    if answer.status == StatusCode::UNAUTHORIZED
        && let Some(token) = token(fetcher, answer.headers.get(WWW_AUTHENTICATE), &name).await?
        && let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}"))
    {
        headers.insert(AUTHORIZATION, value);
        answer = head(fetcher, &url, &headers).await?;
    }
    Ok(match answer.status {
        status if status.is_success() => {
            let digest = answer.headers.get("docker-content-digest").and_then(|digest| digest.to_str().ok());
            Verdict::There(digest.map(str::to_owned))
        }
        StatusCode::NOT_FOUND => Verdict::Gone,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Verdict::Denied,
        status => Verdict::Unknown(status.to_string()),
    })
}

/// The head of a manifest.
async fn head(fetcher: &Fetcher, url: &str, headers: &HeaderMap) -> Result<Answer, Finding> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let answer = fetcher.ask(Method::HEAD, url, headers).await?;
        match pauses.next() {
            Some(pause) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                tokio::time::sleep(Duration::from_secs(pause)).await;
            }
            _ => return Ok(answer),
        }
    }
}

/// An anonymous token, as the challenge says where to get one.
async fn token(fetcher: &Fetcher, challenge: Option<&HeaderValue>, name: &str) -> Result<Option<String>, Finding> {
    let Some(challenge) = challenge.and_then(|challenge| challenge.to_str().ok()?.strip_prefix("Bearer ")) else {
        return Ok(None);
    };
    let part = |key: &str| {
        let start = challenge.find(&format!("{key}=\""))? + key.len() + 2;
        challenge.get(start..)?.split('"').next()
    };
    let Some(realm) = part("realm") else { return Ok(None) };
    let service = part("service").unwrap_or_default();
    let url = format!("{realm}?service={service}&scope=repository:{name}:pull");
    let answer: serde_json::Value = serde_json::from_slice(&fetcher.get(&url).await?).unwrap_or_default();
    let token = answer["token"].as_str().or(answer["access_token"].as_str());
    Ok(token.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::fetch::tests::{answer, server};

    async fn verdict(answers: Vec<Vec<u8>>) -> (Verdict, Vec<String>) {
        let (url, asked) = server(answers).await;
        let host = url.trim_start_matches("http://");
        let reference = Reference::parse(&format!("{host}/a/b:1"));
        let verdict = look(&Fetcher::new().unwrap(), &reference, "http").await.unwrap();
        (verdict, asked.await.unwrap())
    }

    #[tokio::test]
    async fn an_image_that_is_there_has_a_digest() {
        let (verdict, asked) = verdict(vec![answer("200 OK", "docker-content-digest: sha256:00\r\n", b"")]).await;
        assert_eq!(verdict, Verdict::There(Some("sha256:00".to_owned())));
        assert!(asked[0].starts_with("HEAD /v2/a/b/manifests/1 "), "{asked:?}");
    }

    #[tokio::test]
    async fn a_registry_that_wants_a_token_gets_the_one_that_is_for_everybody() {
        let (issuer, tokens) = server(vec![answer("200 OK", "", br#"{"token": "anybody"}"#)]).await;
        let challenge = format!("www-authenticate: Bearer realm=\"{issuer}/token\",service=\"registry.test\"\r\n");
        let unauthorized = answer("401 Unauthorized", &challenge, b"");
        let (verdict, asked) = verdict(vec![unauthorized, answer("200 OK", "", b"")]).await;
        assert_eq!(verdict, Verdict::There(None));
        let tokens = tokens.await.unwrap();
        assert!(tokens[0].starts_with("GET /token?service=registry.test&scope=repository:a/b:pull "), "{tokens:?}");
        assert!(asked[1].contains("\r\nauthorization: Bearer anybody\r\n"), "{asked:?}");
    }

    #[tokio::test]
    async fn a_registry_that_was_asked_too_often_is_asked_again() {
        let (verdict, asked) = verdict(vec![answer("429 Too Many Requests", "", b""), answer("200 OK", "", b"")]).await;
        assert_eq!((verdict, asked.len()), (Verdict::There(None), 2));
    }

    #[tokio::test]
    async fn one_that_was_deleted_is_gone_and_one_behind_a_login_is_denied() {
        assert_eq!(verdict(vec![answer("404 Not Found", "", b"")]).await.0, Verdict::Gone);
        assert_eq!(verdict(vec![answer("401 Unauthorized", "", b"")]).await.0, Verdict::Denied);
        assert_eq!(
            verdict(vec![answer("503 Service Unavailable", "", b"")]).await.0,
            Verdict::Unknown("503 Service Unavailable".to_owned())
        );
    }
}
