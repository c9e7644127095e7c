//! What to do next about a Backup. Pure: everything is known, nothing is done.

use super::access::is_instance;
use super::conditions::{self, Trouble};
use super::order::Order;
use a8s_api::Backup;
use a8s_api::backup::PERMANENTLY_FAILED;
use jiff::Timestamp;
use std::time::Duration;

/// An agent that says nothing for so long is taken for dead.
pub const SILENCE: Duration = Duration::from_secs(60);
/// How long an agent may take to end what it does when its order is taken back.
pub const FAREWELL: Duration = Duration::from_secs(20);
/// How often what cannot be watched is looked at.
pub const LOOK: Duration = Duration::from_secs(2);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A pod that can carry out orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its address.
    pub ip: String,
    /// The major of its server.
    pub major: Option<u32>,
}

/// What is known beside the Backup or Restore itself.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whether the instance is there, and not being deleted.
    pub has_instance: bool,
    /// Its primary, if it is ready.
    pub primary: Option<Pod>,
    /// Whether the pod that has the order is there, also while it ends.
    pub has_pod: bool,
    /// Another order for the instance that runs, such as `backup nightly`.
    pub other: Option<String>,
    /// How long the agent has said nothing.
    pub silence: Duration,
    /// Now.
    pub now: Timestamp,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing, until something changes or this time has passed.
    Rest(Option<Duration>),
    /// Say why it waits, and look again.
    Wait(Trouble),
    /// Give the order to this pod.
    Order(Pod),
    /// Look whether everything is there, and be complete.
    Verify,
    /// The attempt has ended with this: remove what it left, then try again or fail.
    GiveUp(Trouble),
    /// It will never be.
    Fail(Trouble),
    /// Remove what a failed one has left.
    Clean,
}

/// What to do next about a Backup that is not being deleted.
pub fn next(backup: &Backup, seen: &Seen) -> Turn {
    if let Some(turn) = follow(backup, seen) {
        return turn;
    }
    let reference = &backup.spec.service_instance;
    if (!is_instance(reference) || !seen.has_instance) && !sabotage::sabotaged!("backup-without-instance") {
        return Turn::Fail(no_instance("backup", backup.metadata.namespace.as_deref(), reference));
    }
    let retries = backup.status.as_ref().and_then(|status| status.retries).unwrap_or(0);
    if let Some(pause) = pause(retries, backup.observed(), seen.now) {
        return Turn::Rest(Some(pause));
    }
    order(seen)
}

/// What follows at the end, or from what the agent says of the order; `None` if no order runs.
pub fn follow<K: Order>(object: &K, seen: &Seen) -> Option<Turn> {
    let all = object.conditions();
    if conditions::is_finished(all) {
        let has_left_something = object.is_ordered() && conditions::is_true(all, PERMANENTLY_FAILED);
        return Some(if has_left_something { Turn::Clean } else { Turn::Rest(None) });
    }
    if !object.is_ordered() {
        return None;
    }
    let said = conditions::get(all, K::SAID).map(|it| (it.status.as_str(), Trouble::of(it)));
    Some(match said {
        Some(("True", _)) => Turn::Verify,
        Some(("False", trouble)) => Turn::GiveUp(trouble),
        _ if !seen.has_pod => Turn::GiveUp(Trouble::new("PodGone", "the pod that had the order is gone")),
        _ if seen.silence >= SILENCE => {
            let text = format!("the agent has said nothing for {} seconds", SILENCE.as_secs());
            Turn::GiveUp(Trouble::new("AgentSilent", text))
        }
        _ => Turn::Rest(Some(SILENCE.saturating_sub(seen.silence).max(LOOK))),
    })
}

/// Gives the order, or says why not yet.
pub fn order(seen: &Seen) -> Turn {
    match (&seen.other, &seen.primary) {
        (Some(other), _) => Turn::Wait(Trouble::new("Waiting", format!("it waits for the {other} of this instance"))),
        (None, None) => Turn::Wait(Trouble::new("NoPrimary", "the instance has no primary that is ready")),
        (None, Some(pod)) => Turn::Order(pod.clone()),
    }
}

/// The sentence of the released tools for an instance that is not there.
pub fn no_instance(what: &str, namespace: Option<&str>, reference: &a8s_api::backup::InstanceReference) -> Trouble {
    let namespace = namespace.unwrap_or_default();
    let text = if is_instance(reference) {
        format!("Can't create {what} for non-existing service instance {} in namespace {namespace}", reference.name)
    } else {
        format!("{} {} is no kind of service instance that this stack has", reference.api_group, reference.kind)
    };
    Trouble::new("InstanceNotFound", text)
}

/// How long to wait before the next attempt, if there was one: 1, 2, 4, … seconds.
pub fn pause(retries: i64, last: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let last = last.filter(|_| retries > 0)?;
    let pause = Duration::from_secs(1 << (retries - 1).clamp(0, 6)).min(LONGEST_PAUSE);
    // A clock that was set back does not make anybody wait for what it says: the pause has passed then.
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or(pause);
    pause.checked_sub(passed).filter(|left| !left.is_zero())
}

