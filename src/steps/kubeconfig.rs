//! The context of a cluster in the user's kubeconfig.

use std::io::ErrorKind;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::config::write_private;
use crate::finding::{Finding, Id};
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
    /// Is there once the context was written.
    pub introduced: PathBuf,
    /// Whether the cluster is just being made, if it was not introduced: then the context becomes the current one.
    pub is_new: bool,
}

impl Written {
    fn is_to_be_introduced(&self) -> bool {
        self.is_new && !self.introduced.exists()
    }
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
        Ok(match (entry.is_in(&self.path)?, self.is_to_be_introduced()) {
            (true, false) if kubeconfig::is_current(&self.path, &self.context)? => {
                Observation::satisfied("it is there, and the current one")
            }
            (true, false) => Observation::satisfied("it is there"),
            (true, true) => Observation::unmet("it is not the current one yet"),
            (false, _) => Observation::unmet("it is not there, or another"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let entry = Entry::of_file(&self.source, &self.context)?;
        let new = self.is_to_be_introduced();
        // A kubeconfig that did not know it, and has nothing selected, would leave the next command without a cluster.
        let is_only = || -> Result<bool, Finding> {
            Ok(!kubeconfig::mentions(&self.path, &self.context)? && kubeconfig::selects_none(&self.path)?)
        };
        let becomes_current = new || is_only()?;
        entry.write(&self.path, becomes_current).await?;
        if becomes_current {
            context.command(format!("kubectl config use-context {}", self.context));
        }
        if new {
            write_private(&self.introduced, b"").map_err(|error| {
                let cause = format!("cannot write {}: {error}", self.introduced.display());
                Finding::new(Id::StateUnwritable, cause)
            })?;
        }
        Ok(())
    }
}

/// The user's kubeconfig should have nothing of a cluster. Others may use its names for a cluster of their own, which stays.
pub struct Removed {
    /// The files it may be in.
    pub paths: Vec<PathBuf>,
    /// Name of the context.
    pub context: String,
    /// Kubeconfig of the administrator, which tells the cluster from others. Without it, only a name that nobody else
    /// gives is believed.
    pub source: PathBuf,
    /// Whether the name is one that nobody else gives.
    pub is_unique: bool,
}

impl Removed {
    /// Those of the files that have it.
    fn found(&self) -> Result<Vec<&PathBuf>, Finding> {
        // One that says nothing is what a deletion leaves that was cut off, after this step.
        let entry = Entry::of_file(&self.source, &self.context).ok();
        let mut found = Vec::new();
        for path in &self.paths {
            let has = match &entry {
                Some(entry) => entry.is_of_its_cluster(path)?,
                None => self.is_unique && kubeconfig::mentions(path, &self.context)?,
            };
            if has {
                found.push(path);
            }
        }
        Ok(found)
    }
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
        Ok(match self.found()?.first() {
            Some(path) => Observation::unmet(format!("it is in {}", path.display())),
            None => Observation::satisfied("it is not there"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        context.command(format!("kubectl config delete-context {}", self.context));
        for path in self.found()? {
            kubeconfig::remove(path, &self.context).await.map_err(unremoved)?;
        }
        Ok(())
    }
}

/// Where the disk is full, it may be the cluster that fills it: its deletion must not wait for room.
fn unremoved(error: kubeconfig::Error) -> Finding {
    let is_full = matches!(&error, kubeconfig::Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull);
    let finding = Finding::from(error);
    if !is_full {
        return finding;
    }
    finding
        .advise("To delete the cluster all the same, name a file that is not there: --kubeconfig nowhere")
        .advise("Run the same command again when there is room, to remove the context.")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::step::alone;

    fn kubeconfig(server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: prod\nclusters:\n- name: prod\n  cluster: {{server: {server}}}\n\
             users:\n- name: prod\n  user: {{token: t}}\ncontexts:\n- name: prod\n  context: {{cluster: prod, user: prod}}\n"
        )
    }

    /// Whether something is to be removed from a kubeconfig whose `prod` is at `https://theirs`.
    async fn is_removed(own: Option<&str>, is_unique: bool) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let (path, source) = (directory.path().join("config"), directory.path().join("own"));
        fs_err::write(&path, kubeconfig("https://theirs")).unwrap();
        if let Some(server) = own {
            fs_err::write(&source, kubeconfig(server)).unwrap();
        }
        let step = Removed { paths: vec![path.clone()], context: "prod".to_owned(), source, is_unique };
        let changed = alone(step, Duration::from_secs(10)).await.unwrap().changed();
        assert_eq!(kubeconfig::mentions(&path, "prod").unwrap(), !changed);
        changed
    }

    #[tokio::test]
    async fn that_a_context_was_written_has_to_be_noted() {
        let directory = tempfile::tempdir().unwrap();
        let (source, introduced) = (directory.path().join("own"), directory.path().join("own/introduced"));
        fs_err::write(&source, kubeconfig("https://ours")).unwrap();
        let (path, context) = (directory.path().join("config"), "prod".to_owned());
        let step = Written { path, context, source, introduced: introduced.clone(), is_new: true };
        let finding = alone(step, Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(finding.id, Id::StateUnwritable);
        assert!(finding.cause.starts_with(&format!("cannot write {}: ", introduced.display())), "{finding:?}");
    }

    #[test]
    fn a_full_disk_does_not_keep_a_cluster_from_being_deleted() {
        let advice = |kind: ErrorKind| {
            unremoved(kubeconfig::Error::Io { what: "write", path: "config".into(), source: kind.into() }).advice
        };
        assert!(advice(ErrorKind::StorageFull)[0].contains("--kubeconfig nowhere"));
        assert!(advice(ErrorKind::PermissionDenied).is_empty());
    }

    #[tokio::test]
    async fn a_context_of_the_same_name_stays_where_it_is_of_another_cluster() {
        assert!(is_removed(Some("https://theirs"), false).await, "that one is its own");
        assert!(!is_removed(Some("https://ours"), false).await);
        assert!(!is_removed(Some("https://ours"), true).await);
        assert!(!is_removed(None, false).await, "nothing tells whose it is");
        assert!(is_removed(None, true).await, "nobody else calls one so");
    }
}
