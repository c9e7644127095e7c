//! How a `Then` looks at a cluster: through the Kubernetes API, and with a deadline where it has to wait.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use a8s_operators::{SYSTEM_NAMESPACE, object_store, store};
use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::command::Surroundings;
use super::failure::Failure;
use super::stage::Stage;
use super::ways::Goal;
use crate::kubernetes::told;
use crate::postgres::Login;

/// Most things have to happen within this time.
pub const SOON: Duration = Duration::from_secs(60);

/// The longest pause between two looks: a wait of a second should not take half of one more.
const SLOWEST: Duration = Duration::from_millis(200);

/// What one look at a condition says.
pub enum Look<T = ()> {
    /// It holds; the value is what the look was for.
    Yes(T),
    /// Not yet; this is what is there.
    NotYet(String),
}

impl Look {
    /// `Yes` if `holds`, otherwise what was found.
    pub fn when(holds: bool, found: impl Display) -> Self {
        if holds { Self::Yes(()) } else { Self::NotYet(found.to_string()) }
    }
}

/// Looks again and again until a condition holds. An error of one look counts as "not yet": a cluster that restarts
/// refuses connections for a moment.
///
/// # Errors
/// [`Failure::Deadline`] with the state last seen.
pub async fn until<T, F, Fut>(what: impl Into<String>, deadline: Duration, look: F) -> Result<T, Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Look<T>, Failure>>,
{
    until_at_most(what, Stage::patience(deadline), look).await
}

/// As [`until`], for what is taken back in the end: however little patience the run has.
///
/// # Errors
/// As [`until`].
pub async fn until_cleared<T, F, Fut>(what: impl Into<String>, deadline: Duration, look: F) -> Result<T, Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Look<T>, Failure>>,
{
    until_at_most(what, Stage::ample_patience(deadline), look).await
}

async fn until_at_most<T, F, Fut>(what: impl Into<String>, deadline: Duration, mut look: F) -> Result<T, Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Look<T>, Failure>>,
{
    let started = Instant::now();
    let mut pause = Duration::from_millis(20);
    let mut last = "nothing".to_owned();
    loop {
        let left = deadline.saturating_sub(started.elapsed());
        match tokio::time::timeout(left.max(Duration::from_millis(100)), look()).await {
            Ok(Ok(Look::Yes(value))) => return Ok(value),
            Ok(Ok(Look::NotYet(found))) => last = found,
            Ok(Err(failure)) => last = failure.to_string(),
            Err(_) => last = format!("{last} (the last look had no answer)"),
        }
        if started.elapsed() >= deadline {
            return Err(Failure::Deadline { what: what.into(), waited: deadline, last });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(SLOWEST);
    }
}

/// Waits for the end of something, as long as [`until`] would wait for a condition.
///
/// # Errors
/// Its own, or [`Failure::Deadline`].
pub async fn within<T, E>(
    what: impl Into<String>,
    deadline: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure>
where
    Failure: From<E>,
{
    let waited = Stage::patience(deadline);
    match tokio::time::timeout(waited, work).await {
        Ok(ended) => Ok(ended?),
        Err(_) => Err(Failure::Deadline { what: what.into(), waited, last: "it goes on".to_owned() }),
    }
}

/// A client as the current context of the kubeconfig says.
///
/// # Errors
/// A kubeconfig that is not there or not usable.
pub async fn client(surroundings: &Surroundings) -> Result<Client, Failure> {
    let kubeconfig = Kubeconfig::read_from(&surroundings.kubeconfig)?;
    let context = kubeconfig.current_context.clone().unwrap_or_default();
    let mut config = crate::kubernetes::config_of(kubeconfig, &context).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(60));
    Ok(Client::try_from(config)?)
}

/// Kinds by the names that features use.
const KINDS: [(&str, &str, &str, &str, &str); 18] = [
    ("postgresql", "postgresql.anynines.com", "v1beta3", "Postgresql", "postgresqls"),
    ("backup", "backups.anynines.com", "v1beta3", "Backup", "backups"),
    ("restore", "backups.anynines.com", "v1beta3", "Restore", "restores"),
    ("servicebinding", "servicebindings.anynines.com", "v1beta3", "ServiceBinding", "servicebindings"),
    ("statefulset", "apps", "v1", "StatefulSet", "statefulsets"),
    ("controllerrevision", "apps", "v1", "ControllerRevision", "controllerrevisions"),
    ("pod", "", "v1", "Pod", "pods"),
    ("service", "", "v1", "Service", "services"),
    ("endpoints", "", "v1", "Endpoints", "endpoints"),
    ("endpointslice", "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    ("persistentvolumeclaim", "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("secret", "", "v1", "Secret", "secrets"),
    ("configmap", "", "v1", "ConfigMap", "configmaps"),
    ("serviceaccount", "", "v1", "ServiceAccount", "serviceaccounts"),
    ("rolebinding", "rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    ("role", "rbac.authorization.k8s.io", "v1", "Role", "roles"),
    ("lease", "coordination.k8s.io", "v1", "Lease", "leases"),
    ("event", "", "v1", "Event", "events"),
];

/// The kinds a namespace may hold, as features name them.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.0)
}

/// The same kinds as group and resource.
pub fn resources() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().map(|kind| (kind.1, kind.4))
}

/// The objects of a kind, untyped.
///
/// # Errors
/// A kind that the suite does not know.
pub fn objects(client: &Client, namespace: &str, kind: &str) -> Result<Api<DynamicObject>, Failure> {
    let wanted = kind.to_lowercase();
    let (_, group, version, kind, plural) = KINDS
        .iter()
        .find(|known| known.0 == wanted)
        .ok_or_else(|| Failure::unexpected("a kind the suite knows", kind.to_owned()))?;
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Ok(Api::namespaced_with(client.clone(), namespace, &resource))
}

/// All objects of a kind; none where the cluster does not serve the kind.
///
/// # Errors
/// They can't be listed.
pub async fn all(client: &Client, namespace: &str, kind: &str) -> Result<Vec<DynamicObject>, Failure> {
    match objects(client, namespace, kind)?.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        list => Ok(list?.items),
    }
}

