//! Steps that make, start, stop and delete a cluster.

use std::sync::Arc;

use async_trait::async_trait;

use crate::finding::{Finding, Id};
use crate::provider::{ClusterName, Provider, State, no_cluster};
use crate::step::{Context, Observation, Step};

/// What a cluster should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// There and running; it is made if it is not there.
    Created,
    /// Running; it is an error if it is not there.
    Started,
    /// There and not running.
    Stopped,
    /// Gone, with everything in it.
    Deleted,
}

/// A cluster that should be in a state.
pub struct Cluster {
    /// Who makes it.
    pub provider: Arc<dyn Provider>,
    /// Its name.
    pub name: ClusterName,
    /// What it should be.
    pub wanted: Wanted,
}

/// What a cluster that is not there yet needs should be there. Nothing is done if it is not: that is the finding.
pub struct Possible {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    /// Name of the cluster.
    pub name: ClusterName,
}

#[async_trait]
impl Step for Possible {
    fn id(&self) -> String {
        "provider".to_owned()
    }

    fn title(&self) -> String {
        format!("look for what the {} cluster {} needs", self.provider.name(), self.name)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        Ok(match self.provider.state(&self.name).await? {
            State::Absent => Observation::unmet("it was not looked for yet"),
            State::Stopped { .. } | State::Unready { .. } | State::Running { .. } => {
                Observation::satisfied("the cluster is there")
            }
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        self.provider.check(context).await
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied("it is there"))
    }
}

#[async_trait]
impl Step for Cluster {
    fn id(&self) -> String {
        "cluster".to_owned()
    }

    fn title(&self) -> String {
        let verb = match self.wanted {
            Wanted::Created => "create",
            Wanted::Started => "start",
            Wanted::Stopped => "stop",
            Wanted::Deleted => "delete",
        };
        format!("{verb} the {} cluster {}", self.provider.name(), self.name)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let state = match self.provider.state(&self.name).await {
            // A cluster whose record is damaged can still be deleted.
            Err(finding) if self.wanted == Wanted::Deleted && finding.id == Id::StateDamaged => {
                return Ok(Observation::unmet(finding.cause));
            }
            state => state?,
        };
        Ok(match (self.wanted, state) {
            (Wanted::Created | Wanted::Started, State::Running { server, .. }) => {
                Observation::satisfied(format!("it answers at {server}"))
            }
            (Wanted::Created, State::Absent) => Observation::unmet("it is not there"),
            (Wanted::Created | Wanted::Started, State::Stopped { why } | State::Unready { why })
            | (Wanted::Stopped, State::Unready { why }) => Observation::unmet(why),
            (Wanted::Stopped, State::Stopped { why }) => Observation::satisfied(why),
            (Wanted::Stopped, State::Running { server, .. }) => Observation::unmet(format!("it answers at {server}")),
            (Wanted::Deleted, State::Absent) => Observation::satisfied("it is not there"),
            (Wanted::Deleted, State::Stopped { .. } | State::Unready { .. } | State::Running { .. }) => {
                Observation::unmet("it is there")
            }
            (Wanted::Started | Wanted::Stopped, State::Absent) => {
                return Err(no_cluster(self.provider.name(), &self.name));
            }
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        match self.wanted {
            Wanted::Created => self.provider.create(&self.name, context).await,
            Wanted::Started => self.provider.start(&self.name, context).await,
            Wanted::Stopped => self.provider.stop(&self.name, context).await,
            Wanted::Deleted => self.provider.delete(&self.name, context).await,
        }
    }
}
