//! PostgreSQL instances and the objects they consist of.

use std::collections::BTreeMap;
use std::time::Duration;

use a8s_api::LABEL_NAME;
use a8s_operators::instance::names;
use cucumber::gherkin::Step;
use cucumber::{given, then, when};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::conformance::inventory;
use crate::conformance::observe::{self, Look, SOON, until};
use crate::conformance::stage::Stage;
use crate::conformance::{Failure, World};

#[given(expr = "an instance {string}")]
async fn given(world: &mut World, name: String) -> Result<(), Failure> {
    create(world, name).await?;
    world.last()?.require_success()
}

#[given(expr = "an instance {string} in the namespace {string}")]
async fn given_in(world: &mut World, name: String, namespace: String) -> Result<(), Failure> {
    create_in(world, name, namespace).await?;
    world.last()?.require_success()
}

#[given(regex = r#"^an instance "([^"]+)" with `(.+)`$"#)]
async fn given_with(world: &mut World, name: String, flags: String) -> Result<(), Failure> {
    create_with(world, name, flags).await?;
    world.last()?.require_success()
}

#[when(expr = "I create an instance {string}")]
async fn create(world: &mut World, name: String) -> Result<(), Failure> {
    world.a9s(&["create", "pg", "instance", "--name", &name, "--yes"]).await.map(drop)
}

#[when(expr = "I create an instance {string} in the namespace {string}")]
async fn create_in(world: &mut World, name: String, namespace: String) -> Result<(), Failure> {
    let namespace = world.namespace_called(&namespace);
    world.a9s(&["create", "pg", "instance", "--name", &name, "--namespace", &namespace, "--yes"]).await.map(drop)
}

#[when(regex = r#"^I create an instance "([^"]+)" with `(.+)`$"#)]
async fn create_with(world: &mut World, name: String, flags: String) -> Result<(), Failure> {
    let flags = world.expand(&flags);
    let mut words = vec!["create", "pg", "instance", "--name", &name, "--yes"];
    words.extend(flags.split_whitespace());
    world.a9s(&words).await.map(drop)
}

#[when(expr = "I delete the instance {string}")]
async fn delete(world: &mut World, name: String) -> Result<(), Failure> {
    world.a9s(&["delete", "pg", "instance", "--name", &name, "--yes"]).await.map(drop)
}

#[when(expr = "I delete the instance {string} in the namespace {string}")]
async fn delete_in(world: &mut World, name: String, namespace: String) -> Result<(), Failure> {
    let namespace = world.namespace_called(&namespace);
    world.a9s(&["delete", "pg", "instance", "--name", &name, "--namespace", &namespace, "--yes"]).await.map(drop)
}

#[then(regex = r#"^the instance "([^"]+)"(?: in the namespace "([^"]+)")? is ready$"#)]
async fn ready(world: &mut World, name: String, namespace: String) -> Result<(), Failure> {
    let (client, namespace) = (world.client().await?, world.namespace_or_own(&namespace));
    until(format!("instance {name} to be ready"), SOON, || observe::instance_ready(&client, &namespace, &name)).await
}

#[then(expr = "there is no instance {string}")]
async fn absent(world: &mut World, name: String) -> Result<(), Failure> {
    let found = observe::object(&world.client().await?, world.namespace(), "postgresql", &name).await?;
    found.map_or(Ok(()), |object| Err(Failure::unexpected(format!("no instance {name}"), object.to_string())))
}

#[then(expr = "there is still an instance {string}")]
async fn present(world: &mut World, name: String) -> Result<(), Failure> {
    let found = observe::object(&world.client().await?, world.namespace(), "postgresql", &name).await?;
    found.map(drop).ok_or_else(|| Failure::unexpected(format!("an instance {name}"), "none"))
}

/// Whatever is an instance's own is gone, that of all its members included. What was reported of it outlives it.
#[then(expr = "nothing of the instance {string} is left")]
async fn nothing_left(world: &mut World, name: String) -> Result<(), Failure> {
    let client = world.client().await?;
    let namespace = world.namespace().to_owned();
    until(format!("the end of everything of {name}"), SOON, || async {
        for kind in observe::kinds().filter(|kind| *kind != "event") {
            let list = observe::all(&client, &namespace, kind).await?;
            if let Some(left) = list.iter().find(|object| is_of(&name, kind, object)) {
                return Ok(Look::NotYet(format!("{kind} {} is there", left.name_any())));
            }
        }
        Ok(Look::Yes(()))
    })
    .await
}

