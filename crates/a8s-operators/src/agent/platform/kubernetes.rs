//! The cluster is Kubernetes: the agent watches its instance, the Lease and the pods, writes the Lease, and labels its
//! own pod. Clients are made when they are needed: the API server may come later than the pod.

mod primary;

use super::{Error, Platform, Report, Seen, Written};
use crate::agent::decide::Member;
use crate::agent::environment::{Pod as Environment, Variables};
use crate::agent::lease::Record;
use crate::agent::report::{Applied, Standing};
use crate::instance::names::{self, CONFIGURATION, FULL, GENERATION, NOTED, STANDING, TROUBLE};
use a8s_api::{LABEL_ROLE, Postgresql};
use futures::{StreamExt as _, pin_mut};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::client::ConfigExt as _;
use kube::client::retry::RetryPolicy;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{OnceCell, watch};
use tower::retry::RetryLayer;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder};

const ACCOUNT_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Pause after a request that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// What a run writes to its container's termination message, before its name.
const RUN: &str = "agent run ";
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so much silence the other end of a connection has to show that it is there, so often, so many times.
const SILENCE: (Duration, Duration, u32) = (Duration::from_secs(2), Duration::from_secs(1), 3);

/// Kubernetes, seen from a pod.
pub struct Kubernetes {
    pod: Environment,
    uid: Option<String>,
    host: Option<String>,
    port: Option<String>,
    account: PathBuf,
    client: OnceCell<Client>,
}

fn failed(action: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| match source {
        kube::Error::Api(status) => Error::Refused { action, message: status.message },
        source => Error::Request { action, source: Box::new(source) },
    }
}

impl Kubernetes {
    /// From the variables that every pod has.
    pub fn new(pod: &Environment, variables: Variables<'_>) -> Self {
        let account = variables("A9S_SERVICEACCOUNT_DIR").unwrap_or_else(|| ACCOUNT_DIRECTORY.to_owned());
        Self {
            pod: pod.clone(),
            uid: variables("POD_UID"),
            host: variables("KUBERNETES_SERVICE_HOST"),
            port: variables("KUBERNETES_SERVICE_PORT"),
            account: account.into(),
            client: OnceCell::new(),
        }
    }

    /// With a client that is there already.
    #[cfg(test)]
    pub fn with_client(self, client: Client) -> Self {
        Self { client: OnceCell::new_with(Some(client)), ..self }
    }

    /// A client of the API, with the rights of the pod.
    ///
    /// # Errors
    /// If the environment does not lead to it.
    pub async fn client(&self) -> Result<Client, Error> {
        self.client.get_or_try_init(|| async { self.connect() }).await.cloned()
    }

