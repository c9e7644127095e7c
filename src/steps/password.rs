//! The encryption password of backups, where somebody else has chosen it before: whoever installs the stack again from
//! another machine must not make the backups that are there unreadable.

use std::sync::Arc;

use a8s_operators::store::{CREDENTIALS as SECRET, PASSWORD};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::stack::{Origin, Site};
use crate::config::{WorkingDirectory, write_private};
use crate::finding::{Class, Finding};
use crate::kubernetes::Error;
use crate::step::{Context, Observation, Step};

/// The working directory should have the password that the cluster has.
pub struct Adopted {
    /// The cluster.
    pub site: Arc<Site>,
    /// Where the password is kept.
    pub directory: WorkingDirectory,
}

impl Adopted {
    async fn of_cluster(&self) -> Result<Option<Vec<u8>>, Finding> {
        let namespace = a8s_operators::SYSTEM_NAMESPACE;
        if self.site.origin(namespace) == Some(Origin::Made) {
            return Ok(None);
        }
        let api: Api<Secret> = Api::namespaced(self.site.client().await?, namespace);
        let there = api.get_opt(SECRET).await;
        let there = there.map_err(|error| Error::request(format!("get secret {namespace}/{SECRET}"), error))?;
        Ok(there.and_then(|secret| secret.data?.remove(PASSWORD)).map(|value| value.0))
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.backup_config().join(PASSWORD)
    }
}

#[async_trait]
impl Step for Adopted {
    fn id(&self) -> String {
        "encryption-password".to_owned()
    }

    fn title(&self) -> String {
        "keep the encryption password of the cluster's backups".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let Some(wanted) = self.of_cluster().await? else {
            return Ok(Observation::satisfied("the cluster has none"));
        };
        match std::fs::read(self.path()) {
            Ok(ours) if ours == wanted => Ok(Observation::satisfied("it is the cluster's")),
            Ok(_) => {
                let cause = format!(
                    "the cluster has another encryption password than {}: its backups could not be read any more",
                    self.path().display()
                );
                Err(Finding::new("other-password", Class::Refused, cause)
                    .advise("Move that file away to go on with the cluster's password."))
            }
            Err(_) => Ok(Observation::unmet("this working directory does not have it")),
        }
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        let Some(password) = self.of_cluster().await? else { return Ok(()) };
        let path = self.path();
        fs_err::create_dir_all(self.directory.backup_config())
            .and_then(|()| write_private(&path, &password))
            .map_err(|error| Finding::new("files-unwritable", Class::Failed, error.to_string()))
    }
}
