//! A member that is lost: its pod goes at once, without a word to the server in it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, Client, ResourceExt};

use super::primary::{AGAIN, PATIENCE};
use super::{members, resource};
use crate::finding::{Finding, Id};
use crate::kubernetes::{Access, Error, delete};
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{Kind, Reference};
use crate::step::{Context, Observation, Step};

/// Which member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// The one that takes writes.
    Primary,
    /// The one of this number.
    Number(u16),
}

impl std::str::FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "primary" => Ok(Self::Primary),
            number => number
                .parse()
                .map(Self::Number)
                .map_err(|_| "primary, or the number of a member, is expected".to_owned()),
        }
    }
}

/// A member should have been killed once, in this run, and its pod made anew.
pub struct Killed {
    /// The cluster.
    pub access: Arc<Access>,
    /// The instance.
    pub instance: ObjectName,
    /// Its namespace.
    pub namespace: Namespace,
    /// Which.
    pub member: Member,
    /// Name and identifier of the pod that was killed.
    pub done: Mutex<Option<(String, String)>>,
}

impl Killed {
    fn pods(&self, client: Client) -> Api<Pod> {
        Api::namespaced(client, self.namespace.as_str())
    }

    /// The pod that is meant; nothing where it is to come: it may have been killed just now.
    async fn pod(&self, client: &Client) -> Result<Option<Pod>, Finding> {
        let pods = members::list(client, &self.namespace, &self.instance).await;
        let pods = pods.map_err(|error| Error::request(format!("list the members of {}", self.instance), error))?;
        let is_meant = |pod: &Pod| match self.member {
            Member::Primary => members::is_primary(pod) != sabotage::sabotaged!("kill-takes-a-standby"),
            Member::Number(number) => pod.name_any() == format!("{}-{number}", self.instance),
        };
        if let Some(pod) = pods.into_iter().find(is_meant) {
            return Ok(Some(pod));
        }
        let there = resource::get(client, &Reference::new(Kind::Instance, &self.namespace, &self.instance)).await?;
        let wanted = there.map_or(0, |there| members::wanted(&there.data["spec"]));
        let is_to_come = match self.member {
            Member::Primary => wanted > 0,
            Member::Number(number) => i64::from(number) < wanted,
        };
        if is_to_come { Ok(None) } else { Err(Finding::new(Id::NoMember, self.absence())) }
    }

    /// As [`Killed::pod`], for which it waits a while.
    async fn wait_for(&self, client: &Client, context: &Context) -> Result<Pod, Finding> {
        let patience = Instant::now() + PATIENCE.min(context.remaining());
        loop {
            match self.pod(client).await? {
                Some(pod) => return Ok(pod),
                None if Instant::now() > patience => return Err(Finding::new(Id::NoMember, self.absence())),
                None => context.progress(self.absence()),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn absence(&self) -> String {
        let which = match self.member {
            Member::Primary => "primary".to_owned(),
            Member::Number(number) => format!("member {number}"),
        };
        format!("the instance {}/{} has no {which}", self.namespace, self.instance)
    }
}

#[async_trait]
impl Step for Killed {
    fn id(&self) -> String {
        "kill".to_owned()
    }

    fn title(&self) -> String {
        match self.member {
            Member::Primary => format!("kill the primary of the instance {}", self.instance),
            Member::Number(number) => format!("kill the member {number} of the instance {}", self.instance),
        }
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        let killed = self.done.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((name, uid)) = killed else {
            let pod = self.pod(&client).await?;
            return Ok(Observation::unmet(match pod {
                Some(pod) => format!("the pod {} runs", pod.name_any()),
                None => format!("{} at the moment", self.absence()),
            }));
        };
        let pod = self
            .pods(client)
            .get_opt(&name)
            .await
            .map_err(|error| Error::request(format!("get the pod {name}"), error))?;
        Ok(match pod.and_then(|pod| pod.metadata.uid) {
            Some(now) if now != uid => Observation::satisfied(format!("the pod {name} was killed and made anew")),
            Some(_) => Observation::unmet(format!("the pod {name} is ending")),
            None => Observation::unmet(format!("the pod {name} is not made anew yet")),
        })
    }

    fn is_resumed(&self) -> bool {
        false
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let client = self.access.client().await?;
        let pod = self.wait_for(&client, context).await?;
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        context.command(format!("kubectl delete pod {name} -n {} --grace-period 0 --force", self.namespace));
        // The identifier keeps a second run from killing the successor.
        let parameters = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }
            .preconditions(kube::api::Preconditions { uid: Some(uid.clone()), resource_version: None });
        delete(&self.pods(client), &name, &parameters, &format!("delete the pod {name}")).await?;
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = Some((name, uid));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_the_primary_or_a_number() {
        assert_eq!("primary".parse(), Ok(Member::Primary));
        assert_eq!("2".parse(), Ok(Member::Number(2)));
        assert!("-1".parse::<Member>().is_err() && "standby".parse::<Member>().is_err());
    }
}
