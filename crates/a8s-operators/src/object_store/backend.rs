//! The operations of the store, without any protocol. All of them block.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use redb::{ReadableTable as _, WriteTransaction};

use super::files::{Files, NewFile, Pinned};
use super::index::{
    BUCKETS, Description, Index, OBJECTS, Object, PARTS, Part, Segment, UPLOADS, Upload, decode, encode,
};
use super::listing::{Page, Query, page};
use super::{Error, crash};

/// S3's smallest part, but for the last.
const SMALLEST_PART: u64 = 5 << 20;
/// Uploads that were begun so long ago are given up at the start.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// A condition on the object that is there before a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Anything.
    None,
    /// There must be none.
    Absent,
    /// There must be one, whatever it is.
    Present,
    /// There must be this one.
    Is(String),
}

impl Condition {
    fn check(&self, there: Option<&Object>) -> Result<(), Error> {
        match (self, there) {
            (Self::None, _) | (Self::Absent, None) | (Self::Present, Some(_)) => Ok(()),
            (Self::Is(etag), Some(object)) if *etag == object.etag => Ok(()),
            (Self::Present | Self::Is(_), None) => Err(Error::NoSuchKey),
            (Self::Absent | Self::Is(_), Some(_)) => Err(Error::Precondition),
        }
    }
}

/// A file that was received whole.
#[derive(Debug)]
pub struct Content {
    /// The file, synced.
    pub file: NewFile,
    /// Its ETag, without quotes.
    pub etag: String,
}

impl Content {
    fn segment(&self) -> Segment {
        Segment { file: self.file.id(), size: self.file.size() }
    }
}

/// A part as the client remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its number.
    pub number: u16,
    /// Its ETag, without quotes.
    pub etag: String,
}

/// A store in a directory.
#[derive(Debug, Clone)]
pub struct Backend {
    files: Arc<Files>,
    index: Arc<Index>,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

impl Backend {
    /// Opens or makes it, and clears away what a crash has left.
    ///
    /// # Errors
    /// The directory is not usable, or another process uses it.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let files = Arc::new(Files::open(&directory.join("files"))?);
        let path = directory.join("index.redb");
        let is_new = fs_err::metadata(&path).map_or(true, |metadata| metadata.len() == 0);
        if is_new && !files.are_none()? {
            let text = format!("{} is not there, and there are objects: it has to be put back", path.display());
            return Err(Error::Damaged(text));
        }
        let index = Arc::new(Index::open(&path)?);
        fs_err::File::open(directory)?.sync_all()?;
        let backend = Self { files, index };
        backend.abort_begun_before(now().saturating_sub(ABANDONED.as_millis() as u64))?;
        let swept = backend.files.sweep(&backend.index.files()?)?;
        if swept > 0 {
            tracing::info!("{swept} files of writes that were cut off are removed");
        }
        Ok(backend)
    }

    /// A new file for a body.
    pub fn create_file(&self) -> Result<NewFile, Error> {
        self.files.create()
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        self.index.write(|transaction| {
            let mut buckets = transaction.open_table(BUCKETS)?;
            if buckets.get(bucket)?.is_some() {
                return Err(Error::BucketExists);
            }
            buckets.insert(bucket, now())?;
            Ok(())
        })
    }

    /// Deletes an empty bucket, with the uploads that were begun in it.
    pub fn delete_bucket(&self, bucket: &str) -> Result<(), Error> {
        self.require_bucket(bucket)?;
        let uploads = self.uploads(bucket)?;
        self.index.write(|transaction| {
            let objects = transaction.open_table(OBJECTS)?;
            let first = objects.range::<(&str, &[u8])>((bucket, &[][..])..)?.next().transpose()?;
            if first.is_some_and(|(place, _)| place.value().0 == bucket) {
                return Err(Error::BucketNotEmpty);
            }
            transaction.open_table(BUCKETS)?.remove(bucket)?;
            Ok(())
        })?;
        for (id, _) in uploads {
            self.abort(&id)?;
        }
        Ok(())
    }

    /// Buckets and when they were made, in milliseconds since 1970.
    pub fn buckets(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.index.read(|transaction| {
            let buckets = transaction.open_table(BUCKETS)?;
            let mut found = BTreeMap::new();
            for entry in buckets.iter()? {
                let (name, made) = entry?;
                found.insert(name.value().to_owned(), made.value());
            }
            Ok(found)
        })
    }

    /// Refuses a bucket that is not there.
    pub fn require_bucket(&self, bucket: &str) -> Result<(), Error> {
        self.index
            .read(|transaction| transaction.open_table(BUCKETS)?.get(bucket)?.map(drop).ok_or(Error::NoSuchBucket))
    }

