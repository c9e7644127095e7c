//! One custom resource in a line: what a list tells of it.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::Serialize;
use serde_json::Value;

use crate::manifest::resource::Kind;
use crate::steps::condition::{self, Verdict};
use crate::steps::members;

/// What a list tells of a custom resource. What a kind does not have, or is not known, is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How far it is, in a word: `running`, `not-running`, `complete`, `implemented`, `pending`, `failed`, `deleting`.
    pub state: String,
    /// Why it is not further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The instance it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The backup that a restore restores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// PostgreSQL major that is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Number of members that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<i64>,
    /// Number of members that are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<i64>,
    /// Size of a member's volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<String>,
    /// Name of the Secret of a service binding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// `namespace/name` of the pod that works on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Attempts after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
    /// Size in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// When it became complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<Timestamp>,
}

impl Item {
    /// What there is to tell of an object of a kind.
    pub fn of(kind: Kind, object: &DynamicObject) -> Self {
        let (spec, status) = (&object.data["spec"], &object.data["status"]);
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let (state, reason) = state(kind, object);
        let mut item = Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            state: state.to_owned(),
            reason,
            created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            ..Self::default()
        };
        if kind == Kind::Instance {
            item.version = spec["version"].as_i64();
            item.ready = Some(status["readyReplicas"].as_i64().unwrap_or(0));
            item.members = Some(members::wanted(spec));
            item.volume_size = text(&spec["volumeSize"]);
        } else {
            item.instance = Some(condition::instance(object).to_owned());
            item.backup = text(&spec["backupName"]);
            item.secret = text(&status["secret"]["name"]);
            item.pod = condition::pod_used(object).map(|pod| format!("{}/{}", pod.namespace, pod.name));
            item.retries = status["retries"].as_i64();
            item.bytes = condition::bytes(object);
            item.seconds = condition::seconds(object);
            item.completed = condition::completed(object);
        }
        item
    }

    /// The headings of a table of items of a kind.
    pub fn headings(kind: Kind, wide: bool, namespaces: bool) -> Vec<&'static str> {
        let mut headings = if namespaces { vec!["NAMESPACE", "NAME"] } else { vec!["NAME"] };
        let (narrow, more): (&[_], &[_]) = match kind {
            Kind::Instance => (&["STATE", "READY", "VERSION", "AGE"], &["VOLUME", "REASON"]),
            Kind::Backup => {
                (&["STATE", "INSTANCE", "COMPLETED", "AGE"], &["BYTES", "SECONDS", "RETRIES", "POD", "REASON"])
            }
            Kind::Restore => (&["STATE", "INSTANCE", "BACKUP", "COMPLETED", "AGE"], &["SECONDS", "POD", "REASON"]),
            Kind::ServiceBinding => (&["STATE", "INSTANCE", "SECRET", "AGE"], &["REASON"]),
        };
        headings.extend(narrow);
        if wide {
            headings.extend(more);
        }
        headings
    }

    /// The row below such headings.
    pub fn row(&self, headings: &[&str], now: Timestamp) -> Vec<String> {
        headings.iter().map(|heading| self.cell(heading, now)).collect()
    }

    fn cell(&self, heading: &str, now: Timestamp) -> String {
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        let cell = match heading {
            "NAMESPACE" => Some(self.namespace.clone()),
            "NAME" => Some(self.name.clone()),
            "STATE" => Some(self.state.clone()),
            "READY" => Some(format!("{}/{}", self.ready.unwrap_or(0), self.members.unwrap_or(0))),
            "VERSION" => number(self.version),
            "VOLUME" => self.volume_size.clone(),
            "INSTANCE" => self.instance.clone(),
            "BACKUP" => self.backup.clone(),
            "SECRET" => self.secret.clone(),
            "POD" => self.pod.clone(),
            "RETRIES" => number(self.retries),
            "BYTES" => self.bytes.map(|bytes| bytes.to_string()),
            "SECONDS" => number(self.seconds),
            "AGE" => self.created.map(|created| age(created, now)),
            "COMPLETED" => self.completed.map(|completed| completed.to_string()),
            "REASON" => self.reason.clone(),
            _ => None,
        };
        cell.unwrap_or_else(|| "-".to_owned())
    }
}

