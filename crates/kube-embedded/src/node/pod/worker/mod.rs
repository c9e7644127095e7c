//! The task of one pod: it looks at what is and what should be, does the next thing, writes the status, and waits.

mod ending;
mod events;
#[cfg(test)]
mod rig;
mod step;
mod supply;
mod telling;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Api;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::node::backoff::Backoff;
use crate::node::container::Report;
use crate::node::context::Context;
use crate::node::downward::Place;
use crate::node::paths::PodPaths;
use crate::node::pod::{Handle, Message, View, recover};
use crate::node::status::{Frame, Record};
use crate::node::volumes::{Material, Tokens, Volumes};

/// Starts the task of a pod, which ends when everything of the pod has ended. `written` is told when its first status has
/// been written.
pub fn spawn(
    context: Arc<Context>,
    pod: Arc<Pod>,
    written: oneshot::Sender<()>,
) -> (Handle, tokio::task::JoinHandle<()>) {
    let (messages, inbox) = mpsc::unbounded_channel();
    let view = Arc::new(Mutex::new(View::default()));
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let worker = Worker::new(context, pod, view.clone());
    let task = tokio::spawn(worker.run(inbox, written));
    (Handle { uid, messages, view }, task)
}

/// A container's present.
struct Slot {
    spec: Container,
    stop: Option<watch::Sender<Option<Instant>>>,
    /// Its launcher may still have to open what it mounts.
    is_opening: bool,
    backoff: Backoff,
    ended: Option<Instant>,
    pull: Backoff,
    pull_tried: Option<Instant>,
    has_said_backoff: bool,
}

struct Worker {
    context: Arc<Context>,
    /// The object, as last seen.
    pod: Arc<Pod>,
    paths: PodPaths,
    view: Arc<Mutex<View>>,
    records: Vec<Record>,
    slots: Vec<Slot>,
    frame: Frame,
    place: Place,
    material: Option<Material>,
    tokens: Tokens,
    /// When tokens have to be renewed.
    renew: Option<Timestamp>,
    volumes: Option<Volumes>,
    /// The volumes have what there is to have.
    is_current: bool,
    /// The hosts file says what there is to say.
    has_hosts: bool,
    retry: Duration,
    complained: Option<(String, Instant)>,
    reports: mpsc::UnboundedSender<(usize, Report)>,
    inbox_of_reports: Option<mpsc::UnboundedReceiver<(usize, Report)>>,
    wake: Option<Instant>,
    end: End,
    /// The node stops, and waits for this task.
    node_stops: bool,
}

/// Whether the pod shall go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It shall.
    No,
    /// It was deleted, or is being.
    Deleted,
    /// Its object is gone.
    Gone,
    /// The node stops.
    Stop,
}

impl Worker {
    fn new(context: Arc<Context>, pod: Arc<Pod>, view: Arc<Mutex<View>>) -> Self {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let paths = PodPaths::new(&context.options.directory, &context.options.run_directory, &uid);
        let records = recover::records(&pod);
        let spec = pod.spec.clone().unwrap_or_default();
        let slots = spec.init_containers.into_iter().flatten().chain(spec.containers).map(Slot::new).collect();
        let (reports, inbox) = mpsc::unbounded_channel();
        let host_ip = context.options.address.to_string();
        Self {
            frame: Frame { host_ip: host_ip.clone(), start_time: Some(Timestamp::now()), ..Frame::default() },
            place: Place { pod_ip: String::new(), host_ip },
            context,
            pod,
            paths,
            view,
            records,
            slots,
            material: None,
            tokens: Tokens::default(),
            renew: None,
            volumes: None,
            is_current: false,
            has_hosts: false,
            retry: Duration::from_millis(50),
            complained: None,
            reports,
            inbox_of_reports: Some(inbox),
            wake: None,
            end: End::No,
            node_stops: false,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>, written: oneshot::Sender<()>) {
        let Some(mut reports) = self.inbox_of_reports.take() else { return };
        let mut names = self.context.names.clone();
        let mut is_clean = self.context.is_clean.clone();
        self.restore_logs();
        self.keep_address();
        self.note_deletion();
        let mut written = Some(written);
        let mut is_told = true;
        loop {
            self.wake = None;
            self.write_hosts();
            let has_clean_node = *is_clean.borrow_and_update();
            if has_clean_node {
                self.step().await;
            }
            self.show();
            // A pod is not gone while what an earlier run of the node left of it still runs.
            if self.is_finished() && (has_clean_node || self.end == End::Stop) {
                break;
            }
            if self.end != End::Gone {
                self.write_status().await;
            }
            if let Some(written) = written.take() {
                let _ = written.send(());
            }
            let wake = self.wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                Some((index, report)) = reports.recv() => {
                    self.take_report(index, report);
                    while let Ok((index, report)) = reports.try_recv() {
                        self.take_report(index, report);
                    }
                }
                message = inbox.recv(), if is_told => {
                    // Nobody tells anything to a pod that is gone, and an end is heard again and again.
                    is_told = message.is_some();
                    self.take_message(message.unwrap_or(Message::Stop));
                }
                Ok(()) = names.changed() => self.has_hosts = false,
                Ok(()) = is_clean.changed() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        // A node that starts waits for this, and only when it has started it sees that the object has gone.
        drop(written);
        self.finish(&mut inbox).await;
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), self.namespace())
    }

    fn at_latest(&mut self, moment: Instant) {
        self.wake = Some(self.wake.map_or(moment, |wake| wake.min(moment)));
    }
}

impl Slot {
    fn new(spec: Container) -> Self {
        Self {
            spec,
            stop: None,
            is_opening: false,
            backoff: Backoff::default(),
            ended: None,
            pull: Backoff::default(),
            pull_tried: None,
            has_said_backoff: false,
        }
    }
}
