//! The store as its clients see it, and as a crash leaves it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::MultipartStore as _;
use object_store::signer::Signer as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload};
use proptest::prelude::*;
use s3s::crypto::{Checksum as _, Md5};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::backend::{Backend, Claim, Condition, Content};
use super::index::Description;
use super::listing::{Entry, Query};
use super::{Error, crash, server};
use crate::store::{Config, Credentials, Limits, Names, Store};

const BUCKET: &str = "bucket";
const PART: usize = 5 << 20;

fn content(backend: &Backend, bytes: &[u8]) -> Result<Content, Error> {
    let mut file = backend.create_file()?;
    // In two pieces, so that one can die between them.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write(first)?;
    file.write(second)?;
    file.sync()?;
    Ok(Content { file, etag: HEXLOWER.encode(&Md5::checksum(bytes)) })
}

fn put(backend: &Backend, key: &str, bytes: &[u8]) -> Result<String, Error> {
    let content = content(backend, bytes)?;
    Ok(backend.put(BUCKET, key, content, Description::default(), &Condition::None)?.etag)
}

fn read(backend: &Backend, key: &str) -> Option<Vec<u8>> {
    let (object, _pinned) = match backend.get(BUCKET, key) {
        Err(Error::NoSuchKey) => return None,
        found => found.unwrap(),
    };
    let mut all = Vec::new();
    for segment in &object.segments {
        std::io::Read::read_to_end(&mut backend.read(segment.file).unwrap(), &mut all).unwrap();
    }
    assert_eq!(all.len() as u64, object.size);
    Some(all)
}

fn files(directory: &Path) -> usize {
    fs_err::read_dir(directory.join("files")).unwrap().count()
}

fn opened() -> (TempDir, Backend) {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::open(directory.path()).unwrap();
    backend.create_bucket(BUCKET).unwrap();
    (directory, backend)
}

/// Runs `work` on a store that `prepare` made, dying at every point once, and looks at what is there afterwards.
/// `look` gets whether the work was acknowledged. Returns the points.
fn dying<P>(
    prepare: impl Fn(&Backend) -> P,
    work: impl Fn(&Backend, &P) -> Result<(), Error>,
    look: impl Fn(&Backend, &Path, bool),
) -> Vec<&'static str> {
    for point in 0.. {
        let (directory, backend) = opened();
        let prepared = prepare(&backend);
        crash::arm(Some(point));
        let result = work(&backend, &prepared);
        let (died, passed) = (crash::died(), crash::passed());
        drop(backend);
        crash::arm(None);
        look(&Backend::open(directory.path()).unwrap(), directory.path(), result.is_ok());
        if !died {
            assert!(result.is_ok(), "{result:?}");
            assert_eq!(point, passed.len(), "every point was hit");
            return passed;
        }
    }
    unreachable!("a counter ends only with its type")
}

#[test]
fn a_store_whose_index_is_gone_keeps_its_objects() {
    let (directory, backend) = opened();
    put(&backend, "key", b"value").unwrap();
    drop(backend);
    let (index, aside) = (directory.path().join("index.redb"), directory.path().join("aside"));
    fs_err::rename(&index, &aside).unwrap();
    for _ in 0..2 {
        let refused = Backend::open(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("there are objects"), "{refused}");
        assert_eq!(files(directory.path()), 1);
    }
    fs_err::rename(&aside, &index).unwrap();
    assert_eq!(read(&Backend::open(directory.path()).unwrap(), "key").unwrap(), b"value");
}

#[test]
fn a_write_that_died_anywhere_leaves_the_old_or_the_new() {
    let points = dying(
        |backend| put(backend, "key", b"old").unwrap(),
        |backend, _| put(backend, "key", b"the new one").map(drop),
        |backend, directory, acknowledged| {
            let found = read(backend, "key").unwrap();
            assert!(found == b"the new one" || (found == b"old" && !acknowledged), "{found:?}");
            assert_eq!(files(directory), 1, "nothing else is left");
        },
    );
    let order = ["create the file", "write", "write", "sync the file", "sync the directory", "commit", "committed"];
    assert_eq!(points[..7], order, "synced before it is found");
    assert_eq!(points[7..], ["remove an old file"]);
}

