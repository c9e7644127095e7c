//! Images of this machine on the nodes of a cluster.

use std::sync::Arc;

use async_trait::async_trait;

use super::stack::Source;
use crate::finding::Finding;
use crate::manifest::images;
use crate::provider::{ClusterName, Provider};
use crate::step::{Context, Observation, Step};

/// The images of the builtin stack should have been built. Nothing is done if they have not: that is the finding.
pub struct Built {
    /// Who brings them to the nodes.
    pub provider: Arc<dyn Provider>,
    /// The cluster.
    pub cluster: ClusterName,
}

#[async_trait]
impl Step for Built {
    fn id(&self) -> String {
        "images-built".to_owned()
    }

    fn title(&self) -> String {
        "look for the images of the builtin stack".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        self.provider.builtin_stack(&self.cluster).await?;
        Ok(Observation::satisfied("they are there"))
    }
}

/// The nodes should have the images that a source names.
pub struct Loaded {
    /// Who can bring them there.
    pub provider: Arc<dyn Provider>,
    /// The cluster.
    pub cluster: ClusterName,
    /// What names them.
    pub sources: Vec<Arc<Source>>,
}

impl Loaded {
    async fn images(&self) -> Result<Vec<String>, Finding> {
        let mut values = Vec::new();
        for source in &self.sources {
            values.extend(source.objects().await?.iter().filter_map(|object| serde_json::to_value(object).ok()));
        }
        Ok(images::of_objects(&values))
    }
}

#[async_trait]
impl Step for Loaded {
    fn id(&self) -> String {
        "images".to_owned()
    }

    fn title(&self) -> String {
        format!("load images into the nodes of {}", self.cluster)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let images = self.images().await?;
        Ok(match self.provider.loaded(&self.cluster, &images).await? {
            true => Observation::satisfied(format!("all {} images are there", images.len())),
            false => Observation::unmet("not all of them are there"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        self.provider.load(&self.cluster, &self.images().await?, context).await
    }

    /// What has loaded them has said so. Nodes may know an image by another digest than Docker does.
    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied("they were loaded"))
    }
}
