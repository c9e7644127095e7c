//! Dying at a chosen point, for tests: from then on nothing is written or cleared away any more, as after `kill -9`.

use std::cell::RefCell;
use std::io;

#[derive(Default)]
struct State {
    armed: Option<usize>,
    passed: Vec<&'static str>,
    died: bool,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// The process is alive again, and dies when it passes a point for the `after`-th time (from 0); `None`: never.
pub fn arm(after: Option<usize>) {
    STATE.with_borrow_mut(|state| *state = State { armed: after, ..State::default() });
}

/// The points passed since [`arm`].
pub fn passed() -> Vec<&'static str> {
    STATE.with_borrow(|state| state.passed.clone())
}

/// Whether it has died.
pub fn died() -> bool {
    STATE.with_borrow(|state| state.died)
}

/// One point.
pub fn point(name: &'static str) -> io::Result<()> {
    STATE.with_borrow_mut(|state| {
        state.died |= state.armed == Some(state.passed.len());
        state.passed.push(name);
        if state.died { Err(io::Error::other(format!("died at {name}"))) } else { Ok(()) }
    })
}
