//! CustomResourceDefinitions: what they must look like, their status, and the resources they define.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Schema;
use crate::api::builtin::causes::Causes;
use crate::api::metadata;
use crate::api::registry::{Column, Custom, Resource, Scale, Shape};
use crate::patch;
use crate::status::Cause;

/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The resources that a definition serves, one for each served version; `since` is the version of the store since which
/// it says what it says.
pub fn resources(definition: &Arc<Value>, since: u64) -> Vec<Resource> {
    versions(definition)
        .filter(|version| version["served"] == true)
        .map(|version| resource(definition, version, since))
        .collect()
}

/// The resource in the version that is stored, whether that is served or not. It is not for clients, who would have to
/// know since when it is so.
pub fn stored(definition: &Arc<Value>) -> Option<Resource> {
    versions(definition).find(|version| version["storage"] == true).map(|version| resource(definition, version, 0))
}

fn versions(definition: &Value) -> impl Iterator<Item = &Value> {
    definition["spec"]["versions"].as_array().into_iter().flatten()
}

fn resource(definition: &Arc<Value>, version: &Value, since: u64) -> Resource {
    let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(&text).collect::<Vec<_>>();
    let published = Arc::new(version["schema"]["openAPIV3Schema"].clone());
    let kind = text(&names["kind"]);
    let custom = Custom {
        definition: Arc::clone(definition),
        since,
        schema: Schema::new(Arc::clone(&published)),
        columns: columns(version),
        selectable: selectable(version),
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

fn selectable(version: &Value) -> Vec<String> {
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    fields.filter_map(|field| Some(field["jsonPath"].as_str()?.trim_start_matches('.').to_owned())).collect()
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
    for version in versions(definition).filter(|version| version["storage"] == true) {
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

/// Everything that is wrong with a definition; `old` is its state before an update. It is established already.
pub fn validate(definition: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Causes::default();
    if let Some(old) = old {
        immutable(&mut causes, &definition["spec"], &old["spec"]);
        causes.0.extend(validate_stored(definition));
    }
    let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = metadata::name(definition);
    if name != format!("{}.{}", text(&names["plural"]), text(&spec["group"])) {
        causes.invalid("metadata.name", &name.into(), "must be spec.names.plural+\".\"+spec.group");
    }
    for (field, value) in
        [("spec.group", &spec["group"]), ("spec.names.plural", &names["plural"]), ("spec.names.kind", &names["kind"])]
    {
        if text(value).is_empty() {
            causes.required(field, "");
        }
    }
    match spec["scope"].as_str() {
        Some("") | None => causes.required("spec.scope", ""),
        Some(_) => causes.one_of("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]),
    }
    let versions: Vec<&Value> = versions(definition).collect();
    conversion(&mut causes, &spec["conversion"]["strategy"], versions.len());
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let message = "Invalid value: must have exactly one version marked as storage version";
        causes.add("FieldValueInvalid", "spec.versions", message.to_owned());
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        let schema = &version["schema"]["openAPIV3Schema"];
        if !schema.is_object() {
            causes.required(&path, "schemas are required");
        } else if schema["type"] != "object" {
            causes.invalid(&format!("{path}.type"), &text(&schema["type"]).into(), "must be object at the root");
        }
        structural(&mut causes, schema, &path);
        rules(&mut causes, schema, &path);
    }
    causes.0
}

/// What objects are stored by can't change: they would be lost (`ValidateCustomResourceDefinitionUpdate` in
/// apiextensions-apiserver).
fn immutable(causes: &mut Causes, spec: &Value, old: &Value) {
    let fields = [
        ("spec.scope", &spec["scope"], &old["scope"]),
        ("spec.names.kind", &spec["names"]["kind"], &old["names"]["kind"]),
        ("spec.group", &spec["group"], &old["group"]),
        ("spec.names.plural", &spec["names"]["plural"], &old["names"]["plural"]),
    ];
    for (field, new, _) in fields.into_iter().filter(|(_, new, old)| new != old) {
        causes.invalid(field, new, "field is immutable");
    }
}

/// What is wrong with `status.storedVersions`: objects of a version that is there no more could not be read
/// (`ValidateCustomResourceDefinitionStoredVersions`).
pub fn validate_stored(definition: &Value) -> Vec<Cause> {
    const FIELD: &str = "status.storedVersions";
    let mut causes = Causes::default();
    let stored = definition["status"]["storedVersions"].as_array().map_or(&[][..], Vec::as_slice);
    if stored.is_empty() {
        causes.invalid(FIELD, &json!([]), "must have at least one stored version");
        return causes.0;
    }
    let unknown = stored.iter().enumerate().filter(|(_, name)| versions(definition).all(|one| one["name"] != **name));
    for (index, name) in unknown {
        let version = name.as_str().unwrap_or_default();
        let why = format!(
            "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until \
             a storage migration ensures no data remains persisted in {version} and removes {version} from \
             status.storedVersions"
        );
        causes.invalid(&format!("{FIELD}[{index}]"), name, &why);
    }
    for one in versions(definition).filter(|one| one["storage"] == true && !stored.contains(&one["name"])) {
        let name = one["name"].as_str().unwrap_or_default();
        causes.invalid(FIELD, &one["name"], &format!("must have the storage version {name}"));
    }
    causes.0
}

/// No webhook is asked here to convert objects. Of a single version there is nothing to convert, so one may be named.
fn conversion(causes: &mut Causes, strategy: &Value, versions: usize) {
    const FIELD: &str = "spec.conversion.strategy";
    match strategy.as_str() {
        Some("Webhook") if versions != 1 => {
            let message = "Unsupported value: \"Webhook\": no conversion webhooks are called here, so of more than one \
                           version the only supported value is \"None\"";
            causes.add("FieldValueNotSupported", FIELD, message.to_owned());
        }
        Some("") | None => causes.required(FIELD, ""),
        Some(_) => causes.one_of(FIELD, strategy, &["None", "Webhook"]),
    }
}

/// The schema has to say the type of everything (Kubernetes documentation, "Specifying a structural schema").
fn structural(causes: &mut Causes, schema: &Value, path: &str) {
    let free = schema["x-kubernetes-int-or-string"] == true || schema["x-kubernetes-preserve-unknown-fields"] == true;
    if schema.is_object() && schema["type"].as_str().is_none_or(str::is_empty) && !free {
        let message = "Required value: must not be empty for specified object fields".to_owned();
        causes.add("FieldValueInvalid", &format!("{path}.type"), message);
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && regex::Regex::new(pattern).is_err()
    {
        let message = format!("Invalid value: \"{pattern}\": must be a valid regular expression");
        causes.add("FieldValueInvalid", &format!("{path}.pattern"), message);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        structural(causes, property, &format!("{path}.properties[{name}]"));
    }
    for part in ["items", "additionalProperties"] {
        if schema[part].is_object() {
            structural(causes, &schema[part], &format!("{path}.{part}"));
        }
    }
}

/// Rules must compile.
fn rules(causes: &mut Causes, schema: &Value, path: &str) {
    for error in kube_cel::compile_schema(schema).compilation_errors() {
        let message = format!("Invalid value: compilation failed: {error}");
        causes.add("FieldValueInvalid", &format!("{path}.x-kubernetes-validations"), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(spec: &Value) -> Value {
        let version = |name: &str, storage: bool| {
            let schema = json!({"openAPIV3Schema": {"type": "object"}});
            json!({"name": name, "served": true, "storage": storage, "schema": schema})
        };
        let mut definition = json!({
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
                "versions": [version("v1", true), version("v2", false)],
            },
        });
        json_patch::merge(&mut definition["spec"], spec);
        default(&mut definition);
        establish(&mut definition);
        definition
    }

    fn words(causes: Vec<Cause>) -> Vec<String> {
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    fn one_version() -> Value {
        Value::Array(vec![definition(&json!({}))["spec"]["versions"][0].clone()])
    }

    #[test]
    fn of_several_versions_only_those_that_need_no_conversion_are_taken() {
        let problems = |spec: Value| words(validate(&definition(&spec), None));
        assert!(problems(json!({})).is_empty());
        assert!(problems(json!({"conversion": {"strategy": "Webhook"}, "versions": one_version()})).is_empty());
        assert_eq!(
            problems(json!({"conversion": {"strategy": "Webhook"}})),
            [
                "spec.conversion.strategy: Unsupported value: \"Webhook\": no conversion webhooks are called here, so of \
              more than one version the only supported value is \"None\""
            ]
        );
        assert_eq!(
            problems(json!({"conversion": {"strategy": "Magic"}})),
            ["spec.conversion.strategy: Unsupported value: \"Magic\": supported values: \"None\", \"Webhook\""]
        );
        assert_eq!(problems(json!({"conversion": {}})), ["spec.conversion.strategy: Required value"]);
    }

    #[test]
    fn what_objects_are_stored_by_does_not_change() {
        let old = definition(&json!({}));
        assert!(validate(&definition(&json!({"names": {"shortNames": ["th"]}})), Some(&old)).is_empty());
        let new = definition(&json!({"scope": "Cluster", "names": {"kind": "Other"}}));
        assert_eq!(
            words(validate(&new, Some(&old))),
            [
                "spec.scope: Invalid value: \"Cluster\": field is immutable",
                "spec.names.kind: Invalid value: \"Other\": field is immutable",
            ]
        );
        let new = definition(&json!({"group": "example.org", "names": {"plural": "others"}}));
        let found = words(validate(&new, Some(&old)));
        assert_eq!(
            found[..2],
            [
                "spec.group: Invalid value: \"example.org\": field is immutable",
                "spec.names.plural: Invalid value: \"others\": field is immutable",
            ]
        );
    }

    #[test]
    fn a_version_in_which_objects_are_stored_stays() {
        let old = definition(&json!({}));
        let mut new = old.clone();
        new["spec"]["versions"] = json!([old["spec"]["versions"][1]]);
        new["spec"]["versions"][0]["storage"] = true.into();
        establish(&mut new);
        assert_eq!(
            words(validate(&new, Some(&old))),
            [
                "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage \
              version, and must remain in spec.versions until a storage migration ensures no data remains persisted in \
              v1 and removes v1 from status.storedVersions"
            ]
        );
        new["status"]["storedVersions"] = json!(["v2"]);
        assert!(validate(&new, Some(&old)).is_empty());
        new["status"]["storedVersions"] = json!([]);
        assert_eq!(
            words(validate_stored(&new)),
            ["status.storedVersions: Invalid value: []: must have at least one stored version"]
        );
        let mut both = old;
        both["status"]["storedVersions"] = json!(["v2"]);
        assert_eq!(
            words(validate_stored(&both)),
            ["status.storedVersions: Invalid value: \"v1\": must have the storage version v1"]
        );
    }
}
