//! kind: Kubernetes nodes as Docker containers.
//!
//! Which clusters there are, and how their nodes are, is asked of Docker, by the label that kind gives its nodes: exact,
//! and true also of clusters that were made half. What kind itself must do, it does. Its kubeconfig goes to a file of
//! ours; the user's own is only written by the step for it.

mod configuration;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use a8s_operators::manifests;
use async_trait::async_trait;
use futures::future::{Either, select, try_join_all};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::Value;

pub use configuration::Configuration;

use super::docker::{self, docker};
use super::memory::{INTRODUCED, KUBECONFIG, MADE, MAKING, Memory};
use super::tool::{self, Tool};
use super::{ClusterName, Name, Options, POLL, Provider, State, builtin, no_cluster, wait_until_ready};
use crate::finding::{Finding, Id};
use crate::kubernetes::{Connection, Target};
use crate::step::Context;

/// The oldest kind whose node images and configuration are known to work.
const OLDEST: (u32, u32, u32) = (0, 20, 0);
/// The label of a cluster's containers, its value the cluster's name (sigs.k8s.io/kind `pkg/cluster/constants`).
pub const LABEL: &str = "io.x-k8s.kind.cluster";
/// The label of what a container is in its cluster.
pub const ROLE: &str = "io.x-k8s.kind.role";
/// The role of what stands before several control planes. It is no node of Kubernetes.
pub const LOAD_BALANCER: &str = "external-load-balancer";
/// What docker is asked of containers, besides their role.
const COLUMNS: &str = "{{.ID}} {{.Names}} {{.State}} {{.Image}} {{.CreatedAt}}";
/// The role of a control plane, which is in its name: nodes are named after the cluster and their roles
/// (`pkg/cluster/constants`).
const CONTROL_PLANE: &str = "control-plane";
/// Within so many minutes of its mark, the making of a cluster has its nodes: their image may have to be pulled first.
const LONGEST: i64 = 60;
/// How long a cluster gets to come up by itself: kind waits for its control plane alone, and may have gone on without us.
const COMES_UP: Duration = Duration::from_secs(20);
/// The flags that kubeadm gives the kubelet of a node (kubeadm `kubelet-integration`, "the kubelet drop-in file").
const FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
/// The kubeconfig that kubeadm makes on a control plane.
const ADMINISTRATOR: &str = "/etc/kubernetes/admin.conf";
/// The variable that tells kind what makes its nodes, and those of its values that are not Docker (sigs.k8s.io/kind
/// `pkg/internal/runtime`). Others it passes over.
const ENGINE: &str = "KIND_EXPERIMENTAL_PROVIDER";
const OTHER_ENGINES: [&str; 4] = ["podman", "nerdctl", "finch", "nerdctl.lima"];
/// What programs say of a disk that is full (`ENOSPC`).
const NO_SPACE: &str = "no space left on device";
/// Where images are on their way to a cluster.
const IMAGES: &str = "images";
/// The configuration that a cluster was made with.
const CONFIGURATION: &str = "config.yaml";

/// The provider.
#[derive(Debug, Clone)]
pub struct Kind {
    kind: Tool,
    docker: Tool,
    memory: Memory,
    options: Options,
}

/// A container of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Container {
    id: String,
    name: String,
    running: bool,
    image: String,
    created: Option<Timestamp>,
    role: String,
}

impl Container {
    fn is_node(&self) -> bool {
        self.role != LOAD_BALANCER
    }
}

impl Kind {
    /// The clusters of the machine's Docker engine; what is known of them lies below `state`.
    pub fn new(state: &Path, options: Options) -> Self {
        let kind = Tool::new("kind", "https://kind.sigs.k8s.io/docs/user/quick-start#installation");
        Self { kind, docker: docker(), memory: Memory::new(state, Name::Kind), options }
    }

    /// What clusters are made with.
    fn configuration(&self) -> Configuration {
        Configuration::of_cluster(self.options.kind_config.as_ref(), self.options.wanted_nodes())
    }

    async fn containers(&self, cluster: &ClusterName) -> Result<Vec<Container>, Finding> {
        let filter = format!("label={LABEL}={cluster}");
        let format = format!("{COLUMNS} {}", column(ROLE));
        let text = self.ask(&["ps", "--all", "--no-trunc", "--filter", &filter, "--format", &format]).await?;
        let mut containers: Vec<Container> = text.lines().filter_map(container).collect();
        containers.sort();
        Ok(containers)
    }

    /// The containers that are nodes of Kubernetes.
    async fn nodes(&self, cluster: &ClusterName) -> Result<Vec<Container>, Finding> {
        let mut containers = self.containers(cluster).await?;
        containers.retain(Container::is_node);
        Ok(containers)
    }

