//! What to do next about a Restore. Pure: everything is known, nothing is done.

use super::access::is_instance;
use super::conditions::{self, RESTORED, Trouble};
use super::order::Order as _;
use super::plan::{Seen, Turn, follow, no_instance, order, pause};
use crate::instance::names::GENERATION;
use a8s_api::backup::{COMPLETE, PERMANENTLY_FAILED};
use a8s_api::{Backup, Restore};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use std::time::Duration;

/// How long a member that does not become ready is waited for. It may have been broken before.
const PATIENCE: Duration = Duration::from_secs(90);
/// Attempts are repeated as after this many: a restore has no count of its own.
const RETRIES: i64 = 3;

/// A member of the instance, as its pod shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of its pod.
    pub pod: String,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Whether it is the primary.
    pub is_primary: bool,
    /// Generation of its content.
    pub generation: Option<String>,
}

/// What to do next about a Restore that is not being deleted. `backup` is the Backup that it names, if it is there.
pub fn next(restore: &Restore, backup: Option<&Backup>, seen: &Seen) -> Turn {
    let reference = &restore.spec.service_instance;
    let namespace = restore.metadata.namespace.as_deref();
    match follow(restore, seen) {
        // Nobody is left to serve what was restored.
        Some(Turn::Verify) if !seen.has_instance => return Turn::Fail(no_instance("restore", namespace, reference)),
        Some(turn) => return turn,
        None => {}
    }
    if !is_instance(reference) || !seen.has_instance {
        return Turn::Fail(no_instance("restore", namespace, reference));
    }
    if let Err(trouble) = source(restore, backup) {
        return Turn::Fail(trouble);
    }
    let has_failed = conditions::get(restore.conditions(), RESTORED).is_some_and(|it| it.status == "False");
    if let Some(pause) = pause(if has_failed { RETRIES } else { 0 }, restore.observed(), seen.now) {
        return Turn::Rest(Some(pause));
    }
    order(seen)
}

/// The Backup, if it can be restored.
///
/// # Errors
/// Why not, in the words of the released tools where they have some.
pub fn source<'a>(restore: &Restore, backup: Option<&'a Backup>) -> Result<&'a Backup, Trouble> {
    let (name, namespace) = (&restore.spec.backup_name, restore.metadata.namespace.as_deref().unwrap_or_default());
    let Some(backup) = backup.filter(|backup| backup.metadata.deletion_timestamp.is_none()) else {
        let text = format!("Can't create restore for non-existing backup {name} in namespace {namespace}");
        return Err(Trouble::new("BackupNotFound", text));
    };
    if conditions::is_true(backup.conditions(), COMPLETE) {
        return Ok(backup);
    }
    let why = conditions::get(backup.conditions(), PERMANENTLY_FAILED).filter(|it| it.status == "True");
    let text = match why {
        Some(failed) => format!("the backup {name} has failed and cannot be restored: {}", failed.message),
        None => format!("the backup {name} is not complete and cannot be restored"),
    };
    Err(Trouble::new("BackupIncomplete", text))
}

/// Whether the instance has the content that was ordered, as its Lease says; `None` if there is no Lease.
pub fn has_content(restore: &Restore, lease: Option<&Lease>) -> Option<bool> {
    let generation = lease?.annotations().get(GENERATION);
    Some(generation.is_some_and(|it| restore.order() == Some(it)))
}

