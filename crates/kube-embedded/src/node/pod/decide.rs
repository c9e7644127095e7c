//! What to do with a container next. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::node::backoff::Backoff;
use crate::node::status::{Record, State};

/// The next thing for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It runs, or has ended for good.
    Nothing,
    /// Start it.
    Start,
    /// Start it later: it crashes.
    Wait(Duration),
    /// An init container failed, and the pod with it.
    Fail,
}

/// Decides for one container that has its turn. `ended` is when its latest run ended.
pub(super) fn next(record: &Record, policy: &str, backoff: &Backoff, ended: Option<Instant>, now: Instant) -> Next {
    if matches!(record.state, State::Running { .. }) {
        return Next::Nothing;
    }
    let Some(result) = record.result().filter(|_| !record.again) else { return Next::Start };
    let restarts = match (policy, record.is_init) {
        ("Never", _) => false,
        ("Always", false) => true,
        _ => result.exit_code != 0,
    };
    if !restarts {
        return if record.is_init && result.exit_code != 0 { Next::Fail } else { Next::Nothing };
    }
    match ended.and_then(|ended| backoff.remaining(ended, now)) {
        Some(wait) => Next::Wait(wait),
        None => Next::Start,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::Container;

    use super::*;
    use crate::node::status::Terminated;

    fn ended(is_init: bool, exit_code: i32) -> Record {
        let state = State::Terminated(Terminated {
            exit_code,
            reason: String::new(),
            message: None,
            started: None,
            finished: Timestamp::UNIX_EPOCH,
            id: String::new(),
        });
        Record { state, ..Record::new(&Container::default(), is_init, "") }
    }

    #[test]
    fn the_restart_policy_decides_about_what_has_ended() {
        let now = Instant::now();
        for (is_init, exit_code, policy, expected) in [
            (false, 0, "Always", Next::Start),
            (false, 0, "OnFailure", Next::Nothing),
            (false, 1, "OnFailure", Next::Start),
            (false, 1, "Never", Next::Nothing),
            (true, 0, "Always", Next::Nothing),
            (true, 1, "Always", Next::Start),
            (true, 1, "Never", Next::Fail),
        ] {
            let record = ended(is_init, exit_code);
            assert_eq!(
                next(&record, policy, &Backoff::default(), Some(now), now),
                expected,
                "{is_init} {exit_code} {policy}"
            );
        }
    }

    #[test]
    fn a_second_crash_waits() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.attempt(now);
        assert_eq!(next(&ended(false, 1), "Always", &backoff, Some(now), now), Next::Wait(Duration::from_secs(10)));
        assert_eq!(next(&Record::new(&Container::default(), false, ""), "Never", &backoff, None, now), Next::Start);
    }
}
