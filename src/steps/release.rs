//! Released documents, kept in the working directory with their checksum and not fetched again. Only what is called
//! `latest` is looked for anew each time; without a network, what was fetched before is used.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::config::WorkingDirectory;
use crate::finding::{Class, Finding};
use crate::manifest::fetch::Fetcher;
use crate::manifest::release::{self, Version};
use crate::step::{Context, Observation, Step};

/// cert-manager, as the released documents name it.
pub const CERT_MANAGER: &str = "v1.12.0";
const CERT_MANAGER_URL: &str = "https://github.com/cert-manager/cert-manager/releases/download";

/// Something that is fetched once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The a8s manifests of a version, a directory.
    Manifests(Version),
    /// One document at a URL, or a file of this machine.
    Document {
        /// Name of the kept file.
        name: String,
        /// Where it is.
        from: String,
    },
}

impl Wanted {
    /// cert-manager in a version, or in a file of this machine.
    pub fn cert_manager(version: &str) -> Self {
        let is_file = version.contains('/') || version.starts_with('.');
        let from = if is_file { version.to_owned() } else { format!("{CERT_MANAGER_URL}/{version}/cert-manager.yaml") };
        Self::Document { name: format!("cert-manager-{version}.yaml"), from }
    }

    /// What is on this machine already, and used as it is.
    fn local(&self) -> Option<PathBuf> {
        match self {
            Self::Manifests(Version::Directory(path)) => Some(path.clone()),
            Self::Document { from, .. } if !from.contains("://") => Some(PathBuf::from(from)),
            _ => None,
        }
    }

    /// Where it is once it is here.
    pub fn path(&self, directory: &WorkingDirectory) -> PathBuf {
        let kept = || match self {
            Self::Manifests(version) => directory.releases().join(format!("a8s-deployment-{version}")),
            Self::Document { name, .. } => directory.releases().join(name),
        };
        self.local().unwrap_or_else(kept)
    }

    fn url(&self) -> Option<String> {
        match self {
            Self::Manifests(version) => version.url(),
            Self::Document { from, .. } => Some(from.clone()),
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Manifests(version) => format!("the a8s manifests {version}"),
            Self::Document { name, .. } => name.clone(),
        }
    }
}

/// Released documents should be here.
pub struct Fetched {
    /// Where they are kept.
    pub directory: WorkingDirectory,
    /// Which.
    pub wanted: Wanted,
    looked: AtomicBool,
}

impl Fetched {
    /// The step.
    pub fn new(directory: WorkingDirectory, wanted: Wanted) -> Self {
        Self { directory, wanted, looked: AtomicBool::new(false) }
    }

    /// Says that what is kept is complete, and what it was made of.
    fn checksum(&self) -> PathBuf {
        let mut name = self.wanted.path(&self.directory).into_os_string();
        name.push(".sha256");
        PathBuf::from(name)
    }

    fn kept(&self) -> Option<String> {
        let path = self.wanted.path(&self.directory);
        std::fs::read_to_string(self.checksum()).ok().filter(|_| path.exists()).map(|text| text.trim().to_owned())
    }

    async fn fetch(&self, context: &Context) -> Result<(), Finding> {
        let Some(url) = self.wanted.url() else { return Ok(()) };
        context.progress(format!("fetching {url}"));
        let body = Fetcher::new()?.get(&url).await.map_err(|finding| match finding.id {
            "fetch-not-found" => finding.advise("Is there such a version? Name another with --deployment-version."),
            _ => finding.advise("Name a directory with the documents: --deployment-version DIRECTORY"),
        })?;
        let sum: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        if self.kept().as_deref() != Some(&sum) {
            self.keep(&body, &sum)?;
        }
        context.note(format!("{} has the checksum sha256:{sum}", self.wanted.what()));
        Ok(())
    }

