//! A failover on purpose: another member of an instance should be its primary.
//!
//! The request is an annotation of the instance's Lease. The agent of the primary obeys it, or says on the Lease why
//! not, and removes it.

use std::sync::{Arc, Mutex, PoisonError};

use a8s_operators::agent::lease::{Record, Switchover};
use a8s_operators::instance::names::SWITCHOVER;
use async_trait::async_trait;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::capability::{self, Capability};
use super::members;
use super::primary::AGAIN;
use super::resource::{self, next_change};
use crate::finding::{Evidence, Finding, Id};
use crate::kubernetes::{Access, Error, diagnosis};
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{Kind, Reference};
use crate::step::{Context, Observation, Step};

/// Another member should be the primary.
pub struct Failover {
    access: Arc<Access>,
    instance: ObjectName,
    namespace: Namespace,
    to: Option<String>,
    id: String,
    before: Mutex<Option<String>>,
}

/// What is there.
struct Found {
    record: Record,
    pods: Vec<Pod>,
}

impl Failover {
    /// To a member, by the name of its pod, or to the one that is best.
    pub fn new(access: Arc<Access>, instance: ObjectName, namespace: Namespace, to: Option<String>) -> Self {
        let id = format!("{:016x}", rand::random::<u64>());
        Self { access, instance, namespace, to, id, before: Mutex::default() }
    }

    /// The primary before this run asked for another one, if it did.
    pub fn before(&self) -> Option<String> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leases(&self, client: Client) -> Api<Lease> {
        Api::namespaced(client, self.namespace.as_str())
    }

    async fn look(&self, client: &Client) -> Result<Found, Finding> {
        let (name, namespace) = (self.instance.as_str(), &self.namespace);
        let what = || format!("look at the instance {namespace}/{name}");
        let reference = Reference::new(Kind::Instance, namespace, &self.instance);
        let there = resource::get(client, &reference).await?.ok_or_else(|| reference.missing())?;
        capability::require(client, Capability::Failover).await?;
        let replicas = members::wanted(&there.data["spec"]);
        if replicas < 2 {
            let cause = format!("the instance {name} has {replicas} members: there is nobody to fail over to");
            return Err(Finding::new(Id::NoOtherMember, cause)
                .advise(format!("Give it more: a9s create pg instance --name {name} --replicas 3")));
        }
        let lease = self.leases(client.clone()).get_opt(name).await.map_err(|error| Error::request(what(), error))?;
        let Some(lease) = lease else {
            let cause =
                format!("the instance {name} has no Lease yet: it has no primary, or its stack has other means");
            return Err(Finding::new(Id::NoLease, cause));
        };
        let pods = members::list(client, namespace, &self.instance).await;
        let pods = pods.map_err(|error| Error::request(what(), error))?;
        Ok(Found { record: Record::of(&lease), pods })
    }

    /// Writes the request, or takes it away. Says whether it was: nothing is where the Lease has changed since it was found.
    async fn annotate(&self, client: &Client, found: &Found, request: Option<&str>) -> Result<bool, Error> {
        let metadata = json!({"resourceVersion": found.record.version, "annotations": {(SWITCHOVER): request}});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let patched = self.leases(client.clone()).patch(self.instance.as_str(), &PatchParams::default(), &patch).await;
        match patched {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(Error::request(format!("ask for a failover of the instance {}", self.instance), error)),
        }
    }

    /// Whether the request stands: the primary removes it when it gives its place up.
    fn is_asked(&self, found: &Found) -> bool {
        found.record.switchover.as_ref().is_some_and(|asked| asked.id == self.id)
    }

    /// What has to pass before the primary can be asked to make way.
    fn obstacle(&self, found: &Found) -> Option<String> {
        match (&found.record.holder, &found.record.switchover) {
            // Whoever takes the Lease next knows nothing of what was asked of the one before.
            (None, _) => Some("it has no primary that could make way".to_owned()),
            // It has nobody to make way for, and would refuse.
            (Some(holder), _) if self.to.as_ref() == Some(&holder.pod) => {
                (!serves(&found.pods, &holder.pod)).then(|| not_ready(&holder.pod))
            }
            (Some(_), Some(other)) if other.id != self.id => Some("another failover is under way".to_owned()),
            _ => None,
        }
    }

