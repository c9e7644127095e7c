//! The plan of an installation: which parts a stack has, and in which order they come. Components follow from what was
//! chosen: no MinIO where backups go elsewhere, no cert-manager for the builtin stack.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use a8s_operators::object_store::manifests as own;
use a8s_operators::store::{ACCESS_KEY, CONFIG, CONFIG_KEY, CREDENTIALS, PASSWORD, SECRET_KEY};
use kube::api::{ApiResource, DynamicObject};
use serde::Serialize;
use serde_json::{Value, json};

use super::backup_config::{self, Choice};
use super::images;
use super::release::{Fetched, Wanted};
use super::stack::{self, Installing, Part, Probe, Site, Source, supply};
use crate::config::WorkingDirectory;
use crate::finding::{Finding, Id};
use crate::kubernetes::Access;
use crate::manifest::images::{ImageMap, of_objects};
use crate::manifest::release::{BACKUP_CONFIG, MANIFESTS};
use crate::manifest::{kustomization, minio};
use crate::provider::docker::docker;
use crate::provider::tool::Tool;
use crate::provider::{ClusterName, Provider, builtin};
use crate::step::{Handle, Plan};

/// Finds the controller of cert-manager, whoever has installed it where (its own chart's `labels`).
const CERT_MANAGER: &str = "app.kubernetes.io/name=cert-manager,app.kubernetes.io/component=controller";

/// Changes with the image of a pod, whose name stays when it is built anew.
const IMAGE: &str = "a8s.a9s/image";

/// What is installed on a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StackName {
    /// The released manifests and images.
    Upstream,
    /// This repository's operators.
    Builtin,
}

impl FromStr for StackName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "upstream" => Ok(Self::Upstream),
            "builtin" => Ok(Self::Builtin),
            other => Err(format!("{other:?} is no stack; there are `upstream` and `builtin`")),
        }
    }
}

impl std::fmt::Display for StackName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Upstream => "upstream",
            Self::Builtin => "builtin",
        })
    }
}

/// The stack with what it needs to know.
#[derive(Clone)]
pub enum Stack {
    /// The builtin one.
    Builtin {
        /// Who made the cluster, and its name there. A cluster without one pulls its images.
        provider: Option<(Arc<dyn Provider>, ClusterName)>,
    },
    /// The released one.
    Upstream,
}

impl Stack {
    /// What it is called.
    pub const fn name(&self) -> StackName {
        match self {
            Self::Builtin { .. } => StackName::Builtin,
            Self::Upstream => StackName::Upstream,
        }
    }
}

/// What is to be installed.
pub struct Installation {
    /// Where what is fetched and generated lies.
    pub directory: WorkingDirectory,
    /// What is installed.
    pub stack: Stack,
    /// What it is made of.
    pub supply: Arc<supply::Choice>,
    /// Where backups go.
    pub choice: Arc<Choice>,
}

/// Adds the steps that get what an installation needs besides its cluster, as far as that has nothing to say of it. A cluster
/// that takes long to make should be made after them: where they fail, nothing has been.
pub fn prepare(plan: &mut Plan, after: &[Handle], installation: &Installation) -> Vec<Handle> {
    let Installation { directory, stack, supply, .. } = installation;
    match stack {
        Stack::Builtin { provider: Some((provider, cluster)) } if provider.has_nodes() => {
            vec![plan.after(after, images::Built { provider: provider.clone(), cluster: cluster.clone() })]
        }
        Stack::Upstream if supply.is_settled() => fetch(plan, after, directory, supply),
        Stack::Builtin { .. } | Stack::Upstream => Vec::new(),
    }
}

/// Adds the steps that fetch what is released.
fn fetch(plan: &mut Plan, after: &[Handle], directory: &WorkingDirectory, supply: &Arc<supply::Choice>) -> Vec<Handle> {
    let wanted: [fn(&supply::Choice) -> Wanted; 2] = [supply::Choice::manifests, supply::Choice::cert_manager];
    let fetched = wanted.map(|wanted| {
        let supply = supply.clone();
        plan.after(after, Fetched::later(directory.clone(), move || wanted(&supply)))
    });
    fetched.into()
}

