//! `create`, and the binding of a pod to a node.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::update::{Changed, Ownership};
use crate::api::ApiServer;
use crate::api::body::{self, Body};
use crate::api::builtin::{events, rules};
use crate::api::call::Call;
use crate::api::judge::is_definition;
use crate::api::{attributes, metadata, names, typed};
use crate::auth::rbac::{Attributes, ResourceAttributes};
use crate::objects::GroupResource;
use crate::patch;
use crate::status::{Cause, Status};

/// How often another generated name is tried.
const NAME_ATTEMPTS: usize = 8;

impl ApiServer {
    pub(super) async fn create(&self, call: &Call) -> Result<Response<Body>, Status> {
        let (object, warnings) = typed::object(call)?;
        let (created, said) = self.create_object(call, object, Ownership::Tracked).await?;
        Ok(self.show(call, StatusCode::CREATED, &created, &[warnings, said].concat()))
    }

    /// Stores a checked body as a new object.
    pub(super) async fn create_object(
        &self,
        call: &Call,
        mut object: Value,
        ownership: Ownership,
    ) -> Result<Changed, Status> {
        self.place(call, &mut object)?;
        // As etcd3's store says it, with the same code and no reason. What is no version counts as none there, too.
        if metadata::text(&object, "resourceVersion").parse().is_ok_and(|version: u64| version > 0) {
            let mut status = Status::new(500, "", "resourceVersion should not be set on objects to be created");
            status.0.reason = None;
            return Err(status);
        }
        self.initialise(call, &mut object);
        let dry = call.dry_run()?;
        for _ in 1..NAME_ATTEMPTS {
            let mut candidate = object.clone();
            let generated = name_it(&mut candidate);
            check_name(call, &candidate)?;
            let warnings = self.judge(call, None, &mut candidate).await?;
            if ownership == Ownership::Tracked {
                metadata::set(&mut candidate, "managedFields", None);
                let (version, manager) = (call.resource.api_version(), call.manager());
                patch::track(None, &mut candidate, &manager, &version, "", &call.resource.merge);
            }
            // Of two at once the later one finds what the other has stored.
            let _alone = if is_definition(&call.resource) {
                let alone = self.defining.lock().await;
                self.check_kind(call, &candidate)?;
                Some(alone)
            } else {
                None
            };
            let name = metadata::name(&candidate).to_owned();
            let key = call.key_of(&name);
            if dry {
                if self.store.fetch(&key).is_some() {
                    return Err(call.store_error(&name, &crate::store::Error::AlreadyExists));
                }
                return Ok((self.dry(call, candidate), warnings));
            }
            match self.store.create(key, events::as_stored(candidate)).await {
                Err(crate::store::Error::AlreadyExists) if generated => {}
                Err(error) => return Err(call.store_error(&name, &error)),
                Ok(object) => {
                    self.after_change(call, &object).await;
                    return Ok((object, warnings));
                }
            }
        }
        Err(Status::internal("no free name was found"))
    }

    /// The right to patch or to update is one to change what is there: who makes something by that needs another.
    pub(super) fn check_right_to_create(&self, call: &Call) -> Result<(), Status> {
        let wanted = ResourceAttributes { verb: "create".to_owned(), ..attributes(&call.request, &call.query) };
        self.authorizer.check(&call.user, &Attributes::Resource(wanted))
    }

    /// Puts the object into the path's namespace, which must exist.
    fn place(&self, call: &Call, object: &mut Value) -> Result<(), Status> {
        if !call.resource.namespaced {
            metadata::set(object, "namespace", None);
            return Ok(());
        }
        call.check_namespace(object)?;
        metadata::set(object, "namespace", Some(call.namespace().into()));
        let namespaces = GroupResource::new("", "namespaces");
        let namespace = self
            .store
            .fetch_by(&namespaces, "", call.namespace())
            .ok_or_else(|| Status::not_found("", "namespaces", call.namespace()))?;
        if metadata::is_deleting(&namespace.value) {
            return Err(terminating(call, metadata::name(object)));
        }
        Ok(())
    }

