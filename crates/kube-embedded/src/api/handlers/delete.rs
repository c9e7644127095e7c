//! `delete` and `deletecollection`: at once, gracefully, or when finalizers allow it.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::in_version;
use super::update::may_go;
use crate::api::ApiServer;
use crate::api::admission::webhooks::Change;
use crate::api::body::{self, Body};
use crate::api::call::Call;
use crate::api::judge::{hold, is_definition};
use crate::api::registry::Resource;
use crate::api::{metadata, typed};
use crate::status::{Cause, Status};
use crate::store::Object;

/// The namespaces that stay: those of the NamespaceLifecycle admission plugin, and that of the node's lease, which
/// nothing here would make anew.
const LASTING: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// `metav1.DeleteOptions`, from the body or the query.
#[derive(Default)]
struct Options {
    grace: Option<i64>,
    propagation: Option<String>,
    uid: Option<String>,
    version: Option<String>,
    dry: bool,
}

/// What became of the object.
enum Deleted {
    Gone(Arc<Object>),
    Going(Arc<Object>),
}

impl ApiServer {
    pub(in crate::api) async fn delete(&self, call: &Call) -> Result<Response<Body>, Status> {
        let options = Options::read(call)?;
        let name = call.request.name.as_str();
        if call.resource.is_namespace() && LASTING.contains(&name) {
            return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
        }
        let object = self.find(call)?;
        Ok(match self.delete_object(call, object, &options).await? {
            Deleted::Going(object) => self.show(call, StatusCode::OK, &object, &[]),
            // These answer the object itself (`ReturnDeletedObject` in pkg/registry).
            Deleted::Gone(object)
                if matches!(
                    call.resource.plural.as_str(),
                    "pods" | "persistentvolumes" | "persistentvolumeclaims" | "serviceaccounts" | "services"
                ) =>
            {
                self.show(call, StatusCode::OK, &object, &[])
            }
            Deleted::Gone(object) => body::json(
                StatusCode::OK,
                &json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                    "details": {
                        "name": object.key.name, "group": call.resource.group, "kind": call.resource.plural,
                        "uid": metadata::text(&object.value, "uid"),
                    },
                }),
            ),
        })
    }

    pub(super) async fn delete_collection(&self, call: &Call) -> Result<Response<Body>, Status> {
        let options = Options::read(call)?;
        let page = self.page(call)?;
        for object in &page.objects {
            match self.delete_object(call, Arc::clone(object), &options).await {
                Err(status) if status.code() == 404 => {}
                other => drop(other?),
            }
        }
        let items: Vec<&Value> = page.objects.iter().map(|object| &*object.value).collect();
        Ok(body::json(
            StatusCode::OK,
            &json!({
                "kind": call.resource.list_kind, "apiVersion": call.resource.api_version(),
                "metadata": {"resourceVersion": self.store.version().to_string()}, "items": items,
            }),
        ))
    }

    /// `pods/eviction`: there are no disruption budgets, so it is a deletion.
    pub(super) async fn evict(&self, call: &Call) -> Result<Response<Body>, Status> {
        let eviction = typed::parse_as(call, "Eviction", "policy/v1", &["policy/v1beta1"])?;
        let name = eviction["metadata"]["name"].as_str().unwrap_or_default();
        if !name.is_empty() && name != call.request.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let options = Options { dry: call.dry_run()?, ..Options::default() }.with_body(&eviction["deleteOptions"]);
        let pod = self.find(call)?;
        self.delete_object(call, pod, &options).await?;
        let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(body::json(StatusCode::CREATED, &success))
    }

    async fn delete_object(&self, call: &Call, object: Arc<Object>, options: &Options) -> Result<Deleted, Status> {
        let key = object.key.clone();
        let mut current = object;
        loop {
            options.check(call, &current)?;
            let change = Change { operation: "DELETE", object: &Value::Null, old: &current.value, dry: options.dry };
            self.ask_validators(call, &change, &mut Vec::new()).await?;
            let marked = mark(&call.resource, &current, options);
            if options.dry {
                return Ok(Deleted::Going(self.dry(call, marked)));
            }
            match self.store_deletion(&current, marked).await {
                Err(crate::store::Error::Conflict) => {
                    let uid = metadata::text(&current.value, "uid");
                    // Another of the same name is not what was to be deleted.
                    let now = self.store.fetch(&key).filter(|now| metadata::text(&now.value, "uid") == uid);
                    current = in_version(&call.resource, now.ok_or_else(|| call.not_found_name(&key.name))?);
                }
                Err(error) => return Err(call.store_error(&key.name, &error)),
                Ok(deleted) => {
                    let (Deleted::Gone(object) | Deleted::Going(object)) = &deleted;
                    self.after_change(call, object).await;
                    return Ok(deleted);
                }
            }
        }
    }

    async fn store_deletion(&self, current: &Arc<Object>, marked: Value) -> Result<Deleted, crate::store::Error> {
        let goes = may_go(&marked);
        if !goes && marked == *current.value {
            return Ok(Deleted::Going(Arc::clone(current)));
        }
        let left = self.put(current, marked).await?;
        Ok(if goes { Deleted::Gone(left) } else { Deleted::Going(left) })
    }

    /// Deletes an object whose definition goes. Nobody is asked: Kubernetes deletes such objects in the storage, too
    /// (`apiextensions-apiserver/pkg/controller/finalizer`).
    pub(in crate::api) async fn delete_with_definition(
        &self,
        resource: &Resource,
        object: Arc<Object>,
    ) -> Result<(), Status> {
        let key = object.key.clone();
        let mut current = object;
        loop {
            let marked = mark(resource, &current, &Options::default());
            match self.store_deletion(&current, marked).await {
                Err(crate::store::Error::Conflict) => match self.store.fetch(&key) {
                    Some(now) => current = now,
                    None => return Ok(()),
                },
                Ok(_) | Err(crate::store::Error::NotFound) => return Ok(()),
                Err(error) => return Err(Status::internal(error)),
            }
        }
    }
}