/// Whether an object is an instance's own, as its name says or its label. Released operators leave some with the label.
fn is_of(instance: &str, kind: &str, object: &DynamicObject) -> bool {
    let name = object.name_any();
    let is_of_member = |before: &str| {
        let number = name.strip_prefix(before).and_then(|rest| rest.strip_prefix('-'));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let is_builtin = Stage::get().existing.as_ref().is_none_or(|existing| existing.stack == "builtin");
    if is_builtin && object.labels().get(LABEL_NAME).is_some_and(|label| label == instance) {
        return true;
    }
    let services =
        || [names::primary_service(instance), names::agent_service(instance), names::read_only_service(instance)];
    match kind {
        "postgresql" | "statefulset" | "serviceaccount" | "lease" => name == instance,
        "pod" => is_of_member(instance),
        "persistentvolumeclaim" => is_of_member(&names::data_claim(instance)),
        "service" => services().contains(&name),
        "endpoints" => name == instance || services().contains(&name),
        "rolebinding" | "role" => {
            [instance, &names::agent_role(instance), &names::order_role(instance)].contains(&name.as_str())
        }
        "secret" => [
            names::credentials("postgres", instance),
            names::credentials("standby", instance),
            names::logins(instance),
            names::backup_store(instance),
        ]
        .contains(&name),
        "configmap" => name == names::connection(instance),
        _ => false,
    }
}

#[then(expr = "the namespace has exactly these objects:")]
async fn exactly(world: &mut World, step: &Step) -> Result<(), Failure> {
    let client = world.client().await?;
    let groups = grouped(step);
    let instances = groups.get("postgresql").cloned().unwrap_or_default();
    // Controllers of somebody else's cluster have objects in every namespace.
    let is_of_others = |object: &DynamicObject| {
        let text = serde_json::to_string(object).unwrap_or_default();
        Stage::get().existing.is_some() && !instances.iter().any(|instance| text.contains(instance))
    };
    for (kind, wanted) in groups {
        let mut list = observe::objects(&client, world.namespace(), &kind)?.list(&ListParams::default()).await?.items;
        list.retain(|object| !is_of_others(object));
        let mut found: Vec<String> = list.into_iter().filter_map(|object| object.metadata.name).collect();
        found.retain(|name| name != "default" && name != "kube-root-ca.crt");
        found.sort();
        if found != wanted {
            return Err(Failure::unexpected(format!("of {kind} exactly {wanted:?}"), format!("{found:?}")));
        }
    }
    Ok(())
}

fn grouped(step: &Step) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows(step) {
        if let [kind, name] = row.as_slice() {
            let names = groups.entry(kind.clone()).or_default();
            if !name.is_empty() {
                names.push(name.clone());
            }
            names.sort();
        }
    }
    groups
}

/// The rows of a step's table below its heading.
pub(super) fn rows(step: &Step) -> &[Vec<String>] {
    step.table.as_ref().and_then(|table| table.rows.get(1..)).unwrap_or_default()
}

#[then(regex = r#"^the (\w+) "([^"]+)" has exactly these (labels|selectors):$"#)]
async fn labels(world: &mut World, kind: String, name: String, what: String, step: &Step) -> Result<(), Failure> {
    let object = existing(world, &kind, &name).await?;
    let pointer = match (what.as_str(), kind.as_str()) {
        ("labels", _) => "/metadata/labels",
        (_, "statefulset") => "/spec/selector/matchLabels",
        _ => "/spec/selector",
    };
    let found: BTreeMap<String, String> =
        object.pointer(pointer).cloned().map(serde_json::from_value).transpose()?.unwrap_or_default();
    let wanted: BTreeMap<String, String> =
        rows(step).iter().filter_map(|row| Some((row.first()?.clone(), row.get(1)?.clone()))).collect();
    Failure::unless(found == wanted, format!("{wanted:?}"), format!("{found:?}"))
}

/// Of an object of Kubernetes, null says that a field is not there.
const ABSENT: Option<&str> = Some("null");

