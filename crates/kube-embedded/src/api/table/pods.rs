//! Pods and StatefulSets in a table.

use serde_json::Value;

use super::{Layout, age, column, duration, items, name, or, text, wide};

pub static PODS: Layout = Layout {
    columns: &[
        column("Name"),
        column("Ready"),
        column("Status"),
        column("Restarts"),
        column("Age"),
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    row: pod,
};

pub static STATEFUL_SETS: Layout = Layout {
    columns: &[column("Name"), column("Ready"), column("Age"), wide("Containers"), wide("Images")],
    row: |object| {
        let ready = object["status"]["readyReplicas"].as_i64().unwrap_or(0);
        let wanted = object["spec"]["replicas"].as_i64().unwrap_or(0);
        let containers = &object["spec"]["template"]["spec"]["containers"];
        let of = |field: &str| items(containers).map(|container| text(&container[field])).collect::<Vec<_>>().join(",");
        vec![name(object), format!("{ready}/{wanted}").into(), age(object), of("name").into(), of("image").into()]
    },
};

/// As `printPod`: the first init container that is not through, else the last container that waits or has ended, says
/// more than the phase.
fn pod(object: &Value) -> Vec<Value> {
    let statuses = &object["status"]["containerStatuses"];
    let total = items(&object["spec"]["containers"]).count();
    let ready =
        items(statuses).filter(|status| status["ready"] == true && status["state"]["running"].is_object()).count();
    let (initializing, init_reason) = initialization(object);
    let mut reason = or(text(&object["status"]["reason"]), text(&object["status"]["phase"])).to_owned();
    let mut shown = items(&object["status"]["initContainerStatuses"]).collect::<Vec<_>>();
    if initializing {
        reason = init_reason;
    } else {
        shown = items(statuses).collect();
        for status in items(statuses).collect::<Vec<_>>().into_iter().rev() {
            if let Some(said) = container_reason(status) {
                reason = said;
            }
        }
        if reason == "Completed"
            && items(statuses).any(|status| status["ready"] == true && status["state"]["running"].is_object())
        {
            let conditions = &object["status"]["conditions"];
            let ready =
                items(conditions).any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if object["metadata"]["deletionTimestamp"].is_string() {
        reason = if object["status"]["reason"] == "NodeLost" { "Unknown" } else { "Terminating" }.to_owned();
    }
    let status = &object["status"];
    let shown_or_none = |value: &Value| or(text(value), "<none>").to_owned();
    vec![
        name(object),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts(&shown).into(),
        age(object),
        shown_or_none(&status["podIP"]).into(),
        shown_or_none(&object["spec"]["nodeName"]).into(),
        shown_or_none(&status["nominatedNodeName"]).into(),
        "<none>".into(),
    ]
}

/// The count, and how long ago the last restart was.
fn restarts(statuses: &[&Value]) -> String {
    let count: i64 = statuses.iter().filter_map(|status| status["restartCount"].as_i64()).sum();
    let last =
        statuses.iter().map(|status| text(&status["lastState"]["terminated"]["finishedAt"])).max().unwrap_or_default();
    if count > 0 && !last.is_empty() { format!("{count} ({} ago)", duration::since(last)) } else { count.to_string() }
}

fn initialization(object: &Value) -> (bool, String) {
    let total = items(&object["spec"]["initContainers"]).count();
    for (index, status) in items(&object["status"]["initContainerStatuses"]).enumerate() {
        let state = &status["state"];
        let ended = &state["terminated"];
        if ended.is_object() && ended["exitCode"] == 0 {
            continue;
        }
        let reason = match container_reason(status) {
            Some(reason) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{index}/{total}"),
        };
        return (true, reason);
    }
    (false, String::new())
}

fn container_reason(status: &Value) -> Option<String> {
    let state = &status["state"];
    let waiting = text(&state["waiting"]["reason"]);
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    let ended = &state["terminated"];
    if !ended.is_object() {
        return None;
    }
    Some(match (text(&ended["reason"]), ended["signal"].as_i64().unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", ended["exitCode"].as_i64().unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(status: Value) -> (String, String, String) {
        let object =
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{}], "initContainers": [{}]}, "status": status});
        let cells = pod(&object);
        let cell = |index: usize| text(&cells[index]).to_owned();
        (cell(1), cell(2), cell(3))
    }

    #[test]
    fn the_status_of_a_pod_is_what_its_containers_say() {
        let running = json!({"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 0, "state": {"running": {}}}]});
        assert_eq!(shown(running), ("1/1".into(), "Running".into(), "0".into()));
        let crashing = json!({"phase": "Running", "containerStatuses": [
            {"ready": false, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        assert_eq!(shown(crashing), ("0/1".into(), "CrashLoopBackOff".into(), "2".into()));
        let starting = json!({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]});
        assert_eq!(shown(starting).1, "Init:0/1");
        let failed = json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]});
        assert_eq!(shown(failed).1, "ExitCode:3");
    }
}
