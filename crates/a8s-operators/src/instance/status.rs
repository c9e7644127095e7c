//! How an instance is: its status, from its StatefulSet.

use super::names::TROUBLE;
use a8s_api::{Postgresql, PostgresqlStatus};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::core::{DynamicObject, PartialObjectMeta};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The status of an instance whose StatefulSet is this, and which has this trouble.
pub fn status(instance: &Postgresql, stateful_set: Option<&DynamicObject>, error: Option<String>) -> PostgresqlStatus {
    let ready = stateful_set.and_then(|set| i32::try_from(set.data["status"]["readyReplicas"].as_i64()?).ok());
    let ready = ready.unwrap_or(0);
    let wanted = instance.spec.replicas();
    let is_ready = sabotage::sabotaged!("status-running-too-early") || ready >= wanted;
    let is_whole = wanted > 0 && is_ready && instance.metadata.deletion_timestamp.is_none();
    let cluster_status =
        if is_whole && !sabotage::sabotaged!("status-never-running") { "Running" } else { "NotRunning" };
    let was_initialized = instance.status.as_ref().and_then(|status| status.initialized) == Some(true);
    PostgresqlStatus {
        cluster_status: Some(cluster_status.to_owned()),
        error,
        initialized: (was_initialized || ready > 0).then_some(true),
        ready_replicas: Some(ready),
    }
}

/// Whether a StatefulSet has fewer pods than it should have.
pub fn lacks_pods(stateful_set: &DynamicObject, pods: usize) -> bool {
    let wanted = stateful_set.data["spec"]["replicas"].as_u64().and_then(|wanted| usize::try_from(wanted).ok());
    wanted.is_some_and(|wanted| pods < wanted)
}

/// Why a StatefulSet gets no pods, such as for a quota or a policy, from the events about it: its controller says what
/// it could make and what not (Kubernetes, `pkg/controller/statefulset`, `recordPodEvent`).
pub fn refusal(events: &[Event]) -> Option<String> {
    const REFUSED: &str = "FailedCreate";
    let made = events.iter().filter(|event| matches!(event.reason.as_deref(), Some(REFUSED | "SuccessfulCreate")));
    let is_refused = |event: &Event| event.reason.as_deref() == Some(REFUSED);
    // Times have whole seconds, and one member may be refused just after another was made.
    let last = made.max_by_key(|event| (event.last_timestamp.as_ref().map(|time| time.0), is_refused(event)))?;
    last.message.clone().filter(|_| is_refused(last))
}

/// What the members of an instance wait for, as their agents say in an annotation: each sentence once, with who says it.
pub fn trouble(pods: &[PartialObjectMeta<Pod>]) -> Option<String> {
    let mut told: BTreeMap<&String, Vec<&str>> = BTreeMap::new();
    for pod in pods {
        let text = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(TROUBLE));
        if let Some(text) = text {
            told.entry(text).or_default().push(pod.metadata.name.as_deref().unwrap_or_default());
        }
    }
    let texts: Vec<String> = told.into_iter().map(|(text, pods)| format!("{}: {text}", pods.join(", "))).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// The merge patch that makes the instance's status this one; `None` if it is already.
