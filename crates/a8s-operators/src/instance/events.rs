//! Events on the stack's objects: `core/v1`, as client-go's recorder writes them (tools/record/event.go). Clients count
//! them.

use a8s_api::Postgresql;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::Resource;
use std::sync::atomic::{AtomicI64, Ordering};

/// Component that reports events on instances. The API server notes under the same name who owns a field.
pub const COMPONENT: &str = "postgresql-controller";

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// As it should be.
    Normal,
    /// Trouble.
    Warning,
}

impl Type {
    const fn text(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// In one word; of an instance `Created`, `Updated` or `Deleted`.
    pub reason: &'static str,
    /// The message, which clients compare.
    pub message: String,
    /// When, in nanoseconds since 1970, if that is known from elsewhere: the event's name follows from it, so that
    /// reporting it twice makes one event. `None`: now.
    pub at: Option<i64>,
}

impl Happening {
    /// An object was made.
    pub fn created(what: &str) -> Self {
        Self {
            reason: "Created",
            message: format!(
                "{} {what}",
                if sabotage::sabotaged!("event-wording") { "Created" } else { "Successfully created" }
            ),
            at: None,
        }
    }

    /// The instance is gone.
    pub fn deleted() -> Self {
        Self { reason: "Deleted", message: "Successfully deleted Instance".to_owned(), at: None }
    }

    /// New parameters apply, at a time.
    pub fn configured(at: i64) -> Self {
        let message = "Successfully updated the PostgreSQL configuration".to_owned();
        Self { reason: "Updated", message, at: Some(at) }
    }

    /// The servers were restarted for new parameters, at a time.
    pub fn restarted(at: i64) -> Self {
        let message = "Successfully restarted PostgreSQL with the updated configuration".to_owned();
        Self { reason: "Updated", message, at: Some(at) }
    }
}

/// Gives moments that only grow, in nanoseconds: names of events sort by them.
#[derive(Debug, Default)]
pub struct Clock(AtomicI64);

impl Clock {
    /// Now, or a nanosecond after the last answer.
    pub fn now(&self) -> i64 {
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let last = self.0.fetch_max(now, Ordering::SeqCst);
        if last < now { now } else { self.0.fetch_add(1, Ordering::SeqCst) + 1 }
    }
}

/// The event of a happening to an instance at a moment.
pub fn event(instance: &Postgresql, happening: &Happening, now: i64) -> Event {
    about(instance, COMPONENT, Type::Normal, happening, now)
}

/// The event of a happening to an object, as a component reports it.
pub fn about<K: Resource<DynamicType = ()>>(
    object: &K,
    component: &str,
    type_: Type,
    happening: &Happening,
    now: i64,
) -> Event {
    let at = happening.at.unwrap_or(now);
    let metadata = object.meta();
    let name = metadata.name.clone().unwrap_or_default();
    let time = Timestamp::from_nanosecond(at.into()).ok().map(Time);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{at:x}")),
            namespace: metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(name),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            field_path: None,
        },
        reason: Some(happening.reason.to_owned()),
        message: Some(happening.message.clone()),
        type_: Some(type_.text().to_owned()),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events_sort_in_the_order_of_time() {
        let (clock, instance) = (Clock::default(), Postgresql::new("solo", Default::default()));
        let names: Vec<String> = (0..1000)
            .filter_map(|_| event(&instance, &Happening::created("statefulSet"), clock.now()).metadata.name)
            .collect();
        assert!(names.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_happening_with_a_time_always_has_the_same_name() {
        let instance = Postgresql::new("solo", Default::default());
        let name = |now| event(&instance, &Happening::configured(0x10), now).metadata.name;
        assert_eq!(name(1), name(2));
        assert_eq!(name(1).as_deref(), Some("solo.10"));
    }
}
