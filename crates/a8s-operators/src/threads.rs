//! Threads where there may be none to be had: what limits the processes of a container counts them, too.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle, scope};
use std::time::Duration;

use tokio::runtime::{self, Runtime};

fn missing(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot start a thread: {error}"))
}

/// Builds a runtime with so many threads for blocking work at most, which stay. One is there from the beginning: where
/// the system gives no more, such work waits for those that are there. Without any it would panic.
///
/// # Errors
/// The system has no resources for it.
pub fn runtime(mut builder: runtime::Builder, blocking: usize) -> io::Result<Runtime> {
    builder.enable_all().max_blocking_threads(blocking).thread_keep_alive(Duration::MAX);
    let runtime = builder.build()?;
    runtime.spawn_blocking(|| ());
    Ok(runtime)
}

/// Starts a thread.
///
/// # Errors
/// The system gives none, for now.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().spawn(work).map_err(missing)
}

/// Starts a thread within a scope.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_within<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().spawn_scoped(scope, work).map_err(missing)
}

/// Lets so many threads do the same work, with this one among them; fewer where the system gives no more.
///
/// # Errors
/// The first one of any.
pub fn share(threads: usize, work: impl Fn() -> io::Result<()> + Sync) -> io::Result<()> {
    let work = &work;
    scope(|scope| {
        let others: Vec<_> = (1..threads).map_while(|_| spawn_within(scope, work).ok()).collect();
        let own = work();
        others.into_iter().fold(own, |before, thread| {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread ended early")));
            before.and(ended)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn work_is_shared_and_one_error_is_told() {
        for threads in [1, 4] {
            let queue = Mutex::new((0..100).collect::<Vec<usize>>());
            let sum = AtomicUsize::new(0);
            let shared = share(threads, || {
                loop {
                    let next = queue.lock().expect("not poisoned").pop();
                    match next {
                        None => return Ok(()),
                        Some(50) => return Err(io::Error::other("fifty")),
                        Some(number) => {
                            sum.fetch_add(number, Ordering::Relaxed);
                        }
                    }
                }
            });
            assert_eq!(shared.expect_err("one").to_string(), "fifty");
            // Alone, nobody goes on.
            let expected = if threads == 1 { (51..100).sum::<usize>() } else { (0..100).sum::<usize>() - 50 };
            assert_eq!(sum.into_inner(), expected);
        }
    }
}
