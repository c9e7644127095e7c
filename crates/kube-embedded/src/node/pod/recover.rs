//! The containers of a pod whose processes an earlier run of the node had: what its status says they did, and that they
//! ended without telling how.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::node::status::{Record, State, Terminated, has_ended, recorded, restart_policy};

/// Exit code and reason of a container whose end nobody saw, as containerd reports them.
const UNKNOWN: (i32, &str) = (255, "Unknown");

/// The containers of a pod in their order, init containers first; as its status has them if it was here before.
pub(super) fn records(pod: &Pod) -> Vec<Record> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.clone().unwrap_or_default();
    let inits: Vec<_> = spec.init_containers.iter().flatten().collect();
    let waiting = if inits.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let init_statuses = status.init_container_statuses.unwrap_or_default();
    let statuses = status.container_statuses.unwrap_or_default();
    let mut records = Vec::new();
    for container in inits {
        let record = Record::new(container, true, "PodInitializing");
        records.push(match find(&init_statuses, &container.name) {
            // The pod starts anew, and its init containers with it, as after a reboot of a node.
            Some(old) => continued(record, old, has_ended(pod) || restart_policy(pod) == "Never"),
            None => record,
        });
    }
    for container in &spec.containers {
        let record = Record::new(container, false, waiting);
        records.push(match find(&statuses, &container.name) {
            Some(old) => continued(record, old, true),
            None => record,
        });
    }
    records
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == name)
}

fn continued(record: Record, old: &ContainerStatus, keeps_result: bool) -> Record {
    let state = old.state.clone().unwrap_or_default();
    let last = old.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(recorded);
    let id = old.container_id.as_deref().and_then(|id| id.strip_prefix("a9s://")).unwrap_or_default().to_owned();
    let ended = match (&state.running, &state.terminated) {
        (Some(running), _) => Some(Terminated {
            exit_code: UNKNOWN.0,
            reason: UNKNOWN.1.into(),
            message: None,
            started: running.started_at.as_ref().map(|time| time.0),
            finished: Timestamp::now(),
            id: id.clone(),
        }),
        (None, Some(terminated)) => Some(recorded(terminated)),
        (None, None) => None,
    };
    let restarts = old.restart_count;
    match ended {
        Some(ended) if keeps_result => Record { state: State::Terminated(ended), last, restarts, id, ..record },
        Some(ended) => Record { last: Some(ended), restarts, id, again: true, ..record },
        None => Record { last, restarts, id, ..record },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_ran_has_ended_with_an_unknown_result() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 2, "containerID": "a9s://x",
                 "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}},
            ]},
        }))
        .unwrap();
        let records = records(&pod);
        let State::Terminated(ended) = &records[0].state else { panic!("{records:?}") };
        assert_eq!((ended.exit_code, ended.reason.as_str(), ended.id.as_str()), (255, "Unknown", "x"));
        assert_eq!(records[0].restarts, 2);
        assert!(!records[0].ready);
        assert_eq!(records[1].state, State::Waiting { reason: "ContainerCreating".into(), message: None });
    }

    #[test]
    fn a_pod_that_had_ended_stays_so_and_init_containers_run_again_otherwise() {
        let pod = |phase: &str| -> Pod {
            let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
            serde_json::from_value(json!({
                "metadata": {"name": "p"},
                "spec": {"restartPolicy": "OnFailure", "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]},
                "status": {"phase": phase,
                    "initContainerStatuses": [
                        {"name": "i", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": done}],
                    "containerStatuses": [
                        {"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": done}]},
            }))
            .unwrap()
        };
        let over = records(&pod("Succeeded"));
        assert!(over.iter().all(Record::has_succeeded), "{over:?}");
        let running = records(&pod("Running"));
        assert!(!running[0].has_succeeded() && running[0].again);
    }
}