    /// Whether what is there is what was asked for.
    fn judge(&self, found: &Found) -> Result<Observation, Finding> {
        self.check(found)?;
        let before = self.before();
        Ok(match &found.record.holder {
            None => Observation::unmet("it has no primary"),
            Some(holder) if !serves(&found.pods, &holder.pod) => Observation::unmet(not_ready(&holder.pod)),
            Some(holder) if self.to.as_ref() == Some(&holder.pod) => {
                Observation::satisfied(format!("{} is the primary", holder.pod))
            }
            Some(holder) if before.as_ref() == Some(&holder.pod) && !self.is_asked(found) => {
                let other = self.to.as_deref().unwrap_or("another member");
                let cause = format!("{} leads again: {other} did not take its place in time", holder.pod);
                return Err(Finding::new(Id::FailoverUndone, cause));
            }
            Some(holder) => match before {
                Some(before) if before != holder.pod && self.to.is_none() => {
                    Observation::satisfied(format!("{} is the primary", holder.pod))
                }
                // Another one was further; the request has been obeyed as far as it could be.
                Some(before) if before != holder.pod => {
                    let wanted = self.to.clone().unwrap_or_default();
                    let cause = format!("{} has become the primary instead of {wanted}, which was behind", holder.pod);
                    return Err(Finding::new(Id::FailoverElsewhere, cause));
                }
                _ => Observation::unmet(format!("{} is the primary", holder.pod)),
            },
        })
    }

    fn check(&self, found: &Found) -> Result<(), Finding> {
        if let Some(refused) = found.record.refused.as_ref().filter(|refused| refused.id == self.id) {
            let cause = format!("the primary refused the failover: {}", refused.reason);
            return Err(Finding::new(Id::FailoverRefused, cause));
        }
        if let Some(to) = &self.to
            && !found.pods.iter().any(|pod| pod.name_any() == *to)
        {
            let names: Vec<String> = found.pods.iter().map(ResourceExt::name_any).collect();
            let cause = format!("{to} is no member of the instance {}", self.instance);
            return Err(Finding::new(Id::NoMember, cause).advise(format!("Its members are {}.", names.join(", "))));
        }
        Ok(())
    }
}

fn not_ready(primary: &str) -> String {
    format!("{primary}, the primary, is not ready yet")
}

/// Whether a pod answers as the primary.
fn serves(pods: &[Pod], name: &str) -> bool {
    pods.iter().any(|pod| pod.name_any() == name && members::is_primary(pod) && diagnosis::is_ready(pod))
}

#[async_trait]
impl Step for Failover {
    fn id(&self) -> String {
        "failover".to_owned()
    }

