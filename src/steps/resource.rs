//! Steps that every custom resource has: something it needs exists, its manifest is in a file, it is applied, it has come
//! to its end, it is gone.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use a8s_operators::backup::conditions::{TERMINATING, Trouble};
use a8s_operators::unless_absent;
use async_trait::async_trait;
use futures::StreamExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, Preconditions, PropagationPolicy, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::condition::{self, Verdict};
use super::pauses::Pauses;
use super::written;
use crate::finding::{Evidence, Finding, Id};
use crate::kubernetes::exec::POSTGRES;
use crate::kubernetes::{Access, Error, apply, delete, diagnosis};
use crate::manifest::resource::{Kind, Reference, Resource};
use crate::step::{Context, Handle, Observation, Plan, Step};

/// How long a webhook that does not answer is waited for: whoever answers for it may just be starting.
const ADMISSION: Duration = Duration::from_secs(20);
/// Before another look, where a watch has ended.
const WATCH_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks whether an object that is being deleted is gone.
const AGAIN: Duration = Duration::from_millis(50);

/// The API of a reference's kind, version and namespace.
pub fn api(client: Client, reference: &Reference) -> Api<DynamicObject> {
    Api::namespaced_with(client, reference.namespace.as_str(), &reference.kind.resource(&reference.api_version))
}

/// Reads a custom resource; `None` if it is known not to be there. Where even its kind is not, that is the finding.
///
/// # Errors
/// The request fails, the stack is not installed, or the server does not serve the kind at the moment.
pub async fn get(client: &Client, reference: &Reference) -> Result<Option<DynamicObject>, Finding> {
    let what = || format!("get the {} {}/{}", reference.kind.noun(), reference.namespace, reference.name);
    let there = unless_absent(api(client.clone(), reference).get(reference.name.as_str()).await);
    let there = there.map_err(|error| Error::request(what(), error));
    if matches!(there, Ok(None)) || there.as_ref().is_err_and(Error::is_not_found) {
        super::stack::require(client).await?;
    }
    Ok(there?)
}

/// Something that a command needs should be there. Nothing is done if it is not: its absence is the finding.
pub struct Exists {
    /// The cluster.
    pub access: Arc<Access>,
    /// What is needed.
    pub reference: Reference,
    /// What is said if it is not there.
    pub otherwise: String,
}

#[async_trait]
impl Step for Exists {
    fn id(&self) -> String {
        format!("{}-exists", self.reference.kind.word())
    }

    fn title(&self) -> String {
        format!("look for the {} in the namespace {}", self.reference, self.reference.namespace)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let missing = |why: &str| self.reference.kind.missing(format!("{}{why}", self.otherwise));
        match get(&self.access.client().await?, &self.reference).await? {
            None => Err(missing("")),
            Some(there) if there.metadata.deletion_timestamp.is_some() => Err(missing(": it is being deleted")),
            Some(_) => Ok(Observation::satisfied("it is there")),
        }
    }
}

/// The manifest of a custom resource should be in its file.
pub struct Manifest {
    /// The resource.
    pub resource: Resource,
    /// The file.
    pub path: PathBuf,
}

impl Manifest {
    fn document(&self) -> Result<String, Finding> {
        self.resource.document().map_err(|error| Finding::new(Id::Internal, error))
    }
}

#[async_trait]
impl Step for Manifest {
    fn id(&self) -> String {
        "manifest".to_owned()
    }

    fn title(&self) -> String {
        format!("write the manifest of the {}", self.resource.reference)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        Ok(written::observe(&self.path, &self.document()?))
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        written::write(&self.path, &self.document()?)
    }
}

/// What becomes of a resource of the same name that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is brought to the wanted spec; with `force`, fields that others manage are taken over.
    Updated {
        /// Whether to take over.
        force: bool,
    },
    /// It was made once, and stays as it is: the same one counts as this one, another or a failed one is a conflict.
    Kept,
}

/// A custom resource should be on the cluster as its manifest says.
pub struct Applied {
    access: Arc<Access>,
    resource: Resource,
    existing: Existing,
    /// Whether this run has applied it: what becomes of it then is for [`Settled`] to say.
    ours: AtomicBool,
}

