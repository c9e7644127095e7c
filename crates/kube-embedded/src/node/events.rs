//! Events of the node (`source.component` is `kubelet`). They are written in the background, one after the other:
//! nothing waits for them, and one that can't be written is only logged. Repetitions are counted in one event.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

/// How many events are remembered for counting repetitions.
const REMEMBERED: usize = 512;
/// How many may wait to be written; more are dropped.
const QUEUE: usize = 1024;

/// Whether all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It is.
    Normal,
    /// It may not be.
    Warning,
}

struct Notice {
    about: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Where events are handed in.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Item>);

enum Item {
    Notice(Box<Notice>),
    /// Answered when everything before it has been written.
    Flush(oneshot::Sender<()>),
}

impl Recorder {
    /// Starts writing. Ends when all recorders are gone and everything is written.
    pub fn start(client: kube::Client, node: String) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(write(client, node, receiver));
        Self(sender)
    }

    /// Hands in an event.
    pub fn record(&self, about: ObjectReference, severity: Severity, reason: &'static str, message: String) {
        let notice = Notice { about, severity, reason, message, at: Timestamp::now() };
        if self.0.try_send(Item::Notice(Box::new(notice))).is_err() {
            tracing::debug!(reason, "an event was dropped");
        }
    }

    /// Waits until all events handed in so far have been written.
    pub async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.0.send(Item::Flush(sender)).await.is_ok() {
            let _ = receiver.await;
        }
    }
}

async fn write(client: kube::Client, node: String, mut items: mpsc::Receiver<Item>) {
    let mut known: HashMap<String, (String, i32)> = HashMap::new();
    let mut order = VecDeque::new();
    while let Some(item) = items.recv().await {
        let notice = match item {
            Item::Notice(notice) => notice,
            Item::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let key = format!(
            "{:?}/{:?}/{:?}/{}/{}",
            notice.about.uid, notice.about.name, notice.about.field_path, notice.reason, notice.message
        );
        let namespace = notice.about.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        if let Some((name, count)) = known.get_mut(&key) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": Time(notice.at)});
            if events.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.is_ok() {
                continue;
            }
        }
        let name =
            format!("{}.{:x}", notice.about.name.as_deref().unwrap_or("unknown"), rand::random::<u64>() | (1 << 60));
        match events.create(&PostParams::default(), &event(&notice, &name, namespace, &node)).await {
            Ok(_) => {
                known.insert(key.clone(), (name, 1));
                order.push_back(key);
            }
            Err(error) => tracing::debug!(reason = notice.reason, %error, "an event was not written"),
        }
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }
}

fn event(notice: &Notice, name: &str, namespace: &str, node: &str) -> Event {
    let at = Time(Timestamp::from_second(notice.at.as_second()).unwrap_or(notice.at));
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: notice.about.clone(),
        reason: Some(notice.reason.to_owned()),
        message: Some(notice.message.clone()),
        type_: Some(match notice.severity {
            Severity::Normal => "Normal".to_owned(),
            Severity::Warning => "Warning".to_owned(),
        }),
        source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(node.to_owned()) }),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        count: Some(1),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}
