//! What belongs to a custom resource: the objects it consists of, those it names, and those that name it. Secrets are
//! named, never read.

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Service};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use super::{ask, item, known, list, list_for};
use crate::finding::Finding;
use crate::kubernetes::diagnosis;
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{Kind, Reference};
use crate::steps::capability::{self, Capability};
use crate::steps::resource::get;
use crate::steps::{condition, members};

/// Something that belongs to a custom resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Its kind, as a person calls it.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How it is, in a few words.
    pub state: String,
}

/// Everything about one custom resource.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// The object, without what only the API server needs.
    pub object: DynamicObject,
    /// What happened to it, the oldest first.
    pub events: Vec<String>,
    /// What belongs to it.
    pub related: Vec<Related>,
    /// What could not be found out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// Describes a custom resource; `None` if it is not there.
///
/// # Errors
/// The object itself can't be read.
pub async fn describe(client: &Client, reference: &Reference) -> Result<Option<Description>, Finding> {
    let Some(mut object) = get(client, reference).await? else { return Ok(None) };
    let mut related = Found { client, reference, related: Vec::new(), unknown: Vec::new() };
    related.of_kind(&object).await;
    let events = known(&mut related.unknown, events(client, &object).await);
    object.metadata.managed_fields = None;
    if let Some(annotations) = object.metadata.annotations.as_mut() {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    Ok(Some(Description { object, events, related: related.related, unknown: related.unknown }))
}

async fn events(client: &Client, object: &DynamicObject) -> Result<Vec<String>, Finding> {
    let api: Api<Event> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let selector = format!("involvedObject.uid={}", object.uid().unwrap_or_default());
    let list = ask("list its events", api.list(&ListParams::default().fields(&selector))).await?;
    let mut events = list.items;
    events.sort_by_key(|event| event.last_timestamp.clone().or(event.first_timestamp.clone()).map(|time| time.0));
    Ok(events.iter().map(diagnosis::event_line).collect())
}

struct Found<'a> {
    client: &'a Client,
    reference: &'a Reference,
    related: Vec<Related>,
    unknown: Vec<String>,
}

impl Found<'_> {
    fn namespace(&self) -> &Namespace {
        &self.reference.namespace
    }

    fn add(&mut self, kind: &str, name: impl Into<String>, state: impl Into<String>) {
        self.related.push(Related { kind: kind.to_owned(), name: name.into(), state: state.into() });
    }

    async fn of_kind(&mut self, object: &DynamicObject) {
        match self.reference.kind {
            Kind::Instance => self.of_instance().await,
            Kind::Backup => self.of_backup(object).await,
            Kind::Restore => {
                self.named(Kind::Instance, condition::instance(object)).await;
                self.named(Kind::Backup, object.data["spec"]["backupName"].as_str().unwrap_or_default()).await;
                self.pod(object);
            }
            Kind::ServiceBinding => {
                let namespace = object.data["spec"]["instance"]["namespace"].as_str().and_then(|it| it.parse().ok());
                let namespace = namespace.unwrap_or_else(|| self.namespace().clone());
                self.named_in(&namespace, Kind::Instance, condition::instance(object)).await;
                if let Some(secret) = object.data["status"]["secret"]["name"].as_str() {
                    self.add("secret", secret, "not shown");
                }
            }
        }
    }

    async fn of_instance(&mut self) {
        let (namespace, name) = (&self.reference.namespace, &self.reference.name);
        let selected = ListParams::default().labels(&members::selector(name));
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace.as_str());
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace.as_str());
        let (pods, services, claims) = tokio::join!(
            ask("list its pods", members::list(self.client, namespace, name)),
            ask("list its services", services.list(&selected)),
            ask("list its volumes", claims.list(&selected)),
        );
        for pod in known(&mut self.unknown, pods) {
            let ready = diagnosis::is_ready(&pod);
            self.add("pod", pod.name_any(), if ready { "ready".to_owned() } else { diagnosis::difference(&pod) });
        }
        for service in known(&mut self.unknown, services.map(|list| list.items)) {
            let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone()).unwrap_or_default();
            self.add("service", service.name_any(), address);
        }
        for claim in known(&mut self.unknown, claims.map(|list| list.items)) {
            let phase = claim.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            self.add("persistentvolumeclaim", claim.name_any(), phase);
        }
        for kind in [Kind::Backup, Kind::Restore, Kind::ServiceBinding] {
            let found = list_for(self.client, kind, self.reference).await;
            self.states(kind, found);
        }
    }

    async fn of_backup(&mut self, object: &DynamicObject) {
        let instance = condition::instance(object);
        self.named(Kind::Instance, instance).await;
        let name = self.reference.name.as_str();
        let mut restores = list(self.client, Kind::Restore, Some(self.namespace())).await;
        if let Ok(restores) = &mut restores {
            restores.retain(|restore| restore.data["spec"]["backupName"] == name);
        }
        self.states(Kind::Restore, restores);
        self.pod(object);
        match capability::stack(self.client).await {
            Ok(stack) if stack.can(Capability::BackupObjects) => {
                let size = condition::bytes(object).map_or("size unknown".to_owned(), |bytes| format!("{bytes} bytes"));
                let keys = format!("{}/{instance}/{}/", self.namespace(), object.uid().unwrap_or_default());
                self.add("objects in the store", keys, size);
            }
            Ok(_) => {}
            Err(finding) => self.unknown.push(finding.cause),
        }
    }

    fn pod(&mut self, object: &DynamicObject) {
        if let Some(pod) = condition::pod_used(object) {
            self.add("pod", pod.name, "worked on it");
        }
    }

    /// Another custom resource that this one names.
    async fn named(&mut self, kind: Kind, name: &str) {
        let namespace = self.namespace().clone();
        self.named_in(&namespace, kind, name).await;
    }

    async fn named_in(&mut self, namespace: &Namespace, kind: Kind, name: &str) {
        let Ok(name) = name.parse::<ObjectName>() else { return };
        match get(self.client, &Reference::new(kind, namespace, &name)).await {
            Ok(Some(object)) => self.add(kind.noun(), name.as_str(), item::state(kind, &object).0),
            Ok(None) => self.add(kind.noun(), name.as_str(), "not there"),
            Err(finding) => self.unknown.push(finding.cause),
        }
    }

    /// Other custom resources that name this one.
    fn states(&mut self, kind: Kind, found: Result<Vec<DynamicObject>, Finding>) {
        for object in known(&mut self.unknown, found) {
            self.add(kind.noun(), object.name_any(), item::state(kind, &object).0);
        }
    }
}
