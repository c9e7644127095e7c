//! Why pods are not ready: reasons that cannot heal, and the evidence for a finding.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};

use crate::finding::{Evidence, Finding, Id};

/// Lines of a log that are shown.
const LOG_LINES: i64 = 10;
/// Events that are shown, the newest.
const EVENTS: usize = 6;

/// Waiting reasons of a container after which waiting longer is in vain (k8s.io/kubernetes `pkg/kubelet/images`,
/// `pkg/kubelet/container`).
const TERMINAL: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// Of a pull that has failed, what no repetition changes (distribution `registry/api/errcode`, containerd `pkg/errdefs`).
const NO_SUCH_IMAGE: [&str; 6] =
    ["not found", "manifest unknown", "denied", "unauthorized", "invalid reference", "no match for platform"];
/// Of a container that could not be made, what the kubelet tries again with success: the node is busy (containerd and
/// cri-o, "failed to reserve container name"; the caches of the kubelet).
const BUSY: [&str; 3] = ["context deadline exceeded", "is reserved for", "timed out waiting for the condition"];
/// Attempts to pull after which the registry counts as out of reach: a kubelet makes them within half a minute.
const PULLS: i32 = 3;

const NO_IMAGE: &str =
    "Bring the image into the nodes with a9s images load, or name a place that has it with --image-map.";
/// Taint of a node whose disk is too full (Kubernetes documentation, "Node-pressure Eviction").
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";

/// Whether a pod has the condition `Ready` and is not being deleted.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    init.iter().chain(main)
}

/// Why no node takes a pod.
fn unscheduled(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    scheduled.message.as_deref().filter(|_| scheduled.status == "False")
}

/// What keeps a pod from being ready, in a few words.
pub fn difference(pod: &Pod) -> String {
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        return format!("the pod {name} is being deleted");
    }
    if let Some(why) = unscheduled(pod) {
        let way_out = match why {
            _ if why.contains(DISK_PRESSURE) => " (free space on the disk of one, or add one)",
            _ if why.contains("unbound immediate PersistentVolumeClaims") => " (is there a default StorageClass?)",
            _ => "",
        };
        return format!("the pod {name} has no node{way_out}: {why}");
    }
    let waiting = containers(pod).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some(format!("the container {} of the pod {name} waits: {}", container.name, waiting.reason.as_deref()?))
    });
    let unready = || {
        let container = containers(pod).find(|container| !container.ready)?;
        Some(format!("the container {} of the pod {name} is not ready", container.name))
    };
    waiting.or_else(unready).unwrap_or_else(|| format!("the pod {name} is not ready"))
}

/// The finding for a pod that cannot become ready by waiting, with its evidence; `None` while there is hope.
pub async fn terminal(client: &Client, pod: &Pod) -> Option<Finding> {
    let (container, reason, message) = terminal_reason(pod)?;
    let name = pod.name_any();
    let events = events_of(client, &pod.namespace().unwrap_or_default(), "Pod", &name).await;
    let is_pull = matches!(reason, "ErrImagePull" | "ImagePullBackOff");
    if is_pull && !is_in_vain(reason, &events) {
        return None;
    }
    let (id, advice) = match reason {
        "CrashLoopBackOff" => (Id::CrashLoop, None),
        "CreateContainerConfigError" | "CreateContainerError" => (Id::ContainerConfig, None),
        _ => (Id::ImagePull, Some(NO_IMAGE)),
    };
    let why = message.map(|message| format!(": {message}")).unwrap_or_default();
    let cause = format!("the container {container} of the pod {name} cannot run: {reason}{why}");
    let mut finding = Finding::new(id, cause);
    finding.advice.extend(advice.map(str::to_owned));
    finding.evidence = evidence(client, pod, events).await;
    Some(finding)
}

fn terminal_reason(pod: &Pod) -> Option<(&str, &str, Option<&str>)> {
    containers(pod).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let message = unstarted(container).or(waiting.message.as_deref());
        let is_busy = reason.starts_with("CreateContainer")
            && message.is_some_and(|message| BUSY.iter().any(|words| message.contains(words)));
        (TERMINAL.contains(&reason) && !is_busy).then_some((container.name.as_str(), reason, message))
    })
}