impl Applied {
    /// The step.
    pub fn new(access: Arc<Access>, resource: Resource, existing: Existing) -> Self {
        Self { access, resource, existing, ours: AtomicBool::new(false) }
    }

    /// The first difference between what is wanted and what is there.
    fn difference(&self, there: &DynamicObject) -> Option<String> {
        let mut there = there.clone();
        // `PostgreSQL` and `Postgresql` are both in use for the kind of an instance.
        let (wanted, kind) = (&self.resource.spec["serviceInstance"]["kind"], "/spec/serviceInstance/kind");
        if let (Some(wanted), Some(found)) = (wanted.as_str(), there.data.pointer_mut(kind))
            && found.as_str().is_some_and(|found| found.eq_ignore_ascii_case(wanted))
        {
            *found = wanted.into();
        }
        apply::holds(&self.resource.object(), &there)
    }

    /// Writes it. What is to stay as it is is made, and never changed: two who make one of a name at once don't get one of both.
    async fn write(&self, api: &Api<DynamicObject>, wanted: &DynamicObject, context: &Context) -> Result<(), Error> {
        let patience = Instant::now() + ADMISSION;
        let mut pauses = Pauses::begin();
        loop {
            let written = match self.existing {
                Existing::Kept => apply::create(api, wanted).await,
                Existing::Updated { force } => apply::apply(api, wanted, force).await,
            };
            match written {
                Err(error) if error.is_webhook_away() && Instant::now() < patience => {
                    pauses.after(&error, context).await;
                }
                written => return written.map(drop),
            }
        }
    }

    /// What stands in the way of counting an order that is there as this one.
    fn conflict(&self, there: &DynamicObject) -> Option<Finding> {
        if self.existing != Existing::Kept || self.ours.load(Ordering::SeqCst) {
            return None;
        }
        let Reference { kind, namespace, name, .. } = &self.resource.reference;
        let about = format!("the {} {name} exists already in the namespace {namespace}", kind.noun());
        if let Some(path) = self.difference(there) {
            if path.starts_with("metadata.") {
                let cause = format!("{about}, and was not made for this");
                return Some(Finding::new(Id::InstanceTaken, cause).advise("Choose a name that is free."));
            }
            let (found, wanted) = (at(&there.data, &path), at(&self.resource.object().data, &path));
            let cause = format!("{about}, and its {path} is {found} instead of {wanted}");
            return Some(Finding::new(Id::OtherSpec, cause).advise("Choose another --name."));
        }
        match condition::verdict(*kind, there) {
            Verdict::Failed(why) => Some(
                Finding::new(Id::FailedBefore, format!("{about}, and has failed: {why}"))
                    .advise("Choose another --name, or delete it first."),
            ),
            _ => None,
        }
    }
}

/// An order for an instance that is gone: another one of its name has been made since. What it says of content is not
/// about that one. An order without an instance, or an instance that is not there, is for others to say.
async fn former(client: &Client, order: &Reference, there: &DynamicObject) -> Result<Option<Finding>, Finding> {
    let Ok(name) = condition::instance(there).parse() else { return Ok(None) };
    let Some(instance) = get(client, &Reference::new(Kind::Instance, &order.namespace, &name)).await? else {
        return Ok(None);
    };
    if !condition::is_older(there, &instance) || sabotage::sabotaged!("former-backup-is-believed") {
        return Ok(None);
    }
    let Reference { kind, namespace, name: order, .. } = order;
    let cause = format!(
        "the {} {order} exists already in the namespace {namespace}, and is of a former instance {name}: the present \
         one was made later",
        kind.noun()
    );
    Ok(Some(Finding::new(Id::FormerInstance, cause).advise("Choose another --name.")))
}

