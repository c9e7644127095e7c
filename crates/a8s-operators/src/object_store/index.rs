//! Which buckets, objects and uploads there are: one small transactional database beside the files.
//!
//! Objects are found by bucket and key in the order of their bytes, which is the order in which S3 lists them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Error, crash};

/// The database's own cache: few pages are hot.
const CACHE_BYTES: usize = 1 << 20;

/// Name → when it was made, in milliseconds since 1970.
pub const BUCKETS: TableDefinition<&str, u64> = TableDefinition::new("buckets");
/// Bucket and key → [`Object`].
pub const OBJECTS: TableDefinition<(&str, &[u8]), &[u8]> = TableDefinition::new("objects");
/// Identifier → [`Upload`].
pub const UPLOADS: TableDefinition<&str, &[u8]> = TableDefinition::new("uploads");
/// Upload and number → [`Part`].
pub const PARTS: TableDefinition<(&str, u16), &[u8]> = TableDefinition::new("parts");

/// A piece of an object: a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The file.
    pub file: u64,
    /// In bytes.
    pub size: u64,
}

/// What a client said of an object, and gets back with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `Content-Type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `x-amz-meta-…`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its content, in order.
    pub segments: Vec<Segment>,
    /// In bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// Milliseconds since 1970.
    pub modified: u64,
    /// What the client said of it.
    #[serde(flatten)]
    pub description: Description,
}

/// A multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Milliseconds since 1970.
    pub begun: u64,
    /// What the client said of the object.
    #[serde(flatten)]
    pub description: Description,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its content.
    pub segment: Segment,
    /// MD5 in hexadecimal, without quotes.
    pub etag: String,
    /// Milliseconds since 1970.
    pub modified: u64,
}

/// A value from its bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Damaged(error.to_string()))
}

/// The bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Damaged(error.to_string()))
}

/// The database.
pub struct Index {
    path: PathBuf,
    database: Mutex<Option<Arc<Database>>>,
}

impl Index {
    /// Opens or makes it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let index = Self { path: path.to_owned(), database: Mutex::new(None) };
        index.write(|transaction| {
            transaction.open_table(BUCKETS)?;
            transaction.open_table(OBJECTS)?;
            transaction.open_table(UPLOADS)?;
            transaction.open_table(PARTS)?;
            Ok(())
        })?;
        Ok(index)
    }

    fn database(&self) -> Result<Arc<Database>, Error> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(database.clone());
        }
        let opened = Arc::new(Database::builder().set_cache_size(CACHE_BYTES).create(&self.path)?);
        Ok(database.insert(opened).clone())
    }

    /// Reads at one moment.
    pub fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error> {
        read(&self.database()?.begin_read()?)
    }

    /// Changes all or nothing, durably.
    pub fn write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
        let result = self.try_write(change);
        if matches!(result, Err(Error::Index(_) | Error::Full)) {
            // The database refuses everything after a failed write (a full disk, say) until it is opened again.
            *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    fn try_write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
        let transaction = self.database()?.begin_write()?;
        let value = change(&transaction)?;
        crash::point("commit")?;
        transaction.commit()?;
        crash::point("committed")?;
        Ok(value)
    }

    /// All files of objects and parts.
    pub fn files(&self) -> Result<HashSet<u64>, Error> {
        self.read(|transaction| {
            let mut files = HashSet::new();
            for entry in transaction.open_table(OBJECTS)?.iter()? {
                let object: Object = decode(entry?.1.value())?;
                files.extend(object.segments.iter().map(|segment| segment.file));
            }
            for entry in transaction.open_table(PARTS)?.iter()? {
                files.insert(decode::<Part>(entry?.1.value())?.segment.file);
            }
            Ok(files)
        })
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Index").field("path", &self.path).finish_non_exhaustive()
    }
}
