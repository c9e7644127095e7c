//! CustomResourceDefinitions: what they must look like, their status, and the resources they define.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Schema;
use crate::api::metadata;
use crate::api::registry::{Column, Custom, Resource, Scale, Shape};
use crate::patch;
use crate::status::Cause;

/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The resources that a definition serves, one for each served version.
pub fn resources(definition: &Value) -> Vec<Resource> {
    let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(&text).collect::<Vec<_>>();
    let versions = spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true);
    versions
        .map(|version| {
            let published = Arc::new(version["schema"]["openAPIV3Schema"].clone());
            let kind = text(&names["kind"]);
            let custom = Custom {
                schema: Schema::new(Arc::clone(&published)),
                columns: columns(version),
                published: Arc::clone(&published),
                terminating: metadata::is_deleting(definition),
            };
            Resource {
                group: text(&spec["group"]),
                version: text(&version["name"]),
                list_kind: names["listKind"].as_str().map_or_else(|| format!("{kind}List"), str::to_owned),
                singular: names["singular"].as_str().map_or_else(|| kind.to_ascii_lowercase(), str::to_owned),
                kind,
                plural: text(&names["plural"]),
                short_names: texts(&names["shortNames"]),
                categories: texts(&names["categories"]),
                namespaced: spec["scope"] == "Namespaced",
                stored: true,
                status: version["subresources"]["status"].is_object(),
                scale: scale(&version["subresources"]["scale"]),
                subresources: Vec::new(),
                merge: patch::Shape::structural(&published),
                shape: Shape::Custom(Arc::new(custom)),
            }
        })
        .collect()
}

fn scale(scale: &Value) -> Option<Scale> {
    let path = |value: &Value| -> Option<Vec<String>> {
        Some(value.as_str()?.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect())
    };
    Some(Scale {
        spec_replicas: path(&scale["specReplicasPath"])?,
        status_replicas: path(&scale["statusReplicasPath"])?,
        selector: path(&scale["labelSelectorPath"]),
    })
}

fn columns(version: &Value) -> Vec<Column> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let columns: Vec<Column> = version["additionalPrinterColumns"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|column| Column {
            name: text(&column["name"]),
            kind: text(&column["type"]),
            format: text(&column["format"]),
            description: text(&column["description"]),
            priority: column["priority"].as_i64().and_then(|priority| i32::try_from(priority).ok()).unwrap_or(0),
            path: text(&column["jsonPath"]),
        })
        .collect();
    if !columns.is_empty() {
        return columns;
    }
    vec![Column {
        name: "Age".to_owned(),
        kind: "date".to_owned(),
        format: String::new(),
        description: String::new(),
        priority: 0,
        path: ".metadata.creationTimestamp".to_owned(),
    }]
}

/// Fills in what a definition may leave out.
pub fn default(definition: &mut Value) {
    let names = &mut definition["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    if names["singular"].as_str().is_none_or(str::is_empty) {
        names["singular"] = kind.to_ascii_lowercase().into();
    }
    if names["listKind"].as_str().is_none_or(str::is_empty) {
        names["listKind"] = format!("{kind}List").into();
    }
    if !definition["spec"]["conversion"].is_object() {
        definition["spec"]["conversion"] = json!({"strategy": "None"});
    }
}

/// The status of a definition whose resources are served: what the naming and establishing controllers would write.
pub fn establish(definition: &mut Value) {
    let now = metadata::now();
    let accepted = definition["spec"]["names"].clone();
    let status = &mut definition["status"];
    if !status.is_object() {
        *status = json!({});
    }
    let mut stored: Vec<Value> = status["storedVersions"].as_array().cloned().unwrap_or_default();
    let versions = definition["spec"]["versions"].as_array().cloned().unwrap_or_default();
    for version in versions.iter().filter(|version| version["storage"] == true) {
        if !stored.contains(&version["name"]) {
            stored.push(version["name"].clone());
        }
    }
    let status = &mut definition["status"];
    status["acceptedNames"] = accepted;
    status["storedVersions"] = stored.into();
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now});
    if status["conditions"].as_array().is_none_or(Vec::is_empty) {
        status["conditions"] = json!([
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ]);
    }
}

/// Everything that is wrong with a definition.
pub fn validate(definition: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut add =
        |reason, field: &str, message: String| causes.push(Cause { reason, field: field.to_owned(), message });
    let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural, name) = (text(&spec["group"]), text(&names["plural"]), metadata::name(definition).to_owned());
    if name != format!("{plural}.{group}") {
        add(
            "FieldValueInvalid",
            "metadata.name",
            format!("Invalid value: \"{name}\": must be spec.names.plural+\".\"+spec.group"),
        );
    }
    for (field, value) in
        [("spec.group", &group), ("spec.names.plural", &plural), ("spec.names.kind", &text(&names["kind"]))]
    {
        if value.is_empty() {
            add("FieldValueRequired", field, "Required value".to_owned());
        }
    }
    match spec["scope"].as_str() {
        Some("Namespaced" | "Cluster") => {}
        Some("") | None => add("FieldValueRequired", "spec.scope", "Required value".to_owned()),
        Some(other) => add(
            "FieldValueNotSupported",
            "spec.scope",
            format!("Unsupported value: \"{other}\": supported values: \"Cluster\", \"Namespaced\""),
        ),
    }
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        add(
            "FieldValueInvalid",
            "spec.versions",
            "Invalid value: must have exactly one version marked as storage version".to_owned(),
        );
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        let schema = &version["schema"]["openAPIV3Schema"];
        if !schema.is_object() {
            add("FieldValueRequired", &path, "Required value: schemas are required".to_owned());
        } else if schema["type"] != "object" {
            let kind = text(&schema["type"]);
            add(
                "FieldValueInvalid",
                &format!("{path}.type"),
                format!("Invalid value: \"{kind}\": must be object at the root"),
            );
        }
        let mut problems = Vec::new();
        structural(schema, &path, &mut problems);
        problems.into_iter().for_each(|(field, message)| add("FieldValueInvalid", &field, message));
        rules(schema, &path, &mut add);
    }
    causes
}

/// The schema has to say the type of everything (Kubernetes documentation, "Specifying a structural schema").
fn structural(schema: &Value, path: &str, problems: &mut Vec<(String, String)>) {
    let free = schema["x-kubernetes-int-or-string"] == true || schema["x-kubernetes-preserve-unknown-fields"] == true;
    if schema.is_object() && schema["type"].as_str().is_none_or(str::is_empty) && !free {
        problems
            .push((format!("{path}.type"), "Required value: must not be empty for specified object fields".to_owned()));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && regex::Regex::new(pattern).is_err()
    {
        problems.push((
            format!("{path}.pattern"),
            format!("Invalid value: \"{pattern}\": must be a valid regular expression"),
        ));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        structural(property, &format!("{path}.properties[{name}]"), problems);
    }
    for part in ["items", "additionalProperties"] {
        if schema[part].is_object() {
            structural(&schema[part], &format!("{path}.{part}"), problems);
        }
    }
}

/// Rules must compile.
fn rules(schema: &Value, path: &str, add: &mut dyn FnMut(&'static str, &str, String)) {
    for error in kube_cel::compile_schema(schema).compilation_errors() {
        add(
            "FieldValueInvalid",
            &format!("{path}.x-kubernetes-validations"),
            format!("Invalid value: compilation failed: {error}"),
        );
    }
}
