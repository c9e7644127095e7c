//! What the program has installed, on record in the cluster: `delete stack` removes exactly that.
//!
//! The record is written before the objects, and only grows: after any cut there is nothing of ours that it does not name.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::Mutex;

use super::Installing;
use super::objects::rank;
use crate::finding::Finding;
use crate::kubernetes::{Error, FIELD_MANAGER};
use crate::step::{Context, Observation, Step};

/// Where the record is: the namespace of the stack, which goes last.
const NAMESPACE: &str = a8s_operators::SYSTEM_NAMESPACE;
const NAME: &str = "a9s-inventory";

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

/// Reads the record: everything that parts of the stack have installed.
///
/// # Errors
/// The cluster can't be asked.
pub async fn read(client: &Client) -> Result<BTreeSet<Entry>, Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let there = api.get_opt(NAME).await.map_err(|error| Error::request("read what is installed", error))?;
    Ok(there.and_then(|map| map.data).into_iter().flatten().flat_map(|(_, text)| entries(&text)).collect())
}

fn entries(text: &str) -> BTreeSet<Entry> {
    text.lines().filter_map(Entry::parse).collect()
}

/// What is installed should be on record.
pub struct Inventory {
    part: Arc<Installing>,
    /// What was on record when this run looked.
    found: Mutex<BTreeSet<Entry>>,
}

impl Inventory {
    /// The step; the short name of the part is its key in the record.
    pub fn new(part: Arc<Installing>) -> Self {
        Self { part, found: Mutex::default() }
    }

    async fn there(&self, client: &Client) -> Result<BTreeSet<Entry>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let there = api.get_opt(NAME).await.map_err(|error| Error::request("read what is installed", error))?;
        Ok(there.and_then(|map| map.data?.remove(self.part.id)).map(|text| entries(&text)).unwrap_or_default())
    }

    async fn wanted(&self) -> Result<BTreeSet<Entry>, Finding> {
        Ok(self.part.source.objects().await?.iter().map(Entry::of).collect())
    }
}

#[async_trait]
impl Step for Inventory {
    fn id(&self) -> String {
        format!("{}-inventory", self.part.id)
    }

    fn title(&self) -> String {
        "note in the cluster what is installed".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let there = self.there(&self.part.access.client().await?).await?;
        if self.wanted().await?.is_subset(&there) {
            return Ok(Observation::satisfied("it is noted"));
        }
        *self.found.lock().await = there;
        Ok(Observation::unmet("it is not noted"))
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        let client = self.part.access.client().await?;
        let mut entries = self.found.lock().await.clone();
        entries.extend(self.wanted().await?);
        let lines: Vec<String> = entries.iter().map(Entry::line).collect();
        let patch = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": {self.part.id: lines.join("\n")},
        });
        // A field manager per part: none takes back what another has noted.
        let mut parameters = PatchParams::apply(&format!("{FIELD_MANAGER}-{}", self.part.id));
        parameters.force = true;
        let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
        let noted = api.patch(NAME, &parameters, &Patch::Apply(&patch)).await;
        noted.map(drop).map_err(|error| Error::request("note what is installed", error).into())
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied("it is noted"))
    }
}

/// The order of removal is that of installation, reversed.
pub(super) fn removal_rank(entry: &Entry) -> std::cmp::Reverse<u8> {
    std::cmp::Reverse(rank(&entry.object()))
}

#[cfg(test)]
mod tests {
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
}
