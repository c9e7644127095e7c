//! Waiting longer and longer between attempts, as the kubelet does for crashing containers and missing images
//! (k8s.io/client-go `util/flowcontrol/backoff.go`): 10 s doubling to 5 min, forgotten after 10 min of peace.

use std::time::Duration;

use tokio::time::Instant;

const INITIAL: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// The waiting time of one container.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    current: Option<Duration>,
    updated: Option<Instant>,
}

impl Backoff {
    /// How long to wait now, when the last attempt ended at `ended`; `None`: try at once.
    pub fn remaining(&self, ended: Instant, now: Instant) -> Option<Duration> {
        if self.is_forgotten(now) {
            return None;
        }
        let until = ended + self.current?;
        (until > now).then(|| until - now)
    }

    /// The whole waiting time that is in force.
    pub fn delay(&self) -> Duration {
        self.current.unwrap_or(INITIAL)
    }

    /// Remembers an attempt: the next one after it waits longer.
    pub fn attempt(&mut self, now: Instant) {
        self.current = Some(match self.current {
            Some(current) if !self.is_forgotten(now) => (current * 2).min(LONGEST),
            _ => INITIAL,
        });
        self.updated = Some(now);
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        self.updated.is_none_or(|updated| now.duration_since(updated) > 2 * LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_the_next_wait_ten_seconds_and_more() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.remaining(start, start), None);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..7 {
            backoff.attempt(now);
            let wait = backoff.remaining(now, now).unwrap();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(backoff.remaining(now - wait, now), None);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_minutes_of_peace_forget_the_crashes() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        backoff.attempt(start);
        backoff.attempt(start);
        let later = start + Duration::from_secs(601);
        assert_eq!(backoff.remaining(later, later), None);
        backoff.attempt(later);
        assert_eq!(backoff.delay(), INITIAL);
    }
}
