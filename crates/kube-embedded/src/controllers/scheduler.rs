//! The scheduler: each pod goes to the node, once its volumes are there.
//!
//! There is one node, so there is nothing to choose. A constraint that it does not meet does not keep a pod waiting for
//! ever, as it would on a large cluster: the pod is assigned, and an event says which constraint was not kept. A pod that
//! asks for more than the whole node has cannot run and waits. What pods ask for together is not counted: a laptop runs
//! more servers than it has processors.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Node, PersistentVolumeClaim, Pod, Toleration};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::action::{Action, Target, reference, to_value};
use super::engine::Controller;
use super::view::{Name, claims_of, is, is_terminating, name_of};
use super::volumes::{SELECTED_NODE, WAIT_FOR_FIRST_CONSUMER};
use super::{Context, Error};
use crate::auth::rbac::selects;
use crate::events::Note;
use crate::objects::{Change, ChangeKind};
use crate::quantity::milli;

const COMPONENT: &str = "default-scheduler";

/// The controller.
pub struct Scheduler {
    context: Context,
}

impl Scheduler {
    pub fn new(context: Context) -> Self {
        Self { context: Context { manager: "kube-scheduler", ..context } }
    }

    fn pending(&self, namespace: Option<&str>, wanted: impl Fn(&Value) -> bool) -> Vec<Name> {
        let pods = self.context.list_plain::<Pod>(namespace);
        pods.iter().filter(|pod| is_unassigned(pod) && wanted(pod)).map(|pod| name_of(pod)).collect()
    }

    fn claims(&self, pod: &Pod) -> Result<Vec<(String, Option<Claim>)>, Error> {
        let namespace = pod.namespace().unwrap_or_default();
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let names = volumes.iter().filter_map(|volume| volume.persistent_volume_claim.as_ref());
        names
            .map(|source| {
                let claim = self.context.get::<PersistentVolumeClaim>(Some(&namespace), &source.claim_name)?;
                let class = claim.as_ref().and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone());
                let class = match class {
                    Some(class) => self.context.get::<StorageClass>(None, &class)?,
                    None => None,
                };
                let waits =
                    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some(WAIT_FOR_FIRST_CONSUMER));
                Ok((source.claim_name.clone(), claim.map(|claim| Claim { claim, waits })))
            })
            .collect()
    }
}

/// A claim, and whether its volume is made only for a pod.
struct Claim {
    claim: PersistentVolumeClaim,
    waits: bool,
}

impl Controller for Scheduler {
    type Key = Name;
    const NAME: &'static str = "scheduler";

    fn keys(&self, change: &Change) -> Vec<Name> {
        let object = &change.object;
        if is::<Pod>(&change.resource) {
            let waits = change.kind != ChangeKind::Deleted && is_unassigned(object);
            return if waits { vec![name_of(object)] } else { Vec::new() };
        }
        if is::<Node>(&change.resource) {
            return self.pending(None, |_| true);
        }
        if is::<PersistentVolumeClaim>(&change.resource) {
            let (namespace, claim) = name_of(object);
            return self.pending(Some(&namespace), |pod| claims_of(pod).any(|name| name == claim));
        }
        Vec::new()
    }

    async fn reconcile(&self, (namespace, name): &Name) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.context.get::<Pod>(Some(namespace), name)? else {
            return Ok(None);
        };
        if !is_unassigned(&to_value(&pod)?) {
            return Ok(None);
        }
        let nodes = self.context.list::<Node>(None, |_| true)?;
        let actions = plan(&pod, &nodes, &self.claims(&pod)?, Timestamp::now())?;
        self.context.apply_all(actions).await?;
        Ok(None)
    }
}

fn is_unassigned(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let scheduler = spec["schedulerName"].as_str().unwrap_or(COMPONENT);
    spec["nodeName"].as_str().unwrap_or_default().is_empty()
        && scheduler == COMPONENT
        && !is_terminating(pod)
        && spec["schedulingGates"].as_array().is_none_or(Vec::is_empty)
}