#[test]
fn a_completion_that_died_anywhere_leaves_the_parts_or_the_object() {
    let parts = [vec![1; PART], vec![2; 10]];
    let claims = |backend: &Backend, id: &str| {
        backend
            .parts(BUCKET, "key", id)
            .unwrap()
            .into_iter()
            .map(|(number, part)| Claim { number, etag: part.etag })
            .collect::<Vec<_>>()
    };
    dying(
        |backend| {
            put(backend, "key", b"old").unwrap();
            let id = backend.begin(BUCKET, "key", Description::default()).unwrap();
            for (number, part) in (1..).zip(&parts) {
                backend.put_part(BUCKET, "key", &id, number, content(backend, part).unwrap()).unwrap();
            }
            id
        },
        |backend, id| backend.complete(BUCKET, "key", id, &claims(backend, id), &Condition::None).map(drop),
        |backend, directory, acknowledged| {
            let uploads = backend.uploads(BUCKET).unwrap();
            let found = read(backend, "key").unwrap();
            if found == parts.concat() {
                assert!(uploads.is_empty());
                assert_eq!(files(directory), 2);
            } else {
                assert!(found == b"old" && !acknowledged && uploads.len() == 1);
                assert_eq!(files(directory), 3);
                let id = &uploads[0].0;
                backend.complete(BUCKET, "key", id, &claims(backend, id), &Condition::None).unwrap();
                assert_eq!(read(backend, "key").unwrap(), parts.concat());
            }
        },
    );
}

#[test]
fn a_part_a_deletion_and_an_abort_that_died_anywhere_are_done_or_not() {
    dying(
        |backend| backend.begin(BUCKET, "key", Description::default()).unwrap(),
        |backend, id| backend.put_part(BUCKET, "key", id, 1, content(backend, b"part")?).map(drop),
        |backend, directory, acknowledged| {
            let id = backend.uploads(BUCKET).unwrap()[0].0.clone();
            let parts = backend.parts(BUCKET, "key", &id).unwrap();
            assert_eq!(files(directory), parts.len());
            assert!(!acknowledged || parts.len() == 1);
        },
    );
    dying(
        |backend| put(backend, "key", b"x").unwrap(),
        |backend, _| backend.delete(BUCKET, &["key"], &Condition::None),
        |backend, directory, acknowledged| {
            let found = read(backend, "key");
            assert!(!acknowledged || found.is_none());
            assert_eq!(files(directory), usize::from(found.is_some()));
        },
    );
    dying(
        |backend| {
            let id = backend.begin(BUCKET, "key", Description::default()).unwrap();
            backend.put_part(BUCKET, "key", &id, 1, content(backend, b"part").unwrap()).unwrap();
            id
        },
        |backend, id| backend.abort(id),
        |backend, directory, acknowledged| {
            let left = backend.uploads(BUCKET).unwrap().len();
            assert!(!acknowledged || left == 0);
            assert_eq!(files(directory), left);
        },
    );
}

#[test]
fn whoever_reads_an_object_reads_all_of_it_though_it_is_replaced() {
    let (directory, backend) = opened();
    put(&backend, "key", b"old").unwrap();
    let (object, pinned) = backend.get(BUCKET, "key").unwrap();
    put(&backend, "key", b"new").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut backend.read(object.segments[0].file).unwrap(), &mut text).unwrap();
    assert_eq!((text.as_str(), files(directory.path())), ("old", 2));
    drop(pinned);
    assert_eq!(files(directory.path()), 1);
}

#[test]
fn keys_are_never_paths() {
    let (directory, backend) = opened();
    let keys =
        ["../../escape", "/etc/passwd", ".", "..", "a//b", "a/./b", "ключ/日本", "line\nbreak", "nul\0", "%2e%2e", " "];
    for key in keys {
        put(&backend, key, key.as_bytes()).unwrap();
    }
    for key in keys {
        assert_eq!(read(&backend, key).unwrap(), key.as_bytes());
    }
    let here: Vec<_> = fs_err::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(here.iter().collect::<BTreeSet<_>>().len(), 2, "{here:?}");
    assert!(!directory.path().join("../escape").exists());
    assert_eq!(files(directory.path()), keys.len());
}

