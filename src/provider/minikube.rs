//! minikube, driven by its own program.
//!
//! It is asked for JSON and believed by its exit status. Its kubeconfig goes to a file of ours, with certificates
//! embedded; the context is called as the profile is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use a8s_operators::manifests;
use async_trait::async_trait;
use serde_json::Value;

use super::docker::{self, docker};
use super::memory::{INTRODUCED, KUBECONFIG, MADE, MAKING, Memory};
use super::tool::{self, Tool};
use super::{ClusterName, Name, Options, Provider, State, builtin, no_cluster, stopped, wait_until_ready};
use crate::finding::{Finding, Id};
use crate::step::Context;

/// What it says of a profile that does not run.
const STOPPED: &str = "Stopped";
/// The oldest minikube that knows all the flags.
const OLDEST: (u32, u32, u32) = (1, 30, 0);
const MEMORY: &str = "4gb";
/// Within this time of its mark, the making of a cluster has its first machine: much may have to be fetched before.
const LONGEST: Duration = Duration::from_secs(3600);

/// The provider.
#[derive(Debug, Clone)]
pub struct Minikube {
    minikube: Tool,
    docker: Tool,
    memory: Memory,
    options: Options,
}

/// A profile, as minikube lists it.
#[derive(Debug, PartialEq, Eq)]
struct Profile {
    name: String,
    status: String,
    /// How many nodes it has; not known as long as it has no configuration.
    nodes: Option<usize>,
}

impl Minikube {
    /// The profiles of the user; what is known of them lies below `state`.
    pub fn new(state: &Path, options: Options) -> Self {
        let minikube = Tool::new("minikube", "https://minikube.sigs.k8s.io/docs/start");
        Self { minikube, docker: docker(), memory: Memory::new(state, Name::Minikube), options }
    }

    /// minikube with its kubeconfig in our file.
    fn tool(&self, cluster: &ClusterName) -> Tool {
        self.minikube.clone().with("KUBECONFIG", self.kubeconfig(cluster).as_os_str())
    }

    async fn profiles(&self) -> Result<Vec<Profile>, Finding> {
        let arguments = ["profile", "list", "--output", "json"];
        let ended = self.minikube.end_of(&arguments, None).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        // Before there ever was a profile, this is an error with exit status 14 or so.
        if !ended.success && said.contains("No minikube profile") {
            return Ok(Vec::new());
        }
        if !ended.success {
            return Err(self.minikube.failed(&arguments, &ended));
        }
        profiles(&ended.stdout).ok_or_else(|| no_json("profile list", &ended.stdout))
    }

    /// The images that its nodes have.
    async fn images(&self, cluster: &ClusterName) -> Result<Vec<Value>, Finding> {
        let arguments = ["image", "ls", "--format", "json", "--profile", cluster.as_str()];
        let answer = self.tool(cluster).run(&arguments).await?;
        // Without any image, it says null.
        let images: Option<Vec<Value>> = serde_json::from_str(&answer).map_err(|_| no_json("image ls", &answer))?;
        Ok(images.unwrap_or_default())
    }

    async fn profile(&self, cluster: &ClusterName) -> Result<Option<Profile>, Finding> {
        Ok(self.profiles().await?.into_iter().find(|profile| profile.name == cluster.as_str()))
    }

    /// What the nodes are to run on, where the user has said it: minikube chooses otherwise.
    async fn driver(&self) -> Option<String> {
        let of_user = crate::caller::given("MINIKUBE_DRIVER").and_then(|driver| driver.into_string().ok());
        match of_user {
            Some(driver) => Some(driver),
            // A key that is not set is an error of this command.
            None => self.minikube.run(&["config", "get", "driver"]).await.ok().map(|said| said.trim().to_owned()),
        }
    }

    /// The public key of its first machine. minikube makes one with the machine, and removes it with that; the
    /// authority of certificates is the same for all its clusters.
    async fn key(&self, cluster: &ClusterName) -> Option<PathBuf> {
        let private = self.minikube.run(&["ssh-key", "--profile", cluster.as_str()]).await.ok()?;
        Some(PathBuf::from(format!("{}.pub", private.trim())))
    }

    /// What no other cluster has, even of the same name; empty where a driver makes no machines.
    async fn identity(&self, cluster: &ClusterName) -> String {
        let key = self.key(cluster).await;
        key.and_then(|key| std::fs::read_to_string(key).ok()).unwrap_or_default()
    }

