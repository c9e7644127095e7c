//! The context of a cluster in the user's kubeconfig.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::config::write_private;
use crate::finding::{Class, Finding};
use crate::kubernetes::kubeconfig::{self, Entry};
use crate::step::{Context, Observation, Step};

/// The user's kubeconfig should have a context of a cluster.
pub struct Written {
    /// The user's file.
    pub path: PathBuf,
    /// Name of the context.
    pub context: String,
    /// Kubeconfig of the administrator, made by the provider.
    pub source: PathBuf,
    /// Is there once the context was written. Only before that does it become the current one.
    pub introduced: PathBuf,
    /// Whether it may become the current one: only that of a cluster that is just being made does.
    pub may_become_current: bool,
}

#[async_trait]
impl Step for Written {
    fn id(&self) -> String {
        "kubeconfig".to_owned()
    }

    fn title(&self) -> String {
        format!("write the context {} to {}", self.context, self.path.display())
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let entry = Entry::of_file(&self.source, &self.context)?;
        Ok(match (entry.is_in(&self.path)?, !self.may_become_current || self.introduced.exists()) {
            (true, true) if kubeconfig::is_current(&self.path, &self.context)? => {
                Observation::satisfied("it is there, and the current one")
            }
            (true, true) => Observation::satisfied("it is there"),
            (true, false) => Observation::unmet("it is not the current one yet"),
            (false, _) => Observation::unmet("it is not there, or another"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let entry = Entry::of_file(&self.source, &self.context)?;
        let new = self.may_become_current && !self.introduced.exists();
        entry.write(&self.path, new)?;
        if new {
            context.command(format!("kubectl config use-context {}", self.context));
            write_private(&self.introduced, b"").map_err(|error| {
                let cause = format!("cannot write {}: {error}", self.introduced.display());
                Finding::new("state-unwritable", Class::Failed, cause)
            })?;
        }
        Ok(())
    }
}

/// The user's kubeconfig should have nothing of a cluster.
pub struct Removed {
    /// The files it may be in.
    pub paths: Vec<PathBuf>,
    /// Name of the context.
    pub context: String,
}

#[async_trait]
impl Step for Removed {
    fn id(&self) -> String {
        "kubeconfig".to_owned()
    }

    fn title(&self) -> String {
        format!("remove the context {} from the kubeconfig", self.context)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        for path in &self.paths {
            if kubeconfig::mentions(path, &self.context)? {
                return Ok(Observation::unmet(format!("it is in {}", path.display())));
            }
        }
        Ok(Observation::satisfied("it is not there"))
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        context.command(format!("kubectl config delete-context {}", self.context));
        for path in &self.paths {
            if kubeconfig::mentions(path, &self.context)? {
                kubeconfig::remove(path, &self.context)?;
            }
        }
        Ok(())
    }
}
