//! The Node object: made at start, its conditions and lease renewed while the node runs.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference, Time};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::downward::Capacity;
use super::isolation::Isolation;
use super::options::NodeOptions;
use crate::api::discovery::architecture;

/// Namespace of nodes' leases.
const LEASES: &str = "kube-node-lease";
/// How often the lease is renewed (kubelet: a quarter of its duration).
const RENEW: Duration = Duration::from_secs(10);
/// How often the status is written although nothing has changed (kubelet's `nodeStatusReportFrequency`).
const REPORT: Duration = Duration::from_secs(300);
/// Version of the kubelet's behaviour.
const KUBELET_VERSION: &str = concat!("v1.33.0-a9s.", env!("CARGO_PKG_VERSION"));

/// What this machine has.
pub fn capacity(options: &NodeOptions) -> Capacity {
    let cpus = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let memory = fs_err::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    });
    let storage = nix::sys::statvfs::statvfs(&options.directory)
        .map_or(0.0, |disk| disk.blocks() as f64 * disk.fragment_size() as f64);
    Capacity { cpus, memory: memory.unwrap_or_default() * 1024.0, storage }
}

/// Makes the Node object, or brings it up to date.
///
/// # Errors
/// When the API refuses.
pub async fn register(
    client: &kube::Client,
    options: &NodeOptions,
    capacity: &Capacity,
    isolation: &Isolation,
) -> Result<Node, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = match nodes.get_opt(&options.name).await? {
        Some(node) => node,
        None => nodes.create(&PostParams::default(), &object(options)).await?,
    };
    let status = status(options, capacity, isolation, node.status.as_ref(), true);
    write_status(client, options, &json!(status)).await
}

fn object(options: &NodeOptions) -> Node {
    let labels = [
        ("kubernetes.io/hostname", options.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("node-role.kubernetes.io/control-plane", ""),
    ];
    let labels: BTreeMap<String, String> =
        labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Node {
        metadata: ObjectMeta { name: Some(options.name.clone()), labels: Some(labels), ..ObjectMeta::default() },
        spec: Some(NodeSpec { provider_id: Some(format!("a9s://{}", options.cluster)), ..NodeSpec::default() }),
        status: None,
    }
}

fn status(
    options: &NodeOptions,
    capacity: &Capacity,
    isolation: &Isolation,
    old: Option<&NodeStatus>,
    is_ready: bool,
) -> NodeStatus {
    let quantity =
        |value: f64, divisor: f64, suffix: &str| Quantity(format!("{:.0}{suffix}", (value / divisor).floor()));
    let resources: BTreeMap<String, Quantity> = [
        ("cpu".to_owned(), quantity(capacity.cpus, 1.0, "")),
        ("memory".to_owned(), quantity(capacity.memory, 1024.0, "Ki")),
        ("ephemeral-storage".to_owned(), quantity(capacity.storage, 1024.0, "Ki")),
        ("pods".to_owned(), Quantity("110".into())),
    ]
    .into();
    let images = options.images.references();
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    NodeStatus {
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        addresses: Some(vec![
            address("InternalIP", options.address.to_string()),
            address("Hostname", options.name.clone()),
        ]),
        conditions: Some(conditions(isolation, old, is_ready)),
        images: Some(
            images.into_iter().map(|name| ContainerImage { names: Some(vec![name]), size_bytes: Some(0) }).collect(),
        ),
        node_info: Some(info()),
        daemon_endpoints: Some(NodeDaemonEndpoints::default()),
        ..NodeStatus::default()
    }
}

fn conditions(isolation: &Isolation, old: Option<&NodeStatus>, is_ready: bool) -> Vec<NodeCondition> {
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
    let ready = if is_ready { ("True", "KubeletReady") } else { ("False", "KubeletNotReady") };
    let ready_message = match (is_ready, isolation) {
        (false, _) => "the node has been stopped".to_owned(),
        (true, Isolation::None { reason }) => {
            format!("kubelet is posting ready status; containers share the host's files, since {reason}")
        }
        (true, _) => "kubelet is posting ready status".to_owned(),
    };
    let plain =
        |kind: &str, reason: &str, message: &str| (kind.to_owned(), "False", reason.to_owned(), message.to_owned());
    [
        plain("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        plain("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        plain("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready".to_owned(), ready.0, ready.1.to_owned(), ready_message),
    ]
    .into_iter()
    .map(|(kind, status, reason, message)| {
        let before =
            old.iter().flat_map(|old| old.conditions.iter().flatten()).find(|condition| condition.type_ == kind);
        let since =
            before.filter(|before| before.status == status).and_then(|before| before.last_transition_time.clone());
        NodeCondition {
            type_: kind,
            status: status.to_owned(),
            reason: Some(reason),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: since.or_else(|| Some(now.clone())),
        }
    })
    .collect()
}

fn info() -> NodeSystemInfo {
    let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default().trim().to_owned();
    let os = read("/etc/os-release");
    let os_image = os
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned());
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        machine_id: read("/etc/machine-id"),
        system_uuid: read("/etc/machine-id"),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        operating_system: "linux".to_owned(),
        os_image,
        container_runtime_version: concat!("a9s://", env!("CARGO_PKG_VERSION")).to_owned(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        kube_proxy_version: String::new(),
        ..NodeSystemInfo::default()
    }
}

/// Renews lease and status until `shutdown`, then says that the node is not ready any more.
pub async fn keep(
    client: kube::Client,
    options: NodeOptions,
    capacity: Capacity,
    isolation: Isolation,
    node: Node,
    shutdown: CancellationToken,
) {
    let mut renew = tokio::time::interval(RENEW);
    let mut report = tokio::time::interval_at(tokio::time::Instant::now() + REPORT, REPORT);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = renew.tick() => {
                if let Err(error) = renew_lease(&client, &options, &node).await {
                    tracing::debug!(%error, "the node's lease was not renewed");
                }
            }
            _ = report.tick() => {
                if let Err(error) = register(&client, &options, &capacity, &isolation).await {
                    tracing::warn!(%error, "the node's status was not written");
                }
            }
        }
    }
    let status = json!({"conditions": conditions(&isolation, node.status.as_ref(), false)});
    let _ = write_status(&client, &options, &status).await;
}

/// Writes what the node knows of itself. Conditions that others have set stay.
async fn write_status(client: &kube::Client, options: &NodeOptions, status: &Value) -> Result<Node, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = Patch::Strategic(json!({"status": status}));
    nodes.patch_status(&options.name, &PatchParams::default(), &patch).await
}

async fn renew_lease(client: &kube::Client, options: &NodeOptions, node: &Node) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let now = MicroTime(Timestamp::now());
    let patch = json!({"spec": {"renewTime": now, "holderIdentity": options.name}});
    match leases.patch(&options.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => return other.map(drop),
    }
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: options.name.clone(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(options.name.clone()),
            namespace: Some(LEASES.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(options.name.clone()),
            lease_duration_seconds: Some(40),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    leases.create(&PostParams::default(), &lease).await.map(drop)
}
