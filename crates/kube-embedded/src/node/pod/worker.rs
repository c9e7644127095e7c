//! The task of one pod: it looks at what is and what should be, does the next thing, writes the status, and waits.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::decide::{Next, next};
use super::start::{Origin, Problem, plans};
use super::{ContainerView, Handle, Message, View, recover};
use crate::image::Image;
use crate::node::account;
use crate::node::backoff::Backoff;
use crate::node::container::{ProbeKind, Report, supervise};
use crate::node::context::Context;
use crate::node::downward::Place;
use crate::node::events::Severity;
use crate::node::hosts;
use crate::node::logs::Log;
use crate::node::paths::PodPaths;
use crate::node::status::{Frame, Record, State, compute, restart_policy};
use crate::node::volumes::{Material, Shop, Tokens, Volumes};

/// Kubernetes' default grace period.
const GRACE: Duration = Duration::from_secs(30);
/// Longest distance of attempts to make a pod's volumes.
const SLOWEST_RETRY: Duration = Duration::from_secs(2);
/// How often the same `FailedMount` is told.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

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
    /// The object with its access to the API.
    effective: Pod,
    paths: PodPaths,
    view: Arc<Mutex<View>>,
    records: Vec<Record>,
    slots: Vec<Slot>,
    frame: Frame,
    place: Place,
    material: Option<Material>,
    tokens: Tokens,
    renew: Option<Instant>,
    volumes: Option<Volumes>,
    retry: Duration,
    complained: Option<(String, Instant)>,
    reports: mpsc::UnboundedSender<(usize, Report)>,
    inbox_of_reports: Option<mpsc::UnboundedReceiver<(usize, Report)>>,
    wake: Option<Instant>,
    end: End,
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
        let effective = account::with_access(&pod);
        let spec = effective.spec.clone().unwrap_or_default();
        let slots = spec.init_containers.into_iter().flatten().chain(spec.containers).map(Slot::new).collect();
        let (reports, inbox) = mpsc::unbounded_channel();
        let host_ip = context.options.address.to_string();
        Self {
            frame: Frame { host_ip: host_ip.clone(), start_time: Some(Timestamp::now()), ..Frame::default() },
            place: Place { pod_ip: String::new(), host_ip },
            context,
            pod,
            effective,
            paths,
            view,
            records,
            slots,
            material: None,
            tokens: Tokens::default(),
            renew: None,
            volumes: None,
            retry: Duration::from_millis(50),
            complained: None,
            reports,
            inbox_of_reports: Some(inbox),
            wake: None,
            end: End::No,
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
        loop {
            self.wake = None;
            if *is_clean.borrow_and_update() {
                self.step().await;
            }
            self.show();
            if self.is_finished() {
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
                message = inbox.recv() => self.take_message(message.unwrap_or(Message::Stop)),
                Ok(()) = names.changed() => self.write_hosts(),
                Ok(()) = is_clean.changed() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
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

    // What has happened.

    fn take_message(&mut self, message: Message) {
        match message {
            Message::Changed(pod) => {
                if is_newer(&pod, &self.pod) {
                    self.effective.metadata = pod.metadata.clone();
                    let told_more = pod.metadata.labels != self.pod.metadata.labels
                        || pod.metadata.annotations != self.pod.metadata.annotations;
                    self.pod = pod;
                    if told_more {
                        self.refresh_volumes();
                    }
                    self.note_deletion();
                }
            }
            Message::Gone => self.end = End::Gone,
            Message::Stop => self.end = if self.end == End::No { End::Stop } else { self.end },
            Message::MaterialChanged { is_secret, name } => {
                let (config_maps, secrets) = Material::names(&self.effective);
                if if is_secret { secrets.contains(&name) } else { config_maps.contains(&name) } {
                    self.material = None;
                }
            }
        }
    }

    fn note_deletion(&mut self) {
        if self.pod.metadata.deletion_timestamp.is_some() && self.end == End::No {
            self.end = End::Deleted;
        }
    }

    fn take_report(&mut self, index: usize, report: Report) {
        let name = self.records[index].name.clone();
        match report {
            Report::Created(running) => {
                let id = self.records[index].id.clone();
                tracing::debug!(pod = self.name(), container = name, id, pid = running.pid, "created");
                self.edit_view(&name, |view| view.running = Some(running));
                self.event(Some(index), Severity::Normal, "Created", format!("Created container: {name}"));
            }
            Report::Started(since) => {
                let spec = &self.slots[index].spec;
                let record = &mut self.records[index];
                record.state = State::Running { since };
                record.started = spec.startup_probe.is_none();
                record.ready = spec.readiness_probe.is_none();
                self.event(Some(index), Severity::Normal, "Started", format!("Started container {name}"));
            }
            Report::HookFailed(reason, message) => {
                self.event(Some(index), Severity::Warning, reason, message);
                self.stop_one(index, self.grace());
            }
            Report::ProbeFailed(kind, message) => {
                let message = format!("{} probe failed: {message}", kind.name());
                self.event(Some(index), Severity::Warning, "Unhealthy", message);
            }
            Report::Probed(kind, state) => self.take_probe(index, kind, state),
            Report::Ended(terminated) => {
                let slot = &mut self.slots[index];
                slot.stop = None;
                slot.ended = Some(Instant::now());
                if terminated.reason == "StartError" {
                    let message = format!("Error: {}", terminated.message.as_deref().unwrap_or_default());
                    self.event(Some(index), Severity::Warning, "Failed", message);
                }
                let record = &mut self.records[index];
                record.state = State::Terminated(terminated);
                record.started = false;
                record.ready = false;
                self.edit_view(&name, |view| view.running = None);
            }
        }
    }

    fn take_probe(&mut self, index: usize, kind: ProbeKind, state: bool) {
        match (kind, state) {
            (ProbeKind::Startup, true) => self.records[index].started = true,
            (ProbeKind::Readiness, state) => self.records[index].ready = state,
            (ProbeKind::Liveness, true) => {}
            (ProbeKind::Startup | ProbeKind::Liveness, false) => {
                let spec = &self.slots[index].spec;
                let probe = if kind == ProbeKind::Startup { &spec.startup_probe } else { &spec.liveness_probe };
                let grace = probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
                let grace = grace
                    .and_then(|seconds| u64::try_from(seconds).ok())
                    .map_or_else(|| self.grace(), Duration::from_secs);
                let message =
                    format!("Container {} failed {} probe, will be restarted", spec.name, kind.name().to_lowercase());
                self.event(Some(index), Severity::Normal, "Killing", message);
                self.stop_one(index, grace);
            }
        }
    }

    // What is done about it.

    async fn step(&mut self) {
        if self.end != End::No {
            self.stop_all();
            return;
        }
        let policy = restart_policy(&self.pod).to_owned();
        if self
            .slots
            .iter()
            .zip(&self.records)
            .any(|(slot, record)| record.is_init && slot.spec.restart_policy.is_some())
        {
            self.complain(
                "Failed",
                "init containers with a restartPolicy (sidecars) are not supported by this node".into(),
            );
            return;
        }
        if self.is_over(&policy) || !self.has_address() || !self.has_volumes().await {
            return;
        }
        for index in 0..self.records.len() {
            if self.records[index].is_init && self.records[index].has_succeeded() {
                continue;
            }
            self.advance(index, &policy).await;
            if self.records[index].is_init {
                return;
            }
        }
    }

    /// Nothing will start again. A pod that was over before the node started stays so.
    fn is_over(&self, policy: &str) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        policy != "Always" && matches!(phase, Some("Succeeded" | "Failed"))
    }

    async fn advance(&mut self, index: usize, policy: &str) {
        let slot = &self.slots[index];
        if slot.stop.is_some() {
            return;
        }
        let now = Instant::now();
        match next(&self.records[index], policy, &slot.backoff, slot.ended, now) {
            Next::Nothing | Next::Fail => {}
            Next::Wait(wait) => {
                self.at_latest(now + wait);
                self.crash_loop(index);
            }
            Next::Start => {
                if let Some(image) = self.image(index)
                    && let Err(Problem(reason, message)) = self.start(index, &image).await
                {
                    self.wait(index, reason, Some(message.clone()));
                    self.event(Some(index), Severity::Warning, "Failed", format!("Error: {message}"));
                    self.at_latest(now + SLOWEST_RETRY);
                    self.material = None;
                }
            }
        }
    }

    fn crash_loop(&mut self, index: usize) {
        let name = self.records[index].name.clone();
        let pod = format!("{}_{}({})", self.name(), self.namespace(), self.uid());
        let delay = go_duration(self.slots[index].backoff.delay());
        self.wait(
            index,
            "CrashLoopBackOff",
            Some(format!("back-off {delay} restarting failed container={name} pod={pod}")),
        );
        if !std::mem::replace(&mut self.slots[index].has_said_backoff, true) {
            let message = format!("Back-off restarting failed container {name} in pod {pod}");
            self.event(Some(index), Severity::Warning, "BackOff", message);
        }
    }

    /// Puts a container between two runs.
    fn wait(&mut self, index: usize, reason: &str, message: Option<String>) {
        let record = &mut self.records[index];
        let state = State::Waiting { reason: reason.to_owned(), message };
        if let State::Terminated(last) = std::mem::replace(&mut record.state, state) {
            record.last = Some(last);
        }
    }

    /// The container's image; `None` if there is none, which is told.
    fn image(&mut self, index: usize) -> Option<Image> {
        let reference = self.slots[index].spec.image.clone().unwrap_or_default();
        let now = Instant::now();
        let slot = &self.slots[index];
        if let Some(wait) = slot.pull_tried.and_then(|tried| slot.pull.remaining(tried, now)) {
            self.at_latest(now + wait);
            return None;
        }
        match self.context.options.images.resolve(&reference) {
            Ok(image) => {
                self.event(
                    Some(index),
                    Severity::Normal,
                    "Pulled",
                    format!("Container image \"{reference}\" already present on machine"),
                );
                Some(image)
            }
            Err(message) => {
                self.no_image(index, &reference, &message, now);
                None
            }
        }
    }

    fn no_image(&mut self, index: usize, reference: &str, why: &str, now: Instant) {
        if self.slots[index].spec.image_pull_policy.as_deref() == Some("Never") {
            let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
            self.wait(index, "ErrImageNeverPull", Some(message.clone()));
            self.event(Some(index), Severity::Warning, "ErrImageNeverPull", message);
            self.event(Some(index), Severity::Warning, "Failed", "Error: ErrImageNeverPull".into());
            self.at_latest(now + Duration::from_secs(10));
            return;
        }
        let warn = Severity::Warning;
        if self.slots[index].pull_tried.is_none() {
            self.wait(index, "ErrImagePull", Some(why.to_owned()));
            // The second look turns into the back-off, as the kubelet's next sync does.
            self.at_latest(now + Duration::from_secs(1));
            self.slots[index].pull_tried = Some(now);
            self.event(Some(index), Severity::Normal, "Pulling", format!("Pulling image \"{reference}\""));
            self.event(Some(index), warn, "Failed", format!("Failed to pull image \"{reference}\": {why}"));
            self.event(Some(index), warn, "Failed", "Error: ErrImagePull".into());
            return;
        }
        self.slots[index].pull_tried = Some(now);
        self.slots[index].pull.attempt(now);
        let delay = self.slots[index].pull.delay();
        self.at_latest(now + delay);
        self.wait(
            index,
            "ImagePullBackOff",
            Some(format!("Back-off pulling image \"{reference}\": ErrImagePull: {why}")),
        );
        self.event(Some(index), Severity::Normal, "BackOff", format!("Back-off pulling image \"{reference}\""));
        self.event(Some(index), warn, "Failed", "Error: ImagePullBackOff".into());
    }

    async fn start(&mut self, index: usize, image: &Image) -> Result<(), Problem> {
        self.has_material().await.map_err(|message| Problem("CreateContainerConfigError", message))?;
        let record = &self.records[index];
        let has_run = record.result().is_some() || !record.id.is_empty();
        let restarts = record.restarts + i32::from(has_run);
        let (Some(volumes), Some(shop)) = (&self.volumes, self.shop()) else { return Ok(()) };
        let origin = Origin {
            context: &self.context,
            pod: &self.effective,
            place: &self.place,
            paths: &self.paths,
            shop,
            volumes,
        };
        let plans = plans(&origin, &self.slots[index].spec, image, restarts)?;
        self.discard_log(index, restarts - 2);
        let now = Instant::now();
        if has_run {
            self.slots[index].backoff.attempt(now);
        }
        self.slots[index].has_said_backoff = false;
        if !matches!(self.records[index].state, State::Waiting { .. }) {
            let reason = if self.records[index].is_init { "PodInitializing" } else { "ContainerCreating" };
            self.wait(index, reason, None);
        }
        let record = &mut self.records[index];
        record.restarts = restarts;
        record.again = false;
        record.id = plans.id.clone();
        let log = plans.log.clone();
        self.edit_view(&self.records[index].name.clone(), |view| view.previous = view.log.replace(log));
        let (stop, stopped) = watch::channel(None);
        self.slots[index].stop = Some(stop);
        tokio::spawn(supervise(self.context.clone(), plans, self.reports.clone(), index, stopped));
        Ok(())
    }

    // What a pod has.

    /// Before anything is written: a status without the address would lose it.
    fn keep_address(&mut self) {
        if self.pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some()) {
            self.has_address();
        }
    }

    fn has_address(&mut self) -> bool {
        if self.frame.pod_ip.is_some() {
            return true;
        }
        let is_on_host = self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let before = self.pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse::<Ipv4Addr>().ok());
        let address = if is_on_host {
            Some(self.context.options.address)
        } else {
            // The one it had, which the node has claimed for it at start.
            before
                .filter(|address| self.context.addresses.holds(*address))
                .or_else(|| self.context.addresses.allocate())
        };
        let Some(address) = address else {
            self.complain("FailedCreatePodSandBox", "no pod address is free".into());
            return false;
        };
        self.place.pod_ip = address.to_string();
        self.frame.pod_ip = Some(address.to_string());
        true
    }

    async fn has_volumes(&mut self) -> bool {
        let had = self.material.is_some();
        if let Err((what, message)) = self.try_volumes(had).await {
            let reason = if what.is_empty() { "FailedCreatePodSandBox" } else { "FailedMount" };
            let message = if what.is_empty() {
                message
            } else {
                format!("MountVolume.SetUp failed for volume \"{what}\" : {message}")
            };
            self.complain(reason, message);
            self.retry = (self.retry * 2).min(SLOWEST_RETRY);
            self.material = None;
            self.at_latest(Instant::now() + self.retry);
            // Running containers go on with what they have.
            return self.volumes.is_some();
        }
        self.retry = Duration::from_millis(50);
        if let Some(renew) = self.renew {
            self.at_latest(renew);
        }
        true
    }

    async fn try_volumes(&mut self, had_material: bool) -> Result<(), (String, String)> {
        let own = |message: String| (String::new(), message);
        let is_due = self.renew.is_some_and(|renew| renew <= Instant::now());
        if self.volumes.is_some() && had_material && !is_due {
            return Ok(());
        }
        self.paths.make(self.context.options.run_as.as_ref()).map_err(|error| own(error.to_string()))?;
        if self.volumes.is_none() {
            self.write_hosts();
        }
        self.has_material().await.map_err(own)?;
        let tokens = &self.context.options.api_server.tokens;
        self.renew = self
            .tokens
            .refresh(&self.context.client, tokens, &self.effective)
            .await
            .map_err(|error| ("kube-api-access".to_owned(), error.to_string()))?;
        let Some(shop) = self.shop() else { return Ok(()) };
        let told = |(volume, error): (String, crate::node::volumes::Error)| (volume, error.to_string());
        if self.volumes.is_some() {
            return shop.refresh().map_err(told);
        }
        let volumes = shop.prepare().await.map_err(told)?;
        self.volumes = Some(volumes);
        Ok(())
    }

    async fn has_material(&mut self) -> Result<(), String> {
        if self.material.is_none() {
            let ca_pem = &self.context.options.api_server.ca_pem;
            let fetched = Material::fetch(&self.context.client, &self.effective, ca_pem).await;
            self.material = Some(fetched.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    fn shop(&self) -> Option<Shop<'_>> {
        Some(Shop {
            client: &self.context.client,
            pod: &self.effective,
            paths: &self.paths,
            volumes: &self.context.options.volumes,
            place: &self.place,
            capacity: &self.context.capacity,
            material: self.material.as_ref()?,
            tokens: &self.tokens,
            owner: self.context.options.run_as.as_ref(),
        })
    }

    fn refresh_volumes(&mut self) {
        if self.volumes.is_some()
            && let Some(Err((volume, error))) = self.shop().map(|shop| shop.refresh())
        {
            tracing::warn!(pod = self.name(), volume, %error, "a volume was not brought up to date");
        }
    }

    fn write_hosts(&self) {
        if self.frame.pod_ip.is_none() || !self.paths.data.is_dir() {
            return;
        }
        let text = hosts::render(&self.pod, &self.place.pod_ip, &self.context.names.borrow());
        if let Err(error) = hosts::write(&self.paths.hosts(), &text) {
            tracing::warn!(pod = self.name(), %error, "the hosts file was not written");
        }
    }

    // How it ends.

    /// The pod's grace period, for containers that are stopped alone.
    fn grace(&self) -> Duration {
        let spec = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        spec.and_then(|seconds| u64::try_from(seconds).ok()).map_or(GRACE, Duration::from_secs)
    }

    fn stop_all(&mut self) {
        let deleted = self.pod.metadata.deletion_grace_period_seconds;
        let deleted = deleted.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let grace = match self.end {
            End::Stop => self.grace().min(self.context.options.stop_grace),
            // kubelets give a pod that was removed by force two seconds.
            End::Gone => Duration::from_secs(2),
            End::Deleted | End::No => deleted.unwrap_or_else(|| self.grace()),
        };
        for index in 0..self.slots.len() {
            self.stop_one(index, grace);
        }
    }

    /// Asks a container to end within `grace`, or sooner if it was asked before.
    fn stop_one(&mut self, index: usize, grace: Duration) {
        let Some(stop) = &self.slots[index].stop else { return };
        let deadline = Instant::now() + grace;
        let is_new = stop.borrow().is_none();
        stop.send_if_modified(|known| {
            let sooner = known.is_none_or(|known| deadline < known);
            if sooner {
                *known = Some(deadline);
            }
            sooner
        });
        if is_new && self.end != End::No {
            let message = format!("Stopping container {}", self.records[index].name);
            self.event(Some(index), Severity::Normal, "Killing", message);
        }
    }

    fn is_finished(&self) -> bool {
        self.end != End::No && self.slots.iter().all(|slot| slot.stop.is_none())
    }

    async fn finish(mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        match self.end {
            End::Stop | End::No => {
                self.write_status().await;
                return;
            }
            End::Deleted => {
                if self.pod.metadata.finalizers.as_ref().is_some_and(|list| !list.is_empty()) {
                    self.write_status().await;
                }
                self.delete().await;
            }
            End::Gone => {}
        }
        let paths = self.paths.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || paths.remove()).await {
            tracing::warn!(pod = self.name(), %error, "files of a deleted pod are left");
        }
        if let Some(Ok(address)) = self.frame.pod_ip.as_deref().map(str::parse) {
            self.context.addresses.release(address);
        }
        // Others may still hold finalizers; there is nothing more to do for them.
        if self.end != End::Gone {
            while !matches!(inbox.recv().await, Some(Message::Gone | Message::Stop) | None) {}
        }
    }

    async fn delete(&mut self) {
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: self.pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        loop {
            match self.api().delete(self.name(), &parameters).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
                    self.end = End::Gone;
                    return;
                }
                Err(error) => {
                    tracing::warn!(pod = self.name(), %error, "a deleted pod was not removed");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if self.context.client.apiserver_version().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    // What is told.

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn event(&self, index: Option<usize>, severity: Severity, reason: &'static str, message: String) {
        let field_path = index.map(|index| {
            let list = if self.records[index].is_init { "spec.initContainers" } else { "spec.containers" };
            format!("{list}{{{}}}", self.records[index].name)
        });
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: self.pod.metadata.name.clone(),
            namespace: self.pod.metadata.namespace.clone(),
            uid: self.pod.metadata.uid.clone(),
            resource_version: self.pod.metadata.resource_version.clone(),
            field_path,
        };
        self.context.events.record(about, severity, reason, message);
    }

    fn complain(&mut self, reason: &'static str, message: String) {
        let now = Instant::now();
        if let Some((told, at)) = &self.complained
            && *told == message
            && now.duration_since(*at) < COMPLAIN_EVERY
        {
            return;
        }
        self.complained = Some((message.clone(), now));
        self.event(None, Severity::Warning, reason, message);
    }

    /// Writes the status if it differs from what the object has.
    async fn write_status(&mut self) {
        for _ in 0..5 {
            let status = compute(&self.pod, &self.records, &self.frame, Timestamp::now());
            if self.pod.status.as_ref() == Some(&status) {
                return;
            }
            let mut pod = Pod::clone(&self.pod);
            pod.status = Some(status);
            match self.api().replace_status(self.name(), &PostParams::default(), &pod).await {
                Ok(written) => {
                    self.pod = Arc::new(written);
                    return;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => return,
                Err(kube::Error::Api(status)) if status.code == 409 => match self.api().get_opt(self.name()).await {
                    Ok(Some(pod)) if pod.metadata.uid == self.pod.metadata.uid => {
                        self.pod = Arc::new(pod);
                        self.note_deletion();
                        self.at_latest(Instant::now());
                    }
                    _ => return,
                },
                Err(error) => {
                    tracing::warn!(pod = self.name(), %error, "a pod's status was not written");
                    self.at_latest(Instant::now() + Duration::from_secs(1));
                    return;
                }
            }
        }
        self.at_latest(Instant::now() + Duration::from_secs(1));
    }

    // What others may look at.

    fn show(&self) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.pod = self.pod.clone();
        view.pod_ip.clone_from(&self.frame.pod_ip);
        for record in &self.records {
            view.containers.entry(record.name.clone()).or_default().waiting = match &record.state {
                State::Waiting { reason, .. } => Some(reason.clone()),
                State::Running { .. } | State::Terminated(_) => None,
            };
        }
    }

    fn edit_view(&self, container: &str, edit: impl FnOnce(&mut ContainerView)) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        edit(view.containers.entry(container.to_owned()).or_default());
    }

    /// Logs of runs before a restart of the node can still be read.
    fn restore_logs(&self) {
        for record in &self.records {
            let log = |restarts: i32| {
                let path = self.paths.log(&record.name, restarts);
                path.is_file().then(|| Log::finished(&path))
            };
            let (latest, before) = (log(record.restarts), log(record.restarts - 1));
            self.edit_view(&record.name, |view| (view.log, view.previous) = (latest, before));
        }
    }

    fn discard_log(&self, index: usize, restarts: i32) {
        if restarts >= 0 {
            Log::remove(&self.paths.log(&self.records[index].name, restarts));
        }
    }
}

impl Slot {
    fn new(spec: Container) -> Self {
        Self {
            spec,
            stop: None,
            backoff: Backoff::default(),
            ended: None,
            pull: Backoff::default(),
            pull_tried: None,
            has_said_backoff: false,
        }
    }
}

/// Whether an object is a later state of another; they may arrive out of order. Versions of this API are numbers.
fn is_newer(new: &Pod, old: &Pod) -> bool {
    let version = |pod: &Pod| pod.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok());
    version(new).zip(version(old)).is_none_or(|(new, old)| new > old)
}

/// A duration as Go prints it: `10s`, `2m40s`.
fn go_duration(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