/// How far an object is, in a word, and why not further.
pub fn state(kind: Kind, object: &DynamicObject) -> (&'static str, Option<String>) {
    if object.metadata.deletion_timestamp.is_some() {
        let finalizers = object.finalizers();
        let waits = (!finalizers.is_empty()).then(|| format!("it waits for the finalizers: {}", finalizers.join(", ")));
        return ("deleting", waits);
    }
    match (kind, condition::verdict(kind, object)) {
        (Kind::Instance, Verdict::Done(_)) => ("running", None),
        (Kind::Instance, Verdict::Pending(why)) => ("not-running", Some(why)),
        (Kind::ServiceBinding, Verdict::Done(_)) => ("implemented", None),
        (_, Verdict::Done(_)) => ("complete", None),
        (_, Verdict::Pending(why)) => ("pending", Some(why)),
        (_, Verdict::Failed(why)) => ("failed", Some(why)),
    }
}

/// An age as kubectl tells it: the largest unit, in whole numbers.
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - since.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn row(kind: Kind, object: &DynamicObject, wide: bool) -> String {
        let headings = Item::headings(kind, wide, true);
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        Item::of(kind, object).row(&headings, now).join(" ")
    }

    #[test]
    fn a_backup_in_a_line() {
        let backup = object(json!({
            "metadata": {"name": "b", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"serviceInstance": {"name": "solo"}},
            "status": {"podUsedNamespacedName": "shop/solo-0", "retries": 1, "conditions": [{"type": "Complete",
                "status": "True", "reason": "Stored", "message": "12 bytes", "lastTransitionTime": "2026-01-01T00:00:05Z"}]},
        }));
        assert_eq!(row(Kind::Backup, &backup, false), "shop b complete solo 2026-01-01T00:00:05Z 60m");
        assert_eq!(
            row(Kind::Backup, &backup, true),
            "shop b complete solo 2026-01-01T00:00:05Z 60m 12 5 1 shop/solo-0 -"
        );
    }

    #[test]
    fn an_instance_in_a_line() {
        let instance = object(json!({
            "metadata": {"name": "solo", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"version": 15, "replicas": 3, "volumeSize": "1Gi"},
            "status": {"readyReplicas": 2, "clusterStatus": "NotRunning"},
        }));
        assert_eq!(row(Kind::Instance, &instance, true), "shop solo not-running 2/3 15 60m 1Gi it is not running");
    }

    #[test]
    fn a_binding_in_a_line_and_one_that_is_being_deleted() {
        let mut binding = object(json!({
            "metadata": {"name": "app", "namespace": "shop"},
            "spec": {"instance": {"name": "solo"}}, "status": {"implemented": true, "secret": {"name": "app-service-binding"}},
        }));
        assert_eq!(row(Kind::ServiceBinding, &binding, false), "shop app implemented solo app-service-binding -");
        binding.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        binding.metadata.finalizers = Some(vec!["f".to_owned()]);
        assert_eq!(
            state(Kind::ServiceBinding, &binding),
            ("deleting", Some("it waits for the finalizers: f".to_owned()))
        );
    }

    #[rstest]
    #[case(0, "0s")]
    #[case(119, "119s")]
    #[case(120, "2m")]
    #[case(7_199, "119m")]
    #[case(7_200, "2h")]
    #[case(172_800, "2d")]
    fn ages_are_whole_numbers_of_one_unit(#[case] seconds: i64, #[case] text: &str) {
        assert_eq!(age(Timestamp::UNIX_EPOCH, Timestamp::from_second(seconds).unwrap()), text);
    }
}