    /// Puts an object in the place of whatever was there.
    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        content: Content,
        description: Description,
        condition: &Condition,
    ) -> Result<Object, Error> {
        let segment = content.segment();
        let object =
            Object { segments: vec![segment], size: segment.size, etag: content.etag, modified: now(), description };
        let replaced = self.index.write(|transaction| replace(transaction, bucket, key, &object, condition));
        self.settle(content.file, replaced)?;
        Ok(object)
    }

    /// Keeps the file of what was written, and removes those that were replaced. After a failed commit nobody knows whether
    /// it took place: the file stays until the next start says.
    fn settle(&self, file: NewFile, replaced: Result<impl IntoIterator<Item = u64>, Error>) -> Result<(), Error> {
        let is_unknown = |error: &Error| matches!(error, Error::Index(_) | Error::Disk(_) | Error::Full);
        if replaced.as_ref().err().is_none_or(is_unknown) || crash::died() {
            file.keep();
        }
        self.files.remove(replaced?);
        Ok(())
    }

    /// An object, without its content.
    pub fn look(&self, bucket: &str, key: &str) -> Result<Object, Error> {
        self.index.read(|transaction| {
            if transaction.open_table(BUCKETS)?.get(bucket)?.is_none() {
                return Err(Error::NoSuchBucket);
            }
            let objects = transaction.open_table(OBJECTS)?;
            let found = objects.get((bucket, key.as_bytes()))?.ok_or(Error::NoSuchKey)?;
            decode(found.value())
        })
    }

    /// An object whose content stays while it is read, even if it is replaced or deleted.
    pub fn get(&self, bucket: &str, key: &str) -> Result<(Object, Pinned), Error> {
        self.files.pin(|| {
            let object = self.look(bucket, key)?;
            let ids = object.segments.iter().map(|segment| segment.file).collect();
            Ok((object, ids))
        })
    }

    /// One of its files.
    pub fn read(&self, file: u64) -> Result<fs_err::File, Error> {
        self.files.read(file)
    }

    /// Deletes objects, all of them or none. Those that are not there are fine.
    pub fn delete(&self, bucket: &str, keys: &[&str], condition: &Condition) -> Result<(), Error> {
        self.require_bucket(bucket)?;
        let removed = self.index.write(|transaction| {
            let mut objects = transaction.open_table(OBJECTS)?;
            let mut removed = Vec::new();
            for key in keys {
                let there = objects.remove((bucket, key.as_bytes()))?;
                let there: Option<Object> = there.map(|found| decode(found.value())).transpose()?;
                condition.check(there.as_ref())?;
                removed.extend(there.into_iter().flat_map(|object| object.segments));
            }
            Ok(removed)
        })?;
        self.files.remove(removed.iter().map(|segment| segment.file));
        Ok(())
    }

    /// A page of the objects of a bucket.
    pub fn list(&self, bucket: &str, query: &Query<'_>) -> Result<Page, Error> {
        self.index.read(|transaction| page(transaction, bucket, query))
    }

    /// Begins an upload; returns its identifier.
    pub fn begin(&self, bucket: &str, key: &str, description: Description) -> Result<String, Error> {
        self.require_bucket(bucket)?;
        let id = format!("{:032x}", rand::random::<u128>());
        let upload = Upload { bucket: bucket.to_owned(), key: key.to_owned(), begun: now(), description };
        self.index.write(|transaction| {
            transaction.open_table(UPLOADS)?.insert(id.as_str(), encode(&upload)?.as_slice())?;
            Ok(())
        })?;
        Ok(id)
    }

    /// An upload of that key.
    pub fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload, Error> {
        self.index.read(|transaction| {
            let uploads = transaction.open_table(UPLOADS)?;
            let found = uploads.get(id)?.map(|found| decode::<Upload>(found.value())).transpose()?;
            found.filter(|upload| upload.bucket == bucket && upload.key == key).ok_or(Error::NoSuchUpload)
        })
    }

    /// The uploads in a bucket, by identifier.
    pub fn uploads(&self, bucket: &str) -> Result<Vec<(String, Upload)>, Error> {
        self.uploads_where(|upload| upload.bucket == bucket)
    }

    fn uploads_where(&self, is_wanted: impl Fn(&Upload) -> bool) -> Result<Vec<(String, Upload)>, Error> {
        self.index.read(|transaction| {
            let mut found = Vec::new();
            for entry in transaction.open_table(UPLOADS)?.iter()? {
                let (id, upload) = entry?;
                let upload: Upload = decode(upload.value())?;
                if is_wanted(&upload) {
                    found.push((id.value().to_owned(), upload));
                }
            }
            Ok(found)
        })
    }

    /// Puts a part in the place of whatever had its number.
    pub fn put_part(&self, bucket: &str, key: &str, id: &str, number: u16, content: Content) -> Result<Part, Error> {
        let part = Part { segment: content.segment(), etag: content.etag, modified: now() };
        let replaced = self.index.write(|transaction| {
            require_upload(transaction, bucket, key, id)?;
            let bytes = encode(&part)?;
            let mut parts = transaction.open_table(PARTS)?;
            let old = parts.insert((id, number), bytes.as_slice())?;
            old.map(|old| decode::<Part>(old.value())).transpose()
        });
        self.settle(content.file, replaced.map(|old| old.map(|part| part.segment.file)))?;
        Ok(part)
    }

    /// The parts of an upload, by number.
    pub fn parts(&self, bucket: &str, key: &str, id: &str) -> Result<BTreeMap<u16, Part>, Error> {
        self.upload(bucket, key, id)?;
        self.index.read(|transaction| {
            let parts = transaction.open_table(PARTS)?;
            let mut found = BTreeMap::new();
            for entry in parts.range((id, 0)..=(id, u16::MAX))? {
                let (place, part) = entry?;
                found.insert(place.value().1, decode(part.value())?);
            }
            Ok(found)
        })
    }

    /// Makes an object of parts, in one transaction: their files become its own, nothing is copied.
    pub fn complete(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        claims: &[Claim],
        condition: &Condition,
    ) -> Result<Object, Error> {
        let (object, old) = self.index.write(|transaction| {
            let upload = require_upload(transaction, bucket, key, id)?;
            let parts = take_parts(transaction, id)?;
            transaction.open_table(UPLOADS)?.remove(id)?;
            let (segments, etag) = join(&parts, claims)?;
            let size = segments.iter().map(|segment| segment.size).sum();
            let object = Object { segments, size, etag, modified: now(), description: upload.description };
            let mut old = replace(transaction, bucket, key, &object, condition)?;
            let used: Vec<u16> = claims.iter().map(|claim| claim.number).collect();
            let unused = parts.iter().filter(|(number, _)| !used.contains(number));
            old.extend(unused.map(|(_, part)| part.segment.file));
            Ok((object, old))
        })?;
        self.files.remove(old);
        Ok(object)
    }

    /// Gives an upload up.
    pub fn abort(&self, id: &str) -> Result<(), Error> {
        let parts = self.index.write(|transaction| {
            transaction.open_table(UPLOADS)?.remove(id)?;
            take_parts(transaction, id)
        })?;
        self.files.remove(parts.into_values().map(|part| part.segment.file));
        Ok(())
    }

    fn abort_begun_before(&self, moment: u64) -> Result<(), Error> {
        for (id, _) in self.uploads_where(|upload| upload.begun < moment)? {
            self.abort(&id)?;
        }
        Ok(())
    }
}

