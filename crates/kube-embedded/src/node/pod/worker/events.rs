//! What a pod's task makes of what it hears.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::{End, Worker};
use crate::events::Severity;
use crate::node::container::{ProbeKind, Report};
use crate::node::pod::Message;
use crate::node::probe::Failed;
use crate::node::status::State;
use crate::node::volumes::Material;

impl Worker {
    pub(super) fn take_message(&mut self, message: Message) {
        match message {
            Message::Changed(pod) => {
                if is_newer(&pod, &self.pod) {
                    self.see(pod);
                }
            }
            Message::Gone => self.end = End::Gone,
            Message::Stop => {
                self.node_stops = true;
                if self.end == End::No {
                    self.end = End::Stop;
                }
            }
            Message::MaterialChanged { is_secret, name } => {
                let (config_maps, secrets) = Material::names(&self.pod);
                if if is_secret { secrets.contains(&name) } else { config_maps.contains(&name) } {
                    self.forget_material();
                }
            }
        }
    }

    /// Takes the object as it is now.
    pub(super) fn see(&mut self, pod: Arc<Pod>) {
        let (now, before) = (&pod.metadata, &self.pod.metadata);
        if now.labels != before.labels || now.annotations != before.annotations {
            // Volumes may tell them.
            self.is_current = false;
        }
        self.pod = pod;
        self.note_deletion();
    }

    pub(super) fn note_deletion(&mut self) {
        if self.pod.metadata.deletion_timestamp.is_some() && self.end == End::No {
            self.end = End::Deleted;
        }
    }

    pub(super) fn take_report(&mut self, index: usize, report: Report) {
        let name = self.records[index].name.clone();
        match report {
            Report::Created(running) => {
                self.slots[index].is_opening = false;
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
            Report::ProbeFailed(kind, failed) => {
                let outcome = match failed {
                    Failed::Answer(_) => "failed",
                    Failed::Question(_) => "errored and resulted in unknown state",
                };
                let message = format!("{} probe {outcome}: {}", kind.name(), failed.into_words());
                self.event(Some(index), Severity::Warning, "Unhealthy", message);
            }
            Report::Probed(kind, state) => self.take_probe(index, kind, state),
            Report::Ended(terminated) => {
                let slot = &mut self.slots[index];
                slot.stop = None;
                slot.is_opening = false;
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

    pub(super) fn take_probe(&mut self, index: usize, kind: ProbeKind, state: bool) {
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
}

/// Whether an object is a later state of another; they may arrive out of order. Versions of this API are numbers.
fn is_newer(new: &Pod, old: &Pod) -> bool {
    let version = |pod: &Pod| pod.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok());
    version(new).zip(version(old)).is_none_or(|(new, old)| new > old)
}