    /// How many nodes a cluster is to have whose making was begun here, and has not come to its end. Somebody else may
    /// have made a cluster of that name long after one of ours was cut off.
    async fn half_made(&self, cluster: &ClusterName) -> Option<usize> {
        let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let begun = modified(&self.memory.file(cluster, MAKING))?;
        let key = self.key(cluster).await;
        let after = key.and_then(|key| modified(&key)?.duration_since(begun).ok());
        if after.is_some_and(|after| after > LONGEST) {
            return None;
        }
        self.memory.read(cluster, MAKING)?.parse().ok()
    }

    /// Whether the cluster that is there was made here, or its making was begun here.
    async fn is_made_here(&self, cluster: &ClusterName) -> bool {
        self.is_marked(cluster).await || self.half_made(cluster).await.is_some()
    }

    /// Whether the cluster that is there is the one that was made here to its end.
    async fn is_marked(&self, cluster: &ClusterName) -> bool {
        let mark = self.memory.read(cluster, MADE);
        mark.is_some() && mark == Some(self.identity(cluster).await)
    }

    /// Notes that what is there is a whole cluster of ours.
    async fn adopt(&self, cluster: &ClusterName) -> Result<(), Finding> {
        self.memory.note(cluster, MADE, &self.identity(cluster).await)?;
        self.memory.forget(cluster, MAKING);
        Ok(())
    }

    /// Looks whether nodes have got images: `minikube image load` ends with success also where it has reached none.
    /// What is named by a digest is not listed by it.
    async fn have_arrived(&self, cluster: &ClusterName, images: &[String]) -> Result<(), Finding> {
        let listed = self.images(cluster).await?;
        let is_there = |image: &str| image.contains('@') || listed.iter().any(|listed| is_called(listed, image));
        match images.iter().find(|image| !is_there(image.as_str())) {
            Some(image) => {
                let cause = format!("minikube image load has ended with success, and no node has the image {image}");
                Err(Finding::new(Id::ToolFailed, cause))
            }
            None => Ok(()),
        }
    }

    /// Starts the cluster, and makes it unless it has `there` nodes: those it keeps, and their memory. Where its making
    /// was cut off, it gets those that it lacks.
    async fn up(&self, cluster: &ClusterName, there: Option<usize>, context: &Context) -> Result<(), Finding> {
        self.memory.prepare(cluster)?;
        let half_made = self.half_made(cluster).await;
        let is_ours = half_made.is_some() || self.is_marked(cluster).await;
        let wanted = half_made.or(there).unwrap_or_else(|| usize::from(self.options.wanted_nodes()));
        let nodes = wanted.to_string();
        let memory = self.options.memory.as_deref().unwrap_or(MEMORY);
        let mut arguments = vec!["start", "--profile", cluster.as_str()];
        if there.is_none() {
            arguments.extend(["--nodes", &nodes, "--memory", memory]);
        }
        arguments.extend(["--embed-certs", "--interactive=false"]);
        if let Some(image) = &self.options.node_image {
            arguments.extend(["--base-image", image]);
        }
        let minikube = self.tool(cluster);
        if let Err(finding) = minikube.act(&arguments, None, context).await {
            // What has left no profile was not made half.
            if self.profile(cluster).await.is_ok_and(|profile| profile.is_none()) {
                self.memory.forget(cluster, MAKING);
            }
            return Err(explained(finding));
        }
        // `start` adds none to those that a profile has.
        for _ in there.unwrap_or(wanted)..wanted {
            // Unless memory is named, the second node gets less than the first (`cmd/minikube/cmd/node_add.go`).
            let minikube = minikube.clone().with("MINIKUBE_MEMORY", OsStr::new(memory));
            minikube.act(&["node", "add", "--profile", cluster.as_str()], None, context).await?;
        }
        if wanted > 1 {
            // minikube's own makes the directory of a volume on the first node only: on others nobody but root may write there
            // (kubernetes/minikube 11765, 12165).
            let arguments = ["addons", "enable", "storage-provisioner-rancher", "--profile", cluster.as_str()];
            minikube.act(&arguments, None, context).await?;
        }
        // Its machine may be another now: one that is gone is made anew.
        if is_ours {
            self.adopt(cluster).await?;
        }
        context.progress("waiting for its API server");
        wait_until_ready(self.kubeconfig(cluster)).await
    }
}