#[then(regex = r#"^the (\w+) "([^"]+)" has these values:$"#)]
async fn values(world: &mut World, kind: String, name: String, step: &Step) -> Result<(), Failure> {
    let object = existing(world, &kind, &name).await?;
    match difference(world, &object, step, ABSENT) {
        Some((wanted, found)) => Err(Failure::unexpected(wanted, found)),
        None => Ok(()),
    }
}

#[then(regex = r#"^the (\w+) "([^"]+)" soon has these values:$"#)]
async fn soon_values(world: &mut World, kind: String, name: String, step: &Step) -> Result<(), Failure> {
    until(format!("these values of the {kind} {name}"), SOON, || async {
        let object = existing(world, &kind, &name).await?;
        Ok(match difference(world, &object, step, ABSENT) {
            Some((wanted, found)) => Look::NotYet(format!("{found} instead of {wanted}")),
            None => Look::Yes(()),
        })
    })
    .await
}

/// Of the values that are not as the table says the first: what it should be, and what it is. A field that is not there is
/// as good as one with the text `absent`.
pub(super) fn difference(world: &World, object: &Value, step: &Step, absent: Option<&str>) -> Option<(String, String)> {
    rows(step).iter().find_map(|row| {
        let [pointer, wanted] = row.as_slice() else { return None };
        let found = instead(object, pointer, &world.expand(wanted), absent)?;
        Some((format!("{wanted} at {pointer}"), found))
    })
}

/// What a document has where it should have `wanted`, as text, a word without its quotes; `None` where it is that.
pub(super) fn instead(document: &Value, pointer: &str, wanted: &str, absent: Option<&str>) -> Option<String> {
    let Some(found) = document.pointer(pointer) else {
        return (absent != Some(wanted)).then(|| "no such field".to_owned());
    };
    let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    (found != wanted).then_some(found)
}

/// An object that has to be there.
pub(super) async fn existing(world: &World, kind: &str, name: &str) -> Result<Value, Failure> {
    observe::object(&world.client().await?, world.namespace(), kind, name)
        .await?
        .ok_or_else(|| Failure::unexpected(format!("{kind} {name}"), "none"))
}

#[then(expr = "a scrape of the pod {string} soon has these samples:")]
async fn samples(world: &mut World, name: String, step: &Step) -> Result<(), Failure> {
    let client = world.client().await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), world.namespace());
    until(format!("these samples of {name}"), SOON, || async {
        let answer = observe::scrape(&client, &pods.get(&name).await?).await?;
        let samples: Vec<&str> = answer.lines().collect();
        let missing = rows(step).iter().map(|row| row.join(" ")).find(|row| !samples.contains(&row.as_str()));
        Ok(Look::when(missing.is_none(), format!("no {} in {answer}", missing.unwrap_or_default())))
    })
    .await
}

