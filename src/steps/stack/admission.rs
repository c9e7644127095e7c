//! Admission: whether whoever should review objects answers. A Deployment that is available is no proof of it: a
//! certificate may still be on its way. So an object is tried, as a dry run.

use std::sync::Arc;

use async_trait::async_trait;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client, ResourceExt};

use super::super::pauses::Pauses;
use super::{Installing, Probe};
use crate::finding::Finding;
use crate::kubernetes::Error;
use crate::step::{Context, Observation, Step};

/// Admission should answer. Right after the part was applied, an object is tried.
pub struct Admission {
    /// The part.
    pub part: Arc<Installing>,
    /// The object that must be admitted.
    pub probe: Probe,
}

impl Admission {
    /// Has the object admitted. An object of that name that is there has passed admission before.
    async fn admitted(&self, client: Client) -> Result<(), Error> {
        let object = &self.probe.object;
        let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
        let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &self.probe.resource);
        match api.create(&PostParams { dry_run: true, field_manager: None }, object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            answer => {
                answer.map(drop).map_err(|error| Error::request(format!("have {} admitted", object.name_any()), error))
            }
        }
    }
}

#[async_trait]
impl Step for Admission {
    fn id(&self) -> String {
        format!("{}-admission", self.part.id)
    }

    fn title(&self) -> String {
        format!("wait for {} to become ready", self.part.title)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if self.part.is_fresh() {
            return Ok(Observation::unmet("admission was not tried yet"));
        }
        match self.admitted(self.part.site.client().await?).await {
            Ok(()) => Ok(Observation::satisfied("it is ready")),
            Err(error) if error.is_admission_away() => Ok(Observation::unmet(error.reason())),
            Err(error) => Err(error.into()),
        }
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let client = self.part.site.client().await?;
        let mut pauses = Pauses::begin();
        loop {
            match self.admitted(client.clone()).await {
                Err(error) if error.is_admission_away() => pauses.after(&error, context).await,
                admitted => return Ok(admitted?),
            }
        }
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied("it is ready"))
    }
}
