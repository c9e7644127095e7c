//! Claims, volumes and storage classes.

use serde_json::{Value, json};

use super::causes::Causes;
use super::rules::set;
use crate::quantity;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Of a claim's spec, also of a template's.
pub fn default_claim(spec: &mut Value) {
    set(spec, "volumeMode", "Filesystem");
    super::pods::default_requests(&mut spec["resources"]);
}

pub fn default_volume(new: &mut Value) {
    let spec = &mut new["spec"];
    set(spec, "persistentVolumeReclaimPolicy", "Retain");
    set(spec, "volumeMode", "Filesystem");
    if spec["hostPath"].is_object() {
        set(&mut spec["hostPath"], "type", "");
    }
}

pub fn default_class(new: &mut Value) {
    set(new, "reclaimPolicy", "Delete");
    set(new, "volumeBindingMode", "Immediate");
}

/// What a claim must say, and what of it may change: only the size, and only upwards.
pub fn validate_claim(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    let spec = &new["spec"];
    validate_claim_spec(causes, spec, "spec");
    let Some(old) = old else { return };
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(fields) = spec.as_object_mut() {
            fields.remove("resources");
            fields.remove("volumeAttributesClassName");
        }
        spec
    };
    let (mut before, after) = (fixed(&old["spec"]), fixed(spec));
    // Binding a claim is naming its volume.
    for field in ["volumeName", "storageClassName"] {
        if before[field].as_str().is_none_or(str::is_empty) {
            if let Some(fields) = before.as_object_mut() {
                fields.remove(field);
            }
            if let Some(value) = after.get(field) {
                before[field] = value.clone();
            }
        }
    }
    if before != after {
        let why =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        causes.forbidden("spec", why);
    }
    let size = |spec: &Value| quantity::milli(spec["resources"]["requests"]["storage"].as_str().unwrap_or_default());
    if let (Some(before), Some(after)) = (size(&old["spec"]), size(spec))
        && after < before
    {
        causes.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity");
    }
}

pub fn validate_claim_spec(causes: &mut Causes, spec: &Value, path: &str) {
    let modes = spec["accessModes"].as_array().cloned().unwrap_or_default();
    if modes.is_empty() {
        causes.required(&format!("{path}.accessModes"), "at least 1 access mode is required");
    }
    for mode in &modes {
        causes.one_of(&format!("{path}.accessModes"), mode, &MODES);
    }
    match spec["resources"]["requests"]["storage"].as_str() {
        None => causes.required(&format!("{path}.resources[storage]"), ""),
        Some(size) => match quantity::milli(size) {
            Some(1..) => {}
            _ => causes.invalid(&format!("{path}.resources[storage]"), &json!(size), "must be greater than zero"),
        },
    }
}

pub fn validate_volume(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    let spec = &new["spec"];
    if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
        causes.required("spec.accessModes", "");
    }
    if spec["capacity"]["storage"].as_str().is_none() {
        causes.required("spec.capacity", "");
    }
    let sources = ["hostPath", "local", "nfs", "csi", "iscsi", "fc"];
    if !sources.iter().any(|source| spec[source].is_object()) {
        causes.required("spec", "must specify a volume type");
    }
    if let Some(old) = old {
        for source in sources.iter().filter(|source| old["spec"].get(**source) != spec.get(**source)) {
            causes.forbidden(&format!("spec.{source}"), "spec.persistentvolumesource is immutable after creation");
        }
    }
}

pub fn validate_class(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    if new["provisioner"].as_str().is_none_or(str::is_empty) {
        causes.required("provisioner", "");
    }
    let Some(old) = old else { return };
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if old.get(field) != new.get(field) {
            causes.forbidden(field, &format!("updates to {field} are forbidden."));
        }
    }
}