/// Why a container was not even started the last time: there is no log that says so.
fn unstarted(container: &ContainerStatus) -> Option<&str> {
    let last = container.last_state.as_ref()?.terminated.as_ref()?;
    last.message.as_deref().filter(|_| last.reason.as_deref() == Some("StartError"))
}

/// Whether pulling has failed for good. A registry that is busy, or a network that comes and goes, is tried again by the kubelet.
fn is_in_vain(reason: &str, events: &[Event]) -> bool {
    let failed = |event: &&Event| event.message.as_deref().is_some_and(|it| it.starts_with("Failed to pull image"));
    let says = |event: &Event| {
        let message = event.message.as_deref().unwrap_or_default().to_lowercase();
        NO_SUCH_IMAGE.iter().any(|words| message.contains(words))
    };
    let failures: Vec<&Event> = events.iter().filter(failed).collect();
    let attempts: i32 = failures.iter().map(|event| event.count.unwrap_or(1)).sum();
    // Who may not see events, sees the back-off.
    let is_hidden = failures.is_empty() && reason == "ImagePullBackOff";
    is_hidden || attempts >= PULLS || failures.into_iter().any(says)
}

/// What can be seen of a pod: its conditions, its events, the last lines of its unready containers' logs.
pub async fn of_pod(client: &Client, pod: &Pod) -> Vec<Evidence> {
    let events = events_of(client, &pod.namespace().unwrap_or_default(), "Pod", &pod.name_any()).await;
    evidence(client, pod, events).await
}

async fn evidence(client: &Client, pod: &Pod, events: Vec<Event>) -> Vec<Evidence> {
    let name = pod.name_any();
    let namespace = pod.namespace().unwrap_or_default();
    let mut evidence = vec![Evidence { about: format!("conditions of the pod {name}"), lines: conditions(pod) }];
    evidence.push(newest(events, &name));
    for container in containers(pod).filter(|container| !container.ready) {
        evidence.push(log(client, &namespace, &name, &container.name).await);
    }
    evidence.retain(|evidence| !evidence.lines.is_empty());
    evidence
}

fn conditions(pod: &Pod) -> Vec<String> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions
        .iter()
        .filter(|condition| condition.status != "True")
        .map(|condition| {
            let reason = condition.reason.as_deref().unwrap_or_default();
            let message = condition.message.as_deref().unwrap_or_default();
            format!("{}={} {reason} {message}", condition.type_, condition.status).trim_end().to_owned()
        })
        .collect()
}

async fn events_of(client: &Client, namespace: &str, kind: &str, name: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let parameters = ListParams::default().fields(&format!("involvedObject.kind={kind},involvedObject.name={name}"));
    api.list(&parameters).await.map(|list| list.items).unwrap_or_default()
}

/// The newest events about the object of this kind and name.
pub async fn events(client: &Client, namespace: &str, kind: &str, name: &str) -> Evidence {
    newest(events_of(client, namespace, kind, name).await, name)
}

fn newest(mut events: Vec<Event>, name: &str) -> Evidence {
    events.sort_by_key(|event| event.last_timestamp.clone().or(event.first_timestamp.clone()).map(|time| time.0));
    let lines = events.iter().rev().take(EVENTS).map(event_line).collect();
    Evidence { about: format!("events of {name}"), lines }
}

/// An event in one line.
pub fn event_line(event: &Event) -> String {
    let reason = event.reason.as_deref().unwrap_or_default();
    let message = event.message.as_deref().unwrap_or_default();
    format!("{} {reason}: {message}", event.type_.as_deref().unwrap_or("Normal"))
}

