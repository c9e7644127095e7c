//! Taking an instance apart. The order: the Services and the StatefulSet at once; when its pods have ended, the
//! volumes and everything else; when all of that is gone, the instance itself; then the report. An instance that is
//! deleted without what it owns (`--cascade=orphan`) leaves it: it loses its owner, and then it is nobody's.

use super::names::FINALIZER;
use super::plan::{Effect, kind};
use a8s_api::Postgresql;
use kube::core::DynamicObject;
use std::time::Duration;

/// Pause between two looks at a deletion that has just begun.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// The same for one that is held up.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A deletion that lasts so long says what it waits for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Finalizer of what is deleted without what it owns (Kubernetes, `metav1.FinalizerOrphanDependents`).
const ORPHAN: &str = "orphan";

/// What is left of an instance that is being deleted.
#[derive(Clone, Debug, Default)]
pub struct Remains {
    /// The StatefulSet, if there is one.
    pub stateful_set: Option<DynamicObject>,
    /// The Services.
    pub services: Vec<DynamicObject>,
    /// Names of those of its pods that there still are.
    pub pods: Vec<String>,
    /// Everything else: volume claims, Secrets, ServiceAccount, RoleBinding, Lease.
    pub others: Vec<DynamicObject>,
    /// What stays: of that, what has the finalizer, which nobody else would take off.
    pub held: Vec<DynamicObject>,
}

impl Remains {
    /// Of its pods and volume claims, and of objects that have the names of its own and may be somebody else's.
    pub fn of(
        instance: &Postgresql,
        pods: Vec<String>,
        claims: Vec<DynamicObject>,
        objects: Vec<DynamicObject>,
    ) -> Self {
        let all_stays = instance.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == ORPHAN);
        let is_own = |object: &DynamicObject| !all_stays && is_owned(object, instance);
        let mut remains = Self { pods, others: claims, ..Self::default() };
        // The servers and the data of a StatefulSet that lost this owner are that one's. Once somebody has deleted it,
        // the Secrets still tell that they lost it, too.
        let has_lost = |object: &DynamicObject| matches!(kind(object), "StatefulSet" | "Secret") && !is_own(object);
        if all_stays || objects.iter().any(has_lost) {
            remains.pods.clear();
            remains.others.retain(is_own);
        }
        for object in objects {
            match kind(&object) {
                _ if !is_own(&object) => remains.held.extend(Some(object).filter(is_held)),
                "StatefulSet" => remains.stateful_set = Some(object),
                "Service" => remains.services.push(object),
                _ => remains.others.push(object),
            }
        }
        remains
    }

    /// Whether nothing is left, so that the instance may go.
    pub fn is_empty(&self) -> bool {
        !self.has_servers() && self.services.is_empty() && self.others.is_empty() && self.held.is_empty()
    }

    /// Whether there may be servers, which need the rest.
    fn has_servers(&self) -> bool {
        self.stateful_set.is_some() || !self.pods.is_empty()
    }

    /// What a deletion waits for that has lasted so long, once that is more than it takes.
    pub fn trouble(&self, age: Duration) -> Option<String> {
        let named = |object: &DynamicObject| {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            format!("{} {name}", kind(object))
        };
        let others = self.others.iter().filter(|_| !self.has_servers());
        let objects = self.stateful_set.iter().chain(&self.services).chain(others).chain(&self.held).map(named);
        let left: Vec<String> = self.pods.iter().map(|pod| format!("Pod {pod}")).chain(objects).collect();
        (age >= PATIENCE).then(|| format!("the deletion waits for the end of {}", left.join(", ")))
    }
}

/// When to look again at a deletion that has lasted so long, beside what watches tell.
pub fn pause(age: Duration) -> Duration {
    (age / 20).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// What to do next. Nothing, if it is to be waited.
pub fn plan(remains: &Remains) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    effects.extend(
        remains.stateful_set.iter().chain(&remains.services).filter(|o| is_alive(o)).cloned().map(Effect::Delete),
    );
    effects.extend(remains.held.iter().map(released).map(Effect::Replace));
    if remains.has_servers() {
        return effects;
    }
    // Deleting answers first, the finalizer goes after it; both are safe to repeat.
    let (alive, going): (Vec<_>, Vec<_>) = remains.others.iter().partition(|object| is_alive(object));
    effects.extend(alive.into_iter().cloned().map(Effect::Delete));
    effects.extend(going.into_iter().filter(|object| is_held(object)).map(released).map(Effect::Replace));
    effects
}

/// Whether an object is an instance's own.
pub fn is_owned(object: &DynamicObject, instance: &Postgresql) -> bool {
    let uid = instance.metadata.uid.as_ref();
    object.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == uid)
        || sabotage::sabotaged!("foreign-objects-go")
}

fn is_alive(object: &DynamicObject) -> bool {
    object.metadata.deletion_timestamp.is_none()
}

