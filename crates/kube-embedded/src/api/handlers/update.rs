//! `update`, and the step that `update` and `patch` share: a new state takes the place of the one it was made from.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::Value;

use crate::api::ApiServer;
use crate::api::body::Body;
use crate::api::builtin::events;
use crate::api::call::{Call, modified};
use crate::api::{metadata, typed};
use crate::patch;
use crate::status::{Cause, Status};
use crate::store::Object;

/// The fields of `metadata` that a client can't change.
const SERVER_FIELDS: [&str; 6] =
    ["name", "namespace", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// A stored object, and warnings for the client.
pub(super) type Changed = (Arc<Object>, Vec<String>);

/// Whether `managedFields` is up to date already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ownership {
    /// No: what changed belongs to the manager of the call.
    Tracked,
    /// Yes: an apply has said what belongs to whom.
    Applied,
}

impl ApiServer {
    pub(super) async fn update(&self, call: &Call) -> Result<Response<Body>, Status> {
        let (object, warnings) = typed::object(call)?;
        typed::require_name(call, &object)?;
        call.check_namespace(&object)?;
        loop {
            let Ok(current) = self.find(call) else {
                let done = self.make(call, object.clone()).await;
                // Somebody else was faster: theirs is what is replaced.
                if done.as_ref().is_err_and(|status| status.reason() == "AlreadyExists") {
                    continue;
                }
                let (object, said) = done?;
                return Ok(self.show(call, StatusCode::CREATED, &object, &[warnings, said].concat()));
            };
            let done = self.replace(call, &current, object.clone(), Ownership::Tracked).await;
            // Where nobody named a version, the last one to come wins.
            let fixed = !named_version(&object).is_empty();
            if fixed || !self.has_lost(call, &current, &done).await {
                let (object, said) = done?;
                return Ok(self.show(call, StatusCode::OK, &object, &[warnings, said].concat()));
            }
        }
    }

    /// Makes what was to take the place of an object that is not there, if it is of a kind of which that is done.
    async fn make(&self, call: &Call, mut object: Value) -> Result<Changed, Status> {
        if !call.resource.is_made_by_update() || !call.request.subresource.is_empty() {
            return Err(call.not_found());
        }
        let uid = metadata::text(&object, "uid");
        if !uid.is_empty() {
            return Err(other_life(call, uid, ""));
        }
        self.check_right_to_create(call)?;
        metadata::set(&mut object, "resourceVersion", None);
        self.create_object(call, object, Ownership::Tracked).await
    }

