//! Numbers, names and kinds of the fields of those messages that clients are known to send in this encoding (the
//! `generated.proto` files of k8s.io/api and k8s.io/apimachinery are the public definition).

/// Number, JSON name, and what stands there.
pub type Field = (u64, &'static str, Kind);

/// What a field holds.
pub enum Kind {
    Text,
    Bool,
    Int,
    Bytes,
    /// `metav1.Time`.
    Time,
    /// `metav1.MicroTime`.
    MicroTime,
    IntOrString,
    Message(&'static [Field]),
    List(&'static Kind),
    Map(&'static Kind),
}

use Kind::{Bool, Bytes, Int, IntOrString, List, Map, Message, MicroTime, Text, Time};

/// The message of a kind; of almost every one there is one version.
pub fn message(version: &str, kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Binding" => BINDING,
        "ClusterRole" | "Role" => ROLE,
        "ClusterRoleBinding" | "RoleBinding" => ROLE_BINDING,
        "ConfigMap" => CONFIG_MAP,
        "DeleteOptions" => DELETE_OPTIONS,
        "Event" if version == "events.k8s.io/v1" => OTHER_EVENT,
        "Event" => EVENT,
        "Eviction" => EVICTION,
        "Lease" => LEASE,
        "LocalSubjectAccessReview" | "SelfSubjectAccessReview" | "SubjectAccessReview" => ACCESS_REVIEW,
        "Namespace" => NAMESPACE,
        "Secret" => SECRET,
        "SelfSubjectReview" => SELF_REVIEW,
        "SelfSubjectRulesReview" => RULES_REVIEW,
        "Service" => SERVICE,
        "ServiceAccount" => SERVICE_ACCOUNT,
        "TokenRequest" => TOKEN_REQUEST,
        "TokenReview" => TOKEN_REVIEW,
        _ => return None,
    })
}

/// The envelope around every object (`runtime.Unknown`).
pub const UNKNOWN: &[Field] =
    &[(1, "typeMeta", Message(&[(1, "apiVersion", Text), (2, "kind", Text)])), (2, "raw", Bytes)];

const OWNER: &[Field] = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Bool),
    (7, "blockOwnerDeletion", Bool),
];

const METADATA: Kind = Message(&[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (7, "generation", Int),
    (8, "creationTimestamp", Time),
    (9, "deletionTimestamp", Time),
    (10, "deletionGracePeriodSeconds", Int),
    (11, "labels", Map(&Text)),
    (12, "annotations", Map(&Text)),
    (13, "ownerReferences", List(&Message(OWNER))),
    (14, "finalizers", List(&Text)),
]);

const REFERENCE: Kind = Message(&[
    (1, "kind", Text),
    (2, "namespace", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "resourceVersion", Text),
    (7, "fieldPath", Text),
]);

const BINDING: &[Field] = &[(1, "metadata", METADATA), (2, "target", REFERENCE)];

const CONFIG_MAP: &[Field] =
    &[(1, "metadata", METADATA), (2, "data", Map(&Text)), (3, "binaryData", Map(&Bytes)), (4, "immutable", Bool)];

const SECRET: &[Field] = &[
    (1, "metadata", METADATA),
    (2, "data", Map(&Bytes)),
    (3, "type", Text),
    (4, "stringData", Map(&Text)),
    (5, "immutable", Bool),
];

const NAMESPACE: &[Field] = &[(1, "metadata", METADATA), (2, "spec", Message(&[(1, "finalizers", List(&Text))]))];

const SERVICE_ACCOUNT: &[Field] = &[
    (1, "metadata", METADATA),
    (2, "secrets", List(&REFERENCE)),
    (3, "imagePullSecrets", List(&Message(&[(1, "name", Text)]))),
    (4, "automountServiceAccountToken", Bool),
];

const SERVICE: &[Field] = &[(1, "metadata", METADATA), (2, "spec", Message(SERVICE_SPEC))];

const SERVICE_SPEC: &[Field] = &[
    (1, "ports", List(&Message(SERVICE_PORT))),
    (2, "selector", Map(&Text)),
    (3, "clusterIP", Text),
    (4, "type", Text),
    (5, "externalIPs", List(&Text)),
    (7, "sessionAffinity", Text),
    (8, "loadBalancerIP", Text),
    (9, "loadBalancerSourceRanges", List(&Text)),
    (10, "externalName", Text),
    (11, "externalTrafficPolicy", Text),
    (13, "publishNotReadyAddresses", Bool),
    (17, "ipFamilyPolicy", Text),
    (18, "clusterIPs", List(&Text)),
    (19, "ipFamilies", List(&Text)),
    (20, "allocateLoadBalancerNodePorts", Bool),
    (21, "loadBalancerClass", Text),
    (22, "internalTrafficPolicy", Text),
];

const SERVICE_PORT: &[Field] = &[
    (1, "name", Text),
    (2, "protocol", Text),
    (3, "port", Int),
    (4, "targetPort", IntOrString),
    (5, "nodePort", Int),
    (6, "appProtocol", Text),
];

