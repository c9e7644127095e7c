//! `a9s create stack a8s`: the stack on a cluster that is there.

use std::sync::Arc;

use a8s_operators::object_store;
use clap::{Args, Subcommand};
use serde_json::json;

use super::cluster::summary;
use super::stack_arguments::{StackArguments, tell_kept};
use crate::cli::arguments::Run;
use crate::cli::console::NOTHING_CHANGED;
use crate::cli::{Session, group, prompt};
use crate::finding::{Finding, Id};
use crate::kubernetes::{Access, Connection, Error, Target};
use crate::provider::{self, ClusterName, Name, Options, Provider};
use crate::step::{Plan, quoted};
use crate::steps::backup_config::{self, Choice};
use crate::steps::install::{self, Installation, StackName};

/// Arguments of `create stack`.
#[derive(Debug, Args)]
pub struct CreateStack {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Install the a8s stack on a cluster, or bring what is there to that state. No provider and no Docker is needed
    A8s(CreateStackA8s),
}

#[derive(Debug, Args)]
struct CreateStackA8s {
    #[command(flatten)]
    cluster: Chosen,
    #[command(flatten)]
    stack: StackArguments,
    /// Only write the manifests, for those who apply them by other means; no cluster is asked
    #[arg(long, conflicts_with_all = ["cluster_name", "context", "kubeconfig"])]
    no_apply: bool,
    /// No effect: this command does not check this machine
    #[arg(long, hide = true)]
    no_precheck: bool,
    #[command(flatten)]
    run: Run,
}

/// Arguments that choose an existing cluster to install on.
#[derive(Debug, Clone, Args)]
pub struct Chosen {
    /// Name of a context of the kubeconfig, or of a cluster: kind-demo and demo are the same [default: the current
    /// context]
    #[arg(short, long, value_name = "NAME", conflicts_with = "context")]
    cluster_name: Option<String>,
    /// Use this context of the kubeconfig instead of its current one
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
    /// Use this kubeconfig file instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
}

/// Prefixes of the contexts of providers, which all name them after the cluster; minikube without any.
const PREFIXES: [(&str, Name); 3] = [("kind-", Name::Kind), ("a9s-", Name::Embedded), ("", Name::Minikube)];

impl Chosen {
    /// The cluster that is meant.
    ///
    /// # Errors
    /// There is no kubeconfig, or nothing in it is called so.
    pub fn target(&self) -> Result<Target, Finding> {
        let target = Target { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() };
        let Some(name) = &self.cluster_name else { return Ok(target) };
        let contexts = target.contexts()?;
        match resolve(name, &contexts).as_slice() {
            [context] => Ok(Target { context: Some(context.clone()), ..target }),
            several @ [_, ..] => {
                let cause = format!("{name} may be any of the contexts {}", several.join(", "));
                Err(Finding::new(Id::AmbiguousContext, cause).advise("Name one of them with -c."))
            }
            [] => {
                let known: Vec<&str> = contexts.iter().map(|(context, _)| context.as_str()).collect();
                Err(Finding::from(Error::UnknownContext { context: name.clone() }).advise(format!(
                    "There are: {}",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                )))
            }
        }
    }

    /// Makes the connection, so that the cluster is known by its names.
    ///
    /// # Errors
    /// As [`Chosen::target`], and where the kubeconfig can't be used.
    pub async fn connect(&self) -> Result<Connection, Finding> {
        Ok(self.target()?.connect().await?)
    }
}

/// The contexts that a name may mean: the one of that name alone, else those of the providers' clusters and of clusters so
/// called.
fn resolve(name: &str, contexts: &[(String, String)]) -> Vec<String> {
    if contexts.iter().any(|(context, _)| context == name) {
        return vec![name.to_owned()];
    }
    let of_provider = |context: &str| PREFIXES.iter().any(|(prefix, _)| context == format!("{prefix}{name}"));
    let means = |(context, cluster): &&(String, String)| of_provider(context) || cluster == name;
    contexts.iter().filter(means).map(|(context, _)| context.clone()).collect()
}

/// The provider that has made the cluster of a context, as far as this program knows of it.
async fn maker(connection: &Connection) -> Option<(Arc<dyn Provider>, ClusterName)> {
    for (prefix, name) in PREFIXES {
        let Some(cluster) = connection.context.strip_prefix(prefix).and_then(|rest| rest.parse().ok()) else {
            continue;
        };
        let Ok(provider) = provider::of_name(name, Options::default()) else { continue };
        // The name may be the same and the cluster another: it must also be where the provider has it.
        let private = Target { kubeconfig: Some(provider.kubeconfig(&cluster)), context: None };
        if private.connect().await.is_ok_and(|there| there.server == connection.server) {
            return Some((provider, cluster));
        }
    }
    None
}

/// The namespaces that an installation makes, or changes, for who is asked about it.
pub(super) fn namespaces(stack: StackName, choice: &Choice) -> String {
    let mut namespaces = vec![a8s_operators::SYSTEM_NAMESPACE];
    namespaces.extend(choice.may_be_minio().then_some(object_store::manifests::NAMESPACE));
    namespaces.extend((stack == StackName::Upstream).then_some("cert-manager"));
    namespaces.join(", ")
}

