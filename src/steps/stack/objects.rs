//! Objects on a cluster, in the order in which they can be: namespaces, then what others refer to, then what makes pods,
//! then what reviews requests.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

use super::super::pauses::Pauses;
use super::made::{Origins, is_made};
use super::rollouts::{has_failed, pods};
use super::{Installing, Origin};
use crate::finding::{Finding, Id};
use crate::kubernetes::apply::{self, Kind};
use crate::kubernetes::{Error, is_before, wait};
use crate::step::{Context, Observation, Step};

/// The account that the controller manager makes in every namespace; pods that come before it are refused.
const DEFAULT_ACCOUNT: &str = "default";
/// What to do about a store of others.
const STORE: &str = "If it is the object store of backups, go on with it: --backup-provider AWS --backup-store-endpoint URL --backup-store-pathstyle";
/// Where a claim says how large its volume should be.
const STORAGE: &str = "/spec/resources/requests/storage";
/// Between two looks at a namespace that is being deleted.
const GONE: Duration = Duration::from_millis(200);

pub(super) fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

/// The first minor version of Kubernetes whose definitions may have rules in CEL.
const RULES_SINCE: u32 = 25;
const RULES: &str = "x-kubernetes-validations";

/// A definition without its rules, if it has any. Our admission refuses what they would refuse.
fn plain(object: &DynamicObject) -> Option<DynamicObject> {
    let mut plain = object.clone();
    (rank(object) == 1 && without_rules(&mut plain.data)).then_some(plain)
}

/// Takes rules out; says whether there were any.
fn without_rules(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            let had = map.remove(RULES).is_some();
            map.values_mut().fold(had, |had, value| without_rules(value) || had)
        }
        Value::Array(items) => items.iter_mut().fold(false, |had, value| had | without_rules(value)),
        _ => false,
    }
}

/// What must be there before the rest can be, and what must come last.
pub(super) fn rank(object: &DynamicObject) -> u8 {
    match kind(object) {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob" | "Pod" => 3,
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => 4,
        _ => 2,
    }
}

/// The API of an object, where its kind is known or can be asked for.
pub(super) async fn api(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>, Error> {
    let Some(types) = &object.types else { unreachable!("documents of the stack all have a kind") };
    let kind = Kind::discover(client, types).await?;
    Ok(kind.api(client.clone(), object.namespace().as_deref().unwrap_or("default")))
}

fn accounts(client: &Client, namespace: &str) -> Api<ServiceAccount> {
    Api::namespaced(client.clone(), namespace)
}

/// The namespaces of a part should be there, and ready for pods.
pub struct Namespaces {
    part: Arc<Installing>,
    /// When this run looked for the accounts of namespaces that had none, as resource versions: waiting goes on from there.
    looked: StdMutex<HashMap<String, String>>,
    origins: Origins,
}

impl Namespaces {
    /// The step.
    pub fn new(part: Arc<Installing>) -> Self {
        Self { part, looked: StdMutex::default(), origins: Origins::default() }
    }

    /// Those that this run has not seen to yet.
    async fn open(&self) -> Result<Vec<&DynamicObject>, Finding> {
        let namespaces = self.part.source.objects().await?.iter().filter(|object| rank(object) == 0);
        Ok(namespaces.filter(|object| self.part.site.origin(&object.name_any()).is_none()).collect())
    }

    /// What is missing or different in a namespace. The account is looked for first: where it is, the namespace is.
    async fn difference(&self, client: &Client, object: &DynamicObject) -> Result<Option<String>, Error> {
        let name = object.name_any();
        let account = ListParams::default().fields(&format!("metadata.name={DEFAULT_ACCOUNT}"));
        let found = accounts(client, &name).list_metadata(&account).await;
        let found = found.map_err(|error| Error::request("look for the default ServiceAccount", error))?;
        if found.items.is_empty() {
            let version = found.metadata.resource_version.unwrap_or_default();
            self.looked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), version);
            return Ok(Some(format!("the namespace {name} is not there, or has no ServiceAccount default yet")));
        }
        let there = apply::get(&api(client, object).await?, object).await?;
        Ok(match there {
            None => Some(format!("the namespace {name} is not there")),
            Some(there) if there.metadata.deletion_timestamp.is_some() => {
                Some(format!("the namespace {name} is still being deleted"))
            }
            Some(there) => apply::holds(object, &there).map(|path| format!("the namespace {name} differs at {path}")),
        })
    }

    /// Makes a namespace, or brings the one that is there to what is wanted.
    async fn make(&self, api: &Api<DynamicObject>, object: &DynamicObject, context: &Context) -> Result<Origin, Error> {
        while !self.origins.create(api, object).await? {
            match apply::get(api, object).await? {
                // What is being deleted can't be applied to; it must be gone first.
                Some(there) if there.metadata.deletion_timestamp.is_some() => {
                    context.progress(format!("waiting for the namespace {} to be gone", object.name_any()));
                    tokio::time::sleep(GONE).await;
                }
                Some(there) => {
                    self.origins.note(object, Some(&there));
                    if apply::holds(object, &there).is_some() {
                        self.origins.apply(api, object).await?;
                    }
                    return Ok(Origin::Found);
                }
                None => tokio::time::sleep(GONE).await,
            }
        }
        Ok(Origin::Made)
    }

    async fn ready_for_pods(&self, client: &Client, name: &str) -> Result<(), Error> {
        let is_there = |account: Option<&ServiceAccount>| account.is_some();
        let what = format!("wait for the ServiceAccount {DEFAULT_ACCOUNT} of the namespace {name}");
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner).remove(name).unwrap_or_default();
        wait::since(accounts(client, name), DEFAULT_ACCOUNT, &what, &looked, is_there).await
    }
}