/// The value at a path such as `spec.serviceInstance.name`, as a person would write it.
fn at(data: &Value, path: &str) -> String {
    match path.split('.').try_fold(data, |value, key| value.get(key)) {
        None => "not set".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[async_trait]
impl Step for Applied {
    fn id(&self) -> String {
        self.resource.reference.kind.word().to_owned()
    }

    fn title(&self) -> String {
        format!("apply the {} in the namespace {}", self.resource.reference, self.resource.reference.namespace)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        let api = api(client.clone(), &self.resource.reference);
        let Some(there) = apply::get(&api, &self.resource.object()).await? else {
            return Ok(Observation::unmet("it is not there"));
        };
        if there.metadata.deletion_timestamp.is_some() {
            return Ok(Observation::unmet("one of this name is being deleted"));
        }
        if let Some(conflict) = self.conflict(&there) {
            return Err(conflict);
        }
        if matches!(self.resource.reference.kind, Kind::Backup | Kind::Restore)
            && !self.ours.load(Ordering::SeqCst)
            && let Some(former) = former(&client, &self.resource.reference, &there).await?
        {
            return Err(former);
        }
        Ok(match self.difference(&there) {
            Some(path) => Observation::unmet(format!("{path} is another")),
            None => Observation::satisfied("it is there"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let Reference { kind, name, .. } = &self.resource.reference;
        let word = kind.word();
        context.command(format!("kubectl apply --server-side --field-manager a9s -f a8s-pg-{word}-{name}.yaml"));
        let client = self.access.client().await?;
        let wanted = self.resource.object();
        let api = api(client.clone(), &self.resource.reference);
        // One of the same name may still be going; what is written to it would be lost with it.
        while let Some(there) = apply::get(&api, &wanted).await?
            && there.metadata.deletion_timestamp.is_some()
        {
            tokio::time::sleep(AGAIN).await;
        }
        match self.write(&api, &wanted, context).await {
            Ok(()) => {
                self.ours.store(true, Ordering::SeqCst);
                Ok(())
            }
            Err(error) => {
                if error.is_there_already()
                    && self.existing == Existing::Kept
                    && let Some(there) = apply::get(&api, &wanted).await?
                {
                    // Somebody else was quicker, perhaps with the same.
                    return self.conflict(&there).map_or(Ok(()), Err);
                }
                if error.is_not_found() {
                    super::stack::require(&client).await?;
                }
                let conflict = error.status().is_some_and(|status| status.code == 409);
                let finding = Finding::from(error);
                Err(match (conflict, self.existing) {
                    (true, Existing::Updated { .. }) => {
                        finding.advise("Take these fields over with --force-conflicts.")
                    }
                    _ => finding,
                })
            }
        }
    }
}

/// The finding of what is waited for and was there, and is not any more.
pub fn deleted_meanwhile(reference: &Reference) -> Finding {
    Finding::new(Id::DeletedMeanwhile, format!("the {reference} is not there any more: somebody has deleted it"))
}

/// An order should have come to its end: a backup or a restore that is complete.
pub struct Settled {
    access: Arc<Access>,
    reference: Reference,
    end: Mutex<Option<DynamicObject>>,
}

impl Settled {
    /// The step.
    pub fn new(access: Arc<Access>, reference: Reference) -> Self {
        Self { access, reference, end: Mutex::default() }
    }

    /// The object as it was when the step was satisfied.
    pub fn end(&self) -> Option<DynamicObject> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is said while it is under way. A pod that is gone will not go on; the stack may take another.
    async fn progress(&self, client: &Client, object: &DynamicObject, pending: String) -> Result<String, Finding> {
        let Some(used) = condition::pod_used(object) else { return Ok(pending) };
        let what = || format!("get the pod {}/{}", used.namespace, used.name);
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), &used.namespace);
        let pod = match pods.get_opt(&used.name).await {
            // What may not be looked at is not what somebody with so few rights waits for.
            Err(kube::Error::Api(status)) if status.code == 403 => return Ok(pending),
            pod => pod.map_err(|error| Error::request(what(), error))?,
        };
        let same = pod.is_some_and(|pod| used.uid.is_empty() || pod.metadata.uid.as_deref() == Some(&used.uid));
        Ok(if same { pending } else { format!("stalled: pod gone: {}/{}; {pending}", used.namespace, used.name) })
    }
}

#[async_trait]
impl Step for Settled {
    fn id(&self) -> String {
        format!("{}-complete", self.reference.kind.word())
    }

    fn title(&self) -> String {
        format!("wait for the {} to complete", self.reference)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        let Some(object) = get(&client, &self.reference).await? else {
            return Err(deleted_meanwhile(&self.reference));
        };
        Ok(match condition::verdict(self.reference.kind, &object) {
            Verdict::Done(what) => {
                *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(object);
                Observation::satisfied(what)
            }
            Verdict::Pending(what) => Observation::unmet(self.progress(&client, &object, what).await?),
            Verdict::Failed(why) => {
                let Reference { kind, namespace, name, .. } = &self.reference;
                let cause = format!("{}: {name} in the namespace {namespace}: {why}", phrase_of_failure(*kind));
                return Err(Finding::new(Id::PermanentlyFailed, cause));
            }
        })
    }

    async fn changed(&self) {
        change_of(&self.access, &self.reference).await;
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        let Reference { kind, namespace, name, .. } = &self.reference;
        let mut evidence = vec![diagnosis::events(&client, namespace.as_str(), kind.kind(), name.as_str()).await];
        if let Ok(Some(object)) = get(&client, &self.reference).await {
            let lines = condition::of(&object).iter().map(condition::line).collect();
            evidence.insert(0, Evidence { about: format!("conditions of the {}", self.reference), lines });
            if let Some(used) = condition::pod_used(&object) {
                let container = if *kind == Kind::Backup { "backup-agent" } else { POSTGRES };
                evidence.push(diagnosis::log(&client, &used.namespace, &used.name, container).await);
            }
        }
        evidence
    }
}

/// What the Go tool says of an order that has failed: of a restore, else of a backup.
const fn phrase_of_failure(kind: Kind) -> &'static str {
    match kind {
        Kind::Restore => "The restore has not been completed",
        _ => "The backup has not been successful",
    }
}

/// The steps of an order in a plan.
pub struct Ordered {
    /// For what waits for its end.
    pub handle: Handle,
    /// The step that knows how it ended.
    pub settled: Arc<Settled>,
}

/// Adds the steps of an order, a custom resource that is written once and carried out by the stack: apply it, write its
/// manifest to a file if it is to be kept, wait for its end. What the cluster refuses is not written.
pub fn order(
    plan: &mut Plan,
    after: &[Handle],
    access: &Arc<Access>,
    resource: &Resource,
    path: Option<PathBuf>,
) -> Ordered {
    let applied = plan.after(after, Applied::new(access.clone(), resource.clone(), Existing::Kept));
    if let Some(path) = path {
        plan.after(&[applied], Manifest { resource: resource.clone(), path });
    }
    let settled = Arc::new(Settled::new(access.clone(), resource.reference.clone()));
    let handle = plan.push(&[applied], settled.clone());
    Ordered { handle, settled }
}

/// Resolves with the first change after the objects' present state. The end or an error of the watch is a reason to
/// look again as well, after a moment: whatever ends one at once will end the next.
pub async fn next_change<K>(api: &Api<K>, parameters: WatchParams)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug + kube::Resource,
{
    let list = ListParams {
        label_selector: parameters.label_selector.clone(),
        field_selector: parameters.field_selector.clone(),
        ..ListParams::default()
    };
    let Ok(list) = api.list(&list).await else { return std::future::pending().await };
    let version = list.metadata.resource_version.unwrap_or_default();
    let Ok(stream) = api.watch(&parameters, &version).await else { return std::future::pending().await };
    if !matches!(stream.boxed().next().await, Some(Ok(_))) {
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

/// Resolves with the first change of a custom resource; never where it can't be asked for.
pub async fn change_of(access: &Access, reference: &Reference) {
    let Ok(client) = access.client().await else { return std::future::pending().await };
    let parameters = WatchParams::default().fields(&format!("metadata.name={}", reference.name));
    next_change(&api(client, reference), parameters).await;
}

/// What holds up a deletion and does not heal by itself is believed after this time: it may just have been mended.
const MENDED: Duration = Duration::from_secs(10);

/// What is found where another object of the name was made since.
pub const REPLACED: &str = "it is gone, and another one of its name was made since";

/// A custom resource should be gone.
pub struct Deleted {
    /// The cluster.
    pub access: Arc<Access>,
    /// Which one.
    pub reference: Reference,
    /// When this run has first seen what holds it up.
    held_up: OnceLock<Instant>,
    /// Which object this run has found.
    found: OnceLock<String>,
}

impl Deleted {
    /// The step.
    pub fn new(access: Arc<Access>, reference: Reference) -> Self {
        Self { access, reference, held_up: OnceLock::new(), found: OnceLock::new() }
    }

    /// Whether an object is not the one that this run has found first, but was made after that had gone.
    fn is_another(&self, there: &DynamicObject) -> bool {
        let uid = there.uid().unwrap_or_default();
        *self.found.get_or_init(|| uid.clone()) != uid
    }

    /// What a deletion waits for.
    fn progress(&self, there: &DynamicObject) -> Result<String, Finding> {
        let Some(condition) = condition::holding(there, TERMINATING) else {
            return Ok("it is being deleted".to_owned());
        };
        if Trouble::of(&condition).is_permanent() && self.held_up.get_or_init(Instant::now).elapsed() > MENDED {
            let cause = format!("the {} can't be deleted: {}", self.reference, condition.message);
            return Err(Finding::new(Id::DeletionHeldUp, cause)
                .advise("Mend that; what is being deleted goes as soon as it can."));
        }
        Ok(condition::line(&condition))
    }
}

#[async_trait]
impl Step for Deleted {
    fn id(&self) -> String {
        self.reference.kind.word().to_owned()
    }

    fn title(&self) -> String {
        format!("delete the {} in the namespace {}", self.reference, self.reference.namespace)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        Ok(match get(&self.access.client().await?, &self.reference).await? {
            None => Observation::satisfied("it is not there"),
            Some(there) if self.is_another(&there) => Observation::satisfied(REPLACED),
            Some(there) if there.metadata.deletion_timestamp.is_some() => Observation::unmet(self.progress(&there)?),
            Some(_) => Observation::unmet("it is there"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let Reference { kind, namespace, name, .. } = &self.reference;
        context.command(format!("kubectl delete {}.{} {name} -n {namespace}", kind.plural(), kind.group()));
        let api = api(self.access.client().await?, &self.reference);
        let mut parameters =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
        // Not one that somebody has made since.
        if let Some(uid) = self.found.get() {
            parameters = parameters.preconditions(Preconditions { uid: Some(uid.clone()), resource_version: None });
        }
        let what = format!("delete the {} {namespace}/{name}", kind.noun());
        match delete(&api, name.as_str(), &parameters, &what).await {
            Err(error) if error.status().is_some_and(|status| status.code == 409) => Ok(()),
            deleted => Ok(deleted?),
        }
    }

    async fn changed(&self) {
        change_of(&self.access, &self.reference).await;
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        let Ok(Some(there)) = get(&client, &self.reference).await else { return Vec::new() };
        let finalizers = there.finalizers().join(", ");
        let mut lines =
            vec![format!("the {} is still there; it waits for the finalizers: {finalizers}", self.reference)];
        lines.extend(condition::holding(&there, TERMINATING).map(|condition| condition::line(&condition)));
        let about = self.reference.to_string();
        let Reference { kind, namespace, name, .. } = &self.reference;
        let events = diagnosis::events(&client, namespace.as_str(), kind.kind(), name.as_str()).await;
        vec![Evidence { about, lines }, events]
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::finding::Class;

    fn applied(spec: Value) -> Applied {
        let reference = Reference::new(Kind::Backup, &"shop".parse().unwrap(), &"b".parse().unwrap());
        Applied::new(Arc::default(), Resource::new(reference, spec), Existing::Kept)
    }

    fn there(spec: Value, conditions: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "backups.anynines.com/v1beta3", "kind": "Backup", "metadata": {"name": "b", "namespace": "shop"},
            "spec": spec, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn of(instance: &str, kind: &str) -> Value {
        json!({"serviceInstance": {"apiGroup": "postgresql.anynines.com", "kind": kind, "name": instance}})
    }

    #[test]
    fn the_same_order_counts_as_this_one_however_the_kind_is_written() {
        let step = applied(of("solo", "Postgresql"));
        assert_eq!(step.conflict(&there(of("solo", "PostgreSQL"), json!([]))), None);
        assert_eq!(step.difference(&there(of("solo", "PostgreSQL"), json!([]))), None);
    }

    #[test]
    fn an_order_for_another_instance_is_a_conflict_that_names_both() {
        let finding = applied(of("solo", "Postgresql")).conflict(&there(of("other", "Postgresql"), json!([]))).unwrap();
        assert_eq!(finding.class(), Class::Refused);
        assert_eq!(
            finding.cause,
            "the backup b exists already in the namespace shop, and its spec.serviceInstance.name is other instead of solo"
        );
        assert_eq!(finding.advice, ["Choose another --name."]);
    }

    #[test]
    fn an_instance_that_somebody_has_made_meanwhile_is_not_restored_into() {
        let reference = Reference::new(Kind::Instance, &"shop".parse().unwrap(), &"copy".parse().unwrap());
        let mut resource = Resource::new(reference, json!({"replicas": 1}));
        let theirs = resource.object();
        resource.annotations.insert("a8s.a9s/made-for".to_owned(), "across".to_owned());
        let step = Applied::new(Arc::default(), resource, Existing::Kept);
        let finding = step.conflict(&theirs).unwrap();
        assert_eq!(finding.id, Id::InstanceTaken);
        assert_eq!(finding.cause, "the instance copy exists already in the namespace shop, and was not made for this");
        assert_eq!(finding.advice, ["Choose a name that is free."]);
    }

    #[tokio::test]
    async fn who_may_not_look_at_pods_waits_for_an_order_all_the_same() {
        let refusal = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden",
            "message": "pods is forbidden", "code": 403});
        let service = tower::service_fn(move |_request: http::Request<Body>| {
            let answer = http::Response::builder().status(403).body(Body::from(refusal.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(answer.unwrap()) }
        });
        let client = Client::new(service, "shop");
        let mut backup = there(of("solo", "Postgresql"), json!([]));
        backup.data["status"]["podUsedNamespacedName"] = json!("shop/solo-0");
        let reference = Reference::new(Kind::Backup, &"shop".parse().unwrap(), &"b".parse().unwrap());
        let said = Settled::new(Arc::default(), reference).progress(&client, &backup, "it is stored".to_owned()).await;
        assert_eq!(said, Ok("it is stored".to_owned()));
    }

    #[tokio::test]
    async fn only_an_answer_that_names_an_object_says_that_it_is_gone() {
        let reference = Reference::new(Kind::Backup, &"shop".parse().unwrap(), &"b".parse().unwrap());
        for (details, is_gone) in [(json!({"name": "b", "kind": "backups"}), true), (json!({}), false)] {
            let service = tower::service_fn(move |request: http::Request<Body>| {
                // Definitions may not be looked at; the kind may be there all the same.
                let code = if request.uri().path().contains("/customresourcedefinitions/") { 403_u16 } else { 404 };
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                    "message": "not now", "details": details});
                let answer = http::Response::builder().status(code).body(Body::from(status.to_string().into_bytes()));
                async move { Ok::<_, Infallible>(answer.unwrap()) }
            });
            match get(&Client::new(service, "shop"), &reference).await {
                Ok(there) => assert!(is_gone && there.is_none(), "{there:?}"),
                Err(finding) => assert!(!is_gone && finding.id == Id::NotFound, "{finding}"),
            }
        }
    }

    #[test]
    fn an_order_that_has_failed_is_a_conflict_unless_it_was_given_in_this_run() {
        let failed = json!([{"type": "PermanentlyFailed", "status": "True", "reason": "Failed", "message": "no space",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let step = applied(of("solo", "Postgresql"));
        let finding = step.conflict(&there(of("solo", "Postgresql"), failed.clone())).unwrap();
        assert!(finding.cause.ends_with("and has failed: no space"), "{}", finding.cause);
        step.ours.store(true, Ordering::SeqCst);
        assert_eq!(step.conflict(&there(of("solo", "Postgresql"), failed)), None);
    }
}