    /// What the server sets on every new object.
    fn initialise(&self, call: &Call, object: &mut Value) {
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            metadata::set(object, field, None);
        }
        metadata::set(object, "uid", Some(uuid::Uuid::new_v4().to_string().into()));
        metadata::set(object, "creationTimestamp", Some(metadata::now().into()));
        metadata::set(object, "generation", call.resource.has_generations().then(|| 1.into()));
        if call.resource.is_custom() {
            if call.resource.status {
                object.as_object_mut().map(|object| object.remove("status"));
            }
        } else if call.resource.status {
            rules::first_status(&call.resource.group, &call.resource.plural, object);
        }
    }

    /// `pods/binding`: the scheduler's decision.
    pub(super) async fn bind(&self, call: &Call) -> Result<Response<Body>, Status> {
        let binding = typed::parse_as(call, "Binding", "v1", &[])?;
        let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
        if node.is_empty() {
            let cause = Cause {
                reason: "FieldValueRequired",
                field: "target.name".to_owned(),
                message: "Required value".to_owned(),
            };
            return Err(Status::invalid("", "Binding", &call.request.name, vec![cause]));
        }
        loop {
            let pod = self.find(call)?;
            let refuse = |why: String| Status::conflict("", "pods/binding", &call.request.name, why);
            if metadata::is_deleting(&pod.value) {
                return Err(refuse(format!(
                    "pod {} is being deleted, cannot be assigned to a host",
                    call.request.name
                )));
            }
            if let Some(already) = pod.value["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) {
                return Err(refuse(format!("pod {} is already assigned to node \"{already}\"", call.request.name)));
            }
            let mut bound = Value::clone(&pod.value);
            bound["spec"]["nodeName"] = node.as_str().into();
            scheduled(&mut bound);
            if call.dry_run()? {
                break;
            }
            match self.store.update(call.key(), bound, pod.version).await {
                Ok(_) => break,
                Err(crate::store::Error::Conflict) => {}
                Err(error) => return Err(call.store_error(&call.request.name, &error)),
            }
        }
        Ok(body::json(
            StatusCode::CREATED,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        ))
    }
}

fn scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": metadata::now(),
    });
    let conditions = &mut pod["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(conditions) => {
            conditions.retain(|condition| condition["type"] != "PodScheduled");
            conditions.push(condition);
        }
        None => *conditions = json!([condition]),
    }
}

/// 403 as the namespace lifecycle plugin words it.
fn terminating(call: &Call, name: &str) -> Status {
    let namespace = call.namespace();
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = Status::forbidden(&call.resource.group, &call.resource.plural, name, why);
    if let Some(details) = &mut status.0.details {
        details.causes = Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause {
            field: Some("metadata.namespace".to_owned()),
            message: Some(format!("namespace {namespace} is being terminated")),
            reason: Some("NamespaceTerminating".to_owned()),
        }]);
    }
    status
}

/// Makes up a name where only its beginning is given. Answers whether it did.
fn name_it(object: &mut Value) -> bool {
    let prefix = metadata::text(object, "generateName");
    if !metadata::name(object).is_empty() || prefix.is_empty() {
        return false;
    }
    let prefix: String = prefix.chars().take(58).collect();
    metadata::set(object, "name", Some((prefix + &names::random_suffix()).into()));
    true
}

fn check_name(call: &Call, object: &Value) -> Result<(), Status> {
    let resource = &call.resource;
    let name = metadata::name(object);
    let cause = |reason, message| Cause { reason, field: "metadata.name".to_owned(), message };
    let cause = if name.is_empty() {
        cause("FieldValueRequired", "Required value: name or generateName is required".to_owned())
    } else {
        match names::object_name(&resource.group, &resource.plural, name) {
            Ok(()) => return Ok(()),
            Err(why) => cause("FieldValueInvalid", format!("Invalid value: \"{name}\": {why}")),
        }
    };
    Err(Status::invalid(&resource.group, &resource.kind, name, vec![cause]))
}
