//! What the status of a custom resource says: how far it is, who works on it, and how large a backup is.

use a8s_api::backup::{COMPLETE, PERMANENTLY_FAILED};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;

use crate::manifest::resource::{Kind, Reference};

/// How far a custom resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// At its end; what was found.
    Done(String),
    /// Under way; what is known.
    Pending(String),
    /// It will not get there; why.
    Failed(String),
}

/// The conditions of a status that are readable.
pub fn of(object: &DynamicObject) -> Vec<Condition> {
    let Some(conditions) = object.data["status"]["conditions"].as_array() else { return Vec::new() };
    conditions.iter().filter_map(|condition| serde_json::from_value(condition.clone()).ok()).collect()
}

/// The condition of a type if it is true.
pub fn holding(object: &DynamicObject, type_: &str) -> Option<Condition> {
    of(object).into_iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// A condition in one line.
pub fn line(condition: &Condition) -> String {
    format!("{}={} {}: {}", condition.type_, condition.status, condition.reason, condition.message)
}

/// How far an object of a kind is. For instances, what their status says; whether one is ready is seen by its pods too.
pub fn verdict(kind: Kind, object: &DynamicObject) -> Verdict {
    let status = &object.data["status"];
    let error = || status["error"].as_str().filter(|error| !error.is_empty()).map(str::to_owned);
    match kind {
        Kind::Backup | Kind::Restore => order(object),
        // There is no condition that says that it will never be.
        Kind::ServiceBinding if status["implemented"] == true => Verdict::Done("it is implemented".to_owned()),
        Kind::ServiceBinding => Verdict::Pending(error().unwrap_or_else(|| "it is not implemented yet".to_owned())),
        Kind::Instance if status["clusterStatus"] == "Running" => Verdict::Done("it is running".to_owned()),
        Kind::Instance => Verdict::Pending(error().unwrap_or_else(|| "it is not running".to_owned())),
    }
}

/// As the Go tool decides it: `Complete` or `PermanentlyFailed`, whichever is true.
fn order(object: &DynamicObject) -> Verdict {
    if let Some(condition) = holding(object, PERMANENTLY_FAILED) {
        let why = if condition.message.is_empty() { condition.reason } else { condition.message };
        return Verdict::Failed(why);
    }
    if let Some(condition) = holding(object, COMPLETE) {
        return Verdict::Done(match condition.message.is_empty() {
            true => "it is complete".to_owned(),
            false => format!("it is complete: {}", condition.message),
        });
    }
    let newest = of(object).into_iter().max_by_key(|condition| condition.last_transition_time.0);
    let said = newest.map(|condition| line(&condition));
    Verdict::Pending(said.unwrap_or_else(|| "nobody has begun it yet".to_owned()))
}

/// A pod that a status names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodUsed {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; empty if it is not said.
    pub uid: String,
}

/// The pod that works on a backup or a restore, if the status names one.
pub fn pod_used(object: &DynamicObject) -> Option<PodUsed> {
    let status = &object.data["status"];
    let poll = &status["podToPoll"];
    let (name, uid) = match status["podUsedNamespacedName"].as_str() {
        Some(name) => (name, &status["podUsedUID"]),
        None => (poll["namespacedName"].as_str()?, &poll["uid"]),
    };
    let (namespace, name) = name.split_once('/')?;
    let uid = uid.as_str().unwrap_or_default().to_owned();
    Some(PodUsed { namespace: namespace.to_owned(), name: name.to_owned(), uid })
}

/// When a backup or restore became complete.
pub fn completed(object: &DynamicObject) -> Option<Timestamp> {
    holding(object, COMPLETE).map(|condition| condition.last_transition_time.0)
}

/// How long it took from its creation to its completion, in whole seconds, as Kubernetes keeps time.
pub fn seconds(object: &DynamicObject) -> Option<i64> {
    let created = object.metadata.creation_timestamp.as_ref()?.0;
    Some((completed(object)?.as_second() - created.as_second()).max(0))
}

/// The size of a backup in the store, in bytes: `… <number> bytes …` in the message of the condition `Complete`.
pub fn bytes(object: &DynamicObject) -> Option<u64> {
    let message = holding(object, COMPLETE)?.message;
    let words: Vec<&str> = message.split_whitespace().collect();
    words.windows(2).find_map(|pair| {
        let unit = pair[1].trim_end_matches([',', '.', ';', ':', ')']);
        (unit == "bytes").then(|| pair[0].trim_start_matches('(').parse().ok()).flatten()
    })
}

/// What a backup is of: bytes of data, and the major of PostgreSQL: `… for <number> bytes of PostgreSQL <number>` in the
/// message of the condition `Complete`. Only the builtin stack says it.
pub fn made_of(object: &DynamicObject) -> Option<(u64, u32)> {
    let message = holding(object, COMPLETE)?.message;
    let (bytes, major) = message.split_once(" for ")?.1.split_once(" bytes of PostgreSQL ")?;
    Some((bytes.parse().ok()?, major.trim_end_matches('.').parse().ok()?))
}

