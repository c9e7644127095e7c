//! S3's operations over the backend. What is not here is answered `NotImplemented`.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream::{self, Stream};
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::Error;
use super::backend::{Backend, Claim, Condition};
use super::files::Pinned;
use super::index::{Description, Object as Stored, Segment, Upload};
use super::listing::{Entry, Page, Query};
use super::receive::{Expected, receive, signed_hash};

/// S3's longest page.
const LONGEST_PAGE: i32 = 1000;
/// Pieces in which content is sent.
const PIECE: u64 = 128 << 10;
/// S3's largest body of one request.
const LARGEST_BODY: i64 = 5 << 30;
const HIGHEST_PART: i32 = 10_000;

/// Runs what blocks where it may.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> S3Result<T> + Send + 'static) -> S3Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(s3_error!(InternalError, "The store is ending")),
    }
}

/// The backend's refusals in S3's codes.
pub fn refusal(error: Error) -> S3Error {
    let code = match &error {
        Error::NoSuchBucket => S3ErrorCode::NoSuchBucket,
        Error::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
        Error::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
        Error::NoSuchKey => S3ErrorCode::NoSuchKey,
        Error::NoSuchUpload => S3ErrorCode::NoSuchUpload,
        Error::InvalidPart => S3ErrorCode::InvalidPart,
        Error::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
        Error::PartTooSmall => S3ErrorCode::EntityTooSmall,
        Error::Precondition => S3ErrorCode::PreconditionFailed,
        // As MinIO calls it; S3 itself is never full.
        Error::Full => S3ErrorCode::Custom("XMinioStorageFull".into()),
        Error::Disk(_) | Error::Index(_) | Error::Damaged(_) => S3ErrorCode::InternalError,
    };
    if code == S3ErrorCode::InternalError {
        tracing::error!("{}", crate::chain(&error));
    }
    let mut refusal = S3Error::with_message(code, error.to_string());
    if matches!(error, Error::Full) {
        refusal.set_status_code(http::StatusCode::INSUFFICIENT_STORAGE);
    }
    refusal
}

/// The store as the protocol's library wants it.
#[derive(Debug)]
pub struct Protocol {
    backend: Backend,
}

impl Protocol {
    /// The protocol over a backend.
    pub fn new(backend: Backend) -> Self {
        Self { backend }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Backend) -> Result<T, Error> + Send + 'static,
    ) -> S3Result<T> {
        let backend = self.backend.clone();
        blocking(move || work(&backend).map_err(refusal)).await
    }
}

fn done<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

fn moment(milliseconds: u64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_millis(milliseconds)).into()
}

fn condition(if_match: Option<&ETagCondition>, if_none_match: Option<&ETagCondition>) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::None),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::Any), None) => Ok(Condition::Present),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::Is(etag.value().to_owned())),
        _ => Err(s3_error!(NotImplemented, "This condition is not implemented")),
    }
}

/// Whether a reader wants the object: RFC 9110, 13.2.2.
fn wanted(
    object: &Stored,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    if_unmodified_since: Option<&Timestamp>,
    if_modified_since: Option<&Timestamp>,
) -> S3Result<()> {
    let is = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    };
    // Headers have whole seconds.
    let modified = moment(object.modified / 1000 * 1000);
    let is_as_wanted = match (if_match, if_unmodified_since) {
        (Some(condition), _) => is(condition),
        (None, Some(since)) => modified <= *since,
        (None, None) => true,
    };
    if !is_as_wanted {
        return Err(s3_error!(PreconditionFailed));
    }
    let is_known = match (if_none_match, if_modified_since) {
        (Some(condition), _) => is(condition),
        (None, Some(since)) => modified <= *since,
        (None, None) => false,
    };
    if is_known { Err(s3_error!(NotModified)) } else { Ok(()) }
}

fn description(
    content_type: Option<String>,
    content_encoding: Option<String>,
    metadata: Option<Metadata>,
) -> Description {
    // The piecewise encoding is the transport's, not the object's.
    let encodings = content_encoding.unwrap_or_default();
    let own: Vec<&str> =
        encodings.split(',').map(str::trim).filter(|it| !it.is_empty() && *it != "aws-chunked").collect();
    Description {
        content_type,
        content_encoding: Some(own.join(",")).filter(|own| !own.is_empty()),
        metadata: metadata.into_iter().flatten().collect(),
    }
}