/// Who is waited for before the Restore is complete, if anybody: each member that is there serves the restored content.
/// `since` is how long the primary has had it.
pub fn waits_for(generation: &str, members: &[Member], since: Duration) -> Option<String> {
    let has = |member: &&Member| member.is_ready && member.generation.as_deref() == Some(generation);
    if !members.iter().filter(has).any(|member| member.is_primary) {
        return Some("the primary with the restored content is not ready yet".to_owned());
    }
    // A ready member with other content serves it: it is waited for however long it takes.
    let is_waited_for = |member: &&Member| !has(member) && (member.is_ready || since < PATIENCE);
    let waiting: Vec<&str> = members.iter().filter(is_waited_for).map(|member| member.pod.as_str()).collect();
    (!waiting.is_empty()).then(|| format!("{} does not serve the restored content yet", waiting.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::plan::Pod;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    fn seen() -> Seen {
        let pod = Pod { name: "solo-0".into(), uid: "p1".into(), ip: "127.64.0.9".into(), major: Some(15) };
        let now = Timestamp::from_second(100).expect("a time");
        Seen { has_instance: true, primary: Some(pod), has_pod: true, other: None, silence: Duration::ZERO, now }
    }

    fn condition(type_: &str, status: &str) -> Value {
        json!({"type": type_, "status": status, "reason": "Words", "message": "words",
               "lastTransitionTime": "1970-01-01T00:00:01Z"})
    }

    fn restore(conditions: &[Value]) -> Restore {
        let reference = json!({"apiGroup": "postgresql.anynines.com", "kind": "Postgresql", "name": "solo"});
        let document = json!({
            "metadata": {"name": "r", "namespace": "shop"},
            "spec": {"backupName": "b", "serviceInstance": reference},
            "status": {"conditions": conditions, "lastObservationTime": "1970-01-01T00:01:39Z"},
        });
        serde_json::from_value(document).expect("a restore")
    }

    fn backup(conditions: &[Value]) -> Backup {
        serde_json::from_value(json!({"metadata": {"name": "b"}, "status": {"conditions": conditions}}))
            .expect("a backup")
    }

    #[test]
    fn only_a_complete_backup_is_restored_into_an_instance_that_is_there() {
        let complete = backup(&[condition("Complete", "True")]);
        assert!(matches!(next(&restore(&[]), Some(&complete), &seen()), Turn::Order(_)));
        let failure = |turn| match turn {
            Turn::Fail(trouble) => trouble.message,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            failure(next(&restore(&[]), None, &seen())),
            "Can't create restore for non-existing backup b in namespace shop"
        );
        assert_eq!(
            failure(next(&restore(&[]), Some(&complete), &Seen { has_instance: false, ..seen() })),
            "Can't create restore for non-existing service instance solo in namespace shop"
        );
        let incomplete = failure(next(&restore(&[]), Some(&backup(&[])), &seen()));
        assert_eq!(incomplete, "the backup b is not complete and cannot be restored");
        let failed = backup(&[condition("PermanentlyFailed", "True")]);
        assert!(failure(next(&restore(&[]), Some(&failed), &seen())).ends_with("cannot be restored: words"));
    }

    #[test]
    fn an_attempt_that_failed_is_repeated_after_a_pause() {
        let complete = backup(&[condition("Complete", "True")]);
        let again = restore(&[condition("InProgress", "False"), condition("Restored", "False")]);
        assert!(matches!(next(&again, Some(&complete), &seen()), Turn::Rest(Some(_))));
        let running = [condition("InProgress", "True"), condition("Restored", "Unknown")];
        // What becomes of the backup does not matter any more.
        assert!(matches!(next(&restore(&running), None, &seen()), Turn::Rest(Some(_))));
        let done = [condition("InProgress", "True"), condition("Restored", "True")];
        assert_eq!(next(&restore(&done), Some(&complete), &seen()), Turn::Verify);
    }

    #[test]
    fn what_was_restored_into_an_instance_that_is_gone_is_waited_for_nowhere() {
        let mut done = restore(&[condition("InProgress", "True"), condition("Restored", "True")]);
        let gone = Seen { has_instance: false, primary: None, has_pod: false, ..seen() };
        let Turn::Fail(trouble) = next(&done, None, &gone) else { panic!("not failed") };
        assert!(trouble.message.contains("non-existing service instance solo"), "{}", trouble.message);

        done.status.get_or_insert_default().restore_id = Some("r-1".into());
        let lease = |annotations: Value| -> Lease {
            serde_json::from_value(json!({"metadata": {"annotations": annotations}})).expect("a Lease")
        };
        assert_eq!(has_content(&done, Some(&lease(json!({(GENERATION): "r-1"})))), Some(true));
        assert_eq!(has_content(&done, Some(&lease(json!({(GENERATION): "r-2"})))), Some(false));
        assert_eq!(has_content(&done, Some(&lease(json!({})))), Some(false), "an instance that was never restored");
        assert_eq!(has_content(&done, None), None);
    }

    #[test]
    fn every_member_that_serves_has_the_restored_content_before_the_end() {
        let member = |pod: &str, is_ready, generation: &str| Member {
            pod: pod.into(),
            is_ready,
            is_primary: pod == "a",
            generation: Some(generation.into()),
        };
        let waits = |members: &[Member], since| waits_for("new", members, Duration::from_secs(since));
        let primary = "the primary with the restored content is not ready yet";
        assert_eq!(waits(&[], 0).as_deref(), Some(primary));
        assert_eq!(waits(&[member("a", false, "new")], 500).as_deref(), Some(primary));
        assert_eq!(waits(&[member("a", true, "new")], 0), None);
        let text = waits(&[member("a", true, "new"), member("b", true, "old")], 500).expect("waits");
        assert_eq!(text, "b does not serve the restored content yet");
        let broken = [member("a", true, "new"), member("b", false, "old")];
        assert!(waits(&broken, 10).is_some());
        assert_eq!(waits(&broken, 90), None, "it is not waited for a broken member for ever");
    }
}