    fn title(&self) -> String {
        match &self.to {
            Some(to) => format!("make {to} the primary of the instance {}", self.instance),
            None => format!("make another member the primary of the instance {}", self.instance),
        }
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        let found = self.look(&client).await?;
        self.judge(&found)
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let client = self.access.client().await?;
        let request = serde_json::to_string(&Switchover { id: self.id.clone(), to: self.to.clone() });
        let request = request.map_err(|error| Finding::new(Id::Internal, error))?;
        context.command(format!("kubectl annotate lease {} '{SWITCHOVER}={request}'", self.instance));
        loop {
            let found = self.look(&client).await?;
            self.check(&found)?;
            match (self.obstacle(&found), &found.record.holder) {
                (Some(obstacle), _) => context.progress(&obstacle),
                (None, Some(holder)) if self.to.as_ref() == Some(&holder.pod) => return Ok(()),
                (None, holder) => {
                    let before = holder.as_ref().map(|holder| holder.pod.clone());
                    *self.before.lock().unwrap_or_else(PoisonError::into_inner) = before;
                    if self.annotate(&client, &found, Some(&request)).await? {
                        return Ok(());
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn call_off(&self) -> Option<String> {
        // Nobody was asked yet.
        self.before()?;
        let client = self.access.client().await.ok()?;
        loop {
            let found = self.look(&client).await.ok()?;
            if !self.is_asked(&found) {
                return None;
            }
            if self.annotate(&client, &found, None).await.ok()? {
                return Some("The primary is not asked any more to make way.".to_owned());
            }
        }
    }

    fn is_resumed(&self) -> bool {
        // Without a name, whoever leads then is asked to make way.
        self.to.is_some()
    }

    async fn changed(&self) {
        let Ok(client) = self.access.client().await else { return std::future::pending().await };
        let pods: Api<Pod> = Api::namespaced(client.clone(), self.namespace.as_str());
        let leases = self.leases(client);
        let name = format!("metadata.name={}", self.instance);
        tokio::select! {
            () = next_change(&pods, WatchParams::default().labels(&members::selector(&self.instance))) => {}
            () = next_change(&leases, WatchParams::default().fields(&name)) => {}
        }
    }

    async fn evidence(&self) -> Vec<Evidence> {
        let Ok(client) = self.access.client().await else { return Vec::new() };
        let Ok(found) = self.look(&client).await else { return Vec::new() };
        let line = |pod: &Pod| format!("{}: {}", pod.name_any(), diagnosis::difference(pod));
        let lines = found.pods.iter().filter(|pod| !diagnosis::is_ready(pod)).map(line).collect::<Vec<_>>();
        vec![Evidence { about: format!("members of {}", self.instance), lines }]
    }
}

#[cfg(test)]
mod tests {
    use a8s_api::LABEL_ROLE;

    use super::*;

    /// Three members, of which one leads and serves.
    fn led_by(leader: &str) -> Found {
        let lease = serde_json::from_value(json!({"spec": {"holderIdentity": leader}})).unwrap();
        let pod = |name: &str| {
            let role = if name == leader { "master" } else { "replica" };
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {LABEL_ROLE: role}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }))
            .unwrap()
        };
        Found { record: Record::of(&lease), pods: ["trio-0", "trio-1", "trio-2"].map(pod).to_vec() }
    }

    fn failover(to: Option<&str>, before: Option<&str>) -> Failover {
        let (instance, namespace) = ("trio".parse().unwrap(), "shop".parse().unwrap());
        let failover = Failover::new(Arc::default(), instance, namespace, to.map(str::to_owned));
        *failover.before.lock().unwrap() = before.map(str::to_owned);
        failover
    }

    #[test]
    fn whoever_was_named_or_is_another_has_to_lead() {
        for (to, before, leader, is_done) in [
            (Some("trio-1"), None, "trio-1", true),
            (Some("trio-1"), None, "trio-0", false),
            (Some("trio-1"), Some("trio-0"), "trio-1", true),
            (None, Some("trio-0"), "trio-2", true),
            (None, None, "trio-0", false),
        ] {
            let observed = failover(to, before).judge(&led_by(leader)).unwrap();
            let is_satisfied = matches!(observed, Observation::Satisfied(_));
            assert_eq!(is_satisfied, is_done, "{to:?} after {before:?}, led by {leader}");
        }
    }

    #[test]
    fn a_primary_that_is_to_lead_and_is_not_ready_yet_is_waited_for_and_not_asked() {
        let mut found = led_by("trio-0");
        assert_eq!(failover(Some("trio-0"), None).obstacle(&found), None);
        found.pods[0].status = None;
        let obstacle = failover(Some("trio-0"), None).obstacle(&found);
        assert_eq!(obstacle.as_deref(), Some("trio-0, the primary, is not ready yet"));
        assert_eq!(failover(Some("trio-1"), None).obstacle(&found), None);
    }

    #[test]
    fn where_another_one_leads_it_is_said_why() {
        let judged = |to, leader: &str| {
            let finding = failover(to, Some("trio-0")).judge(&led_by(leader)).unwrap_err();
            (finding.id, finding.cause)
        };
        let elsewhere = "trio-2 has become the primary instead of trio-1, which was behind".to_owned();
        assert_eq!(judged(Some("trio-1"), "trio-2"), (Id::FailoverElsewhere, elsewhere));
        let undone = "trio-0 leads again: another member did not take its place in time".to_owned();
        assert_eq!(judged(None, "trio-0"), (Id::FailoverUndone, undone));
    }
}