    /// Puts it in place: complete, or not at all.
    fn keep(&self, body: &[u8], sum: &str) -> Result<(), Finding> {
        let failed = |error: std::io::Error| Finding::new("files-unwritable", Class::Failed, error.to_string());
        let path = self.wanted.path(&self.directory);
        let mut name = path.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        fs_err::create_dir_all(self.directory.releases()).map_err(failed)?;
        remove(&self.checksum()).and_then(|()| remove(&new)).map_err(failed)?;
        match &self.wanted {
            Wanted::Manifests(_) => release::unpack(body, &new)?,
            Wanted::Document { .. } => fs_err::write(&new, body).map_err(failed)?,
        }
        remove(&path).and_then(|()| fs_err::rename(&new, &path)).map_err(failed)?;
        fs_err::write(self.checksum(), format!("{sum}\n")).map_err(failed)
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    let removed = if path.is_dir() { fs_err::remove_dir_all(path) } else { fs_err::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[async_trait]
impl Step for Fetched {
    fn id(&self) -> String {
        match &self.wanted {
            Wanted::Manifests(_) => "release".to_owned(),
            Wanted::Document { .. } => "cert-manager-document".to_owned(),
        }
    }

    fn title(&self) -> String {
        format!("have {}", self.wanted.what())
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if let Some(path) = self.wanted.local() {
            match &self.wanted {
                Wanted::Manifests(_) => release::complete(&path)?,
                Wanted::Document { .. } if path.is_file() => {}
                Wanted::Document { .. } => {
                    let cause = format!("there is no file {}", path.display());
                    return Err(Finding::new("manifests-missing", Class::Missing, cause));
                }
            }
            return Ok(Observation::satisfied(format!("{} is used", path.display())));
        }
        let is_moving = self.wanted == Wanted::Manifests(Version::Latest);
        Ok(match self.kept() {
            None => Observation::unmet("it is not here"),
            Some(_) if is_moving && !self.looked.load(Ordering::SeqCst) => {
                Observation::unmet("whether it is still the latest is not known")
            }
            Some(sum) => Observation::satisfied(format!("it is here, sha256:{sum}")),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let fetched = self.fetch(context).await;
        self.looked.store(true, Ordering::SeqCst);
        match fetched {
            Err(finding) if self.kept().is_some() => {
                context.warn(format!("{}; what was fetched before is used", finding.cause));
                Ok(())
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::manifest::fetch::tests::{answer, server};
    use crate::step::{Cancel, Plan, Runner, Silent};

    async fn run(directory: &WorkingDirectory, wanted: &Wanted) -> Result<bool, Finding> {
        let mut plan = Plan::new("test");
        plan.add(Fetched::new(directory.clone(), wanted.clone()));
        let runner = Runner::new(Arc::new(Silent), Cancel::new(), Duration::from_secs(10));
        runner.run(&plan).await.map(|outcome| outcome.changed())
    }

    #[tokio::test]
    async fn a_document_is_fetched_once_and_kept_with_its_checksum() {
        let home = tempfile::tempdir().unwrap();
        let directory = WorkingDirectory(home.path().join("a9s"));
        let (url, asked) = server(vec![answer("200 OK", "", b"kind: List\n")]).await;
        let wanted = Wanted::Document { name: "c.yaml".to_owned(), from: format!("{url}/c.yaml") };
        assert!(run(&directory, &wanted).await.unwrap());
        asked.await.unwrap();
        // The server has ended: whoever asked again would fail.
        assert!(!run(&directory, &wanted).await.unwrap());
        assert_eq!(fs_err::read(wanted.path(&directory)).unwrap(), b"kind: List\n");
        let sum = fs_err::read_to_string(directory.releases().join("c.yaml.sha256")).unwrap();
        assert_eq!(sum.trim().len(), 64);
    }

    #[tokio::test]
    async fn what_was_cut_off_is_fetched_again() {
        let home = tempfile::tempdir().unwrap();
        let directory = WorkingDirectory(home.path().join("a9s"));
        fs_err::create_dir_all(directory.releases()).unwrap();
        let (url, _asked) = server(vec![answer("200 OK", "", b"whole")]).await;
        let wanted = Wanted::Document { name: "c.yaml".to_owned(), from: url };
        fs_err::write(wanted.path(&directory), "ha").unwrap();
        assert!(run(&directory, &wanted).await.unwrap());
        assert_eq!(fs_err::read(wanted.path(&directory)).unwrap(), b"whole");
    }

    #[tokio::test]
    async fn a_local_directory_is_used_as_it_is_and_must_be_one() {
        let home = tempfile::tempdir().unwrap();
        let directory = WorkingDirectory(home.path().join("a9s"));
        let wanted = Wanted::Manifests(Version::Directory(home.path().to_owned()));
        assert_eq!(run(&directory, &wanted).await.unwrap_err().id, "manifests-missing");
        fs_err::create_dir_all(home.path().join(release::MANIFESTS)).unwrap();
        assert!(!run(&directory, &wanted).await.unwrap());
        assert_eq!(wanted.path(&directory), home.path());
    }
}
