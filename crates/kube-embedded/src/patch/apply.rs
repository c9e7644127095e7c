//! Server-side apply, and the ownership of fields that other writes change
//! (`k8s.io/apimachinery/pkg/util/managedfields`, structured-merge-diff `merge/update.go`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails};
use serde_json::{Value, json};

use super::fields::Fields;
use super::managers::{self, Manager, Operation};
use super::shape::Shape;
use super::walk;
use crate::status::Status;

/// What `kubectl apply` on the client side remembers in an object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Only for this manager is that annotation kept up to date and its owner no rival.
const KUBECTL: &str = "kubectl";
/// Who owns an object's fields where nothing is known of its past.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Members of `metadata` that only the server writes: a configuration that repeats them says nothing.
const SERVER_WRITTEN: [&str; 7] =
    ["creationTimestamp", "deletionTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];

/// Who applies, and how.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions<'a> {
    /// The field manager; never empty.
    pub manager: &'a str,
    /// Take fields from other managers.
    pub force: bool,
    /// `apiVersion` of the applied configuration.
    pub api_version: &'a str,
    /// The subresource it is applied to; empty for the object itself.
    pub subresource: &'a str,
}

/// A field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The other manager as kube-apiserver words it: `"kubectl" using v1 at 2026-01-01T00:00:00Z`.
    pub manager: String,
    /// The field: `.data.key`.
    pub field: String,
}

/// Why a configuration was not applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Other managers own fields that it would change.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// It is not a configuration.
    #[error("{0}")]
    Invalid(String),
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        let ApplyError::Conflicts(conflicts) = error else { return Status::bad_request(message) };
        let cause = |conflict: Conflict| StatusCause {
            reason: Some("FieldManagerConflict".to_owned()),
            message: Some(format!("conflict with {}", conflict.manager)),
            field: Some(conflict.field),
        };
        let mut status = Status::new(409, "Conflict", message);
        status.0.details = Some(StatusDetails {
            causes: Some(conflicts.into_iter().map(cause).collect()),
            ..StatusDetails::default()
        });
        status
    }
}

/// Applies a configuration to the live object, or makes a new one of it.
///
/// The result is the live object with every field of `applied`, without the fields that this manager applied before, no
/// longer applies and nobody else owns, and with its `managedFields` brought up to date. Applying the same again gives
/// the same, times included. What the kind does not let through (`status` on the object itself, everything else on
/// `status`) must have been taken out of `applied`; a `resourceVersion` or `uid` in it is the caller's to check.
///
/// # Errors
/// [`ApplyError::Conflicts`] without `force`; [`ApplyError::Invalid`] for a configuration that carries `managedFields`, is
/// no object, or has list items that can't be told apart.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    options: ApplyOptions<'_>,
    shape: &Shape,
) -> Result<Value, ApplyError> {
    match apply_once(live, applied, options, shape) {
        Err(ApplyError::Conflicts(conflicts)) if options.manager == KUBECTL => {
            // Fields that the same person applied with kubectl on the client side are theirs (`lastappliedmanager.go`).
            let own = live.map(|live| last_applied_fields(live, shape).paths()).unwrap_or_default();
            let others: Vec<Conflict> =
                conflicts.into_iter().filter(|conflict| !own.contains(&conflict.field)).collect();
            if others.is_empty() {
                apply_once(live, applied, ApplyOptions { force: true, ..options }, shape)
            } else {
                Err(ApplyError::Conflicts(others))
            }
        }
        result => result,
    }
}

fn apply_once(
    live: Option<&Value>,
    applied: &Value,
    options: ApplyOptions<'_>,
    shape: &Shape,
) -> Result<Value, ApplyError> {
    let config = configuration(applied, shape)?;
    let mut base = live.cloned().unwrap_or_else(|| json!({"apiVersion": config["apiVersion"], "kind": config["kind"]}));
    let mut owners = owners_before_apply(live, options.api_version, shape);
    without_managed_fields(&mut base);

    let set = walk::fields_of(&config, shape);
    let mut mine = Manager {
        name: options.manager.to_owned(),
        operation: Operation::Apply,
        api_version: options.api_version.to_owned(),
        subresource: options.subresource.to_owned(),
        time: None,
        fields: set.clone(),
    };
    let last = owners.iter().position(|owner| owner.is(&mine)).map(|at| owners.remove(at));

    let mut object = walk::overlay(Some(&base), &config, shape);
    if let Some(last) = &last {
        let mut managed = set.clone();
        owners.iter().for_each(|owner| managed.extend(&owner.fields));
        walk::prune(&mut object, &last.fields, &managed, shape);
    }
    take_over(&base, &object, &mut owners, options.force || sabotage::sabotaged!("conflicts-are-ignored"), shape)?;
    if options.manager == KUBECTL {
        renew_last_applied(&mut object, applied);
    }

    managers::strip(&mut mine.fields);
    mine.time = match last {
        Some(last) if last.fields == mine.fields && last.api_version == mine.api_version && object == base => last.time,
        _ => Some(managers::now()),
    };
    owners.push(mine);
    managers::write(&mut object, owners);
    Ok(object)
}