/// Kinds without a namespace that scenarios can make.
const OF_CLUSTER: [(&str, &str, &str, &str); 7] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "PersistentVolume", "persistentvolumes"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses"),
];

/// The namespaces of every cluster that has the stack: those of its users and of Kubernetes, of the stack and of its store.
const SHARED: [&str; 4] = ["default", "kube-system", SYSTEM_NAMESPACE, object_store::manifests::NAMESPACE];

/// What runs pods, besides StatefulSets.
const WORKLOADS: [(&str, &str, &str, &str); 5] = [
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("batch", "v1", "Job", "jobs"),
    ("batch", "v1", "CronJob", "cronjobs"),
];

/// Kinds whose objects nobody leaves behind: an event is gone after its time, and the others are what the cluster knows of a
/// Service, which is looked for.
const COME_AND_GO: [&str; 3] = ["Event", "Endpoints", "EndpointSlice"];

/// How many requests of one look are under way at a time: each has a connection of its own.
pub const AT_ONCE: usize = 16;

/// What [`outside`] lists besides the kinds a namespace may hold, as group and resource.
pub fn outside_resources() -> impl Iterator<Item = (&'static str, &'static str)> {
    OF_CLUSTER.into_iter().chain(WORKLOADS).map(|(group, _, _, plural)| (group, plural))
}

/// What is outside the namespaces of scenarios and has a text somewhere: objects of no namespace as `kind name`, and those of
/// the namespaces that everybody shares as `kind namespace/name`. What can't be listed is not among them.
///
/// That something is there again under the same name is no difference, so neither is a Lease that is renewed, nor an object
/// that the stack has put back.
pub async fn outside(client: &Client, text: &str) -> BTreeSet<String> {
    let of_cluster = OF_CLUSTER.into_iter().map(|kind| (kind, None));
    let kinds = KINDS.into_iter().map(|(_, group, version, kind, plural)| (group, version, kind, plural));
    let kinds = kinds.filter(|(_, _, kind, _)| !COME_AND_GO.contains(kind)).chain(WORKLOADS);
    let in_shared = kinds.flat_map(|kind| SHARED.map(|namespace| (kind, Some(namespace))));
    let lists = of_cluster.chain(in_shared).map(|(kind, namespace)| with_text(client, kind, namespace, text));
    let lists: Vec<_> = lists.collect();
    stream::iter(lists).buffer_unordered(AT_ONCE).flat_map(stream::iter).collect().await
}

