//! Events that controllers write: named so that they sort in time order, and counted up when they repeat, as client-go's
//! `tools/record` does.
//!
//! Events are told to a task that writes them one after the other; nothing waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many different events are remembered to be counted up.
const REMEMBERED: usize = 1024;

/// What happened to what.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// The object.
    pub about: ObjectReference,
    /// Who says it, such as `statefulset-controller`.
    pub component: &'static str,
    /// A `Warning`; otherwise `Normal`.
    pub warning: bool,
    /// One word for machines.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

impl Note {
    /// An event of type `Normal`.
    pub fn normal(about: ObjectReference, component: &'static str, reason: &str, message: String) -> Self {
        Self { about, component, warning: false, reason: reason.to_owned(), message }
    }

    /// An event of type `Warning`.
    pub fn warning(about: ObjectReference, component: &'static str, reason: &str, message: String) -> Self {
        Self { warning: true, ..Self::normal(about, component, reason, message) }
    }
}

/// Where notes are handed in.
#[derive(Clone)]
pub struct Events(mpsc::UnboundedSender<Note>);

impl Events {
    /// Hands in a note. Never waits; a note that can't be written is lost, as events may be.
    pub fn tell(&self, note: Note) {
        let _ = self.0.send(note);
    }

    /// Starts the writer.
    pub fn start(client: kube::Client, shutdown: CancellationToken) -> Self {
        let (sender, mut notes) = mpsc::unbounded_channel::<Note>();
        tokio::spawn(async move {
            let mut writer = Writer { client, seen: BTreeMap::new() };
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    note = notes.recv() => match note {
                        Some(note) => writer.write(note).await,
                        None => break,
                    },
                }
            }
        });
        Self(sender)
    }
}

type Identity = (Option<String>, &'static str, bool, String, String);

struct Writer {
    client: kube::Client,
    seen: BTreeMap<Identity, (String, i32)>,
}

impl Writer {
    async fn write(&mut self, note: Note) {
        let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let identity =
            (note.about.uid.clone(), note.component, note.warning, note.reason.clone(), note.message.clone());
        if let Some((name, count)) = self.seen.get_mut(&identity) {
            *count += 1;
            let patch = json!({"count": count, "lastTimestamp": Time(now())});
            match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return,
                // It expired: begin again.
                Err(kube::Error::Api(status)) if status.code == 404 => drop(self.seen.remove(&identity)),
                Err(error) => return tracing::debug!(%error, "event was not counted"),
            }
        }
        let event = event(&note, &namespace);
        match api.create(&PostParams::default(), &event).await {
            Ok(event) => {
                if self.seen.len() >= REMEMBERED {
                    self.seen.clear();
                }
                self.seen.insert(identity, (event.metadata.name.unwrap_or_default(), 1));
            }
            // A namespace that is being deleted takes no events.
            Err(error) => tracing::debug!(%error, reason = note.reason, "event was not written"),
        }
    }
}

fn event(note: &Note, namespace: &str) -> Event {
    let time = now();
    let about = note.about.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", unique_nanoseconds(time))),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: note.about.clone(),
        reason: Some(note.reason.clone()),
        message: Some(note.message.clone()),
        source: Some(EventSource { component: Some(note.component.to_owned()), host: None }),
        first_timestamp: Some(Time(time)),
        last_timestamp: Some(Time(time)),
        count: Some(1),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        reporting_component: Some(note.component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

/// Two events never share a name, and later ones sort after earlier ones, also when the clock stands.
fn unique_nanoseconds(time: Timestamp) -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let time = i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX - 1);
    let next = |last: i64| Some(time.max(last + 1));
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(time, |last| time.max(last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events_sort_in_time_order() {
        let about = ObjectReference { name: Some("x".to_owned()), ..ObjectReference::default() };
        let note = Note::normal(about, "tester", "Happened", "It happened".to_owned());
        let names: Vec<String> = (0..100).map(|_| event(&note, "ns").metadata.name.unwrap()).collect();
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(names[0].starts_with("x."));
    }
}
