//! What steps need to talk to a cluster: a client, apply, exec, diagnosis, and the kubeconfig file.

pub mod apply;
mod certificate;
pub mod diagnosis;
mod error;
pub mod exec;
pub mod forward;
pub mod kinds;
pub mod kubeconfig;
mod silence;
pub mod terminal;
pub mod wait;

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::api::DeleteParams;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

pub use self::error::{DOES_IT_RUN, Error, first_line, said, told};
use self::silence::Limit;
pub use self::silence::within;
use crate::finding::Finding;

/// How the program calls itself to the API server.
pub const AGENT: &str = concat!("a9s/", env!("CARGO_PKG_VERSION"));

/// The field manager of what the program applies.
pub const FIELD_MANAGER: &str = "a9s";

/// How long a connection may take to be made, with the handshake of TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an API server may take to begin its first answer: one that keeps silent for longer is not waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How long an API server that has answered before may take to begin an answer. It gives itself 60 seconds (kube-apiserver
/// `--request-timeout`), and says so then; a log that is followed has no such limit there, and none here.
const ANSWER: Duration = Duration::from_secs(65);

/// Which cluster is meant, as `kubectl` would understand it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// A kubeconfig file; `None` is `$KUBECONFIG`, which may list several, or `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// A context; `None` is the current one.
    pub context: Option<String>,
}

/// A connection to a cluster.
#[derive(Clone)]
pub struct Connection {
    /// The client.
    pub client: Client,
    /// Name of the context it came from.
    pub context: String,
    /// The context's namespace, else `default`.
    pub namespace: String,
    /// URL of the API server.
    pub server: String,
}

impl Target {
    /// Reads the kubeconfig and makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// There is no kubeconfig, no such context, or what they say can't be used.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let kubeconfig = self.read()?;
        let named = self.context.clone().filter(|_| !sabotage::sabotaged!("context-is-ignored"));
        let context = match named.or_else(|| kubeconfig.current_context.clone()) {
            Some(context) if !context.is_empty() => context,
            _ => return Err(Error::NoContext),
        };
        if !kubeconfig.contexts.iter().any(|entry| entry.name == context) {
            return Err(Error::UnknownContext { context });
        }
        let mut config =
            config_of(kubeconfig, &context).await.map_err(|source| Error::Kubeconfig { source: Box::new(source) })?;
        if let Some(end) = certificate::expired(&config.auth_info) {
            return Err(Error::Expired { context, end });
        }
        config.connect_timeout = Some(CONNECT);
        config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
        let namespace = config.default_namespace.clone();
        let server = config.cluster_url.to_string();
        let program = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
        let client = Limit::new(FIRST_ANSWER, ANSWER).client(config);
        let client = client.map_err(|source| match (program, source) {
            (Some(program), kube::Error::Auth(source)) => Error::Credentials { program, source: Box::new(source) },
            (_, source) => Error::request("connect", source),
        })?;
        Ok(Connection { client, context, namespace, server })
    }

    /// Every context with the cluster it is of.
    ///
    /// # Errors
    /// There is no kubeconfig, or it can't be used.
    pub fn contexts(&self) -> Result<Vec<(String, String)>, Error> {
        let named = self.read()?.contexts.into_iter();
        Ok(named.map(|entry| (entry.name, entry.context.map(|context| context.cluster).unwrap_or_default())).collect())
    }

    /// The kubeconfig as its files say, merged as `kubectl` would.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub fn read(&self) -> Result<Kubeconfig, Error> {
        let paths = match &self.kubeconfig {
            Some(path) => vec![crate::caller::path(path)],
            None => kubeconfig::paths(),
        };
        let mut merged: Option<Kubeconfig> = None;
        for path in &paths {
            // As client-go does, files of a list that don't exist are passed over.
            if !path.exists() && self.kubeconfig.is_none() {
                continue;
            }
            let read = |source| Error::Kubeconfig { source: Box::new(source) };
            let mut next = Kubeconfig::read_from(path).map_err(read)?;
            // For client-go an empty one is none. Whoever deletes the current context leaves it so.
            next.current_context = next.current_context.filter(|context| !context.is_empty());
            merged = Some(match merged {
                None => next,
                Some(merged) => merged.merge(next).map_err(read)?,
            });
        }
        merged.ok_or(Error::NoKubeconfig { looked: paths })
    }
}

