//! How a `Then` looks at a cluster: through the Kubernetes API, and with a deadline where it has to wait.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use a8s_operators::{SYSTEM_NAMESPACE, store};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::command::Surroundings;
use super::failure::Failure;
use super::stage::Stage;
use super::ways::Goal;
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
pub(super) const KINDS: [(&str, &str, &str, &str, &str); 18] = [
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
    use super::*;

    #[tokio::test]
    async fn what_does_not_end_fails_after_its_time() {
        let never = std::future::pending::<Result<(), Failure>>();
        let failure = within("an end", Duration::from_millis(10), never).await.unwrap_err();
        assert_eq!(failure.to_string(), "waited 0 s for an end; last seen: it goes on");
        let failure = within("an end", SOON, async { Err::<(), _>(io::Error::other("no luck")) }).await.unwrap_err();
        assert_eq!(failure.to_string(), "no luck");
    }
}
