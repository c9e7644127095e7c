//! Events on Backups and Restores, as client-go's recorder writes them.

use super::order::Order;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt as _;

/// Component that reports them.
const COMPONENT: &str = "backup-manager";

/// What happened to an object, at a moment. Its name sorts in time.
pub fn event<K: Order>(object: &K, is_normal: bool, reason: &str, message: &str, now: Timestamp) -> Event {
    let (name, namespace) = (object.name_any(), object.namespace());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:016x}", now.as_nanosecond())),
            namespace: namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(name),
            namespace,
            uid: object.uid(),
            ..ObjectReference::default()
        },
        type_: Some(if is_normal { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        ..Event::default()
    }
}
