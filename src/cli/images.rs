//! `a9s images`: which images the stack needs, whether they can be pulled, and bringing them to a cluster's nodes.

use std::sync::Arc;
use std::time::Duration;

use a8s_operators::object_store;
use a8s_operators::store::Credentials;
use clap::{Args, Subcommand};
use futures::StreamExt;
use serde_json::{Value, json};

use super::arguments::{Deadline, ProviderChoice, Run};
use super::create::{StoreOwner, WhichStack};
use super::list::table;
use super::{Session, group};
use crate::finding::{Finding, Id};
use crate::manifest::fetch::Fetcher;
use crate::manifest::images::{self, ImageMap, Reference};
use crate::manifest::registry::{self, Verdict};
use crate::manifest::{kustomization, minio};
use crate::provider::{self, ClusterName, Name, Options};
use crate::step::Plan;
use crate::steps::install::{self, StackName};
use crate::steps::release::Fetched;
use crate::steps::{images::Loaded, stack};

/// Registries that are asked at the same time.
const AT_ONCE: usize = 8;

/// Where these commands differ from those that have the same flags.
const NO_CLUSTER: &str = "No cluster is asked what it has: what no flag says is as on a cluster without a stack, and the stack is \
    upstream.";

/// Arguments of `images`.
#[derive(Debug, Args)]
pub struct Images {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the images that the stack needs, and where the image map has them
    List(Look),
    /// Ask the registries whether every image can be pulled
    Verify(Look),
    /// Bring the images from this machine's Docker engine to the nodes of a kind or minikube cluster
    Load(Load),
}

#[derive(Debug, Args)]
struct Of {
    #[command(flatten)]
    stack: WhichStack,
    #[command(flatten)]
    store: StoreOwner,
}

#[derive(Debug, Args)]
#[command(after_help = NO_CLUSTER)]
struct Look {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    deadline: Deadline,
}

#[derive(Debug, Args)]
#[command(after_help = NO_CLUSTER)]
struct Load {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    run: Run,
    #[command(flatten)]
    provider: ProviderChoice,
    /// Name of the cluster
    #[arg(short, long, value_name = "NAME", default_value = "a8s")]
    cluster_name: ClusterName,
}

/// An image, and what it is called in the manifests where that is something else.
struct Listed {
    image: String,
    original: Option<String>,
}

impl Images {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            Some(What::List(look)) => look.list(session),
            Some(What::Verify(look)) => look.verify(session),
            Some(What::Load(load)) => load.run(session),
            None => group(session, &["images"], "Please use a sub-command."),
        }
    }
}

impl Of {
    /// The documents of the stack, with the images they name by themselves.
    fn documents(&self, session: &Session, deadline: &Deadline) -> Result<Vec<Value>, Finding> {
        if self.stack.name(None) == StackName::Builtin {
            let docker = provider::docker::docker();
            let options = session.look(async {
                provider::builtin::options(&provider::docker::ask(&docker, &provider::builtin::LISTING).await?)
            })?;
            let mut documents = stack::values_of(&a8s_operators::manifests::manifests(&options))?;
            if self.store.is_minio() {
                documents.extend(stack::values_of(&object_store::manifests::manifests(&nobodys_store()))?);
            }
            return Ok(documents);
        }
        let directory = session.establish_working_directory()?;
        let supply = self.stack.supply(None)?;
        let (wanted, cert_manager) = (supply.manifests(), supply.cert_manager());
        let mut plan = Plan::new("images");
        plan.add(Fetched::new(directory.clone(), wanted.clone()));
        plan.add(Fetched::new(directory.clone(), cert_manager.clone()));
        session.block_on(async |cancel| session.runner(cancel, deadline.timeout, None).run(&plan).await)?;
        // What the generated files say names no image.
        let mut documents = install::render(&wanted.path(&directory), &|_| Ok(Vec::new()))?;
        let path = cert_manager.path(&directory);
        let text =
            fs_err::read_to_string(&path).map_err(|error| Finding::new(Id::ManifestsMissing, error.to_string()))?;
        documents.extend(kustomization::objects_of(&path, &text)?);
        if self.store.is_minio() {
            documents.extend(minio::documents(&nobodys_store()));
        }
        Ok(documents)
    }
}

/// Of a store's documents only the images are read.
fn nobodys_store() -> object_store::manifests::Options {
    let credentials = Credentials { access_key: String::new(), secret_key: String::new() };
    object_store::manifests::Options { bucket: String::new(), credentials }
}

impl Look {
    fn images(&self, session: &Session) -> Result<Vec<Listed>, Finding> {
        let map = self.of.stack.supply(None)?.images();
        Ok(listed(&self.of.documents(session, &self.deadline)?, &map))
    }

    fn list(&self, session: &Session) -> Result<(), Finding> {
        let images = self.images(session)?;
        let row = |listed: &Listed| vec![listed.image.clone(), listed.original.clone().unwrap_or_default()];
        session.console.line(table(&["IMAGE", "INSTEAD OF"], images.iter().map(row)));
        let documents: Vec<Value> =
            images.iter().map(|listed| json!({"image": listed.image, "insteadOf": listed.original})).collect();
        session.console.document(&json!({"images": documents}));
        Ok(())
    }