/// Adds the steps of an installation on a cluster that is there when `after` are done; what [`prepare`] has added is among
/// them.
pub fn add(plan: &mut Plan, after: &[Handle], access: Arc<Access>, installation: Installation) -> Handle {
    let Installation { directory, stack, supply, choice } = installation;
    let site = Site::new(access);
    let adopted = supply::Adopted { site: site.clone(), choice: supply.clone() };
    // The steps after which it is known what the stack is made of, and the record.
    let (known, record) = match stack {
        _ if supply.is_settled() => (after.to_vec(), add_record(plan, after, &site, stack.name())),
        // What is released is fetched before anything is made on the cluster.
        Stack::Upstream => {
            let adopted = plan.after(after, adopted);
            let fetched = fetch(plan, &[adopted], &directory, &supply);
            let record = add_record(plan, &fetched, &site, stack.name());
            (fetched, record)
        }
        // A record in a namespace that this run has made need not be read.
        Stack::Builtin { .. } => {
            let record = add_record(plan, after, &site, stack.name());
            let adopted = plan.after(&[record], adopted);
            (vec![adopted], adopted)
        }
    };
    let adopted = backup_config::Adopted::new(site.clone(), directory.clone(), choice.clone());
    let adopted = plan.after(&[record], adopted);
    let written = backup_config::Written { directory: directory.clone(), choice: choice.clone() };
    let written = plan.after(&[adopted], written);
    match stack {
        Stack::Builtin { provider } => {
            add_builtin(plan, &known, written, Builtin { site, directory, provider, supply, choice })
        }
        Stack::Upstream => {
            let mut needed = vec![cert_manager_part(&site, &directory, &supply)];
            needed.extend(choice.may_be_minio().then(|| minio_part(&site, &supply, choice)));
            let source = released(supply.clone(), directory);
            let probe = Some(stack::instance_probe());
            let system = Part { site, title: "the a8s System", id: stack::STACK, source, probe }.begin();
            let parts = needed.iter().chain([&system]).cloned().collect();
            let record = stack::record(plan, &[written], &supply, parts);
            let needed: Vec<Handle> = needed.into_iter().map(|part| stack::install(plan, &[record], part)).collect();
            stack::install(plan, &needed, system)
        }
    }
}

/// Adds the steps that write what an installation would apply. No cluster is asked: the encryption password is the one of
/// the working directory, and the images are pulled. Returns the files in the order in which they are to be applied.
pub fn write(plan: &mut Plan, installation: Installation) -> Vec<PathBuf> {
    let Installation { directory, stack, supply, choice } = installation;
    let mut needed = vec![plan.add(backup_config::Written { directory: directory.clone(), choice: choice.clone() })];
    let mut parts = Vec::new();
    match stack {
        Stack::Builtin { .. } => {
            if choice.store().is_minio() {
                parts.push(("object-store", own_store(supply.clone(), choice.clone())));
            }
            parts.push(("stack", with_settings(builtin_source(supply, None), directory.clone())));
        }
        Stack::Upstream => {
            parts.push(("cert-manager", cert_manager_source(supply.clone(), directory.clone(), None)));
            if choice.store().is_minio() {
                parts.push(("object-store", minio_source(supply.clone(), choice.clone())));
            }
            needed.extend(fetch(plan, &[], &directory, &supply));
            parts.push(("stack", released(supply, directory.clone())));
        }
    }
    let manifests = stack::Manifests { directory: directory.stack_manifests(), parts };
    let paths = manifests.paths();
    plan.after(&needed, manifests);
    paths
}