#[async_trait]
impl Step for Namespaces {
    fn id(&self) -> String {
        format!("{}-namespaces", self.part.id)
    }

    fn title(&self) -> String {
        format!("prepare namespaces for {}", self.part.title)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let open = self.open().await?;
        // Of a stack that this run begins, the request that makes a namespace tells whether it was there.
        if self.part.site.is_new() && !open.is_empty() {
            return Ok(Observation::unmet("the stack was not there"));
        }
        let client = self.part.site.client().await?;
        for object in open {
            if let Some(difference) = self.difference(&client, object).await? {
                return Ok(Observation::unmet(difference));
            }
            self.part.site.prepared(&object.name_any(), Origin::Found);
        }
        Ok(Observation::satisfied("they are there"))
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let client = self.part.site.client().await?;
        for object in self.open().await? {
            let (api, name) = (api(&client, object).await?, object.name_any());
            let origin = self.make(&api, object, context).await?;
            context.progress(format!("waiting for the ServiceAccount {DEFAULT_ACCOUNT} of the namespace {name}"));
            self.ready_for_pods(&client, &name).await?;
            self.part.site.prepared(&name, origin);
        }
        Ok(())
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied("they are there"))
    }
}

/// Whether pods are selected otherwise than is wanted: by a workload, which can't be changed, or by a Service, which would
/// lead its clients elsewhere.
fn selects_otherwise(wanted: &DynamicObject, there: &DynamicObject) -> bool {
    let (kind, [wanted, there]) = (kind(wanted), [wanted, there].map(|object| &object.data["spec"]["selector"]));
    match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" => apply::difference(wanted, there).is_some(),
        "Service" => wanted != there,
        _ => false,
    }
}

/// Whether an object can't become what is wanted.
fn is_invalid(error: &Error) -> bool {
    error.status().is_some_and(|status| status.code == 422)
}

/// A claim as large as the one that is there, where somebody has made that larger: none can become smaller.
fn grown(claim: &DynamicObject, there: &DynamicObject) -> Option<DynamicObject> {
    if kind(claim) != "PersistentVolumeClaim" {
        return None;
    }
    let mut grown = claim.clone();
    let (size, wanted) = (there.data.pointer(STORAGE)?, grown.data.pointer_mut(STORAGE)?);
    if apply::amount(size)? <= apply::amount(wanted)? {
        return None;
    }
    *wanted = size.clone();
    Some(grown)
}

