//! The next thing for each container of a pod.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::Instant;

use super::supply::{SLOWEST_RETRY, look_after};
use super::{End, Worker};
use crate::events::Severity;
use crate::image::Image;
use crate::node::container::supervise;
use crate::node::pod::decide::{Next, next};
use crate::node::pod::start::{Origin, Problem, plans};
use crate::node::status::{State, has_ended, restart_policy};

/// Reason of a pod that has lived for longer than it may.
const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

impl Worker {
    pub(super) async fn step(&mut self) {
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
        if has_ended(&self.pod) || self.is_past_deadline() {
            self.stop_all();
            self.frame.is_over = self.slots.iter().all(|slot| slot.stop.is_none());
            return;
        }
        if !self.has_address() || !self.has_volumes().await {
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

    /// Whether the pod has lived for as long as it may (kubelet's `active_deadline.go`), which is told once.
    fn is_past_deadline(&mut self) -> bool {
        if self.frame.failure.is_some() {
            return true;
        }
        let Some(end) = deadline(&self.pod, self.frame.start_time) else { return false };
        let now = Timestamp::now();
        if now < end {
            self.at_latest(Instant::now() + look_after(end, now));
            return false;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.event(None, Severity::Normal, DEADLINE_EXCEEDED, message.clone());
        self.frame.failure = Some((DEADLINE_EXCEEDED.to_owned(), message));
        true
    }

    pub(super) async fn advance(&mut self, index: usize, policy: &str) {
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
                    self.forget_material();
                }
            }
        }
    }

    pub(super) fn crash_loop(&mut self, index: usize) {
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
    pub(super) fn wait(&mut self, index: usize, reason: &str, message: Option<String>) {
        let record = &mut self.records[index];
        let state = State::Waiting { reason: reason.to_owned(), message };
        if let State::Terminated(last) = std::mem::replace(&mut record.state, state) {
            record.last = Some(last);
        }
    }

    /// The container's image; `None` if there is none, which is told.
    pub(super) fn image(&mut self, index: usize) -> Option<Image> {
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

    pub(super) fn no_image(&mut self, index: usize, reference: &str, why: &str, now: Instant) {
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

    pub(super) async fn start(&mut self, index: usize, image: &Image) -> Result<(), Problem> {
        self.has_material().await.map_err(|message| Problem("CreateContainerConfigError", message))?;
        let record = &self.records[index];
        let has_run = record.result().is_some() || !record.id.is_empty();
        let restarts = record.restarts + i32::from(has_run);
        let (Some(volumes), Some(shop)) = (&self.volumes, self.shop()) else { return Ok(()) };
        let origin =
            Origin { context: &self.context, pod: &self.pod, place: &self.place, paths: &self.paths, shop, volumes };
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
        self.slots[index].is_opening = true;
        tokio::spawn(supervise(self.context.clone(), plans, self.reports.clone(), index, stopped));
        Ok(())
    }
}

/// When a pod has lived for as long as it may. `seen` is when the node first saw it; what its object says is older.
/// What no clock reaches is no deadline.
fn deadline(pod: &Pod, seen: Option<Timestamp>) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let begun = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    begun.or(seen)?.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// A duration as Go prints it: `10s`, `2m40s`.
fn go_duration(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pods_time_begins_when_its_object_says() {
        let pod = |seconds: i64, begun: Option<&str>| -> Pod {
            let spec = json!({"containers": [], "activeDeadlineSeconds": seconds});
            serde_json::from_value(json!({"spec": spec, "status": {"startTime": begun}})).unwrap()
        };
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let seen = at("2026-01-01T10:00:00Z");
        assert_eq!(deadline(&pod(60, None), seen), at("2026-01-01T10:01:00Z"));
        assert_eq!(deadline(&pod(60, Some("2026-01-01T09:00:00Z")), seen), at("2026-01-01T09:01:00Z"));
        assert_eq!(deadline(&pod(i64::MAX, None), seen), None);
        assert_eq!(deadline(&Pod::default(), seen), None);
    }
}
