//! What the program has installed, on record in the cluster: `delete stack` removes exactly that.
//!
//! The record is written before the objects, and only grows: after any cut there is nothing of ours that it does not name.
//! What the stack is made of is beside it, for the next run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use a8s_operators::manifests::AGENT_ROLE;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::Mutex;

use super::objects::rank;
use super::{Installing, Site, supply};
use crate::finding::{Finding, Id};
use crate::kubernetes::{Error, FIELD_MANAGER, delete};
use crate::step::{Context, Observation, Step};
use crate::steps::install::StackName;

/// Where the record is: the namespace of the stack, which goes last.
const NAMESPACE: &str = a8s_operators::SYSTEM_NAMESPACE;
const NAME: &str = "a9s-inventory";
/// The key of what objects on record have made.
const OFFSPRING: &str = "offspring";
/// The key of what the stack is made of.
const SUPPLY: &str = "supply";

/// One object on record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// `apps/v1`, `v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Empty for objects without one.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Entry {
    fn of(object: &DynamicObject) -> Self {
        let types = object.types.clone().unwrap_or_default();
        Self {
            api_version: types.api_version,
            kind: types.kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }

    fn line(&self) -> String {
        format!("{} {} {} {}", self.api_version, self.kind, dash(&self.namespace), self.name)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').map(str::to_owned);
        let (api_version, kind, namespace, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let namespace = if namespace == "-" { String::new() } else { namespace };
        Some(Self { api_version, kind, namespace, name })
    }

    /// The object by its name alone.
    pub fn object(&self) -> DynamicObject {
        let types = kube::api::TypeMeta { api_version: self.api_version.clone(), kind: self.kind.clone() };
        let mut object =
            DynamicObject { types: Some(types), metadata: Default::default(), data: serde_json::Value::Null };
        object.metadata.name = Some(self.name.clone());
        object.metadata.namespace = Some(self.namespace.clone()).filter(|namespace| !namespace.is_empty());
        object
    }
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// What is on record.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// What parts of the stack have installed.
    pub installed: BTreeSet<Entry>,
    /// What objects among it have made in turn, noted before they go.
    pub offspring: BTreeSet<Entry>,
    /// Whether there is a record, also an empty one.
    pub is_there: bool,
}

fn maps(client: Client) -> Api<ConfigMap> {
    Api::namespaced(client, NAMESPACE)
}

async fn map(client: Client) -> Result<Option<ConfigMap>, Error> {
    maps(client).get_opt(NAME).await.map_err(|error| Error::request("read what is installed", error))
}

/// Reads the record.
///
/// # Errors
/// The cluster can't be asked.
pub async fn read(client: &Client) -> Result<Recorded, Error> {
    let there = map(client.clone()).await?;
    let is_there = there.as_ref().is_some_and(|map| map.metadata.deletion_timestamp.is_none());
    let mut data = there.and_then(|map| map.data).unwrap_or_default();
    let offspring = data.remove(OFFSPRING).map(|text| entries(&text)).unwrap_or_default();
    data.remove(SUPPLY);
    Ok(Recorded { installed: data.values().flat_map(|text| entries(text)).collect(), offspring, is_there })
}

/// Notes texts by their keys in the record. What a field manager has noted, no other takes back.
async fn note(client: Client, manager: &str, data: BTreeMap<&str, String>) -> Result<(), Error> {
    let patch = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data,
    });
    let mut parameters = PatchParams::apply(&format!("{FIELD_MANAGER}-{manager}"));
    parameters.force = true;
    let noted = maps(client).patch(NAME, &parameters, &Patch::Apply(&patch)).await;
    noted.map(drop).map_err(|error| Error::request("note what is installed", error))
}

/// Notes what objects on record have made: a deletion that is cut off knows it again.
///
/// # Errors
/// The request fails.
pub async fn note_offspring(client: &Client, made: BTreeSet<Entry>) -> Result<(), Error> {
    note(client.clone(), OFFSPRING, [(OFFSPRING, text(&made))].into()).await
}

/// Whether an object is the namespace that the record is in.
pub fn holds_record(entry: &Entry) -> bool {
    entry.kind == "Namespace" && entry.name == NAMESPACE
}

