//! An object that is coming.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::GetResult;

use super::{Error, Store};

/// The content of an object, in pieces as they come. A broken connection is taken up again where it broke.
pub struct Download {
    store: Store,
    key: String,
    size: u64,
    received: u64,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
}

impl Download {
    pub(super) fn new(store: Store, key: String, result: GetResult) -> Self {
        let size = result.meta.size;
        Self { store, key, size, received: 0, stream: result.into_stream() }
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next piece, `None` after the last.
    ///
    /// # Errors
    /// It does not come, or the object ends before its size.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.stream.next().await {
            Some(Ok(chunk)) => {
                self.received += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Some(Err(error)) => Err(self.store.error("give an object", &self.key, &error)),
            None if self.received < self.size => Err(Error::Unreachable {
                endpoint: self.store.place().to_owned(),
                why: format!("{} ended after {} of {} bytes", self.key, self.received, self.size),
            }),
            None => Ok(None),
        }
    }
}
