//! StatefulSets.

use serde_json::{Value, json};

use super::causes::Causes;
use super::rules::{labels, metadata, set};
use super::{pods, quantities, storage};

/// The fields of the spec that may change.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// As `pkg/apis/apps/v1/defaults.go`.
pub fn default(new: &mut Value) {
    let spec = &mut new["spec"];
    set(spec, "podManagementPolicy", "OrderedReady");
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "updateStrategy", json!({}));
    set(&mut spec["updateStrategy"], "type", "RollingUpdate");
    if spec["updateStrategy"]["type"] == "RollingUpdate" {
        set(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
        set(&mut spec["updateStrategy"]["rollingUpdate"], "partition", 0);
    }
    set(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    for field in ["whenDeleted", "whenScaled"] {
        set(&mut spec["persistentVolumeClaimRetentionPolicy"], field, "Retain");
    }
    pods::default_spec(&mut spec["template"]["spec"]);
    for template in spec["volumeClaimTemplates"].as_array_mut().into_iter().flatten() {
        set(template, "apiVersion", "v1");
        set(template, "kind", "PersistentVolumeClaim");
        storage::default_claim(&mut template["spec"]);
        template["status"] = json!({"phase": "Pending"});
    }
}

/// Selector, template, claims, and what may not change.
pub fn validate(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    let spec = &new["spec"];
    let selector = &spec["selector"];
    let wanted = selector["matchLabels"].as_object();
    if wanted.is_none_or(serde_json::Map::is_empty) && selector["matchExpressions"].as_array().is_none_or(Vec::is_empty)
    {
        causes.invalid("spec.selector", &json!({}), "empty selector is invalid for statefulset");
    }
    let given = &spec["template"]["metadata"]["labels"];
    if wanted.into_iter().flatten().any(|(key, value)| given.get(key) != Some(value)) {
        let why = "`selector` does not match template `labels`";
        causes.invalid("spec.template.metadata.labels", given, why);
    }
    labels(causes, &selector["matchLabels"], "spec.selector.matchLabels");
    metadata(causes, &spec["template"]["metadata"], "spec.template.metadata");
    causes.not_negative("spec.replicas", &spec["replicas"]);
    causes.not_negative("spec.minReadySeconds", &spec["minReadySeconds"]);
    causes.not_negative("spec.ordinals.start", &spec["ordinals"]["start"]);
    let partition = &spec["updateStrategy"]["rollingUpdate"]["partition"];
    causes.not_negative("spec.updateStrategy.rollingUpdate.partition", partition);
    causes.one_of("spec.podManagementPolicy", &spec["podManagementPolicy"], &["OrderedReady", "Parallel"]);
    causes.one_of("spec.updateStrategy.type", &spec["updateStrategy"]["type"], &["OnDelete", "RollingUpdate"]);
    let claims: Vec<&str> = spec["volumeClaimTemplates"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|template| template["metadata"]["name"].as_str())
        .collect();
    pods::validate_spec(causes, &spec["template"]["spec"], "spec.template.spec", &claims);
    if spec["template"]["spec"]["restartPolicy"] != "Always" {
        causes.one_of("spec.template.spec.restartPolicy", &spec["template"]["spec"]["restartPolicy"], &["Always"]);
    }
    let Some(old) = old else { return };
    let fixed = |spec: &Value| -> Value {
        let fields = spec.as_object().into_iter().flatten();
        let fields = fields.filter(|(key, _)| !CHANGEABLE.contains(&key.as_str()));
        let mut fixed = fields.map(|(key, value)| (key.clone(), value.clone())).collect();
        // What was stored by an older program may be written in another way.
        quantities::canonicalize(&mut fixed);
        fixed
    };
    if fixed(&old["spec"]) != fixed(spec) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                   'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        causes.forbidden("spec", why);
    }
}