    /// The nodes that pods are placed on. Where a cluster has workers, kubeadm keeps its control plane free of others' pods, by a
    /// taint that somebody may have removed.
    async fn hosts(&self, cluster: &ClusterName) -> Result<Vec<Container>, Finding> {
        let nodes = self.nodes(cluster).await?;
        let target = Target { kubeconfig: Some(self.kubeconfig(cluster)), context: None };
        let listed = async {
            let client = target.connect().await.ok()?.client;
            Api::<Node>::all(client).list(&ListParams::default()).await.ok()
        };
        let listed = listed.await.map(|list| list.items);
        let is_host = |node: &Container| match &listed {
            Some(listed) => !listed.iter().any(|it| it.name_any() == node.name && is_kept_free(it)),
            // It can't be asked, or not yet.
            None => node.role != CONTROL_PLANE,
        };
        let (hosts, kept_free): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_host);
        Ok(if hosts.is_empty() { kept_free } else { hosts })
    }

    /// Asks docker, unless kind has its clusters elsewhere. Where it is not installed, kind may not be, either.
    async fn ask(&self, arguments: &[&str]) -> Result<String, Finding> {
        in_docker()?;
        match docker::ask(&self.docker, arguments).await {
            Err(finding) if finding.id == Id::NoTool => {
                tool::all_there(&[&self.kind, &self.docker])?;
                Err(finding)
            }
            answer => answer,
        }
    }

    /// Has kind delete what there is of a cluster.
    async fn unmake(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        let path = self.kubeconfig(cluster).to_string_lossy().into_owned();
        let arguments = ["delete", "cluster", "--name", cluster.as_str(), "--kubeconfig", &path];
        self.kind.act(&arguments, None, context).await.map(drop)
    }

    async fn make(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        context.progress("its nodes are being made");
        self.memory.forget(cluster, INTRODUCED);
        self.memory.forget(cluster, MADE);
        let configuration = self.configuration();
        self.memory.note(cluster, CONFIGURATION, &configuration.text())?;
        self.memory.note(cluster, MAKING, &configuration.nodes().to_string())?;
        let path = self.kubeconfig(cluster).to_string_lossy().into_owned();
        let mut arguments =
            vec!["create", "cluster", "--name", cluster.as_str(), "--kubeconfig", &path, "--config", "-"];
        if let Some(image) = &self.options.node_image {
            arguments.extend(["--image", image]);
        }
        let text = configuration.text();
        let made = pin!(self.kind.act(&arguments, Some(&text), context));
        let brought = pin!(self.bring_images(cluster, context));
        let made = match select(made, brought).await {
            Either::Left((Ok(_), brought)) => {
                context.progress("images are brought to its nodes");
                brought.await;
                Ok(())
            }
            Either::Left((Err(finding), _)) => Err(finding),
            Either::Right(((), made)) => made.await.map(drop),
        };
        if let Err(finding) = made {
            let finding = explained(finding);
            // kind takes back what it did, unless it was killed; what others have made is not ours.
            let is_theirs = finding.id == Id::ClusterExists;
            if is_theirs || self.containers(cluster).await.is_ok_and(|containers| containers.is_empty()) {
                self.memory.forget(cluster, MAKING);
            }
            return Err(finding);
        }
        // Pods that are there before a node is ready are placed on it seconds after it is. A network may come later, by hand.
        context.progress("waiting for its nodes");
        self.comes_up(cluster, &self.containers(cluster).await?).await;
        self.adopt(cluster).await
    }

    /// Brings the images that are wanted to nodes which are being made: kind waits most of the time. What is lacking after that,
    /// for whatever reason, is seen when the cluster is there.
    async fn bring_images(&self, cluster: &ClusterName, context: &Context) {
        if !self.options.stack_images {
            return;
        }
        let brought = async {
            let images = builtin::images(&self.ask(&builtin::LISTING).await?);
            while !self.begins_to_answer(cluster).await? {
                tokio::time::sleep(POLL).await;
            }
            self.load(cluster, &images, context).await
        };
        let _: Result<(), Finding> = brought.await;
    }

    /// Whether the API server of a cluster that is being made answers. All its nodes keep images by then, and its control plane
    /// is in nobody's way any more.
    async fn begins_to_answer(&self, cluster: &ClusterName) -> Result<bool, Finding> {
        let nodes = self.nodes(cluster).await?;
        let Some(first) = nodes.iter().find(|node| node.role == CONTROL_PLANE) else { return Ok(false) };
        let asks = ["exec", &first.name, "kubectl", "--kubeconfig", ADMINISTRATOR, "get", "--raw", "/readyz"];
        Ok(self.docker.end_of(&asks, None).await?.success)
    }

    /// Whether the making of these containers was begun here, and has not come to its end. Somebody else may have made a
    /// cluster of that name long after one of ours was cut off.
    fn is_half_made(&self, cluster: &ClusterName, containers: &[Container]) -> bool {
        let begun = std::fs::metadata(self.memory.file(cluster, MAKING)).and_then(|metadata| metadata.modified());
        let begun = begun.ok().and_then(|time| Timestamp::try_from(time).ok());
        begun.is_some_and(|begun| {
            let is_of_it =
                |created: Timestamp| created.duration_since(begun).abs() < SignedDuration::from_mins(LONGEST);
            containers.iter().all(|container| container.created.is_none_or(is_of_it))
        })
    }

    /// Whether a cluster has what kind makes after its API server: all nodes ready, and a class of volumes.
    async fn is_whole(&self, cluster: &ClusterName, containers: &[Container]) -> bool {
        let nodes = containers.iter().filter(|container| container.is_node()).count();
        let wanted = self.memory.read(cluster, MAKING).unwrap_or_default().parse();
        let target = Target { kubeconfig: Some(self.kubeconfig(cluster)), context: None };
        let Ok(Connection { client, .. }) = target.connect().await else { return false };
        let (there, classes): (Api<Node>, Api<StorageClass>) = (Api::all(client.clone()), Api::all(client));
        let all = ListParams::default();
        let (Ok(there), Ok(classes)) = (there.list(&all).await, classes.list_metadata(&all).await) else {
            return false;
        };
        let ready = there.iter().filter(|node| is_ready(node)).count();
        ready == wanted.unwrap_or(nodes) && ready == nodes && !classes.items.is_empty()
    }

    /// What is gone of a cluster of which the rest is there. kind makes none of it anew.
    fn lost(&self, cluster: &ClusterName, containers: &[Container]) -> Option<String> {
        if !containers.iter().any(|container| container.name.contains(CONTROL_PLANE)) {
            return Some("it has lost its control plane".to_owned());
        }
        let mark = self.memory.read(cluster, MADE).unwrap_or_default();
        let is_there = |id: &&str| containers.iter().any(|container| container.id == *id);
        let (there, gone): (Vec<&str>, Vec<&str>) = mark.lines().partition(is_there);
        let is_part = !there.is_empty() && !gone.is_empty();
        is_part.then(|| format!("it has lost {} of its {} containers", gone.len(), there.len() + gone.len()))
    }

    /// Waits a while for a cluster to be whole.
    async fn comes_up(&self, cluster: &ClusterName, containers: &[Container]) -> bool {
        let whole = async {
            wait_until_ready(self.kubeconfig(cluster)).await?;
            while !self.is_whole(cluster, containers).await {
                tokio::time::sleep(POLL).await;
            }
            Ok::<_, Finding>(())
        };
        matches!(tokio::time::timeout(COMES_UP, whole).await, Ok(Ok(())))
    }

    /// Notes that what is there is a whole cluster of ours.
    async fn adopt(&self, cluster: &ClusterName) -> Result<(), Finding> {
        let containers = self.containers(cluster).await?;
        let mark: Vec<&str> = containers.iter().map(|container| container.id.as_str()).collect();
        self.memory.note(cluster, MADE, &mark.join("\n"))?;
        self.memory.forget(cluster, MAKING);
        Ok(())
    }

    async fn export(&self, cluster: &ClusterName) -> Result<(), Finding> {
        let text = self.kind.run(&["get", "kubeconfig", "--name", cluster.as_str()]).await?;
        self.memory.note(cluster, KUBECONFIG, &text)
    }

    /// Has docker do this with containers, one after the other.
    async fn power(&self, verb: &str, containers: &[Container], context: &Context) -> Result<(), Finding> {
        let names = containers.iter().map(|container| container.name.as_str());
        let arguments: Vec<&str> = [verb].into_iter().chain(names).collect();
        self.docker.act(&arguments, None, context).await.map(drop)
    }

    /// Containers in the order of the addresses that their cluster knows them by.
    ///
    /// The engine gives what starts the lowest address that is free, and certificates and etcd have the addresses of the
    /// first start in them. Node images put new ones in their place, but not all, and not where two nodes have changed
    /// places (kubernetes-sigs/kind 2045).
    async fn by_address(&self, containers: Vec<Container>) -> Result<Vec<Container>, Finding> {
        let mut found = Vec::new();
        for container in containers {
            // As a tar archive of one file; a container that is no node has none.
            let copied = self.docker.end_of(&["cp", &format!("{}:{FLAGS}", container.name), "-"], None).await?;
            found.push((node_address(&copied.stdout), container));
        }
        found.sort_by_key(|(address, _)| (address.is_none(), *address));
        Ok(found.into_iter().map(|(_, container)| container).collect())
    }

    /// Loads images as one archive into all nodes that have pods at the same time, or what a platform needs of them. (`kind load
    /// docker-image` does the same after it has asked every node for every image, twice, one after the other.)
    async fn load_archive(
        &self,
        cluster: &ClusterName,
        images: &[String],
        platform: Option<&str>,
        context: &Context,
    ) -> Result<(), Finding> {
        let scratch = self.memory.scratch(cluster, IMAGES)?;
        let path = scratch.file("images.tar").to_string_lossy().into_owned();
        let mut save = vec!["image", "save", "--output", &path];
        save.extend(platform.into_iter().flat_map(|platform| ["--platform", platform]));
        save.extend(images.iter().map(String::as_str));
        let hosts: Vec<String> = self.hosts(cluster).await?.into_iter().map(|host| host.name).collect();
        let hosts = hosts.join(",");
        let load = ["load", "image-archive", &path, "--name", cluster.as_str(), "--nodes", &hosts];
        let loaded = async {
            self.docker.act(&save, None, context).await?;
            self.kind.act(&load, None, context).await
        };
        let full = |finding| on_their_way(finding, &self.memory.file(cluster, IMAGES));
        loaded.await.map(drop).map_err(full)
    }

    /// Whether a node has the image of this name and identity.
    async fn is_on_node(&self, node: &Container, image: &str, id: &str) -> Result<bool, Finding> {
        let ended = self.docker.end_of(&["exec", &node.name, "crictl", "inspecti", image], None).await?;
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        Ok(ended.success && builtin::is_image(&answer["status"], id))
    }
}

