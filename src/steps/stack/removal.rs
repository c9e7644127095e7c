//! The stack taken off a cluster: instances first, while their operators still run, then everything on record.

use std::collections::BTreeSet;
use std::sync::Arc;

use a8s_operators::SYSTEM_NAMESPACE;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, TypeMeta};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Mutex;

use super::inventory::{self, Entry, Recorded, removal_rank};
use super::made::is_made;
use super::{objects, offspring};
use crate::finding::{Evidence, Finding, Id};
use crate::kubernetes::apply::{self, describe};
use crate::kubernetes::{self, Access, Error, wait};
use crate::manifest::resource::{ApiVersion, Kind};
use crate::step::{Context, Observation, Step};

/// Custom resources of the stack in the order in which they go: what refers to instances before them.
const KINDS: [Kind; 4] = [Kind::Restore, Kind::Backup, Kind::ServiceBinding, Kind::Instance];

/// Nothing of what the program has made for the stack should be on the cluster.
pub struct Removed {
    access: Arc<Access>,
    /// What users have said may be lost.
    may_go: Lost,
    /// What this run has seen on record, or should be: the record goes before the namespaces do.
    known: Mutex<Recorded>,
}

impl Removed {
    /// The step.
    pub fn new(access: Arc<Access>, may_go: Lost) -> Self {
        Self { access, may_go, known: Mutex::default() }
    }

    /// What would be lost and nobody was asked about: it was made since.
    fn unasked(&self, found: &[(Api<DynamicObject>, DynamicObject)]) -> Option<Finding> {
        let lost = Lost::of(found);
        let asked = |name: &&String| !self.may_go.instances.contains(name) && !self.may_go.backups.contains(name);
        let name = lost.instances.iter().chain(&lost.backups).find(asked)?;
        let cause = format!("{name} was made after it was asked what may be deleted: it stays, and so does the stack");
        Some(Finding::new(Id::Conflict, cause).advise("Run the same command again: it asks about that, too."))
    }

    /// What is, or was a moment ago, on record.
    async fn recorded(&self, client: &Client) -> Result<Recorded, Error> {
        let found = inventory::read(client).await?;
        let mut known = self.known.lock().await;
        known.installed.extend(found.installed);
        known.offspring.extend(found.offspring);
        known.is_there = found.is_there;
        Ok(known.clone())
    }
}

/// Whether the namespace of the record, which an earlier run may have deleted, has not gone yet.
async fn is_going(client: &Client) -> Result<bool, Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let there = namespaces.get_opt(SYSTEM_NAMESPACE).await;
    let there = there.map_err(|error| Error::request("look for the namespace of the stack", error))?;
    Ok(there.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()))
}

/// Every object of a custom resource in all namespaces; none of one that is not served.
async fn all_of(client: &Client, resource: &ApiResource) -> Result<Vec<DynamicObject>, Error> {
    let all: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let mut list = match all.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        list => list.map_err(|error| Error::request(format!("list {}", resource.plural), error))?,
    };
    for object in &mut list.items {
        object.types = Some(TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() });
    }
    Ok(list.items)
}

/// Every object of the stack's custom resources, with its API. Those of a definition that the program has not made belong to
/// a stack that others have installed.
async fn custom(client: &Client) -> Result<Vec<(Api<DynamicObject>, DynamicObject)>, Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut found = Vec::new();
    for kind in KINDS {
        let definition = definitions.get_metadata_opt(&kind.definition()).await;
        let definition =
            definition.map_err(|error| Error::request(format!("look for the definition {}", kind.kind()), error))?;
        if !definition.is_some_and(|definition| is_made(&definition)) {
            continue;
        }
        let resource = kind.resource(&ApiVersion::default());
        for object in all_of(client, &resource).await? {
            let namespace = object.namespace().unwrap_or_default();
            found.push((Api::namespaced_with(client.clone(), &namespace, &resource), object));
        }
    }
    Ok(found)
}

/// Whether the program has installed a stack on the cluster, also one that is not whole.
///
/// # Errors
/// The cluster can't be asked.
pub async fn is_installed(client: &Client) -> Result<bool, Error> {
    Ok(!inventory::read(client).await?.installed.is_empty())
}

