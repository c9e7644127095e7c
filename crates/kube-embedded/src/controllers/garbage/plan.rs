//! What the garbage collector does about one object (`pkg/controller/garbagecollector`, `attemptToDeleteItem`).

use std::sync::Arc;

use kube::api::PropagationPolicy;
use serde_json::{Value, json};

use super::{references, uid_of};
use crate::controllers::action::{Action, Target};
use crate::controllers::view::is_terminating;

/// The finalizer of an owner that waits for its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner that leaves its dependents behind.
pub const ORPHAN: &str = "orphan";

/// How it stands with an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there.
    Present,
    /// It is being deleted, after its dependents.
    Waiting,
    /// There is none of this name and uid.
    Absent,
    /// Its kind is not known, so nothing can be said.
    Unresolvable,
}

/// An owner.
#[derive(Debug, Clone, PartialEq)]
pub struct Owner {
    pub uid: String,
    pub state: OwnerState,
}

/// What there is.
pub struct Observed {
    pub object: Arc<Value>,
    pub target: Target,
    pub owners: Vec<Owner>,
    pub dependents: Vec<(Target, Arc<Value>)>,
}

/// How it stands with an owner that is there.
pub fn state_of(owner: &Value) -> OwnerState {
    if is_terminating(owner) && has_finalizer(owner, FOREGROUND) { OwnerState::Waiting } else { OwnerState::Present }
}

/// Whether the object has this finalizer.
pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|one| one == finalizer))
}

/// Decides.
pub fn plan(observed: &Observed) -> Vec<Action> {
    let object = &observed.object;
    if sabotage::sabotaged!("owned-objects-stay") {
        return Vec::new();
    }
    if is_terminating(object) {
        if has_finalizer(object, ORPHAN) {
            return orphan(observed);
        }
        if has_finalizer(object, FOREGROUND) {
            return release(observed);
        }
        return Vec::new();
    }
    let in_state = |state| observed.owners.iter().filter(move |owner| owner.state == state);
    let (present, waiting) = (in_state(OwnerState::Present).count(), in_state(OwnerState::Waiting).count());
    let absent = in_state(OwnerState::Absent).count();
    if absent + waiting == 0 || in_state(OwnerState::Unresolvable).count() > 0 {
        return Vec::new();
    }
    if present > 0 {
        let gone = |uid: &str| {
            observed
                .owners
                .iter()
                .any(|owner| owner.uid == uid && matches!(owner.state, OwnerState::Absent | OwnerState::Waiting))
        };
        return vec![without_owners(&observed.target, object, gone)];
    }
    let mut actions = Vec::new();
    let propagation = if waiting > 0 && !observed.dependents.is_empty() {
        if observed.dependents.iter().any(|(_, dependent)| state_of(dependent) == OwnerState::Waiting) {
            // A circle of objects that wait for each other.
            actions.push(unblock(observed));
        }
        PropagationPolicy::Foreground
    } else if has_finalizer(object, ORPHAN) {
        PropagationPolicy::Orphan
    } else if has_finalizer(object, FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    };
    let mut target = observed.target.clone();
    if actions.is_empty() {
        // Owners that were added since would make the deletion wrong.
        target = in_version(&target, object);
    }
    actions.push(Action::Delete { target, propagation: Some(propagation) });
    actions
}

/// Dependents forget their owner, and the owner may go.
fn orphan(observed: &Observed) -> Vec<Action> {
    let uid = uid_of(&observed.object);
    let forget = |(target, dependent): &(Target, Arc<Value>)| without_owners(target, dependent, |owner| owner == uid);
    let mut actions: Vec<Action> = observed.dependents.iter().map(forget).collect();
    actions.push(without_finalizer(observed, ORPHAN));
    actions
}

/// The owner may go when no dependent that blocks it is left.
fn release(observed: &Observed) -> Vec<Action> {
    let uid = uid_of(&observed.object);
    let blocks = |dependent: &Value| {
        references(dependent).iter().any(|one| one["uid"] == uid && one["blockOwnerDeletion"] == true)
    };
    if observed.dependents.iter().any(|(_, dependent)| blocks(dependent)) {
        return Vec::new();
    }
    vec![without_finalizer(observed, FOREGROUND)]
}

fn unblock(observed: &Observed) -> Action {
    let mut kept = references(&observed.object).to_vec();
    for reference in &mut kept {
        reference["blockOwnerDeletion"] = json!(false);
    }
    let target = in_version(&observed.target, &observed.object);
    Action::merge(target, json!({"metadata": {"ownerReferences": kept}}))
}

fn without_owners(target: &Target, object: &Value, gone: impl Fn(&str) -> bool) -> Action {
    let stays = |reference: &&Value| !gone(reference["uid"].as_str().unwrap_or_default());
    let kept: Vec<&Value> = references(object).iter().filter(stays).collect();
    Action::merge(in_version(target, object), json!({"metadata": {"ownerReferences": kept}}))
}

