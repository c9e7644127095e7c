//! The client against answers that no good store gives.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers each request with the next of `answers` (the last one for ever), and remembers the requests.
pub(crate) async fn server(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 64 << 10];
            let Ok(length) = stream.read(&mut request).await else { continue };
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let answer = {
                let mut seen = seen.lock().unwrap();
                seen.push(text);
                answers[(seen.len() - 1).min(answers.len() - 1)].clone()
            };
            // Who has asked may have gone since.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (format!("http://{address}"), requests)
}

pub(crate) fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// The answer with an object.
pub(crate) fn object(body: &str) -> String {
    let headers = "HTTP/1.1 200 OK\r\nlast-modified: Wed, 25 Nov 2026 12:00:00 GMT\r\netag: \"e\"";
    answer("200 OK", body).replacen("HTTP/1.1 200 OK", headers, 1)
}

fn refusal(status: &str, code: &str) -> String {
    answer(status, &format!("<Error><Code>{code}</Code><Message>The words of {code}</Message></Error>"))
}

/// The answer to who has sent an object.
const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\netag: \"e\"\r\nconnection: close\r\n\r\n";
const LIMITS: Limits = Limits { silence: Duration::from_millis(300), patience: Duration::from_secs(2) };

pub(crate) fn config(endpoint: &str) -> Config {
    Config {
        bucket: "bucket".to_owned(),
        region: "eu-central-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        path_style: true,
    }
}

pub(crate) fn credentials() -> Credentials {
    Credentials { access_key: "key".to_owned(), secret_key: "secret".to_owned() }
}

fn store_of(config: Config, names: Names, limits: Limits) -> Store {
    Store::new(&config, &credentials(), names, limits).unwrap()
}

fn store(endpoint: &str) -> Store {
    store_of(config(endpoint), Names::system(), LIMITS)
}

#[tokio::test]
async fn what_cannot_heal_is_told_at_once_and_in_one_sentence() {
    for (status, code, words) in [
        ("404 Not Found", "NoSuchBucket", "has no bucket bucket"),
        ("403 Forbidden", "AccessDenied", "refuses to take an object (AccessDenied)"),
        ("403 Forbidden", "SignatureDoesNotMatch", "does not accept the credentials (SignatureDoesNotMatch)"),
        ("403 Forbidden", "InvalidAccessKeyId", "does not accept the credentials (InvalidAccessKeyId)"),
        ("400 Bad Request", "EntityTooSmall", "cannot take an object: The words of EntityTooSmall (EntityTooSmall)"),
    ] {
        let (endpoint, requests) = server(vec![refusal(status, code)]).await;
        let error = store(&endpoint).put("a/b", Bytes::from_static(b"x")).await.unwrap_err();
        assert!(error.is_permanent() && error.to_string().ends_with(words), "{error}");
        assert!(error.to_string().contains(&endpoint) && !error.to_string().contains('\n'), "{error}");
        let requests = requests.lock().unwrap();
        assert!(requests.len() == 1 && requests[0].starts_with("PUT /bucket/a/b HTTP/1.1\r\n"), "{requests:?}");
    }
}

