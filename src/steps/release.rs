//! Released documents, kept in the working directory with their checksums and not fetched again, unless they are not what
//! was fetched any more. Only what is called `latest` is looked for anew each time; without a network, what was fetched
//! before is used.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::caller;
use crate::config::{PATIENCE, WorkingDirectory, gone_is_fine, turn};
use crate::finding::{Finding, Id};
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
    /// cert-manager in a version, in a file of this machine, or at a URL.
    pub fn cert_manager(version: &str) -> Self {
        let url = || format!("{CERT_MANAGER_URL}/{version}/cert-manager.yaml");
        let from = if is_file(version) || is_url(version) { version.to_owned() } else { url() };
        Self::Document { name: format!("cert-manager-{}.yaml", version.replace(['/', ':'], "-")), from }
    }

    /// What is on this machine already, and used as it is.
    fn local(&self) -> Option<PathBuf> {
        match self {
            Self::Manifests(Version::Directory(path)) => Some(caller::path(path)),
            Self::Document { from, .. } if !is_url(from) => Some(caller::path(Path::new(from))),
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

    /// What to do where it can't be fetched.
    const fn instead(&self, id: Id) -> &'static str {
        match (self, id) {
            (Self::Manifests(_), Id::FetchNotFound) => {
                "Is there such a version? Name another with --deployment-version."
            }
            (Self::Manifests(_), _) => "Name a directory with the documents: --deployment-version DIRECTORY",
            (Self::Document { .. }, Id::FetchNotFound) => "Is there such a version? Name another with --cert-manager.",
            (Self::Document { .. }, _) => "Name a file with the document: --cert-manager ./FILE",
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Manifests(version) => format!("the a8s manifests {version}"),
            Self::Document { name, .. } => name.clone(),
        }
    }
}

/// Whether a version of cert-manager is a file of this machine.
pub fn is_file(version: &str) -> bool {
    !is_url(version) && (version.contains('/') || version.starts_with('.'))
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// Released documents should be here.
pub struct Fetched {
    directory: WorkingDirectory,
    wanted: Box<dyn Fn() -> Wanted + Send + Sync>,
    looked: AtomicBool,
}

impl Fetched {
    /// The step for what is known already.
    pub fn new(directory: WorkingDirectory, wanted: Wanted) -> Self {
        Self::later(directory, move || wanted.clone())
    }

    /// The step for what is known when it runs.
    pub fn later(directory: WorkingDirectory, wanted: impl Fn() -> Wanted + Send + Sync + 'static) -> Self {
        Self { directory, wanted: Box::new(wanted), looked: AtomicBool::new(false) }
    }

    /// Where they are once they are here.
    fn path(&self) -> PathBuf {
        (self.wanted)().path(&self.directory)
    }

    /// Says that what is kept is complete, and what it was. `sha256sum -c` beside it understands it.
    fn checksums(&self) -> PathBuf {
        let mut name = self.path().into_os_string();
        name.push(".sha256");
        PathBuf::from(name)
    }

    fn kept(&self) -> Kept {
        let Ok(noted) = std::fs::read_to_string(self.checksums()) else { return Kept::Nothing };
        match self.checksums_of(&self.path()) {
            Ok(there) if there == noted => Kept::Whole,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::Nothing,
            _ => Kept::Other,
        }
    }

    /// The checksum of every file of a release at `path`, each on a line with the path where it is kept.
    fn checksums_of(&self, path: &Path) -> std::io::Result<String> {
        let kept = self.path();
        let mut files = Vec::new();
        collect(path, Path::new(kept.file_name().unwrap_or_default()), &mut files)?;
        files.sort();
        let line = |(name, file): &(PathBuf, PathBuf)| {
            fs_err::read(file).map(|bytes| format!("{}  {}\n", sum(&bytes), name.display()))
        };
        files.iter().map(line).collect()
    }

    async fn fetch(&self, context: &Context) -> Result<(), Finding> {
        let wanted = (self.wanted)();
        let Some(url) = wanted.url() else { return Ok(()) };
        context.progress(format!("fetching {url}"));
        let body = Fetcher::new()?.get(&url).await.map_err(|finding| {
            let instead = wanted.instead(finding.id);
            finding.advise(instead)
        })?;
        self.keep(&body).await?;
        context.note(format!("{} has the checksum sha256:{}", wanted.what(), sum(&body)));
        Ok(())
    }

    /// Puts it in place: complete, or not at all.
    async fn keep(&self, body: &[u8]) -> Result<(), Finding> {
        let failed = |error: std::io::Error| Finding::new(Id::WorkingDirectory, error.to_string());
        let path = self.path();
        let mut name = path.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        fs_err::create_dir_all(self.directory.releases()).map_err(failed)?;
        // In turns: another run may put the same in place.
        let _turn = turn(&self.directory.releases(), PATIENCE).await.map_err(failed)?;
        remove(&new).map_err(failed)?;
        match (self.wanted)() {
            Wanted::Manifests(_) => release::unpack(body, &new)?,
            Wanted::Document { .. } => fs_err::write(&new, body).map_err(failed)?,
        }
        let sums = self.checksums_of(&new).map_err(failed)?;
        if self.kept() == Kept::Whole && std::fs::read_to_string(self.checksums()).is_ok_and(|noted| noted == sums) {
            return remove(&new).map_err(failed);
        }
        remove(&self.checksums()).and_then(|()| remove(&path)).map_err(failed)?;
        fs_err::rename(&new, &path).and_then(|()| fs_err::write(self.checksums(), sums)).map_err(failed)
    }
}

/// What is kept of a release.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// Something else than what was fetched.
    Other,
    Whole,
}