fn part_number(number: i32) -> S3Result<u16> {
    match (1..=HIGHEST_PART).contains(&number) {
        true => Ok(number as u16),
        false => Err(s3_error!(InvalidArgument, "Part numbers are from 1 to 10000")),
    }
}

fn fits(length: Option<i64>) -> S3Result<()> {
    match length {
        Some(length) if length > LARGEST_BODY => Err(s3_error!(EntityTooLarge)),
        _ => Ok(()),
    }
}

/// How a client wants keys written that XML can't hold.
struct Encoding(bool);

impl Encoding {
    fn of(encoding: Option<&EncodingType>) -> Self {
        Self(encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL))
    }

    fn answer(&self) -> Option<EncodingType> {
        self.0.then(|| EncodingType::from_static(EncodingType::URL))
    }

    fn write(&self, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        text.bytes().fold(String::new(), |mut written, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => written.push(byte.into()),
                _ => written.push_str(&format!("%{byte:02X}")),
            }
            written
        })
    }
}

/// A page's objects and common prefixes.
fn contents(page: Page, encoding: &Encoding) -> (ObjectList, CommonPrefixList) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    for entry in page.entries {
        match entry {
            Entry::Object(key, stored) => objects.push(Object {
                key: Some(encoding.write(&key)),
                size: Some(stored.size as i64),
                e_tag: Some(ETag::Strong(stored.etag)),
                last_modified: Some(moment(stored.modified)),
                storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
                ..Object::default()
            }),
            Entry::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(encoding.write(&prefix)) }),
        }
    }
    (objects, prefixes)
}

fn limit(asked: Option<i32>) -> S3Result<i32> {
    match asked.unwrap_or(LONGEST_PAGE) {
        ..0 => Err(s3_error!(InvalidArgument, "The length of a page is not negative")),
        asked => Ok(asked.min(LONGEST_PAGE)),
    }
}

/// The parts of the files that make a range of an object.
fn pieces(segments: &[Segment], from: u64, to: u64) -> Vec<(u64, u64, u64)> {
    let mut begin = 0;
    let mut pieces = Vec::new();
    for segment in segments {
        let end = begin + segment.size;
        let (first, last) = (from.max(begin), to.min(end));
        if first < last {
            pieces.push((segment.file, first - begin, last - begin));
        }
        begin = end;
    }
    pieces
}

/// Reads pieces of files, one after the other, and holds on to `pinned` while it does.
fn content(
    backend: Backend,
    pieces: Vec<(u64, u64, u64)>,
    pinned: Pinned,
) -> impl Stream<Item = Result<Bytes, S3Error>> + Send + Sync + 'static {
    let state = (backend, pieces.into_iter(), None::<(fs_err::File, u64, u64)>, pinned);
    stream::try_unfold(state, |(backend, mut pieces, open, pinned)| async move {
        let read = blocking(move || {
            let (file, at, end) = match open {
                Some(open) => open,
                None => match pieces.next() {
                    Some((id, from, to)) => (backend.read(id).map_err(refusal)?, from, to),
                    None => return Ok(None),
                },
            };
            let mut piece = vec![0; PIECE.min(end - at) as usize];
            std::os::unix::fs::FileExt::read_exact_at(file.file(), &mut piece, at)
                .map_err(|error| refusal(Error::Disk(error)))?;
            let at = at + piece.len() as u64;
            let open = (at < end).then_some((file, at, end));
            Ok(Some((Bytes::from(piece), (backend, pieces, open))))
        });
        Ok(read.await?.map(|(piece, (backend, pieces, open))| (piece, (backend, pieces, open, pinned))))
    })
}

