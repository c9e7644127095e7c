//! Namespaces and images.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::document::Image;
use super::{group, identity};
use crate::kubernetes::kinds;
use crate::manifest::images::Reference;

/// Puts objects that lie in namespaces into this one, and changes what refers to them: the subjects of bindings, the
/// services of webhooks, the name of the Namespace itself.
pub(super) fn namespace(namespace: &str, objects: &mut [Value]) {
    let custom = kinds::of_definitions(objects);
    let mut moved = BTreeSet::new();
    for object in objects.iter_mut() {
        let (group, kind, before, name) = identity(object);
        if group.is_empty() && kind == "Namespace" {
            object["metadata"]["name"] = json!(namespace);
        } else if kinds::namespaced(&group, &kind).or_else(|| custom.get(&(group, kind.clone())).copied())
            != Some(false)
        {
            moved.insert((kind, before, name));
            object["metadata"]["namespace"] = json!(namespace);
        }
    }
    let was_moved = |kind: &str, reference: &Value| {
        let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
        moved.contains(&(kind.to_owned(), text("namespace"), text("name")))
    };
    for object in objects.iter_mut() {
        match (group(object), object["kind"].as_str().unwrap_or_default()) {
            ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
                for subject in list(object, "/subjects") {
                    // kustomize's default for subjects that are not among the resources is to change only "default".
                    let account = subject["kind"] == "ServiceAccount";
                    if account && (was_moved("ServiceAccount", subject) || subject["name"] == "default") {
                        subject["namespace"] = json!(namespace);
                    }
                }
            }
            ("admissionregistration.k8s.io", _) => {
                for webhook in list(object, "/webhooks") {
                    service(webhook.pointer_mut("/clientConfig/service"), namespace, &was_moved);
                }
            }
            ("apiextensions.k8s.io", _) => {
                let path = "/spec/conversion/webhook/clientConfig/service";
                service(object.pointer_mut(path), namespace, &was_moved);
            }
            ("apiregistration.k8s.io", _) => service(object.pointer_mut("/spec/service"), namespace, &was_moved),
            _ => {}
        }
    }
}

fn list<'a>(object: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten()
}

fn service(reference: Option<&mut Value>, namespace: &str, was_moved: &impl Fn(&str, &Value) -> bool) {
    if let Some(reference) = reference.filter(|reference| was_moved("Service", reference)) {
        reference["namespace"] = json!(namespace);
    }
}

/// Changes the images of containers, wherever in an object there are containers.
pub(super) fn images(images: &[Image], objects: &mut [Value]) {
    if images.is_empty() {
        return;
    }
    for object in objects {
        crate::manifest::images::each_container(object, &mut |text| {
            let reference = Reference::parse(text);
            let wanted = images.iter().find(|image| image.name == reference.repository)?;
            let mut changed = reference;
            if let Some(name) = &wanted.new_name {
                changed.repository.clone_from(name);
            }
            match (&wanted.digest, &wanted.new_tag) {
                (Some(digest), _) => (changed.tag, changed.digest) = (None, Some(digest.clone())),
                (None, Some(tag)) => (changed.tag, changed.digest) = (Some(tag.clone()), None),
                (None, None) => {}
            }
            Some(changed.to_string())
        });
    }
}
