//! What a pod has before its containers start: an address, volumes, names.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Worker;
use crate::node::hosts;
use crate::node::volumes::{Material, Shop};

/// Longest distance of attempts to make a pod's volumes.
pub(super) const SLOWEST_RETRY: Duration = Duration::from_secs(2);
/// How often the clock is looked at (a kubelet looks at each pod once a minute).
const LOOK: Duration = Duration::from_secs(60);

impl Worker {
    /// Before anything is written: a status without the address would lose it.
    pub(super) fn keep_address(&mut self) {
        if self.pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some()) {
            self.has_address();
        }
    }

    pub(super) fn has_address(&mut self) -> bool {
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

    pub(super) async fn has_volumes(&mut self) -> bool {
        if let Err((what, message)) = self.try_volumes().await {
            let reason = if what.is_empty() { "FailedCreatePodSandBox" } else { "FailedMount" };
            let message = if what.is_empty() {
                message
            } else {
                format!("MountVolume.SetUp failed for volume \"{what}\" : {message}")
            };
            self.complain(reason, message);
            self.retry = (self.retry * 2).min(SLOWEST_RETRY);
            self.forget_material();
            self.at_latest(Instant::now() + self.retry);
            // Running containers go on with what they have.
            return self.volumes.is_some();
        }
        self.retry = Duration::from_millis(50);
        if let Some(renew) = self.renew {
            self.at_latest(Instant::now() + look_after(renew, Timestamp::now()));
        }
        true
    }

    pub(super) async fn try_volumes(&mut self) -> Result<(), (String, String)> {
        let own = |message: String| (String::new(), message);
        let is_due = self.renew.is_some_and(|renew| renew <= Timestamp::now());
        // A launcher opens files that an update would remove: those that a `subPath` has led to.
        let is_in_use = self.slots.iter().any(|slot| slot.is_opening);
        if self.volumes.is_some() && (self.is_current || is_in_use) && !is_due {
            return Ok(());
        }
        self.paths.make(self.context.options.run_as.as_ref()).map_err(|error| own(error.to_string()))?;
        if self.volumes.is_none() {
            self.write_hosts();
        }
        self.has_material().await.map_err(own)?;
        let tokens = &self.context.options.api_server.tokens;
        let renewed = self.tokens.refresh(&self.context.client, tokens, &self.pod).await;
        let renewed = renewed.map_err(|error| ("kube-api-access".to_owned(), error.to_string()));
        let told = |(volume, error): (String, crate::node::volumes::Error)| (volume, error.to_string());
        if self.volumes.is_some() {
            let refreshed = self.shop().map_or(Ok(()), |shop| shop.refresh()).map_err(told);
            self.renew = renewed?;
            refreshed?;
        } else {
            self.renew = renewed?;
            let Some(shop) = self.shop() else { return Ok(()) };
            let volumes = shop.prepare().await.map_err(told)?;
            self.volumes = Some(volumes);
        }
        self.is_current = true;
        Ok(())
    }

    /// ConfigMaps and Secrets are looked at again, and written.
    pub(super) fn forget_material(&mut self) {
        self.material = None;
        self.is_current = false;
    }

    pub(super) async fn has_material(&mut self) -> Result<(), String> {
        if self.material.is_none() {
            let ca_pem = &self.context.options.api_server.ca_pem;
            let fetched = Material::fetch(&self.context.client, &self.pod, ca_pem).await;
            self.material = Some(fetched.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    pub(super) fn shop(&self) -> Option<Shop<'_>> {
        Some(Shop {
            client: &self.context.client,
            pod: &self.pod,
            paths: &self.paths,
            volumes: &self.context.options.volumes,
            place: &self.place,
            capacity: &self.context.capacity,
            material: self.material.as_ref()?,
            tokens: &self.tokens,
            owner: self.context.options.run_as.as_ref(),
        })
    }

    /// Writes the hosts file, unless it says already what there is to say. Where that fails, as on a full disk, it is
    /// tried again.
    pub(super) fn write_hosts(&mut self) {
        if self.has_hosts || self.frame.pod_ip.is_none() || !self.paths.data.is_dir() {
            return;
        }
        let text = hosts::render(&self.pod, &self.place.pod_ip, &self.context.names.borrow());
        match hosts::write(&self.paths.hosts(), &text) {
            Ok(()) => self.has_hosts = true,
            Err(error) => {
                tracing::warn!(pod = self.name(), %error, "the hosts file was not written");
                self.at_latest(Instant::now() + SLOWEST_RETRY);
            }
        }
    }
}

/// How long to wait until a moment of the clock, or until another look at it: timers stand still while the machine
/// sleeps, and the clock can be set.
pub(super) fn look_after(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(now)).unwrap_or_default().min(LOOK)
}

#[cfg(test)]
mod tests {
    use super::super::rig;
    use super::*;

    #[tokio::test]
    async fn names_that_could_not_be_written_are_written_later() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = rig::worker(directory.path(), |_| rig::refused(500));
        worker.frame.pod_ip = Some("127.64.0.16".into());
        // Something is in the way.
        let hosts = worker.paths.hosts();
        fs_err::create_dir_all(&hosts).unwrap();
        worker.write_hosts();
        assert!(worker.wake.take().is_some());
        fs_err::remove_dir(&hosts).unwrap();
        worker.write_hosts();
        assert!(worker.wake.is_none() && hosts.is_file());
        fs_err::remove_file(&hosts).unwrap();
        worker.write_hosts();
        assert!(!hosts.exists(), "what is written is not written again");
    }

    #[test]
    fn the_clock_is_looked_at_once_a_minute() {
        let now = Timestamp::now();
        let second = Duration::from_secs(1);
        assert_eq!(look_after(now + 3600 * second, now), LOOK);
        assert_eq!(look_after(now + second, now), second);
        assert_eq!(look_after(now - second, now), Duration::ZERO);
    }
}