/// Refuses another engine than Docker: what kind made there would be taken for absent, and never be deleted.
fn in_docker() -> Result<(), Finding> {
    let told = crate::caller::variable(ENGINE).unwrap_or_default();
    let Some(other) = OTHER_ENGINES.iter().find(|other| told.to_str() == Some(**other)) else { return Ok(()) };
    let cause = format!("{ENGINE} has kind use {other}, and clusters of kind are only looked for in Docker");
    Err(Finding::new(Id::ProviderUnsupported, cause).advise(format!("Unset {ENGINE}: kind takes Docker then.")))
}

/// The address that a kubelet is told by its flags.
fn node_address(flags: &str) -> Option<IpAddr> {
    let (_, rest) = flags.split_once("--node-ip=")?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit() && !matches!(c, '.' | ':')).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn is_other_platform(finding: &Finding) -> bool {
    tool::said(finding).any(|line| line.contains("content digest") && line.contains("not found"))
}

/// The column of a label, for docker.
pub fn column(label: &str) -> String {
    format!("{{{{.Label \"{label}\"}}}}")
}

fn container(line: &str) -> Option<Container> {
    let mut words = line.split_whitespace();
    let (id, name, state) = (words.next()?, words.next()?, words.next()?);
    let image = words.next().unwrap_or_default().to_owned();
    // 2030-01-31 12:00:00 +0000 UTC
    let created: Vec<&str> = words.by_ref().take(3).collect();
    let role = words.nth(1).unwrap_or_default().to_owned();
    let created = jiff::fmt::strtime::parse("%Y-%m-%d %H:%M:%S %z", created.join(" "));
    let created = created.and_then(|time| time.to_timestamp()).ok();
    Some(Container { id: id.to_owned(), name: name.to_owned(), running: state == "running", image, created, role })
}