fn plan(pod: &Pod, nodes: &[Node], claims: &[(String, Option<Claim>)], now: Timestamp) -> Result<Vec<Action>, Error> {
    let usable = nodes.iter().find(|node| is_ready(node) && !is_cordoned(node));
    let Some(node) = usable else {
        return unschedulable(pod, &no_node(nodes), now);
    };
    let unusable = |claim: &Option<Claim>| match claim {
        None => Some("not found"),
        // A pod that mounted it would keep it from going.
        Some(claim) if claim.claim.metadata.deletion_timestamp.is_some() => Some("is being deleted"),
        Some(_) => None,
    };
    if let Some((name, what)) = claims.iter().find_map(|(name, claim)| Some((name, unusable(claim)?))) {
        let why = format!("0/{} nodes are available: persistentvolumeclaim {name:?} {what}.", nodes.len());
        return unschedulable(pod, &why, now);
    }
    let claims: Vec<&Claim> = claims.iter().filter_map(|(_, claim)| claim.as_ref()).collect();
    let unbound: Vec<&&Claim> = claims.iter().filter(|claim| !is_bound(&claim.claim)).collect();
    if unbound.iter().any(|claim| !claim.waits) {
        let why = format!("0/{} nodes are available: pod has unbound immediate PersistentVolumeClaims.", nodes.len());
        return unschedulable(pod, &why, now);
    }
    let lacking = lacking(pod, node);
    if !lacking.is_empty() {
        let reasons: Vec<String> = lacking.iter().map(|what| format!("1 {what}")).collect();
        let why = format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "));
        return unschedulable(pod, &why, now);
    }
    if !unbound.is_empty() {
        // The binder makes the volumes; when they are bound this pod is looked at again.
        let chosen = unbound.iter().filter(|claim| !claim.claim.annotations().contains_key(SELECTED_NODE));
        return Ok(chosen.map(|claim| select_node(&claim.claim, node)).collect());
    }
    let mut actions = vec![Action::Bind { pod: Target::of(pod), node: node.name_any() }];
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let message = format!("Successfully assigned {namespace}/{name} to {}", node.name_any());
    actions.push(Action::Tell(Note::normal(reference(pod), COMPONENT, "Scheduled", message)));
    let ignored = constraints_not_kept(pod, node)?;
    if !ignored.is_empty() {
        let message = format!(
            "{} does not meet: {}; assigned nevertheless, since there is no other node",
            node.name_any(),
            ignored.join(", ")
        );
        actions.push(Action::Tell(Note::warning(reference(pod), COMPONENT, "ConstraintNotKept", message)));
    }
    Ok(actions)
}

fn select_node(claim: &PersistentVolumeClaim, node: &Node) -> Action {
    Action::merge(Target::of(claim), json!({"metadata": {"annotations": {SELECTED_NODE: node.name_any()}}}))
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
}

fn no_node(nodes: &[Node]) -> String {
    if nodes.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let cordoned = nodes.iter().filter(|node| is_cordoned(node)).count();
    let not_ready = nodes.len() - cordoned;
    let mut reasons = Vec::new();
    if not_ready > 0 {
        reasons.push(format!("{not_ready} node(s) had untolerated taint {{node.kubernetes.io/not-ready: }}"));
    }
    if cordoned > 0 {
        reasons.push(format!("{cordoned} node(s) were unschedulable"));
    }
    format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "))
}

/// Says it in the pod's condition and in an event, unless the condition says so already.
fn unschedulable(pod: &Pod, why: &str, now: Timestamp) -> Result<Vec<Action>, Error> {
    let status = pod.status.clone().unwrap_or_default();
    let mut conditions = status.conditions.unwrap_or_default();
    let before = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
    if before.is_some_and(|before| before.status == "False" && before.message.as_deref() == Some(why)) {
        return Ok(Vec::new());
    }
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    let mut conditions = to_value(&conditions)?;
    if let Some(list) = conditions.as_array_mut() {
        list.push(json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": why,
            "lastTransitionTime": Timestamp::from_second(now.as_second()).unwrap_or(now).to_string(),
        }));
    }
    let patch = json!({"status": {"conditions": conditions}});
    let target = Target::of(pod).unchanged(pod);
    Ok(vec![
        Action::Merge { target, subresource: Some("status"), patch },
        Action::Tell(Note::warning(reference(pod), COMPONENT, "FailedScheduling", why.to_owned())),
    ])
}