/// As S3 wants it of whoever writes to a bucket whose objects are locked; there are stores that refuse it.
#[tokio::test]
async fn an_object_for_aws_comes_with_a_checksum_and_no_other_does() {
    for (host, is_aws) in [("s3.eu-central-1.amazonaws.com", true), ("s3.amazonaws.com.example", false)] {
        let (endpoint, requests) = server(vec![TAKEN.to_owned()]).await;
        let names = Names::with(host, &[std::net::Ipv4Addr::LOCALHOST.into()]);
        let config = config(&endpoint.replace("127.0.0.1", host));
        store_of(config, names, LIMITS).put("a", Bytes::from_static(b"hello")).await.unwrap();
        let request = requests.lock().unwrap()[0].clone();
        // printf hello | openssl dgst -sha256 -binary | base64
        let checksum = "x-amz-checksum-sha256: LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        assert_eq!(request.contains(checksum), is_aws, "{request}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let slow = refusal("503 Service Unavailable", "SlowDown");
    let (endpoint, requests) = server(vec![slow.clone(), slow, TAKEN.to_owned()]).await;
    store(&endpoint).put("a", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn patience_ends() {
    let (endpoint, _) = server(vec![refusal("500 Internal Server Error", "InternalError")]).await;
    let error = store(&endpoint).list("a").await.unwrap_err();
    assert!(!error.is_permanent());
    assert!(error.to_string().ends_with("could not list objects now: The words of InternalError"), "{error}");
}

#[tokio::test]
async fn a_code_that_nobody_knows_is_taken_by_its_status() {
    for (status, code, is_permanent) in [
        ("503 Service Unavailable", "XMinioServerNotInitialized", false),
        ("503 Service Unavailable", "SlowDownWrite", false),
        ("429 Too Many Requests", "TooManyRequests", false),
        ("501 Not Implemented", "NotImplemented", true),
        ("400 Bad Request", "XAmzUnknown", true),
    ] {
        let (endpoint, _) = server(vec![refusal(status, code)]).await;
        let limits = Limits { patience: Duration::ZERO, ..LIMITS };
        let error = store_of(config(&endpoint), Names::system(), limits).list("a").await.unwrap_err();
        assert_eq!(error.is_permanent(), is_permanent, "{error:?}");
        assert!(error.to_string().contains(&format!("The words of {code} ({code})")), "{error}");
    }
}

#[tokio::test]
async fn only_the_store_itself_says_that_an_object_is_not_there() {
    let (endpoint, _) = server(vec![refusal("404 Not Found", "NoSuchKey")]).await;
    assert!(matches!(store(&endpoint).get("a", 10).await, Err(Error::NoSuchObject { .. })));
    let (endpoint, _) = server(vec![answer("404 Not Found", "404 page not found")]).await;
    let error = store(&endpoint).get("a", 10).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("page not found"), "{error}");
    let (endpoint, _) = server(vec![answer("404 Not Found", "")]).await;
    assert_eq!(store(&endpoint).size("a").await, Ok(None), "an answer to HEAD has no body, and so no code");
}

#[tokio::test]
async fn an_object_that_is_larger_than_expected_is_named() {
    let headers = "last-modified: Wed, 25 Nov 2026 12:00:00 GMT\r\netag: \"e\"\r\nconnection: close";
    let (endpoint, _) = server(vec![format!("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n{headers}\r\n\r\nabcdef")]).await;
    let error = store(&endpoint).get("b/manifest.json", 5).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("6 bytes in the object b/manifest.json"), "{error}");
}

#[tokio::test]
async fn a_clock_that_is_wrong_may_be_set_right() {
    let (endpoint, _) = server(vec![refusal("403 Forbidden", "RequestTimeTooSkewed")]).await;
    let error = store(&endpoint).list("a").await.unwrap_err();
    assert!(!error.is_permanent(), "{error}");
}

#[tokio::test]
async fn what_has_arrived_otherwise_than_it_was_sent_may_be_sent_again() {
    for code in ["BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"] {
        let (endpoint, _) = server(vec![refusal("400 Bad Request", code)]).await;
        let error = store(&endpoint).put("a", Bytes::from_static(b"x")).await.unwrap_err();
        assert!(!error.is_permanent(), "{error}");
        assert!(error.to_string().ends_with(&format!("could not take an object now: The words of {code}")), "{error}");
    }
}

#[tokio::test]
async fn what_is_said_of_one_object_among_others_is_understood_as_well() {
    let entry = "<Key>a/b</Key><LastModified>2026-11-25T12:00:00.000Z</LastModified><Size>1</Size>";
    let list = answer("200 OK", &format!("<ListBucketResult><Contents>{entry}</Contents></ListBucketResult>"));
    for (code, is_permanent, words) in [
        ("ServiceUnavailable", Some(false), "could not delete objects now: The words of ServiceUnavailable"),
        ("AccessDenied", Some(true), "refuses to delete objects (AccessDenied)"),
        // Some say so of what somebody else has deleted.
        ("NoSuchKey", None, ""),
    ] {
        let error = format!("<Error><Key>a/b</Key><Code>{code}</Code><Message>The words of {code}</Message></Error>");
        let deletion = answer("200 OK", &format!("<DeleteResult>{error}</DeleteResult>"));
        let (endpoint, _) = server(vec![list.clone(), deletion]).await;
        let error = store(&endpoint).delete_below("a").await.err();
        assert_eq!(error.as_ref().map(Error::is_permanent), is_permanent, "{error:?}");
        assert!(error.is_none_or(|error| error.to_string().ends_with(words)), "{code}");
    }
}

#[tokio::test]
async fn nobody_there_may_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = store(&endpoint).size("a").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && !error.is_permanent(), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn silence_ends_a_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let error = store(&endpoint).size("a").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("nothing came"), "{error}");
}

#[tokio::test]
async fn a_broken_download_is_taken_up_where_it_broke() {
    let headers = "last-modified: Wed, 25 Nov 2026 12:00:00 GMT\r\netag: \"e\"\r\nconnection: close";
    let first = format!("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n{headers}\r\n\r\nabc");
    let second = format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 3\r\ncontent-range: bytes 3-5/6\r\n{headers}\r\n\r\ndef"
    );
    let (endpoint, requests) = server(vec![first, second]).await;
    assert_eq!(store(&endpoint).get("a", 10).await.unwrap(), "abcdef");
    assert_eq!(requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn keys_that_could_mean_something_else_are_refused() {
    let (endpoint, requests) = server(vec![answer("200 OK", "")]).await;
    for key in ["", "/", "a//b", "a/../b", "..", "a/./b"] {
        let store = store(&endpoint);
        assert!(matches!(store.delete_below(key).await, Err(Error::Key { .. })), "{key:?}");
        assert!(matches!(store.put(key, Bytes::new()).await, Err(Error::Key { .. })), "{key:?}");
    }
    assert!(requests.lock().unwrap().is_empty());
}