/// The causes that people meet, by the reasons that minikube gives (k8s.io/minikube `pkg/minikube/reason`).
fn explained(finding: Finding) -> Finding {
    let said = tool::said(&finding)
        .filter_map(|line| line.split_once("Exiting due to "))
        .map(|(_, rest)| rest.to_owned())
        .next();
    let Some(rest) = said else { return finding };
    let reason = rest.split([':', ' ']).next().unwrap_or_default();
    let (id, advice) = match reason {
        _ if reason.contains("STORAGE") => (Id::TooLittleDisk, "Make room, for example with: docker system prune"),
        _ if reason.contains("MEM") || (reason == "MK_USAGE" && rest.contains(" memory")) => {
            (Id::TooLittleMemory, "Give it less with --cluster-memory, or the driver more.")
        }
        _ if reason.starts_with("PROVIDER_") || reason.starts_with("DRV_") => {
            (Id::ToolUnusable, "minikube needs a driver that works here: https://minikube.sigs.k8s.io/docs/drivers")
        }
        _ if reason.contains("IMAGE") || reason.starts_with("INET_") => {
            (Id::ImagePull, "Name an image that is there with --node-image, or check the network.")
        }
        _ => return finding,
    };
    let cause = format!("minikube cannot start: {}", rest.trim());
    Finding { evidence: finding.evidence, ..Finding::new(id, cause).advise(advice) }
}

fn profiles(json: &str) -> Option<Vec<Profile>> {
    let answer: Value = serde_json::from_str(json).ok()?;
    let profile = |value: &Value| {
        Some(Profile {
            name: value["Name"].as_str()?.to_owned(),
            status: value["Status"].as_str().unwrap_or("unknown").to_owned(),
            nodes: value["Config"]["Nodes"].as_array().map(Vec::len),
        })
    };
    let lists = [answer.get("valid")?, answer.get("invalid").unwrap_or(&Value::Null)];
    Some(lists.into_iter().filter_map(Value::as_array).flatten().filter_map(profile).collect())
}

fn no_json(command: &str, answer: &str) -> Finding {
    let cause = format!("minikube {command} does not answer with the JSON it should");
    Finding::new(Id::ToolFailed, cause).with("its answer", answer.lines().take(5))
}