/// Whether an attempt that failed is repeated, after so many repetitions. The schema lets through what only starts
/// with digits.
pub fn may_retry(max_retries: Option<&str>, retries: i64) -> bool {
    let text = max_retries.unwrap_or("Infinite");
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    // More than a number can hold is more than anybody counts to.
    if digits.is_empty() { true } else { retries < digits.parse().unwrap_or(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn pod() -> Pod {
        Pod { name: "solo-0".into(), uid: "p1".into(), ip: "127.64.0.9".into(), major: Some(15) }
    }

    fn seen() -> Seen {
        let silence = Duration::ZERO;
        Seen { has_instance: true, primary: Some(pod()), has_pod: true, other: None, silence, now: at(100) }
    }

    fn backup(conditions: &[(&str, &str, &str)], retries: i64) -> Backup {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(type_, status, reason)| {
                json!({"type": type_, "status": status, "reason": reason, "message": "words",
                       "lastTransitionTime": "1970-01-01T00:00:01Z"})
            })
            .collect();
        let reference = json!({"apiGroup": "postgresql.anynines.com", "kind": "PostgreSQL", "name": "solo"});
        let document = json!({
            "metadata": {"name": "b", "namespace": "shop"},
            "spec": {"serviceInstance": reference},
            "status": {"conditions": conditions, "retries": retries, "lastObservationTime": "1970-01-01T00:01:38Z"},
        });
        serde_json::from_value(document).expect("a backup")
    }

    #[test]
    fn a_new_backup_is_ordered_at_the_primary_whatever_way_the_kind_is_written() {
        assert_eq!(next(&backup(&[], 0), &seen()), Turn::Order(pod()));
    }

    #[test]
    fn a_backup_without_an_instance_fails_with_the_words_of_the_released_tools() {
        let Turn::Fail(trouble) = next(&backup(&[], 0), &Seen { has_instance: false, ..seen() }) else {
            panic!("not failed")
        };
        assert_eq!(trouble.message, "Can't create backup for non-existing service instance solo in namespace shop");
        assert!(trouble.is_permanent());
        let mut other = backup(&[], 0);
        other.spec.service_instance.kind = "Redis".into();
        let Turn::Fail(trouble) = next(&other, &seen()) else { panic!("not failed") };
        let text = "postgresql.anynines.com Redis is no kind of service instance that this stack has";
        assert_eq!(trouble.message, text);
    }

    #[test]
    fn it_waits_for_other_orders_and_for_a_primary() {
        let Turn::Wait(trouble) = next(&backup(&[], 0), &Seen { other: Some("backup a".into()), ..seen() }) else {
            panic!("not waiting")
        };
        assert_eq!(trouble.message, "it waits for the backup a of this instance");
        let no_primary = Trouble::new("NoPrimary", "the instance has no primary that is ready");
        assert_eq!(next(&backup(&[], 0), &Seen { primary: None, ..seen() }), Turn::Wait(no_primary));
    }

    #[test]
    fn an_order_is_followed_to_its_end() {
        let with = |status| backup(&[("InProgress", "True", "Ordered"), ("UploadedToS3", status, "Words")], 0);
        assert!(matches!(next(&with("Unknown"), &seen()), Turn::Rest(Some(_))));
        assert_eq!(next(&with("True"), &seen()), Turn::Verify);
        assert_eq!(next(&with("False"), &seen()), Turn::GiveUp(Trouble::new("Words", "words")));
        let gone = Trouble::new("PodGone", "the pod that had the order is gone");
        assert_eq!(next(&with("Unknown"), &Seen { has_pod: false, ..seen() }), Turn::GiveUp(gone));
        let silent = Trouble::new("AgentSilent", "the agent has said nothing for 60 seconds");
        assert_eq!(next(&with("Unknown"), &Seen { silence: SILENCE, ..seen() }), Turn::GiveUp(silent));
        // What was stored is looked at although its pod has gone.
        assert_eq!(next(&with("True"), &Seen { has_pod: false, ..seen() }), Turn::Verify);
    }

    #[test]
    fn nothing_is_done_at_the_end_but_to_clean_up_after_a_failure() {
        assert_eq!(next(&backup(&[("Complete", "True", "Done")], 0), &seen()), Turn::Rest(None));
        let failed = [("PermanentlyFailed", "True", "Why"), ("InProgress", "True", "Cleaning")];
        assert_eq!(next(&backup(&failed, 0), &seen()), Turn::Clean);
        assert_eq!(next(&backup(&failed[..1], 0), &seen()), Turn::Rest(None));
    }

    #[test]
    fn attempts_are_repeated_after_growing_pauses_as_often_as_is_allowed() {
        assert_eq!(next(&backup(&[], 2), &seen()), Turn::Order(pod()), "two seconds have passed");
        assert_eq!(next(&backup(&[], 3), &seen()), Turn::Rest(Some(Duration::from_secs(2))));
        assert_eq!(pause(50, Some(at(100)), at(100)), Some(LONGEST_PAUSE));
        for (text, retries, expected) in [
            (None, 99, true),
            (Some("Infinite"), 99, true),
            (Some("0"), 0, false),
            (Some("2"), 1, true),
            (Some("2"), 2, false),
        ] {
            assert_eq!(may_retry(text, retries), expected, "{text:?} after {retries}");
        }
    }
}