/// The object with the marks of its deletion.
fn mark(resource: &Resource, object: &Object, options: &Options) -> Value {
    let mut new = Value::clone(&object.value);
    let mut finalizers: Vec<String> = metadata::finalizers(&new).into_iter().map(str::to_owned).collect();
    let wanted = match options.propagation.as_deref() {
        Some("Foreground") => Some("foregroundDeletion"),
        Some("Orphan") => Some("orphan"),
        _ => None,
    };
    if options.propagation.is_some() {
        finalizers.retain(|finalizer| finalizer != "foregroundDeletion" && finalizer != "orphan");
    }
    finalizers.extend(wanted.map(str::to_owned));
    metadata::set(&mut new, "finalizers", (!finalizers.is_empty()).then(|| json!(finalizers)));
    let grace = grace(resource, &new, options);
    let before = new["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if metadata::is_deleting(&new) {
        // A second deletion can only make it sooner.
        if before.is_some_and(|before| grace < before) {
            metadata::set(&mut new, "deletionGracePeriodSeconds", Some(grace.into()));
            metadata::set(&mut new, "deletionTimestamp", Some(after(grace).into()));
        }
        return new;
    }
    if is_definition(resource) {
        // Whoever has replaced the definition since it was made may have left that out.
        hold(&mut new);
    }
    metadata::set(&mut new, "deletionTimestamp", Some(after(grace).into()));
    metadata::set(&mut new, "deletionGracePeriodSeconds", Some(grace.into()));
    if let Some(generation) = new["metadata"]["generation"].as_i64() {
        metadata::set(&mut new, "generation", Some((generation + 1).into()));
    }
    if resource.is_namespace() {
        new["status"]["phase"] = "Terminating".into();
    }
    new
}

/// How many seconds a pod gets; everything else gets none. A pod that runs nowhere needs none either.
fn grace(resource: &Resource, object: &Value, options: &Options) -> i64 {
    if !(resource.group.is_empty() && resource.plural == "pods") {
        return 0;
    }
    let runs = object["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let over = matches!(object["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if !runs || over {
        return 0;
    }
    let grace = options.grace.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
    // A negative grace period means one second (pkg/registry/core/pod/strategy.go).
    if grace < 0 { 1 } else { grace }
}

fn after(seconds: i64) -> String {
    let now = jiff::Timestamp::now();
    metadata::time(now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now))
}