/// Brings `managedFields` of `after` up to date for a write that is not an apply: create, update or another patch.
///
/// Changed fields belong to `manager` from now on, removed ones to nobody; without a change nothing changes. A client may
/// have edited `managedFields` itself (as `kubectl apply --server-side` does), which holds; `[{}]` forgets all owners.
pub fn track(
    before: Option<&Value>,
    after: &mut Value,
    manager: &str,
    api_version: &str,
    subresource: &str,
    shape: &Shape,
) {
    let known = before.and_then(managers::read);
    let (reset, edited) = (managers::is_reset(after), managers::read(after));
    let owners = match (subresource.is_empty(), reset, edited) {
        (true, true, _) => None,
        (true, false, Some(edited)) => Some(edited),
        _ => known,
    };
    without_managed_fields(after);
    // An object whose past nobody recorded stays so until the first apply (`skipnonapplied.go`).
    let Some(mut owners) = owners.or_else(|| before.is_none().then(Vec::new)) else { return };
    let mut base = before.cloned().unwrap_or_else(|| json!({}));
    without_managed_fields(&mut base);

    let comparison = walk::compare(&base, after, shape);
    for owner in &mut owners {
        owner.fields.subtract(&comparison.changed);
        owner.fields.subtract(&comparison.removed);
    }
    let mut taken = comparison.changed;
    managers::strip(&mut taken);
    if !taken.is_empty() {
        let mut entry = Manager {
            name: manager.to_owned(),
            operation: Operation::Update,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
            time: Some(managers::now()),
            fields: taken,
        };
        if let Some(at) = owners.iter().position(|owner| owner.is(&entry)) {
            entry.fields.extend(&owners.swap_remove(at).fields);
        }
        owners.push(entry);
        owners.retain(|owner| !owner.fields.is_empty());
        managers::cap(&mut owners);
    }
    managers::write(after, owners);
}

/// The applied object without what only the server writes.
fn configuration(applied: &Value, shape: &Shape) -> Result<Value, ApplyError> {
    let mut config = applied.clone();
    let Some(root) = config.as_object_mut() else {
        return Err(ApplyError::Invalid("error decoding YAML: the configuration must be an object".to_owned()));
    };
    if let Some(metadata) = root.get_mut("metadata").and_then(Value::as_object_mut) {
        if metadata.get("managedFields").is_some_and(|entries| entries.as_array().is_none_or(|list| !list.is_empty())) {
            return Err(ApplyError::Invalid("metadata.managedFields must be nil".to_owned()));
        }
        SERVER_WRITTEN.iter().for_each(|name| drop(metadata.remove(*name)));
    }
    match walk::ambiguous(&config, shape, "") {
        Some(why) => Err(ApplyError::Invalid(format!("failed to create typed patch object: {why}"))),
        None => Ok(config),
    }
}

/// The owners an apply meets. Where nobody recorded any, one stands for all that happened before.
fn owners_before_apply(live: Option<&Value>, api_version: &str, shape: &Shape) -> Vec<Manager> {
    let Some(live) = live else { return Vec::new() };
    managers::read(live).unwrap_or_else(|| {
        let mut object = live.clone();
        without_managed_fields(&mut object);
        let mut fields = walk::compare(&json!({}), &object, shape).changed;
        managers::strip(&mut fields);
        let time = Some(managers::now());
        vec![Manager {
            name: BEFORE_FIRST_APPLY.to_owned(),
            operation: Operation::Update,
            api_version: api_version.to_owned(),
            subresource: String::new(),
            time,
            fields,
        }]
    })
}

/// Takes the fields that differ away from their owners.
fn take_over(
    base: &Value,
    object: &Value,
    owners: &mut [Manager],
    force: bool,
    shape: &Shape,
) -> Result<(), ApplyError> {
    let comparison = walk::compare(base, object, shape);
    let mut conflicts = Vec::new();
    for owner in owners.iter_mut() {
        let disputed = owner.fields.intersection(&comparison.changed);
        conflicts.extend(disputed.paths().into_iter().map(|field| Conflict { manager: describe(owner), field }));
        owner.fields.subtract(&disputed);
        owner.fields.subtract(&comparison.removed);
    }
    if conflicts.is_empty() || force {
        return Ok(());
    }
    conflicts.sort();
    Err(ApplyError::Conflicts(conflicts))
}

/// A manager as `conflict.go` words it.
fn describe(owner: &Manager) -> String {
    let mut text = format!("{:?}", owner.name);
    if !owner.subresource.is_empty() {
        text = format!("{text} with subresource {:?}", owner.subresource);
    }
    if owner.operation == Operation::Update {
        text = format!("{text} using {}", owner.api_version);
    }
    text
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.field);
    }
    let mut lines = Vec::new();
    let mut manager = None;
    for conflict in conflicts {
        if manager != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            manager = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn last_applied(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()
}

/// The fields of the last client-side apply that the live object still has with the same value.
fn last_applied_fields(live: &Value, shape: &Shape) -> Fields {
    let Some(config) = last_applied(live).and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return Fields::default();
    };
    let mut fields = walk::fields_of(&config, shape);
    let comparison = walk::compare(&config, live, shape);
    fields.subtract(&comparison.changed);
    fields.subtract(&comparison.removed);
    fields
}

/// Keeps the annotation of a client-side apply, where there is one, at what kubectl now applies on the server side
/// (`lastappliedupdater.go`).
fn renew_last_applied(object: &mut Value, applied: &Value) {
    if last_applied(object).is_none() {
        return;
    }
    let mut config = applied.clone();
    without_managed_fields(&mut config);
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.insert(LAST_APPLIED.to_owned(), Value::String(format!("{config}\n")));
    }
}
