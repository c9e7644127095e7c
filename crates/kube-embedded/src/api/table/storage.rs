//! Claims, volumes and storage classes in a table.

use serde_json::Value;

use super::{Layout, age, column, items, name, or, text, wide};
use crate::api::names::DEFAULT_CLASS;

pub static CLAIMS: Layout = Layout {
    columns: &[
        column("Name"),
        column("Status"),
        column("Volume"),
        column("Capacity"),
        column("Access Modes"),
        column("StorageClass"),
        column("VolumeAttributesClass"),
        column("Age"),
        wide("VolumeMode"),
    ],
    row: |object| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let volume = text(&spec["volumeName"]);
        let phase =
            if object["metadata"]["deletionTimestamp"].is_string() { "Terminating" } else { text(&status["phase"]) };
        let bound = !volume.is_empty();
        vec![
            name(object),
            phase.into(),
            volume.into(),
            if bound { text(&status["capacity"]["storage"]) } else { "" }.into(),
            if bound { modes(&status["accessModes"]) } else { String::new() }.into(),
            text(&spec["storageClassName"]).into(),
            or(text(&spec["volumeAttributesClassName"]), "<unset>").into(),
            age(object),
            or(text(&spec["volumeMode"]), "<unset>").into(),
        ]
    },
};

pub static VOLUMES: Layout = Layout {
    columns: &[
        column("Name"),
        column("Capacity"),
        column("Access Modes"),
        column("Reclaim Policy"),
        column("Status"),
        column("Claim"),
        column("StorageClass"),
        column("VolumeAttributesClass"),
        column("Reason"),
        column("Age"),
        wide("VolumeMode"),
    ],
    row: |object| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let claim = &spec["claimRef"];
        let claim = match claim {
            Value::Null => String::new(),
            claim => format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])),
        };
        let phase =
            if object["metadata"]["deletionTimestamp"].is_string() { "Terminating" } else { text(&status["phase"]) };
        vec![
            name(object),
            text(&spec["capacity"]["storage"]).into(),
            modes(&spec["accessModes"]).into(),
            text(&spec["persistentVolumeReclaimPolicy"]).into(),
            phase.into(),
            claim.into(),
            text(&spec["storageClassName"]).into(),
            or(text(&spec["volumeAttributesClassName"]), "<unset>").into(),
            text(&status["reason"]).into(),
            age(object),
            or(text(&spec["volumeMode"]), "<unset>").into(),
        ]
    },
};

pub static STORAGE_CLASSES: Layout = Layout {
    columns: &[
        column("Name"),
        column("Provisioner"),
        column("ReclaimPolicy"),
        column("VolumeBindingMode"),
        column("AllowVolumeExpansion"),
        column("Age"),
    ],
    row: |object| {
        let default = object["metadata"]["annotations"][DEFAULT_CLASS] == "true";
        let shown = format!("{}{}", text(&object["metadata"]["name"]), if default { " (default)" } else { "" });
        vec![
            shown.into(),
            object["provisioner"].clone(),
            or(text(&object["reclaimPolicy"]), "Delete").into(),
            or(text(&object["volumeBindingMode"]), "<unset>").into(),
            object["allowVolumeExpansion"].as_bool().unwrap_or(false).into(),
            age(object),
        ]
    },
};

fn modes(modes: &Value) -> String {
    let shown: Vec<&str> = items(modes)
        .map(|mode| match text(mode) {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            "ReadWriteOncePod" => "RWOP",
            other => other,
        })
        .collect();
    shown.join(",")
}
