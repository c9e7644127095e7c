//! Columns of the built-in kinds, as `pkg/printers/internalversion` of Kubernetes has them.

use serde_json::{Value, json};

use super::network::{ENDPOINT_SLICES, ENDPOINTS, SERVICES};
use super::pods::{PODS, STATEFUL_SETS};
use super::storage::{CLAIMS, STORAGE_CLASSES, VOLUMES};
use super::{Definition, Layout, age, column, count, duration, items, name, number, or, text, wide};
use crate::api::builtin::events;

pub fn layout(group: &str, plural: &str) -> &'static Layout {
    match (group, plural) {
        ("", "pods") => &PODS,
        ("apps", "statefulsets") => &STATEFUL_SETS,
        ("apps", "controllerrevisions") => &REVISIONS,
        ("", "services") => &SERVICES,
        ("", "endpoints") => &ENDPOINTS,
        ("discovery.k8s.io", "endpointslices") => &ENDPOINT_SLICES,
        ("", "persistentvolumeclaims") => &CLAIMS,
        ("", "persistentvolumes") => &VOLUMES,
        ("storage.k8s.io", "storageclasses") => &STORAGE_CLASSES,
        ("", "configmaps") => &CONFIG_MAPS,
        ("", "secrets") => &SECRETS,
        ("", "serviceaccounts") => &SERVICE_ACCOUNTS,
        ("", "events") => &EVENTS,
        (events::GROUP, "events") => &OTHER_EVENTS,
        ("", "namespaces") => &NAMESPACES,
        ("", "nodes") => &NODES,
        ("coordination.k8s.io", "leases") => &LEASES,
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => &BINDINGS,
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") | ("apiextensions.k8s.io", _) => &CREATED,
        ("admissionregistration.k8s.io", _) => &WEBHOOKS,
        _ => &OTHERS,
    }
}

static OTHERS: Layout =
    Layout { columns: &[column("Name"), column("Age")], row: |object| vec![name(object), age(object)] };

static CREATED: Layout = Layout {
    columns: &[column("Name"), column("Created At")],
    row: |object| vec![name(object), object["metadata"]["creationTimestamp"].clone()],
};

static WEBHOOKS: Layout = Layout {
    columns: &[column("Name"), number("Webhooks"), column("Age")],
    row: |object| vec![name(object), count(&object["webhooks"]).into(), age(object)],
};

static REVISIONS: Layout = Layout {
    columns: &[column("Name"), column("Controller"), number("Revision"), column("Age")],
    row: |object| {
        let owner = items(&object["metadata"]["ownerReferences"]).find(|owner| owner["controller"] == true);
        let controller = owner.map_or_else(
            || "<none>".to_owned(),
            |owner| {
                let kind = text(&owner["kind"]).to_ascii_lowercase();
                match text(&owner["apiVersion"]).split_once('/') {
                    Some((group, _)) => format!("{kind}.{group}/{}", text(&owner["name"])),
                    None => format!("{kind}/{}", text(&owner["name"])),
                }
            },
        );
        vec![name(object), controller.into(), object["revision"].clone(), age(object)]
    },
};

static CONFIG_MAPS: Layout = Layout {
    columns: &[column("Name"), number("Data"), column("Age")],
    row: |object| vec![name(object), (count(&object["data"]) + count(&object["binaryData"])).into(), age(object)],
};

static SECRETS: Layout = Layout {
    columns: &[column("Name"), column("Type"), number("Data"), column("Age")],
    row: |object| vec![name(object), object["type"].clone(), count(&object["data"]).into(), age(object)],
};

static SERVICE_ACCOUNTS: Layout = Layout {
    columns: &[column("Name"), number("Secrets"), column("Age")],
    row: |object| vec![name(object), count(&object["secrets"]).into(), age(object)],
};

static NAMESPACES: Layout = Layout {
    columns: &[column("Name"), column("Status"), column("Age")],
    row: |object| vec![name(object), object["status"]["phase"].clone(), age(object)],
};