/// Whether a workload makes a pod: by itself, or by a ReplicaSet that is called after it.
fn makes(workload: &DynamicObject, pod: &Pod) -> bool {
    let name = workload.name_any();
    let is_its = |owner: &OwnerReference| match kind(workload) {
        "Deployment" => owner.kind == "ReplicaSet" && owner.name.rsplit_once('-').is_some_and(|(of, _)| of == name),
        kind => owner.kind == kind && owner.name == name,
    };
    pod.owner_references().iter().any(|owner| owner.controller == Some(true) && is_its(owner))
}

/// Removes a Job of ours that `is_so`, with its pods, so that it can be made anew; says whether there was one.
async fn remove_job(
    api: &Api<DynamicObject>,
    object: &DynamicObject,
    is_so: fn(&DynamicObject) -> bool,
) -> Result<bool, Error> {
    let what = || format!("remove {}", apply::describe(object));
    let there = apply::get(api, object).await?;
    let Some(there) = there.filter(|there| is_made(there) && is_so(there)) else { return Ok(false) };
    let removed = api.delete(&object.name_any(), &DeleteParams::foreground()).await;
    removed.map_err(|error| Error::request(what(), error))?;
    let gone = kube::runtime::wait::conditions::is_deleted(there.metadata.uid.as_deref().unwrap_or_default());
    wait::until(api.clone(), &object.name_any(), &what(), gone).await?;
    Ok(true)
}

/// The objects of a part should be on the cluster.
pub struct Objects {
    part: Arc<Installing>,
    /// Whether the server is too old for rules; asked where it makes a difference.
    is_old: OnceCell<bool>,
    apis: Mutex<HashMap<(String, String, String), Api<DynamicObject>>>,
    origins: Origins,
}

impl Objects {
    /// The step.
    pub fn new(part: Arc<Installing>) -> Self {
        Self { part, is_old: OnceCell::new(), apis: Mutex::default(), origins: Origins::default() }
    }

    async fn is_old(&self, client: &Client) -> Result<bool, Error> {
        let is_old = self.is_old.get_or_try_init(async || {
            let version = client.apiserver_version().await;
            let version = version.map_err(|error| Error::request("ask the cluster for its version", error))?;
            Ok(is_before(&version, RULES_SINCE))
        });
        Ok(*is_old.await?)
    }

