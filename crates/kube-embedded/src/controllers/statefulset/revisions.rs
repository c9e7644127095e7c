//! The history of a StatefulSet's pod template: one ControllerRevision per different template.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::plan::Step;
use super::pods::{controller_reference, set_name};
use crate::api::names::LETTERS;
use crate::controllers::Error;
use crate::controllers::action::{Action, Target, to_value};

/// The revisions a set is at and moves to.
pub struct Revisions {
    /// Where the pods come from.
    pub current: ControllerRevision,
    /// Where they go to.
    pub update: ControllerRevision,
    /// How often a revision's name was taken by something else.
    pub collisions: Option<i32>,
    /// What has to be written before pods are made.
    pub steps: Vec<Step>,
}

/// Finds or makes the revisions. `all` are those whose name begins with the set's.
pub fn find(set: &StatefulSet, all: &[ControllerRevision]) -> Result<Revisions, Error> {
    let mut steps = Vec::new();
    let mut own: Vec<&ControllerRevision> = all.iter().filter(|revision| is_owned(set, revision)).collect();
    for orphan in all.iter().filter(|revision| is_orphan(set, revision)) {
        // Left behind by a set of this name: with them, the pods it left need not be replaced.
        let mut owners = orphan.owner_references().to_vec();
        owners.push(controller_reference(set));
        let patch = json!({"metadata": {"ownerReferences": to_value(&owners)?}});
        steps.push(Step::quiet(Action::merge(Target::of(orphan), patch)));
        own.push(orphan);
    }
    own.sort_by_key(|revision| (revision.revision, revision.metadata.creation_timestamp.clone(), revision.name_any()));
    let next = own.last().map_or(0, |revision| revision.revision).saturating_add(1);
    let data = data_of(set)?;
    let mut collisions = set.status.as_ref().and_then(|status| status.collision_count);

    let update = match own.iter().rev().find(|revision| data_in(revision) == Some(&data)) {
        Some(equal) if equal.revision.saturating_add(1) == next => (*equal).clone(),
        Some(equal) => {
            // The template is an earlier one again: that revision becomes the newest.
            steps.push(Step::quiet(Action::merge(Target::of(*equal), json!({"revision": next}))));
            ControllerRevision { revision: next, ..(*equal).clone() }
        }
        None => {
            let mut name = revision_name(set, &data, collisions);
            while all.iter().any(|revision| revision.name_any() == name) {
                collisions = Some(collisions.unwrap_or_default().wrapping_add(1));
                name = revision_name(set, &data, collisions);
            }
            let revision = new_revision(set, name, data, next);
            steps.push(Step::quiet(Action::create(&revision)?));
            revision
        }
    };
    let named = set.status.as_ref().and_then(|status| status.current_revision.clone());
    let current = own.into_iter().find(|revision| Some(revision.name_any()) == named);
    let current = current.cloned().unwrap_or_else(|| update.clone());
    Ok(Revisions { current, update, collisions, steps })
}

/// The revisions beyond `revisionHistoryLimit` that no pod is of, oldest first.
pub fn superfluous(set: &StatefulSet, all: &[ControllerRevision], live: &[&str]) -> Vec<Step> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let mut history: Vec<&ControllerRevision> = all
        .iter()
        .filter(|revision| is_owned(set, revision) && !live.contains(&revision.name_any().as_str()))
        .collect();
    history.sort_by_key(|revision| revision.revision);
    let surplus = history.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    history[..surplus].iter().map(|revision| Step::quiet(Action::delete(Target::of(*revision)))).collect()
}

/// The pod template that a revision holds.
pub fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Error> {
    let template = data_in(revision).map_or(&Value::Null, |data| &data["spec"]["template"]);
    PodTemplateSpec::deserialize(template)
        .map_err(|source| Error::Unreadable { what: format!("ControllerRevision {}", revision.name_any()), source })
}

fn is_owned(set: &StatefulSet, revision: &ControllerRevision) -> bool {
    revision.owner_references().iter().any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
}

fn is_orphan(set: &StatefulSet, revision: &ControllerRevision) -> bool {
    let wanted = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    let labelled =
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| revision.labels().get(key) == Some(value)));
    let controlled = revision.owner_references().iter().any(|owner| owner.controller == Some(true));
    labelled && !controlled && revision.metadata.deletion_timestamp.is_none()
}

fn data_in(revision: &ControllerRevision) -> Option<&Value> {
    revision.data.as_ref().map(|data| &data.0)
}

/// A strategic merge patch that gives a set this template, as Kubernetes stores it.
fn data_of(set: &StatefulSet) -> Result<Value, Error> {
    let template = set.spec.as_ref().map(|spec| &spec.template);
    let mut template = to_value(&template)?;
    template["$patch"] = json!("replace");
    Ok(json!({"spec": {"template": template}}))
}

fn new_revision(set: &StatefulSet, name: String, data: Value, revision: i64) -> ControllerRevision {
    let template = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    let mut labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let hash = name.strip_prefix(set_name(set)).unwrap_or_default().trim_start_matches('-');
    labels.insert("controller.kubernetes.io/hash".to_owned(), hash.to_owned());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision,
    }
}

/// The set's name and a hash of the data (FNV-1, 32 bits) in letters that make no words.
fn revision_name(set: &StatefulSet, data: &Value, collisions: Option<i32>) -> String {
    let mut text = data.to_string();
    if let Some(collisions) = collisions {
        text.push_str(&collisions.to_string());
    }
    let fnv = |hash: u32, byte: u8| hash.wrapping_mul(16_777_619) ^ u32::from(byte);
    let hash = text.bytes().fold(2_166_136_261, fnv);
    let letter = |digit: u8| char::from(LETTERS[usize::from(digit) % LETTERS.len()]);
    format!("{}-{}", set_name(set), hash.to_string().bytes().map(letter).collect::<String>())
}