#[test]
fn conditions_hold_at_the_moment_of_the_change() {
    let (directory, backend) = opened();
    let try_put = |condition| {
        let content = content(&backend, b"x").unwrap();
        backend.put(BUCKET, "key", content, Description::default(), &condition)
    };
    assert!(matches!(try_put(Condition::Present), Err(Error::NoSuchKey)));
    let etag = try_put(Condition::Absent).unwrap().etag;
    assert!(matches!(try_put(Condition::Absent), Err(Error::Precondition)));
    assert!(matches!(try_put(Condition::Is("another".into())), Err(Error::Precondition)));
    try_put(Condition::Is(etag)).unwrap();
    assert_eq!(files(directory.path()), 1);
}

/// What S3 says a listing is, without pages.
fn listed(keys: &BTreeSet<String>, prefix: &str, delimiter: &str) -> Vec<String> {
    let mut names = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        let rest = &key[prefix.len()..];
        let end = if delimiter.is_empty() { None } else { rest.find(delimiter) };
        names.push(end.map_or(key.clone(), |end| format!("{prefix}{}", &rest[..end + delimiter.len()])));
    }
    names.dedup();
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pages_of_any_length_together_are_the_listing(
        keys in proptest::collection::btree_set("[ab/é]{1,6}", 1..30),
        prefix in "[ab/]{0,2}",
        delimiter in "(/|b|)",
        limit in 1_usize..5,
    ) {
        let (_directory, backend) = opened();
        for key in &keys {
            put(&backend, key, b"").unwrap();
        }
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let query = Query { prefix: &prefix, delimiter: &delimiter, after: &after, limit };
            let page = backend.list(BUCKET, &query).unwrap();
            prop_assert!(page.entries.len() <= limit);
            names.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
            if !page.is_truncated {
                break;
            }
            prop_assert_eq!(page.entries.len(), limit);
            after = page.entries.last().map(Entry::name).unwrap().to_owned();
        }
        prop_assert_eq!(names, listed(&keys, &prefix, &delimiter));
    }
}

/// A store that serves, and its clients.
struct Served {
    directory: TempDir,
    endpoint: String,
}