/// The namespaces that the program has installed, or has found and installed into.
///
/// # Errors
/// The cluster can't be asked.
pub async fn namespaces(client: &Client) -> Result<Vec<String>, Error> {
    let installed = inventory::read(client).await?.installed;
    Ok(installed.into_iter().filter(|entry| entry.kind == "Namespace").map(|entry| entry.name).collect())
}

/// What users lose with the stack, as `namespace/name`.
#[derive(Debug, Clone, Default)]
pub struct Lost {
    /// Instances, with their data.
    pub instances: Vec<String>,
    /// Backups, with what is in the store of them.
    pub backups: Vec<String>,
}

impl Lost {
    fn of(found: &[(Api<DynamicObject>, DynamicObject)]) -> Self {
        let of = |kind: Kind| {
            let is_of = |object: &DynamicObject| object.types.as_ref().is_some_and(|types| types.kind == kind.kind());
            let of_kind = found.iter().filter(|(_, object)| is_of(object));
            let name =
                |object: &DynamicObject| format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
            of_kind.map(|(_, object)| name(object)).collect()
        };
        Self { instances: of(Kind::Instance), backups: of(Kind::Backup) }
    }
}

/// What users would lose with the stack.
///
/// # Errors
/// The cluster can't be asked.
pub async fn lost(client: &Client) -> Result<Lost, Error> {
    Ok(Lost::of(&custom(client).await?))
}

/// What is still there of these.
struct Left {
    /// What the program has made, in the order in which it goes.
    made: Vec<(Entry, Api<DynamicObject>)>,
    /// What was there before the stack.
    of_others: Vec<Entry>,
    /// What objects of the stack have made, of this and of earlier looks.
    offspring: BTreeSet<Entry>,
}

impl Removed {
    /// What is still there of what is on record.
    async fn left(&self, client: &Client, recorded: Recorded) -> Result<Left, Error> {
        let mut left = Left { made: Vec::new(), of_others: Vec::new(), offspring: recorded.offspring };
        for entry in recorded.installed {
            let object = entry.object();
            match objects::api(client, &object).await {
                Ok(api) => match apply::get(&api, &object).await? {
                    Some(there) if is_made(&there) => {
                        left.offspring.extend(offspring::of(client, &there).await?);
                        left.made.push((entry, api));
                    }
                    Some(_) => left.of_others.push(entry),
                    None => {}
                },
                // Its definition is gone, and so is it.
                Err(error) if error.is_not_found() || error.is_unknown_kind() => {}
                Err(error) => return Err(error),
            }
        }
        for entry in &left.offspring {
            let object = entry.object();
            let api = objects::api(client, &object).await?;
            if apply::get(&api, &object).await?.is_some() {
                left.made.push((entry.clone(), api));
            }
        }
        // What others have made goes after these: they would make it anew.
        left.made.sort_by_key(|(entry, _)| (removal_rank(entry), left.offspring.contains(entry)));
        self.known.lock().await.offspring.extend(left.offspring.iter().cloned());
        Ok(left)
    }
}

