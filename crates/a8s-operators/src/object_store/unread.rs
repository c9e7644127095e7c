//! What a client still sends when it has its refusal already.
//!
//! A connection that is closed with unread bytes is reset, and the client may never see why: it would try again what
//! will be refused again. So the rest is read, as long as it is not too much, and the connection is said to end.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// So much is read for nothing: a few parts.
const MOST: usize = 32 << 20;
/// And so long.
const LONGEST: Duration = Duration::from_secs(10);

/// A request's body of which the rest can be read by who gave it away.
#[derive(Debug, Clone)]
pub struct Shared(Arc<State>);

#[derive(Debug)]
struct State {
    body: Mutex<Incoming>,
    was_asked_for: AtomicBool,
}

impl Shared {
    /// Shares a body.
    pub fn new(body: Incoming) -> Self {
        Self(Arc::new(State { body: Mutex::new(body), was_asked_for: AtomicBool::new(false) }))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Incoming) -> T) -> T {
        look(&mut self.0.body.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the rest; says whether there is none left. A client that `waits` to be asked for its body is not asked.
    pub async fn drain(mut self, waits: bool) -> bool {
        if self.is_end_stream() || (waits && !self.0.was_asked_for.load(Ordering::Relaxed)) {
            return self.is_end_stream();
        }
        let all = async {
            let mut read = 0;
            while let Some(Ok(frame)) = self.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > MOST {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(LONGEST, all).await.unwrap_or(false)
    }
}

impl Body for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.was_asked_for.store(true, Ordering::Relaxed);
        self.with(|body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}