/// The files below a path, each with its path below `name`.
fn collect(path: &Path, name: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> std::io::Result<()> {
    if !fs_err::metadata(path)?.is_dir() {
        files.push((name.to_owned(), path.to_owned()));
        return Ok(());
    }
    for entry in fs_err::read_dir(path)? {
        let entry = entry?.file_name();
        collect(&path.join(&entry), &name.join(&entry), files)?;
    }
    Ok(())
}

fn sum(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

fn remove(path: &Path) -> std::io::Result<()> {
    gone_is_fine(if path.is_dir() { fs_err::remove_dir_all(path) } else { fs_err::remove_file(path) })
}

#[async_trait]
impl Step for Fetched {
    fn id(&self) -> String {
        match (self.wanted)() {
            Wanted::Manifests(_) => "release".to_owned(),
            Wanted::Document { .. } => "cert-manager-document".to_owned(),
        }
    }

    fn title(&self) -> String {
        format!("have {}", (self.wanted)().what())
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let wanted = (self.wanted)();
        if let Some(path) = wanted.local() {
            let missing = |finding: Finding, flag: &str| {
                finding.advise(format!(
                    "Name another with {flag}; without it, a stack that is there keeps what it was installed from."
                ))
            };
            match wanted {
                Wanted::Manifests(_) => {
                    release::complete(&path).map_err(|finding| missing(finding, "--deployment-version"))?;
                }
                Wanted::Document { .. } if path.is_file() => {}
                Wanted::Document { .. } => {
                    let cause = format!("there is no file {}", path.display());
                    return Err(missing(Finding::new(Id::ManifestsMissing, cause), "--cert-manager"));
                }
            }
            return Ok(Observation::satisfied(format!("{} is used", path.display())));
        }
        let is_moving = wanted == Wanted::Manifests(Version::Latest);
        Ok(match self.kept() {
            Kept::Nothing => Observation::unmet("it is not here"),
            Kept::Other => Observation::unmet("what is here is not what was fetched"),
            Kept::Whole if is_moving && !self.looked.load(Ordering::SeqCst) => {
                Observation::unmet("whether it is still the latest is not known")
            }
            Kept::Whole => Observation::satisfied("it is here, as it was fetched"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let fetched = self.fetch(context).await;
        self.looked.store(true, Ordering::SeqCst);
        match fetched {
            Err(finding) if self.kept() == Kept::Whole => {
                context.warn(format!("{}; what was fetched before is used", finding.cause));
                Ok(())
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::manifest::fetch::tests::{answer, server};
    use crate::step::alone;

    async fn run(directory: &WorkingDirectory, wanted: &Wanted) -> Result<bool, Finding> {
        let step = Fetched::new(directory.clone(), wanted.clone());
        alone(step, Duration::from_secs(10)).await.map(|outcome| outcome.changed())
    }

    #[test]
    fn cert_manager_is_a_version_a_file_or_at_a_url() {
        let directory = WorkingDirectory("/a9s".into());
        for (said, from, path) in [
            (
                "v1",
                "https://github.com/cert-manager/cert-manager/releases/download/v1/cert-manager.yaml",
                "cert-manager-v1.yaml",
            ),
            ("https://x.test/c", "https://x.test/c", "cert-manager-https---x.test-c.yaml"),
        ] {
            let wanted = Wanted::cert_manager(said);
            assert_eq!(wanted.url().as_deref(), Some(from));
            assert_eq!(wanted.path(&directory), directory.releases().join(path));
        }
        assert_eq!(Wanted::cert_manager("/c.yaml").path(&directory), Path::new("/c.yaml"));
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
        let sums = fs_err::read_to_string(directory.releases().join("c.yaml.sha256")).unwrap();
        assert_eq!(sums, format!("{}  c.yaml\n", sum(b"kind: List\n")));
    }

    #[tokio::test]
    async fn what_is_not_what_was_fetched_any_more_is_fetched_again() {
        let home = tempfile::tempdir().unwrap();
        let directory = WorkingDirectory(home.path().join("a9s"));
        let whole = || answer("200 OK", "", b"kind: List\n");
        let (url, _asked) = server(vec![whole(), whole()]).await;
        let wanted = Wanted::Document { name: "c.yaml".to_owned(), from: format!("{url}/c.yaml") };
        assert!(run(&directory, &wanted).await.unwrap());
        fs_err::write(wanted.path(&directory), "kind: Other\n").unwrap();
        assert!(run(&directory, &wanted).await.unwrap());
        assert_eq!(fs_err::read(wanted.path(&directory)).unwrap(), b"kind: List\n");
        // Without the server there is nothing to go on with.
        fs_err::write(wanted.path(&directory), "kind: Other\n").unwrap();
        run(&directory, &wanted).await.unwrap_err();
    }

    #[tokio::test]
    async fn who_asks_for_what_is_not_there_is_told_the_flag_that_names_another() {
        let home = tempfile::tempdir().unwrap();
        let (url, _asked) = server(vec![answer("404 Not Found", "", b"")]).await;
        let wanted = Wanted::Document { name: "c.yaml".to_owned(), from: url };
        let finding = run(&WorkingDirectory(home.path().join("a9s")), &wanted).await.unwrap_err();
        assert_eq!(finding.id, Id::FetchNotFound);
        assert_eq!(finding.advice, ["Is there such a version? Name another with --cert-manager."]);
        let manifests = Wanted::Manifests(Version::Tag("v1".to_owned()));
        for (id, advice) in [
            (Id::FetchNotFound, "Is there such a version? Name another with --deployment-version."),
            (Id::FetchFailed, "Name a directory with the documents: --deployment-version DIRECTORY"),
        ] {
            assert_eq!(manifests.instead(id), advice);
        }
    }

    #[tokio::test]
    async fn what_is_still_the_same_is_not_replaced() {
        use std::os::unix::fs::MetadataExt;
        let home = tempfile::tempdir().unwrap();
        let wanted = Wanted::Document { name: "c.yaml".to_owned(), from: "https://tool.test".to_owned() };
        let step = Fetched::new(WorkingDirectory(home.path().join("a9s")), wanted);
        let kept = async |body: &[u8]| {
            step.keep(body).await.unwrap();
            fs_err::metadata(step.path()).unwrap().ino()
        };
        let first = kept(b"kind: List\n").await;
        assert_eq!(kept(b"kind: List\n").await, first);
        assert_ne!(kept(b"kind: Other\n").await, first);
        assert_eq!(step.kept(), Kept::Whole);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_several_fetch_at_once_is_put_in_place_once() {
        let home = tempfile::tempdir().unwrap();
        let wanted = Wanted::Document { name: "c.yaml".to_owned(), from: "https://tool.test".to_owned() };
        let step = || Fetched::new(WorkingDirectory(home.path().join("a9s")), wanted.clone());
        let several: Vec<_> = (0..8)
            .map(|_| {
                let step = step();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        step.keep(b"kind: List\n").await.unwrap();
                    }
                })
            })
            .collect();
        for one in several {
            one.await.unwrap();
        }
        assert_eq!(step().kept(), Kept::Whole);
    }

    #[test]
    fn every_file_of_a_release_has_its_checksum() {
        let home = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(home.path().join("b/c")).unwrap();
        for name in ["b/c/x", "a"] {
            fs_err::write(home.path().join(name), name).unwrap();
        }
        let wanted = Wanted::Manifests(Version::Tag("v1".to_owned()));
        let step = Fetched::new(WorkingDirectory(home.path().join("a9s")), wanted);
        let sums = step.checksums_of(home.path()).unwrap();
        let paths: Vec<&str> = sums.lines().map(|line| &line[66..]).collect();
        assert_eq!(paths, ["a8s-deployment-v1/a", "a8s-deployment-v1/b/c/x"]);
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
        let finding = run(&directory, &wanted).await.unwrap_err();
        assert_eq!(finding.id, Id::ManifestsMissing);
        assert!(finding.advice.iter().any(|advice| advice.contains("--deployment-version")), "{:?}", finding.advice);
        fs_err::create_dir_all(home.path().join(release::MANIFESTS)).unwrap();
        assert!(!run(&directory, &wanted).await.unwrap());
        assert_eq!(wanted.path(&directory), home.path());
    }
}
