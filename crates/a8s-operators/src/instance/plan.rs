//! What to do about an instance: the objects it should have, compared with those it has.

use super::desired::{Desired, Kept};
use super::events::Happening;
use super::names::{APPLIED, CONFIGURATION};
use crate::agent::report::{self, Applied};
use a8s_api::{Postgresql, Quantity};
use kube::core::DynamicObject;
use serde_json::Value;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make an object; report it when it was made.
    Create(DynamicObject, Option<Happening>),
    /// Replace an object, which has the resource version it was read with.
    Replace(DynamicObject),
    /// Delete an object.
    Delete(DynamicObject),
    /// Report something.
    Report(Happening),
    /// An object of the same name is in the way: say this, and wait.
    Blocked(String),
}

impl Effect {
    /// Whether it changes the StatefulSet, so that the one that was read is not the one that there will be.
    pub fn is_of_stateful_set(&self) -> bool {
        match self {
            Self::Create(object, _) | Self::Replace(object) | Self::Delete(object) => kind(object) == "StatefulSet",
            Self::Report(_) | Self::Blocked(_) => false,
        }
    }
}

/// What of the objects that are there differs from those that should be. Some, such as the Service for reading, an
/// instance has only for a time.
pub fn plan(desired: Vec<Desired>, observed: &[DynamicObject]) -> Vec<Effect> {
    let is_obsolete = |existing: &&DynamicObject| {
        let is_wanted = desired.iter().any(|desired| is_same(&desired.object, existing));
        let is_ours = desired.first().is_some_and(|desired| is_ours(&desired.object, existing));
        !is_wanted && is_ours && existing.metadata.deletion_timestamp.is_none()
    };
    let obsolete: Vec<Effect> = observed.iter().filter(is_obsolete).cloned().map(Effect::Delete).collect();
    desired
        .into_iter()
        .filter_map(|desired| match find(&desired.object, observed) {
            None => Some(Effect::Create(desired.object, desired.created)),
            Some(existing) if !is_ours(&desired.object, existing) => Some(Effect::Blocked(blocked(existing))),
            Some(existing) => replacement(&desired, existing).map(Effect::Replace),
        })
        .chain(obsolete)
        .collect()
}

/// Whether an object is the one this instance owns, and not one of the same name of somebody else or of an earlier
/// instance.
fn is_ours(wanted: &DynamicObject, existing: &DynamicObject) -> bool {
    let owner = wanted.metadata.owner_references.iter().flatten().next();
    existing.metadata.owner_references.iter().flatten().any(|other| Some(&other.uid) == owner.map(|owner| &owner.uid))
}

fn blocked(existing: &DynamicObject) -> String {
    let name = existing.metadata.name.as_deref().unwrap_or_default();
    format!("there is a {} {name:?} that does not belong to this instance", kind(existing))
}

/// The kind of an object.
pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| &types.kind)
}

fn find<'a>(object: &DynamicObject, among: &'a [DynamicObject]) -> Option<&'a DynamicObject> {
    among.iter().find(|other| is_same(object, other))
}

fn is_same(one: &DynamicObject, other: &DynamicObject) -> bool {
    one.metadata.name == other.metadata.name && one.types == other.types
}

