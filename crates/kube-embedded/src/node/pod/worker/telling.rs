//! What a pod's task tells: events, the status, and the view for logs and exec.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::PostParams;
use tokio::time::Instant;

use super::Worker;
use crate::events::{Note, Severity};
use crate::node::context::COMPONENT;
use crate::node::logs::Log;
use crate::node::pod::ContainerView;
use crate::node::status::{State, compute};

/// How often the same `FailedMount` is told.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

impl Worker {
    pub(super) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn event(&self, index: Option<usize>, severity: Severity, reason: &'static str, message: String) {
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
        let note = Note { about, component: COMPONENT, severity, reason: reason.to_owned(), message };
        self.context.events.tell(note);
    }

    pub(super) fn complain(&mut self, reason: &'static str, message: String) {
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
    pub(super) async fn write_status(&mut self) {
        for _ in 0..5 {
            let status = compute(&self.pod, &self.records, &self.frame, Timestamp::now());
            if self.pod.status.as_ref() == Some(&status) {
                return;
            }
            let mut pod = Pod::clone(&self.pod);
            pod.status = Some(status);
            let error = match self.api().replace_status(self.name(), &PostParams::default(), &pod).await {
                Ok(written) => {
                    self.pod = Arc::new(written);
                    return;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => return,
                Err(kube::Error::Api(status)) if status.code == 409 => match self.api().get_opt(self.name()).await {
                    Ok(Some(pod)) if pod.metadata.uid == self.pod.metadata.uid => {
                        self.see(Arc::new(pod));
                        self.at_latest(Instant::now());
                        continue;
                    }
                    Ok(_) => return,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::warn!(pod = self.name(), %error, "a pod's status was not written");
            break;
        }
        self.at_latest(Instant::now() + Duration::from_secs(1));
    }

    pub(super) fn show(&self) {
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

    pub(super) fn edit_view(&self, container: &str, edit: impl FnOnce(&mut ContainerView)) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        edit(view.containers.entry(container.to_owned()).or_default());
    }

    /// Logs of runs before a restart of the node can still be read.
    pub(super) fn restore_logs(&self) {
        for record in &self.records {
            let log = |restarts: i32| {
                let path = self.paths.log(&record.name, restarts);
                path.is_file().then(|| Log::finished(&path))
            };
            let (latest, before) = (log(record.restarts), log(record.restarts - 1));
            self.edit_view(&record.name, |view| (view.log, view.previous) = (latest, before));
        }
    }

    pub(super) fn discard_log(&self, index: usize, restarts: i32) {
        if restarts >= 0 {
            Log::remove(&self.paths.log(&self.records[index].name, restarts));
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::rig;

    #[tokio::test]
    async fn a_status_that_lost_against_a_change_that_cannot_be_read_is_written_later() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = rig::worker(directory.path(), |method| match *method {
            Method::PUT => rig::refused(409),
            _ => rig::refused(500),
        });
        worker.write_status().await;
        assert!(worker.wake.is_some());
    }

    #[tokio::test]
    async fn labels_that_a_lost_write_of_the_status_has_met_arrive_in_volumes() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = rig::worker(directory.path(), |method| match *method {
            Method::PUT => rig::refused(409),
            _ => (200, rig::pod("primary")),
        });
        worker.is_current = true;
        worker.write_status().await;
        assert!(!worker.is_current);
    }
}
