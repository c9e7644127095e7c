//! A panic while a request from the network is answered is that request's alone: its client gets 500, or an answer that
//! breaks off, and all others are served on (as by kube-apiserver's `WithPanicRecovery`). So is one in the session that
//! a request has become: its client's connection ends.
//!
//! Elsewhere a panic may end the program, since nobody knows in what state it has left the rest. Of a request that is
//! known: it changes objects by messages to the store's thread, and what it locks itself it reads, or replaces as a
//! whole. And whoever may send a request could otherwise end the cluster, again and again.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::body::{Body, Error};

/// What a client is told.
pub(super) const WHY: &str = "this request made the API server panic; its log says where";

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would be one request's alone at this moment. A panic hook that ends the program asks.
pub fn is_contained() -> bool {
    CONTAINED.get()
}

/// What comes of some work; `None` if it panics.
pub(super) async fn contain<F: Future>(work: F) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        let polled = guard(|| work.as_mut().poll(context));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

/// Starts a task of a session.
pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move { contain(work).await.unwrap_or_default() })
}

fn guard<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = CONTAINED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    done.ok()
}

/// A body that breaks off where it panics.
pub(super) struct Contained(pub Body);

impl http_body::Body for Contained {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = guard(|| Pin::new(&mut self.0).poll_frame(context));
        polled.unwrap_or_else(|| Poll::Ready(Some(Err(WHY.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::api::body;

    #[tokio::test]
    async fn a_panic_ends_the_work_it_came_in_and_nothing_else() {
        let done = contain(async {
            tokio::task::yield_now().await;
            is_contained()
        });
        assert_eq!(done.await, Some(true));
        let panicked: Option<()> = contain(async {
            tokio::task::yield_now().await;
            panic!("of one request")
        })
        .await;
        assert_eq!((panicked, is_contained()), (None, false));
    }

    #[tokio::test]
    async fn a_body_breaks_off_where_it_panics() {
        let pieces = futures::stream::iter(0..2).map(|number| {
            assert!(number == 0, "in a body");
            Ok::<_, std::convert::Infallible>(Bytes::from_static(b"first"))
        });
        let mut body = Contained(body::stream(pieces));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), WHY);
        assert!(!is_contained());
    }
}
