//! The rules for instances, as a pure function of the new object and the old one. All violations are reported.
//!
//! Beyond the released webhook's rules: what only the schema's CEL rule would refuse (an API server may not know CEL),
//! and changes that would lose data (another major, fewer members).

use a8s_api::{Quantity, RESERVED_LABELS, postgresql as pg};
use kube::core::DynamicObject;
use serde_json::Value;

/// One thing that is wrong with an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field.
    pub field: &'static str,
    /// A `CauseType` of `metav1` such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// What is wrong, in the words of apimachinery's field errors.
    pub text: String,
}

impl Violation {
    fn invalid(field: &'static str, value: &str, text: &str) -> Self {
        Self { field, reason: "FieldValueInvalid", text: format!("Invalid value: {value:?}: {text}") }
    }

    fn forbidden(field: &'static str, text: String) -> Self {
        Self { field, reason: "FieldValueForbidden", text: format!("Forbidden: {text}") }
    }
}

/// What is wrong with an instance that is about to be made.
pub fn create(object: &DynamicObject) -> Vec<Violation> {
    let mut violations = Vec::new();
    violations.extend(name(object));
    violations.extend(minimum_size(object));
    violations.extend(labels(object));
    violations.extend(extensions(object));
    violations.extend(members(object));
    if sabotage::sabotaged!("admission-first-violation-only") {
        violations.truncate(1);
    }
    violations
}

/// What is wrong with a change of an instance.
pub fn update(object: &DynamicObject, old: &DynamicObject) -> Vec<Violation> {
    // An instance that is being deleted must be able to lose its finalizer, whatever it says.
    if object.metadata.deletion_timestamp.is_some() {
        return vec![];
    }
    let mut violations = Vec::new();
    violations.extend(taken_away(object, old));
    violations.extend(shrinking(object, old));
    violations.extend(version(object, old));
    violations.extend(replicas(object, old));
    // What was wrong before is nobody's change: an instance that was made where admission was not there can still get
    // its finalizer.
    let rules: [fn(&DynamicObject) -> Option<Violation>; 3] = [labels, extensions, members];
    for rule in rules {
        violations.extend(rule(object).filter(|found| rule(old).as_ref() != Some(found)));
    }
    violations
}

/// Without a spec nothing could be compared with the next one.
fn taken_away(object: &DynamicObject, old: &DynamicObject) -> Option<Violation> {
    let has_spec = |object: &DynamicObject| object.data.get("spec").is_some_and(|spec| !spec.is_null());
    (has_spec(old) && !has_spec(object))
        .then(|| Violation::forbidden("spec", "cannot be removed: it says which data there is".to_owned()))
}

/// Each member is a pod with a volume: a number that nobody means must not become so many.
fn members(object: &DynamicObject) -> Option<Violation> {
    let (replicas, maximum) = (number(object, "/spec/replicas")?, pg::MAXIMUM_REPLICAS);
    let text = format!("must be no more than {maximum}");
    (replicas > maximum).then(|| Violation::invalid("spec.replicas", &replicas.to_string(), &text))
}

fn name(object: &DynamicObject) -> Option<Violation> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let (length, maximum) = (name.chars().count(), pg::MAXIMUM_NAME_LENGTH);
    let text = format!("has {length} characters, must have no more than {maximum} characters");
    (length > maximum && !sabotage::sabotaged!("admission-short-names-only"))
        .then(|| Violation::invalid("metadata.name", name, &text))
}

fn size(object: &DynamicObject) -> Option<Quantity> {
    serde_json::from_value(object.data.pointer("/spec/volumeSize")?.clone()).ok()
}

fn minimum_size(object: &DynamicObject) -> Option<Violation> {
    let size = size(object)?;
    let minimum = Quantity::from(pg::MINIMUM_VOLUME_SIZE);
    let text = format!("must be at least {minimum}");
    (size.nano() < minimum.nano() && !sabotage::sabotaged!("admission-small-volumes"))
        .then(|| Violation::invalid("spec.volumeSize", &size.0, &text))
}