    async fn api(&self, client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>, Error> {
        let types = object.types.clone().unwrap_or_default();
        let key = (types.api_version, types.kind, object.namespace().unwrap_or_default());
        if let Some(known) = self.apis.lock().await.get(&key) {
            return Ok(known.clone());
        }
        let found = api(client, object).await?;
        self.apis.lock().await.insert(key, found.clone());
        Ok(found)
    }

    /// What of others is in the way of an object, if anything.
    async fn obstacle(
        &self,
        client: &Client,
        object: &DynamicObject,
        there: Option<&DynamicObject>,
    ) -> Result<Option<String>, Finding> {
        let name = apply::describe(object);
        match there {
            Some(there) if is_made(there) => return Ok(None),
            Some(there) if selects_otherwise(object, there) => {
                return Ok(Some(format!("the {name} is of others, and can't become what is installed")));
            }
            _ if kind(object) != "Service" || object.data["spec"]["selector"].is_null() => return Ok(None),
            _ => {}
        }
        let (objects, pods) = (self.part.source.objects().await?, pods(client, object).await?);
        let is_of_others =
            |pod: &&Pod| pod.metadata.deletion_timestamp.is_none() && !objects.iter().any(|object| makes(object, pod));
        let stranger = pods.iter().find(is_of_others);
        Ok(stranger.map(|pod| format!("the {name} would lead to the Pod {}, which is of others", pod.name_any())))
    }

    /// What is missing or different, if anything.
    ///
    /// # Errors
    /// The request fails, or something of others is in the way.
    async fn difference(&self, client: &Client, object: &DynamicObject) -> Result<Option<String>, Finding> {
        let api = match self.api(client, object).await {
            Err(error) if error.is_not_found() || error.is_unknown_kind() => {
                return Ok(Some(format!("the kind of {} is not served", apply::describe(object))));
            }
            api => api?,
        };
        let there = apply::get(&api, object).await?;
        self.origins.note(object, there.as_ref());
        if let Some(cause) = self.obstacle(client, object, there.as_ref()).await? {
            return Err(Finding::new(Id::Conflict, cause)
                .advise("Delete it, if nobody needs it any more.")
                .advise(STORE));
        }
        let Some(there) = there else { return Ok(Some(format!("{} is not there", apply::describe(object)))) };
        if there.metadata.deletion_timestamp.is_some() {
            return Ok(Some(format!("the {} is being deleted", apply::describe(object))));
        }
        if has_failed(&there) {
            return Ok(Some(format!("the {} has failed", apply::describe(object))));
        }
        let grown = grown(object, &there);
        let object = grown.as_ref().unwrap_or(object);
        let differs = match apply::holds(object, &there) {
            Some(path) if path.contains(RULES) && self.is_old(client).await? => {
                plain(object).and_then(|plain| apply::holds(&plain, &there))
            }
            differs => differs,
        };
        Ok(differs.map(|path| format!("{} differs at {path}", apply::describe(object))))
    }

    /// Applies an object; returns it as it is then.
    async fn apply(&self, client: &Client, object: &DynamicObject, context: &Context) -> Result<DynamicObject, Error> {
        let api = self.api(client, object).await?;
        let mut is_anew = kind(object) == "Job" && remove_job(&api, object, has_failed).await?;
        let mut pauses = Pauses::begin();
        let mut object = Cow::Borrowed(object);
        loop {
            match self.origins.apply(&api, &object).await {
                Err(error) if error.is_webhook_away() => pauses.after(&error, context).await,
                // What a Job runs can't be changed.
                Err(error) if kind(&object) == "Job" && is_invalid(&error) => {
                    if is_anew || !remove_job(&api, &object, |_| true).await? {
                        return Err(error);
                    }
                    is_anew = true;
                }
                Err(error) if kind(&object) == "PersistentVolumeClaim" && is_invalid(&error) => {
                    let there = apply::get(&api, &object).await?;
                    let Some(grown) = there.and_then(|there| grown(&object, &there)) else { return Err(error) };
                    object = Cow::Owned(grown);
                }
                Err(error) if error.status().is_some() => match plain(&object) {
                    Some(plain) if self.is_old(client).await? => object = Cow::Owned(plain),
                    _ => return Err(error),
                },
                applied => {
                    let applied = applied?;
                    if applied.metadata.deletion_timestamp.is_none() {
                        return Ok(applied);
                    }
                    // What is being deleted goes, whatever was applied to it.
                    context.progress(format!("waiting for the {} to be gone", apply::describe(&object)));
                    while apply::get(&api, &object).await?.is_some_and(|it| it.metadata.deletion_timestamp.is_some()) {
                        tokio::time::sleep(GONE).await;
                    }
                }
            }
        }
    }
}

#[async_trait]
impl Step for Objects {
    fn id(&self) -> String {
        self.part.id.to_owned()
    }