    /// Whether a write has failed because the object is no longer what it was. The change that it has lost against may
    /// still be on its way to the disk, and is not seen before it is there.
    pub(super) async fn has_lost(&self, call: &Call, seen: &Object, done: &Result<Changed, Status>) -> bool {
        let Err(status) = done else { return false };
        if status.code() != 409 {
            return false;
        }
        let (group, plural, name) = (&call.resource.group, &call.resource.plural, &call.request.name);
        let looks = if *status == modified(group, plural, name) { 1000 } else { 1 };
        for _ in 0..looks {
            if self.find(call).is_ok_and(|now| now.version != seen.version) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        false
    }

    /// Makes `new` the state of an object that is at `current`.
    pub(super) async fn replace(
        &self,
        call: &Call,
        current: &Arc<Object>,
        mut new: Value,
        ownership: Ownership,
    ) -> Result<Changed, Status> {
        let name = call.request.name.as_str();
        self.check_preconditions(call, current, &new)?;
        keep_server_fields(&mut new, &current.value);
        keep_other_part(call, &mut new, &current.value);
        let warnings = self.judge(call, Some(&current.value), &mut new).await?;
        bump_generation(call, &mut new, &current.value);
        if ownership == Ownership::Tracked {
            let (version, manager) = (call.resource.api_version(), call.manager());
            let subresource = &call.request.subresource;
            patch::track(Some(&current.value), &mut new, &manager, &version, subresource, &call.resource.merge);
        }
        if unchanged(&new, &current.value) {
            return Ok((Arc::clone(current), warnings));
        }
        if call.dry_run()? {
            return Ok((self.dry(call, new), warnings));
        }
        let stored = self.put(current, new).await.map_err(|error| call.store_error(name, &error))?;
        self.after_change(call, &stored).await;
        Ok((stored, warnings))
    }

    /// Stores what becomes of an object, which goes if nothing holds it any more.
    pub(in crate::api) async fn put(&self, current: &Object, new: Value) -> Result<Arc<Object>, crate::store::Error> {
        let (key, version) = (current.key.clone(), current.version);
        if may_go(&new) {
            self.store.delete(key, version).await
        } else {
            self.store.update(key, events::as_stored(new), version).await
        }
    }

    fn wrong_version(&self, call: &Call, version: &str) -> Status {
        let shown = if version == "0x0" { version.to_owned() } else { format!("\"{version}\"") };
        let message = format!("Invalid value: {shown}: must be specified for an update");
        let cause = Cause { reason: "FieldValueInvalid", field: "metadata.resourceVersion".to_owned(), message };
        Status::invalid(&call.resource.group, &call.resource.kind, &call.request.name, vec![cause])
    }

    pub(super) fn check_preconditions(&self, call: &Call, current: &Object, new: &Value) -> Result<(), Status> {
        let (group, plural, name) = (&call.resource.group, &call.resource.plural, &call.request.name);
        let version = named_version(new);
        if !version.is_empty() && version != current.version.to_string() {
            return Err(match version.parse::<u64>() {
                Ok(_) => modified(group, plural, name),
                Err(_) => self.wrong_version(call, version),
            });
        }
        if version.is_empty()
            && call.request.verb == "update"
            && !call.resource.is_replaced_blindly()
            && !call.request.subresource.eq("scale")
        {
            return Err(self.wrong_version(call, "0x0"));
        }
        let (uid, current_uid) = (metadata::text(new, "uid"), metadata::text(&current.value, "uid"));
        if !uid.is_empty() && uid != current_uid {
            return Err(other_life(call, uid, current_uid));
        }
        Ok(())
    }
}

/// The version that a client has named, or `""`. `0` is none, as for etcd3's store.
fn named_version(object: &Value) -> &str {
    match metadata::text(object, "resourceVersion") {
        "0" => "",
        version => version,
    }
}

/// 409 of an object that has the name of the one that was meant, if there is any.
fn other_life(call: &Call, meant: &str, is: &str) -> Status {
    let why = format!("Precondition failed: UID in precondition: {meant}, UID in object meta: {is}");
    Status::conflict(&call.resource.group, &call.resource.plural, &call.request.name, why)
}

pub(in crate::api) fn keep_server_fields(new: &mut Value, current: &Value) {
    for field in SERVER_FIELDS.into_iter().chain(["uid", "resourceVersion"]) {
        metadata::set(new, field, current["metadata"].get(field).cloned());
    }
}

/// The main resource can't change `status`, and `status` can't change anything else.
pub(in crate::api) fn keep_other_part(call: &Call, new: &mut Value, current: &Value) {
    let put = |object: &mut Value, field: &str, value: Option<Value>| match value {
        Some(value) => object[field] = value,
        None => drop(object.as_object_mut().and_then(|object| object.remove(field))),
    };
    match call.request.subresource.as_str() {
        "status" => {
            let status = new.get("status").cloned();
            let managed = new["metadata"].get("managedFields").cloned();
            *new = current.clone();
            put(new, "status", status);
            if managed.is_some() {
                metadata::set(new, "managedFields", managed);
            }
        }
        "finalize" => {
            let finalizers = new["spec"].get("finalizers").cloned();
            *new = current.clone();
            put(&mut new["spec"], "finalizers", finalizers);
        }
        _ if call.resource.status => put(new, "status", current.get("status").cloned()),
        _ => {}
    }
}

/// The generation counts changes of what is wished, so of everything but metadata and status.
fn bump_generation(call: &Call, new: &mut Value, current: &Value) {
    let Some(generation) = current["metadata"]["generation"].as_i64() else { return };
    let wish = |object: &Value| -> Vec<(String, Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields
            .filter(|(key, _)| *key != "metadata" && (*key != "status" || !call.resource.status))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    if wish(new) != wish(current) {
        metadata::set(new, "generation", Some((generation + 1).into()));
    }
}

/// Whether nothing differs, or nothing but the times of field managers, which alone are no change
/// (kube-apiserver's `ignoreManagedFieldsTimestampsTransformer`): a configuration that the server stores in other words
/// than it was applied in would otherwise be written at every apply.
fn unchanged(new: &Value, current: &Value) -> bool {
    let parts = |object: &Value| object.as_object().map(|object| object.len());
    let differs = |(name, value): (&String, &Value)| name != "metadata" && current.get(name) != Some(value);
    if new == current {
        return true;
    }
    if parts(new) != parts(current) || new.as_object().into_iter().flatten().any(differs) {
        return false;
    }
    let timeless = |object: &Value| {
        let mut metadata = object["metadata"].clone();
        for entry in metadata["managedFields"].as_array_mut().into_iter().flatten() {
            entry["time"] = Value::Null;
        }
        metadata
    };
    timeless(new) == timeless(current)
}

/// Whether an object that is being deleted has nothing left that holds it.
pub(in crate::api) fn may_go(object: &Value) -> bool {
    let held =
        object["kind"] == "Namespace" && object["spec"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    metadata::is_deleting(object)
        && metadata::finalizers(object).is_empty()
        && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !held
}
