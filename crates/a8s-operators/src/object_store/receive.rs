//! A body on its way to a file: in pieces, checked, synced.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures::StreamExt;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};

use super::backend::{Backend, Content};
use super::files::NewFile;
use super::protocol::{blocking, refusal};

/// So much is taken together before it is written.
const BATCH: usize = 128 << 10;
/// S3's checksums, by the end of their headers' names.
const CHECKSUMS: [&str; 5] = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"];

/// What a body must be.
pub struct Expected<'a> {
    /// Of the request.
    pub headers: &'a HeaderMap,
    /// Those that come after the body, if any do.
    pub trailers: Option<&'a TrailingHeaders>,
    /// `Content-MD5`, in base 64.
    pub md5: Option<&'a str>,
    /// The hash that the content was signed with, if it may become the ETag.
    pub signed: Option<&'a str>,
}

/// SHA-256 of a body that was signed as a whole, in hexadecimal. The protocol compares it while the body comes.
pub fn signed_hash(headers: &HeaderMap) -> Option<&str> {
    let hash = headers.get("x-amz-content-sha256")?.to_str().ok()?;
    (hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hash)
}

fn header_of(checksum: &str) -> String {
    format!("x-amz-checksum-{checksum}")
}

impl Expected<'_> {
    /// Whether a checksum comes with the body, before or after it.
    fn has(&self, checksum: &str) -> bool {
        let name = header_of(checksum);
        let announced = self.headers.get("x-amz-trailer").and_then(|value| value.to_str().ok());
        let announced = announced.unwrap_or_default().split(',');
        self.headers.contains_key(&name) || announced.map(str::trim).any(|trailer| trailer.eq_ignore_ascii_case(&name))
    }

    fn hasher(&self) -> ChecksumHasher {
        ChecksumHasher {
            crc32: self.has("crc32").then(Crc32::new),
            crc32c: self.has("crc32c").then(Crc32c::new),
            sha1: self.has("sha1").then(Sha1::new),
            sha256: self.has("sha256").then(Sha256::new),
            crc64nvme: self.has("crc64nvme").then(Crc64Nvme::new),
        }
    }

    /// MD5 takes as long as all else that is done with a body, so it is made only where somebody may ask for it. Clients
    /// that know the ETag of one part as MD5 leave one alone that has a number of parts, as that of S3's uploads in parts
    /// has; MinIO's `--no-compat` does the same.
    fn etag(&self) -> Etag {
        match self.signed {
            Some(hash) if self.md5.is_none() => Etag::Known(format!("{}-1", &hash[..32])),
            _ => Etag::Md5(Md5::new()),
        }
    }

    /// Compares what came with what should have come.
    fn check(&self, etag: &str, found: &Checksum) -> S3Result<()> {
        let md5 = self.md5.map(|expected| STANDARD.decode(expected).map(|md5| HEXLOWER.encode(&md5)));
        if md5.is_some_and(|md5| md5.as_deref() != Ok(etag)) {
            return Err(s3_error!(BadDigest, "The content is not the one that Content-MD5 speaks of"));
        }
        let trailers = self.trailers.and_then(|trailers| trailers.read(Clone::clone)).unwrap_or_default();
        for checksum in CHECKSUMS.into_iter().filter(|checksum| self.has(checksum)) {
            let name = header_of(checksum);
            let expected =
                trailers.get(&name).or_else(|| self.headers.get(&name)).and_then(|value| value.to_str().ok());
            if expected != value(found, checksum) {
                return Err(S3Error::with_message(
                    S3ErrorCode::BadDigest,
                    format!("The content is not the one that {name} speaks of"),
                ));
            }
        }
        Ok(())
    }
}

fn value<'a>(found: &'a Checksum, checksum: &str) -> Option<&'a str> {
    let value = match checksum {
        "crc32" => &found.checksum_crc32,
        "crc32c" => &found.checksum_crc32c,
        "crc64nvme" => &found.checksum_crc64nvme,
        "sha1" => &found.checksum_sha1,
        _ => &found.checksum_sha256,
    };
    value.as_deref()
}

/// What an object's ETag will be.
enum Etag {
    Known(String),
    Md5(Md5),
}

impl Etag {
    fn finalize(self) -> String {
        match self {
            Self::Known(etag) => etag,
            Self::Md5(md5) => HEXLOWER.encode(&md5.finalize()),
        }
    }
}

struct Sink {
    file: NewFile,
    etag: Etag,
    checksums: ChecksumHasher,
}

impl Sink {
    fn write(&mut self, batch: &[Bytes]) -> S3Result<()> {
        for piece in batch {
            self.file.write(piece).map_err(refusal)?;
            if let Etag::Md5(md5) = &mut self.etag {
                md5.update(piece);
            }
            self.checksums.update(piece);
        }
        Ok(())
    }
}

/// Takes a body. What it returns is on the disk; whatever goes wrong leaves nothing.
pub async fn receive(
    backend: &Backend,
    body: Option<StreamingBlob>,
    expected: &Expected<'_>,
) -> S3Result<(Content, Checksum)> {
    let (creating, checksums) = (backend.clone(), expected.hasher());
    let file = blocking(move || creating.create_file().map_err(refusal)).await?;
    let mut sink = Sink { file, etag: expected.etag(), checksums };
    let (mut batch, mut length) = (Vec::new(), 0);
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| broken(&error.to_string()))?;
            length += piece.len();
            batch.push(piece);
            if length >= BATCH {
                sink = write(sink, std::mem::take(&mut batch)).await?;
                length = 0;
            }
        }
    }
    sink = write(sink, batch).await?;
    let Sink { mut file, etag, checksums } = sink;
    let (etag, found) = (etag.finalize(), checksums.finalize());
    expected.check(&etag, &found)?;
    let file = blocking(move || file.sync().map_err(refusal).map(|()| file)).await?;
    Ok((Content { file, etag }, found))
}

async fn write(mut sink: Sink, batch: Vec<Bytes>) -> S3Result<Sink> {
    blocking(move || sink.write(&batch).map(|()| sink)).await
}

/// The protocol's streams say only in words what is wrong with them.
fn broken(words: &str) -> S3Error {
    if words.contains("Sha256Mismatch") {
        return S3Error::with_message(
            S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
            "The content is not the one that x-amz-content-sha256 speaks of",
        )
        .with_status(http::StatusCode::BAD_REQUEST);
    }
    if words.contains("SignatureMismatch") {
        return s3_error!(SignatureDoesNotMatch, "A piece of the body is not signed as it should be");
    }
    s3_error!(IncompleteBody, "The body ended before its announced length")
}

/// A status for codes that the protocol library does not know.
trait WithStatus {
    fn with_status(self, status: http::StatusCode) -> Self;
}

impl WithStatus for S3Error {
    fn with_status(mut self, status: http::StatusCode) -> Self {
        self.set_status_code(status);
        self
    }
}