pub fn patch(instance: &Postgresql, status: &PostgresqlStatus) -> Option<Value> {
    (instance.status.as_ref() != Some(status)).then(|| {
        json!({"status": {
            "clusterStatus": status.cluster_status,
            "initialized": status.initialized,
            "readyReplicas": status.ready_replicas,
            // Null removes what an earlier trouble left.
            "error": status.error,
        }})
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use a8s_api::PostgresqlSpec;

    fn set(ready: i32) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {}, "status": {"readyReplicas": ready}})).expect("a set")
    }

    #[test]
    fn an_instance_runs_when_every_member_is_ready() {
        for (wanted, ready, expected) in
            [(1, 0, "NotRunning"), (1, 1, "Running"), (3, 2, "NotRunning"), (3, 3, "Running"), (0, 0, "NotRunning")]
        {
            let instance =
                Postgresql::new("solo", PostgresqlSpec { replicas: Some(wanted), ..PostgresqlSpec::default() });
            let status = status(&instance, Some(&set(ready)), None);
            assert_eq!(status.cluster_status.as_deref(), Some(expected), "{ready} of {wanted}");
            assert_eq!(status.ready_replicas, Some(ready));
        }
    }

    #[test]
    fn a_status_that_is_right_is_not_written_again() {
        let mut instance = Postgresql::new("solo", PostgresqlSpec::default());
        let right = status(&instance, Some(&set(1)), None);
        assert!(patch(&instance, &right).is_some());
        instance.status = Some(right.clone());
        assert_eq!(patch(&instance, &right), None);
    }

    #[test]
    fn an_instance_that_has_had_a_member_stays_one_that_has_data() {
        let mut instance = Postgresql::new("solo", PostgresqlSpec::default());
        for (ready, expected) in [(0, None), (1, Some(true)), (0, Some(true))] {
            instance.status = Some(status(&instance, Some(&set(ready)), None));
            assert_eq!(instance.status.as_ref().and_then(|status| status.initialized), expected, "{ready} ready");
        }
        let denied = PostgresqlStatus { initialized: Some(false), ..PostgresqlStatus::default() };
        instance.status = Some(denied);
        for (ready, expected) in [(0, None), (1, Some(true))] {
            assert_eq!(status(&instance, Some(&set(ready)), None).initialized, expected, "denied, {ready} ready");
        }
    }

    #[test]
    fn what_members_wait_for_is_told_once_with_their_names() {
        let pod = |name: &str, text: Option<&str>| -> PartialObjectMeta<Pod> {
            let annotations = text.map(|text| json!({(TROUBLE): text})).unwrap_or_default();
            serde_json::from_value(json!({"metadata": {"name": name, "annotations": annotations}})).expect("a pod")
        };
        assert_eq!(trouble(&[pod("x-0", None)]), None);
        let pods = [pod("x-0", Some("writes wait")), pod("x-1", Some("no data")), pod("x-2", Some("no data"))];
        assert_eq!(trouble(&pods).as_deref(), Some("x-1, x-2: no data; x-0: writes wait"));
    }

    #[test]
    fn a_stateful_set_without_pods_says_why_until_it_could_make_one() {
        let event = |reason: &str, second: &str, message: &str| -> Event {
            let time = format!("2026-01-02T03:04:{second}Z");
            let event = json!({
                "metadata": {}, "involvedObject": {}, "reason": reason, "message": message, "lastTimestamp": time,
            });
            serde_json::from_value(event).expect("an event")
        };
        let refused = |second: &str| event("FailedCreate", second, "exceeded quota");
        let made = |second: &str| event("SuccessfulCreate", second, "create Claim x");
        assert_eq!(refusal(&[]), None);
        assert_eq!(refusal(&[event("FailedDelete", "05", "not allowed")]), None);
        for events in [[refused("05"), made("04")], [refused("05"), made("05")], [made("05"), refused("05")]] {
            assert_eq!(refusal(&events).as_deref(), Some("exceeded quota"), "{events:?}");
        }
        assert_eq!(refusal(&[refused("05"), made("06")]), None);
        let set = json!({"metadata": {}, "spec": {"replicas": 3}});
        let set: DynamicObject = serde_json::from_value(set).expect("a set");
        assert_eq!([0, 2, 3, 4].map(|pods| lacks_pods(&set, pods)), [true, true, false, false]);
    }

    #[test]
    fn a_healed_instance_loses_its_error() {
        let mut instance = Postgresql::new("solo", PostgresqlSpec::default());
        instance.status = Some(status(&instance, None, Some("trouble".into())));
        let healed = patch(&instance, &status(&instance, Some(&set(1)), None)).expect("a change");
        assert_eq!(healed["status"].get("error"), Some(&Value::Null));
    }
}
