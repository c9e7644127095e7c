//! The shapes of the built-in kinds, from the `x-kubernetes-list-type`, `x-kubernetes-list-map-keys`,
//! `x-kubernetes-map-type` and `x-kubernetes-patch-*` extensions of Kubernetes' published OpenAPI document.
//!
//! Only fields that differ from the rule (maps merge, lists are replaced), or have such fields below, are listed.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde_json::json;

use super::shape::{List, ListKey, ListType, Shape, Strategy};

/// What is special about one field.
#[derive(Clone, Copy)]
enum Rule {
    /// An object of this type.
    Object(&'static str),
    /// A map or object with one owner as a whole. Strategic merge patches still merge it.
    Atomic,
    /// A list of objects of a type (or of no special type: `""`), told apart by these keys.
    Keyed(&'static [&'static str], &'static str),
    /// A list with one owner, which strategic merge patches merge by this key.
    AtomicMergedBy(&'static str),
    /// A list of plain values without duplicates.
    Set,
}
use Rule::{Atomic, AtomicMergedBy, Keyed, Object, Set};

type Fields = &'static [(&'static str, Rule)];

/// The types, by name. Kinds are those whose name is `Group/Kind`.
const TYPES: &[(&str, Fields)] = &[
    ("/Pod", &[("spec", Object("PodSpec")), ("status", Object("PodStatus"))]),
    ("/PodTemplate", &[("template", Object("PodTemplateSpec"))]),
    ("/ReplicationController", &[("spec", Object("ReplicationControllerSpec")), ("status", Object("Conditions"))]),
    ("/Service", &[("spec", Object("ServiceSpec")), ("status", Object("Conditions"))]),
    ("/ServiceAccount", &[("secrets", Keyed(&["name"], "")), ("imagePullSecrets", Rule::AtomicMergedBy("name"))]),
    ("/Namespace", &[("status", Object("Conditions"))]),
    ("/Node", &[("spec", Object("NodeSpec")), ("status", Object("NodeStatus"))]),
    ("/PersistentVolume", &[("spec", Object("PersistentVolumeSpec"))]),
    ("/PersistentVolumeClaim", &[("spec", Object("PersistentVolumeClaimSpec")), ("status", Object("Conditions"))]),
    ("/Event", &[("involvedObject", Atomic), ("related", Atomic)]),
    ("events.k8s.io/Event", &[("regarding", Atomic), ("related", Atomic)]),
    ("apps/StatefulSet", &[("spec", Object("WorkloadSpec")), ("status", Object("Conditions"))]),
    ("apps/Deployment", &[("spec", Object("WorkloadSpec")), ("status", Object("Conditions"))]),
    ("apps/ReplicaSet", &[("spec", Object("WorkloadSpec")), ("status", Object("Conditions"))]),
    ("apps/DaemonSet", &[("spec", Object("WorkloadSpec")), ("status", Object("Conditions"))]),
    ("batch/Job", &[("spec", Object("WorkloadSpec")), ("status", Object("Conditions"))]),
    ("batch/CronJob", &[("spec", Object("CronJobSpec"))]),
    ("policy/PodDisruptionBudget", &[("spec", Object("Selecting")), ("status", Object("Conditions"))]),
    ("networking.k8s.io/NetworkPolicy", &[("spec", Object("NetworkPolicySpec"))]),
    ("rbac.authorization.k8s.io/RoleBinding", &[("roleRef", Atomic)]),
    ("rbac.authorization.k8s.io/ClusterRoleBinding", &[("roleRef", Atomic)]),
    ("autoscaling/HorizontalPodAutoscaler", &[("status", Object("Conditions"))]),
    ("apiregistration.k8s.io/APIService", &[("status", Object("Conditions"))]),
    ("apiextensions.k8s.io/CustomResourceDefinition", &[("status", Object("Conditions"))]),
    ("certificates.k8s.io/CertificateSigningRequest", &[("status", Object("Conditions"))]),
    ("admissionregistration.k8s.io/ValidatingWebhookConfiguration", &[("webhooks", Keyed(&["name"], "Webhook"))]),
    ("admissionregistration.k8s.io/MutatingWebhookConfiguration", &[("webhooks", Keyed(&["name"], "Webhook"))]),
    ("ObjectMeta", &[("finalizers", Set), ("ownerReferences", Keyed(&["uid"], "AtomicObject"))]),
    ("AtomicObject", &[]),
    ("Conditions", &[("conditions", Keyed(&["type"], ""))]),
    ("Selecting", &[("selector", Atomic)]),
    ("ReplicationControllerSpec", &[("selector", Atomic), ("template", Object("PodTemplateSpec"))]),
    ("WorkloadSpec", &[("selector", Atomic), ("template", Object("PodTemplateSpec"))]),
    ("CronJobSpec", &[("jobTemplate", Object("JobTemplateSpec"))]),
    ("JobTemplateSpec", &[("metadata", Object("ObjectMeta")), ("spec", Object("WorkloadSpec"))]),
    ("PodTemplateSpec", &[("metadata", Object("ObjectMeta")), ("spec", Object("PodSpec"))]),
    (
        "PodSpec",
        &[
            ("containers", Keyed(&["name"], "Container")),
            ("initContainers", Keyed(&["name"], "Container")),
            ("ephemeralContainers", Keyed(&["name"], "Container")),
            ("volumes", Keyed(&["name"], "Volume")),
            ("imagePullSecrets", Keyed(&["name"], "")),
            ("hostAliases", Keyed(&["ip"], "")),
            ("schedulingGates", Keyed(&["name"], "")),
            ("resourceClaims", Keyed(&["name"], "")),
            ("nodeSelector", Atomic),
            ("topologySpreadConstraints", Keyed(&["topologyKey", "whenUnsatisfiable"], "TopologySpreadConstraint")),
            ("affinity", Object("Affinity")),
        ],
    ),
    ("TopologySpreadConstraint", &[("labelSelector", Atomic)]),
    ("Affinity", &[("nodeAffinity", Object("NodeAffinity"))]),
    ("NodeAffinity", &[("requiredDuringSchedulingIgnoredDuringExecution", Atomic)]),
    (
        "Container",
        &[
            ("env", Keyed(&["name"], "EnvVar")),
            ("ports", Keyed(&["containerPort", "protocol"], "")),
            ("volumeMounts", Keyed(&["mountPath"], "")),
            ("volumeDevices", Keyed(&["devicePath"], "")),
            ("resources", Object("ResourceRequirements")),
        ],
    ),
    ("ResourceRequirements", &[("claims", Keyed(&["name"], ""))]),
    ("EnvVar", &[("valueFrom", Object("EnvVarSource"))]),
    (
        "EnvVarSource",
        &[("fieldRef", Atomic), ("resourceFieldRef", Atomic), ("configMapKeyRef", Atomic), ("secretKeyRef", Atomic)],
    ),
    ("Volume", &[("ephemeral", Object("EphemeralVolume"))]),
    ("EphemeralVolume", &[("volumeClaimTemplate", Object("PersistentVolumeClaimTemplate"))]),
    (
        "PersistentVolumeClaimTemplate",
        &[("metadata", Object("ObjectMeta")), ("spec", Object("PersistentVolumeClaimSpec"))],
    ),
    (
        "PodStatus",
        &[
            ("conditions", Keyed(&["type"], "")),
            ("podIPs", Keyed(&["ip"], "")),
            ("hostIPs", AtomicMergedBy("ip")),
            ("resourceClaimStatuses", Keyed(&["name"], "")),
        ],
    ),
    ("ServiceSpec", &[("ports", Keyed(&["port", "protocol"], "")), ("selector", Atomic)]),
    ("NodeSpec", &[("podCIDRs", Set)]),
    ("NodeStatus", &[("conditions", Keyed(&["type"], "")), ("addresses", Keyed(&["type"], ""))]),
    ("PersistentVolumeSpec", &[("nodeAffinity", Object("VolumeNodeAffinity"))]),
    ("VolumeNodeAffinity", &[("required", Atomic)]),
    ("PersistentVolumeClaimSpec", &[("selector", Atomic), ("dataSource", Atomic)]),
    ("NetworkPolicySpec", &[("podSelector", Atomic)]),
    (
        "Webhook",
        &[("namespaceSelector", Atomic), ("objectSelector", Atomic), ("matchConditions", Keyed(&["name"], ""))],
    ),
];