/// Adds the namespace of the stack, in which everything that is installed is on record: no other stack is.
fn add_record(plan: &mut Plan, after: &[Handle], site: &Arc<Site>, wanted: StackName) -> Handle {
    let space = Part {
        site: site.clone(),
        title: "the record of the installation",
        id: "record",
        source: Source::new(ImageMap::default, || Box::pin(async { Ok(vec![a8s_operators::manifests::namespace()]) })),
        probe: None,
    };
    let record = stack::prepare(plan, after, space);
    plan.after(&[record], stack::OneStack { site: site.clone(), wanted })
}

struct Builtin {
    site: Arc<Site>,
    directory: WorkingDirectory,
    provider: Option<(Arc<dyn Provider>, ClusterName)>,
    supply: Arc<supply::Choice>,
    choice: Arc<Choice>,
}

/// The stack and its store at the same time: neither needs the other to begin. Images are loaded as soon as there are
/// nodes and it is known which: those become ready meanwhile.
fn add_builtin(plan: &mut Plan, known: &[Handle], written: Handle, builtin: Builtin) -> Handle {
    let Builtin { site, directory, provider, supply, choice } = builtin;
    let mut own = choice.may_be_minio().then(|| own_store(supply.clone(), choice.clone()));
    let operators = builtin_source(supply.clone(), provider.clone());
    let mut source = with_settings(operators.clone(), directory);
    let mut needed = vec![written];
    if let Some((provider, cluster)) = provider
        && provider.has_nodes()
    {
        // Read apart from what is installed: it may not be known yet where backups go.
        let store = own_store(supply.clone(), choice);
        let sources = vec![store, operators];
        needed.push(plan.after(known, images::Loaded { provider, cluster, sources }));
        source = with_ids(source, docker());
        own = own.map(|own| with_ids(own, docker()));
    }
    let probe = Some(stack::instance_probe());
    let system = Part { site: site.clone(), title: "the a8s System", id: stack::STACK, source, probe }.begin();
    let title = "the object store";
    let store = own.map(|source| Part { site, title, id: "object-store", source, probe: None }.begin());
    let parts = [&system].into_iter().chain(&store).cloned().collect();
    let record = stack::record(plan, &needed, &supply, parts);
    let installed = stack::install(plan, &[record], system);
    if let Some(store) = store {
        stack::install(plan, &[record], store);
    }
    installed
}

/// The objects of the builtin stack, but for what it is told of its store.
fn builtin_source(supply: Arc<supply::Choice>, provider: Option<(Arc<dyn Provider>, ClusterName)>) -> Arc<Source> {
    Source::new(supply.images_later(), move || {
        let provider = provider.clone();
        Box::pin(async move {
            let options = match provider {
                Some((provider, cluster)) => provider.builtin_stack(&cluster).await?,
                None => pulled(),
            };
            stack::values_of(&a8s_operators::manifests::manifests(&options))
        })
    })
}

/// The objects of the builtin stack, with what it is told of its store.
fn with_settings(stack: Arc<Source>, directory: WorkingDirectory) -> Arc<Source> {
    // Its images are where the map has them already.
    Source::new(ImageMap::default, move || {
        let (stack, directory) = (stack.clone(), directory.clone());
        Box::pin(async move {
            let mut values = stack::values_of(stack.objects().await?)?;
            values.extend(settings(&directory)?);
            Ok(values)
        })
    })
}

/// The objects, with the ids of the images of this machine in what makes pods: of an image that was built anew there are new
/// pods. Instances are not among them: what they run is not to be restarted.
fn with_ids(objects: Arc<Source>, docker: Tool) -> Arc<Source> {
    // Their images are where the map has them already.
    Source::new(ImageMap::default, move || {
        let (objects, docker) = (objects.clone(), docker.clone());
        Box::pin(async move {
            let mut values = stack::values_of(objects.objects().await?)?;
            for value in values.iter_mut().filter(|value| value["spec"]["template"].is_object()) {
                let mut ids = Vec::new();
                for image in of_objects(std::slice::from_ref(&*value)) {
                    ids.push(builtin::id(&docker, &image).await?);
                }
                value["spec"]["template"]["metadata"]["annotations"][IMAGE] = ids.join(" ").into();
            }
            Ok(values)
        })
    })
}

