//! Namespaces: what each has from the beginning, and how one that is deleted becomes empty and goes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::action::{Action, Target};
use super::engine::Controller;
use super::view::{is, is_terminating, name_of, resource_of};
use super::{Context, Error};
use crate::objects::{Change, ChangeKind, GroupResource};

const ROOT_CA: &str = "kube-root-ca.crt";
/// How many objects of a namespace are deleted at the same time; the store commits them together.
const AT_ONCE: usize = 32;

/// The controller.
pub struct Namespaces {
    context: Context,
    ca_pem: String,
}

impl Namespaces {
    pub fn new(context: Context, ca_pem: String) -> Self {
        Self { context, ca_pem }
    }

    async fn furnish(&self, name: &str) -> Result<(), Error> {
        let objects = &self.context.objects;
        let account = objects.get(&resource_of::<ServiceAccount>(), Some(name), "default");
        let root_ca = objects.get(&resource_of::<ConfigMap>(), Some(name), ROOT_CA);
        let actions = furniture(name, account.as_deref(), root_ca.as_deref(), &self.ca_pem);
        for action in actions {
            match self.context.apply(action).await {
                // Somebody was faster, or the namespace is going: a change will tell.
                Err(error) if error.status().is_some_and(|status| [403, 404, 409].contains(&status.code)) => {}
                result => result?,
            }
        }
        Ok(())
    }

    async fn empty(&self, namespace: &Value) -> Result<(), Error> {
        let (_, name) = name_of(namespace);
        let objects = self.context.objects.all(Some(&name));
        let actions = deletions(&objects, |resource, object| self.context.target(resource, object));
        let deleted = futures::stream::iter(actions)
            .map(|action| self.context.apply(action))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>();
        let failures: Vec<Error> = deleted.await.into_iter().filter_map(Result::err).collect();
        let remaining = self.context.objects.all(Some(&name));
        // The namespace as it is now: its status may have been written above.
        let Some(now) = self.context.objects.get(&resource_of::<Namespace>(), None, &name) else {
            return Ok(());
        };
        let causes = failures.iter().map(Error::with_causes).collect();
        if let Some(action) = farewell(&now, &remaining, causes, Timestamp::now()) {
            self.context.apply(action).await?;
        }
        failures.into_iter().next().map_or(Ok(()), Err)
    }
}

impl Controller for Namespaces {
    type Key = String;
    const NAME: &'static str = "namespace";

    fn keys(&self, change: &Change) -> Vec<String> {
        let (namespace, name) = name_of(&change.object);
        if is::<Namespace>(&change.resource) {
            return if change.kind == ChangeKind::Deleted { Vec::new() } else { vec![name] };
        }
        let furniture = (is::<ConfigMap>(&change.resource) && name == ROOT_CA)
            || (is::<ServiceAccount>(&change.resource) && name == "default");
        let gone = change.kind == ChangeKind::Deleted && !namespace.is_empty();
        if furniture {
            return vec![namespace];
        }
        let terminating = || {
            let object = self.context.objects.get(&resource_of::<Namespace>(), None, &namespace);
            object.is_some_and(|object| is_terminating(&object))
        };
        if gone && terminating() { vec![namespace] } else { Vec::new() }
    }

    async fn reconcile(&self, name: &String) -> Result<Option<Duration>, Error> {
        match self.context.objects.get(&resource_of::<Namespace>(), None, name) {
            None => {}
            Some(namespace) if is_terminating(&namespace) => self.empty(&namespace).await?,
            Some(_) => self.furnish(name).await?,
        }
        Ok(None)
    }
}

/// The ServiceAccount and the ConfigMap that each namespace has.
fn furniture(namespace: &str, account: Option<&Value>, root_ca: Option<&Value>, ca_pem: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    if account.is_none() {
        actions.push(Action::Create {
            resource: ApiResource::erase::<ServiceAccount>(&()),
            object: json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"namespace": namespace, "name": "default"},
            }),
        });
    }
    let data = json!({"ca.crt": ca_pem});
    let resource = ApiResource::erase::<ConfigMap>(&());
    match root_ca {
        None => actions.push(Action::Create {
            resource,
            object: json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "namespace": namespace,
                    "name": ROOT_CA,
                    "annotations": {"kubernetes.io/description": "Contains a CA bundle that can be used to verify the \
                        kube-apiserver when using internal endpoints such as the internal service IP or \
                        kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."},
                },
                "data": data,
            }),
        }),
        Some(map) if map["data"] != data => {
            let mut object = map.clone();
            object["data"] = data;
            actions.push(Action::Replace { resource, object, subresource: None });
        }
        Some(_) => {}
    }
    actions
}