/// Whether an image that minikube lists is called so.
fn is_called(listed: &Value, name: &str) -> bool {
    let mut tags = listed["repoTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    tags.any(|tag| short(tag) == short(name))
}

/// The name of an image as a person may write it: without what is meant where no registry is named, and with its tag.
fn short(name: &str) -> String {
    let short = name.trim_start_matches("docker.io/").trim_start_matches("library/");
    let has_tag = short.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { short.to_owned() } else { format!("{short}:latest") }
}

/// Whether an image that minikube lists is this one: its name alone may be that of an older build.
fn is_image(listed: &Value, name: &str, id: &str) -> bool {
    is_called(listed, name) && builtin::is_image(listed, id)
}

#[async_trait]
impl Provider for Minikube {
    fn name(&self) -> Name {
        Name::Minikube
    }

    fn context(&self, cluster: &ClusterName) -> String {
        cluster.to_string()
    }

    async fn state(&self, cluster: &ClusterName) -> Result<State, Finding> {
        let Some(Profile { status, .. }) = self.profile(cluster).await? else { return Ok(State::Absent) };
        // "OK" is what it says of a profile with several nodes.
        if status != "Running" && status != "OK" {
            let why = format!("minikube says {status}");
            return Ok(if status == STOPPED { State::Stopped { why } } else { State::Unready { why } });
        }
        if self.half_made(cluster).await.is_some() {
            return Ok(State::Unready { why: "it was made half".to_owned() });
        }
        Ok(super::state_by(self.kubeconfig(cluster)).await)
    }

    /// Docker is what minikube takes first where it answers. Other drivers have machines of their own, which minikube checks.
    async fn check(&self, context: &Context) -> Result<(), Finding> {
        tool::require(&self.minikube, &self.minikube.run(&["version", "--short"]).await?, OLDEST)?;
        if self.options.no_precheck {
            return Ok(());
        }
        let engine = match self.driver().await.as_deref() {
            Some("docker") => docker::engine(&self.docker).await?,
            Some(_) => return Ok(()),
            None => match docker::engine(&self.docker).await {
                Ok(engine) => engine,
                Err(_) => return Ok(()),
            },
        };
        docker::precheck(&self.docker, &engine, self.options.wanted_nodes(), context).await
    }

    async fn made(&self, cluster: &ClusterName) -> Result<bool, Finding> {
        Ok(self.profile(cluster).await?.is_none() || self.is_made_here(cluster).await)
    }

    async fn create(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        let profile = self.profile(cluster).await?;
        if profile.is_none() {
            // What is noted is of a former cluster of this name.
            for name in [INTRODUCED, KUBECONFIG, MADE] {
                self.memory.forget(cluster, name);
            }
            // What is cut off from here on is ours, and gone on with.
            self.memory.note(cluster, MAKING, &self.options.wanted_nodes().to_string())?;
        }
        // `minikube start` goes on with what was made half, and starts what is stopped.
        self.up(cluster, profile.and_then(|profile| profile.nodes), context).await
    }

    async fn start(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        match self.profile(cluster).await? {
            None => Err(no_cluster(Name::Minikube, cluster)),
            Some(profile) => self.up(cluster, profile.nodes, context).await,
        }
    }

    async fn stop(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        // Otherwise it takes the context out of our kubeconfig, by which we would know it in the user's.
        let arguments = ["stop", "--keep-context-active", "--profile", cluster.as_str()];
        self.tool(cluster).act(&arguments, None, context).await.map(drop)
    }

    async fn delete(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding> {
        self.tool(cluster).act(&["delete", "--profile", cluster.as_str()], None, context).await?;
        self.memory.forget_all(cluster)
    }

    async fn list(&self) -> Result<Vec<ClusterName>, Finding> {
        Ok(self.profiles().await?.into_iter().filter_map(|profile| profile.name.parse().ok()).collect())
    }

    async fn loaded(&self, cluster: &ClusterName, images: &[String]) -> Result<bool, Finding> {
        match self.profile(cluster).await? {
            None => return Err(no_cluster(Name::Minikube, cluster)),
            // minikube loads images into no node with success.
            Some(profile) if profile.status == STOPPED => return Err(stopped(Name::Minikube, cluster)),
            Some(_) => {}
        }
        let listed = self.images(cluster).await?;
        for image in images {
            let here = builtin::id(&self.docker, image).await?;
            if !listed.iter().any(|listed| is_image(listed, image, &here)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn load(&self, cluster: &ClusterName, images: &[String], context: &Context) -> Result<(), Finding> {
        for image in images {
            self.tool(cluster).act(&["image", "load", image, "--profile", cluster.as_str()], None, context).await?;
        }
        self.have_arrived(cluster, images).await
    }

    fn kubeconfig(&self, cluster: &ClusterName) -> PathBuf {
        self.memory.file(cluster, KUBECONFIG)
    }

    fn introduced(&self, cluster: &ClusterName) -> PathBuf {
        self.memory.file(cluster, INTRODUCED)
    }

    async fn builtin_stack(&self, _cluster: &ClusterName) -> Result<manifests::Options, Finding> {
        builtin::options(&docker::ask(&self.docker, &builtin::LISTING).await?)
    }

    async fn remarks(&self, _cluster: &ClusterName) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use rstest::rstest;

    use super::*;
    use crate::kubernetes::tests::kubeconfig;
    use crate::manifest::fetch::tests::{answer, server};
    use crate::step::{Cancel, Plan, Runner, Silent, alone};
    use crate::steps::cluster::{Cluster, Wanted};

    /// minikube as it answered when this was written, replayed by a script that keeps its profiles in a file.
    fn recorded(directory: &Path) -> Minikube {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/minikube");
        let mut minikube = Minikube::new(&directory.join("state"), Options::default());
        minikube.minikube = minikube.minikube.at(&script).with("RECORDED_STATE", directory.as_os_str());
        // No engine of this machine has a say.
        minikube.docker = minikube.docker.at(&directory.join("no-docker"));
        minikube
    }

    /// The same, whose cluster answers so many times.
    async fn answering(directory: &Path, times: usize) -> Minikube {
        let ok = answer("200 OK", "content-type: text/plain\r\n", b"ok");
        let (url, _asked) = server(std::iter::repeat_n(ok, times).collect()).await;
        let path = directory.join("recorded");
        fs_err::write(&path, kubeconfig("a8s", &url)).unwrap();
        let mut minikube = recorded(directory);
        minikube.minikube = minikube.minikube.with("RECORDED_KUBECONFIG", path.as_os_str());
        minikube
    }

    /// What it was told to do.
    fn told(directory: &Path) -> Vec<String> {
        let asked = fs_err::read_to_string(directory.join("asked")).unwrap();
        let questions = ["profile", "version", "config", "ssh-key"];
        let is_question = |line: &&str| questions.iter().any(|word| line.starts_with(word));
        asked.lines().filter(|line| !is_question(line)).map(str::to_owned).collect()
    }

    fn cluster(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn without_any_profile_there_are_no_clusters() {
        let directory = tempfile::tempdir().unwrap();
        let minikube = recorded(directory.path());
        assert_eq!(minikube.list().await.unwrap(), Vec::new());
        assert_eq!(minikube.state(&cluster("a8s")).await.unwrap(), State::Absent);
    }

    #[tokio::test]
    async fn a_name_that_begins_like_another_is_another() {
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join("profiles"), "a8s-10 Stopped\n").unwrap();
        let minikube = recorded(directory.path());
        assert_eq!(minikube.state(&cluster("a8s-1")).await.unwrap(), State::Absent);
        assert!(matches!(minikube.state(&cluster("a8s-10")).await.unwrap(), State::Stopped { .. }));
        assert!(!minikube.made(&cluster("a8s-10")).await.unwrap(), "somebody else made it");
    }

    #[rstest]
    #[case::at_its_first_node("start", &[
        "start --profile a8s --embed-certs --interactive=false",
        "node add --profile a8s",
        "addons enable storage-provisioner-rancher --profile a8s",
    ])]
    #[case::before_its_volumes("addons", &[
        "start --profile a8s --embed-certs --interactive=false",
        "addons enable storage-provisioner-rancher --profile a8s",
    ])]
    #[tokio::test]
    async fn a_creation_that_was_cut_off_is_gone_on_with(
        #[case] at: &str,
        #[case] expected: &[&str],
        #[values(Wanted::Created, Wanted::Started)] wanted: Wanted,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (mut minikube, name) = (answering(directory.path(), 2).await, cluster("a8s"));
        let run = async |minikube: &Minikube, wanted| {
            let step = Cluster { provider: Arc::new(minikube.clone()), name: cluster("a8s"), wanted };
            alone(step, Duration::from_secs(20)).await
        };
        let cut_off = directory.path().join(format!("cut-off-{at}"));
        fs_err::write(&cut_off, "").unwrap();
        minikube.options.nodes = Some(2);
        run(&minikube, Wanted::Created).await.unwrap_err();
        assert!(!matches!(minikube.state(&name).await.unwrap(), State::Absent | State::Running { .. }));
        assert!(minikube.made(&name).await.unwrap(), "its making was begun here");
        fs_err::remove_file(&cut_off).unwrap();
        let before = told(directory.path()).len();
        // Another number does not count any more.
        minikube.options.nodes = None;
        assert!(run(&minikube, wanted).await.unwrap().changed());
        assert_eq!(told(directory.path()).split_off(before), expected);
        assert!(minikube.made(&name).await.unwrap() && !minikube.memory.file(&name, MAKING).exists());
    }

    #[tokio::test]
    async fn a_cluster_that_others_have_made_under_the_name_of_ours_is_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let (minikube, name) = (recorded(directory.path()), cluster("a8s"));
        let by_hand = async |verb: &str| minikube.minikube.run(&[verb, "--profile", "a8s"]).await.unwrap();
        by_hand("start").await;
        assert!(!minikube.made(&name).await.unwrap(), "nothing says that it is ours");
        minikube.adopt(&name).await.unwrap();
        assert!(minikube.made(&name).await.unwrap());
        by_hand("delete").await;
        by_hand("start").await;
        assert!(!minikube.made(&name).await.unwrap(), "the one that was ours is gone");
        minikube.memory.note(&name, MAKING, "2").unwrap();
        assert!(minikube.made(&name).await.unwrap(), "its making was begun here");
        let mark = fs_err::OpenOptions::new().write(true).open(minikube.memory.file(&name, MAKING)).unwrap();
        mark.set_modified(SystemTime::now() - LONGEST * 2).unwrap();
        assert!(!minikube.made(&name).await.unwrap(), "what was begun long before it was another");
    }

    #[tokio::test]
    async fn a_failure_that_is_not_about_missing_profiles_is_one() {
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join("broken"), "").unwrap();
        let finding = recorded(directory.path()).list().await.unwrap_err();
        assert!(finding.cause.contains("exit status: 70") && !finding.evidence.is_empty(), "{finding:?}");
    }

    #[tokio::test]
    async fn a_cluster_is_made_stopped_started_and_deleted_as_minikube_does_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut minikube = answering(directory.path(), 3).await;
        minikube.options = Options { nodes: Some(2), memory: Some("2gb".to_owned()), ..Options::default() };
        let mut plan = Plan::new("test");
        let step = |wanted| Cluster { provider: Arc::new(minikube.clone()), name: cluster("a8s"), wanted };
        let made = plan.add(step(Wanted::Created));
        let stopped = plan.after(&[made], step(Wanted::Stopped));
        plan.after(&[stopped], step(Wanted::Deleted));
        let runner = Runner::new(Arc::new(Silent), Cancel::new(), Duration::from_secs(20));
        assert!(runner.run(&plan).await.unwrap().changed());
        assert_eq!(
            told(directory.path()),
            [
                "start --profile a8s --nodes 2 --memory 2gb --embed-certs --interactive=false",
                "addons enable storage-provisioner-rancher --profile a8s",
                "stop --keep-context-active --profile a8s",
                "delete --profile a8s",
            ]
        );
        assert!(!minikube.memory.file(&cluster("a8s"), "").exists());
    }

    #[rstest]
    #[case(1, &["start --profile a8s --embed-certs --interactive=false"])]
    #[case(3, &[
        "start --profile a8s --embed-certs --interactive=false",
        "addons enable storage-provisioner-rancher --profile a8s",
    ])]
    #[tokio::test]
    async fn a_cluster_that_is_started_again_keeps_its_nodes_and_has_volumes_for_so_many(
        #[case] nodes: usize,
        #[case] expected: &[&str],
        #[values(Wanted::Started, Wanted::Created)] wanted: Wanted,
    ) {
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join("profiles"), format!("a8s Stopped {nodes}\n")).unwrap();
        let minikube = answering(directory.path(), 2).await;
        let step = Cluster { provider: Arc::new(minikube), name: cluster("a8s"), wanted };
        assert!(alone(step, Duration::from_secs(20)).await.unwrap().changed());
        assert_eq!(told(directory.path()), expected);
    }

    #[tokio::test]
    async fn images_that_have_reached_no_node_are_not_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let (minikube, name) = (recorded(directory.path()), cluster("a8s"));
        minikube.minikube.run(&["image", "load", "a9s/x:1"]).await.unwrap();
        let (loaded, others) = (["a9s/x:1".to_owned()], ["a9s/x:1".to_owned(), "example.com/y:1".to_owned()]);
        minikube.have_arrived(&name, &loaded).await.unwrap();
        let finding = minikube.have_arrived(&name, &others).await.unwrap_err();
        assert!(finding.id == Id::ToolFailed && finding.cause.contains("example.com/y:1"), "{finding}");
    }

    #[tokio::test]
    async fn a_list_of_images_that_is_none_is_a_failure_and_no_empty_list() {
        let directory = tempfile::tempdir().unwrap();
        let mut minikube = recorded(directory.path());
        minikube.minikube = minikube.minikube.at(Path::new("/bin/echo"));
        assert_eq!(minikube.images(&cluster("a8s")).await.unwrap_err().id, Id::ToolFailed);
    }

    #[rstest]
    #[case("docker.io/library/redis:7", "redis:7")]
    #[case("docker.io/a9s/x:latest", "a9s/x")]
    #[case("localhost:5000/x:latest", "localhost:5000/x")]
    fn an_image_is_called_as_a_person_may_write_it(#[case] tag: &str, #[case] name: &str) {
        let listed = serde_json::json!({"repoTags": [tag]});
        assert!(is_called(&listed, name) && !is_called(&listed, "a9s/y"));
    }

    #[test]
    fn an_older_build_of_the_same_name_is_another_image() {
        let listed =
            serde_json::json!({"id": "ab12", "repoDigests": ["a9s/x@sha256:cd34"], "repoTags": ["docker.io/a9s/x:1"]});
        assert!(is_image(&listed, "a9s/x:1", "sha256:ab12") && is_image(&listed, "a9s/x:1", "sha256:cd34"));
        assert!(!is_image(&listed, "a9s/x:1", "sha256:ef56") && !is_image(&listed, "a9s/y:1", "sha256:ab12"));
    }

    #[test]
    fn half_made_profiles_are_listed_too() {
        let json = r#"{"invalid":[{"Name":"half","Status":"","Config":null}],
            "valid":[{"Name":"a8s","Status":"OK","Config":{"Nodes":[{"Name":""},{"Name":"m02"}]}}]}"#;
        let found = profiles(json).unwrap();
        let found: Vec<_> = found.iter().map(|profile| (profile.name.as_str(), profile.nodes)).collect();
        assert_eq!(found, [("a8s", Some(2)), ("half", None)]);
        assert_eq!(profiles("no json"), None);
    }
}
