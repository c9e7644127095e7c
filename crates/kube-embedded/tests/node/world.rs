//! A cluster of one test: a store, an API server in this process, and a node.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Namespace, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::watcher;
use kube_embedded::addresses::AddressRange;
use kube_embedded::api::{ApiServer, ApiServerParts};
use kube_embedded::auth::Authenticator;
use kube_embedded::auth::rbac::Authorizer;
use kube_embedded::auth::tokens::ServiceAccountTokens;
use kube_embedded::image::{Image, ImageCatalogue};
use kube_embedded::kubelet::{ContainerRef, ExecOptions, ExitStatus, Kubelet, LogOptions};
use kube_embedded::node::{ApiAccess, HostUser, Node, NodeOptions, THIS_PROGRAM};
use kube_embedded::objects::Objects;
use kube_embedded::store::Store;
use kube_embedded::user::UserInfo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// A directory of every host that containers don't see.
pub const HIDDEN: &str = "/var/tmp";

/// The images of tests.
pub struct Images;

impl ImageCatalogue for Images {
    fn resolve(&self, reference: &str) -> Result<Image, String> {
        match reference {
            "test/sh" => Ok(Image {
                entrypoint: vec!["/bin/sh".into()],
                env: vec![("FROM_IMAGE".into(), "yes".into())],
                working_dir: None,
                read_only: vec!["/usr/lib".into(), "/no/such/file".into()],
            }),
            other => Err(format!("image \"{other}\" is not among the programs of this host")),
        }
    }

    fn references(&self) -> Vec<String> {
        vec!["test/sh".into()]
    }
}

/// See the module.
pub struct World {
    pub client: kube::Client,
    pub node: Arc<Node>,
    pub directory: PathBuf,
    pub range: AddressRange,
    /// Removed when dropped, unless another world has it.
    _temporary: Option<tempfile::TempDir>,
}

impl World {
    /// A new one.
    pub async fn new() -> Self {
        let temporary = tempfile::Builder::new().prefix("a9s-node-").tempdir().unwrap();
        let world = Self::at(temporary.path()).await;
        Self { _temporary: Some(temporary), ..world }
    }

    /// The one whose files are here.
    pub async fn at(directory: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        fs_err::set_permissions(directory, PermissionsExt::from_mode(0o711)).unwrap();
        let store = open(&directory.join("store")).await;
        let tokens = Arc::new(ServiceAccountTokens::new([7; 32]));
        let objects: Arc<dyn Objects> = store.clone();
        let index_file = directory.join("range");
        let before = fs_err::read_to_string(&index_file).ok().and_then(|index| index.parse().ok());
        let range = AddressRange::claim(before).unwrap();
        fs_err::write(index_file, range.index().to_string()).unwrap();
        let api = ApiServer::new(ApiServerParts {
            authenticator: Arc::new(Authenticator::new(tokens.clone(), objects.clone())),
            authorizer: Arc::new(Authorizer::new(objects)),
            tokens: tokens.clone(),
            store,
            kubelet: Arc::new(OnceLock::new()),
            service_addresses: range.services(),
            audit: None,
        });
        let client = api.client(UserInfo::master("test"));
        prepare(&client).await;
        let options = NodeOptions {
            name: "test".into(),
            cluster: "test".into(),
            directory: directory.join("node"),
            volumes: directory.join("volumes"),
            hidden: vec![HIDDEN.into()],
            run_directory: directory.join("run"),
            images: Arc::new(Images),
            run_as: if nix::unistd::Uid::effective().is_root() { HostUser::named("nobody") } else { None },
            address: range.api_server(),
            pod_addresses: range.pods(),
            api_server: ApiAccess { address: range.api_server(), port: 6443, ca_pem: "CA".into(), tokens },
            stop_grace: Duration::from_secs(3),
            launcher: THIS_PROGRAM.into(),
        };
        let node = Node::start(client.clone(), options, CancellationToken::new()).await.unwrap();
        Self { client, node, directory: directory.to_path_buf(), range, _temporary: None }
    }