const EVENT_SERIES: Kind = Message(&[(1, "count", Int), (2, "lastObservedTime", MicroTime)]);

const EVENT_SOURCE: Kind = Message(&[(1, "component", Text), (2, "host", Text)]);

const EVENT: &[Field] = &[
    (1, "metadata", METADATA),
    (2, "involvedObject", REFERENCE),
    (3, "reason", Text),
    (4, "message", Text),
    (5, "source", EVENT_SOURCE),
    (6, "firstTimestamp", Time),
    (7, "lastTimestamp", Time),
    (8, "count", Int),
    (9, "type", Text),
    (10, "eventTime", MicroTime),
    (11, "series", EVENT_SERIES),
    (12, "action", Text),
    (13, "related", REFERENCE),
    (14, "reportingComponent", Text),
    (15, "reportingInstance", Text),
];

const OTHER_EVENT: &[Field] = &[
    (1, "metadata", METADATA),
    (2, "eventTime", MicroTime),
    (3, "series", EVENT_SERIES),
    (4, "reportingController", Text),
    (5, "reportingInstance", Text),
    (6, "action", Text),
    (7, "reason", Text),
    (8, "regarding", REFERENCE),
    (9, "related", REFERENCE),
    (10, "note", Text),
    (11, "type", Text),
    (12, "deprecatedSource", EVENT_SOURCE),
    (13, "deprecatedFirstTimestamp", Time),
    (14, "deprecatedLastTimestamp", Time),
    (15, "deprecatedCount", Int),
];

const LEASE: &[Field] = &[
    (1, "metadata", METADATA),
    (
        2,
        "spec",
        Message(&[
            (1, "holderIdentity", Text),
            (2, "leaseDurationSeconds", Int),
            (3, "acquireTime", MicroTime),
            (4, "renewTime", MicroTime),
            (5, "leaseTransitions", Int),
        ]),
    ),
];

const RULE: Kind = Message(&[
    (1, "verbs", List(&Text)),
    (2, "apiGroups", List(&Text)),
    (3, "resources", List(&Text)),
    (4, "resourceNames", List(&Text)),
    (5, "nonResourceURLs", List(&Text)),
]);

const SELECTOR: Kind = Message(&[
    (1, "matchLabels", Map(&Text)),
    (2, "matchExpressions", List(&Message(&[(1, "key", Text), (2, "operator", Text), (3, "values", List(&Text))]))),
]);

const ROLE: &[Field] = &[
    (1, "metadata", METADATA),
    (2, "rules", List(&RULE)),
    (3, "aggregationRule", Message(&[(1, "clusterRoleSelectors", List(&SELECTOR))])),
];

const ROLE_BINDING: &[Field] = &[
    (1, "metadata", METADATA),
    (
        2,
        "subjects",
        List(&Message(&[(1, "kind", Text), (2, "apiGroup", Text), (3, "name", Text), (4, "namespace", Text)])),
    ),
    (3, "roleRef", Message(&[(1, "apiGroup", Text), (2, "kind", Text), (3, "name", Text)])),
];

const DELETE_OPTIONS_KIND: Kind = Message(DELETE_OPTIONS);

const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", Int),
    (2, "preconditions", Message(&[(1, "uid", Text), (2, "resourceVersion", Text)])),
    (3, "orphanDependents", Bool),
    (4, "propagationPolicy", Text),
    (5, "dryRun", List(&Text)),
];

const EVICTION: &[Field] = &[(1, "metadata", METADATA), (2, "deleteOptions", DELETE_OPTIONS_KIND)];

const ACCESS_REVIEW: &[Field] = &[
    (1, "metadata", METADATA),
    (
        2,
        "spec",
        Message(&[
            (
                1,
                "resourceAttributes",
                Message(&[
                    (1, "namespace", Text),
                    (2, "verb", Text),
                    (3, "group", Text),
                    (4, "version", Text),
                    (5, "resource", Text),
                    (6, "subresource", Text),
                    (7, "name", Text),
                ]),
            ),
            (2, "nonResourceAttributes", Message(&[(1, "path", Text), (2, "verb", Text)])),
            (3, "user", Text),
            (4, "groups", List(&Text)),
            (6, "uid", Text),
        ]),
    ),
];

const RULES_REVIEW: &[Field] = &[(1, "metadata", METADATA), (2, "spec", Message(&[(1, "namespace", Text)]))];

const SELF_REVIEW: &[Field] = &[(1, "metadata", METADATA)];

const TOKEN_REVIEW: &[Field] =
    &[(1, "metadata", METADATA), (2, "spec", Message(&[(1, "token", Text), (2, "audiences", List(&Text))]))];

const TOKEN_REQUEST: &[Field] = &[
    (1, "metadata", METADATA),
    (
        2,
        "spec",
        Message(&[
            (1, "audiences", List(&Text)),
            (
                3,
                "boundObjectRef",
                Message(&[(1, "kind", Text), (2, "apiVersion", Text), (3, "name", Text), (4, "uid", Text)]),
            ),
            (4, "expirationSeconds", Int),
        ]),
    ),
];
