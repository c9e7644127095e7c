//! How members are named, and a member that is lost: its pod goes at once, without a word to the server in it.

use std::fmt;
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

/// A member, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// The one that takes writes.
    Primary,
    /// The one of this number.
    Number(u16),
    /// The one whose pod has this name.
    Pod(ObjectName),
}

impl Member {
    /// The name of its pod in an instance; the primary may be any.
    pub fn pod(&self, instance: &ObjectName) -> Option<String> {
        match self {
            Self::Primary => None,
            Self::Number(number) => Some(format!("{instance}-{number}")),
            Self::Pod(name) => Some(name.to_string()),
        }
    }

    /// Whether a pod of an instance is this one.
    pub fn is(&self, instance: &ObjectName, pod: &Pod) -> bool {
        match self.pod(instance) {
            None => members::is_primary(pod),
            Some(name) => pod.name_any() == name,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Number(number) => write!(f, "member {number}"),
            Self::Pod(name) => write!(f, "member {name}"),
        }
    }
}

impl std::str::FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "the number of a member, the name of its pod, or primary is expected";
        match (text, text.parse::<u16>()) {
            ("primary", _) => Ok(Self::Primary),
            (_, Ok(number)) => Ok(Self::Number(number)),
            (name, Err(_)) => name.parse().map(Self::Pod).map_err(|_| expected.to_owned()),
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
        let is_meant = |pod: &Pod| self.member.is(&self.instance, pod) != sabotage::sabotaged!("kill-takes-a-standby");
        if let Some(pod) = pods.into_iter().find(is_meant) {
            return Ok(Some(pod));
        }
        let there = resource::get(client, &Reference::new(Kind::Instance, &self.namespace, &self.instance)).await?;
        let wanted = there.map_or(0, |there| members::wanted(&there.data["spec"]));
        let is_to_come = match self.member.pod(&self.instance) {
            None => wanted > 0,
            Some(name) => (0..wanted).any(|number| name == format!("{}-{number}", self.instance)),
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
        format!("the instance {}/{} has no {}", self.namespace, self.instance, self.member)
    }
}

#[async_trait]
impl Step for Killed {
    fn id(&self) -> String {
        "kill".to_owned()
    }

    fn title(&self) -> String {
        format!("kill the {} of the instance {}", self.member, self.instance)
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
    fn a_member_is_the_primary_or_has_a_number_or_a_name() {
        let pod = |text: &str| text.parse::<Member>().map(|member| member.pod(&"trio".parse().unwrap()));
        assert_eq!(pod("primary"), Ok(None));
        assert_eq!(pod("2"), Ok(Some("trio-2".to_owned())));
        assert_eq!(pod("trio-2"), Ok(Some("trio-2".to_owned())));
        assert!(pod("-1").is_err() && pod("The primary").is_err());
    }
}
