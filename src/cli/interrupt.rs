//! Ctrl-C, and what means the same: SIGTERM, and the SIGHUP of a terminal that was closed.
//!
//! They are heard on a thread of their own from the beginning of a command to its end: also between two of its waits, and
//! while it waits for what is no event of the runtime's.

use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::DropGuard;

use crate::finding::{Finding, Id};
use crate::step::Cancel;

/// Signals within this time ask once: `timeout` sends one to the process and one to its group.
const ASKED_ONCE: Duration = Duration::from_millis(500);

/// Hears the signals for as long as it lives.
#[derive(Debug)]
pub struct Ear {
    _open: DropGuard,
}

impl Ear {
    /// The first signal cancels `interrupt`; `again` is for whoever asks another time, later.
    ///
    /// # Errors
    /// The system has no resources for it.
    pub fn open(interrupt: Cancel, again: impl FnOnce() + Send + 'static) -> Result<Self, Finding> {
        let failed = |error: io::Error| Finding::new(Id::NoResources, format!("cannot listen for signals: {error}"));
        let runtime = Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::new().map_err(failed)?
        };
        let closed = Cancel::new();
        let open = closed.clone().drop_guard();
        let hear = async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = signals.asked_twice(&interrupt) => again(),
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || runtime.block_on(hear)).map_err(failed)?;
        Ok(Self { _open: open })
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// None that comes from now on is lost.
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }

    /// Cancels `interrupt` at the first of them, and ends with the second.
    async fn asked_twice(&mut self, interrupt: &Cancel) {
        self.next().await;
        let asked = Instant::now();
        interrupt.cancel();
        self.next().await;
        while asked.elapsed() < ASKED_ONCE {
            self.next().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread::sleep;

    use nix::sys::signal::{Signal as Kind, kill};
    use nix::unistd::Pid;

    use super::*;

    /// What a busy machine may take for what happens at once.
    const SOON: Duration = Duration::from_secs(10);

    fn ask(with: Kind) {
        kill(Pid::this(), with).unwrap();
    }

    fn is_cancelled_soon(cancel: &Cancel) -> bool {
        let begun = Instant::now();
        while !cancel.is_cancelled() && begun.elapsed() < SOON {
            sleep(Duration::from_millis(5));
        }
        cancel.is_cancelled()
    }

    /// One test, since the signals are those of the whole process.
    #[test]
    fn signals_are_heard_while_nobody_waits_for_them_and_those_at_a_time_ask_once() {
        for with in [Kind::SIGINT, Kind::SIGTERM, Kind::SIGHUP] {
            let (interrupt, (sender, again)) = (Cancel::new(), channel());
            let ear = Ear::open(interrupt.clone(), move || sender.send(()).unwrap()).unwrap();
            assert!(!interrupt.is_cancelled(), "{with}");
            ask(with);
            ask(with);
            assert!(is_cancelled_soon(&interrupt), "{with}");
            assert_eq!(again.recv_timeout(ASKED_ONCE), Err(RecvTimeoutError::Timeout), "{with}");
            ask(with);
            assert_eq!(again.recv_timeout(SOON), Ok(()), "{with}");
            drop(ear);
        }
        let (interrupt, (sender, again)) = (Cancel::new(), channel::<()>());
        drop(Ear::open(interrupt.clone(), move || drop(sender)).unwrap());
        // The thread has ended once it has let go of what it was to do.
        assert_eq!(again.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
        ask(Kind::SIGINT);
        assert!(!interrupt.is_cancelled());
    }
}