#[async_trait::async_trait]
impl S3 for Protocol {
    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = request.input.bucket;
        let location = format!("/{bucket}");
        self.run(move |backend| backend.create_bucket(&bucket)).await?;
        done(CreateBucketOutput { location: Some(location) })
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        let bucket = request.input.bucket;
        self.run(move |backend| backend.require_bucket(&bucket)).await?;
        done(HeadBucketOutput::default())
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let bucket = request.input.bucket;
        self.run(move |backend| backend.require_bucket(&bucket)).await?;
        done(GetBucketLocationOutput::default())
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.run(Backend::buckets).await?;
        let buckets = buckets.into_iter().map(|(name, made)| Bucket {
            name: Some(name),
            creation_date: Some(moment(made)),
            ..Bucket::default()
        });
        done(ListBucketsOutput { buckets: Some(buckets.collect()), ..ListBucketsOutput::default() })
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        let bucket = request.input.bucket;
        self.run(move |backend| backend.delete_bucket(&bucket)).await?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        fits(input.content_length)?;
        let condition = condition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let description = description(input.content_type, input.content_encoding, input.metadata);
        let (bucket, key) = (input.bucket.clone(), input.key);
        // Before the body comes, and again with it.
        self.run(move |backend| backend.require_bucket(&input.bucket)).await?;
        let expected = Expected {
            headers: &request.headers,
            trailers: request.trailing_headers.as_ref(),
            md5: input.content_md5.as_deref(),
            signed: signed_hash(&request.headers),
        };
        let (content, checksum) = receive(&self.backend, input.body, &expected).await?;
        let put = move |backend: &Backend| backend.put(&bucket, &key, content, description, &condition);
        let object = self.run(put).await?;
        done(PutObjectOutput {
            e_tag: Some(ETag::Strong(object.etag)),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..PutObjectOutput::default()
        })
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let HeadObjectInput { bucket, key, if_match, if_none_match, if_unmodified_since, if_modified_since, .. } =
            request.input;
        let object = self.run(move |backend| backend.look(&bucket, &key)).await?;
        wanted(
            &object,
            if_match.as_ref(),
            if_none_match.as_ref(),
            if_unmodified_since.as_ref(),
            if_modified_since.as_ref(),
        )?;
        done(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(object.size as i64),
            content_type: object.description.content_type,
            content_encoding: object.description.content_encoding,
            metadata: Some(object.description.metadata.into_iter().collect()),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(moment(object.modified)),
            ..HeadObjectOutput::default()
        })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        if input.part_number.is_some() {
            return Err(s3_error!(NotImplemented, "Parts of a completed object are not kept apart"));
        }
        let (object, pinned) = self.run(move |backend| backend.get(&input.bucket, &input.key)).await?;
        wanted(
            &object,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
            input.if_unmodified_since.as_ref(),
            input.if_modified_since.as_ref(),
        )?;
        let range = input.range.map(|range| range.check(object.size)).transpose()?;
        let (from, to) = range.as_ref().map_or((0, object.size), |range| (range.start, range.end));
        let content_range = range.map(|range| format!("bytes {}-{}/{}", range.start, range.end - 1, object.size));
        let is_part = content_range.is_some();
        let body = content(self.backend.clone(), pieces(&object.segments, from, to), pinned);
        let output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::wrap(body)),
            content_length: Some((to - from) as i64),
            content_range,
            content_type: object.description.content_type,
            content_encoding: object.description.content_encoding,
            metadata: Some(object.description.metadata.into_iter().collect()),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(moment(object.modified)),
            ..GetObjectOutput::default()
        };
        let status = if is_part { http::StatusCode::PARTIAL_CONTENT } else { http::StatusCode::OK };
        Ok(S3Response::with_status(output, status))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let DeleteObjectInput { bucket, key, if_match, .. } = request.input;
        let condition = condition(if_match.as_ref(), None)?;
        self.run(move |backend| backend.delete(&bucket, &[&key], &condition)).await?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        if delete.objects.len() > LONGEST_PAGE as usize {
            return Err(s3_error!(MalformedXML, "No more than 1000 objects are deleted at a time"));
        }
        if delete.objects.iter().any(|object| object.e_tag.is_some() || object.version_id.is_some()) {
            return Err(s3_error!(NotImplemented, "Objects are deleted by their keys only"));
        }
        let keys: Vec<String> = delete.objects.into_iter().map(|object| object.key).collect();
        let keys = self
            .run(move |backend| {
                let all: Vec<&str> = keys.iter().map(String::as_str).collect();
                backend.delete(&bucket, &all, &Condition::None)?;
                Ok(keys)
            })
            .await?;
        let is_quiet = delete.quiet == Some(true);
        let deleted = keys.into_iter().map(|key| DeletedObject { key: Some(key), ..DeletedObject::default() });
        done(DeleteObjectsOutput { deleted: (!is_quiet).then(|| deleted.collect()), ..DeleteObjectsOutput::default() })
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let (limit, encoding) = (limit(input.max_keys)?, Encoding::of(input.encoding_type.as_ref()));
        let asked = (input.bucket.clone(), input.prefix.clone(), input.delimiter.clone(), input.marker.clone());
        let page = self.page(asked, limit).await?;
        let is_truncated = page.is_truncated;
        let next = page.entries.last().map(|entry| encoding.write(entry.name()));
        let (contents, prefixes) = contents(page, &encoding);
        done(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: input.prefix.map(|prefix| encoding.write(&prefix)),
            delimiter: input.delimiter.map(|delimiter| encoding.write(&delimiter)),
            marker: Some(encoding.write(&input.marker.unwrap_or_default())),
            max_keys: Some(limit),
            is_truncated: Some(is_truncated),
            next_marker: next.filter(|_| is_truncated),
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            encoding_type: encoding.answer(),
            ..ListObjectsOutput::default()
        })
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let (limit, encoding) = (limit(input.max_keys)?, Encoding::of(input.encoding_type.as_ref()));
        let after = match &input.continuation_token {
            Some(token) => Some(token::read(token)?),
            None => input.start_after.clone(),
        };
        let asked = (input.bucket.clone(), input.prefix.clone(), input.delimiter.clone(), after);
        let page = self.page(asked, limit).await?;
        let is_truncated = page.is_truncated;
        let next = page.entries.last().map(|entry| token::write(entry.name()));
        let (contents, prefixes) = contents(page, &encoding);
        done(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix.map(|prefix| encoding.write(&prefix)),
            delimiter: input.delimiter.map(|delimiter| encoding.write(&delimiter)),
            start_after: input.start_after.map(|after| encoding.write(&after)),
            continuation_token: input.continuation_token,
            max_keys: Some(limit),
            key_count: Some((contents.len() + prefixes.len()) as i32),
            is_truncated: Some(is_truncated),
            next_continuation_token: next.filter(|_| is_truncated),
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            encoding_type: encoding.answer(),
            ..ListObjectsV2Output::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let CreateMultipartUploadInput { bucket, key, content_type, content_encoding, metadata, .. } = request.input;
        let description = description(content_type, content_encoding, metadata);
        let place = (bucket.clone(), key.clone());
        let id = self.run(move |backend| backend.begin(&place.0, &place.1, description)).await?;
        done(CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        })
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        fits(input.content_length)?;
        let (number, id) = (part_number(input.part_number)?, input.upload_id);
        let (bucket, key) = (input.bucket, input.key);
        let place = (bucket.clone(), key.clone(), id.clone());
        self.run(move |backend| backend.upload(&place.0, &place.1, &place.2)).await?;
        let expected = Expected {
            headers: &request.headers,
            trailers: request.trailing_headers.as_ref(),
            md5: input.content_md5.as_deref(),
            signed: None,
        };
        let (content, checksum) = receive(&self.backend, input.body, &expected).await?;
        let part = self.run(move |backend| backend.put_part(&bucket, &key, &id, number, content)).await?;
        done(UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag)),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..UploadPartOutput::default()
        })
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let CompleteMultipartUploadInput { bucket, key, upload_id, multipart_upload, if_match, if_none_match, .. } =
            request.input;
        let condition = condition(if_match.as_ref(), if_none_match.as_ref())?;
        let parts = multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let claims = parts.into_iter().map(|part| {
            let number = part_number(part.part_number.unwrap_or_default())?;
            let etag = part.e_tag.map(ETag::into_value).unwrap_or_default();
            Ok(Claim { number, etag })
        });
        let claims: Vec<Claim> = claims.collect::<S3Result<_>>()?;
        let place = (bucket.clone(), key.clone());
        let complete = move |backend: &Backend| backend.complete(&place.0, &place.1, &upload_id, &claims, &condition);
        let object = self.run(complete).await?;
        done(CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{key}")),
            bucket: Some(bucket),
            key: Some(key),
            e_tag: Some(ETag::Strong(object.etag)),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
        self.run(move |backend| {
            backend.upload(&bucket, &key, &upload_id)?;
            backend.abort(&upload_id)
        })
        .await?;
        Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let ListPartsInput { bucket, key, upload_id, max_parts, part_number_marker, .. } = request.input;
        let (limit, after) = (limit(max_parts)?, part_number_marker.unwrap_or_default());
        let place = (bucket.clone(), key.clone(), upload_id.clone());
        let all = self.run(move |backend| backend.parts(&place.0, &place.1, &place.2)).await?;
        let mut parts = all.into_iter().filter(|(number, _)| i32::from(*number) > after).peekable();
        let page: Vec<Part> = parts
            .by_ref()
            .take(limit as usize)
            .map(|(number, part)| Part {
                part_number: Some(number.into()),
                e_tag: Some(ETag::Strong(part.etag)),
                size: Some(part.segment.size as i64),
                last_modified: Some(moment(part.modified)),
                ..Part::default()
            })
            .collect();
        let is_truncated = parts.peek().is_some() && limit > 0;
        done(ListPartsOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(upload_id),
            max_parts: Some(limit),
            part_number_marker: Some(after),
            next_part_number_marker: page.last().and_then(|part| part.part_number).filter(|_| is_truncated),
            is_truncated: Some(is_truncated),
            parts: Some(page),
            ..ListPartsOutput::default()
        })
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(s3_error!(NotImplemented, "Uploads are listed without a delimiter"));
        }
        let (limit, encoding) = (limit(input.max_uploads)?, Encoding::of(input.encoding_type.as_ref()));
        let (bucket, prefix) = (input.bucket.clone(), input.prefix.clone().unwrap_or_default());
        let mut uploads = self
            .run(move |backend| {
                backend.require_bucket(&bucket)?;
                backend.uploads(&bucket)
            })
            .await?;
        uploads.retain(|(_, upload)| upload.key.starts_with(&prefix));
        uploads.sort_by(|left, right| place(left).cmp(&place(right)));
        let after = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
        let mut rest = uploads.into_iter().filter(|upload| follows(place(upload), &after)).peekable();
        let page: Vec<(String, Upload)> = rest.by_ref().take(limit as usize).collect();
        let is_truncated = rest.peek().is_some() && limit > 0;
        let last = page.last().filter(|_| is_truncated).cloned();
        let uploads = page.into_iter().map(|(id, upload)| MultipartUpload {
            upload_id: Some(id),
            key: Some(encoding.write(&upload.key)),
            initiated: Some(moment(upload.begun)),
            ..MultipartUpload::default()
        });
        done(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            max_uploads: Some(limit),
            is_truncated: Some(is_truncated),
            next_key_marker: last.as_ref().map(|(_, upload)| encoding.write(&upload.key)),
            next_upload_id_marker: last.map(|(id, _)| id),
            uploads: Some(uploads.collect()),
            encoding_type: encoding.answer(),
            ..ListMultipartUploadsOutput::default()
        })
    }
}