    fn connect(&self) -> Result<Client, Error> {
        let wrong = |text: String| Error::Configuration(text);
        let (Some(host), Some(port)) = (&self.host, &self.port) else {
            return Err(wrong("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set".into()));
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let url = format!("https://{host}:{port}").parse().map_err(|error| wrong(format!("{host}:{port}: {error}")))?;
        let mut config = Config::new(url);
        let authority = self.account.join("ca.crt");
        let authority = fs_err::read(authority).map_err(|error| wrong(error.to_string()))?;
        config.root_cert = Some(certificates(&authority));
        config.auth_info.token_file = Some(self.account.join("token").to_string_lossy().into_owned());
        config.default_namespace.clone_from(&self.pod.namespace);
        self.client_of(config).map_err(failed("prepare a connection to the Kubernetes API"))
    }

    /// Connections that come from the pod's own address. In a network of its own that makes no difference; where pods
    /// share the machine's, it tells the API server and filters who is asking. That one is dead is noticed before the
    /// Lease expires: the watch of an API server whose machine is gone would not say for minutes that it is renewed.
    fn connector(&self) -> HttpConnector {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_local_address(Some(self.pod.address));
        let (after, every, times) = SILENCE;
        connector.set_keepalive(Some(after));
        connector.set_keepalive_interval(Some(every));
        connector.set_keepalive_retries(Some(times));
        connector
    }

    /// The layers of [`Client::try_from`] over these connections.
    fn client_of(&self, config: Config) -> Result<Client, kube::Error> {
        let connector = config.rustls_https_connector_with_connector(self.connector())?;
        let connector = BoxCloneSyncService::new(ServiceBuilder::new().timeout(PATIENCE).service(connector));
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .layer(RetryLayer::new(RetryPolicy::server_retry()))
            .option_layer(config.auth_layer()?)
            .map_err(BoxError::from)
            .service(hyper_util::client::legacy::Builder::new(TokioExecutor::new()).build(connector));
        Ok(Client::new(service, config.default_namespace))
    }

    /// Changes labels and annotations of a pod, if it is still as it was read. Says whether it was; if not, what is to be
    /// said may be something else now.
    ///
    /// A request that was given up may still be on its way, also one of a run that has ended. So each names the version of
    /// the pod that it is based on, and makes a new version whatever it says, by a mark that differs every time: what was on
    /// its way has arrived before this one, or is refused. What the kubelet says of the status makes new versions as well, so
    /// the pod is read just before; it names no version, and is never refused.
    async fn amend(
        &self,
        action: &'static str,
        pod: &str,
        uid: Option<&str>,
        mut metadata: Value,
    ) -> Result<bool, Error> {
        let api: Api<Pod> = Api::namespaced(self.client().await?, &self.pod.namespace);
        let found = api.get_metadata_opt(pod).await.map_err(failed(action))?;
        let found = found.map(|found| found.metadata).filter(|it| uid.is_none_or(|uid| it.uid.as_deref() == Some(uid)));
        let Some(found) = found else { return Err(Error::Gone(pod.to_owned())) };
        metadata["resourceVersion"] = json!(found.resource_version);
        metadata["annotations"][NOTED] = json!(format!("{:016x}", rand::random::<u64>()));
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match api.patch_metadata(pod, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(failed(action)(error)),
        }
    }

    async fn say(&self, report: &Report) -> Result<bool, Error> {
        let standing = report.standing.as_ref().map(|it| serde_json::to_string(it).unwrap_or_default());
        let full = report.is_full.then_some("true");
        let mut metadata = json!({"annotations": {
            (STANDING): standing, (TROUBLE): report.trouble, (GENERATION): report.generation, (FULL): full,
        }});
        if let Some(configuration) = &report.configuration {
            metadata["annotations"][CONFIGURATION] = json!(configuration);
        }
        if let Some(role) = report.role {
            metadata["labels"] = json!({(LABEL_ROLE): role});
        }
        self.amend("label the pod", &self.pod.name, self.uid.as_deref(), metadata).await
    }

    /// The Lease of the instance, and nothing else.
    async fn watch_lease(&self, client: Client, seen: &watch::Sender<Seen>) {
        let api: Api<Lease> = Api::namespaced(client, &self.pod.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.pod.instance));
        let stream = watcher(api, only).default_backoff();
        pin_mut!(stream);
        let mut listed = None;
        while let Some(result) = stream.next().await {
            let record = match result {
                Ok(watcher::Event::Init) => {
                    listed = None;
                    continue;
                }
                Ok(watcher::Event::InitApply(lease)) => {
                    listed = Some(Record::of(&lease));
                    continue;
                }
                Ok(watcher::Event::InitDone) => listed.take(),
                Ok(watcher::Event::Apply(lease)) => Some(Record::of(&lease)),
                Ok(watcher::Event::Delete(_)) => None,
                Err(error) => {
                    tracing::debug!(%error, "the watch of the Lease was interrupted");
                    continue;
                }
            };
            seen.send_modify(|seen| seen.see_lease(record));
        }
    }