    fn title(&self) -> String {
        format!("install {}", self.part.title)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if self.part.is_new().await? {
            return Ok(Observation::unmet("it is not there"));
        }
        let client = self.part.site.client().await?;
        let objects = self.part.source.objects().await?;
        let mut looks: FuturesUnordered<_> = objects.iter().map(|object| self.difference(&client, object)).collect();
        let mut found = Vec::new();
        while let Some(difference) = looks.next().await {
            found.extend(difference?);
        }
        Ok(match found.as_slice() {
            [] => Observation::satisfied(format!("all {} objects are there", objects.len())),
            [one] => Observation::unmet(one.clone()),
            [first, rest @ ..] => Observation::unmet(format!("{first}, and {} more", rest.len())),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let client = self.part.site.client().await?;
        let objects = self.part.source.objects().await?;
        context.command("kubectl apply --server-side --force-conflicts --field-manager a9s -f STACK");
        let mut applied = BTreeMap::new();
        for turn in 1..=4 {
            let objects: Vec<_> = objects.iter().filter(|object| rank(object) == turn).collect();
            let requests = objects.iter().copied().map(|object| self.apply(&client, object, context));
            let answers = try_join_all(requests).await?;
            applied.extend(objects.into_iter().map(apply::describe).zip(answers));
        }
        let _ = self.part.applied.set(applied);
        Ok(())
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        let count = self.part.source.objects().await?.len();
        Ok(Observation::satisfied(format!("{count} objects were applied")))
    }
}

/// The definitions of a part should be served.
pub struct Established {
    /// The part.
    pub part: Arc<Installing>,
}

impl Established {
    async fn definitions(&self) -> Result<Vec<&DynamicObject>, Finding> {
        Ok(self.part.source.objects().await?.iter().filter(|object| rank(object) == 1).collect())
    }

    /// Waits until a definition is served.
    async fn served(&self, client: &Client, definition: &DynamicObject) -> Result<(), Error> {
        let (applied, name) = (self.part.applied(definition), definition.name_any());
        if is_established(applied) {
            return Ok(());
        }
        let version = applied.and_then(ResourceExt::resource_version).unwrap_or_default();
        let what = format!("wait for {name} to be served");
        wait::since(definitions(client.clone()), &name, &what, &version, is_established).await
    }
}

fn definitions(client: Client) -> Api<DynamicObject> {
    Api::all_with(client, &ApiResource::erase::<CustomResourceDefinition>(&()))
}

/// Whether what a definition defines is served.
fn is_established(definition: Option<&DynamicObject>) -> bool {
    let conditions = definition.and_then(|definition| definition.data["status"]["conditions"].as_array());
    let is_so = |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
    conditions.into_iter().flatten().any(is_so)
}

#[async_trait]
impl Step for Established {
    fn id(&self) -> String {
        format!("{}-definitions", self.part.id)
    }

    fn title(&self) -> String {
        format!("serve the custom resources of {}", self.part.title)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let wanted = self.definitions().await?;
        if wanted.is_empty() {
            return Ok(Observation::satisfied("it has none"));
        }
        let applied = wanted.iter().map(|object| self.part.applied(object)).collect::<Option<Vec<_>>>();
        let listed;
        let there = match applied {
            Some(applied) => applied,
            None => {
                let list = definitions(self.part.site.client().await?).list(&ListParams::default()).await;
                listed = list.map_err(|error| Error::request("list definitions", error))?;
                listed.iter().collect()
            }
        };
        let is_served = |name: &str| there.iter().any(|it| it.name_any() == name && is_established(Some(*it)));
        Ok(match wanted.iter().map(|object| object.name_any()).find(|name| !is_served(name)) {
            Some(name) => Observation::unmet(format!("{name} is not served yet")),
            None => Observation::satisfied("they are served"),
        })
    }

    /// The API server does it; here it is seen, for each from what was answered when it was applied.
    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        let client = self.part.site.client().await?;
        let wanted = self.definitions().await?;
        try_join_all(wanted.into_iter().map(|definition| self.served(&client, definition))).await?;
        Ok(())
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied("they are served"))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::json;

    use super::super::{Part, Site, Source};
    use super::*;
    use crate::kubernetes::{Access, Connection};
    use crate::manifest::images::ImageMap;
    use crate::step::alone;

    #[test]
    fn rules_are_taken_out_wherever_they_are() {
        let mut schema = json!({"a": [{RULES: [], "b": {RULES: [1], "c": 1}}]});
        assert!(without_rules(&mut schema));
        assert_eq!(schema, json!({"a": [{"b": {"c": 1}}]}));
        assert!(!without_rules(&mut schema));
    }

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn claim(size: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "shop"},
            "spec": {"resources": {"requests": {"storage": size}}},
        })
    }

    /// A cluster that has nothing but a claim of 20Gi, which can't become smaller.
    async fn with_a_large_claim(request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        let refusal = |code: u16| (code, json!({"kind": "Status", "status": "Failure", "message": "no", "code": code}));
        let is_claim = request.uri().path().ends_with("/persistentvolumeclaims/data");
        let is_look = request.method() == http::Method::GET;
        let bytes = request.into_body().collect_bytes().await.unwrap();
        let (code, answer) = match serde_json::from_slice::<Value>(&bytes) {
            Err(_) if is_look && is_claim => (200, claim("20Gi")),
            Err(_) => refusal(404),
            Ok(wanted) if is_claim && wanted.pointer(STORAGE) != Some(&json!("20Gi")) => refusal(422),
            Ok(wanted) => (200, wanted),
        };
        Ok(http::Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
    }

    #[tokio::test]
    async fn a_volume_that_somebody_has_made_larger_keeps_its_size() {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new", "namespace": "shop"}});
        for (objects, changes) in [
            (vec![claim("10Gi")], false),
            // What is installed again is applied as a whole.
            (vec![claim("10Gi"), map], true),
        ] {
            let client = Client::new(tower::service_fn(with_a_large_claim), "default");
            let text = || "demo".to_owned();
            let connection = Connection { client, context: text(), namespace: text(), server: text() };
            let site = Site::new(Arc::new(Access::connected(connection)));
            let source = Source::new(ImageMap::default, move || {
                let objects = objects.clone();
                Box::pin(async move { Ok(objects) })
            });
            let step = Objects::new(Part { site, title: "it", id: "it", source, probe: None }.begin());
            assert_eq!(alone(step, Duration::from_secs(10)).await.unwrap().changed(), changes);
        }
    }

    #[test]
    fn a_service_selects_exactly_what_is_wanted() {
        let of = |kind: &str, selector: Value| {
            object(json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": {"selector": selector}}))
        };
        let (wanted, more) = (json!({"app": "minio"}), json!({"app": "minio", "component": "server"}));
        for (kind, there, otherwise) in [
            ("Service", &wanted, false),
            ("Service", &more, true),
            ("Service", &Value::Null, true),
            ("Deployment", &more, false),
            ("Deployment", &Value::Null, true),
            ("ConfigMap", &Value::Null, false),
        ] {
            let (wanted, found) = (of(kind, wanted.clone()), of(kind, there.clone()));
            assert_eq!(selects_otherwise(&wanted, &found), otherwise, "{kind} {there}");
        }
    }

    #[test]
    fn a_pod_is_of_the_workload_that_makes_it() {
        let of = |kind: &str| object(json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "minio"}}));
        let pod = |owners: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "ownerReferences": owners}})).unwrap()
        };
        let owner = |kind: &str, name: &str| {
            pod(json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}]))
        };
        assert!(makes(&of("StatefulSet"), &owner("StatefulSet", "minio")));
        assert!(makes(&of("Deployment"), &owner("ReplicaSet", "minio-6d4b")));
        assert!(!makes(&of("Deployment"), &owner("ReplicaSet", "minio-console-6d4b")));
        assert!(!makes(&of("StatefulSet"), &owner("ReplicaSet", "minio-6d4b")));
        assert!(!makes(&of("StatefulSet"), &pod(json!([]))));
    }

    #[test]
    fn what_others_need_comes_first_and_what_reviews_requests_comes_last() {
        let ranks = ["Namespace", "CustomResourceDefinition", "Secret", "Deployment", "ValidatingWebhookConfiguration"]
            .map(|kind| {
                let types = kube::api::TypeMeta { api_version: "v1".to_owned(), kind: kind.to_owned() };
                rank(&DynamicObject { types: Some(types), metadata: Default::default(), data: Default::default() })
            });
        assert_eq!(ranks, [0, 1, 2, 3, 4]);
    }
}