/// What is in namespaces that are gone, of those whose names begin so: the namespace of each object, and the object as
/// [`outside`] names it.
///
/// # Errors
/// The API server does not list a kind.
pub async fn in_gone_namespaces(client: &Client, begin: &str) -> Result<Vec<(String, String)>, Failure> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let there = namespaces.list(&ListParams::default()).await?.items;
    let there: BTreeSet<String> = there.iter().map(|namespace| namespace.name_any()).collect();
    let lists = KINDS.map(async |(_, group, version, kind, plural)| {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let found = api.list(&ListParams::default()).await?.items;
        Ok::<_, Failure>(found.into_iter().map(|object| (kind, object.metadata)).collect::<Vec<_>>())
    });
    let found = try_join_all(lists).await?.into_iter().flatten();
    Ok(found.filter_map(|(kind, metadata)| orphan(kind, metadata, begin, &there)).collect())
}

/// The namespace and the name of an object, if that namespace is of the ones that begin so, and is not there.
fn orphan(kind: &str, metadata: ObjectMeta, begin: &str, there: &BTreeSet<String>) -> Option<(String, String)> {
    let namespace = metadata.namespace.filter(|it| it.starts_with(begin) && !there.contains(it))?;
    let name = format!("{} {namespace}/{}", kind.to_lowercase(), metadata.name?);
    Some((namespace, name))
}

/// The objects of one kind in one place, as [`outside`] names them.
async fn with_text(
    client: &Client,
    (group, version, kind, plural): (&str, &str, &str, &str),
    namespace: Option<&str>,
    text: &str,
) -> Vec<String> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let place = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let list = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        // A kind that is not there has no objects; what one may not see is for others to look at.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Vec::new(),
        Err(error) => return vec![format!("nobody knows which {place}{plural}: {}", told(&error))],
    };
    let has_text =
        |object: &DynamicObject| text.is_empty() || serde_json::to_string(object).is_ok_and(|it| it.contains(text));
    let by_itself = |object: &DynamicObject| match namespace {
        Some(_) => comes_by_itself(kind, object),
        // Whoever made a cluster for others has chosen that.
        None => !text.is_empty() && is_retained(kind, object),
    };
    let left = list.into_iter().filter(|object| has_text(object) && !by_itself(object));
    let kind = kind.to_lowercase();
    left.filter_map(|object| Some(format!("{kind} {place}{}", object.metadata.name?))).collect()
}

/// Whether an object of a namespace is there without anybody having made it: it belongs to a controller, as pods do that are
/// replaced, and then its owner is looked for; or every namespace gets one of that name.
fn comes_by_itself(kind: &str, object: &DynamicObject) -> bool {
    let is_controlled = object.owner_references().iter().any(|owner| owner.controller == Some(true));
    let name = object.metadata.name.as_deref().unwrap_or_default();
    is_controlled || matches!((kind, name), ("ConfigMap", "kube-root-ca.crt") | ("ServiceAccount", "default"))
}

/// The reclaim policy of volumes that stay when their claims are gone (Kubernetes documentation, "Persistent Volumes").
pub const RETAIN: &str = "Retain";

/// Whether it is a volume that stays when its claim is gone.
fn is_retained(kind: &str, object: &DynamicObject) -> bool {
    kind == "PersistentVolume" && object.data["spec"]["persistentVolumeReclaimPolicy"] == RETAIN
}

/// An object as JSON, or nothing.
///
/// # Errors
/// What the API server said, except that there is none.
pub async fn object(client: &Client, namespace: &str, kind: &str, name: &str) -> Result<Option<Value>, Failure> {
    let found = objects(client, namespace, kind)?.get_opt(name).await?;
    Ok(found.map(serde_json::to_value).transpose()?)
}

/// A condition in an object's status.
pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// Whether a condition in an object's status is true.
pub fn holds(object: &Value, type_: &str) -> bool {
    condition(object, type_).is_some_and(|condition| condition["status"] == "True")
}

/// Whether an instance is ready, and as what it describes itself.
///
/// # Errors
/// What the API server said.
pub async fn instance_ready(client: &Client, namespace: &str, name: &str) -> Result<Look, Failure> {
    let Some(object) = object(client, namespace, "postgresql", name).await? else {
        return Ok(Look::NotYet("no such instance".to_owned()));
    };
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let status = &object["status"];
    let ready = status["clusterStatus"] == "Running" && status["readyReplicas"].as_i64() == Some(wanted);
    Ok(Look::when(ready, status))
}