    async fn watch_pods(&self, client: Client, seen: &watch::Sender<Seen>) {
        let api: Api<Pod> = Api::namespaced(client, &self.pod.namespace);
        let only = watcher::Config::default().labels(&names::selector(&self.pod.instance));
        let stream = watcher(api, only).default_backoff();
        pin_mut!(stream);
        let mut listed = BTreeMap::new();
        let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
        while let Some(result) = stream.next().await {
            match result {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(pod)) => drop(listed.insert(name(&pod), member(&pod))),
                Ok(watcher::Event::InitDone) => {
                    let members = std::mem::take(&mut listed);
                    seen.send_modify(|seen| seen.members = Some(members));
                }
                Ok(watcher::Event::Apply(pod)) => {
                    seen.send_if_modified(|seen| {
                        let new = member(&pod);
                        let members = seen.members.get_or_insert_default();
                        members.insert(name(&pod), new.clone()) != Some(new)
                    });
                }
                Ok(watcher::Event::Delete(pod)) => seen.send_modify(|seen| {
                    seen.members.get_or_insert_default().remove(&name(&pod));
                }),
                Err(error) => tracing::debug!(%error, "the watch of the pods was interrupted"),
            };
        }
    }

    async fn watch_instance(&self, client: Client, seen: &watch::Sender<Seen>) {
        let api: Api<Postgresql> = Api::namespaced(client, &self.pod.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.pod.instance));
        let stream = watcher(api, only).default_backoff().applied_objects();
        pin_mut!(stream);
        let mut last = String::new();
        while let Some(result) = stream.next().await {
            match result {
                Ok(instance) => seen.send_modify(|seen| seen.instance = Some(instance)),
                Err(error) => {
                    let text = crate::chain(&error);
                    if text != last {
                        tracing::warn!("cannot watch the instance: {text}; it is tried again");
                        last = text;
                    }
                }
            }
        }
    }
}

/// A pod as a member.
fn member(pod: &Pod) -> Member {
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let servers = status.container_statuses.iter().flatten().filter(|container| container.name == "postgres");
    let ended = servers.flat_map(|container| {
        let states = [&container.state, &container.last_state].into_iter().flatten();
        states.filter_map(|state| run_of(state.terminated.as_ref()?.message.as_deref()?)).collect::<Vec<_>>()
    });
    let is_ready = status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True");
    let role = pod.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_ROLE));
    let applied: Option<Applied> = annotations.get(CONFIGURATION).and_then(|text| serde_json::from_str(text).ok());
    Member {
        pod: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        address: status.pod_ip.clone().filter(|address| !address.is_empty()),
        is_ready,
        is_primary: role.is_some_and(|role| role == "master"),
        ended: ended.collect(),
        standing: Standing::of_annotations(&annotations),
        is_full: annotations.contains_key(FULL),
        parameters: applied.into_iter().flat_map(|it| [Some(it.configuration), it.enough]).flatten().collect(),
    }
}

/// The termination message of a run.
pub fn message_of_run(run: &str) -> String {
    format!("{RUN}{run}\n")
}

fn run_of(message: &str) -> Option<String> {
    message.lines().find_map(|line| line.strip_prefix(RUN)).map(str::to_owned)
}

/// The certificates of a PEM file, in the form kube wants.
fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    CertificateDer::pem_slice_iter(pem).flatten().map(|certificate| certificate.to_vec()).collect()
}

