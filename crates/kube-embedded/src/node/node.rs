//! Puts the node together: [`Node::start`], what it follows, and [`Node::stop`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::address::Addresses;
use super::context::Context;
use super::hosts::Names;
use super::isolation::Isolation;
use super::marks::{self, Mark};
use super::options::NodeOptions;
use super::pod::{self, Handle, Message, view_root};
use super::spawner::Spawner;
use super::sweeper::Sweeper;
use super::{registration, services};
use crate::events::Events;
use crate::removal::remove_tree;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of its directories can't be made or used.
    #[error("cannot use {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No process can be started.
    #[error("cannot start processes")]
    Process(#[source] io::Error),
    /// The API refuses.
    #[error("cannot {what}")]
    Api {
        /// What was asked.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// A running node.
pub struct Node {
    context: Arc<Context>,
    pods: Mutex<Pods>,
    stopping: CancellationToken,
    /// What has to end before the node has stopped.
    parts: tokio::sync::Mutex<Option<Parts>>,
}

#[derive(Default)]
struct Pods {
    by_name: BTreeMap<(String, String), Arc<Handle>>,
    tasks: Vec<JoinHandle<()>>,
}

struct Parts {
    tasks: Vec<JoinHandle<()>>,
    sweeper: Option<Sweeper>,
}

impl Node {
    /// Starts a node. When this answers, the Node object is there, and every pod's status tells that its containers
    /// have to start again, should an earlier run of the node have left it otherwise. Cancelling `shutdown` is the same
    /// as [`Node::stop`] without waiting.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(
        client: kube::Client,
        options: NodeOptions,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, Error> {
        make_directories(&options)?;
        let api = |what| move |source| Error::Api { what, source: Box::new(source) };
        let spawner = Spawner::new(options.launcher.clone()).map_err(Error::Process)?;
        let root = view_root(&options.run_directory);
        let isolation = Isolation::survey(&spawner, &root).await.map_err(Error::Process)?;
        if let Isolation::None { reason } = &isolation {
            tracing::warn!(reason, "containers share the host's files: this system allows no mount namespaces");
        }
        let (node_id, run_id) = (marks::node_id(&options.directory), format!("{:016x}", rand::random::<u64>()));
        let mark = Mark { node: node_id.clone(), run: Some(run_id.clone()), ..Mark::default() };
        let sweeper = Sweeper::start(&spawner, mark, options.stop_grace).await.map_err(Error::Process)?;
        let is_clean = clean_up(&node_id, &run_id, options.stop_grace);
        let capacity = registration::capacity(&options);
        let node =
            registration::register(&client, &options, &capacity, &isolation).await.map_err(api("register the node"))?;
        let events = Events::start(client.clone(), Some(options.name.clone()));
        let (name_sender, names) = watch::channel(Arc::new(Names::default()));
        let stopping = shutdown.child_token();
        let proxy = services::follow(client.clone(), name_sender, events.clone(), stopping.clone())
            .await
            .map_err(api("list services"))?;
        let addresses = Addresses::new(options.pod_addresses);
        let context = Arc::new(Context {
            client: client.clone(),
            options,
            spawner,
            events,
            addresses,
            capacity,
            isolation,
            node_id,
            run_id,
            names,
            is_clean,
        });
        let this = Arc::new(Self {
            context: context.clone(),
            pods: Mutex::default(),
            stopping: stopping.clone(),
            parts: tokio::sync::Mutex::default(),
        });
        this.first_look().await.map_err(api("list pods"))?;
        let keep = registration::keep(
            client,
            context.options.clone(),
            capacity,
            context.isolation.clone(),
            node,
            stopping.clone(),
        );
        let tasks = vec![
            tokio::spawn(keep),
            tokio::spawn(this.clone().follow_pods()),
            tokio::spawn(this.clone().follow_material::<ConfigMap>(false)),
            tokio::spawn(this.clone().follow_material::<Secret>(true)),
            proxy,
        ];
        *this.parts.lock().await = Some(Parts { tasks, sweeper: Some(sweeper) });
        let node = this.clone();
        tokio::spawn(async move {
            node.stopping.cancelled().await;
            node.stop().await;
        });
        Ok(this)
    }

    /// What containers are given of the host.
    pub fn isolation(&self) -> &Isolation {
        &self.context.isolation
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Handle>> {
        self.lock().by_name.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops all pods, in parallel and with their grace periods, and leaves no process and no mount. The pods stay in
    /// the API, and start again with the node.
    pub async fn stop(&self) {
        self.stopping.cancel();
        // Whoever comes second waits here for the first.
        let mut held = self.parts.lock().await;
        let Some(mut parts) = held.take() else { return };
        for task in parts.tasks.drain(..) {
            let _ = task.await;
        }
        let tasks = {
            let mut pods = self.lock();
            for handle in pods.by_name.values() {
                handle.tell(Message::Stop);
            }
            std::mem::take(&mut pods.tasks)
        };
        for task in tasks {
            let _ = task.await;
        }
        let mark =
            Mark { node: self.context.node_id.clone(), run: Some(self.context.run_id.clone()), ..Mark::default() };
        let _ = tokio::task::spawn_blocking(move || marks::kill_all(&mark)).await;
        if let Some(sweeper) = parts.sweeper.take() {
            sweeper.stop().await;
        }
        self.context.events.flush().await;
        let _ = remove_tree(&self.context.options.run_directory.join("pods"));
        let _ = fs_err::remove_dir(view_root(&self.context.options.run_directory));
    }

    // Pods.

    fn pods_api(&self) -> (Api<Pod>, String) {
        (Api::all(self.context.client.clone()), format!("spec.nodeName={}", self.context.options.name))
    }

    /// Takes over the pods that an earlier run of the node had, before anybody can see them.
    async fn first_look(self: &Arc<Self>) -> Result<(), kube::Error> {
        let (api, fields) = self.pods_api();
        let found = api.list(&ListParams::default().fields(&fields)).await?;
        for pod in &found.items {
            let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
            let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse().ok());
            if let Some(address) = address.filter(|_| !on_host) {
                self.context.addresses.claim(address);
            }
        }
        let uids: BTreeSet<String> = found.items.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        self.remove_leftovers(&uids);
        let mut first_writes = Vec::new();
        for pod in found.items {
            first_writes.extend(self.begin(Arc::new(pod)));
        }
        for written in first_writes {
            let _ = written.await;
        }
        Ok(())
    }

    /// Files of pods that were deleted while the node did not run.
    fn remove_leftovers(&self, known: &BTreeSet<String>) {
        for base in [&self.context.options.directory, &self.context.options.run_directory] {
            let Ok(entries) = fs_err::read_dir(base.join("pods")) else { continue };
            for entry in entries.flatten().filter(|entry| !known.contains(&*entry.file_name().to_string_lossy())) {
                if let Err(error) = remove_tree(&entry.path()) {
                    tracing::warn!(%error, "files of a deleted pod are left");
                }
            }
        }
    }

    async fn follow_pods(self: Arc<Self>) {
        let (api, fields) = self.pods_api();
        let mut events = watcher::watcher(api, watcher::Config::default().fields(&fields)).boxed();
        let mut listed = BTreeSet::new();
        loop {
            let event = tokio::select! {
                () = self.stopping.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(Event::Apply(pod))) => drop(self.begin(Arc::new(pod))),
                Some(Ok(Event::InitApply(pod))) => {
                    listed.insert(key(&pod));
                    drop(self.begin(Arc::new(pod)));
                }
                Some(Ok(Event::Delete(pod))) => self.gone(&key(&pod), pod.metadata.uid.as_deref()),
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitDone)) => {
                    let known: Vec<_> = self.lock().by_name.keys().cloned().collect();
                    for key in known.into_iter().filter(|key| !listed.contains(key)) {
                        self.gone(&key, None);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the watch of pods was interrupted");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                None => return,
            }
        }
    }

    /// Tells the pod's task, or starts it. A started one answers when its first status has been written.
    fn begin(&self, pod: Arc<Pod>) -> Option<tokio::sync::oneshot::Receiver<()>> {
        let key = key(&pod);
        let mut pods = self.lock();
        if let Some(handle) = pods.by_name.get(&key) {
            if Some(&handle.uid) == pod.metadata.uid.as_ref() {
                handle.tell(Message::Changed(pod));
                return None;
            }
            // Deleted and made again between two looks.
            handle.tell(Message::Gone);
        }
        let (written, wait) = tokio::sync::oneshot::channel();
        let (handle, task) = pod::spawn(self.context.clone(), pod, written);
        pods.by_name.insert(key, Arc::new(handle));
        pods.tasks.retain(|task| !task.is_finished());
        pods.tasks.push(task);
        Some(wait)
    }

    fn gone(&self, key: &(String, String), uid: Option<&str>) {
        let mut pods = self.lock();
        if let Some(handle) = pods.by_name.get(key)
            && uid.is_none_or(|uid| uid == handle.uid)
        {
            handle.tell(Message::Gone);
            pods.by_name.remove(key);
        }
    }

    /// Tells pods of changed ConfigMaps or Secrets.
    async fn follow_material<K>(self: Arc<Self>, is_secret: bool)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let api: Api<K> = Api::all(self.context.client.clone());
        let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
        loop {
            let event = tokio::select! {
                () = self.stopping.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                // What is listed anew may have changed while nobody watched.
                Some(Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object))) => {
                    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                    for (_, handle) in self.lock().by_name.iter().filter(|((own, _), _)| *own == namespace) {
                        handle.tell(Message::MaterialChanged { is_secret, name: name.clone() });
                    }
                }
                Some(Ok(Event::Init | Event::InitDone)) => {}
                Some(Err(_)) => tokio::time::sleep(Duration::from_millis(200)).await,
                None => return,
            }
        }
    }
}

fn key(pod: &Pod) -> (String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

fn make_directories(options: &NodeOptions) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    for path in [options.directory.join("pods"), options.run_directory.join("pods"), view_root(&options.run_directory)]
    {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&path)
            .map_err(|source| Error::Directory { path: path.clone(), source })?;
    }
    Ok(())
}

/// Ends what an earlier run of the node left, in the background. The receiver turns true when nothing is left.
fn clean_up(node_id: &str, run_id: &str, grace: Duration) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let mark = Mark { node: node_id.to_owned(), except_run: Some(run_id.to_owned()), ..Mark::default() };
    tokio::task::spawn_blocking(move || {
        let count = marks::end(&mark, grace);
        if count > 0 {
            tracing::info!(count, "processes of an earlier run were ended");
        }
        sender.send_replace(true);
    });
    receiver
}

/// Ends all processes of the node whose files are in `directory`, whether it runs or not; for the deletion of a cluster
/// whose node was killed. Blocks. Answers how many there were.
pub fn end_processes(directory: &std::path::Path, grace: Duration) -> usize {
    marks::end(&Mark { node: marks::node_id(directory), ..Mark::default() }, grace)
}