/// Removes the record: where its namespace stays, it would stay too.
///
/// # Errors
/// The request fails.
pub async fn forget(client: &Client) -> Result<(), Error> {
    let what = "remove the record of what is installed";
    delete(&maps(client.clone()), NAME, &DeleteParams::default(), what).await
}

fn entries(text: &str) -> BTreeSet<Entry> {
    text.lines().filter_map(Entry::parse).collect()
}

fn text(entries: &BTreeSet<Entry>) -> String {
    entries.iter().map(Entry::line).collect::<Vec<_>>().join("\n")
}

/// What is installed should be on record: the objects of parts, under the short name of each, and what they are made of. The
/// namespace of the record is prepared before.
pub struct Inventory {
    parts: Vec<Arc<Installing>>,
    supply: Arc<supply::Choice>,
    /// What was on record when this run looked, by the key in the record.
    found: Mutex<BTreeMap<String, String>>,
}

impl Inventory {
    /// The step.
    pub fn new(parts: Vec<Arc<Installing>>, supply: Arc<supply::Choice>) -> Self {
        Self { parts, supply, found: Mutex::default() }
    }
}

/// The record, by the short names of parts. In a namespace that this run has made there is none, unless another part of the
/// plan has written it.
async fn record(site: &Site) -> Result<BTreeMap<String, String>, Finding> {
    if site.is_new() {
        return Ok(BTreeMap::new());
    }
    Ok(map(site.client().await?).await?.and_then(|map| map.data).unwrap_or_default())
}

/// Where the record says what the stack is made of, for people.
pub(super) fn place_of_supply() -> String {
    format!("key {SUPPLY} of the configmap {NAMESPACE}/{NAME}")
}

/// What the stack is made of, as the record has it.
pub(super) async fn supply(site: &Site) -> Result<Option<String>, Finding> {
    Ok(record(site).await?.remove(SUPPLY))
}

async fn wanted(part: &Installing) -> Result<BTreeSet<Entry>, Finding> {
    Ok(part.source.objects().await?.iter().map(Entry::of).collect())
}

/// What the record `found` says of a part.
fn noted(found: &BTreeMap<String, String>, part: &Installing) -> BTreeSet<Entry> {
    found.get(part.id).map(|text| entries(text)).unwrap_or_default()
}

#[async_trait]
impl Step for Inventory {
    fn id(&self) -> String {
        let ids: Vec<&str> = self.parts.iter().map(|part| part.id).collect();
        format!("{}-inventory", ids.join("-and-"))
    }

    fn title(&self) -> String {
        "note in the cluster what is installed".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let Some(first) = self.parts.first() else { return Ok(Observation::satisfied("there is nothing to note")) };
        let there = record(&first.site).await?;
        let mut is_noted = there.get(SUPPLY) == Some(&self.supply.record());
        for part in &self.parts {
            is_noted &= wanted(part).await?.is_subset(&noted(&there, part));
        }
        *self.found.lock().await = there;
        Ok(match is_noted {
            true => Observation::satisfied("it is noted"),
            false => Observation::unmet("it is not noted"),
        })
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        let found = self.found.lock().await.clone();
        let Some(first) = self.parts.first() else { return Ok(()) };
        let mut all = BTreeMap::from([(SUPPLY, self.supply.record())]);
        for part in &self.parts {
            let mut entries = noted(&found, part);
            entries.extend(wanted(part).await?);
            all.insert(part.id, text(&entries));
        }
        Ok(note(first.site.client().await?, &self.id(), all).await?)
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied("it is noted"))
    }
}

/// No other stack should be on the cluster, whoever has installed it: operators of both would look after the same instances.
pub struct OneStack {
    /// The cluster.
    pub site: Arc<Site>,
    /// The stack that is to be there.
    pub wanted: StackName,
}

/// Which stack is on record. Only the builtin one says what it can do.
fn recorded(record: &BTreeMap<String, String>) -> Option<StackName> {
    let entries = entries(record.get(super::STACK)?);
    entries.first()?;
    let says = |entry: &Entry| entry.kind == "ConfigMap" && entry.name == a8s_operators::manifests::STACK;
    Some(if entries.iter().any(says) { StackName::Builtin } else { StackName::Upstream })
}