#[then(expr = "the instance {string} has exactly these events:")]
async fn events(world: &mut World, name: String, step: &Step) -> Result<(), Failure> {
    let instance = existing(world, "postgresql", &name).await?;
    let uid = instance["metadata"]["uid"].as_str().unwrap_or_default();
    let events: Api<Event> = Api::all(world.client().await?);
    let selector = format!("involvedObject.uid={uid}");
    let list = events.list(&ListParams::default().fields(&selector)).await?;
    let mut found: Vec<String> = list
        .items
        .into_iter()
        .map(|event| format!("{} {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
        .collect();
    let mut wanted: Vec<String> = rows(step).iter().map(|row| world.expand(&row.join(" "))).collect();
    found.sort();
    wanted.sort();
    Failure::unless(found == wanted, wanted.join("\n"), found.join("\n"))
}

#[when(expr = "the pod of {string} is deleted")]
async fn delete_pod(world: &mut World, name: String) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    let pod = format!("{name}-0");
    let found = pods.get(&pod).await?;
    let old = found.metadata.uid;
    // So long it may take to end, and what comes after that is waited for as anything else.
    let grace = found.spec.and_then(|spec| spec.termination_grace_period_seconds).unwrap_or_default();
    pods.delete(&pod, &DeleteParams::default()).await?;
    until(format!("another pod {pod}"), SOON + Duration::from_secs(grace.unsigned_abs()), || async {
        let uid = pods.get_opt(&pod).await?.and_then(|pod| pod.metadata.uid);
        Ok(Look::when(uid.is_some() && uid != old, format!("{uid:?}")))
    })
    .await
}

#[when(expr = "the {word} of {string} is killed")]
async fn kill_part(world: &mut World, part: String, name: String) -> Result<(), Failure> {
    let uid = pod_uid(world, world.namespace(), &name).await?;
    let of_pod = inventory::processes_marked("A9S_POD_UID", &uid);
    let is_part = |line: &str| match part.as_str() {
        "postmaster" => line.contains("/postgres ") || line.ends_with("/postgres"),
        "agent" => line.contains("agent postgres"),
        _ => false,
    };
    let targets: Vec<_> = of_pod.iter().filter(|process| is_part(&process.line)).collect();
    // Backends are children of the postmaster with the same command line until they name themselves: the oldest is it.
    let Some(target) = targets.iter().min_by_key(|process| process.pid) else {
        return Err(Failure::unexpected(format!("a process that is the {part} of {name}"), format!("{of_pod:?}")));
    };
    Ok(target.signal(Signal::SIGKILL)?)
}

/// The UID of an instance's first pod.
pub(super) async fn pod_uid(world: &World, namespace: &str, instance: &str) -> Result<String, Failure> {
    let pods: Api<Pod> = Api::namespaced(world.client().await?, namespace);
    pods.get(&format!("{instance}-0")).await?.metadata.uid.ok_or(Failure::Missing("uid of the pod"))
}

#[then(expr = "{string} has exactly one primary")]
async fn one_primary(world: &mut World, name: String) -> Result<(), Failure> {
    let client = world.client().await?;
    until(format!("one primary of {name}"), SOON, || async {
        observe::primary(&client, world.namespace(), &name).await.map(|_| Look::Yes(()))
    })
    .await
}

#[then(expr = "a container of {string} has been restarted within {int} seconds")]
async fn restarted(world: &mut World, name: String, seconds: u64) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    until(format!("a restart in pod {name}-0"), Duration::from_secs(seconds), || async {
        let restarts = restarts(&pods, &name).await?;
        Ok(Look::when(restarts > 0, format!("{restarts} restarts")))
    })
    .await
}

#[then(expr = "no container of {string} has been restarted")]
async fn not_restarted(world: &mut World, name: String) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    match restarts(&pods, &name).await? {
        0 => Ok(()),
        some => Err(Failure::unexpected("no restart", format!("{some} restarts"))),
    }
}

/// How often containers of the first member have been restarted.
async fn restarts(pods: &Api<Pod>, instance: &str) -> Result<i32, Failure> {
    let status = pods.get(&format!("{instance}-0")).await?.status.unwrap_or_default();
    Ok(status.container_statuses.unwrap_or_default().iter().map(|status| status.restart_count).sum())
}

#[given(expr = "a namespace {string}")]
async fn namespace(world: &mut World, name: String) -> Result<(), Failure> {
    let name = world.namespace_called(&name);
    world.add_namespace(name).await
}

/// The server's user is told by the kernel, not by the server.
#[then(expr = "the server of {string} does not run as root")]
async fn unprivileged(world: &mut World, name: String) -> Result<(), Failure> {
    let uid = pod_uid(world, world.namespace(), &name).await?;
    let processes = inventory::processes_marked("A9S_POD_UID", &uid);
    let server = processes.iter().find(|process| process.line.contains("/postgres "));
    let server = server.ok_or_else(|| Failure::unexpected("a server", format!("{processes:?}")))?;
    let status = fs_err::read_to_string(format!("/proc/{}/status", server.pid))?;
    let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
    Failure::unless(uids.split_whitespace().skip(1).all(|uid| uid != "0"), "a user other than root", uids)
}

#[when(expr = "I change the parameters of {string}:")]
async fn parameters(world: &mut World, name: String, step: &Step) -> Result<(), Failure> {
    let mut parameters = serde_json::Map::new();
    for row in rows(step) {
        if let [parameter, value] = row.as_slice() {
            parameters.insert(parameter.clone(), serde_json::from_str(value)?);
        }
    }
    change(world, &name, &serde_json::json!({"spec": {"parameters": parameters}})).await
}

#[when(expr = "I label the instance {string} with {string}")]
async fn add_label(world: &mut World, name: String, label: String) -> Result<(), Failure> {
    let (key, value) = label.split_once('=').ok_or_else(|| Failure::unexpected("key=value", label.clone()))?;
    change(world, &name, &serde_json::json!({"metadata": {"labels": {key: value}}})).await
}

