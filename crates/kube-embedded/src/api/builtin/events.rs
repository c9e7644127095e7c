//! Events. There is one kind of them with two forms: that of the core group, in which they are stored, and that of
//! `events.k8s.io`, in which some fields have other names (`pkg/apis/events/v1/conversion.go`).

use serde_json::{Value, json};

use super::causes::Causes;
use super::rules::set;
use crate::api::names;

/// The group of the other form.
pub const GROUP: &str = "events.k8s.io";
const CORE: &str = "v1";
const OTHER: &str = "events.k8s.io/v1";

/// What a field is called in the core group, and in the other.
const NAMES: [(&str, &str); 7] = [
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("involvedObject", "regarding"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
];

/// The fields that `events.k8s.io` does not let change: all but the series.
const FIXED: [&str; 13] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

/// An event in the form of a version, if it has the other one.
pub fn convert(event: &Value, version: &str) -> Option<Value> {
    if event["apiVersion"].as_str()? == version {
        return None;
    }
    let mut event = event.clone();
    rename(&mut event, version, "");
    let managers = event.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
    for manager in managers.into_iter().flatten() {
        rename(&mut manager["fieldsV1"], version, "f:");
        manager["apiVersion"] = version.into();
    }
    event["apiVersion"] = version.into();
    if version == CORE {
        set(&mut event, "involvedObject", json!({}));
    }
    Some(event)
}

fn rename(fields: &mut Value, version: &str, prefix: &str) {
    let Some(fields) = fields.as_object_mut() else { return };
    for (core, other) in NAMES {
        let (from, to) = if version == CORE { (other, core) } else { (core, other) };
        if let Some(value) = fields.remove(&format!("{prefix}{from}")) {
            fields.insert(format!("{prefix}{to}"), value);
        }
    }
}

/// An object as it is stored, of whatever kind it is.
pub fn as_stored(object: Value) -> Value {
    if object["apiVersion"] == OTHER && object["kind"] == "Event" { in_core(&object) } else { object }
}

/// An event in the form of the core group.
pub fn in_core(event: &Value) -> Value {
    convert(event, CORE).unwrap_or_else(|| event.clone())
}

/// The path of a field of `events.k8s.io` in what is stored.
pub fn stored_path(path: &str) -> String {
    let (first, rest) = path.split_once('.').map_or((path, ""), |(first, _)| (first, &path[first.len()..]));
    let known = NAMES.iter().find(|(_, other)| *other == first);
    format!("{}{rest}", known.map_or(first, |(core, _)| *core))
}

/// What holds of the events of both groups (`pkg/apis/core/validation/events.go`): whoever says when it was says more.
pub fn validate(causes: &mut Causes, event: &Value) {
    const MOST: usize = 128;
    const MOST_TEXT: usize = 1024;
    let involved = event["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let own = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let is_timed = event["eventTime"].is_string();
    let fits = match involved {
        "" => own == "default" || (is_timed && own == "kube-system"),
        involved => is_timed || involved == own,
    };
    if !fits {
        causes.invalid("involvedObject.namespace", &json!(involved), "does not match event.namespace");
    }
    if !is_timed {
        return;
    }
    causes.name("reportingController", &event["reportingComponent"], names::qualified_name);
    for field in ["reportingInstance", "action", "reason"] {
        match event[field].as_str().unwrap_or_default().len() {
            0 => causes.required(field, ""),
            1..=MOST => {}
            _ => causes.invalid(field, &json!(""), &format!("can have at most {MOST} characters")),
        }
    }
    if event["message"].as_str().is_some_and(|text| text.len() > MOST_TEXT) {
        causes.invalid("message", &json!(""), &format!("can have at most {MOST_TEXT} characters"));
    }
}

/// What holds besides of those that are written by `events.k8s.io`. Fields are named as they are stored, as there.
pub fn validate_strictly(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    let (new, old) = (in_core(new), old.map(in_core));
    validate(causes, &new);
    let Some(old) = old else {
        validate_series(causes, &new["series"]);
        if !new["eventTime"].is_string() {
            causes.required("eventTime", "");
        }
        let kind = new["type"].as_str().unwrap_or_default();
        if !matches!(kind, "Normal" | "Warning") {
            causes.invalid("type", &json!(""), &format!("has invalid value: {kind}"));
        }
        for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
            let value = &new[field];
            if !(value.is_null() || *value == 0 || *value == json!({})) {
                causes.invalid(field, &json!(""), "needs to be unset");
            }
        }
        return;
    };
    if new["series"] != old["series"] {
        validate_series(causes, &new["series"]);
    }
    for field in FIXED {
        if new[field] != old[field] {
            let field = if field == "reportingComponent" { "reportingController" } else { field };
            causes.invalid(field, &new[field], "field is immutable");
        }
    }
}

fn validate_series(causes: &mut Causes, series: &Value) {
    if series["count"].as_i64().is_some_and(|count| count < 2) {
        causes.invalid("series.count", &json!(""), "should be at least 2");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_two_forms_and_loses_nothing_between_them() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "message": "m", "reason": "r", "count": 2,
            "source": {"component": "c"}, "involvedObject": {"name": "p"}, "reportingComponent": "c",
            "metadata": {"managedFields": [{"apiVersion": "v1", "fieldsV1": {"f:message": {}, "f:reason": {}}}]},
        });
        let other = json!({
            "apiVersion": OTHER, "kind": "Event", "note": "m", "reason": "r", "deprecatedCount": 2,
            "deprecatedSource": {"component": "c"}, "regarding": {"name": "p"}, "reportingController": "c",
            "metadata": {"managedFields": [{"apiVersion": OTHER, "fieldsV1": {"f:note": {}, "f:reason": {}}}]},
        });
        assert_eq!(convert(&core, OTHER).as_ref(), Some(&other));
        assert_eq!(as_stored(other.clone()), core);
        assert_eq!((convert(&other, OTHER), convert(&Value::Null, OTHER)), (None, None));
        for (path, stored) in [
            ("regarding.name", "involvedObject.name"),
            ("reportingController", "reportingComponent"),
            ("metadata.name", "metadata.name"),
            ("type", "type"),
        ] {
            assert_eq!(stored_path(path), stored);
        }
    }

    #[test]
    fn an_event_of_the_other_group_says_all_and_only_its_series_changes() {
        let event = json!({
            "apiVersion": OTHER, "kind": "Event", "metadata": {"namespace": "n"}, "regarding": {"namespace": "n"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c",
            "reportingInstance": "i", "action": "a", "reason": "r", "type": "Normal", "note": "m",
        });
        let problems = |new: &Value, old: Option<&Value>| -> Vec<String> {
            let mut causes = Causes::default();
            validate_strictly(&mut causes, new, old);
            causes.0.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
        };
        assert!(problems(&event, None).is_empty());
        let mut bare = json!({"apiVersion": OTHER, "kind": "Event", "metadata": {"namespace": "n"}});
        bare["deprecatedCount"] = 1.into();
        assert_eq!(
            problems(&bare, None),
            [
                "involvedObject.namespace: Invalid value: \"\": does not match event.namespace",
                "eventTime: Required value",
                "type: Invalid value: \"\": has invalid value: ",
                "count: Invalid value: \"\": needs to be unset",
            ]
        );
        let mut wordless = event.clone();
        wordless["action"] = "x".repeat(129).into();
        wordless["reason"] = "".into();
        assert_eq!(
            problems(&wordless, None),
            ["action: Invalid value: \"\": can have at most 128 characters", "reason: Required value"]
        );
        let mut again = event.clone();
        again["series"] = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
        assert!(problems(&again, Some(&event)).is_empty());
        again["series"]["count"] = 1.into();
        again["note"] = "other".into();
        assert_eq!(
            problems(&again, Some(&event)),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "message: Invalid value: \"other\": field is immutable",
            ]
        );
    }
}
