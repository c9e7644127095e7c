//! The end of a pod.

use std::time::Duration;

use kube::api::{DeleteParams, Preconditions};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{End, Worker};
use crate::events::Severity;
use crate::node::container::LEAST_GRACE;
use crate::node::pod::Message;

/// Kubernetes' default grace period.
const GRACE: Duration = Duration::from_secs(30);
/// Between two attempts to remove a pod's object.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest grace period, a century: clocks do not reach as far as the numbers that a pod may have.
const LONGEST_GRACE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Worker {
    /// The pod's grace period, for containers that are stopped alone.
    pub(super) fn grace(&self) -> Duration {
        let spec = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        spec.and_then(|seconds| u64::try_from(seconds).ok()).map_or(GRACE, Duration::from_secs)
    }

    pub(super) fn stop_all(&mut self) {
        let deleted = self.pod.metadata.deletion_grace_period_seconds;
        let deleted = deleted.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let own = match self.end {
            // As kubelets give a pod that was removed by force.
            End::Gone => LEAST_GRACE,
            End::Deleted | End::Stop | End::No => deleted.unwrap_or_else(|| self.grace()),
        };
        let grace = if self.node_stops { own.min(self.context.options.stop_grace) } else { own };
        for index in 0..self.slots.len() {
            self.stop_one(index, grace);
        }
    }

    /// Asks a container to end within `grace`, or sooner if it was asked before.
    pub(super) fn stop_one(&mut self, index: usize, grace: Duration) {
        let Some(stop) = &self.slots[index].stop else { return };
        let deadline = Instant::now() + grace.min(LONGEST_GRACE);
        let is_new = stop.borrow().is_none();
        stop.send_if_modified(|known| {
            let sooner = known.is_none_or(|known| deadline < known);
            if sooner {
                *known = Some(deadline);
            }
            sooner
        });
        if is_new && (self.end != End::No || self.frame.failure.is_some()) {
            let message = format!("Stopping container {}", self.records[index].name);
            self.event(Some(index), Severity::Normal, "Killing", message);
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.end != End::No && self.slots.iter().all(|slot| slot.stop.is_none())
    }

    pub(super) async fn finish(mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        match self.end {
            End::Stop | End::No => {
                self.write_status().await;
                return;
            }
            End::Deleted => {
                self.frame.is_over = true;
                // Whoever watches the pod learns from its last state how its containers ended.
                self.write_status().await;
                self.delete(inbox).await;
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
        // Others may still hold finalizers; there is nothing more to do for them. A node that stops hears of no end.
        if self.end != End::Gone && !self.node_stops {
            while !matches!(inbox.recv().await, Some(Message::Gone | Message::Stop) | None) {}
        }
    }

    /// Removes the object; tried again and again, unless the node stops.
    pub(super) async fn delete(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
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
                    if let Ok(message) = tokio::time::timeout(AGAIN, inbox.recv()).await {
                        self.take_message(message.unwrap_or(Message::Stop));
                    }
                    if self.node_stops || self.end == End::Gone {
                        return;
                    }
                }
            }
        }
    }
}
