//! Ctrl-C, and what means the same: SIGTERM, and the SIGHUP of a terminal that was closed.
//!
//! They are heard on a thread of their own from the beginning of a command to its end: also between two of its waits, and
//! while it waits for what is no event of the runtime's. What the caller has had ignored stays ignored, as nohup(1) wants it.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal as Kind;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::DropGuard;

use crate::finding::{Finding, Id};
use crate::step::Cancel;

/// Signals within this time ask once: `timeout` sends one to the process and one to its group.
const ASKED_ONCE: Duration = Duration::from_millis(500);

/// What interrupts a command, each as the others do.
const INTERRUPTS: [Kind; 3] = [Kind::SIGINT, Kind::SIGTERM, Kind::SIGHUP];

/// Those that this process does not ignore, nor those that it starts. Where the system does not say: all.
pub fn heard() -> Vec<Kind> {
    let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    INTERRUPTS.into_iter().filter(|kind| (ignored >> (*kind as i32 - 1)) & 1 == 0).collect()
}

/// The set of the signals that a process ignores, as proc_pid_status(5) has it: the lowest bit is signal 1.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default()
}

/// The one that interrupts a command which this process has started: SIGINT, where that is heard.
///
/// # Errors
/// None is.
pub fn usual() -> io::Result<Kind> {
    heard().first().copied().ok_or_else(|| io::Error::other("every signal that interrupts is ignored"))
}

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

struct Signals(Vec<Signal>);

impl Signals {
    /// None that comes from now on is lost.
    fn new() -> io::Result<Self> {
        let signals = heard().into_iter().map(|kind| signal(SignalKind::from_raw(kind as i32)));
        Ok(Self(signals.collect::<io::Result<_>>()?))
    }

    async fn next(&mut self) {
        poll_fn(|context| match self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Cancels `interrupt` at the first of them, and ends with the second.
    async fn asked_twice(&mut self, interrupt: &Cancel) {
        self.next().await;
        let asked = Instant::now();
        if !sabotage::sabotaged!("interrupts-are-lost") {
            interrupt.cancel();
        }
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

    use nix::sys::signal::kill;
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

    #[test]
    fn what_the_caller_has_had_ignored_is_told_by_the_system() {
        let said = |trap: &str| {
            let line = format!("{trap} exec cat /proc/self/status");
            let said = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            ignored(&String::from_utf8(said.stdout).unwrap())
        };
        // The test itself may have been started by nohup.
        let others = said("");
        if cfg!(target_os = "linux") {
            assert_eq!(said("trap '' HUP;"), others | 1);
            assert_eq!(said("trap '' INT TERM;"), others | 0x4002);
        }
        assert_eq!(ignored("Name:\ta9s\n"), 0);
    }

    /// One test, since the signals are those of the whole process.
    #[test]
    fn signals_are_heard_while_nobody_waits_for_them_and_those_at_a_time_ask_once() {
        for with in heard() {
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
        ask(usual().unwrap());
        assert!(!interrupt.is_cancelled());
    }
}
