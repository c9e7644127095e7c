//! Sends an object whose size is not known, in parts, with bounded memory.
//!
//! Parts grow with what was sent, so that 10,000 of them, which is all that S3 takes, hold its largest object. Two are
//! on their way while the next fills: memory is three parts, 15 MiB up to 6 GiB and about 1/400 of the object beyond.
//! (Stores that want parts of one size take objects up to that size.)

use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutPayload};
use tokio::task::JoinSet;

use super::{Error, Store};

/// The smallest part that S3 takes, but for the last.
const SMALLEST_PART: u64 = 5 << 20;
/// A part is at least this share of what was sent before it.
const SHARE: u64 = 1250;
/// Parts on their way at a time.
const CONCURRENCY: usize = 2;
/// S3's limit.
const LARGEST_OBJECT: u64 = 5 << 40;

/// The size of the part that follows after `sent` bytes.
fn part_size(sent: u64) -> u64 {
    sent.div_ceil(SHARE).next_multiple_of(1 << 20).max(SMALLEST_PART)
}

/// An object on its way. Nothing of it is there before [`Upload::finish`]; dropping it gives it up.
pub struct Upload {
    store: Store,
    path: Path,
    /// Set with the first part; an object of one part needs none.
    id: Option<MultipartId>,
    filling: Vec<Bytes>,
    filled: u64,
    /// In parts that were begun.
    sent: u64,
    parts: Vec<Option<PartId>>,
    running: JoinSet<(usize, object_store::Result<PartId>)>,
}

impl Upload {
    pub(super) fn new(store: Store, path: Path) -> Self {
        Self {
            store,
            path,
            id: None,
            filling: Vec::new(),
            filled: 0,
            sent: 0,
            parts: Vec::new(),
            running: JoinSet::new(),
        }
    }

    /// How much was written so far, in bytes.
    pub fn written(&self) -> u64 {
        self.sent + self.filled
    }

    /// Takes a piece. It waits where parts are on their way, which slows the writer down to what the store takes.
    ///
    /// # Errors
    /// A part could not be sent. The upload is to be dropped then.
    pub async fn write(&mut self, mut piece: Bytes) -> Result<(), Error> {
        if self.written() + piece.len() as u64 > LARGEST_OBJECT {
            return Err(Error::TooLarge { limit: LARGEST_OBJECT });
        }
        loop {
            let room = part_size(self.sent) - self.filled;
            if (piece.len() as u64) < room {
                break;
            }
            // It is at most the length of the piece.
            let head = piece.split_to(room as usize);
            self.fill(head);
            self.send().await?;
        }
        self.fill(piece);
        Ok(())
    }

    /// Pieces are copied together: keeping many small ones, each of which may hold on to a large buffer, would not be
    /// bounded.
    fn fill(&mut self, piece: Bytes) {
        const BLOCK: usize = 64 << 10;
        self.filled += piece.len() as u64;
        if piece.len() >= BLOCK {
            self.filling.push(piece);
            return;
        }
        match self.filling.pop().map(Bytes::try_into_mut) {
            Some(Ok(mut last)) if last.len() + piece.len() <= BLOCK => {
                last.extend_from_slice(&piece);
                self.filling.push(last.freeze());
                return;
            }
            Some(Ok(last)) => self.filling.push(last.freeze()),
            Some(Err(last)) => self.filling.push(last),
            None => {}
        }
        let mut block = bytes::BytesMut::with_capacity(BLOCK);
        block.extend_from_slice(&piece);
        self.filling.push(block.freeze());
    }

    fn take_filled(&mut self) -> PutPayload {
        self.sent += std::mem::take(&mut self.filled);
        PutPayload::from_iter(std::mem::take(&mut self.filling))
    }

    async fn send(&mut self) -> Result<(), Error> {
        if self.id.is_none() {
            let id = self.store.inner.create_multipart(&self.path).await;
            self.id = Some(id.map_err(|error| self.error(&error))?);
        }
        while self.running.len() >= CONCURRENCY {
            self.collect().await?;
        }
        let Some(id) = self.id.clone() else { return Ok(()) };
        let payload = self.take_filled();
        let (number, store, path) = (self.parts.len(), self.store.inner.clone(), self.path.clone());
        self.parts.push(None);
        self.running.spawn(async move { (number, store.put_part(&path, &id, number, payload).await) });
        Ok(())
    }

    /// Waits for one of the parts on their way.
    async fn collect(&mut self) -> Result<(), Error> {
        match self.running.join_next().await {
            Some(Ok((number, part))) => {
                self.parts[number] = Some(part.map_err(|error| self.error(&error))?);
                Ok(())
            }
            Some(Err(error)) => Err(Error::Client(error.to_string())),
            None => Ok(()),
        }
    }

    fn error(&self, error: &object_store::Error) -> Error {
        self.store.error("take an object", self.path.as_ref(), error)
    }

    /// Sends the rest and makes the object visible, whole. Returns its size in bytes.
    ///
    /// # Errors
    /// The store did not take it; nothing of it is there.
    pub async fn finish(mut self) -> Result<u64, Error> {
        if self.id.is_none() {
            let payload = self.take_filled();
            let put = object_store::ObjectStoreExt::put(&*self.store.inner, &self.path, payload).await;
            put.map_err(|error| self.error(&error))?;
            return Ok(self.sent);
        }
        if self.filled > 0 {
            self.send().await?;
        }
        while !self.running.is_empty() {
            self.collect().await?;
        }
        let Some(id) = self.id.clone() else { return Ok(self.sent) };
        let parts: Vec<PartId> = std::mem::take(&mut self.parts).into_iter().flatten().collect();
        let completed = self.store.inner.complete_multipart(&self.path, &id, parts).await;
        match completed.map_err(|error| self.error(&error)) {
            Ok(_) => {}
            // The first answer was lost, and the second says that there is nothing left to complete.
            Err(_) if self.store.size(self.path.as_ref()).await == Ok(Some(self.sent)) => {}
            Err(error) => return Err(error),
        }
        self.id = None;
        Ok(self.sent)
    }

    /// Gives it up and waits until the store has forgotten its parts.
    ///
    /// # Errors
    /// The store did not say so.
    pub async fn abort(mut self) -> Result<(), Error> {
        self.running.shutdown().await;
        match self.id.take() {
            Some(id) => {
                let aborted = self.store.inner.abort_multipart(&self.path, &id).await;
                aborted.map_err(|error| self.error(&error))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Parts that nobody asks for again would cost their owner money.
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let mut running = std::mem::take(&mut self.running);
        let (store, path) = (self.store.inner.clone(), self.path.clone());
        runtime.spawn(async move {
            running.shutdown().await;
            if let Err(error) = store.abort_multipart(&path, &id).await {
                tracing::warn!(key = %path, %error, "parts of an upload that was given up are left in the object store");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_the_largest_object() {
        let (mut sent, mut parts) = (0, 0);
        while sent < LARGEST_OBJECT {
            let part = part_size(sent);
            assert!((SMALLEST_PART..=5 << 30).contains(&part), "{part}");
            sent += part;
            parts += 1;
        }
        assert!(parts <= 10_000, "{parts}");
    }

    #[test]
    fn parts_are_small_where_objects_are() {
        assert_eq!(part_size(6 << 30), SMALLEST_PART);
        assert!(part_size(100 << 30) < 100 << 20);
    }
}