/// Whether an object was made before another one, as far as their times tell (whole seconds).
pub fn is_older(object: &DynamicObject, than: &DynamicObject) -> bool {
    let made = |object: &DynamicObject| object.metadata.creation_timestamp.as_ref().map(|time| time.0);
    made(object) < made(than)
}

/// The name of the instance that a backup, a restore or a service binding is for; empty if it names none.
pub fn instance(object: &DynamicObject) -> &str {
    let spec = &object.data["spec"];
    let name = spec["serviceInstance"]["name"].as_str().or(spec["instance"]["name"].as_str());
    name.unwrap_or_default()
}

/// Whether a backup, a restore or a service binding is for this instance. A service binding may be in another namespace.
pub fn is_for(object: &DynamicObject, wanted: &Reference) -> bool {
    let named = object.data["spec"]["instance"]["namespace"].as_str().or(object.metadata.namespace.as_deref());
    named == Some(wanted.namespace.as_str()) && instance(object) == wanted.name.as_str()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn backup(conditions: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": "b", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"serviceInstance": {"name": "solo"}}, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn condition(type_: &str, status: &str, message: &str, second: u8) -> Value {
        json!({"type": type_, "status": status, "reason": "Because", "message": message,
            "lastTransitionTime": format!("2026-01-01T00:00:{second:02}Z")})
    }

    #[test]
    fn a_backup_is_complete_when_the_condition_is_true_and_not_before() {
        let done = backup(&json!([condition("Complete", "True", "stored 4096 bytes", 7)]));
        assert_eq!(verdict(Kind::Backup, &done), Verdict::Done("it is complete: stored 4096 bytes".to_owned()));
        assert_eq!((bytes(&done), seconds(&done)), (Some(4096), Some(7)));
        let not_yet = backup(&json!([condition("Complete", "False", "", 7)]));
        assert!(matches!(verdict(Kind::Backup, &not_yet), Verdict::Pending(_)));
        assert_eq!((bytes(&not_yet), seconds(&not_yet)), (None, None));
    }

    #[test]
    fn a_backup_says_what_it_is_of() {
        let said = "12 bytes in 1 objects are stored, for 3456 bytes of PostgreSQL 15";
        assert_eq!(made_of(&backup(&json!([condition("Complete", "True", said, 7)]))), Some((3456, 15)));
        assert_eq!(made_of(&backup(&json!([condition("Complete", "True", "uploaded", 7)]))), None);
    }

    #[test]
    fn a_permanent_failure_says_why() {
        let failed = backup(&json!([
            condition("InProgress", "False", "", 1),
            condition("PermanentlyFailed", "True", "the store is full", 2),
        ]));
        assert_eq!(verdict(Kind::Restore, &failed), Verdict::Failed("the store is full".to_owned()));
    }

    #[test]
    fn what_is_pending_tells_the_newest_condition() {
        let pending = backup(&json!([
            condition("InProgress", "True", "attempt 2", 9),
            condition("UploadedToS3", "False", "", 1),
        ]));
        assert_eq!(verdict(Kind::Backup, &pending), Verdict::Pending("InProgress=True Because: attempt 2".to_owned()));
    }

    #[rstest]
    #[case("stored 12 objects, 345 bytes", Some(345))]
    #[case("uploaded (345 bytes)", Some(345))]
    #[case("345 bytes.", Some(345))]
    #[case("many bytes", None)]
    #[case("bytes", None)]
    #[case("", None)]
    fn the_size_is_read_from_the_message(#[case] message: &str, #[case] size: Option<u64>) {
        assert_eq!(bytes(&backup(&json!([condition("Complete", "True", message, 1)]))), size);
    }

    #[test]
    fn a_binding_belongs_to_the_instance_of_the_namespace_that_it_names() {
        let here = Reference::new(Kind::Instance, &"shop".parse().unwrap(), &"solo".parse().unwrap());
        let binding = |namespace: &str, instance: Value| -> DynamicObject {
            serde_json::from_value(
                json!({"metadata": {"name": "app", "namespace": namespace}, "spec": {"instance": instance}}),
            )
            .unwrap()
        };
        assert!(is_for(&binding("shop", json!({"name": "solo"})), &here));
        assert!(is_for(&binding("other", json!({"name": "solo", "namespace": "shop"})), &here));
        assert!(!is_for(&binding("shop", json!({"name": "solo", "namespace": "other"})), &here));
        assert!(!is_for(&binding("shop", json!({"name": "solo-1"})), &here));
    }

    #[test]
    fn the_pod_of_a_backup_and_of_a_restore_is_found() {
        let mut object = backup(&json!([]));
        assert_eq!(pod_used(&object), None);
        object.data["status"] = json!({"podToPoll": {"ip": "", "namespacedName": "shop/solo-0", "uid": "u"}});
        let expected = PodUsed { namespace: "shop".into(), name: "solo-0".into(), uid: "u".into() };
        assert_eq!(pod_used(&object), Some(expected.clone()));
        object.data["status"] = json!({"podUsedNamespacedName": "shop/solo-0", "podUsedUID": "u"});
        assert_eq!(pod_used(&object), Some(expected));
    }
}