    fn verify(&self, session: &Session) -> Result<(), Finding> {
        let images = self.images(session)?;
        let verdicts = session.block_on(async |_| verdicts(&images, self.deadline.timeout).await)?;
        let mut bad = Vec::new();
        for (image, verdict) in &verdicts {
            match trouble(verdict) {
                None => session.console.success(image),
                Some(why) => {
                    let line = format!("{image}: {why}");
                    session.console.line(format!(" ❌ {line}"));
                    bad.push(line);
                }
            }
        }
        let document = |(image, verdict): &(String, Verdict)| {
            let why = trouble(verdict);
            json!({"image": image, "there": why.is_none(), "why": why})
        };
        let documents: Vec<Value> = verdicts.iter().map(document).collect();
        session.console.document(&json!({"images": documents}));
        if bad.is_empty() {
            return Ok(());
        }
        let cause = format!("{} of {} images cannot be pulled", bad.len(), verdicts.len());
        Err(Finding::new(Id::ImagePull, cause)
            .with("what the registries say", bad)
            .advise("Say where they are with --image-map FILE: a line OLD: NEW for each."))
    }
}

/// Asks the registries of images, a few at a time.
async fn verdicts(images: &[Listed], patience: Duration) -> Result<Vec<(String, Verdict)>, Finding> {
    let fetcher = Fetcher::new()?;
    let looks = images.iter().map(|listed| {
        let (fetcher, image) = (&fetcher, listed.image.clone());
        async move {
            let verdict = registry::look(fetcher, &Reference::parse(&image), "https").await;
            let verdict = verdict.unwrap_or_else(|finding| Verdict::Unknown(finding.cause));
            (image, verdict)
        }
    });
    let verdicts = futures::stream::iter(looks).buffered(AT_ONCE).collect();
    tokio::time::timeout(patience, verdicts)
        .await
        .map_err(|_| Finding::new(Id::Deadline, "the registries did not answer in time"))
}

/// Why an image can't be pulled, if so.
fn trouble(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::There(_) => None,
        Verdict::Gone => Some("it is not there".to_owned()),
        Verdict::Denied => Some("the registry wants a login".to_owned()),
        Verdict::Unknown(why) => Some(why.clone()),
    }
}

fn listed(documents: &[Value], map: &ImageMap) -> Vec<Listed> {
    let images = images::of_objects(documents).into_iter();
    images
        .map(|original| match map.replacement(&original) {
            Some(image) => Listed { image, original: Some(original) },
            None => Listed { image: original, original: None },
        })
        .collect()
}

impl Load {
    fn run(self, session: &Session) -> Result<(), Finding> {
        let provider = session.provider(&self.provider, Options::default())?;
        if provider.name() == Name::Embedded {
            return Err(Finding::new(Id::ImagesUnsupported, "the embedded cluster runs programs of this machine")
                .advise("Name a cluster with nodes: -p kind or -p minikube"));
        }
        let documents = self.of.documents(session, &self.run.deadline)?;
        let source = stack::Source::new(self.of.stack.supply(None)?.images_later(), move || {
            let documents = documents.clone();
            Box::pin(async move { Ok(documents) })
        });
        let mut plan = Plan::new("images load");
        let cluster = self.cluster_name.clone();
        plan.add(Loaded { provider: Arc::clone(&provider), cluster: cluster.clone(), sources: vec![source] });
        let outcome = session.block_on(async |cancel| session.carry_out(&plan, &self.run, cancel, None).await)?;
        if let Some(outcome) = outcome {
            session.console.success(format!("The images are on the nodes of {cluster}."));
            session.console.document(&json!({
                "provider": provider.name(), "cluster": cluster, "changed": outcome.changed(), "steps": outcome.steps,
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_registry_that_says_nothing_is_not_waited_for() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let image = format!("{}/a:1", silent.local_addr().unwrap());
        let finding = verdicts(&[Listed { image, original: None }], Duration::from_millis(50)).await.unwrap_err();
        assert_eq!((finding.id, finding.cause.as_str()), (Id::Deadline, "the registries did not answer in time"));
    }

    #[test]
    fn an_image_that_cannot_be_pulled_says_why() {
        assert_eq!(trouble(&Verdict::There(None)), None);
        assert_eq!(trouble(&Verdict::Gone).unwrap(), "it is not there");
        assert_eq!(trouble(&Verdict::Denied).unwrap(), "the registry wants a login");
    }

    #[test]
    fn an_image_that_moved_is_listed_with_its_old_name() {
        let documents =
            [json!({"kind": "Pod", "spec": {"containers": [{"image": "gcr.io/kubebuilder/kube-rbac-proxy:v0.8.0"}]}})];
        let listed = listed(&documents, &ImageMap::default());
        assert_eq!(listed[0].image, "quay.io/brancz/kube-rbac-proxy:v0.8.0");
        assert_eq!(listed[0].original.as_deref(), Some("gcr.io/kubebuilder/kube-rbac-proxy:v0.8.0"));
    }
}