/// Which stack is there that nobody has put on record: the role of its instances' members is. In a namespace that this run
/// has made there is none.
async fn unrecorded(site: &Site) -> Result<Option<StackName>, Finding> {
    if site.is_new() {
        return Ok(None);
    }
    let roles: Api<ClusterRole> = Api::all(site.client().await?);
    let role = roles.get_opt(AGENT_ROLE).await;
    let role = role.map_err(|error| Error::request(format!("look for the ClusterRole {AGENT_ROLE}"), error))?;
    Ok(role.as_ref().map(stack_of))
}

/// Which stack the role of members is of: those of the builtin one tell in a Lease who leads, those of the released one in
/// Endpoints.
fn stack_of(role: &ClusterRole) -> StackName {
    let mut resources = role.rules.iter().flatten().flat_map(|rule| rule.resources.iter().flatten());
    if resources.any(|resource| resource == "leases") { StackName::Builtin } else { StackName::Upstream }
}

#[async_trait]
impl Step for OneStack {
    fn id(&self) -> String {
        "one-stack".to_owned()
    }

    fn title(&self) -> String {
        "see that no other a8s stack is installed".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let on_record = recorded(&record(&self.site).await?);
        let there = if on_record.is_some() { on_record } else { unrecorded(&self.site).await? };
        match there {
            Some(other) if other != self.wanted && !sabotage::sabotaged!("stacks-replace-each-other") => {
                let cause = format!(
                    "the {other} a8s stack is installed there, and the {} one would take its place",
                    self.wanted
                );
                let removal = match on_record {
                    Some(_) => "a9s delete stack a8s".to_owned(),
                    None => format!("by what installed it, until the ClusterRole {AGENT_ROLE} is gone"),
                };
                Err(Finding::new(Id::StackOther, cause)
                    .advise(format!("Go on with the one that is there: --stack {other}"))
                    .advise(format!("For the other one, remove it first, with its instances: {removal}")))
            }
            _ => Ok(Observation::satisfied("there is none")),
        }
    }
}

/// The order of removal is that of installation, reversed.
pub(super) fn removal_rank(entry: &Entry) -> std::cmp::Reverse<u8> {
    std::cmp::Reverse(rank(&entry.object()))
}

#[cfg(test)]
mod tests {
    use a8s_operators::manifests::{Options, Webhook, manifests};

    use super::*;

    #[test]
    fn entries_are_read_as_they_are_written() {
        for (api_version, namespace) in [("v1", ""), ("apps/v1", "a8s-system")] {
            let entry = Entry {
                api_version: api_version.to_owned(),
                kind: "Deployment".to_owned(),
                namespace: namespace.to_owned(),
                name: "x".to_owned(),
            };
            assert_eq!(Entry::parse(&entry.line()), Some(entry));
        }
        assert_eq!(Entry::parse("rubbish"), None);
    }

    #[test]
    fn the_builtin_stack_is_known_from_its_word() {
        let of = |text: &str| recorded(&[("stack".to_owned(), text.to_owned())].into());
        assert_eq!(recorded(&BTreeMap::new()), None);
        assert_eq!(of("apps/v1 Deployment a8s-system x\nv1 ConfigMap a8s-system a8s-stack"), Some(StackName::Builtin));
        assert_eq!(of("apps/v1 Deployment a8s-system x"), Some(StackName::Upstream));
    }

    #[test]
    fn a_stack_without_a_record_is_known_from_what_its_members_may_do() {
        let released: ClusterRole = serde_json::from_value(json!({
            "metadata": {"name": AGENT_ROLE},
            "rules": [
                {"apiGroups": [""], "resources": ["endpoints"], "verbs": ["create", "get", "patch", "watch"]},
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "patch"]},
            ],
        }))
        .unwrap();
        assert_eq!(stack_of(&released), StackName::Upstream);
        let ours = manifests(&Options { images: BTreeMap::new(), webhook: Webhook::Service, operators: None });
        let ours = ours.iter().find(|object| object.name_any() == AGENT_ROLE).unwrap();
        let ours: ClusterRole = serde_json::from_value(serde_json::to_value(ours).unwrap()).unwrap();
        assert_eq!(stack_of(&ours), StackName::Builtin);
    }
}