fn place((id, upload): &(String, Upload)) -> (&str, &str) {
    (&upload.key, id)
}

/// Whether an upload comes after the markers: without one for the identifier, all of the key are told already.
fn follows((key, id): (&str, &str), (after_key, after_id): &(String, Option<String>)) -> bool {
    key > after_key.as_str() || (key == after_key && after_id.as_deref().is_some_and(|after| id > after))
}

impl Protocol {
    async fn page(
        &self,
        asked: (String, Option<String>, Option<String>, Option<String>),
        limit: i32,
    ) -> S3Result<Page> {
        let (bucket, prefix, delimiter, after) = asked;
        self.run(move |backend| {
            let query = Query {
                prefix: prefix.as_deref().unwrap_or_default(),
                delimiter: delimiter.as_deref().unwrap_or_default(),
                after: after.as_deref().unwrap_or_default(),
                limit: limit as usize,
            };
            backend.list(&bucket, &query)
        })
        .await
    }
}

/// Where the next page begins, as a word that clients give back.
mod token {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    pub fn write(name: &str) -> String {
        URL_SAFE_NO_PAD.encode(name)
    }

    pub fn read(token: &str) -> S3Result<String> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        name.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token is not one of ours"))
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_range_is_cut_out_of_the_files() {
        let segments = [Segment { file: 1, size: 10 }, Segment { file: 2, size: 5 }, Segment { file: 3, size: 10 }];
        assert_eq!(pieces(&segments, 0, 25), [(1, 0, 10), (2, 0, 5), (3, 0, 10)]);
        assert_eq!(pieces(&segments, 9, 16), [(1, 9, 10), (2, 0, 5), (3, 0, 1)]);
        assert_eq!(pieces(&segments, 10, 15), [(2, 0, 5)]);
        assert!(pieces(&segments, 3, 3).is_empty() && pieces(&[], 0, 0).is_empty());
    }

    #[test]
    fn keys_that_xml_cannot_hold_are_escaped_if_the_client_wants_it() {
        let url = Encoding(true);
        assert_eq!(url.write("a/b c\u{1}ü"), "a/b%20c%01%C3%BC");
        assert_eq!(Encoding(false).write("a b"), "a b");
    }
}
