//! Providers: what makes and deletes clusters. An existing cluster has none.

pub mod builtin;
pub mod docker;
pub mod embedded;
pub mod kind;
mod memory;
pub mod minikube;
pub mod tool;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::finding::{Finding, Id};
use crate::kubernetes::{Connection, Error, Target, said, within};
use crate::step::Context;

/// How long one look at `/readyz` may take.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at a cluster that is becoming ready.
const POLL: Duration = Duration::from_millis(500);
/// Nodes when nothing is said, as the Go tool has it.
const NODES: u16 = 3;

/// The name of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// A process of this program.
    #[default]
    Embedded,
    /// Kubernetes in Docker.
    Kind,
    /// minikube.
    Minikube,
}

impl Name {
    /// The name as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kind => "kind",
            Self::Minikube => "minikube",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "kind" => Ok(Self::Kind),
            "minikube" => Ok(Self::Minikube),
            other => Err(format!(
                "The selected Kubernetes provider {other} is not valid. Valid values are `embedded`, `kind` and `minikube`."
            )),
        }
    }
}

/// The name of a cluster. It becomes part of file names and of a context's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = String;

    /// A DNS label of at most 40 characters, so that whatever is derived from it stays within limits.
    fn from_str(text: &str) -> Result<Self, String> {
        crate::manifest::names::label(text, 40).map(|()| Self(text.to_owned()))
    }
}

/// What a provider knows of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// There is no such cluster.
    Absent,
    /// It is there and does not run.
    Stopped {
        /// Why, in the user's words.
        why: String,
    },
    /// It is there, something of it runs, and it can't be used from here, or not yet.
    Unready {
        /// Why, in the user's words.
        why: String,
    },
    /// Its API answers.
    Running {
        /// URL of the API server.
        server: String,
        /// Process that serves it, where it is one of this machine.
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
    },
}

