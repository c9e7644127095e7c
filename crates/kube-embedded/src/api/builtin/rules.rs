//! What holds for each built-in kind: defaults, what a new object starts with, and validation. This is the way there;
//! the rules themselves stand in the modules by kind.

use serde_json::{Value, json};

use super::causes::Causes;
use super::{config, events, network, pods, quantities, statefulsets, storage};
use crate::api::admission::conditions;
use crate::api::names;

/// Gives what a client may write in several ways the form in which it is stored. `new` is typed already.
pub fn canonicalize(group: &str, plural: &str, new: &mut Value) {
    let has_quantities = matches!(
        (group, plural),
        ("", "nodes" | "persistentvolumeclaims" | "persistentvolumes" | "pods") | ("apps", "statefulsets")
    );
    for part in ["spec", "status"].into_iter().filter(|_| has_quantities) {
        new.get_mut(part).into_iter().for_each(quantities::canonicalize);
    }
}

/// Fills in what a client may leave out. `new` is typed already.
pub fn default(group: &str, plural: &str, new: &mut Value) {
    match (group, plural) {
        ("", "pods") => pods::default(new),
        ("apps", "statefulsets") => statefulsets::default(new),
        ("", "services") => network::default_service(new),
        ("", "endpoints") => network::default_endpoints(new),
        ("discovery.k8s.io", "endpointslices") => network::default_slice(new),
        ("", "persistentvolumeclaims") => storage::default_claim(&mut new["spec"]),
        ("", "persistentvolumes") => storage::default_volume(new),
        ("storage.k8s.io", "storageclasses") => storage::default_class(new),
        ("", "secrets") => config::default_secret(new),
        ("", "namespaces") => default_namespace(new),
        ("rbac.authorization.k8s.io", _) => default_binding(new),
        ("admissionregistration.k8s.io", _) => default_webhooks(new, plural),
        _ => {}
    }
}

/// The status with which an object begins, whatever the client sent.
pub fn first_status(group: &str, plural: &str, new: &mut Value) {
    let status = match (group, plural) {
        ("apps", "statefulsets") => json!({"replicas": 0, "availableReplicas": 0}),
        ("", "services") => json!({"loadBalancer": {}}),
        ("", "pods" | "persistentvolumeclaims" | "persistentvolumes") => json!({"phase": "Pending"}),
        ("", "namespaces") => json!({"phase": "Active"}),
        // A kubelet brings its node's status along.
        ("", "nodes") => return,
        _ => {
            if let Some(fields) = new.as_object_mut() {
                fields.remove("status");
            }
            return;
        }
    };
    new["status"] = status;
}

/// Everything that is wrong with `new`.
pub fn validate(group: &str, plural: &str, new: &Value, old: Option<&Value>) -> Causes {
    let mut causes = Causes::default();
    metadata(&mut causes, &new["metadata"], "metadata");
    match (group, plural) {
        ("", "pods") => pods::validate(&mut causes, new, old),
        ("apps", "statefulsets") => statefulsets::validate(&mut causes, new, old),
        ("", "services") => network::validate_service(&mut causes, new, old),
        ("", "endpoints") => network::validate_endpoints(&mut causes, new),
        ("discovery.k8s.io", "endpointslices") => network::validate_slice(&mut causes, new),
        ("", "persistentvolumeclaims") => storage::validate_claim(&mut causes, new, old),
        ("", "persistentvolumes") => storage::validate_volume(&mut causes, new, old),
        ("storage.k8s.io", "storageclasses") => storage::validate_class(&mut causes, new, old),
        ("", "secrets" | "configmaps") => config::validate(&mut causes, plural, new, old),
        ("", "events") => events::validate(&mut causes, new),
        (events::GROUP, "events") => events::validate_strictly(&mut causes, new, old),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            validate_binding(&mut causes, new, old);
        }
        ("rbac.authorization.k8s.io", _) => validate_role(&mut causes, new),
        ("apps", "controllerrevisions") => validate_revision(&mut causes, new, old),
        ("admissionregistration.k8s.io", _) => validate_webhooks(&mut causes, new),
        _ => {}
    }
    causes
}