/// How a context's cluster is reached. The library would send even what is on this machine to a proxy of the environment.
///
/// # Errors
/// What the kubeconfig says can't be used.
pub async fn config_of(kubeconfig: Kubeconfig, context: &str) -> Result<Config, KubeconfigError> {
    let of_context = kubeconfig.contexts.iter().find(|entry| entry.name == context);
    let cluster = of_context.and_then(|entry| Some(entry.context.as_ref()?.cluster.clone()));
    let names_proxy = kubeconfig.clusters.iter().any(|entry| {
        Some(&entry.name) == cluster.as_ref() && entry.cluster.as_ref().is_some_and(|it| it.proxy_url.is_some())
    });
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    if !names_proxy {
        config.proxy_url = crate::proxy::of(&config.cluster_url).map(|proxy| proxy.address);
    }
    Ok(config)
}

/// A cluster that steps will talk to; the connection is made when the first one needs it.
#[derive(Default)]
pub struct Access {
    target: Target,
    connection: OnceCell<Connection>,
}

impl Access {
    /// Access to what `target` names when it is first used.
    pub fn new(target: Target) -> Self {
        Self { target, connection: OnceCell::new() }
    }

    /// Access by a connection that is there already.
    pub fn connected(connection: Connection) -> Self {
        Self { target: Target::default(), connection: OnceCell::new_with(Some(connection)) }
    }

    /// The connection.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn connection(&self) -> Result<&Connection, Finding> {
        Ok(self.connection.get_or_try_init(|| self.target.connect()).await?)
    }

    /// The client.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn client(&self) -> Result<Client, Finding> {
        Ok(self.connection().await?.client.clone())
    }
}

/// Reads an object; `None` if it, its namespace or its kind is not there. A server that has nothing of a group answers a
/// request for it without a reason (k8s.io/apiserver `pkg/server/routes`: "404 page not found").
///
/// # Errors
/// The request fails.
pub async fn get_opt<K>(api: &Api<K>, name: &str) -> kube::Result<Option<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.get(name).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        result => result.map(Some),
    }
}

/// Deletes an object. One that is not there is as good as deleted; `what` is an infinitive.
///
/// # Errors
/// The request fails.
pub async fn delete<K>(api: &Api<K>, name: &str, parameters: &DeleteParams, what: &str) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.delete(name, parameters).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop).map_err(|error| Error::request(what, error)),
    }
}