/// The last lines that a container has written, or else those of its run before.
pub async fn log(client: &Client, namespace: &str, pod: &str, container: &str) -> Evidence {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut parameters =
        LogParams { container: Some(container.to_owned()), tail_lines: Some(LOG_LINES), ..LogParams::default() };
    let mut text = api.logs(pod, &parameters).await.unwrap_or_default();
    if text.trim().is_empty() {
        parameters.previous = true;
        text = api.logs(pod, &parameters).await.unwrap_or_default();
    }
    let lines = text.lines().map(str::to_owned).collect();
    Evidence { about: format!("log of the container {container} of the pod {pod}"), lines }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "solo-0"}, "status": status})).unwrap()
    }

    #[test]
    fn a_crash_loop_cannot_heal_and_a_starting_container_can() {
        let waiting = |reason: &str| {
            pod(json!({"containerStatuses": [{
                "name": "postgres", "ready": false, "restartCount": 1, "image": "", "imageID": "",
                "state": {"waiting": {"reason": reason, "message": "back-off"}},
            }]}))
        };
        assert_eq!(
            terminal_reason(&waiting("CrashLoopBackOff")),
            Some(("postgres", "CrashLoopBackOff", Some("back-off")))
        );
        assert_eq!(terminal_reason(&waiting("ContainerCreating")), None);
        let mut unstarted = waiting("CrashLoopBackOff");
        let last = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "no processes"}});
        for container in unstarted.status.iter_mut().flat_map(|status| &mut status.container_statuses).flatten() {
            container.last_state = serde_json::from_value(last.clone()).unwrap();
        }
        assert_eq!(terminal_reason(&unstarted), Some(("postgres", "CrashLoopBackOff", Some("no processes"))));
        assert_eq!(
            difference(&waiting("ContainerCreating")),
            "the container postgres of the pod solo-0 waits: ContainerCreating"
        );
    }

    #[test]
    fn a_container_that_a_busy_node_could_not_make_is_made_later() {
        let waiting = |reason: &str, message: &str| {
            pod(json!({"containerStatuses": [{
                "name": "manager", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                "state": {"waiting": {"reason": reason, "message": message}},
            }]}))
        };
        for (reason, message, is_hopeless) in [
            ("CreateContainerError", "context deadline exceeded", false),
            ("CreateContainerError", "failed to reserve container name x_0: name x_0 is reserved for 1f", false),
            ("CreateContainerConfigError", "failed to sync secret cache: timed out waiting for the condition", false),
            ("CreateContainerError", "no command specified", true),
            ("CreateContainerConfigError", "secret \"gone\" not found", true),
            ("CrashLoopBackOff", "context deadline exceeded", true),
        ] {
            assert_eq!(terminal_reason(&waiting(reason, message)).is_some(), is_hopeless, "{reason}: {message}");
        }
    }

    #[test]
    fn a_registry_that_is_busy_is_tried_again_and_an_image_that_is_not_there_is_not() {
        let failed = |why: &str, count: i32| -> Event {
            let message = format!("Failed to pull image \"a9s/x:1\": rpc error: {why}");
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "message": message, "count": count}))
                .unwrap()
        };
        let busy = "code = Unknown desc = unexpected status code: 429 Too Many Requests";
        assert!(!is_in_vain("ErrImagePull", &[]));
        assert!(!is_in_vain("ErrImagePull", &[failed(busy, 1)]));
        assert!(!is_in_vain("ImagePullBackOff", &[failed(busy, 2)]));
        assert!(is_in_vain("ImagePullBackOff", &[failed(busy, 3)]));
        assert!(is_in_vain("ImagePullBackOff", &[failed(busy, 2), failed("dial tcp: i/o timeout", 1)]));
        assert!(is_in_vain("ErrImagePull", &[failed("docker.io/a9s/x:1: not found", 1)]));
        assert!(is_in_vain("ImagePullBackOff", &[]), "events that can't be seen");
    }

    #[test]
    fn a_pod_that_no_node_takes_says_why() {
        let why = "0/1 nodes are available: 1 node(s) were unschedulable.";
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why});
        assert_eq!(difference(&pod(json!({"conditions": [condition]}))), format!("the pod solo-0 has no node: {why}"));
        let why = "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.";
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why});
        let said = difference(&pod(json!({"conditions": [condition]})));
        assert!(said.starts_with("the pod solo-0 has no node (free space on the disk"), "{said}");
    }

    #[test]
    fn running_is_not_ready() {
        assert!(!is_ready(&pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}))));
        assert!(is_ready(&pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}))));
    }
}