/// What makes clusters.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Its name.
    fn name(&self) -> Name;

    /// How a cluster is called in a kubeconfig.
    fn context(&self, cluster: &ClusterName) -> String;

    /// Looks at a cluster.
    ///
    /// # Errors
    /// What is there is not a cluster of this provider, or can't be read.
    async fn state(&self, cluster: &ClusterName) -> Result<State, Finding>;

    /// Whether this program made the cluster, or it is not there. One that somebody else made is not touched without
    /// asking.
    ///
    /// # Errors
    /// As [`Provider::state`].
    async fn made(&self, cluster: &ClusterName) -> Result<bool, Finding>;

    /// Makes a cluster, or goes on making it, and starts it. Returns when its API answers.
    ///
    /// # Errors
    /// Something needed is not there, or it does not start.
    async fn create(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding>;

    /// Starts a cluster that is there. Returns when its API answers.
    ///
    /// # Errors
    /// There is no such cluster, or it does not start.
    async fn start(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding>;

    /// Stops a cluster. Its objects and data stay.
    ///
    /// # Errors
    /// It does not stop.
    async fn stop(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding>;

    /// Deletes a cluster with everything in it. Nothing of it is left, also after a kill.
    ///
    /// # Errors
    /// Something can't be removed.
    async fn delete(&self, cluster: &ClusterName, context: &Context) -> Result<(), Finding>;

    /// The clusters there are.
    ///
    /// # Errors
    /// They can't be listed.
    async fn list(&self) -> Result<Vec<ClusterName>, Finding>;

    /// Looks whether a cluster could be made here: programs with their versions, memory, disk, limits.
    ///
    /// # Errors
    /// Something is lacking.
    async fn check(&self, _context: &Context) -> Result<(), Finding> {
        Ok(())
    }

    /// Whether the cluster has nodes that images must be brought to.
    fn has_nodes(&self) -> bool {
        self.name() != Name::Embedded
    }

    /// Whether every node has these images, the same as this machine.
    ///
    /// # Errors
    /// This machine does not have them, or the nodes can't be asked.
    async fn loaded(&self, cluster: &ClusterName, images: &[String]) -> Result<bool, Finding>;

    /// Brings images of this machine to every node. Those named `a9s/…` get there in no other way, as nodes never pull
    /// them.
    ///
    /// # Errors
    /// This machine does not have them, or they can't be brought there.
    async fn load(&self, cluster: &ClusterName, images: &[String], context: &Context) -> Result<(), Finding>;

    /// A kubeconfig of an administrator of the cluster, private to the provider.
    fn kubeconfig(&self, cluster: &ClusterName) -> PathBuf;

    /// A file that says, once it is there, that the user's kubeconfig has got the context. From then on the context
    /// becomes the current one only where none is selected.
    fn introduced(&self, cluster: &ClusterName) -> PathBuf;

    /// What the builtin stack has to know about a cluster: its images, and where admission answers.
    ///
    /// # Errors
    /// It is not known, because the cluster does not run or there are no images.
    async fn builtin_stack(&self, cluster: &ClusterName) -> Result<a8s_operators::manifests::Options, Finding>;

    /// What is worth knowing about a cluster besides its state.
    async fn remarks(&self, cluster: &ClusterName) -> Vec<String>;
}

/// How a provider should make clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// User that runs the servers, where it is not the usual one. Embedded only.
    pub run_as: Option<String>,
    /// Make clusters without checking the machine before.
    pub no_precheck: bool,
    /// Number of nodes; by default three. The embedded cluster has one.
    pub nodes: Option<u16>,
    /// Memory of a node. minikube only.
    pub memory: Option<String>,
    /// Image of the nodes. kind and minikube only.
    pub node_image: Option<String>,
    /// Bring the images of the builtin stack to nodes while they are made. kind only.
    pub stack_images: bool,
    /// What else its clusters should have. kind only.
    pub kind_config: Option<kind::Configuration>,
}

impl Options {
    /// How many nodes a cluster gets where it can have several.
    fn wanted_nodes(&self) -> u16 {
        self.nodes.unwrap_or(NODES)
    }
}

/// The provider of a name.
///
/// # Errors
/// It is not known where what it remembers lies.
pub fn of_name(name: Name, options: Options) -> Result<Arc<dyn Provider>, Finding> {
    let state = embedded::places::Places::of_user()?.state;
    Ok(match name {
        Name::Embedded => Arc::new(embedded::Embedded::of_user(options)?),
        Name::Kind => Arc::new(kind::Kind::new(&state, options)),
        Name::Minikube => Arc::new(minikube::Minikube::new(&state, options)),
    })
}

/// The finding that a provider has no cluster of this name.
pub fn no_cluster(provider: Name, cluster: &ClusterName) -> Finding {
    Finding::new(Id::NoCluster, format!("there is no {provider} cluster {cluster}"))
        .advise(format!("Create it with: a9s create cluster a8s{} -c {cluster}", choice(provider)))
}

/// The finding that a cluster does not run.
fn stopped(provider: Name, cluster: &ClusterName) -> Finding {
    Finding::new(Id::ClusterStopped, format!("the cluster {cluster} does not run"))
        .advise(format!("Start it with: a9s cluster start{} -c {cluster}", choice(provider)))
}

/// How a provider is chosen on a command line.
fn choice(provider: Name) -> String {
    if provider == Name::default() { String::new() } else { format!(" -p {provider}") }
}

/// Waits until the API server answers that a kubeconfig names.
///
/// # Errors
/// The certificate in it is over: no time helps there.
async fn wait_until_ready(kubeconfig: PathBuf) -> Result<(), Finding> {
    let target = Target { kubeconfig: Some(kubeconfig), context: None };
    loop {
        match target.connect().await {
            Ok(connection) if answers(&connection).await.is_ok() => return Ok(()),
            Err(error @ Error::Expired { .. }) => return Err(error.into()),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// Whether the API server of a kubeconfig is ready, and its URL; what there is to say otherwise.
async fn ready(target: &Target) -> Result<String, String> {
    let connection = target.connect().await.map_err(|error| match error {
        // No time helps there.
        Error::Expired { .. } => error.to_string(),
        _ => "it is starting".to_owned(),
    })?;
    answers(&connection).await?;
    Ok(connection.server)
}

/// Whether an API server answers `/readyz` with "ok"; what it says otherwise.
async fn answers(connection: &Connection) -> Result<(), String> {
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
    match within(LOOK, connection.client.request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) => {
            // One line for each check; of those that are well, too.
            let check = status.message.lines().find_map(|line| line.strip_prefix("[-]")).map(str::to_owned);
            Err(format!("its API server is not ready: {}", check.unwrap_or_else(|| said(&status))))
        }
        Ok(Err(_)) => Err("its API server does not answer".to_owned()),
        Err(_) => Err("its API server does not answer in time".to_owned()),
    }
}

/// What our kubeconfig of a cluster whose nodes run says of it.
async fn state_by(kubeconfig: PathBuf) -> State {
    if !kubeconfig.exists() {
        return State::Unready { why: "its kubeconfig is not here yet".to_owned() };
    }
    match ready(&Target { kubeconfig: Some(kubeconfig), context: None }).await {
        Ok(server) => State::Running { server, pid: None },
        Err(why) => State::Unready { why },
    }
}

/// Makes a directory that only its owner can look into. Those above it, where they are not there, let others pass: the
/// servers of an embedded cluster have their data beside it.
fn private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    if let Some(above) = path.parent() {
        builder.recursive(true).mode(0o711).create(above)?;
    }
    builder.mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::kubernetes::tests::target;
    use crate::manifest::fetch::tests::{answer, server};

    #[rstest]
    #[case("", "it answers 503 Service Unavailable")]
    #[case("[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed", "etcd failed: reason withheld")]
    #[tokio::test]
    async fn a_server_that_is_not_ready_says_why(#[case] body: &str, #[case] why: &str) {
        let directory = tempfile::tempdir().unwrap();
        let refusal = answer("503 Service Unavailable", "retry-after: 60\r\n", body.as_bytes());
        let (url, _asked) = server(vec![refusal]).await;
        let state = ready(&target(directory.path(), &url)).await;
        assert_eq!(state, Err(format!("its API server is not ready: {why}")));
    }

    #[tokio::test]
    async fn a_cluster_whose_certificate_is_over_is_not_said_to_be_starting_nor_waited_for() {
        use base64::Engine as _;
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let data = base64::engine::general_purpose::STANDARD.encode(certificate.pem());
        let directory = tempfile::tempdir().unwrap();
        let target = target(directory.path(), "https://127.0.0.1:9");
        let path = target.kubeconfig.clone().unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        fs_err::write(&path, text.replace("user: {}", &format!("user: {{client-certificate-data: {data}}}"))).unwrap();
        let why = "the client certificate of the context demo has expired on 2020-01-01";
        assert_eq!(ready(&target).await, Err(why.to_owned()));
        let waited = tokio::time::timeout(Duration::from_secs(20), wait_until_ready(path)).await;
        assert_eq!(waited.unwrap().unwrap_err().id, Id::CertificateExpired);
    }

    #[rstest]
    #[case("a8s", true)]
    #[case("a-1", true)]
    #[case("", false)]
    #[case("../x", false)]
    #[case("A8s", false)]
    #[case("-x", false)]
    #[case("a-name-that-is-longer-than-what-is-allowed", false)]
    fn names_of_clusters_are_labels(#[case] text: &str, #[case] good: bool) {
        assert_eq!(text.parse::<ClusterName>().is_ok(), good);
    }
}