impl CreateStack {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            Some(What::A8s(arguments)) => arguments.run(session),
            None => group(session, &["create", "stack"], "Please use a sub-command."),
        }
    }
}

impl CreateStackA8s {
    /// Writes the manifests and says how to go on.
    fn write(&self, session: &Session) -> Result<(), Finding> {
        let found = || Ok(session.working_directory().ok().as_ref().and_then(backup_config::of_directory));
        let (wish, supply) = (self.stack.store.wish(session, found)?, self.stack.which.supply(None)?);
        let (name, stack) = (self.stack.which.name(None), self.stack.which.stack(None)?);
        let directory = session.generated_directory(&self.run)?;
        // No cluster is asked: what is not said is as this directory has it.
        let choice = Choice::new(wish);
        choice.made(backup_config::of_directory(&directory).as_ref()).check()?;
        let mut plan = Plan::new("create stack a8s");
        let installation = Installation { directory: directory.clone(), stack, supply, choice };
        let paths = install::write(&mut plan, installation);
        let outcome =
            session.block_on(async |cancel| session.carry_out(&plan, &self.run, cancel, Some(&directory)).await)?;
        if let Some(outcome) = outcome {
            session.console.info("The YAML manifests hold the keys of the store and the encryption password.");
            session.console.line(" Apply them in this order, each when the one before is ready:");
            for path in &paths {
                let path = quoted(&path.to_string_lossy());
                session.console.line(format!("   kubectl apply --server-side -f {path}"));
            }
            if !outcome.changed() {
                session.console.info(NOTHING_CHANGED);
            }
            session.console.document(&json!({
                "stack": name, "manifests": paths, "applied": false, "workingDir": directory.0,
                "changed": outcome.changed(), "steps": outcome.steps,
            }));
        }
        Ok(())
    }

    fn run(self, session: &Session) -> Result<(), Finding> {
        if self.no_precheck {
            // The Go tool has it.
            session.warn("--no-precheck has no effect: this command does not check this machine");
        }
        if self.no_apply {
            return self.write(session);
        }
        // At once: another context may become the current one while the user is asked for keys.
        let connection = session.look(self.cluster.connect())?;
        let found = || session.look(backup_config::of_cluster(&connection.client));
        let choice = Choice::new(self.stack.store.wish(session, found)?);
        let (maker, is_ours) = session.look(async {
            let maker = maker(&connection).await;
            let is_ours = match &maker {
                // Where that can't be told, as without Docker, the user is asked.
                Some((provider, cluster)) => provider.made(cluster).await.unwrap_or(false),
                None => false,
            };
            Ok((maker, is_ours))
        })?;
        let provider = maker.as_ref().map(|(provider, _)| provider.name());
        let (name, supply) = (self.stack.which.name(provider), self.stack.which.supply(provider)?);
        let stack = self.stack.which.stack(maker.clone())?;
        if !is_ours && !self.run.dry_run {
            let what = format!(
                "installing the {name} a8s stack on the cluster of the context {} ({}, namespaces {})",
                connection.context,
                connection.server,
                namespaces(name, &choice)
            );
            prompt::confirm(session, &format!("Go on with {what}?"), &what)?;
        }
        let directory = session.generated_directory(&self.run)?;
        session.console.heading("Let's set up a Kubernetes stack together...");
        let (context, server) = (connection.context.clone(), connection.server.clone());
        let mut plan = Plan::new("create stack a8s");
        let (supplied, stored) = (supply.clone(), choice.clone());
        let installation = Installation { directory: directory.clone(), stack, supply: supplied, choice: stored };
        let prepared = install::prepare(&mut plan, &[], &installation);
        install::add(&mut plan, &prepared, Arc::new(Access::connected(connection)), installation);
        let outcome =
            session.block_on(async |cancel| session.carry_out(&plan, &self.run, cancel, Some(&directory)).await);
        tell_kept(session, &supply);
        if let Some(outcome) = outcome? {
            let found = format!("Found the Kubernetes Cluster of the context {context}.");
            summary(session, &found, name, choice.store().is_minio());
            session.console.document(&json!({
                "stack": name, "context": context, "server": server, "workingDir": directory.0,
                "changed": outcome.changed(), "steps": outcome.steps,
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("prod", &["prod"])]
    #[case("demo", &["kind-demo"])]
    #[case("kind-demo", &["kind-demo"])]
    #[case("a8s", &["a9s-a8s"])]
    #[case("arn:cluster", &["admin@arn"])]
    #[case("dem", &[])]
    #[case("both", &["a9s-both", "kind-both"])]
    #[case("shared", &["admin@shared", "viewer@shared"])]
    fn a_context_or_a_cluster_is_meant_by_its_whole_name(#[case] name: &str, #[case] meant: &[&str]) {
        let contexts = [
            ("prod", "p"),
            ("kind-demo", "kind-demo"),
            ("a9s-a8s", "a9s-a8s"),
            ("admin@arn", "arn:cluster"),
            ("a9s-both", "a9s-both"),
            ("kind-both", "kind-both"),
            ("admin@shared", "shared"),
            ("viewer@shared", "shared"),
        ]
        .map(|(context, cluster)| (context.to_owned(), cluster.to_owned()));
        assert_eq!(resolve(name, &contexts), meant);
    }
}
