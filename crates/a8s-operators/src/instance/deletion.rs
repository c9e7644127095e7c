//! Taking an instance apart. The order: the Services and the StatefulSet at once; when its pods have ended, the
//! volumes and everything else; when all of that is gone, the instance itself; then the report.

use super::names::FINALIZER;
use super::plan::Effect;
use kube::core::DynamicObject;

/// What is left of an instance that is being deleted.
#[derive(Clone, Debug, Default)]
pub struct Remains {
    /// The StatefulSet, if there is one.
    pub stateful_set: Option<DynamicObject>,
    /// The Services.
    pub services: Vec<DynamicObject>,
    /// How many of its pods there still are.
    pub pods: usize,
    /// Everything else: volume claims, Secrets, ServiceAccount, RoleBinding, Lease.
    pub others: Vec<DynamicObject>,
}

impl Remains {
    /// Whether nothing is left, so that the instance may go.
    pub fn is_empty(&self) -> bool {
        self.stateful_set.is_none() && self.services.is_empty() && self.pods == 0 && self.others.is_empty()
    }
}

/// What to do next. Nothing, if it is to be waited.
pub fn plan(remains: &Remains) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    effects.extend(
        remains.stateful_set.iter().chain(&remains.services).filter(|o| is_alive(o)).cloned().map(Effect::Delete),
    );
    if remains.stateful_set.is_some() || remains.pods > 0 {
        return effects;
    }
    for object in &remains.others {
        if is_alive(object) {
            effects.push(Effect::Delete(object.clone()));
        }
        // Deleting answers first, the finalizer goes after it; both are safe to repeat.
        if let Some(released) = released(object) {
            effects.push(Effect::Replace(released));
        }
    }
    effects
}

fn is_alive(object: &DynamicObject) -> bool {
    object.metadata.deletion_timestamp.is_none()
}

/// A Secret that is being deleted, without the finalizer.
fn released(object: &DynamicObject) -> Option<DynamicObject> {
    let finalizers = object.metadata.finalizers.as_ref()?;
    if is_alive(object) || !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return None;
    }
    let mut released = object.clone();
    released.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
    Some(released)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let kind = |object: &DynamicObject| object.types.clone().expect("a kind").kind;
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
            pods: 1,
            others: vec![object("PersistentVolumeClaim", false), object("Secret", false)],
        };
        assert_eq!(kinds(&plan(&remains)), ["delete StatefulSet", "delete Service"]);

        remains.stateful_set = Some(object("StatefulSet", true));
        remains.services.clear();
        assert_eq!(plan(&remains), vec![]);

        remains.stateful_set = None;
        assert_eq!(plan(&remains), vec![]);

        remains.pods = 0;
        assert_eq!(kinds(&plan(&remains)), ["delete PersistentVolumeClaim", "delete Secret"]);

        remains.others = vec![object("Secret", true)];
        assert_eq!(kinds(&plan(&remains)), ["release Secret"]);
        assert!(!remains.is_empty());
        remains.others.clear();
        assert!(remains.is_empty());
    }
}