/// The ConfigMap and the Secret that tell the stack of its store, from the files.
fn settings(directory: &WorkingDirectory) -> Result<[Value; 2], Finding> {
    use base64::Engine as _;
    let encoded =
        |name| generated(directory, name).map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes));
    let metadata = |name: &str| json!({"name": name, "namespace": a8s_operators::SYSTEM_NAMESPACE});
    let document = String::from_utf8_lossy(&generated(directory, CONFIG_KEY)?).into_owned();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(CONFIG), "data": {CONFIG_KEY: document},
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata(CREDENTIALS), "type": "Opaque",
        "data": {
            ACCESS_KEY: encoded(ACCESS_KEY)?, SECRET_KEY: encoded(SECRET_KEY)?, PASSWORD: encoded(PASSWORD)?,
        },
    });
    Ok([map, secret])
}

/// The builtin stack's own store; nothing where backups go elsewhere.
fn own_store(supply: Arc<supply::Choice>, choice: Arc<Choice>) -> Arc<Source> {
    Source::new(supply.images_later(), move || {
        let store = choice.store();
        Box::pin(async move {
            if !store.is_minio() {
                return Ok(Vec::new());
            }
            stack::values_of(&own::manifests(&own::Options { bucket: store.bucket, credentials: store.credentials }))
        })
    })
}

/// The builtin stack on a cluster that pulls its images: from where the image map says.
fn pulled() -> a8s_operators::manifests::Options {
    use a8s_operators::manifests::{Options, Webhook};
    const MAJOR: u32 = 15;
    let images = [(MAJOR, format!("a9s/postgresql:{MAJOR}"))].into();
    Options { images, webhook: Webhook::Service, operators: Some(builtin::operators()) }
}

fn cert_manager_part(site: &Arc<Site>, directory: &WorkingDirectory, supply: &Arc<supply::Choice>) -> Arc<Installing> {
    let source = cert_manager_source(supply.clone(), directory.clone(), Some(site.access().clone()));
    let probe = Some(issuer_probe());
    Part { site: site.clone(), title: "cert-manager", id: "cert-manager", source, probe }.begin()
}

/// The objects of cert-manager; none on a cluster that has another one.
fn cert_manager_source(
    supply: Arc<supply::Choice>,
    directory: WorkingDirectory,
    cluster: Option<Arc<Access>>,
) -> Arc<Source> {
    Source::new(supply.clone().images_later(), move || {
        let (path, cluster) = (supply.cert_manager().path(&directory), cluster.clone());
        Box::pin(async move {
            if let Some(cluster) = cluster
                && stack::is_foreign(&cluster.client().await?, CERT_MANAGER).await?
            {
                // Somebody else looks after it.
                return Ok(Vec::new());
            }
            let text =
                fs_err::read_to_string(&path).map_err(|error| Finding::new(Id::ManifestsMissing, error.to_string()))?;
            Ok(kustomization::objects_of(&path, &text)?)
        })
    })
}

/// What cert-manager must admit before it is of use.
fn issuer_probe() -> Probe {
    let resource = ApiResource {
        group: "cert-manager.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "cert-manager.io/v1".to_owned(),
        kind: "Issuer".to_owned(),
        plural: "issuers".to_owned(),
    };
    let mut object = DynamicObject::new("a9s-probe", &resource);
    object.metadata.namespace = Some("default".to_owned());
    object.data = json!({"spec": {"selfSigned": {}}});
    Probe { resource, object }
}

fn minio_part(site: &Arc<Site>, supply: &Arc<supply::Choice>, choice: Arc<Choice>) -> Arc<Installing> {
    let source = minio_source(supply.clone(), choice);
    Part { site: site.clone(), title: "the MinIO object store", id: "minio", source, probe: None }.begin()
}

