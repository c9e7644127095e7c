//! A panic while a request from the network is answered is that request's alone: its client gets 500, and all others
//! are served on (as by kube-apiserver's `WithPanicRecovery`).
//!
//! Elsewhere a panic may end the program, since nobody knows in what state it has left the rest. Of a request that is
//! known: it changes objects by messages to the store's thread, and what it locks itself it reads, or replaces as a
//! whole. And whoever may send a request could otherwise end the cluster, again and again.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

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
        let before = CONTAINED.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        CONTAINED.set(before);
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