/// Whether a node's role keeps the pods of others away, as `node-role.kubernetes.io/control-plane:NoSchedule` does. What passes,
/// such as a node that is not ready yet, has other keys.
fn is_kept_free(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|taint| taint.key.starts_with("node-role.kubernetes.io/") && taint.effect != "PreferNoSchedule")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The causes that people meet, out of what kind prints with 300 lines of kubeadm around them.
fn explained(finding: Finding) -> Finding {
    let said = finding.evidence.iter().flat_map(|evidence| &evidence.lines).cloned().collect::<Vec<_>>().join(" ");
    let (id, cause, advice) = if said.contains("already exist for a cluster") {
        let cause = "the name is taken by another kind cluster";
        (Id::ClusterExists, cause, "Choose another name with -c, or delete that cluster.")
    } else if said.contains("too many open files") {
        let cause = "the nodes ran out of inotify instances";
        (Id::Inotify, cause, "Raise the limit: sysctl fs.inotify.max_user_instances=512")
    } else if said.contains(NO_SPACE) {
        (Id::TooLittleDisk, "the disk of the Docker engine is full", "Make room: docker system prune")
    } else if said.contains("failed to pull image") {
        let cause = "the node image cannot be pulled";
        (Id::ImagePull, cause, "Name one that is there with --node-image, or check the network.")
    } else {
        return finding;
    };
    let evidence = finding.evidence;
    Finding { evidence, ..Finding::new(id, cause).advise(advice) }
}

/// Why images did not get to the nodes: besides what others meet, the disk may be full where they are on their way.
fn on_their_way(finding: Finding, directory: &Path) -> Finding {
    let directory = directory.display().to_string();
    let mut said = finding.evidence.iter().flat_map(|evidence| &evidence.lines);
    if !said.any(|line| line.contains(NO_SPACE) && line.contains(&directory)) {
        return explained(finding);
    }
    let cause = format!("the disk of {directory} is full, where images are on their way to the nodes");
    let (evidence, advice) = (finding.evidence, "Make room there: they take as much as in the engine.");
    Finding { evidence, ..Finding::new(Id::DiskFull, cause).advise(advice) }
}

#[async_trait]
impl Provider for Kind {
    fn name(&self) -> Name {
        Name::Kind
    }

    fn context(&self, cluster: &ClusterName) -> String {
        format!("kind-{cluster}")
    }

    async fn state(&self, cluster: &ClusterName) -> Result<State, Finding> {
        let containers = self.containers(cluster).await?;
        if containers.is_empty() {
            return Ok(State::Absent);
        }
        if let Some(container) = containers.iter().find(|container| !container.running) {
            let why = format!("its node {} does not run", container.name);
            let runs = containers.iter().any(|container| container.running);
            return Ok(if runs { State::Unready { why } } else { State::Stopped { why } });
        }
        if self.is_half_made(cluster, &containers) {
            return Ok(State::Unready { why: "it was made half".to_owned() });
        }
        if let Some(why) = self.lost(cluster, &containers) {
            return Ok(State::Unready { why });
        }
        Ok(super::state_by(self.kubeconfig(cluster)).await)
    }

