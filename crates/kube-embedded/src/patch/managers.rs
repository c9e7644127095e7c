//! `metadata.managedFields`: who owns which fields, read from and written to an object as kube-apiserver does it
//! (`k8s.io/apimachinery/pkg/util/managedfields/internal`).

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde_json::{Map, Value, json};

use super::fields::Fields;

/// Update managers an object remembers; older ones are joined into one.
const MAX_UPDATE_MANAGERS: usize = 10;
/// The manager that older ones are joined into.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    /// Empty: the object itself.
    pub(super) subresource: String,
    /// RFC 3339, whole seconds.
    pub(super) time: Option<String>,
    pub(super) fields: Fields,
}

impl Manager {
    /// Whether both are the same manager. An applier is one whatever version it applies.
    pub(super) fn is(&self, other: &Manager) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn parse(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Self {
            name: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: Some(text("time")).filter(|time| !time.is_empty()),
            fields: Fields::parse(entry.get("fieldsV1")?)?,
        })
    }

    fn to_value(&self) -> Value {
        let operation = if self.operation == Operation::Apply { "Apply" } else { "Update" };
        let mut entry = json!({
            "manager": self.name,
            "operation": operation,
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_value(),
        });
        if let Some(time) = &self.time {
            entry["time"] = json!(time);
        }
        if !self.subresource.is_empty() {
            entry["subresource"] = json!(self.subresource);
        }
        entry
    }
}

/// The managers in an object; `None` where it has none that can be read.
pub(super) fn read(object: &Value) -> Option<Vec<Manager>> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let managers: Option<Vec<Manager>> = entries.iter().map(Manager::parse).collect();
    managers.filter(|managers| !managers.is_empty())
}

/// Whether a client asks to forget all managers: `managedFields: [{}]`.
pub(super) fn is_reset(object: &Value) -> bool {
    object.pointer("/metadata/managedFields").is_some_and(|entries| *entries == json!([{}]))
}

/// Puts the managers into the object, in the order kube-apiserver gives them.
pub(super) fn write(object: &mut Value, mut managers: Vec<Manager>) {
    managers.retain(|manager| !manager.fields.is_empty());
    managers.sort_by(|a, b| {
        let key =
            |m: &Manager| (m.operation, m.time.clone(), m.name.clone(), m.api_version.clone(), m.subresource.clone());
        key(a).cmp(&key(b))
    });
    let Some(root) = object.as_object_mut() else { return };
    let metadata = root.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let Some(metadata) = metadata.as_object_mut() else { return };
    if managers.is_empty() {
        metadata.remove("managedFields");
    } else {
        let entries = managers.iter().map(Manager::to_value).collect();
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// Takes out what nobody owns: identity and what the server alone writes (`stripmeta.go`).
pub(super) fn strip(fields: &mut Fields) {
    fields.member = false;
    for name in ["f:apiVersion", "f:kind"] {
        fields.children.remove(name);
    }
    if let Some(metadata) = fields.children.get_mut("f:metadata") {
        metadata.member = false;
        for name in [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "managedFields",
            "selfLink",
            "clusterName",
            "generateName",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            // generateName is owned upstream; it can't change, so that owner says nothing.
            metadata.children.remove(&format!("f:{name}"));
        }
    }
    fields.tidy();
}

/// Joins the oldest update managers of a version until there are no more than ten (`capmanagers.go`).
pub(super) fn cap(managers: &mut Vec<Manager>) {
    managers.sort_by(|a, b| (a.operation, &a.time, &a.name).cmp(&(b.operation, &b.time, &b.name)));
    while managers.iter().filter(|m| m.operation == Operation::Update).count() > MAX_UPDATE_MANAGERS {
        let updates = || managers.iter().enumerate().filter(|(_, manager)| manager.operation == Operation::Update);
        let oldest = updates().find_map(|(at, manager)| {
            let target = updates().find(|(other, candidate)| {
                *other != at
                    && candidate.api_version == manager.api_version
                    && (candidate.name == ANCIENT || *other > at)
            });
            (manager.name != ANCIENT).then_some(())?;
            target.map(|(target, _)| (at, target))
        });
        let Some((joined, target)) = oldest else { return };
        let fields = managers[joined].fields.clone();
        let target_entry = &mut managers[target];
        target_entry.fields.extend(&fields);
        target_entry.name = ANCIENT.to_owned();
        target_entry.subresource = String::new();
        managers.remove(joined);
    }
}

/// The present, as `managedFields` writes times.
pub(super) fn now() -> String {
    let now = Timestamp::now();
    let rounding = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
    now.round(rounding).unwrap_or(now).to_string()
}