/// Deletes everything that is not being deleted yet.
fn deletions(
    objects: &[(GroupResource, std::sync::Arc<Value>)],
    target: impl Fn(&GroupResource, &Value) -> Option<Target>,
) -> Vec<Action> {
    let living = objects.iter().filter(|(_, object)| !is_terminating(object));
    living.filter_map(|(resource, object)| Some(Action::delete(target(resource, object)?))).collect()
}

impl Context {
    /// As [`target`], in a version that is served: the one in which the object was written may no longer be.
    pub fn target(&self, resource: &GroupResource, object: &Value) -> Option<Target> {
        let mut target = target(resource, object)?;
        let definitions = GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions");
        let name = format!("{}.{}", resource.resource, resource.group);
        if let Some(definition) = self.objects.get(&definitions, None, &name)
            && let Some(version) = other_version(&definition, &target.resource.version)
        {
            target.resource.api_version = format!("{}/{version}", resource.group);
            target.resource.version = version.to_owned();
        }
        Some(target)
    }
}

/// A served version of a definition, if `version` is not served.
fn other_version<'a>(definition: &'a Value, version: &str) -> Option<&'a str> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let served: Vec<&str> =
        versions.filter(|one| one["served"] == true).filter_map(|one| one["name"].as_str()).collect();
    if served.contains(&version) { None } else { served.first().copied() }
}

