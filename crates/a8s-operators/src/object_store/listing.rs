//! Pages of keys, as S3 lists them: in order, below a prefix, and with those that share a beginning up to a delimiter
//! told as one.

use std::ops::Bound;

use redb::ReadTransaction;

use super::Error;
use super::index::{BUCKETS, OBJECTS, Object, decode};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Query<'a> {
    /// Only keys that begin so.
    pub prefix: &'a str,
    /// Keys are told as one up to this; empty: none.
    pub delimiter: &'a str,
    /// Only keys, and common prefixes, after this one.
    pub after: &'a str,
    /// No more entries than this.
    pub limit: usize,
}

/// An entry of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An object.
    Object(String, Box<Object>),
    /// What several keys begin with, up to and with the delimiter.
    Prefix(String),
}

impl Entry {
    /// Key or prefix: the next page begins after it.
    pub fn name(&self) -> &str {
        match self {
            Self::Object(key, _) => key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub entries: Vec<Entry>,
    /// Whether there are more.
    pub is_truncated: bool,
}

/// The first bytes after everything that begins with `prefix`. No byte of a key is 255.
fn past(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    bytes.push(0xff);
    bytes
}

/// The part of `key` that is told instead of it, if it is.
fn common<'a>(key: &'a str, query: &Query<'_>) -> Option<&'a str> {
    if query.delimiter.is_empty() {
        return None;
    }
    let rest = key.strip_prefix(query.prefix)?;
    let end = rest.find(query.delimiter)? + query.delimiter.len();
    Some(&key[..query.prefix.len() + end])
}

/// Where the first page, or the next, begins.
fn beginning(query: &Query<'_>) -> Bound<Vec<u8>> {
    match common(query.after, query) {
        // The page before ended with a common prefix: all keys that begin so were told by it.
        Some(prefix) if prefix == query.after => Bound::Included(past(prefix)),
        _ if query.after.as_bytes() >= query.prefix.as_bytes() && !query.after.is_empty() => {
            Bound::Excluded(query.after.as_bytes().to_vec())
        }
        _ => Bound::Included(query.prefix.as_bytes().to_vec()),
    }
}

/// One page.
pub fn page(transaction: &ReadTransaction, bucket: &str, query: &Query<'_>) -> Result<Page, Error> {
    if transaction.open_table(BUCKETS)?.get(bucket)?.is_none() {
        return Err(Error::NoSuchBucket);
    }
    let table = transaction.open_table(OBJECTS)?;
    let mut page = Page::default();
    let mut begin = beginning(query);
    'seek: loop {
        let from = begin.as_ref().map(|key| (bucket, key.as_slice()));
        let range = table.range::<(&str, &[u8])>((from, Bound::Unbounded))?;
        for entry in range {
            let (place, value) = entry?;
            let (found_in, key) = place.value();
            let key = std::str::from_utf8(key).map_err(|error| Error::Damaged(error.to_string()))?;
            if found_in != bucket || !key.starts_with(query.prefix) {
                return Ok(page);
            }
            if page.entries.len() >= query.limit {
                // A limit of nothing is answered with nothing, and nothing more: no client could go on from there.
                page.is_truncated = query.limit > 0;
                return Ok(page);
            }
            if let Some(prefix) = common(key, query) {
                if prefix > query.after {
                    page.entries.push(Entry::Prefix(prefix.to_owned()));
                }
                begin = Bound::Included(past(prefix));
                continue 'seek;
            }
            page.entries.push(Entry::Object(key.to_owned(), Box::new(decode(value.value())?)));
        }
        return Ok(page);
    }
}
