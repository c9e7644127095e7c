//! A cluster in this process without a node: store, API server and controllers, and a stand-in for the kubelet that says
//! of every pod on the node that it runs.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use kube_embedded::api::{ApiServer, ApiServerParts};
use kube_embedded::auth::Authenticator;
use kube_embedded::auth::rbac::Authorizer;
use kube_embedded::auth::tokens::ServiceAccountTokens;
use kube_embedded::controllers;
use kube_embedded::objects::{ChangeKind, GroupResource, Objects};
use kube_embedded::store::Store;
use kube_embedded::user::UserInfo;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a test that fails says so by then.
const DEADLINE: Duration = Duration::from_secs(20);

pub struct Rig {
    pub client: Client,
    pub objects: Arc<dyn Objects>,
    pub volumes: PathBuf,
    /// Whether new pods become ready.
    pub healthy: Arc<AtomicBool>,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    store: Arc<Store>,
    directory: Option<TempDir>,
}

impl Rig {
    pub async fn start() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    async fn open(directory: TempDir) -> Self {
        let store = Store::open(directory.path()).unwrap();
        let objects: Arc<dyn Objects> = Arc::clone(&store) as Arc<dyn Objects>;
        let tokens = Arc::new(ServiceAccountTokens::new([1; 32]));
        let server = ApiServer::new(ApiServerParts {
            store: Arc::clone(&store),
            authenticator: Arc::new(Authenticator::new(Arc::clone(&tokens), Arc::clone(&objects))),
            authorizer: Arc::new(Authorizer::new(Arc::clone(&objects))),
            tokens,
            kubelet: Arc::default(),
            service_addresses: (Ipv4Addr::new(127, 64, 8, 0), Ipv4Addr::new(127, 64, 15, 250)),
            audit: None,
        });
        let client = server.client(UserInfo::master("tester"));
        controllers::bootstrap(&client).await.unwrap();
        let volumes = directory.path().join("volumes");
        let mut rig = Self {
            client,
            objects,
            volumes,
            healthy: Arc::new(AtomicBool::new(true)),
            shutdown: CancellationToken::new(),
            tasks: Vec::new(),
            store,
            directory: Some(directory),
        };
        rig.add_node().await;
        rig.start_controllers();
        rig.tasks.push(tokio::spawn(kubelet(
            rig.client.clone(),
            Arc::clone(&rig.objects),
            Arc::clone(&rig.healthy),
            rig.shutdown.clone(),
        )));
        rig
    }

    fn start_controllers(&mut self) {
        let options =
            controllers::Options { volumes: self.volumes.clone(), volume_owner: None, ca_pem: "CA".to_owned() };
        let run = controllers::run(self.client.clone(), Arc::clone(&self.objects), options, self.shutdown.clone());
        self.tasks.push(tokio::spawn(run));
    }

    /// Stops everything at whatever it is at, and starts it again.
    pub async fn restart(mut self) -> Self {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        let directory = self.directory.take().unwrap();
        let store = Arc::downgrade(&self.store);
        drop(self);
        // Requests that were under way hold the store a little longer.
        while store.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        Self::open(directory).await
    }

    async fn add_node(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}, "spec": {}});
        match nodes.create(&PostParams::default(), &from_value(node).unwrap()).await {
            Err(kube::Error::Api(status)) if status.code == 409 => return,
            other => drop(other.unwrap()),
        }
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        nodes.patch_status("node", &PatchParams::default(), &Patch::Merge(&ready)).await.unwrap();
    }

    /// A new namespace, ready for use.
    pub async fn namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        namespaces.create(&PostParams::default(), &from_value(namespace).unwrap()).await.unwrap();
        self.until("the default account", || self.get("", "serviceaccounts", name, "default").is_some()).await;
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
    {
        let namespace = object["metadata"]["namespace"].as_str().unwrap().to_owned();
        let object: K = from_value(object).unwrap();
        self.api::<K>(&namespace).create(&PostParams::default(), &object).await.unwrap()
    }

    pub fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        self.objects.get(&GroupResource::new(group, resource), namespace, name)
    }

    pub fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        self.objects.list(&GroupResource::new(group, resource), namespace)
    }

    pub fn names(&self, group: &str, resource: &str, namespace: &str) -> Vec<String> {
        let objects = self.list(group, resource, namespace);
        let mut names: Vec<_> =
            objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Waits until something is so, looking at every committed change.
    pub async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let mut feed = self.objects.subscribe();
        let wait = async {
            while !is_so() {
                feed.recv().await.unwrap();
            }
        };
        if tokio::time::timeout(DEADLINE, wait).await.is_err() {
            let mut there = String::new();
            for (resource, object) in self.objects.all(None) {
                if !matches!(resource.group.as_str(), "rbac.authorization.k8s.io") {
                    let line = format!("{}: {}\n", resource.resource, object);
                    there.push_str(&line);
                }
            }
            panic!("not reached: {what}\n{there}");
        }
    }
}

/// Every pod on the node runs, and is ready if `healthy`; a pod that is deleted stops at once.
async fn kubelet(client: Client, objects: Arc<dyn Objects>, healthy: Arc<AtomicBool>, shutdown: CancellationToken) {
    let next_address = AtomicU8::new(1);
    let mut feed = objects.subscribe();
    let pods = GroupResource::new("", "pods");
    let mut waiting = objects.list(&pods, None);
    loop {
        for pod in waiting.drain(..) {
            serve(&client, &from_value(Value::clone(&pod)).unwrap(), &healthy, &next_address).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = feed.recv() => match change {
                Some(change) if change.resource == pods && change.kind != ChangeKind::Deleted => waiting.push(change.object),
                Some(_) => {}
                None => return,
            },
        }
    }
}

async fn serve(client: &Client, pod: &Pod, healthy: &AtomicBool, next_address: &AtomicU8) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
    let assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if !assigned {
        return;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        // It may be gone already.
        let _ = api.delete(&pod.name_any(), &now).await;
        return;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Running") {
        return;
    }
    let ready = if healthy.load(Ordering::Relaxed) { "True" } else { "False" };
    let address = format!("127.64.0.{}", next_address.fetch_add(1, Ordering::Relaxed));
    let status = json!({"status": {
        "phase": "Running",
        "podIP": address,
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await;
}