fn without_finalizer(observed: &Observed, finalizer: &str) -> Action {
    let all = observed.object["metadata"]["finalizers"].as_array().map_or(&[][..], Vec::as_slice);
    let kept: Vec<&Value> = all.iter().filter(|one| *one != finalizer).collect();
    let target = in_version(&observed.target, &observed.object);
    Action::merge(target, json!({"metadata": {"finalizers": kept}}))
}

fn in_version(target: &Target, object: &Value) -> Target {
    let version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    Target { resource_version: version, ..target.clone() }
}

#[cfg(test)]
mod tests {
    use OwnerState::{Absent, Present, Unresolvable, Waiting};

    use super::*;
    use crate::controllers::namespace::target;
    use crate::objects::GroupResource;

    fn object(name: &str, metadata: Value) -> Arc<Value> {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "5"}});
        for (field, value) in metadata.as_object().unwrap() {
            object["metadata"][field] = value.clone();
        }
        Arc::new(object)
    }

    fn placed(object: Arc<Value>) -> (Target, Arc<Value>) {
        (target(&GroupResource::new("", "configmaps"), &object).unwrap(), object)
    }

    fn owned_by(owners: &[&str]) -> Value {
        let references: Vec<_> = owners.iter().map(|uid| json!({"uid": uid, "blockOwnerDeletion": true})).collect();
        json!({"ownerReferences": references})
    }

    fn dependent(states: &[(&str, OwnerState)], dependents: Vec<Arc<Value>>) -> Vec<Action> {
        let names: Vec<&str> = states.iter().map(|(uid, _)| *uid).collect();
        let (target, object) = placed(object("x", owned_by(&names)));
        let owners = states.iter().map(|(uid, state)| Owner { uid: (*uid).to_owned(), state: *state }).collect();
        plan(&Observed { object, target, owners, dependents: dependents.into_iter().map(placed).collect() })
    }

    fn going(finalizer: &str, dependents: Vec<Arc<Value>>) -> Vec<Action> {
        let metadata = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer, "a/b"]});
        let (target, object) = placed(object("owner", metadata));
        plan(&Observed { object, target, owners: vec![], dependents: dependents.into_iter().map(placed).collect() })
    }

    #[test]
    fn an_object_goes_when_the_last_owner_is_absent() {
        assert!(dependent(&[], vec![]).is_empty());
        assert!(dependent(&[("a", Present)], vec![]).is_empty());
        assert!(dependent(&[("a", Absent), ("b", Unresolvable)], vec![]).is_empty());
        let actions = dependent(&[("a", Absent), ("b", Absent)], vec![]);
        let [Action::Delete { target, propagation }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!((target.uid.as_deref(), target.resource_version.as_deref()), (Some("x"), Some("5")));
        assert_eq!(propagation, &Some(PropagationPolicy::Background));
    }

    #[test]
    fn an_object_with_another_owner_only_forgets_the_absent_one() {
        let actions = dependent(&[("a", Absent), ("b", Present)], vec![]);
        let [Action::Merge { target, patch, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(patch["metadata"]["ownerReferences"], json!([{"uid": "b", "blockOwnerDeletion": true}]));
        assert_eq!(target.resource_version.as_deref(), Some("5"));
    }

    #[test]
    fn an_owner_that_waits_gets_its_dependents_deleted_from_the_leaves() {
        let leaf = dependent(&[("a", Waiting)], vec![]);
        assert!(matches!(&leaf[..], [Action::Delete { propagation: Some(PropagationPolicy::Background), .. }]));
        let branch = dependent(&[("a", Waiting)], vec![object("y", owned_by(&["x"]))]);
        assert!(matches!(&branch[..], [Action::Delete { propagation: Some(PropagationPolicy::Foreground), .. }]));
        let in_circle = object("y", json!({"deletionTimestamp": "t", "finalizers": [FOREGROUND]}));
        let circle = dependent(&[("a", Waiting)], vec![in_circle]);
        assert!(matches!(&circle[..], [Action::Merge { .. }, Action::Delete { .. }]), "{circle:?}");
    }

    #[test]
    fn foreground_deletion_waits_only_for_those_that_block() {
        assert!(going(FOREGROUND, vec![object("y", owned_by(&["owner"]))]).is_empty());
        let free = json!({"ownerReferences": [{"uid": "owner"}]});
        let actions = going(FOREGROUND, vec![object("y", free)]);
        assert!(
            matches!(&actions[..], [Action::Merge { patch, .. }] if patch["metadata"]["finalizers"] == json!(["a/b"])),
            "{actions:?}"
        );
    }

    #[test]
    fn orphans_forget_their_owner_before_it_goes() {
        let actions = going(ORPHAN, vec![object("y", owned_by(&["owner", "other"]))]);
        let [Action::Merge { target, patch, .. }, Action::Merge { patch: last, .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!((target.name.as_str(), patch["metadata"]["ownerReferences"].as_array().unwrap().len()), ("y", 1));
        assert_eq!(last["metadata"]["finalizers"], json!(["a/b"]));
    }

    #[test]
    fn what_is_being_deleted_otherwise_is_left_alone() {
        assert!(going("c/d", vec![]).is_empty());
    }
}