/// The pod that carries an instance's `master` label, as any client would look for it.
///
/// # Errors
/// None or more than one.
pub async fn primary(client: &Client, namespace: &str, instance: &str) -> Result<Pod, Failure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = format!(
        "a8s.a9s/replication-role=master,a8s.a9s/dsi-group=postgresql.anynines.com,a8s.a9s/dsi-name={instance}"
    );
    let mut found = pods.list(&ListParams::default().labels(&selector)).await?.items;
    match (found.pop(), found.len()) {
        (Some(pod), 0) => Ok(pod),
        (None, _) => Err(Failure::unexpected(format!("one primary of {instance}"), "none")),
        (Some(_), more) => Err(Failure::unexpected(format!("one primary of {instance}"), format!("{}", more + 1))),
    }
}

/// The administrator's way in: the address of Service `X-master`, the words of Secret `postgres.credentials.X`.
///
/// # Errors
/// Where one of the two is missing or incomplete.
pub async fn login(client: &Client, namespace: &str, instance: &str) -> Result<Login, Failure> {
    let (host, port) = of_service(client, namespace, &format!("{instance}-master")).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let data = secrets.get(&format!("postgres.credentials.{instance}")).await?.data.unwrap_or_default();
    let word = |key: &str| {
        data.get(key)
            .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
            .filter(|word| !word.is_empty())
            .ok_or_else(|| Failure::unexpected(format!("key {key} in the administrator's Secret"), "nothing"))
    };
    Ok(Login { host, port, user: word("username")?, password: word("password")? })
}

/// Host and port at which this machine reaches a Service.
///
/// # Errors
/// There is no such Service, or it has no address.
pub async fn of_service(client: &Client, namespace: &str, name: &str) -> Result<(String, u16), Failure> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let spec = services.get(name).await?.spec.unwrap_or_default();
    let goal = Goal::Service { namespace: namespace.to_owned(), name: name.to_owned() };
    if let Some(way) = Stage::get().way(client, goal).await? {
        return Ok((way.ip().to_string(), way.port()));
    }
    let host = spec.cluster_ip.ok_or(Failure::Missing("cluster IP of the Service"))?;
    let port = spec.ports.unwrap_or_default().first().map_or(5432, |port| port.port);
    Ok((host, u16::try_from(port).unwrap_or(5432)))
}

/// Where a cluster's backups go, and with what secrets.
///
/// # Errors
/// It does not say.
pub async fn settings_of_store(client: &Client) -> Result<store::Settings, Failure> {
    let settings = store::Settings::read(client, SYSTEM_NAMESPACE).await;
    settings.map_err(|error| Failure::unexpected("the store's settings", error.to_string()))
}

/// The store that a cluster is configured for.
///
/// # Errors
/// It does not say, or no port is to be had.
pub async fn store_of(client: Client) -> Result<store::Store, Failure> {
    let settings = settings_of_store(&client).await?;
    let config = of_store(&client, settings.config).await?;
    let limits = store::Limits { silence: Duration::from_secs(5), patience: Duration::from_secs(5) };
    let store = store::Store::new(&config, &settings.credentials, store::Names::of_cluster(client), limits);
    store.map_err(|error| Failure::unexpected("a way to the store", error.to_string()))
}

/// What a store says that does not do what it is asked.
pub fn refused(error: store::Error) -> Failure {
    Failure::unexpected("an answer of the store", error.to_string())
}

/// Where this machine reaches the store that the stack has been told of.
///
/// # Errors
/// No port is to be had.
pub async fn of_store(client: &Client, config: store::Config) -> Result<store::Config, Failure> {
    let Some((scheme, address)) = config.endpoint.as_deref().and_then(|endpoint| endpoint.split_once("://")) else {
        return Ok(config);
    };
    let host = address.split([':', '/']).next().unwrap_or_default();
    let mut words = host.split('.');
    let (Some(name), Some(namespace), Some("svc")) = (words.next(), words.next(), words.next()) else {
        return Ok(config);
    };
    let goal = Goal::Service { namespace: namespace.to_owned(), name: name.to_owned() };
    let way = Stage::get().way(client, goal).await?;
    let endpoint = way.map(|way| format!("{scheme}://{way}"));
    Ok(store::Config { endpoint: endpoint.or(config.endpoint), ..config })
}

/// The pods of an instance.
///
/// # Errors
/// The cluster can't be asked.
pub async fn members(client: &Client, namespace: &str, instance: &str) -> Result<Vec<Pod>, Failure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = format!("a8s.a9s/dsi-group=postgresql.anynines.com,a8s.a9s/dsi-name={instance}");
    Ok(pods.list(&ListParams::default().labels(&selector)).await?.items)
}