fn shrinking(object: &DynamicObject, old: &DynamicObject) -> Option<Violation> {
    let (new, old) = (size(object)?, size(old)?);
    let text = format!("cannot be decreased from {old} to {new}");
    (new.nano() < old.nano()).then(|| Violation::invalid("spec.volumeSize", &new.0, &text))
}

fn labels(object: &DynamicObject) -> Option<Violation> {
    let labels = object.metadata.labels.as_ref()?;
    let used: Vec<&str> = RESERVED_LABELS.into_iter().filter(|key| labels.contains_key(*key)).collect();
    let text = format!("must not contain reserved label keys: {}", used.join(", "));
    (!used.is_empty() && !sabotage::sabotaged!("admission-reserved-labels"))
        .then(|| Violation::forbidden("metadata.labels", text))
}

fn extensions(object: &DynamicObject) -> Option<Violation> {
    let asked = object.data.pointer("/spec/extensions")?.as_array()?;
    let is_unknown = |name: &&Value| !name.as_str().is_some_and(|name| pg::EXTENSIONS.contains(&name));
    let text = |name: &Value| name.as_str().map_or_else(|| name.to_string(), str::to_owned);
    let unknown: Vec<String> = asked.iter().filter(is_unknown).map(text).collect();
    let message = a8s_api::crd::extensions_message();
    (!unknown.is_empty()).then(|| Violation::invalid("spec.extensions", &unknown.join(", "), &message))
}

fn number(object: &DynamicObject, pointer: &str) -> Option<i64> {
    object.data.pointer(pointer)?.as_i64()
}

fn version(object: &DynamicObject, old: &DynamicObject) -> Option<Violation> {
    let (new, old) = (number(object, "/spec/version")?, number(old, "/spec/version")?);
    let text = format!("cannot be changed from {old} to {new}: the data would have to be upgraded");
    (new != old).then(|| Violation::forbidden("spec.version", text))
}