/// Key fields that have a default: without it two spellings of one port would be two items.
const KEY_DEFAULTS: &[(&str, &str)] = &[("protocol", "TCP")];

static KINDS: LazyLock<HashMap<&'static str, Shape>> = LazyLock::new(|| {
    TYPES.iter().filter(|(name, _)| name.contains('/')).map(|(name, fields)| (*name, kind_shape(fields))).collect()
});
static METADATA: LazyLock<Shape> = LazyLock::new(|| type_shape("ObjectMeta"));
static OTHER: LazyLock<Shape> = LazyLock::new(|| kind_shape(&[]));

/// The shape of a kind, which is that of plain metadata for kinds without special lists.
pub(super) fn shape(group: &str, kind: &str) -> Shape {
    KINDS.get(format!("{group}/{kind}").as_str()).unwrap_or(&OTHER).clone()
}

/// The shape of every object's `metadata`.
pub(super) fn metadata() -> Shape {
    METADATA.clone()
}

fn kind_shape(fields: Fields) -> Shape {
    let mut shapes = field_shapes(fields);
    shapes.insert("metadata".to_owned(), metadata());
    Shape::map(false, shapes, None)
}

fn type_shape(name: &str) -> Shape {
    if name == "AtomicObject" {
        return Shape::map(true, BTreeMap::new(), None);
    }
    TYPES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, fields)| Shape::map(false, field_shapes(fields), None))
        .unwrap_or_default()
}

fn field_shapes(fields: Fields) -> BTreeMap<String, Shape> {
    fields.iter().map(|(name, rule)| ((*name).to_owned(), rule_shape(*rule))).collect()
}

fn rule_shape(rule: Rule) -> Shape {
    match rule {
        Object(name) => type_shape(name),
        Atomic => Shape::map(true, BTreeMap::new(), None),
        Set => Shape::list(List { ownership: ListType::Set, strategy: Some(Strategy::Values), item: Shape::default() }),
        AtomicMergedBy(key) => Shape::list(List {
            ownership: ListType::Atomic,
            strategy: Some(Strategy::Key(key.to_owned())),
            item: Shape::default(),
        }),
        Keyed(keys, item) => Shape::list(List {
            ownership: ListType::Map(keys.iter().map(|key| list_key(key)).collect()),
            strategy: keys.first().map(|key| Strategy::Key((*key).to_owned())),
            item: type_shape(item),
        }),
    }
}

fn list_key(name: &str) -> ListKey {
    let default = KEY_DEFAULTS.iter().find(|(key, _)| *key == name).map(|(_, default)| json!(default));
    ListKey { name: name.to_owned(), default }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_a_field_names_exists() {
        for (owner, fields) in TYPES {
            for (field, rule) in *fields {
                if let Object(name) | Keyed(_, name) = rule {
                    let known = name.is_empty() || TYPES.iter().any(|(known, _)| known == name);
                    assert!(known, "{owner}.{field} is of the unknown type {name}");
                }
            }
        }
    }
}