impl Platform for Kubernetes {
    async fn follow(&self, seen: watch::Sender<Seen>) {
        let mut last = String::new();
        let client = loop {
            match self.client().await {
                Ok(client) => break client,
                Err(error) => {
                    let text = crate::chain(&error);
                    if text != last {
                        tracing::warn!("{text}; it is tried again");
                        last = text;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        tokio::join!(
            self.watch_instance(client.clone(), &seen),
            self.watch_lease(client.clone(), &seen),
            self.watch_pods(client, &seen),
        );
    }

    async fn write_lease(&self, instance: &Postgresql, record: &Record) -> Result<Written, Error> {
        let api: Api<Lease> = Api::namespaced(self.client().await?, &self.pod.namespace);
        let result = if record.version.is_some() {
            api.patch(&self.pod.instance, &PatchParams::default(), &Patch::Merge(record.patch())).await
        } else {
            let lease = record.object(&self.pod, instance).map_err(|it| Error::Configuration(it.to_string()))?;
            api.create(&PostParams::default(), &lease).await
        };
        match result {
            Ok(lease) => Ok(Written::Done(Box::new(Record::of(&lease)))),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Written::Conflict),
            Err(error) => Err(failed("write the instance's Lease")(error)),
        }
    }

    async fn lease(&self) -> Result<Option<Record>, Error> {
        let api: Api<Lease> = Api::namespaced(self.client().await?, &self.pod.namespace);
        let lease = api.get_opt(&self.pod.instance).await.map_err(failed("read the instance's Lease"))?;
        Ok(lease.as_ref().map(Record::of))
    }

    async fn member(&self, pod: &str) -> Result<Option<Member>, Error> {
        let api: Api<Pod> = Api::namespaced(self.client().await?, &self.pod.namespace);
        Ok(api.get_opt(pod).await.map_err(failed("read a member's pod"))?.as_ref().map(member))
    }

    async fn depose(&self, pod: &str, uid: &str) -> Result<bool, Error> {
        let metadata = json!({"labels": {(LABEL_ROLE): "replica"}});
        match self.amend("label the pod of the last primary", pod, Some(uid), metadata).await {
            Err(Error::Gone(_)) => Ok(true),
            result => result,
        }
    }

    async fn publish(&self, mut reports: watch::Receiver<Report>, said: watch::Sender<Report>) {
        // Each change is said, also one back to what was said last: what was tried in between may have arrived.
        while reports.changed().await.is_ok() {
            loop {
                let report = reports.borrow_and_update().clone();
                match tokio::time::timeout(PATIENCE, self.say(&report)).await {
                    Ok(Ok(true)) => {
                        said.send_replace(report);
                        break;
                    }
                    Ok(Ok(false)) | Err(_) => {}
                    Ok(Err(error)) => {
                        tracing::warn!("{}", crate::chain(&error));
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::platform::Primary as _;
    use http::{Method, Request, Response};
    use kube::client::Body;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    /// What an API server has, which has one pod.
    struct Stored {
        pod: Value,
        /// The next patch is on its way until somebody delivers it, and its sender hears nothing.
        holds_one_up: bool,
        under_way: Option<Value>,
        /// The next patch meets a pod whose status has changed since it was read.
        interferes: bool,
        /// The next patch is taken, and its sender is told of an error.
        denies: bool,
    }

    impl Stored {
        fn store(&mut self, mut pod: Value) {
            // As everywhere, what changes nothing makes no version.
            if pod != self.pod {
                let version = pod["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
                pod["metadata"]["resourceVersion"] = json!((version.unwrap_or(0_u64) + 1).to_string());
                self.pod = pod;
            }
        }

        /// Takes a patch. Says whether it was based on the pod as it is.
        fn deliver(&mut self, patch: &Value) -> bool {
            let (mut pod, based_on) = (self.pod.clone(), &patch["metadata"]["resourceVersion"]);
            let is_based_on_it = based_on.is_null() || *based_on == pod["metadata"]["resourceVersion"];
            if is_based_on_it {
                merge(&mut pod, patch);
                self.store(pod);
            }
            is_based_on_it
        }
    }

    fn merge(into: &mut Value, patch: &Value) {
        let Some(fields) = patch.as_object() else { return *into = patch.clone() };
        for (field, value) in fields {
            if !value.is_null() {
                merge(&mut into[field.as_str()], value);
            } else if let Some(object) = into.as_object_mut() {
                object.remove(field);
            }
        }
    }

    async fn answer(stored: Arc<Mutex<Stored>>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let is_patch = request.method() == Method::PATCH;
        let bytes = request.into_body().collect_bytes().await.expect("a body");
        let response = |code: u16, body: &Value| {
            let body = Body::from(body.to_string().into_bytes());
            Ok(Response::builder().status(code).body(body).expect("a response"))
        };
        let is_lost = {
            let mut stored = stored.lock().expect("not poisoned");
            if is_patch {
                let patch: Value = serde_json::from_slice(&bytes).expect("a patch");
                if std::mem::take(&mut stored.holds_one_up) {
                    stored.under_way = Some(patch);
                } else {
                    if std::mem::take(&mut stored.interferes) {
                        let mut pod = stored.pod.clone();
                        pod["status"]["phase"] = json!("Running");
                        stored.store(pod);
                    }
                    if !stored.deliver(&patch) {
                        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                            "message": "the object has been modified", "reason": "Conflict", "code": 409});
                        return response(409, &status);
                    }
                    if std::mem::take(&mut stored.denies) {
                        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                            "message": "it is not known", "reason": "InternalError", "code": 500});
                        return response(500, &status);
                    }
                }
            }
            stored.under_way.is_some() && is_patch
        };
        if is_lost {
            std::future::pending::<()>().await;
        }
        let pod = stored.lock().expect("not poisoned").pod.clone();
        response(200, &pod)
    }

    /// An agent, and the API server that it speaks to.
    fn agent() -> (Kubernetes, Arc<Mutex<Stored>>) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": "x-0", "uid": "1", "resourceVersion": "5", "labels": {(LABEL_ROLE): "replica"}, "annotations": {},
        }});
        let stored = Stored { pod, holds_one_up: false, under_way: None, interferes: false, denies: false };
        let stored = Arc::new(Mutex::new(stored));
        let server = stored.clone();
        let service = tower::service_fn(move |request: Request<Body>| answer(server.clone(), request));
        let agent = Kubernetes {
            pod: Environment {
                instance: "x".into(),
                name: "x-0".into(),
                namespace: "shop".into(),
                address: [127, 64, 0, 9].into(),
                socket_directory: "/s".into(),
            },
            uid: Some("1".into()),
            host: None,
            port: None,
            account: "/a".into(),
            client: OnceCell::new_with(Some(Client::new(service, "shop"))),
        };
        (agent, stored)
    }

    /// Says something that is on its way when its sender gives it up.
    async fn give_up(stored: &Arc<Mutex<Stored>>, saying: impl Future<Output = Result<bool, Error>>) -> Value {
        stored.lock().expect("not poisoned").holds_one_up = true;
        assert!(tokio::time::timeout(Duration::from_millis(200), saying).await.is_err(), "it was answered");
        stored.lock().expect("not poisoned").under_way.take().expect("it is on its way")
    }

    fn report(role: &'static str) -> Report {
        Report { role: Some(role), ..Report::default() }
    }

    #[tokio::test]
    async fn what_was_given_up_does_not_arrive_after_what_was_said_later() {
        let (agent, stored) = agent();
        let role = || stored.lock().expect("not poisoned").pod["metadata"]["labels"][LABEL_ROLE].clone();
        // The later one says what the pod has.
        let late = give_up(&stored, agent.say(&report("master"))).await;
        assert!(agent.say(&report("replica")).await.expect("said"));
        assert!(!stored.lock().expect("not poisoned").deliver(&late), "it has arrived");
        assert_eq!(role(), "replica");
        // The later one says something else, by another way.
        let late = give_up(&stored, agent.say(&report("master"))).await;
        agent.note("a8s.a9s/logins", Some("1")).await.expect("noted");
        assert!(!stored.lock().expect("not poisoned").deliver(&late), "it has arrived");
        // What another member has said of it, too.
        let late = give_up(&stored, agent.say(&report("master"))).await;
        assert!(agent.depose("x-0", "1").await.expect("said"));
        assert!(!stored.lock().expect("not poisoned").deliver(&late), "it has arrived");
        assert_eq!(role(), "replica");
        // What arrives before is said again.
        let late = give_up(&stored, agent.say(&report("replica"))).await;
        assert!(stored.lock().expect("not poisoned").deliver(&late), "it was based on the pod as it is");
        assert!(agent.say(&report("master")).await.expect("said"));
        assert_eq!(role(), "master");
    }

    #[tokio::test]
    async fn a_status_that_comes_in_between_keeps_nobody_from_saying_it() {
        let (agent, stored) = agent();
        stored.lock().expect("not poisoned").interferes = true;
        assert!(!agent.say(&report("master")).await.expect("an answer"), "it was not noticed");
        let (reports, published) = watch::channel(Report::default());
        let (saying, mut said) = watch::channel(Report::default());
        reports.send_replace(report("master"));
        stored.lock().expect("not poisoned").interferes = true;
        stored.lock().expect("not poisoned").pod["status"] = json!({});
        tokio::select! {
            () = agent.publish(published, saying) => unreachable!("the channel is open"),
            it = said.wait_for(|said| said.role == Some("master")) => drop(it.expect("it is said")),
        }
        drop(reports);
        stored.lock().expect("not poisoned").interferes = true;
        stored.lock().expect("not poisoned").pod["status"] = json!({});
        agent.note("a8s.a9s/logins", Some("1")).await.expect("noted");
        let stored = stored.lock().expect("not poisoned");
        assert!(!stored.interferes);
        assert_eq!(stored.pod["metadata"]["labels"][LABEL_ROLE], "master");
        assert_eq!(stored.pod["metadata"]["annotations"]["a8s.a9s/logins"], "1");
    }

    #[tokio::test]
    async fn what_was_said_before_is_said_again_where_something_else_may_have_arrived_in_between() {
        let (agent, stored) = agent();
        let role = || stored.lock().expect("not poisoned").pod["metadata"]["labels"][LABEL_ROLE].clone();
        let (reports, published) = watch::channel(Report::default());
        let (saying, mut said) = watch::channel(Report::default());
        let leading = async {
            reports.send_replace(report("master"));
            said.wait_for(|said| said.role == Some("master")).await.expect("it is said");
            stored.lock().expect("not poisoned").denies = true;
            reports.send_replace(report("replica"));
            while role() != "replica" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // Before it is tried again.
            reports.send_replace(report("master"));
            while role() != "master" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = agent.publish(published, saying) => unreachable!("the channel is open"),
            _ = tokio::time::timeout(PATIENCE, leading) => {}
        }
        assert_eq!(role(), "master");
    }

    #[tokio::test]
    async fn an_agent_whose_pod_is_gone_says_nothing_of_the_next_one() {
        let (agent, stored) = agent();
        stored.lock().expect("not poisoned").pod["metadata"]["uid"] = json!("2");
        let before = stored.lock().expect("not poisoned").pod.clone();
        assert!(matches!(agent.say(&report("master")).await, Err(Error::Gone(_))));
        assert!(agent.depose("x-0", "1").await.expect("nothing to do"));
        assert_eq!(stored.lock().expect("not poisoned").pod, before);
    }

    #[tokio::test]
    async fn a_connection_whose_other_end_is_gone_is_noticed_while_nothing_is_said() {
        use nix::sys::socket::{getsockopt, sockopt};
        use tower::ServiceExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let uri = format!("http://{}", listener.local_addr().expect("an address"));
        let (mut agent, _) = agent();
        agent.pod.address = [127, 0, 0, 1].into();
        let uri: http::Uri = uri.parse().expect("a URI");
        let connection = agent.connector().oneshot(uri).await.expect("connected");
        assert!(getsockopt(connection.inner(), sockopt::KeepAlive).expect("an option"));
    }

    #[test]
    fn a_container_that_has_ended_names_its_run_also_when_it_runs_again() {
        let pod = |state: serde_json::Value| -> Member {
            let status = json!({
                "podIP": "127.64.0.9",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [
                    {"name": "other", "state": {"terminated": {"exitCode": 1, "message": message_of_run("x")}}},
                    {"name": "postgres", "image": "i", "imageID": "", "ready": true, "restartCount": 1,
                     "state": state["state"], "lastState": state["lastState"]},
                ],
            });
            member(&serde_json::from_value(json!({"metadata": {"name": "x-0"}, "status": status})).expect("a pod"))
        };
        let ended = json!({"terminated": {"exitCode": 137, "message": message_of_run("abc")}});
        let running = json!({"running": {}});
        assert_eq!(pod(json!({"state": ended, "lastState": {}})).ended, ["abc"]);
        assert_eq!(pod(json!({"state": running, "lastState": ended})).ended, ["abc"]);
        assert!(pod(json!({"state": running, "lastState": {}})).ended.is_empty());
        assert_eq!(pod(json!({"state": running})).address.as_deref(), Some("127.64.0.9"));
    }
}