/// What a client is to know of a new object that is stored all the same.
pub fn warning(group: &str, plural: &str, new: &Value) -> Option<String> {
    match (group, plural) {
        ("", "secrets") => config::warning(new),
        _ => None,
    }
}

/// Labels, annotations, finalizers and owners (`apimachinery/pkg/api/validation/objectmeta.go`).
pub fn metadata(causes: &mut Causes, metadata: &Value, path: &str) {
    labels(causes, &metadata["labels"], &format!("{path}.labels"));
    let annotations = format!("{path}.annotations");
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        size += key.len() + value.as_str().unwrap_or_default().len();
        if let Err(why) = names::qualified_name(&key.to_ascii_lowercase()) {
            causes.invalid(&annotations, &json!(key), &why);
        }
    }
    if size > 256 << 10 {
        causes.too_long(&annotations, 256 << 10);
    }
    for (index, finalizer) in metadata["finalizers"].as_array().into_iter().flatten().enumerate() {
        if let Err(why) = names::qualified_name(finalizer.as_str().unwrap_or_default()) {
            causes.invalid(&format!("{path}.finalizers[{index}]"), finalizer, &why);
        }
    }
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let mut controllers = 0;
    for (index, owner) in owners.enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                causes.invalid(&format!("{path}.ownerReferences[{index}].{field}"), &json!(""), "must not be empty");
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let why = "Only one reference can have Controller set to true";
        causes.invalid(&format!("{path}.ownerReferences"), &metadata["ownerReferences"], why);
    }
}

/// A map of labels.
pub fn labels(causes: &mut Causes, labels: &Value, path: &str) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Err(why) = names::qualified_name(key) {
            causes.invalid(path, &json!(key), &why);
        }
        if let Err(why) = names::label_value(value.as_str().unwrap_or_default()) {
            causes.invalid(path, value, &why);
        }
    }
}

/// Sets a field that is not there.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if object.is_object() && object.get(field).is_none_or(Value::is_null) {
        object[field] = value.into();
    }
}

fn default_namespace(new: &mut Value) {
    let name = new["metadata"]["name"].clone();
    if name.as_str().is_some_and(|name| !name.is_empty()) {
        if !new["metadata"]["labels"].is_object() {
            new["metadata"]["labels"] = json!({});
        }
        new["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
    if !new["spec"].is_object() {
        new["spec"] = json!({});
    }
}

fn default_binding(new: &mut Value) {
    if !new["roleRef"].is_object() {
        return;
    }
    if new["roleRef"]["apiGroup"].as_str().is_none_or(str::is_empty) {
        new["roleRef"]["apiGroup"] = "rbac.authorization.k8s.io".into();
    }
    for subject in new["subjects"].as_array_mut().into_iter().flatten() {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            set(subject, "apiGroup", "rbac.authorization.k8s.io");
        }
    }
}

fn default_webhooks(new: &mut Value, plural: &str) {
    for webhook in new["webhooks"].as_array_mut().into_iter().flatten() {
        set(webhook, "failurePolicy", "Fail");
        set(webhook, "matchPolicy", "Equivalent");
        set(webhook, "namespaceSelector", json!({}));
        set(webhook, "objectSelector", json!({}));
        set(webhook, "timeoutSeconds", 10);
        if plural == "mutatingwebhookconfigurations" {
            set(webhook, "reinvocationPolicy", "Never");
        }
        for rule in webhook["rules"].as_array_mut().into_iter().flatten() {
            set(rule, "scope", "*");
        }
        if webhook["clientConfig"]["service"].is_object() {
            set(&mut webhook["clientConfig"]["service"], "port", 443);
        }
    }
}

fn validate_webhooks(causes: &mut Causes, new: &Value) {
    for (index, webhook) in new["webhooks"].as_array().into_iter().flatten().enumerate() {
        let path = format!("webhooks[{index}]");
        match webhook["name"].as_str().unwrap_or_default() {
            "" => causes.required(&format!("{path}.name"), ""),
            name if name.split('.').count() < 3 => {
                let why = "should be a domain with at least three segments separated by dots";
                causes.invalid(&format!("{path}.name"), &json!(name), why);
            }
            _ => {}
        }
        causes.one_of(&format!("{path}.failurePolicy"), &webhook["failurePolicy"], &["Fail", "Ignore"]);
        causes.one_of(&format!("{path}.matchPolicy"), &webhook["matchPolicy"], &["Equivalent", "Exact"]);
        causes.one_of(&format!("{path}.sideEffects"), &webhook["sideEffects"], &["None", "NoneOnDryRun"]);
        if webhook["admissionReviewVersions"].as_array().is_none_or(Vec::is_empty) {
            let why = "must specify one of v1, v1beta1";
            causes.required(&format!("{path}.admissionReviewVersions"), why);
        }
        let config = &webhook["clientConfig"];
        if config["url"].is_string() == config["service"].is_object() {
            causes.required(&format!("{path}.clientConfig"), "exactly one of url or service is required");
        }
        if webhook["timeoutSeconds"].as_i64().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
            let why = "the timeout value must be between 1 and 30 seconds";
            causes.invalid(&format!("{path}.timeoutSeconds"), &webhook["timeoutSeconds"], why);
        }
        validate_conditions(causes, &webhook["matchConditions"], &format!("{path}.matchConditions"));
    }
}