/// Whether an object, such as a Secret, has the finalizer.
fn is_held(object: &DynamicObject) -> bool {
    object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// An object without the finalizer.
fn released(object: &DynamicObject) -> DynamicObject {
    let mut released = object.clone();
    released.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
    released
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use serde_json::json;

    fn object(kind: &str, is_deleted: bool) -> DynamicObject {
        let mut document = json!({
            "apiVersion": "v1", "kind": kind,
            "metadata": {"name": "x", "finalizers": if kind == "Secret" { vec![FINALIZER] } else { vec![] }},
        });
        if is_deleted {
            document["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        }
        serde_json::from_value(document).expect("an object")
    }

    fn kinds(effects: &[Effect]) -> Vec<String> {
        effects
            .iter()
            .map(|effect| match effect {
                Effect::Delete(object) => format!("delete {}", kind(object)),
                Effect::Replace(object) => format!("release {}", kind(object)),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_servers_end_before_anything_they_need_is_taken_away() {
        let mut remains = Remains {
            stateful_set: Some(object("StatefulSet", false)),
            services: vec![object("Service", false)],
            pods: vec!["x-0".into()],
            others: vec![object("PersistentVolumeClaim", false), object("Secret", false)],
            held: vec![],
        };
        assert_eq!(kinds(&plan(&remains)), ["delete StatefulSet", "delete Service"]);

        remains.stateful_set = Some(object("StatefulSet", true));
        remains.services.clear();
        assert_eq!(plan(&remains), vec![]);

        remains.stateful_set = None;
        assert_eq!(plan(&remains), vec![]);

        remains.pods.clear();
        assert_eq!(kinds(&plan(&remains)), ["delete PersistentVolumeClaim", "delete Secret"]);

        remains.others = vec![object("Secret", true)];
        assert_eq!(kinds(&plan(&remains)), ["release Secret"]);
        assert!(!remains.is_empty());
        remains.others.clear();
        assert!(remains.is_empty());
    }

    fn instance() -> Postgresql {
        let mut instance = Postgresql::new("x", Default::default());
        instance.metadata.uid = Some("mine".into());
        instance
    }

    fn owned(kind: &str, uid: &str) -> DynamicObject {
        let owner = OwnerReference { uid: uid.to_owned(), ..OwnerReference::default() };
        let mut object = object(kind, false);
        object.metadata.owner_references = Some(vec![owner]);
        object
    }

    #[test]
    fn what_belongs_to_somebody_else_is_left_alone() {
        let claims = vec![object("PersistentVolumeClaim", false)];
        let others = ["Service", "Lease"].map(|kind| owned(kind, "other"));
        let unowned = ["Service", "Lease"].map(|kind| object(kind, false));
        let remains = Remains::of(&instance(), vec![], claims.clone(), [others.to_vec(), unowned.to_vec()].concat());
        assert_eq!(kinds(&plan(&remains)), ["delete PersistentVolumeClaim"]);

        let own = ["Secret", "Lease"].map(|kind| owned(kind, "mine"));
        let remains = Remains::of(&instance(), vec![], claims, own.to_vec());
        assert_eq!(kinds(&plan(&remains)), ["delete PersistentVolumeClaim", "delete Secret", "delete Lease"]);
    }

    #[test]
    fn what_is_to_lose_its_owner_or_has_lost_it_stays_with_servers_and_data() {
        let all = ["StatefulSet", "Service", "Secret", "Lease"];
        let mut going = instance();
        let lost = all.map(|kind| object(kind, false)).to_vec();
        let claims = ["", "mine"].map(|uid| owned("PersistentVolumeClaim", uid)).to_vec();
        let remains = Remains::of(&going, vec!["x-0".into()], claims.clone(), lost);
        assert_eq!(kinds(&plan(&remains)), ["release Secret", "delete PersistentVolumeClaim"], "one is its own");

        // Somebody has deleted the StatefulSet as well before an operator came to look.
        let remains = Remains::of(&going, vec![], claims.clone(), vec![object("Secret", false)]);
        assert_eq!(kinds(&plan(&remains)), ["release Secret", "delete PersistentVolumeClaim"]);
        let free = remains.held.iter().map(released).collect();
        let remains = Remains::of(&going, vec![], claims.clone(), free);
        assert_eq!(kinds(&plan(&remains)), ["delete PersistentVolumeClaim"], "the data stay in the next round, too");

        going.metadata.finalizers = Some(vec![FINALIZER.into(), ORPHAN.into()]);
        let own = all.map(|kind| owned(kind, "mine")).to_vec();
        let remains = Remains::of(&going, vec!["x-0".into()], claims.clone(), own);
        assert_eq!(kinds(&plan(&remains)), ["release Secret"]);
        let released = remains.held.iter().map(released).collect();
        assert!(Remains::of(&going, vec!["x-0".into()], claims, released).is_empty(), "the instance may go");
    }

    #[test]
    fn a_deletion_that_lasts_is_looked_at_less_often_and_says_what_it_waits_for() {
        let after = Duration::from_secs;
        assert_eq!([0, 1, 10, 60, 3600].map(|age| pause(after(age)).as_millis()), [200, 200, 500, 3000, 5000]);

        let mut remains = Remains {
            stateful_set: Some(object("StatefulSet", true)),
            services: vec![],
            pods: vec!["x-0".into(), "x-1".into()],
            others: vec![object("PersistentVolumeClaim", false)],
            held: vec![],
        };
        assert_eq!(remains.trouble(after(9)), None);
        let text = remains.trouble(after(10)).expect("a trouble");
        assert_eq!(text, "the deletion waits for the end of Pod x-0, Pod x-1, StatefulSet x");
        remains.stateful_set = None;
        remains.pods.clear();
        let text = remains.trouble(after(10)).expect("a trouble");
        assert_eq!(text, "the deletion waits for the end of PersistentVolumeClaim x");
    }
}