/// Objects of others that would go with the definitions of the stack, such as certificates where cert-manager is part of
/// it. What another object has made, or the program itself, is not told of.
///
/// # Errors
/// The cluster can't be asked.
pub async fn dependants(client: &Client) -> Result<Vec<String>, Error> {
    let entries = inventory::read(client).await?.installed;
    let names: BTreeSet<String> = entries.iter().map(|entry| describe(&entry.object())).collect();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let there = definitions.list(&ListParams::default()).await;
    let there = there.map_err(|error| Error::request("list definitions", error))?;
    let is_ours = |definition: &&CustomResourceDefinition| {
        let is_listed = |entry: &Entry| entry.kind == "CustomResourceDefinition" && entry.name == definition.name_any();
        let is_custom = KINDS.iter().any(|kind| kind.group() == definition.spec.group);
        !is_custom && is_made(*definition) && entries.iter().any(is_listed)
    };
    let mut found = Vec::new();
    for definition in there.iter().filter(is_ours) {
        let Some(version) = definition.spec.versions.iter().find(|version| version.served) else { continue };
        let (group, names_of) = (&definition.spec.group, &definition.spec.names);
        let resource = ApiResource {
            group: group.clone(),
            version: version.name.clone(),
            api_version: format!("{group}/{}", version.name),
            kind: names_of.kind.clone(),
            plural: names_of.plural.clone(),
        };
        for object in all_of(client, &resource).await? {
            let name = describe(&object);
            if object.owner_references().is_empty() && !names.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// Whether an object is a definition of the stack's custom resources.
fn defines(entry: &Entry) -> bool {
    entry.kind == "CustomResourceDefinition" && KINDS.iter().any(|kind| kind.definition() == entry.name)
}

/// What goes first: the definitions. What was made since the last look goes with them, and only operators that still
/// run let it go. Then what goes at once, and what only when all of that is gone: the namespace of the record. As long
/// as anything is there, a run after one that was cut off has to know of it.
fn in_turns<T>(made: Vec<(Entry, T)>) -> [Vec<(Entry, T)>; 3] {
    let (definitions, rest): (Vec<_>, Vec<_>) = made.into_iter().partition(|(entry, _)| defines(entry));
    let (first, last) = rest.into_iter().partition(|(entry, _)| !inventory::holds_record(entry));
    [definitions, first, last]
}

/// Waits until an object is gone; `what` is a word for its kind.
async fn gone(context: &Context, what: &str, entry: &Entry, api: Api<DynamicObject>) -> Result<(), Error> {
    let what = format!("the {what} {} to be gone", entry.name);
    context.progress(format!("waiting for {what}"));
    let is_gone = |there: Option<&DynamicObject>| there.is_none();
    wait::until(api, &entry.name, &format!("wait for {what}"), is_gone).await
}

async fn delete(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<(), Error> {
    let what = format!("delete {}", describe(object));
    kubernetes::delete(api, &object.name_any(), &DeleteParams::foreground(), &what).await
}

#[async_trait]
impl Step for Removed {
    fn id(&self) -> String {
        "stack".to_owned()
    }

    fn title(&self) -> String {
        "remove the a8s stack".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        let recorded = self.recorded(&client).await?;
        if recorded.installed.is_empty() {
            return Ok(match is_going(&client).await? {
                true => Observation::unmet(format!("the namespace {SYSTEM_NAMESPACE} is still being deleted")),
                false => Observation::satisfied("nothing that this program installed is there"),
            });
        }
        if let Some((_, object)) = custom(&client).await?.first() {
            return Ok(Observation::unmet(format!("{} is there", describe(object))));
        }
        let is_recorded = recorded.is_there;
        Ok(match self.left(&client, recorded).await?.made.as_slice() {
            [] if is_recorded => Observation::unmet("the record of what is installed is there"),
            [] => Observation::satisfied("nothing that this program installed is there"),
            [(first, _), rest @ ..] => {
                let rest = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
                Observation::unmet(format!("{} is there{rest}", describe(&first.object())))
            }
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let client = self.access.client().await?;
        // Operators must still be there to take back what they made for these.
        loop {
            let found = custom(&client).await?;
            let Some((_, first)) = found.first() else { break };
            if let Some(finding) = self.unasked(&found) {
                return Err(finding);
            }
            context.progress(format!("waiting for {} to be gone", describe(first)));
            for (api, object) in found.iter().filter(|(_, object)| object.metadata.deletion_timestamp.is_none()) {
                context.command(format!("kubectl delete {}", describe(object).replace(' ', "/")));
                delete(api, object).await?;
            }
            let (api, name) = (found[0].0.clone(), found[0].1.name_any());
            let gone = kube::runtime::wait::conditions::is_deleted(first.metadata.uid.as_deref().unwrap_or_default());
            wait::until(api, &name, &format!("wait for {name} to be gone"), gone).await?;
        }
        let left = self.left(&client, self.recorded(&client).await?).await?;
        let noted = inventory::read(&client).await?;
        // Where the record is going already, they are on it, and nothing can be noted any more.
        if noted.is_there && !left.offspring.is_subset(&noted.offspring) {
            inventory::note_offspring(&client, left.offspring).await?;
        }
        let [definitions, first, last] = in_turns(left.made);
        for (entry, api) in &definitions {
            delete(api, &entry.object()).await?;
        }
        for (entry, api) in definitions {
            gone(context, "definition", &entry, api).await?;
        }
        for (entry, api) in &first {
            delete(api, &entry.object()).await?;
        }
        for (entry, api) in first.into_iter().filter(|(entry, _)| entry.kind == "Namespace") {
            gone(context, "namespace", &entry, api).await?;
        }
        for (entry, api) in &last {
            delete(api, &entry.object()).await?;
        }
        let stays = |entry: &Entry| describe(&entry.object());
        if !left.of_others.is_empty() {
            let stay: Vec<String> = left.of_others.iter().map(stays).collect();
            context.warn(format!("what was there before the stack stays: {}", stay.join(", ")));
        }
        inventory::forget(&client).await?;
        Ok(())
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        let objects = custom(&client).await.unwrap_or_default();
        let lines = objects.iter().filter_map(|(_, object)| {
            let finalizers = object.metadata.finalizers.as_ref().filter(|finalizers| !finalizers.is_empty())?;
            Some(format!("{} waits for its finalizers {}", describe(object), finalizers.join(", ")))
        });
        vec![Evidence { about: "what is left".to_owned(), lines: lines.collect() }]
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn what_was_made_after_the_question_stays() {
        let service = tower::service_fn(|_request: http::Request<Body>| async {
            Ok::<_, Infallible>(http::Response::new(Body::from(Vec::<u8>::new())))
        });
        let client = Client::new(service, "default");
        let found = |kind: Kind, name: &str| {
            let resource = kind.resource(&ApiVersion::default());
            let object = DynamicObject::new(name, &resource).within("shop");
            (Api::namespaced_with(client.clone(), "shop", &resource), object)
        };
        let asked = Lost { instances: vec!["shop/solo".to_owned()], backups: vec!["shop/nightly".to_owned()] };
        let removed = Removed::new(Arc::default(), asked);
        let there = [found(Kind::Instance, "solo"), found(Kind::Backup, "nightly")];
        assert_eq!(removed.unasked(&there), None);
        for (kind, name) in [(Kind::Instance, "shop/late"), (Kind::Backup, "shop/late")] {
            let mut there = there.to_vec();
            there.push(found(kind, "late"));
            let finding = removed.unasked(&there).unwrap();
            assert_eq!(finding.id, Id::Conflict);
            let cause =
                format!("{name} was made after it was asked what may be deleted: it stays, and so does the stack");
            assert_eq!(finding.cause, cause);
            assert_eq!(finding.advice, ["Run the same command again: it asks about that, too."]);
        }
    }

    #[test]
    fn definitions_go_first_and_the_namespace_of_the_record_goes_last() {
        let entry = |kind: &str, name: &str| {
            let entry = Entry {
                api_version: "v1".to_owned(),
                kind: kind.to_owned(),
                namespace: String::new(),
                name: name.to_owned(),
            };
            (entry, ())
        };
        let definition = entry("CustomResourceDefinition", &Kind::Instance.definition());
        let made = [("ClusterRole", "a8s-system"), ("Namespace", "a8s-system"), ("Namespace", "minio-dev")];
        let mut made = made.map(|(kind, name)| entry(kind, name)).to_vec();
        // Those of cert-manager have no operators of the stack.
        made.extend([entry("CustomResourceDefinition", "certificates.cert-manager.io"), definition.clone()]);
        let [definitions, first, last] = in_turns(made);
        assert_eq!(definitions, [definition]);
        assert_eq!(
            first,
            [
                entry("ClusterRole", "a8s-system"),
                entry("Namespace", "minio-dev"),
                entry("CustomResourceDefinition", "certificates.cert-manager.io"),
            ]
        );
        assert_eq!(last, [entry("Namespace", "a8s-system")]);
    }
}