#[when(expr = "I take the label {string} off the instance {string}")]
async fn remove_label(world: &mut World, key: String, name: String) -> Result<(), Failure> {
    change(world, &name, &serde_json::json!({"metadata": {"labels": {(key): null}}})).await
}

async fn change(world: &World, name: &str, change: &Value) -> Result<(), Failure> {
    let instances = observe::objects(&world.client().await?, world.namespace(), "postgresql")?;
    instances.patch(name, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(())
}

#[then(expr = "the {word} {string} soon has the label {string}")]
async fn has_label(world: &mut World, kind: String, name: String, label: String) -> Result<(), Failure> {
    let (key, value) = label.split_once('=').unwrap_or((&label, ""));
    until(format!("label {label} of {kind} {name}"), SOON, || async {
        let object = existing(world, &kind, &name).await?;
        let labels = &object["metadata"]["labels"];
        Ok(Look::when(labels[key] == value, labels))
    })
    .await
}

#[then(expr = "the {word} {string} soon has no label {string}")]
async fn has_no_label(world: &mut World, kind: String, name: String, key: String) -> Result<(), Failure> {
    until(format!("no label {key} of {kind} {name}"), SOON, || async {
        let object = existing(world, &kind, &name).await?;
        let labels = &object["metadata"]["labels"];
        Ok(Look::when(labels[&key].is_null(), labels))
    })
    .await
}

#[then(expr = "the instance {string} has {int} events with the reason {string}")]
async fn counted_events(world: &mut World, name: String, count: usize, reason: String) -> Result<(), Failure> {
    until(format!("{count} events {reason}"), SOON, || async {
        let found = messages(world, &name, &reason).await?;
        Ok(Look::when(found.len() == count, found.join(", ")))
    })
    .await
}

/// By its name, as nobody knows its UID any more.
#[then(expr = "that the instance {string} is gone is told once")]
async fn deletion_told(world: &mut World, name: String) -> Result<(), Failure> {
    let events: Api<Event> = Api::namespaced(world.client().await?, world.namespace());
    let of_instance = ListParams::default().fields(&format!("involvedObject.name={name},reason=Deleted"));
    let told = until(format!("an event of the end of {name}"), SOON, || async {
        let found = events.list(&of_instance).await?.items;
        Ok(if found.is_empty() { Look::NotYet("none".to_owned()) } else { Look::Yes(found) })
    })
    .await?;
    match told.as_slice() {
        [event] if event.count.unwrap_or(1) == 1 => Ok(()),
        _ => Err(Failure::unexpected("one event", format!("{told:?}"))),
    }
}

/// In the order of the list, which is the order of the events' names.
#[then(expr = "the first {word} event of {string} says {string}")]
async fn first_event(world: &mut World, reason: String, name: String, text: String) -> Result<(), Failure> {
    let found = messages(world, &name, &reason).await?;
    Failure::unless(found.first() == Some(&text), text, found.join(", "))
}

async fn messages(world: &World, name: &str, reason: &str) -> Result<Vec<String>, Failure> {
    let instance = existing(world, "postgresql", name).await?;
    let uid = instance["metadata"]["uid"].as_str().unwrap_or_default();
    let events: Api<Event> = Api::all(world.client().await?);
    let selector = format!("reason={reason},involvedObject.uid={uid}");
    let list = events.list(&ListParams::default().fields(&selector)).await?;
    Ok(list.items.into_iter().map(|event| event.message.unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_with_null_is_not_the_same_as_none_unless_that_is_said() {
        let document = json!({"empty": null, "word": "solo", "number": 3});
        let found = |pointer, wanted, absent| instead(&document, pointer, wanted, absent);
        assert_eq!(found("/empty", "null", None), None);
        assert_eq!(found("/word", "solo", None), None);
        assert_eq!(found("/number", "null", ABSENT).as_deref(), Some("3"));
        assert_eq!(found("/gone", "null", None).as_deref(), Some("no such field"));
        assert_eq!(found("/gone", "null", ABSENT), None);
        assert_eq!(found("/gone", "solo", ABSENT).as_deref(), Some("no such field"));
    }
}