/// Of what the pod asks for more than the node has, in the words of the scheduler's plugin `NodeResourcesFit`.
fn lacking(pod: &Pod, node: &Node) -> Vec<String> {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let has = |resource: &str| allocatable.and_then(|all| milli(&all.get(resource)?.0));
    if sabotage::sabotaged!("scheduler-fits-everything") {
        return Vec::new();
    }
    let exceeds = |resource: &&str| has(resource).is_some_and(|has| requested(pod, resource) > has);
    ["cpu", "memory"].into_iter().filter(exceeds).map(|resource| format!("Insufficient {resource}")).collect()
}

/// Thousandths of a unit; what is too large for a number is more than any node has.
fn amount(quantity: &Quantity) -> i128 {
    milli(&quantity.0).unwrap_or(i128::MAX)
}

/// What a pod's containers ask for together, or one of those that run before them (Kubernetes documentation, "Init
/// containers", resource sharing within containers).
fn requested(pod: &Pod, resource: &str) -> i128 {
    let of = |container: &Container| {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requests.and_then(|requests| requests.get(resource)).map_or(0, amount)
    };
    let Some(spec) = &pod.spec else { return 0 };
    let together = spec.containers.iter().map(of).fold(0, i128::saturating_add);
    spec.init_containers.iter().flatten().map(of).fold(together, i128::max)
}