/// Whether a server is older than Kubernetes 1.`minor`. Some say `27+` for 27; what says no number at all is not.
pub fn is_before(version: &Info, minor: u32) -> bool {
    let number = version.minor.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>();
    version.major == "1" && number.is_ok_and(|number| number < minor)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::caller::{Caller, instead};

    /// A kubeconfig of the server at a URL, in which everything has this name.
    pub(crate) fn kubeconfig(name: &str, url: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: {name}, contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}], \
             clusters: [{{name: {name}, cluster: {{server: '{url}'}}}}], users: [{{name: {name}, user: {{}}}}]}}"
        )
    }

    /// The server at a URL, by a kubeconfig that is written into a directory.
    pub(crate) fn target(directory: &Path, url: &str) -> Target {
        let path = directory.join("kubeconfig");
        fs_err::write(&path, kubeconfig("demo", url)).unwrap();
        Target { kubeconfig: Some(path), context: None }
    }

    #[test]
    fn servers_say_their_version_in_more_than_one_way() {
        let before_25 =
            |minor: &str| is_before(&Info { major: "1".to_owned(), minor: minor.to_owned(), ..Info::default() }, 25);
        assert_eq!(["20", "24+", "25", "27+", "x"].map(before_25), [true, true, false, false, false]);
    }
    use crate::finding::{Class, Id};

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_missing() {
        let target = Target { kubeconfig: Some(PathBuf::from("/nowhere/config")), context: None };
        let finding = Finding::from(target.connect().await.err().unwrap());
        assert_eq!(finding.class(), Class::Missing);
    }

    #[test]
    fn a_file_that_selects_no_context_leaves_that_to_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, current: &str| {
            let path = directory.path().join(name);
            fs_err::write(&path, format!("apiVersion: v1\nkind: Config\ncurrent-context: '{current}'\n")).unwrap();
            path
        };
        let list = std::env::join_paths([file("one", ""), file("two", "theirs"), file("three", "others")]).unwrap();
        let caller = Caller { variables: vec![("KUBECONFIG".into(), list)], ..Caller::default() };
        let (read, _) = instead(caller, || Target::default().read().unwrap());
        assert_eq!(read.current_context.as_deref(), Some("theirs"));
    }

    #[tokio::test]
    async fn what_a_kubeconfig_and_a_program_for_credentials_hold_is_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let exec = "{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: echo, \
                    args: ['token: s3cr3t: x']}";
        let no_document =
            kubeconfig("demo", "https://127.0.0.1:9").replace("user: {}", &format!("user: {{exec: {exec}}}"));
        let no_yaml = "apiVersion: v1\nkind: Config\nusers:\n- name: demo\n  user:\n    token: s3cr3t: x\n".to_owned();
        for (text, id) in [(no_yaml, Id::KubeconfigUnusable), (no_document, Id::Unauthorized)] {
            fs_err::write(&path, text).unwrap();
            let target = Target { kubeconfig: Some(path.clone()), context: None };
            let finding = Finding::from(target.connect().await.err().unwrap());
            assert_eq!(finding.id, id, "{finding}");
            assert!(finding.cause.contains(": failed to parse "), "{finding}");
            assert!(!serde_json::to_string(&finding).unwrap().contains("s3cr3t"), "{finding}");
        }
    }

    #[tokio::test]
    async fn a_program_that_gives_no_credentials_any_more_is_told_without_what_it_has_written() {
        let directory = tempfile::tempdir().unwrap();
        let over = directory.path().join("over");
        let given = r#"{"status": {"token": "s3cr3t", "expirationTimestamp": "2020-01-01T00:00:00Z"}}"#;
        let script =
            format!("if [ -e '{}' ]; then echo s3cr3t; echo log in >&2; exit 7; fi; echo '{given}'", over.display());
        let exec = serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "sh", "args": ["-c", script],
        });
        let kubeconfig =
            kubeconfig("demo", "https://127.0.0.1:9").replace("user: {}", &format!("user: {{exec: {exec}}}"));
        let path = directory.path().join("config");
        fs_err::write(&path, kubeconfig).unwrap();
        let connection = Target { kubeconfig: Some(path), context: None }.connect().await.unwrap();
        fs_err::write(&over, "").unwrap();
        let error = connection.client.apiserver_version().await.unwrap_err();
        assert_eq!(told(&error), "the program for credentials: exit status: 7");
        let error = Error::request("ask the cluster", error);
        assert_eq!(error.reason(), "cannot ask the cluster: the program for credentials: exit status: 7");
        let finding = Finding::from(error);
        assert_eq!(finding.id, Id::Unauthorized, "{finding}");
        assert_eq!(
            finding.cause,
            "the program that the kubeconfig names gives no credentials for the context: exit status: 7"
        );
        assert_eq!(finding.evidence[0].lines, ["log in"]);
        assert!(!serde_json::to_string(&finding).unwrap().contains("s3cr3t"), "{finding}");
        let pods: Api<Pod> = Api::default_namespaced(connection.client);
        let waited = wait::until(pods, "solo-0", "wait for solo-0 to be gone", |pod: Option<&Pod>| pod.is_none());
        let waited = tokio::time::timeout(Duration::from_secs(20), waited).await;
        let waited = waited.expect("credentials that are over are not waited for").unwrap_err();
        assert_eq!(waited.reason(), "cannot wait for solo-0 to be gone: the program for credentials: exit status: 7");
    }

    #[tokio::test]
    async fn an_unknown_context_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        fs_err::write(&path, "apiVersion: v1\nkind: Config\ncurrent-context: gone\n").unwrap();
        let finding = Finding::from(Target { kubeconfig: Some(path), context: None }.connect().await.err().unwrap());
        assert_eq!(finding.class(), Class::Missing);
        assert!(finding.cause.contains("gone"), "{}", finding.cause);
    }
}