    async fn check(&self, context: &Context) -> Result<(), Finding> {
        tool::require(&self.kind, &self.kind.run(&["version"]).await?, OLDEST)?;
        let engine = docker::engine(&self.docker).await?;
        if self.options.no_precheck {
            return Ok(());
        }
        docker::precheck(&self.docker, &engine, self.configuration().nodes(), context).await
    }

    async fn made(&self, cluster: &ClusterName) -> Result<bool, Finding> {
        let containers = self.containers(cluster).await?;
        let mark = self.memory.read(cluster, MADE).unwrap_or_default();
        let is_of_ours = |container: &Container| mark.lines().any(|id| id == container.id);
        Ok(containers.iter().all(is_of_ours) || self.is_half_made(cluster, &containers))
    }

    async fn create(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        // What somebody else is making looks as if it had been made half, and would be made anew.
        let _turn = self.memory.take_turn(cluster, || context.progress("another command is making it")).await?;
        let mut containers = self.containers(cluster).await?;
        if !containers.is_empty() && self.is_half_made(cluster, &containers) {
            context.progress("its making was cut off; looking whether it comes up");
            if self.export(cluster).await.is_ok() && self.comes_up(cluster, &containers).await {
                self.adopt(cluster).await?;
            } else {
                context.note(format!("The cluster {cluster} was made half: it is made anew."));
                self.unmake(cluster, context).await?;
                containers.clear();
            }
        }
        if !containers.is_empty() {
            return self.start(cluster, context).await;
        }
        self.make(cluster, context).await?;
        wait_until_ready(self.kubeconfig(cluster)).await
    }

    async fn start(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        let containers = self.containers(cluster).await?;
        if containers.is_empty() {
            return Err(no_cluster(Name::Kind, cluster));
        }
        if let Some(lost) = self.lost(cluster, &containers) {
            let cause = format!("the kind cluster {cluster} is half deleted: {lost}");
            let advice = format!("Delete the rest of it: a9s delete cluster a8s -p kind -c {cluster}");
            return Err(Finding::new(Id::HalfDeleted, cause).advise(advice));
        }
        if containers.iter().any(|container| !container.running) {
            let in_order = self.by_address(containers.clone()).await?;
            self.power("start", &in_order, context).await?;
        }
        context.progress("waiting for its API server");
        if !self.is_half_made(cluster, &containers) {
            self.export(cluster).await?;
            return wait_until_ready(self.kubeconfig(cluster)).await;
        }
        if self.export(cluster).await.is_err() || !self.comes_up(cluster, &containers).await {
            let cause = format!("the making of the kind cluster {cluster} was cut off, and not all of it is there");
            let advice = format!("Have it made to its end: a9s create cluster a8s -p kind -c {cluster}");
            return Err(Finding::new(Id::HalfDeleted, cause).advise(advice));
        }
        self.adopt(cluster).await
    }

    async fn stop(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        let containers = self.containers(cluster).await?;
        if containers.is_empty() {
            return Err(no_cluster(Name::Kind, cluster));
        }
        self.power("stop", &containers, context).await
    }

    async fn delete(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        self.unmake(cluster, context).await?;
        self.memory.forget_all(cluster)
    }

    async fn list(&self) -> Result<Vec<ClusterName>, Finding> {
        let filter = format!("label={LABEL}");
        let text = self.ask(&["ps", "--all", "--filter", &filter, "--format", &column(LABEL)]).await?;
        let names: std::collections::BTreeSet<&str> = text.lines().map(str::trim).collect();
        Ok(names.into_iter().filter_map(|name| name.parse().ok()).collect())
    }

    async fn loaded(&self, cluster: &ClusterName, images: &[String]) -> Result<bool, Finding> {
        let hosts = self.hosts(cluster).await?;
        if hosts.is_empty() {
            return Err(no_cluster(Name::Kind, cluster));
        }
        let everywhere = images.iter().map(async |image| {
            let here = builtin::id(&self.docker, image).await?;
            let answers = hosts.iter().map(|host| self.is_on_node(host, image, &here));
            Ok::<_, Finding>(!try_join_all(answers).await?.contains(&false))
        });
        Ok(!try_join_all(everywhere).await?.contains(&false))
    }

    async fn load(&self, cluster: &ClusterName, images: &[String], context: &Context) -> Result<(), Finding> {
        let platform = match std::env::consts::ARCH {
            "x86_64" => "linux/amd64",
            _ => "linux/arm64",
        };
        match self.load_archive(cluster, images, None, context).await {
            // kind asks for all platforms of an image. Docker has only this machine's, where it keeps images in containerd
            // (kubernetes-sigs/kind 3795).
            Err(finding) if is_other_platform(&finding) => {
                self.load_archive(cluster, images, Some(platform), context).await
            }
            loaded => loaded,
        }
    }