/// Puts an object; returns the files of the one that was there.
fn replace(
    transaction: &WriteTransaction,
    bucket: &str,
    key: &str,
    object: &Object,
    condition: &Condition,
) -> Result<Vec<u64>, Error> {
    if transaction.open_table(BUCKETS)?.get(bucket)?.is_none() {
        return Err(Error::NoSuchBucket);
    }
    let bytes = encode(object)?;
    let mut objects = transaction.open_table(OBJECTS)?;
    let there = objects.insert((bucket, key.as_bytes()), bytes.as_slice())?;
    let there: Option<Object> = there.map(|found| decode(found.value())).transpose()?;
    condition.check(there.as_ref())?;
    Ok(there.into_iter().flat_map(|object| object.segments).map(|segment| segment.file).collect())
}

fn require_upload(transaction: &WriteTransaction, bucket: &str, key: &str, id: &str) -> Result<Upload, Error> {
    let uploads = transaction.open_table(UPLOADS)?;
    let found = uploads.get(id)?.map(|found| decode::<Upload>(found.value())).transpose()?;
    found.filter(|upload| upload.bucket == bucket && upload.key == key).ok_or(Error::NoSuchUpload)
}

fn take_parts(transaction: &WriteTransaction, id: &str) -> Result<BTreeMap<u16, Part>, Error> {
    let mut table = transaction.open_table(PARTS)?;
    let mut parts = BTreeMap::new();
    for entry in table.range((id, 0)..=(id, u16::MAX))? {
        let (place, part) = entry?;
        parts.insert(place.value().1, decode(part.value())?);
    }
    table.retain_in((id, 0)..=(id, u16::MAX), |_, _| false)?;
    Ok(parts)
}

/// The content and the ETag of an object made of these parts: S3's is the MD5 of the parts' MD5s, and their number.
fn join(parts: &BTreeMap<u16, Part>, claims: &[Claim]) -> Result<(Vec<Segment>, String), Error> {
    use s3s::crypto::{Checksum as _, Md5};
    let mut md5 = Md5::new();
    let mut segments = Vec::with_capacity(claims.len());
    for (position, claim) in claims.iter().enumerate() {
        if position > 0 && claims[position - 1].number >= claim.number {
            return Err(Error::InvalidPartOrder);
        }
        let part = parts.get(&claim.number).filter(|part| part.etag == claim.etag).ok_or(Error::InvalidPart)?;
        if part.segment.size < SMALLEST_PART && position + 1 < claims.len() {
            return Err(Error::PartTooSmall);
        }
        md5.update(&HEXLOWER_PERMISSIVE.decode(part.etag.as_bytes()).unwrap_or_default());
        segments.push(part.segment);
    }
    if segments.is_empty() {
        return Err(Error::InvalidPart);
    }
    Ok((segments, format!("{}-{}", HEXLOWER.encode(&md5.finalize()), claims.len())))
}