/// Zero is allowed: it stops the instance and keeps its volumes.
fn replicas(object: &DynamicObject, old: &DynamicObject) -> Option<Violation> {
    let (new, old) = (number(object, "/spec/replicas")?, number(old, "/spec/replicas")?);
    let text = format!("cannot be decreased from {old} to {new}: an instance can only grow");
    (new < old && new != 0).then(|| Violation::forbidden("spec.replicas", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn instance(metadata: Value, spec: Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("an object")
    }

    fn of_size(size: &str) -> DynamicObject {
        instance(json!({"name": "solo"}), json!({"volumeSize": size}))
    }

    #[test]
    fn names_up_to_52_characters_are_accepted() {
        for (length, accepted) in
            [(1, true), (26, true), (51, true), (52, true), (53, false), (54, false), (104, false)]
        {
            let violations = create(&instance(json!({"name": "x".repeat(length)}), json!({})));
            assert_eq!(violations.is_empty(), accepted, "{length}");
        }
    }

    #[test]
    fn volumes_have_a_minimum() {
        for (size, accepted) in [
            ("0.5Gi", true),
            ("1Gi", true),
            ("2000M", true),
            ("42Gi", true),
            ("512Mi", true),
            ("1Mi", false),
            ("1k", false),
        ] {
            assert_eq!(create(&of_size(size)).is_empty(), accepted, "{size}");
        }
    }

    #[test]
    fn volumes_do_not_shrink() {
        for (old, new, accepted) in [
            ("2Gi", "1Gi", false),
            ("2Gi", "3k", false),
            ("4Gi", "1Gi", false),
            ("2Gi", "2Gi", true),
            ("1Gi", "2Gi", true),
        ] {
            let violations = update(&of_size(new), &of_size(old));
            assert_eq!(violations.is_empty(), accepted, "{old} -> {new}");
            assert!(violations.iter().all(|v| v.text.contains(old) && v.text.contains(new)), "{violations:?}");
        }
    }

    #[test]
    fn reserved_labels_are_refused_and_near_misses_are_not() {
        for key in RESERVED_LABELS {
            let refused = create(&instance(json!({"name": "solo", "labels": {(key): "x"}}), json!({})));
            assert!(refused[0].text.contains(key) && refused[0].text.contains("reserved"), "{refused:?}");
            for miss in [format!("{key}x"), format!("x{key}"), key[1..].to_owned(), key[..key.len() - 1].to_owned()] {
                assert_eq!(create(&instance(json!({"name": "solo", "labels": {(miss): "x"}}), json!({}))), vec![]);
            }
        }
        assert_eq!(create(&instance(json!({"name": "solo", "labels": {}}), json!({}))), vec![]);
    }

    #[test]
    fn the_data_of_an_instance_is_not_given_up() {
        let of = |version: i32, replicas: i32| {
            instance(json!({"name": "solo"}), json!({"version": version, "replicas": replicas}))
        };
        assert_eq!(update(&of(16, 1), &of(15, 1))[0].field, "spec.version");
        assert_eq!(update(&of(15, 1), &of(15, 3))[0].field, "spec.replicas");
        assert_eq!(update(&of(15, 0), &of(15, 3)), vec![]);
        assert_eq!(update(&of(15, 5), &of(15, 3)), vec![]);
        let bare = instance_without_spec();
        assert_eq!(update(&bare, &of(15, 3))[0].field, "spec");
        assert_eq!(update(&of(15, 3), &bare), vec![]);
    }

    fn instance_without_spec() -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "solo"}})).expect("an object")
    }

    #[test]
    fn members_have_a_maximum() {
        let of = |replicas: i64| instance(json!({"name": "solo"}), json!({"replicas": replicas}));
        for (replicas, accepted) in [(0, true), (99, true), (100, false), (2_147_483_647, false)] {
            assert_eq!(create(&of(replicas)).is_empty(), accepted, "{replicas}");
            assert_eq!(update(&of(replicas), &of(0)).is_empty(), accepted, "{replicas}");
        }
    }

    #[test]
    fn what_came_past_admission_keeps_nobody_from_another_change() {
        let of = |labels: Value, replicas: i64, extensions: Value| {
            let spec = json!({"replicas": replicas, "extensions": extensions});
            instance(json!({"name": "solo", "labels": labels}), spec)
        };
        let [one, two] = [1, 2].map(|count| {
            let labels = RESERVED_LABELS[..count].iter().map(|key| ((*key).to_owned(), json!("x")));
            Value::Object(labels.collect())
        });
        let old = of(one.clone(), 150, json!(["plperlu"]));
        assert_eq!(create(&old).len(), 3);
        let mut adopted = old.clone();
        adopted.metadata.finalizers = Some(vec!["f".to_owned()]);
        assert_eq!(update(&adopted, &old), vec![]);
        for (object, field) in [
            (of(two, 150, json!(["plperlu"])), "metadata.labels"),
            (of(one.clone(), 151, json!(["plperlu"])), "spec.replicas"),
            (of(one.clone(), 150, json!(["plpython3u"])), "spec.extensions"),
            (of(one, 150, json!(["plperlu", "plpython3u"])), "spec.extensions"),
        ] {
            let violations = update(&object, &old);
            assert_eq!(violations.iter().map(|violation| violation.field).collect::<Vec<_>>(), [field]);
        }
    }

    #[test]
    fn an_instance_that_is_deleted_can_always_lose_its_finalizer() {
        let old = of_size("2Gi");
        let metadata = json!({"name": "solo", "deletionTimestamp": "2026-01-02T03:04:05Z"});
        assert_eq!(update(&instance(metadata, json!({"volumeSize": "1k"})), &old), vec![]);
    }

    #[test]
    fn unknown_extensions_are_refused_as_the_schema_says_it() {
        let object = instance(json!({"name": "solo"}), json!({"extensions": ["hstore", "plperlu"]}));
        let violations = create(&object);
        assert!(violations[0].text.contains("Only the following extensions are supported:"), "{violations:?}");
        assert!(violations[0].text.contains("plperlu"), "{violations:?}");
    }

    proptest! {
        #[test]
        fn no_object_makes_the_rules_fail(size in ".{0,12}", name in ".{0,60}", replicas in any::<i64>()) {
            let object = instance(json!({"name": name}), json!({"volumeSize": size, "replicas": replicas}));
            create(&object);
            update(&object, &object);
        }
    }
}