static LEASES: Layout = Layout {
    columns: &[column("Name"), column("Holder"), column("Age")],
    row: |object| vec![name(object), text(&object["spec"]["holderIdentity"]).into(), age(object)],
};

static BINDINGS: Layout = Layout {
    columns: &[column("Name"), column("Role"), column("Age"), wide("Users"), wide("Groups"), wide("ServiceAccounts")],
    row: |object| {
        let role = format!("{}/{}", text(&object["roleRef"]["kind"]), text(&object["roleRef"]["name"]));
        let of = |kind: &str| -> Value {
            let subjects = items(&object["subjects"]).filter(|subject| subject["kind"] == kind);
            let shown: Vec<String> = subjects
                .map(|subject| match text(&subject["namespace"]) {
                    "" => text(&subject["name"]).to_owned(),
                    namespace => format!("{namespace}/{}", text(&subject["name"])),
                })
                .collect();
            shown.join(", ").into()
        };
        vec![name(object), role.into(), age(object), of("User"), of("Group"), of("ServiceAccount")]
    },
};

const OF_EVENTS: &[Definition] = &[
    column("Last Seen"),
    column("Type"),
    column("Reason"),
    column("Object"),
    wide("Subobject"),
    wide("Source"),
    column("Message"),
    wide("First Seen"),
    wide("Count"),
    wide("Name"),
];

static EVENTS: Layout = Layout { columns: OF_EVENTS, row: event };

static OTHER_EVENTS: Layout = Layout { columns: OF_EVENTS, row: |object| event(&events::in_core(object)) };

fn event(object: &Value) -> Vec<Value> {
    let ago = |time: &str| if time.is_empty() { "<unknown>".to_owned() } else { duration::since(time) };
    let first = or(text(&object["firstTimestamp"]), text(&object["eventTime"]));
    let last = [&object["series"]["lastObservedTime"], &object["lastTimestamp"]]
        .into_iter()
        .map(text)
        .find(|time| !time.is_empty());
    let involved = &object["involvedObject"];
    let target = format!("{}/{}", text(&involved["kind"]).to_ascii_lowercase(), text(&involved["name"]));
    let component = or(text(&object["source"]["component"]), text(&object["reportingComponent"]));
    let source = match or(text(&object["source"]["host"]), text(&object["reportingInstance"])) {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    };
    let count = object["series"]["count"].as_i64().or_else(|| object["count"].as_i64()).unwrap_or(1);
    vec![
        ago(last.unwrap_or(first)).into(),
        object["type"].clone(),
        object["reason"].clone(),
        target.into(),
        text(&involved["fieldPath"]).into(),
        source.into(),
        text(&object["message"]).trim().into(),
        ago(first).into(),
        json!(count),
        name(object),
    ]
}

static NODES: Layout = Layout {
    columns: &[
        column("Name"),
        column("Status"),
        column("Roles"),
        column("Age"),
        column("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ],
    row: node,
};

fn node(object: &Value) -> Vec<Value> {
    let ready = items(&object["status"]["conditions"]).find(|condition| condition["type"] == "Ready");
    let mut status = match ready.map(|condition| text(&condition["status"])) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object["metadata"]["labels"].as_object();
    let roles: Vec<&str> =
        labels.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    let address = |kind: &str| {
        let found = items(&object["status"]["addresses"]).find(|address| address["type"] == kind);
        found.map_or("<none>", |address| text(&address["address"])).to_owned()
    };
    let info = &object["status"]["nodeInfo"];
    let shown = |field: &str| or(text(&info[field]), "<unknown>").to_owned();
    vec![
        name(object),
        status.into(),
        roles.into(),
        age(object),
        text(&info["kubeletVersion"]).into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        shown("osImage").into(),
        shown("kernelVersion").into(),
        shown("containerRuntimeVersion").into(),
    ]
}