fn validate_conditions(causes: &mut Causes, all: &Value, path: &str) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in all.as_array().into_iter().flatten().enumerate() {
        let path = format!("{path}[{index}]");
        let name = condition["name"].as_str().unwrap_or_default();
        if seen.contains(&name) {
            causes.duplicate(&format!("{path}.name"), &condition["name"]);
        }
        seen.push(name);
        causes.name(&format!("{path}.name"), &condition["name"], names::qualified_name);
        match condition["expression"].as_str().unwrap_or_default() {
            "" => causes.required(&format!("{path}.expression"), ""),
            expression => {
                if let Err(why) = conditions::check(expression) {
                    causes.invalid(&format!("{path}.expression"), &condition["expression"], &why);
                }
            }
        }
    }
}

fn validate_binding(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    causes.one_of("roleRef.kind", &new["roleRef"]["kind"], &["Role", "ClusterRole"]);
    if new["roleRef"]["name"].as_str().is_none_or(str::is_empty) {
        causes.required("roleRef.name", "");
    }
    for (index, subject) in new["subjects"].as_array().into_iter().flatten().enumerate() {
        let path = format!("subjects[{index}]");
        causes.one_of(&format!("{path}.kind"), &subject["kind"], &["ServiceAccount", "User", "Group"]);
        if subject["name"].as_str().is_none_or(str::is_empty) {
            causes.required(&format!("{path}.name"), "");
        }
        if subject["kind"] == "ServiceAccount" && subject["namespace"].as_str().is_none_or(str::is_empty) {
            causes.required(&format!("{path}.namespace"), "");
        }
    }
    if old.is_some_and(|old| old["roleRef"] != new["roleRef"]) {
        causes.invalid("roleRef", &new["roleRef"], "cannot change roleRef");
    }
}

fn validate_role(causes: &mut Causes, new: &Value) {
    for (index, rule) in new["rules"].as_array().into_iter().flatten().enumerate() {
        let path = format!("rules[{index}]");
        let empty = |field: &str| rule[field].as_array().is_none_or(Vec::is_empty);
        if empty("verbs") {
            causes.required(&format!("{path}.verbs"), "verbs must contain at least one value");
        }
        if !empty("nonResourceURLs") {
            continue;
        }
        if empty("apiGroups") {
            causes.required(&format!("{path}.apiGroups"), "resource rules must supply at least one api group");
        }
        if empty("resources") {
            causes.required(&format!("{path}.resources"), "resource rules must supply at least one resource");
        }
    }
}

fn validate_revision(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    if old.is_some_and(|old| old["data"] != new["data"]) {
        causes.invalid("data", &json!({}), "field is immutable");
    }
}
