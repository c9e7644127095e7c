//! Why an operation of the store is refused or failed.

use std::io;

/// Each is one of S3's codes; the protocol translates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No bucket of that name.
    #[error("the bucket does not exist")]
    NoSuchBucket,
    /// A bucket of that name is there.
    #[error("the bucket is there already, and is yours")]
    BucketExists,
    /// It has objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// No object of that key.
    #[error("the key does not exist")]
    NoSuchKey,
    /// No upload of that identifier for that key.
    #[error("the upload does not exist; it may have been completed or aborted")]
    NoSuchUpload,
    /// A part is not there, or is another.
    #[error("one of the parts was not uploaded, or its ETag is another")]
    InvalidPart,
    /// The numbers of the parts do not grow.
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    /// A part before the last is too small.
    #[error("a part before the last is smaller than 5 MiB")]
    PartTooSmall,
    /// The object is not, or is, what the caller said.
    #[error("the object is not as the request's condition wants it")]
    Precondition,
    /// The disk.
    #[error("the store's disk is full")]
    Full,
    /// The disk, otherwise.
    #[error("the store cannot use its disk")]
    Disk(#[source] io::Error),
    /// The database.
    #[error("the store cannot use its index")]
    Index(#[source] Box<redb::Error>),
    /// The database has something that we did not write.
    #[error("the store's index is damaged: {0}")]
    Damaged(String),
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Disk(error) }
    }
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        match &error {
            redb::Error::Io(cause) if is_full(cause) => Self::Full,
            _ => Self::Index(Box::new(error)),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError, redb::DatabaseError);