/// Any object as a target, in the life that was observed.
pub fn target(resource: &GroupResource, object: &Value) -> Option<Target> {
    let api_version = object["apiVersion"].as_str()?;
    let version = api_version.rsplit_once('/').map_or(api_version, |(_, version)| version);
    let (namespace, name) = name_of(object);
    Some(Target {
        resource: ApiResource {
            group: resource.group.clone(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: object["kind"].as_str()?.to_owned(),
            plural: resource.resource.clone(),
        },
        namespace: Some(namespace).filter(|namespace| !namespace.is_empty()),
        name,
        uid: object["metadata"]["uid"].as_str().map(str::to_owned),
        resource_version: None,
    })
}

/// Lets an empty namespace go; of one that is not, says what remains, and why what could not be deleted could not.
fn farewell(
    namespace: &Value,
    remaining: &[(GroupResource, std::sync::Arc<Value>)],
    failures: Vec<String>,
    now: Timestamp,
) -> Option<Action> {
    let resource = ApiResource::erase::<Namespace>(&());
    let mut object = namespace.clone();
    if remaining.is_empty() {
        let finalizers = object["spec"]["finalizers"].as_array_mut()?;
        let before = finalizers.len();
        finalizers.retain(|finalizer| finalizer != "kubernetes");
        let changed = finalizers.len() != before;
        return changed.then_some(Action::Replace { resource, object, subresource: Some("finalize") });
    }
    let conditions = conditions(namespace, remaining, failures, now);
    if object["status"]["conditions"] == conditions {
        return None;
    }
    object["status"]["conditions"] = conditions;
    object["status"]["phase"] = json!("Terminating");
    Some(Action::Replace { resource, object, subresource: Some("status") })
}

/// As `pkg/controller/namespace/deletion/status_condition_utils.go` words them.
fn conditions(
    namespace: &Value,
    remaining: &[(GroupResource, std::sync::Arc<Value>)],
    mut failures: Vec<String>,
    now: Timestamp,
) -> Value {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    for (resource, object) in remaining {
        *kinds.entry(format!("{}.{}", resource.resource, resource.group)).or_default() += 1;
        let of_object = object["metadata"]["finalizers"].as_array().map_or(&[][..], Vec::as_slice);
        for finalizer in of_object.iter().filter_map(Value::as_str) {
            *finalizers.entry(finalizer.to_owned()).or_default() += 1;
        }
    }
    let resources: Vec<String> =
        kinds.iter().map(|(kind, count)| format!("{kind} has {count} resource instances")).collect();
    let holding: Vec<String> =
        finalizers.iter().map(|(finalizer, count)| format!("{finalizer} in {count} resource instances")).collect();
    let finalizers = if holding.is_empty() {
        ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned())
    } else {
        let message = format!("Some content in the namespace has finalizers remaining: {}", holding.join(", "));
        ("True", "SomeFinalizersRemain", message)
    };
    let said = |type_: &str, (status, reason, message): (&str, &str, String)| {
        let before = namespace["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        let same = before.iter().find(|condition| condition["type"] == type_ && condition["status"] == status);
        let since =
            same.map_or_else(|| json!(now_in_seconds(now)), |condition| condition["lastTransitionTime"].clone());
        json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
    };
    let fine = |reason, message: &str| ("False", reason, message.to_owned());
    // They come in any order.
    failures.sort();
    let content = if failures.is_empty() {
        fine("ContentDeleted", "All content successfully deleted, may be waiting on finalization")
    } else {
        let (count, causes) = (failures.len(), failures.join(", "));
        let message = format!("Failed to delete all resource types, {count} remaining: {causes}");
        ("True", "ContentDeletionFailed", message)
    };
    json!([
        said("NamespaceDeletionDiscoveryFailure", fine("ResourcesDiscovered", "All resources successfully discovered"),),
        said(
            "NamespaceDeletionGroupVersionParsingFailure",
            fine("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        said("NamespaceDeletionContentFailure", content),
        said(
            "NamespaceContentRemaining",
            ("True", "SomeResourcesRemain", format!("Some resources are remaining: {}", resources.join(", "))),
        ),
        said("NamespaceFinalizersRemaining", finalizers),
    ])
}

fn now_in_seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn pod(name: &str, extra: Value) -> (GroupResource, Arc<Value>) {
        let mut object = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}")}});
        for (field, value) in extra.as_object().unwrap() {
            object["metadata"][field] = value.clone();
        }
        (GroupResource::new("", "pods"), Arc::new(object))
    }

    #[test]
    fn a_namespace_gets_its_account_and_the_ca_once() {
        assert_eq!(furniture("ns", None, None, "PEM").len(), 2);
        let (account, map) = (json!({}), json!({"data": {"ca.crt": "PEM"}}));
        assert!(furniture("ns", Some(&account), Some(&map), "PEM").is_empty());
        let actions = furniture("ns", Some(&account), Some(&map), "NEW");
        assert!(matches!(&actions[..], [Action::Replace { object, .. }] if object["data"]["ca.crt"] == "NEW"));
    }

    #[test]
    fn everything_in_a_namespace_is_deleted_once() {
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let actions = deletions(&[pod("a", json!({})), pod("b", going)], target);
        let [Action::Delete { target, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!((target.name.as_str(), target.uid.as_deref()), ("a", Some("uid-a")));
        assert_eq!(target.resource.plural, "pods");
    }

    #[test]
    fn another_version_is_taken_where_one_is_not_served() {
        let version = |name: &str, served: bool| json!({"name": name, "served": served});
        let definition =
            json!({"spec": {"versions": [version("v1", false), version("v2", true), version("v3", true)]}});
        assert_eq!(other_version(&definition, "v1"), Some("v2"));
        assert_eq!(other_version(&definition, "v3"), None);
        assert_eq!(other_version(&json!({"spec": {"versions": [version("v1", false)]}}), "v1"), None);
    }

    #[test]
    fn a_namespace_goes_when_it_is_empty_and_says_what_holds_it_before() {
        let namespace = json!({"metadata": {"name": "ns"}, "spec": {"finalizers": ["kubernetes", "mine"]}});
        let action = farewell(&namespace, &[], vec![], Timestamp::UNIX_EPOCH).unwrap();
        let Action::Replace { object, subresource, .. } = action else { panic!() };
        assert_eq!((subresource, &object["spec"]["finalizers"]), (Some("finalize"), &json!(["mine"])));
        assert_eq!(farewell(&object, &[], vec![], Timestamp::UNIX_EPOCH), None);

        let left = [pod("a", json!({"finalizers": ["x/y"]}))];
        let said = |namespace: &Value, failures: &[&str], now: Timestamp| {
            let failures = failures.iter().map(|cause| (*cause).to_owned()).collect();
            match farewell(namespace, &left, failures, now)? {
                Action::Replace { object, .. } => Some(object),
                other => panic!("{other:?}"),
            }
        };
        let object = said(&namespace, &[], Timestamp::UNIX_EPOCH).unwrap();
        let messages: Vec<_> =
            object["status"]["conditions"].as_array().unwrap().iter().map(|one| one["message"].clone()).collect();
        assert!(messages.contains(&json!("Some resources are remaining: pods. has 1 resource instances")));
        assert!(
            messages.contains(&json!(
                "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
            ))
        );
        assert_eq!(said(&object, &[], Timestamp::now()), None, "said once");

        let refused = said(&object, &["b is refused", "a is refused"], Timestamp::UNIX_EPOCH).unwrap();
        let content = &refused["status"]["conditions"][2];
        assert_eq!((&content["status"], &content["reason"]), (&json!("True"), &json!("ContentDeletionFailed")));
        let message = "Failed to delete all resource types, 2 remaining: a is refused, b is refused";
        assert_eq!(content["message"], message);
        assert_eq!(said(&refused, &["a is refused", "b is refused"], Timestamp::now()), None, "said once");
    }
}
