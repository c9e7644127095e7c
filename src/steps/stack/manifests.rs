//! The stack as files, for those who install it by other means: reviewed, committed, applied by somebody else.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::Source;
use super::objects::rank;
use crate::finding::{Finding, Id};
use crate::step::{Context, Observation, Step};
use crate::steps::written;
use crate::yaml;

/// The manifests of a stack should be in files, one for each part, and no others of ours beside them.
pub struct Manifests {
    /// Where they are.
    pub directory: PathBuf,
    /// The parts, in the order in which they are to be applied.
    pub parts: Vec<(&'static str, Arc<Source>)>,
}

/// Every part that a stack can have: files of those that it does not have (any more) are removed.
const PARTS: [&str; 3] = ["cert-manager", "object-store", "stack"];

impl Manifests {
    /// Path and content of every file; the names sort as the parts are to be applied.
    async fn files(&self) -> Result<Vec<(PathBuf, String)>, Finding> {
        let mut files = Vec::new();
        for (part, source) in &self.parts {
            let mut objects = source.objects().await?.to_vec();
            objects.sort_by_key(rank);
            let documents: Result<Vec<String>, yaml::Error> = objects.iter().map(yaml::write).collect();
            let documents = documents.map_err(|error| Finding::new(Id::Internal, error.to_string()))?;
            files.push((self.path(part), documents.join("---\n")));
        }
        Ok(files)
    }

    fn path(&self, part: &str) -> PathBuf {
        let number = PARTS.iter().position(|known| *known == part).map_or(PARTS.len(), |index| index + 1);
        self.directory.join(format!("{number}-{part}.yaml"))
    }

    /// The files of parts that this stack does not have.
    fn stale(&self) -> impl Iterator<Item = PathBuf> {
        let others = PARTS.iter().filter(|known| !self.parts.iter().any(|(part, _)| part == *known));
        others.map(|part| self.path(part)).filter(|path| path.exists())
    }

    /// Where the files are, in the order in which they are to be applied.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|(part, _)| self.path(part)).collect()
    }
}

#[async_trait]
impl Step for Manifests {
    fn id(&self) -> String {
        "manifests".to_owned()
    }

    fn title(&self) -> String {
        format!("write the manifests of the stack to {}", self.directory.display())
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if let Some(path) = self.stale().next() {
            return Ok(Observation::unmet(format!("{} is of another stack", path.display())));
        }
        for (path, document) in self.files().await? {
            if let unmet @ Observation::Unmet(_) = written::observe(&path, &document) {
                return Ok(unmet);
            }
        }
        Ok(Observation::satisfied(format!("they are at {}", self.directory.display())))
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        for path in self.stale() {
            let removed = fs_err::remove_file(&path);
            removed.map_err(|error| Finding::new(Id::WorkingDirectory, error.to_string()))?;
        }
        for (path, document) in self.files().await? {
            written::write(&path, &document)?;
        }
        Ok(())
    }
}