/// What the pod asks for and the node is not.
fn constraints_not_kept(pod: &Pod, node: &Node) -> Result<Vec<String>, Error> {
    let mut broken = Vec::new();
    let Some(spec) = &pod.spec else { return Ok(broken) };
    let label = |key: &str| node.labels().get(key);
    let selector = spec.node_selector.iter().flatten();
    for (key, value) in selector.filter(|(key, value)| label(key) != Some(*value)) {
        broken.push(format!("node selector {key}={value}"));
    }
    let affinity = to_value(&spec.affinity)?;
    let terms = &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let labels = to_value(node.labels())?;
    if terms.as_array().is_some_and(|terms| !terms.iter().any(|term| selects(term, &labels))) {
        broken.push("node affinity".to_owned());
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let required = &affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"];
        if required.as_array().is_some_and(|terms| !terms.is_empty()) {
            // Whether other pods are here does not change where this one can go.
            broken.push(format!("required {kind}, which is not looked at"));
        }
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    for taint in taints.iter().filter(|taint| taint.effect != "PreferNoSchedule") {
        let (key, value) = (taint.key.as_str(), taint.value.as_deref().unwrap_or_default());
        if !tolerations.iter().any(|toleration| tolerates(toleration, key, value, &taint.effect)) {
            broken.push(format!("taint {key}={value}:{}", taint.effect));
        }
    }
    Ok(broken)
}

fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: &str) -> bool {
    let any_or =
        |given: &Option<String>, wanted: &str| given.as_deref().is_none_or(|given| given.is_empty() || given == wanted);
    let exists = toleration.operator.as_deref() == Some("Exists");
    any_or(&toleration.effect, effect)
        && (toleration.key.as_deref() == Some(key) || (exists && any_or(&toleration.key, key)))
        && (exists || toleration.value.as_deref().unwrap_or_default() == value)
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    fn pod(spec: Value) -> Pod {
        from_value(json!({"metadata": {"namespace": "ns", "name": "p", "uid": "u"}, "spec": spec})).unwrap()
    }

    fn node(ready: &str) -> Node {
        from_value(json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "allocatable": {"cpu": "2", "memory": "4Gi"},
            },
        }))
        .unwrap()
    }

    fn claim(phase: &str, waits: bool, annotations: Value) -> (String, Option<Claim>) {
        let claim = json!({"metadata": {"namespace": "ns", "name": "c", "annotations": annotations},
            "status": {"phase": phase}});
        ("c".to_owned(), Some(Claim { claim: from_value(claim).unwrap(), waits }))
    }

    fn messages(actions: &[Action]) -> Vec<&str> {
        fn message(action: &Action) -> Option<&str> {
            match action {
                Action::Tell(note) => Some(&note.message),
                _ => None,
            }
        }
        actions.iter().filter_map(message).collect()
    }

    fn planned(pod: &Pod, nodes: &[Node], claims: &[(String, Option<Claim>)]) -> Vec<Action> {
        plan(pod, nodes, claims, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_pod_goes_to_the_ready_node() {
        let actions = planned(&pod(json!({"containers": []})), &[node("True")], &[]);
        assert!(matches!(&actions[0], Action::Bind { node, .. } if node == "n"));
        assert_eq!(messages(&actions), ["Successfully assigned ns/p to n"]);
    }

    #[test]
    fn without_a_usable_node_a_pod_waits_and_says_so_once() {
        let mut waiting = pod(json!({"containers": []}));
        let actions = planned(&waiting, &[], &[]);
        assert_eq!(messages(&actions), ["no nodes available to schedule pods"]);
        let Action::Merge { patch, subresource: Some("status"), .. } = &actions[0] else { panic!("{actions:?}") };
        waiting.status = from_value(patch["status"].clone()).unwrap();
        assert!(planned(&waiting, &[], &[]).is_empty());
        assert_eq!(
            messages(&planned(&waiting, &[node("False")], &[])),
            ["0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }."]
        );
    }

    #[test]
    fn a_pod_waits_for_its_volumes() {
        let (pod, nodes) = (pod(json!({"containers": []})), [node("True")]);
        let missing = planned(&pod, &nodes, &[("c".to_owned(), None)]);
        assert_eq!(messages(&missing), [r#"0/1 nodes are available: persistentvolumeclaim "c" not found."#]);
        let mut going = claim("Bound", true, json!({}));
        let since = from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        going.1.as_mut().unwrap().claim.metadata.deletion_timestamp = since;
        let going = planned(&pod, &nodes, &[going]);
        assert_eq!(messages(&going), [r#"0/1 nodes are available: persistentvolumeclaim "c" is being deleted."#]);
        let immediate = planned(&pod, &nodes, &[claim("Pending", false, json!({}))]);
        assert_eq!(
            messages(&immediate),
            ["0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."]
        );
        let first = planned(&pod, &nodes, &[claim("Pending", true, json!({}))]);
        assert!(matches!(&first[..], [Action::Merge { target, .. }] if target.name == "c"), "{first:?}");
        assert!(planned(&pod, &nodes, &[claim("Pending", true, json!({SELECTED_NODE: "n"}))]).is_empty());
        let bound = planned(&pod, &nodes, &[claim("Bound", true, json!({}))]);
        assert!(matches!(&bound[0], Action::Bind { .. }));
    }

    #[test]
    fn a_pod_that_asks_for_more_than_the_node_has_waits() {
        let asking = |requests: Value| pod(json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}));
        for requests in [json!({"cpu": "2", "memory": "4Gi"}), json!({"cpu": "1999m"}), json!({})] {
            let actions = planned(&asking(requests), &[node("True")], &[]);
            assert!(matches!(&actions[0], Action::Bind { .. }), "{actions:?}");
        }
        for (requests, reason) in [
            (json!({"cpu": "2001m"}), "1 Insufficient cpu"),
            (json!({"memory": "8Ei"}), "1 Insufficient memory"),
            (json!({"cpu": "3", "memory": "99999999999999999999E"}), "1 Insufficient cpu, 1 Insufficient memory"),
        ] {
            let said = format!("0/1 nodes are available: {reason}.");
            assert_eq!(messages(&planned(&asking(requests), &[node("True")], &[])), [said]);
        }
        let two = json!([{"name": "a", "resources": {"requests": {"cpu": "1500m"}}},
            {"name": "b", "resources": {"requests": {"cpu": "1"}}}]);
        assert_eq!(messages(&planned(&pod(json!({"containers": two})), &[node("True")], &[])).len(), 1);
        let before = pod(json!({"containers": [two[0]], "initContainers": [two[1]]}));
        assert!(matches!(&planned(&before, &[node("True")], &[])[0], Action::Bind { .. }));
    }

    #[test]
    fn a_constraint_that_is_not_kept_is_said() {
        let mut tainted = node("True");
        let taints = json!([{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]);
        tainted.spec.as_mut().unwrap().taints = from_value(taints).unwrap();
        let wanting = pod(json!({
            "containers": [],
            "nodeSelector": {"disk": "ssd", "zone": "a"},
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["hdd"]}]}]}}},
        }));
        let actions = planned(&wanting, &[tainted.clone()], &[]);
        assert!(matches!(&actions[0], Action::Bind { .. }));
        assert_eq!(
            messages(&actions)[1],
            "n does not meet: node selector zone=a, node affinity, taint dedicated=db:NoSchedule; assigned nevertheless, \
             since there is no other node"
        );
        let tolerant = pod(json!({"containers": [], "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}]}));
        assert_eq!(messages(&planned(&tolerant, &[tainted], &[])).len(), 1);
    }
}