/// Host and port at which this machine reaches a port of a pod.
///
/// # Errors
/// The pod has no address.
pub async fn at_port(client: &Client, pod: &Pod, port: u16) -> Result<(String, u16), Failure> {
    let goal = Goal::Pod { namespace: pod.namespace().unwrap_or_default(), name: pod.name_any(), port };
    if let Some(way) = Stage::get().way(client, goal).await? {
        return Ok((way.ip().to_string(), way.port()));
    }
    let host = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    Ok((host.ok_or(Failure::Missing("address of the pod"))?, port))
}

/// What Prometheus scrapes from a pod whose annotations tell it to (the convention of its example configuration for
/// Kubernetes).
///
/// # Errors
/// The annotations do not tell, or nobody answers there.
pub async fn scrape(client: &Client, pod: &Pod) -> Result<String, Failure> {
    let told = |name: &str| pod.annotations().get(&format!("prometheus.io/{name}")).map(String::as_str);
    let port = told("port").filter(|_| told("scrape") == Some("true")).and_then(|port| port.parse().ok());
    let (host, port) = at_port(client, pod, port.ok_or(Failure::Missing("annotation for Prometheus"))?).await?;
    let address = SocketAddr::new(host.parse().map_err(io::Error::other)?, port);
    let url = format!("http://{address}{}", told("path").unwrap_or("/metrics"));
    let http = HttpClient::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = http.get(url.parse().map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let text = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_does_not_end_fails_after_its_time() {
        let never = std::future::pending::<Result<(), Failure>>();
        let failure = within("an end", Duration::from_millis(10), never).await.unwrap_err();
        assert_eq!(failure.to_string(), "waited 0 s for an end; last seen: it goes on");
        let failure = within("an end", SOON, async { Err::<(), _>(io::Error::other("no luck")) }).await.unwrap_err();
        assert_eq!(failure.to_string(), "no luck");
    }

    #[test]
    fn what_a_controller_has_made_or_every_namespace_has_was_left_by_nobody() {
        let owned = |by: bool| json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1", "controller": by}]);
        for (kind, name, owners, is_left) in [
            ("ConfigMap", "stray", json!([]), true),
            ("Lease", "stray", json!([]), true),
            ("Pod", "stray", json!([]), true),
            ("Pod", "coredns-5d78c9869d-abcde", owned(true), false),
            ("ReplicaSet", "coredns-5d78c9869d", owned(true), false),
            ("Secret", "of-an-owner-that-controls-nothing", owned(false), true),
            ("ConfigMap", "kube-root-ca.crt", json!([]), false),
            ("Secret", "kube-root-ca.crt", json!([]), true),
            ("ServiceAccount", "default", json!([]), false),
            ("ServiceAccount", "other", json!([]), true),
        ] {
            let object = json!({"metadata": {"name": name, "ownerReferences": owners}});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            assert_eq!(!comes_by_itself(kind, &object), is_left, "{kind} {name}");
        }
    }

    #[test]
    fn a_volume_that_is_retained_was_left_by_its_class() {
        for (kind, policy, is_kept) in [
            ("PersistentVolume", json!("Retain"), true),
            ("PersistentVolume", json!("Delete"), false),
            ("PersistentVolume", json!(null), false),
            ("StorageClass", json!("Retain"), false),
        ] {
            let object = json!({"metadata": {"name": "x"}, "spec": {"persistentVolumeReclaimPolicy": policy}});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            assert_eq!(is_retained(kind, &object), is_kept, "{kind} {policy}");
        }
    }

    #[test]
    fn what_is_in_a_namespace_that_is_gone_was_left_there() {
        let there = BTreeSet::from(["e2e-2".to_owned()]);
        let of = |namespace: Option<&str>| {
            let (name, namespace) = (Some("solo-0".to_owned()), namespace.map(str::to_owned));
            orphan("Pod", ObjectMeta { name, namespace, ..ObjectMeta::default() }, "e2e-", &there)
        };
        assert_eq!(of(Some("e2e-1")), Some(("e2e-1".to_owned(), "pod e2e-1/solo-0".to_owned())));
        for namespace in [Some("e2e-2"), Some("default"), None] {
            assert_eq!(of(namespace), None, "{namespace:?}");
        }
    }

    #[test]
    fn kinds_that_come_and_go_are_known() {
        for kind in COME_AND_GO {
            assert!(KINDS.iter().any(|known| known.3 == kind), "{kind}");
        }
    }
}