    /// Containers have views of their own here.
    pub fn has_views(&self) -> bool {
        self.node.isolation().has_views()
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates an object of the namespace `default`.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
        K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
    {
        self.api::<K>().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    /// Creates a pod of one container `c` that runs a script; `more` is merged into the container, `spec` into the pod's.
    pub async fn pod(&self, name: &str, script: &str, more: Value, spec: Value) -> Pod {
        let mut container = json!({"name": "c", "image": "test/sh", "args": ["-c", script]});
        merge(&mut container, more);
        let mut whole = json!({"containers": [container], "nodeName": "test", "terminationGracePeriodSeconds": 5});
        merge(&mut whole, spec);
        self.create(json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": whole})).await
    }

    /// Waits until the pod is as wanted.
    pub async fn until(&self, name: &str, what: &str, is_so: impl Fn(&Pod) -> bool) -> Pod {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher::watcher(self.api::<Pod>(), config).boxed();
        let mut last = None;
        let wait = async {
            loop {
                match events.next().await.unwrap().unwrap() {
                    watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
                        if is_so(&pod) {
                            return pod;
                        }
                        last = Some(pod);
                    }
                    _ => {}
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(25), wait).await;
        found.unwrap_or_else(|_| panic!("{name} is not {what}: {:#?}", last.and_then(|pod| pod.status)))
    }

    /// Waits until the pod is of this phase.
    pub async fn phase(&self, name: &str, phase: &str) -> Pod {
        self.until(name, phase, |pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase))
            .await
    }

    /// Waits until the pod is ready.
    pub async fn ready(&self, name: &str) -> Pod {
        self.until(name, "ready", is_ready).await
    }

    /// Deletes a pod and waits until it is gone.
    pub async fn delete(&self, name: &str) {
        self.api::<Pod>().delete(name, &DeleteParams::default()).await.unwrap();
        eventually("the pod is gone", || async { self.api::<Pod>().get_opt(name).await.unwrap().is_none() }).await;
    }

    /// The whole log of container `c`.
    pub async fn log(&self, pod: &str) -> String {
        self.log_with(pod, &LogOptions::default()).await
    }

    pub async fn log_with(&self, pod: &str, options: &LogOptions) -> String {
        let stream = self.node.logs(&container(pod), options).await.unwrap();
        let pieces: Vec<_> = stream.collect().await;
        pieces.into_iter().map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap()).collect()
    }

    /// Runs a script in container `c`: exit status, standard output, standard error.
    pub async fn exec(&self, pod: &str, command: &[&str], input: Option<&str>) -> (ExitStatus, String, String) {
        let options = ExecOptions {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            stdin: input.is_some(),
            stdout: true,
            stderr: true,
            tty: false,
        };
        let mut process = self.node.exec(&container(pod), &options).await.unwrap();
        let stdin = process.stdin.take();
        let write = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                stdin.write_all(input.as_bytes()).await.unwrap();
                stdin.shutdown().await.unwrap();
            }
        };
        let (mut out, mut err) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        let ((), read, errors) = tokio::join!(write, stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
        read.unwrap();
        errors.unwrap();
        (process.exit.await.unwrap(), out, err)
    }

    /// Waits for an event about an object.
    pub async fn event(&self, object: &str, reason: &str, part_of_message: &str) {
        let find = || async {
            let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
            events.items.iter().any(|event| {
                event.involved_object.name.as_deref() == Some(object)
                    && event.reason.as_deref() == Some(reason)
                    && event.message.as_deref().unwrap_or_default().contains(part_of_message)
            })
        };
        eventually(&format!("an event {reason} of {object} with {part_of_message:?}"), find).await;
    }

    /// Stops the node; asserts that no process of it is left.
    pub async fn end(self) {
        self.node.stop().await;
        assert_eq!(processes(&self.directory), Vec::<String>::new());
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.directory.to_str().unwrap()), "a mount is left: {mounts}");
    }
}

/// Opens the store once the world before has let it go.
async fn open(directory: &Path) -> Arc<Store> {
    for _ in 0..500 {
        if let Ok(store) = Store::open(directory) {
            return store;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Store::open(directory).unwrap()
}

async fn prepare(client: &kube::Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in ["default", "kube-node-lease"] {
        if namespaces.get_opt(name).await.unwrap().is_none() {
            let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        }
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    if accounts.get_opt("default").await.unwrap().is_none() {
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        accounts.create(&PostParams::default(), &account).await.unwrap();
    }
}

/// Merges objects recursively; anything else replaces.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from,
    }
}

pub fn container(pod: &str) -> ContainerRef {
    ContainerRef { namespace: "default".into(), pod: pod.into(), container: None }
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Status of container `c`.
pub fn status(pod: &Pod) -> ContainerStatus {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.into_iter().find(|status| status.name == "c").cloned().unwrap_or_default()
}

pub fn state(pod: &Pod) -> ContainerState {
    status(pod).state.unwrap_or_default()
}

pub fn waiting_reason(pod: &Pod) -> String {
    state(pod).waiting.and_then(|waiting| waiting.reason).unwrap_or_default()
}

pub fn pod_ip(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default()
}

/// Waits until a question is answered with yes.
pub async fn eventually<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let wait = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(25), wait).await.unwrap_or_else(|_| panic!("not so: {what}"));
}

/// Processes of the node with this directory, as `pid command line`.
pub fn processes(directory: &Path) -> Vec<String> {
    use kube_embedded::node::marks::{Mark, find, node_id};
    let mark = Mark { node: node_id(&directory.join("node")), ..Mark::default() };
    find(&mark)
        .into_iter()
        .map(|pid| {
            let line = fs_err::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid} {}", line.replace('\0', " "))
        })
        .collect()
}
