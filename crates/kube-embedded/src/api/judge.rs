//! Whether an object may be stored: what is set by default, what admission says, and every rule it breaks, in one answer.

use serde_json::{Value, json};

use super::ApiServer;
use super::admission::service_accounts;
use super::admission::webhooks::Change;
use super::builtin::causes::Causes;
use super::builtin::{pods, rules};
use super::call::Call;
use super::handlers;
use super::metadata;
use super::names;
use super::registry::{Resource, Shape};
use super::retire;
use super::schema::definition;
use super::typed;
use crate::objects::{GroupResource, Objects as _};
use crate::status::{Cause, Status};

impl ApiServer {
    /// Completes and checks a new state; `old` is what it replaces. Answers warnings for the client.
    pub(super) async fn judge(&self, call: &Call, old: Option<&Value>, new: &mut Value) -> Result<Vec<String>, Status> {
        let mut warnings = Vec::new();
        let main = matches!(call.request.subresource.as_str(), "" | "scale");
        if main {
            self.complete(call, old, new)?;
        }
        let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
        let (before, dry) = (old.unwrap_or(&Value::Null), call.dry_run()?);
        let change = Change { operation, object: new, old: before, dry };
        if let Some(changed) = self.mutate(call, &change, &mut warnings).await? {
            let mut changed = typed::clean(&call.resource, changed)?.0;
            // Webhooks can change no more than the client can.
            let fixed = old.unwrap_or(new);
            handlers::keep_server_fields(&mut changed, fixed);
            handlers::keep_other_part(call, &mut changed, fixed);
            *new = changed;
            if main {
                self.complete(call, old, new)?;
            }
        }
        let mut causes = Causes(self.violations(call, old, new)?);
        new_finalizers(&mut causes, new, old);
        if !causes.0.is_empty() {
            return Err(Status::invalid(&call.resource.group, &call.resource.kind, metadata::name(new), causes.0));
        }
        if call.resource.group == "rbac.authorization.k8s.io" {
            self.authorizer.check_write(&call.user, &call.resource.plural, old, new)?;
        }
        self.ask_validators(call, &Change { operation, object: new, old: before, dry }, &mut warnings).await?;
        if old.is_none() {
            warnings.extend(rules::warning(&call.resource.group, &call.resource.plural, new));
        }
        Ok(warnings)
    }

    /// Defaults, and what the server's own admission adds.
    fn complete(&self, call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
        let resource = &call.resource;
        let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
        if resource.is_custom() {
            return Ok(());
        }
        rules::default(group, plural, new);
        if is_definition(resource) {
            definition::default(new);
        }
        match (group, plural) {
            ("", "services") => self.addresses.assign(&self.store, new, old, call.dry_run()?)?,
            ("", "pods") if old.is_none() => {
                service_accounts::admit(&self.store, call.namespace(), new)?;
                new["status"]["qosClass"] = pods::quality(&new["spec"]).into();
            }
            ("", "persistentvolumeclaims") if old.is_none() => self.default_class(new),
            ("", "namespaces") if old.is_none() => new["spec"]["finalizers"] = json!(["kubernetes"]),
            ("", "namespaces") => new["spec"] = old.map(|old| old["spec"].clone()).unwrap_or_default(),
            ("apiextensions.k8s.io", _) if old.is_none() => hold(new),
            _ => {}
        }
        Ok(())
    }

    /// A claim that names no class gets the default one (the DefaultStorageClass admission plugin).
    fn default_class(&self, claim: &mut Value) {
        if !claim["spec"]["storageClassName"].is_null() {
            return;
        }
        let classes = self.store.list(&GroupResource::new("storage.k8s.io", "storageclasses"), None);
        if let Some(class) = names::default_class(&classes) {
            claim["spec"]["storageClassName"] = class.into();
        }
    }

    fn violations(&self, call: &Call, old: Option<&Value>, new: &mut Value) -> Result<Vec<Cause>, Status> {
        let resource = &call.resource;
        match &resource.shape {
            Shape::Custom(custom) => {
                if old.is_none() && custom.terminating {
                    let why = "create not allowed while custom resource definition is terminating";
                    return Err(Status::method_not_allowed(why));
                }
                let mut causes = Causes::default();
                rules::metadata(&mut causes, &new["metadata"], "metadata");
                causes.0.extend(custom.schema.validate(new, old));
                Ok(causes.0)
            }
            Shape::Builtin(_) if is_definition(resource) && call.request.subresource == "status" => {
                Ok(definition::validate_stored(new))
            }
            Shape::Builtin(_) if !matches!(call.request.subresource.as_str(), "" | "scale") => Ok(Vec::new()),
            Shape::Builtin(_) if is_definition(resource) => {
                definition::establish(new);
                Ok(definition::validate(new, old))
            }
            Shape::Builtin(_) => Ok(rules::validate(&resource.group, &resource.plural, new, old).0),
        }
    }

    /// Of one kind there is one resource: who names an owner names its kind. (Kubernetes stores such a definition and
    /// does not serve it.) A kind does not change, so only a new definition can take one.
    ///
    /// # Errors
    /// Another definition has the kind of this one.
    pub(super) fn check_kind(&self, call: &Call, new: &Value) -> Result<(), Status> {
        let (group, kind) = (&new["spec"]["group"], &new["spec"]["names"]["kind"]);
        let all = self.store.list(&retire::definitions(), None);
        let by = all.iter().find(|other| {
            let spec = &other["spec"];
            spec["group"] == *group && spec["names"]["kind"] == *kind && metadata::name(other) != metadata::name(new)
        });
        let Some(by) = by else { return Ok(()) };
        let mut causes = Causes::default();
        causes.invalid("spec.names.kind", kind, &format!("is already in use by {}", metadata::name(by)));
        Err(Status::invalid(&call.resource.group, &call.resource.kind, metadata::name(new), causes.0))
    }
}

/// An object that is being deleted waits for nobody new (`ValidateNoNewFinalizers`).
fn new_finalizers(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    let Some(old) = old.filter(|old| metadata::is_deleting(old)) else { return };
    let before = metadata::finalizers(old);
    let mut extra = metadata::finalizers(new);
    extra.retain(|finalizer| !before.contains(finalizer));
    extra.sort_unstable();
    if !extra.is_empty() {
        let extra = extra.join("\", \"");
        let why = "no new finalizers can be added if the object is being deleted, found new finalizers";
        causes.forbidden("metadata.finalizers", &format!("{why} []string{{\"{extra}\"}}"));
    }
}

/// A definition stays until its objects are gone.
pub(super) fn hold(definition: &mut Value) {
    let mut finalizers: Vec<String> = metadata::finalizers(definition).into_iter().map(str::to_owned).collect();
    if !finalizers.iter().any(|finalizer| finalizer == definition::FINALIZER) {
        finalizers.push(definition::FINALIZER.to_owned());
    }
    metadata::set(definition, "finalizers", Some(finalizers.into()));
}

pub(super) fn is_definition(resource: &Resource) -> bool {
    resource.group == "apiextensions.k8s.io" && resource.plural == "customresourcedefinitions"
}