/// The existing object with what the operator keeps on it put right; `None` if all of it is right.
fn replacement(desired: &Desired, existing: &DynamicObject) -> Option<DynamicObject> {
    let wanted = &desired.object;
    let mut object = existing.clone();
    object.metadata.labels.clone_from(&wanted.metadata.labels);
    let annotations = object.metadata.annotations.get_or_insert_default();
    for (key, value) in wanted.metadata.annotations.iter().flatten() {
        // What was announced stays until something else has been announced.
        if key != CONFIGURATION || !annotations.contains_key(key) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    object.metadata.owner_references.clone_from(&wanted.metadata.owner_references);
    if existing.metadata.deletion_timestamp.is_none() {
        let finalizers = object.metadata.finalizers.get_or_insert_default();
        for finalizer in wanted.metadata.finalizers.iter().flatten() {
            if !finalizers.contains(finalizer) {
                finalizers.push(finalizer.clone());
            }
        }
        if finalizers.is_empty() {
            object.metadata.finalizers = None;
        }
    }
    let is_resealed = existing.metadata.annotations.as_ref().and_then(|a| a.get(APPLIED))
        != wanted.metadata.annotations.as_ref().and_then(|a| a.get(APPLIED));
    if let Kept::Fields(fields) = desired.kept {
        for field in fields {
            restore(&mut object.data, &wanted.data, field, is_resealed);
        }
    }
    (object != *existing).then_some(object)
}

/// Fields that an API server which does not have them drops, and which one that has them never leaves out: StatefulSets
/// have this one since Kubernetes 1.27. To write it again and again would be in vain.
const GATED: [&str; 1] = ["spec/persistentVolumeClaimRetentionPolicy"];

/// Makes one field what it should be. Where it already says so, apart from defaults that the API server filled in, it
/// stays, unless the operator's own mind has changed since it was written (`is_resealed`): then what it no longer says
/// has to go.
fn restore(object: &mut Value, wanted: &Value, field: &str, is_resealed: bool) {
    let pointer = format!("/{field}");
    let Some(wanted) = wanted.pointer(&pointer) else { return };
    let Some(existing) = object.pointer_mut(&pointer) else {
        if !is_resealed && GATED.contains(&field) {
            return;
        }
        if let Some((parent, key)) = pointer.rsplit_once('/')
            && let Some(Value::Object(parent)) = object.pointer_mut(parent)
        {
            parent.insert(key.to_owned(), wanted.clone());
        }
        return;
    };
    if is_resealed || !covers(existing, wanted) {
        overlay(existing, wanted, field == "spec");
    }
}

/// Replaces a value. A whole `spec` keeps what only the API server knows, such as a Service's address.
fn overlay(existing: &mut Value, wanted: &Value, is_spec: bool) {
    match (existing, wanted) {
        (Value::Object(existing), Value::Object(wanted)) if is_spec => {
            existing.extend(wanted.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        (existing, wanted) => *existing = wanted.clone(),
    }
}

/// Whether a value says everything that is wanted; it may say more.
fn covers(existing: &Value, wanted: &Value) -> bool {
    match (existing, wanted) {
        (Value::Object(existing), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| existing.get(key).map_or(is_empty(wanted), |existing| covers(existing, wanted))),
        (Value::Array(existing), Value::Array(wanted)) => {
            existing.len() == wanted.len() && existing.iter().zip(wanted).all(|(e, w)| covers(e, w))
        }
        (Value::String(existing), Value::String(wanted)) => {
            existing == wanted || Quantity::from(existing.as_str()).canonical() == *wanted
        }
        (existing, wanted) => existing == wanted,
    }
}

/// Whether an API server may leave a value out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// What to report of new parameters, once every member has applied them: the reports, and the StatefulSet with the
/// note that they were made. `pods` are the annotations in which the members say what they have applied.
pub fn announcement(instance: &Postgresql, stateful_set: &DynamicObject, pods: &[Option<Applied>]) -> Vec<Effect> {
    let wanted = report::fingerprint(&instance.spec.parameters.clone().unwrap_or_default());
    let announced = stateful_set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CONFIGURATION));
    if announced == Some(&wanted) {
        return vec![];
    }
    let applied: Option<Vec<&Applied>> =
        pods.iter().map(|pod| pod.as_ref().filter(|applied| applied.configuration == wanted)).collect();
    let Some(last) = applied.and_then(|applied| applied.into_iter().max_by_key(|applied| applied.at)) else {
        return vec![];
    };
    let mut effects = vec![Effect::Report(Happening::configured(last.at))];
    if pods.iter().flatten().any(|applied| applied.restarted) {
        effects.push(Effect::Report(Happening::restarted(last.at + 1)));
    }
    let mut noted = stateful_set.clone();
    noted.metadata.annotations.get_or_insert_default().insert(CONFIGURATION.to_owned(), wanted);
    effects.push(Effect::Replace(noted));
    effects
}

#[cfg(test)]
mod tests {
    use super::super::desired::tests::{instance, version};
    use super::super::desired::{Passwords, connection, desired};
    use super::*;
    use serde_json::json;

    fn wanted(spec: Value, labels: Value) -> Vec<Desired> {
        let passwords = Passwords { admin: "a".into(), standby: "b".into() };
        desired(&instance(spec, labels), &version(), &passwords)
    }

    /// What an API server would hold after everything was made.
    fn stored(desired: &[Desired]) -> Vec<DynamicObject> {
        desired
            .iter()
            .map(|desired| {
                let mut object = desired.object.clone();
                object.metadata.uid = Some("u".into());
                object.metadata.resource_version = Some("7".into());
                if let Some(spec) = object.data.get_mut("spec").and_then(Value::as_object_mut) {
                    spec.insert("clusterIP".into(), json!("10.0.0.1"));
                }
                if let Some(pod) = object.data.pointer_mut("/spec/template/spec") {
                    pod["dnsPolicy"] = json!("ClusterFirst");
                    pod["containers"][0]["terminationMessagePolicy"] = json!("File");
                }
                object
            })
            .collect()
    }

    fn small() -> Value {
        json!({"version": 15, "resources": {"limits": {"memory": "200Mi", "cpu": "2"}}})
    }

    #[test]
    fn a_new_instance_gets_everything_and_seven_reports() {
        let effects = plan(wanted(small(), json!({})), &[]);
        let reports: Vec<String> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Create(_, happening) => happening.as_ref().map(|h| h.message.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(
            reports,
            [
                "Successfully created serviceAccount",
                "Successfully created roleBinding",
                "Successfully created secret shop/postgres.credentials.solo",
                "Successfully created secret shop/standby.credentials.solo",
                "Successfully created service: shop/solo-master",
                "Successfully created service: shop/solo-patroni",
                "Successfully created statefulSet",
            ]
        );
    }

    #[test]
    fn nothing_is_written_where_all_is_right() {
        let desired = wanted(small(), json!({"team": "blue"}));
        assert_eq!(plan(desired.clone(), &stored(&desired)), vec![]);
    }

    #[test]
    fn a_label_that_was_removed_is_removed_everywhere_also_from_immutable_secrets() {
        let before = stored(&wanted(small(), json!({"team": "blue"})));
        let effects = plan(wanted(small(), json!({})), &before);
        assert_eq!(effects.len(), 9);
        for effect in effects {
            let Effect::Replace(object) = effect else { panic!("{effect:?}") };
            assert!(!object.metadata.labels.expect("labels").contains_key("team"));
        }
    }

    #[test]
    fn what_an_older_api_server_drops_is_not_written_again() {
        let mut before = stored(&wanted(small(), json!({})));
        for object in &mut before {
            if let Some(Value::Object(spec)) = object.data.pointer_mut("/spec") {
                spec.remove("persistentVolumeClaimRetentionPolicy");
            }
        }
        assert_eq!(plan(wanted(small(), json!({})), &before), vec![]);
    }

    #[test]
    fn what_an_api_server_leaves_out_because_it_is_empty_is_not_written_again() {
        let mut spec = small();
        let toleration = json!({"key": "dedicated", "operator": "Exists", "value": "", "effect": ""});
        spec["schedulingConstraints"] = json!({"tolerations": [toleration], "affinity": {"nodeAffinity": {}}});
        let desired = wanted(spec, json!({}));
        let mut before = stored(&desired);
        for object in &mut before {
            if let Some(pod) = object.data.pointer_mut("/spec/template/spec") {
                pod["tolerations"] = json!([{"key": "dedicated", "operator": "Exists"}]);
                pod["affinity"] = json!({});
            }
        }
        assert_eq!(plan(desired, &before), vec![]);
    }

    #[test]
    fn a_limit_that_was_removed_is_removed_from_the_template() {
        let before = stored(&wanted(small(), json!({})));
        let after = wanted(json!({"version": 15, "resources": {"limits": {"memory": "200Mi"}}}), json!({}));
        let effects = plan(after, &before);
        let [Effect::Replace(set)] = effects.as_slice() else { panic!("{effects:?}") };
        let limits = &set.data["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
        assert_eq!(limits, &json!({"memory": "200Mi"}));
        assert_eq!(set.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn the_service_for_reading_and_the_addresses_go_when_they_are_no_longer_wanted() {
        let mut spec = small();
        spec["enableReadOnlyService"] = json!(true);
        spec["expose"] = json!("LoadBalancer");
        let exposed = instance(spec.clone(), json!({}));
        let mut before = stored(&wanted(spec, json!({})));
        assert_eq!(connection(&exposed, &before), None, "the addresses are not known");
        for (service, address) in
            [("solo-master", json!({"ip": "10.0.0.1"})), ("solo-replicas", json!({"hostname": "x"}))]
        {
            let service = before.iter_mut().find(|o| o.metadata.name.as_deref() == Some(service)).expect("there");
            service.data["status"] = json!({"loadBalancer": {"ingress": [address]}});
        }
        let connection = connection(&exposed, &before).expect("known");
        assert_eq!(connection.object.data["data"], json!({"primary": "10.0.0.1", "port": "5432", "readOnly": "x"}));
        before.push(connection.object);
        let deleted: Vec<String> = plan(wanted(small(), json!({})), &before)
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Delete(object) => object.metadata.name,
                _ => None,
            })
            .collect();
        assert_eq!(deleted, ["solo-replicas", "solo-connection"]);
    }

    #[test]
    fn what_somebody_else_changed_is_put_right_and_the_address_stays() {
        let desired = wanted(small(), json!({}));
        let mut before = stored(&desired);
        let service = before.iter_mut().find(|o| o.metadata.name.as_deref() == Some("solo-master")).expect("there");
        service.data["spec"]["selector"] = json!({"app": "other"});
        let effects = plan(desired, &before);
        let [Effect::Replace(service)] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(service.data["spec"]["selector"]["a8s.a9s/replication-role"], "master");
        assert_eq!(service.data["spec"]["clusterIP"], "10.0.0.1");
    }

    #[test]
    fn an_object_of_somebody_else_is_not_taken() {
        let desired = wanted(small(), json!({}));
        let mut before = stored(&desired);
        let service = before.iter_mut().find(|o| o.metadata.name.as_deref() == Some("solo-master")).expect("there");
        service.metadata.owner_references = None;
        let effects = plan(desired, &before);
        let text = r#"there is a Service "solo-master" that does not belong to this instance"#;
        assert_eq!(effects, vec![Effect::Blocked(text.to_owned())]);
    }

    #[test]
    fn volumes_of_an_existing_instance_are_left_alone() {
        let before = stored(&wanted(small(), json!({})));
        let mut grown = small();
        grown["volumeSize"] = json!("2Gi");
        for effect in plan(wanted(grown, json!({})), &before) {
            let Effect::Replace(set) = effect else { panic!("{effect:?}") };
            let claim = &set.data["spec"]["volumeClaimTemplates"][0];
            assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
        }
    }

    #[test]
    fn new_parameters_are_announced_once_when_every_member_has_them() {
        let set = stored(&wanted(small(), json!({}))).pop().expect("the StatefulSet");
        let mut spec = small();
        spec["parameters"] = json!({"maxConnections": 101});
        let changed = instance(spec, json!({}));
        let fingerprint = report::fingerprint(&changed.spec.parameters.clone().unwrap_or_default());
        let new = Applied { configuration: fingerprint, restarted: true, at: 5, enough: None };
        let old = Applied { configuration: "old".into(), restarted: false, at: 3, enough: None };

        assert_eq!(announcement(&changed, &set, &[Some(new.clone()), Some(old)]), vec![]);
        assert_eq!(announcement(&changed, &set, &[Some(new.clone()), None]), vec![]);
        let effects = announcement(&changed, &set, &[Some(new.clone())]);
        let [Effect::Report(first), Effect::Report(second), Effect::Replace(noted)] = effects.as_slice() else {
            panic!("{effects:?}")
        };
        assert_eq!(first.message, "Successfully updated the PostgreSQL configuration");
        assert!(first.at < second.at);
        assert_eq!(announcement(&changed, noted, &[Some(new)]), vec![]);
    }
}