impl Options {
    fn read(call: &Call) -> Result<Self, Status> {
        let mut options = Self { dry: call.dry_run()?, ..Self::default() };
        options.grace = call.query.number("gracePeriodSeconds")?;
        options.propagation = call.query.get("propagationPolicy").map(str::to_owned);
        if call.query.get("orphanDependents") == Some("true") {
            options.propagation.get_or_insert_with(|| "Orphan".to_owned());
        }
        if !call.body.is_empty() {
            options = options.with_body(&typed::parse(call)?);
        }
        if let Some(policy) = &options.propagation
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            let cause = Cause {
                reason: "FieldValueNotSupported",
                field: "propagationPolicy".to_owned(),
                message: format!(
                    "Unsupported value: \"{policy}\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                ),
            };
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![cause]));
        }
        Ok(options)
    }

    /// What the body says goes before what the query says.
    fn with_body(mut self, body: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.grace = body["gracePeriodSeconds"].as_i64().or(self.grace);
        self.propagation = text(&body["propagationPolicy"]).or(self.propagation);
        self.uid = text(&body["preconditions"]["uid"]);
        self.version = text(&body["preconditions"]["resourceVersion"]);
        self.dry |= body["dryRun"].as_array().is_some_and(|values| values.iter().any(|value| value == "All"));
        if self.propagation.is_none() && body["orphanDependents"] == true {
            self.propagation = Some("Orphan".to_owned());
        }
        self
    }

    fn check(&self, call: &Call, object: &Object) -> Result<(), Status> {
        // In the words of `BeforeDelete` (`k8s.io/apiserver/pkg/registry/rest/delete.go`), which says the kind.
        let conflict = |what: &str, wanted: &str, is: &str, why: &str| {
            let text =
                format!("the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). {why}");
            Err(Status::conflict(&call.resource.group, &call.resource.kind, &object.key.name, text))
        };
        let uid = metadata::text(&object.value, "uid");
        if let Some(wanted) = self.uid.as_deref().filter(|wanted| *wanted != uid) {
            return conflict("UID", wanted, uid, "The object might have been deleted and then recreated");
        }
        let version = object.version.to_string();
        match self.version.as_deref().filter(|wanted| *wanted != version) {
            Some(wanted) => conflict("ResourceVersion", wanted, &version, "The object might have been modified"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;
    use crate::api::request::{Query, ResourceRequest};
    use crate::api::rig;
    use crate::objects::GroupResource;
    use crate::store::{Key, Store};
    use crate::user::UserInfo;

    #[tokio::test]
    async fn another_object_of_the_same_name_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let server = rig::server(&store);
        let key = Key::new(GroupResource::new("", "configmaps"), "default", "a");
        let object =
            |uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": uid}});
        let first = store.create(key.clone(), object("first")).await.unwrap();
        store.delete(key.clone(), first.version).await.unwrap();
        let second = store.create(key.clone(), object("second")).await.unwrap();
        let mut changed = object("second");
        changed["data"] = json!({"a": "b"});
        store.update(key.clone(), changed, second.version).await.unwrap();
        let request = ResourceRequest {
            verb: "delete",
            group: String::new(),
            version: "v1".to_owned(),
            resource: "configmaps".to_owned(),
            subresource: String::new(),
            namespace: "default".to_owned(),
            name: "a".to_owned(),
            in_namespace: true,
        };
        let resource = Arc::clone(server.registry().get("", "v1", "configmaps").unwrap());
        let (user, headers) = (UserInfo::master("test"), HeaderMap::new());
        let call = Call::new(user, request, resource, Query::default(), &headers, Bytes::new()).unwrap();
        let done = server.delete_object(&call, first, &Options::default()).await;
        assert_eq!(done.err().map(|status| status.code()), Some(404));
        assert!(store.fetch(&key).is_some());
        // The same one is deleted, whatever has changed about it.
        assert!(server.delete_object(&call, second, &Options::default()).await.is_ok());
        assert!(store.fetch(&key).is_none());
    }
}