    fn kubeconfig(&self, cluster: &ClusterName) -> PathBuf {
        self.memory.file(cluster, KUBECONFIG)
    }

    fn introduced(&self, cluster: &ClusterName) -> PathBuf {
        self.memory.file(cluster, INTRODUCED)
    }

    async fn builtin_stack(&self, _cluster: &ClusterName) -> Result<manifests::Options, Finding> {
        tool::all_there(&[&self.kind, &self.docker])?;
        builtin::options(&self.ask(&builtin::LISTING).await?)
    }

    async fn remarks(&self, cluster: &ClusterName) -> Vec<String> {
        let nodes = self.nodes(cluster).await.unwrap_or_default();
        let has_other = self.options.kind_config.is_some()
            && self.memory.read(cluster, CONFIGURATION) != Some(self.configuration().text());
        let other =
            has_other.then(|| format!("The cluster {cluster} was made with another configuration and keeps it."));
        remarks(cluster, &nodes, &self.options).into_iter().chain(other).collect()
    }
}

/// What is wanted of a cluster that is there and has it otherwise: it stays as it is.
fn remarks(cluster: &ClusterName, nodes: &[Container], wanted: &Options) -> Vec<String> {
    let number = wanted.nodes.filter(|wanted| usize::from(*wanted) != nodes.len());
    let number = number
        .map(|wanted| format!("The cluster {cluster} has {} nodes and keeps them; {wanted} were wanted.", nodes.len()));
    let image = wanted.node_image.as_ref();
    let other = image.and_then(|wanted| Some((wanted, nodes.iter().find(|node| node.image != *wanted)?)));
    let image = other.map(|(wanted, node)| {
        format!("The nodes of {cluster} have the image {} and keep it; {wanted} was wanted.", node.image)
    });
    number.into_iter().chain(image).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use a8s_operators::object_store::manifests::VERSIONED;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::caller::{Caller, instead};
    use crate::kubernetes::tests::kubeconfig;
    use crate::manifest::fetch::tests::{answer, server};
    use crate::step::alone;
    use crate::steps::cluster::{Cluster, Wanted};

    const NODE: &str = "0123456789ab demo-control-plane running kindest/node:v1";
    const BALANCED: &str = "0123456789ab demo-control-plane running kindest/node:v1 - - - - control-plane\n\
         0123456789cd demo-external-load-balancer running kindest/haproxy:v1 - - - - external-load-balancer";

    const WITH_WORKER: &str = "0123456789ab demo-control-plane running kindest/node:v1 - - - - control-plane\n\
         0123456789cd demo-worker running kindest/node:v1 - - - - worker\n";

    /// A cluster `demo` whose node runs, as kind and docker tell it.
    fn recorded(directory: &Path) -> Kind {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kind");
        let mut kind = Kind::new(&directory.join("state"), Options::default());
        kind.kind = kind.kind.at(&script).with("RECORDED_STATE", directory.as_os_str());
        kind.docker = kind.docker.at(&script).with("RECORDED_STATE", directory.as_os_str());
        kind
    }

    /// What the API server answers of a cluster whose nodes are ready: that it is, its nodes, its classes of volumes, that it is.
    fn whole(nodes: &[&str]) -> Vec<Vec<u8>> {
        let ok = || answer("200 OK", "content-type: text/plain\r\n", b"ok");
        let list = |kind: &str, items: Vec<Value>| {
            let list = json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items});
            answer("200 OK", "content-type: application/json\r\n", list.to_string().as_bytes())
        };
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let node = |name: &&str| json!({"metadata": {"name": name}, "status": ready});
        let nodes = list("NodeList", nodes.iter().map(node).collect());
        let classes = list("PartialObjectMetadataList", vec![json!({"metadata": {"name": "standard"}})]);
        [ok(), nodes, classes].into_iter().chain((0..6).map(|_| ok())).collect()
    }

    #[rstest]
    #[tokio::test]
    async fn a_cluster_whose_making_was_cut_off_is_gone_on_with(
        #[values(Wanted::Created, Wanted::Started)] wanted: Wanted,
        #[values(NODE, BALANCED)] containers: &str,
    ) {
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join("containers"), containers).unwrap();
        let (url, _asked) = server(whole(&["demo-control-plane"])).await;
        fs_err::write(directory.path().join("kubeconfig"), kubeconfig("demo", &url)).unwrap();
        let (kind, name) = (recorded(directory.path()), "demo".parse::<ClusterName>().unwrap());
        assert!(!kind.made(&name).await.unwrap(), "nothing says that it is ours");
        kind.memory.note(&name, MAKING, "1").unwrap();
        assert_eq!(kind.state(&name).await.unwrap(), State::Unready { why: "it was made half".to_owned() });
        assert!(kind.made(&name).await.unwrap(), "its making was begun here");
        let step = Cluster { provider: Arc::new(kind.clone()), name: name.clone(), wanted };
        assert!(alone(step, Duration::from_secs(20)).await.unwrap().changed());
        assert!(kind.made(&name).await.unwrap() && !kind.memory.file(&name, MAKING).exists());
        let asked = fs_err::read_to_string(directory.path().join("asked")).unwrap();
        assert!(!asked.contains("delete") && !asked.contains("create"), "{asked}");
    }

    #[tokio::test]
    async fn images_are_loaded_into_the_nodes_that_have_pods() {
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join("containers"), WITH_WORKER).unwrap();
        let taint = |key: &str| json!({"taints": [{"key": key, "effect": "NoSchedule"}]});
        let (master, not_ready) = (taint("node-role.kubernetes.io/master"), taint("node.kubernetes.io/not-ready"));
        let nodes = json!({"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": [
            {"metadata": {"name": "demo-control-plane"}, "spec": master},
            {"metadata": {"name": "demo-worker"}, "spec": not_ready},
        ]});
        let nodes = answer("200 OK", "content-type: application/json\r\n", nodes.to_string().as_bytes());
        let (url, _asked) = server(vec![nodes]).await;
        let (kind, name) = (recorded(directory.path()), "demo".parse::<ClusterName>().unwrap());
        let hosts = |hosts: Vec<Container>| hosts.into_iter().map(|host| host.name).collect::<Vec<_>>();
        assert_eq!(hosts(kind.hosts(&name).await.unwrap()), ["demo-worker"], "by its role");
        kind.memory.note(&name, KUBECONFIG, &kubeconfig("demo", &url)).unwrap();
        assert_eq!(hosts(kind.hosts(&name).await.unwrap()), ["demo-worker"]);
    }

    #[rstest]
    #[tokio::test]
    async fn images_are_brought_to_nodes_that_are_being_made(#[values(true, false)] are_taken: bool) {
        let directory = tempfile::tempdir().unwrap();
        let (url, _asked) = server(whole(&["demo-control-plane", "demo-worker"])).await;
        fs_err::write(directory.path().join("containers"), "").unwrap();
        fs_err::write(directory.path().join("makes"), WITH_WORKER).unwrap();
        fs_err::write(directory.path().join("kubeconfig"), kubeconfig("demo", &url)).unwrap();
        let images =
            format!("{}\n{VERSIONED}\na9s/postgresql:15\na9s/operators:0.0.1\nbusybox:1\n", builtin::operators());
        fs_err::write(directory.path().join("images"), images).unwrap();
        if are_taken {
            fs_err::write(directory.path().join("takes-images"), "").unwrap();
        }
        let (mut kind, name) = (recorded(directory.path()), "demo".parse::<ClusterName>().unwrap());
        kind.options = Options { nodes: Some(2), stack_images: true, ..Options::default() };
        let step = Cluster { provider: Arc::new(kind), name, wanted: Wanted::Created };
        assert!(alone(step, Duration::from_secs(20)).await.unwrap().changed());
        let asked = fs_err::read_to_string(directory.path().join("asked")).unwrap();
        let at = |what: &str| asked.lines().position(|line| line.starts_with(what));
        let saved = asked.lines().find(|line| line.starts_with("image save ")).unwrap();
        assert!(saved.ends_with(&format!("{} {VERSIONED} a9s/postgresql:15", builtin::operators())), "{saved}");
        let loaded = asked.lines().find(|line| line.starts_with("load image-archive ")).unwrap();
        assert!(loaded.ends_with(" --nodes demo-worker"), "{loaded}");
        assert!(at("load image-archive ") < at("made"), "{asked}");
    }

    #[tokio::test]
    async fn images_that_do_not_get_to_nodes_are_what_is_waited_for_when_those_are_made() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs_err::write(directory.path().join(name), text).unwrap();
        write("containers", "");
        write("makes", WITH_WORKER);
        write("kubeconfig", "");
        write("images", &builtin::operators());
        write("keeps-images", "");
        let (mut kind, name) = (recorded(directory.path()), "demo".parse::<ClusterName>().unwrap());
        kind.options = Options { nodes: Some(2), stack_images: true, ..Options::default() };
        let step = Cluster { provider: Arc::new(kind), name, wanted: Wanted::Created };
        let finding = alone(step, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(finding.id, Id::Deadline);
        assert!(finding.cause.ends_with(" s images are brought to its nodes"), "{finding}");
    }

    #[rstest]
    #[case("podman", true)]
    #[case("nerdctl", true)]
    #[case("docker", false)]
    #[case("", false)]
    fn where_kind_is_told_to_use_another_engine_docker_is_not_asked(#[case] engine: &str, #[case] is_refused: bool) {
        let directory = tempfile::tempdir().unwrap();
        let kind = recorded(directory.path());
        let caller = Caller { variables: vec![(ENGINE.into(), engine.into())], ..Caller::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (listed, _) = instead(caller, || runtime.block_on(kind.list()));
        assert_eq!(listed.err().map(|finding| finding.id), is_refused.then_some(Id::ProviderUnsupported));
        assert_eq!(directory.path().join("asked").exists(), !is_refused);
    }

    #[tokio::test]
    async fn a_cluster_that_another_command_is_making_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (kind, name) = (recorded(directory.path()), "demo".parse::<ClusterName>().unwrap());
        kind.memory.note(&name, MAKING, "1").unwrap();
        let turn = kind.memory.take_turn(&name, || ()).await.unwrap();
        let step = Cluster { provider: Arc::new(kind), name, wanted: Wanted::Created };
        let finding = alone(step, Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(finding.id, Id::Deadline);
        assert!(turn.is_some() && finding.cause.ends_with(" s another command is making it"), "{finding}");
    }

    #[tokio::test]
    async fn a_cluster_that_runs_and_that_others_have_made_is_not_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let state = recorded(directory.path()).state(&"demo".parse().unwrap()).await.unwrap();
        assert_eq!(state, State::Unready { why: "its kubeconfig is not here yet".to_owned() });
    }

    #[tokio::test]
    async fn a_cluster_of_ours_that_has_lost_a_node_is_half_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let (kind, name) = (recorded(directory.path()), "demo".parse::<ClusterName>().unwrap());
        kind.memory.note(&name, MADE, "0123456789ab\n0123456789cd").unwrap();
        assert!(kind.made(&name).await.unwrap(), "the rest of it is ours");
        let why = "it has lost 1 of its 2 containers".to_owned();
        assert_eq!(kind.state(&name).await.unwrap(), State::Unready { why });
        let step = Cluster { provider: Arc::new(kind), name, wanted: Wanted::Created };
        let finding = alone(step, Duration::from_secs(20)).await.unwrap_err();
        assert_eq!(finding.id, Id::HalfDeleted, "{finding}");
    }

    #[tokio::test]
    async fn a_cluster_none_of_whose_nodes_is_ours_was_made_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let (kind, name) = (recorded(directory.path()), "demo".parse::<ClusterName>().unwrap());
        kind.memory.note(&name, MADE, "0123456789cd\n0123456789ef").unwrap();
        assert!(!kind.made(&name).await.unwrap());
        let why = "its kubeconfig is not here yet".to_owned();
        assert_eq!(kind.state(&name).await.unwrap(), State::Unready { why });
    }

    #[tokio::test]
    async fn nodes_start_in_the_order_of_the_addresses_they_had() {
        let directory = tempfile::tempdir().unwrap();
        let (kind, name) = (recorded(directory.path()), "demo".parse::<ClusterName>().unwrap());
        let containers =
            ["1a demo-control-plane exited", "2b demo-external-load-balancer exited", "3c demo-worker exited"];
        fs_err::write(directory.path().join("containers"), containers.join("\n")).unwrap();
        let flags = |node: &str, address: &str| {
            let text = format!("kubeadm-flags.env\0\0KUBELET_KUBEADM_ARGS=\"--node-ip={address} --node-labels=\"\n\0");
            fs_err::write(directory.path().join(node), text).unwrap();
        };
        flags("demo-control-plane", "172.18.0.10");
        flags("demo-worker", "172.18.0.9,fc00::9");
        let found = kind.by_address(kind.containers(&name).await.unwrap()).await.unwrap();
        let names: Vec<&str> = found.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["demo-worker", "demo-control-plane", "demo-external-load-balancer"]);
    }

    #[test]
    fn a_node_that_is_paused_or_exited_does_not_run() {
        assert!(container("1f a8s-control-plane running").unwrap().running);
        assert!(!container("1f a8s-control-plane exited").unwrap().running);
        assert_eq!(container(""), None);
    }

    #[test]
    fn what_balances_the_load_of_several_control_planes_is_no_node() {
        let of_role = |role: &str| {
            container(&format!("1f a8s-{role} running kindest/x:v1 2030-01-31 12:00:00 +0000 UTC {role}")).unwrap()
        };
        assert!(of_role("control-plane").is_node() && of_role("control-plane").created.is_some());
        assert!(!of_role(LOAD_BALANCER).is_node());
    }

    #[test]
    fn a_cluster_that_is_there_keeps_its_nodes_and_it_is_said() {
        let (cluster, nodes) =
            ("a8s".parse().unwrap(), [container("1f a8s-control-plane running kindest/node:v1").unwrap()]);
        assert_eq!(remarks(&cluster, &nodes, &Options::default()), Vec::<String>::new());
        let image = |image: &str| Options { nodes: Some(1), node_image: Some(image.to_owned()), ..Options::default() };
        assert_eq!(remarks(&cluster, &nodes, &image("kindest/node:v1")), Vec::<String>::new());
        let three = Options { nodes: Some(3), ..image("kindest/node:v2") };
        assert_eq!(remarks(&cluster, &nodes, &three).len(), 2);
    }

    #[test]
    fn what_kind_says_in_hundreds_of_lines_has_one_cause() {
        let failed = |line: &str| Finding::new(Id::ToolFailed, "kind").with("stderr", [line]);
        let taken = explained(failed("ERROR: node(s) already exist for a cluster with the name \"a8s\""));
        assert_eq!(taken.id, Id::ClusterExists);
        assert!(!taken.evidence.is_empty());
        assert_eq!(explained(failed("something new")).id, Id::ToolFailed);
    }
}
