//! Events that the node and the controllers write: named so that they sort in time order, and counted up when they
//! repeat, as client-go's `tools/record` does.
//!
//! Events are handed to a task that writes them one after the other. Nothing waits for it, and one that can't be
//! written is only logged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

/// How many different events are remembered to be counted up.
const REMEMBERED: usize = 1024;
/// How many may wait to be written; more are lost.
const QUEUE: usize = 1024;

/// Whether all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is.
    Normal,
    /// It may not be.
    Warning,
}

/// What happened to what.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// The object.
    pub about: ObjectReference,
    /// Who says it, such as `statefulset-controller`.
    pub component: &'static str,
    /// The event's type.
    pub severity: Severity,
    /// One word for machines.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

impl Note {
    /// An event of type `Normal`.
    pub fn normal(about: ObjectReference, component: &'static str, reason: &str, message: String) -> Self {
        Self { about, component, severity: Severity::Normal, reason: reason.to_owned(), message }
    }

    /// An event of type `Warning`.
    pub fn warning(about: ObjectReference, component: &'static str, reason: &str, message: String) -> Self {
        Self { severity: Severity::Warning, ..Self::normal(about, component, reason, message) }
    }
}

/// Where notes are handed in.
#[derive(Clone)]
pub struct Events(mpsc::Sender<Item>);

enum Item {
    Note(Box<Note>, Timestamp),
    /// Answered when everything before it has been written.
    Flush(oneshot::Sender<()>),
}

impl Events {
    /// Starts the writer, which ends when nobody can tell anything any more and all is written. `host` is the node that
    /// the events are of, if they are of one.
    pub fn start(client: kube::Client, host: Option<String>) -> Self {
        let (sender, items) = mpsc::channel(QUEUE);
        tokio::spawn(Writer { client, host, seen: BTreeMap::new() }.run(items));
        Self(sender)
    }

    /// Hands in a note. Never waits; a note that can't be written is lost, as events may be.
    pub fn tell(&self, note: Note) {
        if let Err(error) = self.0.try_send(Item::Note(Box::new(note), Timestamp::now())) {
            tracing::debug!(%error, "an event is lost");
        }
    }

    /// Waits until all notes handed in so far have been written.
    pub async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.0.send(Item::Flush(sender)).await.is_ok() {
            // Without an answer the writer is gone, and with it what it had.
            let _ = receiver.await;
        }
    }
}

/// What makes two notes the same: uid, name and part of the object, who says it, and what.
type Identity = ([Option<String>; 3], &'static str, Severity, String, String);

struct Writer {
    client: kube::Client,
    host: Option<String>,
    seen: BTreeMap<Identity, (String, i32)>,
}

impl Writer {
    async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        while let Some(item) = items.recv().await {
            match item {
                Item::Note(note, at) => self.write(*note, at).await,
                Item::Flush(done) => {
                    // Whoever no longer waits does not need the answer.
                    let _ = done.send(());
                }
            }
        }
    }

    async fn write(&mut self, note: Note, at: Timestamp) {
        let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let object = [note.about.uid.clone(), note.about.name.clone(), note.about.field_path.clone()];
        let identity = (object, note.component, note.severity, note.reason.clone(), note.message.clone());
        if let Some((name, count)) = self.seen.get_mut(&identity) {
            *count += 1;
            let patch = json!({"count": count, "lastTimestamp": time(at)});
            match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return,
                // It expired: begin again.
                Err(kube::Error::Api(status)) if status.code == 404 => drop(self.seen.remove(&identity)),
                Err(error) => return tracing::debug!(%error, "event was not counted"),
            }
        }
        let event = event(&note, self.host.as_deref(), &namespace, at);
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

fn event(note: &Note, host: Option<&str>, namespace: &str, at: Timestamp) -> Event {
    let about = note.about.name.as_deref().unwrap_or_default();
    let kind = match note.severity {
        Severity::Normal => "Normal",
        Severity::Warning => "Warning",
    };
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", unique_nanoseconds(at))),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: note.about.clone(),
        reason: Some(note.reason.clone()),
        message: Some(note.message.clone()),
        source: Some(EventSource { component: Some(note.component.to_owned()), host: host.map(str::to_owned) }),
        first_timestamp: Some(time(at)),
        last_timestamp: Some(time(at)),
        count: Some(1),
        type_: Some(kind.to_owned()),
        reporting_component: Some(note.component.to_owned()),
        reporting_instance: Some(host.unwrap_or_default().to_owned()),
        ..Event::default()
    }
}

/// Kubernetes' times have whole seconds.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
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
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use kube::client::Body;

    use super::*;

    fn note() -> Note {
        let about = ObjectReference { name: Some("x".to_owned()), ..ObjectReference::default() };
        Note::normal(about, "tester", "Happened", "It happened".to_owned())
    }

    #[test]
    fn names_of_events_sort_in_time_order() {
        let name = |_| event(&note(), None, "ns", Timestamp::now()).metadata.name.unwrap();
        let names: Vec<String> = (0..100).map(name).collect();
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(names[0].starts_with("x."));
    }

    #[test]
    fn an_event_says_who_and_where() {
        let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let event = event(&Note { severity: Severity::Warning, ..note() }, Some("n"), "ns", at);
        let source = event.source.unwrap();
        assert_eq!((source.component.as_deref(), source.host.as_deref()), (Some("tester"), Some("n")));
        assert_eq!((event.type_.as_deref(), event.reporting_instance.as_deref()), (Some("Warning"), Some("n")));
        assert_eq!(event.last_timestamp.unwrap().0, "2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap());
    }

    #[tokio::test]
    async fn what_repeats_is_counted_and_what_has_expired_begins_again() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let mut seen = seen.lock().unwrap();
            seen.push(request.method().to_string());
            let (code, answer) = match seen.len() {
                3 => (404_u16, json!({"status": "Failure", "reason": "NotFound", "message": "gone", "code": 404})),
                _ => (200, json!({"metadata": {"name": "x.1"}})),
            };
            let answer = http::Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
        });
        let events = Events::start(kube::Client::new(service, "default"), None);
        for _ in 0..3 {
            events.tell(note());
        }
        events.flush().await;
        assert_eq!(*asked.lock().unwrap(), ["POST", "PATCH", "PATCH", "POST"]);
    }
}