impl Served {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let credentials = directory.path().join("credentials");
        fs_err::create_dir(&credentials).unwrap();
        fs_err::write(credentials.join("access-key-id"), "key\n").unwrap();
        fs_err::write(credentials.join("secret-access-key"), "secret\n").unwrap();
        let backend = Backend::open(&directory.path().join("data")).unwrap();
        backend.create_bucket(BUCKET).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(server::serve(listener, server::service(backend, &credentials)));
        Self { directory, endpoint }
    }

    fn store(&self, access_key: &str, secret_key: &str, bucket: &str) -> Store {
        let config = Config {
            bucket: bucket.to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: Some(self.endpoint.clone()),
            path_style: true,
        };
        let credentials = Credentials { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() };
        let limits = Limits { silence: Duration::from_secs(10), patience: Duration::from_secs(5) };
        Store::new(&config, &credentials, Names::system(), limits).unwrap()
    }

    fn ours(&self) -> Store {
        self.store("key", "secret", BUCKET)
    }

    /// The foreign client, without our own around it.
    fn foreign(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_http_connector(crate::store::connector_for_tests())
            .with_allow_http(true)
            .with_endpoint(&self.endpoint)
            .with_region("eu-central-1")
            .with_bucket_name(BUCKET)
            .with_access_key_id("key")
            .with_secret_access_key("secret")
            .with_checksum_algorithm(object_store::aws::Checksum::SHA256)
            .build()
            .unwrap()
    }

    fn files(&self) -> usize {
        files(&self.directory.path().join("data"))
    }

    /// Sends bytes as they are; what comes back.
    async fn raw(&self, request: &[u8]) -> String {
        self.exchange(request, false).await
    }

    /// Sends bytes, and nothing more ever.
    async fn cut_off(&self, request: &[u8]) -> String {
        self.exchange(request, true).await
    }

    async fn exchange(&self, request: &[u8], is_cut_off: bool) -> String {
        let mut stream = TcpStream::connect(self.endpoint.trim_start_matches("http://")).await.unwrap();
        stream.write_all(request).await.unwrap();
        if is_cut_off {
            stream.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends an object in parts, each of some pieces. Nothing of it is there before all of them are.
    async fn put_in_parts(&self, key: &str, parts: impl IntoIterator<Item = Vec<Bytes>>) {
        let (client, path) = (self.foreign(), object_store::path::Path::from(key));
        let id = client.create_multipart(&path).await.unwrap();
        let mut sent = Vec::new();
        for (number, pieces) in parts.into_iter().enumerate() {
            sent.push(client.put_part(&path, &id, number, PutPayload::from_iter(pieces)).await.unwrap());
        }
        assert_eq!(self.ours().size(key).await.unwrap(), None);
        client.complete_multipart(&path, &id, sent).await.unwrap();
    }

    async fn signed(&self, method: http::Method, key: &str) -> String {
        let url = self.foreign().signed_url(method, &key.into(), Duration::from_secs(60)).await.unwrap();
        format!("{}?{}", url.path(), url.query().unwrap())
    }
}

impl Served {
    fn request(&self, method: &str, target: &str, headers: &str, body: &str) -> Vec<u8> {
        let host = self.endpoint.trim_start_matches("http://");
        format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n{body}").into_bytes()
    }
}

#[tokio::test]
async fn a_foreign_client_finds_what_it_put() {
    let served = Served::new().await;
    let client = served.foreign();
    let path = object_store::path::Path::from("some/ключ with spaces");
    client.put(&path, "0123456789".into()).await.unwrap();
    let meta = client.head(&path).await.unwrap();
    assert_eq!(meta.size, 10);
    assert_eq!(client.get_range(&path, 3..6).await.unwrap(), "345");
    let ranges = client.get_ranges(&path, &[0..1, 9..10]).await.unwrap();
    assert_eq!(ranges, ["0", "9"]);
    let again = client.put_opts(&path, "x".into(), PutMode::Create.into()).await;
    assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
    client.delete(&path).await.unwrap();
    assert!(matches!(client.get(&path).await, Err(object_store::Error::NotFound { .. })));
    assert_eq!(served.files(), 0);
}

#[tokio::test]
async fn large_objects_go_in_parts_and_come_back_whole() {
    let served = Served::new().await;
    let piece: Bytes = (0..1 << 20).map(|at: u32| (at / 7) as u8).collect::<Vec<_>>().into();
    served.put_in_parts("a/large", [5, 5, 2].map(|pieces| vec![piece.clone(); pieces])).await;
    assert_eq!(served.files(), 3);
    let meta = served.foreign().head(&"a/large".into()).await.unwrap();
    assert!(meta.e_tag.unwrap().ends_with("-3\""));
    assert!(served.ours().get("a/large", 13 << 20).await.unwrap().chunks(1 << 20).all(|chunk| chunk == piece));
    let across = served.foreign().get_range(&"a/large".into(), (5 << 20) - 1..(5 << 20) + 1).await.unwrap();
    assert_eq!(across, [*piece.last().unwrap(), piece[0]].as_slice());
}

#[tokio::test]
async fn three_thousand_keys_are_listed_and_deleted() {
    let served = Served::new().await;
    let store = served.ours();
    let backend_keys: Vec<String> = (0..3000).map(|number| format!("n/x/{number:05}")).collect();
    for batch in backend_keys.chunks(50) {
        futures::future::try_join_all(batch.iter().map(|key| store.put(key, Bytes::from_static(b"1")))).await.unwrap();
    }
    store.put("n/xy", Bytes::new()).await.unwrap();
    let listed: Vec<String> = store.list("n/x").await.unwrap().into_iter().map(|entry| entry.key).collect();
    assert_eq!(listed, backend_keys);
    assert_eq!(store.list_all().await.unwrap().len(), 3001);
    let grouped = served.foreign().list_with_delimiter(Some(&"n".into())).await.unwrap();
    assert_eq!((grouped.objects.len(), grouped.common_prefixes.len()), (1, 1));
    assert_eq!(store.delete_below("n/x").await.unwrap(), 3000);
    assert_eq!(store.list("n").await.unwrap().len(), 1, "n/xy is not below n/x");
    assert_eq!(store.delete_below("n/x").await.unwrap(), 0);
}

#[tokio::test]
async fn uploads_at_the_same_time_do_not_mix() {
    let served = Served::new().await;
    let (served, store) = (&served, served.ours());
    let uploads = (0..8_u8).map(|number| async move {
        let piece = Bytes::from(vec![number; 1 << 20]);
        let parts = [5, 1].map(|pieces| vec![piece.clone(); pieces]);
        served.put_in_parts(&format!("at-once/{number}"), parts).await;
    });
    futures::future::join_all(uploads).await;
    for number in 0..8 {
        let found = store.get(&format!("at-once/{number}"), 7 << 20).await.unwrap();
        assert!(found.len() == 6 << 20 && found.iter().all(|byte| *byte == number));
    }
}

#[tokio::test]
async fn strangers_are_refused_and_told_apart() {
    let served = Served::new().await;
    let wrong = |store: Store| async move { store.list("a").await.unwrap_err().to_string() };
    let told = wrong(served.store("key", "guess", BUCKET)).await;
    assert!(told.ends_with("does not accept the credentials (SignatureDoesNotMatch)"), "{told}");
    let told = wrong(served.store("nobody", "secret", BUCKET)).await;
    assert!(told.ends_with("does not accept the credentials (InvalidAccessKeyId)"), "{told}");
    let told = wrong(served.store("key", "secret", "another")).await;
    assert!(told.ends_with("has no bucket another"), "{told}");
    let unsigned = served.raw(&served.request("GET", "/bucket/a", "", "")).await;
    assert!(unsigned.starts_with("HTTP/1.1 403") && unsigned.contains("AccessDenied"), "{unsigned}");
    let second = served.raw(&served.request("GET", "/bucket/a", "authorization: AWS key:c2ln\r\n", "")).await;
    assert!(second.starts_with("HTTP/1.1 400") && second.contains("version 4"), "{second}");
    let health = served.raw(&served.request("GET", server::HEALTH, "", "")).await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
}

#[tokio::test]
async fn a_refusal_is_heard_though_much_was_still_to_be_sent() {
    let served = Served::new().await;
    let large = Bytes::from(vec![0; 8 << 20]);
    for (store, words) in [
        (served.store("key", "secret", "another"), "has no bucket another"),
        (served.store("key", "guess", BUCKET), "(SignatureDoesNotMatch)"),
    ] {
        for _ in 0..5 {
            let told = store.put("a", large.clone()).await.unwrap_err().to_string();
            assert!(told.ends_with(words), "{told}");
        }
    }
    // Who waits to be asked for the body is told at once, and that the connection ends.
    let target = served.signed(http::Method::PUT, "a").await.replace("/a?", "/b?");
    let told = served.raw(&served.request("PUT", &target, "content-length: 9\r\nexpect: 100-continue\r\n", "")).await;
    assert!(told.starts_with("HTTP/1.1 403") && told.contains("connection: close"), "{told}");
}

#[tokio::test]
async fn new_credentials_count_at_once() {
    let served = Served::new().await;
    fs_err::write(served.directory.path().join("credentials/secret-access-key"), "changed").unwrap();
    assert!(served.ours().list("a").await.unwrap_err().is_permanent());
    served.store("key", "changed", BUCKET).list("a").await.unwrap();
}

#[tokio::test]
async fn a_signed_url_is_good_for_what_was_signed_only() {
    let served = Served::new().await;
    let target = served.signed(http::Method::PUT, "a").await;
    let put = |target: String, method: &'static str| served.request(method, &target, "content-length: 5\r\n", "hello");
    let answer = served.raw(&put(target.clone(), "PUT")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for tampered in [target.replace("/a?", "/b?"), target.replace("X-Amz-Expires=60", "X-Amz-Expires=61")] {
        let answer = served.raw(&put(tampered, "PUT")).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("SignatureDoesNotMatch"), "{answer}");
    }
    let answer = served.raw(&put(target, "DELETE")).await;
    assert!(answer.contains("SignatureDoesNotMatch"), "{answer}");
    assert_eq!(served.ours().get("a", 10).await.unwrap(), "hello");
}

#[tokio::test]
async fn an_etag_is_the_md5_unless_the_content_was_signed() {
    let served = Served::new().await;
    let target = served.signed(http::Method::PUT, "a").await;
    let md5 = "5d41402abc4b2a76b9719d911017c592";
    for (headers, is_md5) in [
        ("", true),
        ("x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n", true),
        // SHA-256 of the body.
        ("x-amz-content-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n", false),
        (
            "content-md5: XUFAKrxLKna5cZ2REBfFkg==\r\n\
             x-amz-content-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n",
            true,
        ),
    ] {
        let headers = format!("content-length: 5\r\n{headers}");
        let answer = served.raw(&served.request("PUT", &target, &headers, "hello")).await;
        let expected = if is_md5 { md5.to_owned() } else { "2cf24dba5fb0a30e26e83b2ac5b9e29e-1".to_owned() };
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("\"{expected}\"")),
            "{headers}: {answer}"
        );
    }
    let wrong = "content-length: 5\r\nx-amz-content-sha256: \
                 0000000000000000000000000000000000000000000000000000000000000000\r\n";
    let answer = served.raw(&served.request("PUT", &target, wrong, "hello")).await;
    assert!(answer.contains("XAmzContentSHA256Mismatch"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_cut_off_or_not_what_was_said_leaves_what_was_there() {
    let served = Served::new().await;
    served.ours().put("a", Bytes::from_static(b"old")).await.unwrap();
    let target = served.signed(http::Method::PUT, "a").await;
    let cut = served.cut_off(&served.request("PUT", &target, "content-length: 10\r\n", "half")).await;
    assert!(!cut.starts_with("HTTP/1.1 200"), "{cut}");
    for headers in
        ["content-md5: 1B2M2Y8AsgTpgAmY7PhCfg==", "x-amz-checksum-crc32: AAAAAA==", "x-amz-checksum-sha1: AA=="]
    {
        let headers = format!("content-length: 5\r\n{headers}\r\n");
        let answer = served.raw(&served.request("PUT", &target, &headers, "hello")).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("BadDigest"), "{answer}");
    }
    assert_eq!(served.ours().get("a", 10).await.unwrap(), "old");
    assert_eq!(served.files(), 1);
}

#[tokio::test]
async fn parts_are_what_s3_wants_them_to_be() {
    let served = Served::new().await;
    let (client, path) = (served.foreign(), object_store::path::Path::from("a"));
    let id = client.create_multipart(&path).await.unwrap();
    let mut parts = Vec::new();
    for number in 0..2 {
        parts.push(client.put_part(&path, &id, number, PutPayload::from_static(b"small")).await.unwrap());
    }
    let error = client.complete_multipart(&path, &id, parts).await.unwrap_err().to_string();
    assert!(error.contains("EntityTooSmall"), "{error}");
    client.abort_multipart(&path, &id).await.unwrap();
    assert_eq!(served.files(), 0);
    let error = client.put_part(&path, &id, 0, PutPayload::from_static(b"late")).await.unwrap_err().to_string();
    assert!(error.contains("NoSuchUpload"), "{error}");
}

#[test]
fn the_environment_says_where_everything_is() {
    let variables: BTreeMap<&str, &str> =
        [("POD_IP", "127.64.0.9"), ("A9S_MOUNT_DATA", "/somewhere"), ("A9S_OBJECT_STORE_BUCKETS", "one, two")].into();
    let environment = server::Environment::read(&|name| variables.get(name).map(|value| (*value).to_owned())).unwrap();
    assert_eq!(environment.data, Path::new("/somewhere"));
    assert_eq!(environment.credentials, Path::new("/run/secrets/a9s/object-store"));
    assert_eq!(environment.buckets, ["one", "two"]);
}