/// MinIO; nothing where backups go elsewhere.
fn minio_source(supply: Arc<supply::Choice>, choice: Arc<Choice>) -> Arc<Source> {
    Source::new(supply.images_later(), move || {
        let store = choice.store();
        Box::pin(async move {
            if !store.is_minio() {
                return Ok(Vec::new());
            }
            Ok(minio::documents(&own::Options { bucket: store.bucket, credentials: store.credentials }))
        })
    })
}

/// The released documents, with the generated files in the places where their kustomization wants them.
pub fn released(supply: Arc<supply::Choice>, directory: WorkingDirectory) -> Arc<Source> {
    Source::new(supply.clone().images_later(), move || {
        let (release, directory) = (supply.manifests().path(&directory), directory.clone());
        Box::pin(async move { render(&release, &|name| generated(&directory, name)) })
    })
}

/// A generated file.
fn generated(directory: &WorkingDirectory, name: &str) -> Result<Vec<u8>, Finding> {
    fs_err::read(directory.backup_config().join(name))
        .map_err(|error| Finding::new(Id::ManifestsMissing, error.to_string()))
}

/// Renders a release; `read` gives the generated files by their names.
///
/// # Errors
/// The release or a generated file can't be read.
pub fn render(release: &Path, read: &dyn Fn(&str) -> Result<Vec<u8>, Finding>) -> Result<Vec<Value>, Finding> {
    let release = std::path::absolute(release).unwrap_or_else(|_| release.to_owned());
    let mut files = kustomization::Files::default();
    for name in backup_config::FILES {
        files = files.with(&release.join(BACKUP_CONFIG).join(name), read(name)?);
    }
    Ok(kustomization::render(&release.join(MANIFESTS), &files)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::Target;
    use crate::manifest::release::Version;
    use crate::provider::{Name, Options, of_name};
    use crate::steps::backup_config::{Owner, Wish};

    fn plan(stack: Stack, owner: Owner) -> String {
        let supply = supply::Supply { version: Some(Version::Latest), ..supply::Supply::default() };
        let mut plan = Plan::new("create stack a8s");
        add(
            &mut plan,
            &[],
            Arc::new(Access::new(Target::default())),
            Installation {
                directory: WorkingDirectory("/a9s".into()),
                supply: supply::Choice::new(stack.name(), supply),
                stack,
                choice: Choice::new(Wish { owner: Some(owner), ..Wish::default() }),
            },
        );
        plan.describe()
    }

    #[tokio::test]
    async fn what_makes_pods_names_the_images_of_this_machine() {
        let directory = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kind");
        let docker = docker().at(&script).with("RECORDED_STATE", directory.path().as_os_str());
        let source =
            with_ids(builtin_source(supply::Choice::new(StackName::Builtin, supply::Supply::default()), None), docker);
        let values = stack::values_of(source.objects().await.unwrap()).unwrap();
        let annotations = |value: &Value| value.pointer("/spec/template/metadata/annotations").cloned();
        let found: Vec<Value> = values.iter().filter_map(annotations).collect();
        assert_eq!(found, [json!({(IMAGE): "sha256:1"})], "the operators', and nobody else's");
    }

    #[test]
    fn components_follow_from_what_was_chosen() {
        let kind = of_name(Name::Kind, Options::default()).unwrap();
        let builtin = Stack::Builtin { provider: Some((kind, "a8s".parse().unwrap())) };
        insta::with_settings!({snapshot_path => "../../snapshots/plans", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("create_stack_upstream_minio", plan(Stack::Upstream, Owner::Minio));
            insta::assert_snapshot!("create_stack_upstream_aws", plan(Stack::Upstream, Owner::Aws));
            insta::assert_snapshot!("create_stack_builtin_kind", plan(builtin, Owner::Minio));
        });
    }
}
