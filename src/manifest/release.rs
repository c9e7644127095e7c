//! Released documents: which version is meant, where it is fetched from, and what an archive of it must hold.

use std::fmt;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Id};

/// The version that is installed when none is named, as the Go tool's.
const DEFAULT: &str = "v1.3.0";
/// Where archives of the released documents are; `A9S_RELEASES` names a mirror.
const ARCHIVES: &str = "https://codeload.github.com/anynines/a8s-deployment/tar.gz";
/// Below a release's directory: what is applied.
pub const MANIFESTS: &str = "deploy/a8s/manifests";
/// Below a release's directory: the kustomization of what is generated here.
pub const BACKUP_CONFIG: &str = "deploy/a8s/backup-config";
/// An archive of documents that is larger is none.
const LARGEST: u64 = 64 << 20;

/// Which released documents are meant. As a document: its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Version {
    /// A git tag.
    Tag(String),
    /// The newest there is.
    Latest,
    /// A directory of this machine, used as it is.
    Directory(PathBuf),
}

impl FromStr for Version {
    type Err = String;

    /// What has a slash or begins with a dot is a directory; a tag has neither.
    fn from_str(text: &str) -> Result<Self, String> {
        let tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        match text {
            "" => Err("a git tag, `latest` or a directory is expected".to_owned()),
            "latest" => Ok(Self::Latest),
            path if path.contains('/') || path.starts_with('.') => Ok(Self::Directory(PathBuf::from(path))),
            name if name.chars().all(tag) => Ok(Self::Tag(name.to_owned())),
            other => Err(format!("{other:?} is neither a git tag nor `latest` nor a directory")),
        }
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::Tag(DEFAULT.to_owned())
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(name) => f.write_str(name),
            Self::Latest => f.write_str("latest"),
            Self::Directory(path) => path.display().fmt(f),
        }
    }
}

impl Version {
    /// Where its archive is; a directory has none.
    pub fn url(&self) -> Option<String> {
        let base = crate::caller::given("A9S_RELEASES").and_then(|base| base.into_string().ok());
        let base = base.as_deref().unwrap_or(ARCHIVES).trim_end_matches('/');
        match self {
            Self::Tag(name) => Some(format!("{base}/refs/tags/{name}")),
            Self::Latest => Some(format!("{base}/HEAD")),
            Self::Directory(_) => None,
        }
    }
}

/// Unpacks an archive without its first directory. Only plain files and directories are taken, and nothing is written
/// outside of `into`.
///
/// # Errors
/// It is no such archive, or can't be written.
pub fn unpack(archive: &[u8], into: &Path) -> Result<(), Finding> {
    let damaged = |why: String| Finding::new(Id::ReleaseDamaged, format!("the archive is damaged: {why}"));
    let mut entries = tar::Archive::new(GzDecoder::new(archive).take(LARGEST));
    for entry in entries.entries().map_err(|error| damaged(error.to_string()))? {
        let mut entry = entry.map_err(|error| damaged(error.to_string()))?;
        let path = entry.path().map_err(|error| damaged(error.to_string()))?.into_owned();
        let inner: PathBuf = path.components().skip(1).collect();
        if !inner.components().all(|component| matches!(component, Component::Normal(_))) {
            return Err(damaged(format!("it names {}", path.display())));
        }
        if !entry.header().entry_type().is_file() || inner.as_os_str().is_empty() {
            continue;
        }
        let target = into.join(&inner);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|error| damaged(error.to_string()))?;
        let written = target.parent().map_or(Ok(()), fs_err::create_dir_all);
        written
            .and_then(|()| fs_err::write(&target, content))
            .map_err(|error| Finding::new(Id::WorkingDirectory, error.to_string()))?;
    }
    complete(into)
}

/// Whether a directory has what is needed of a release.
///
/// # Errors
/// It has not.
pub fn complete(directory: &Path) -> Result<(), Finding> {
    if directory.join(MANIFESTS).is_dir() {
        return Ok(());
    }
    let cause = format!("{} does not hold the released documents: it has no {MANIFESTS}", directory.display());
    Err(Finding::new(Id::ManifestsMissing, cause)
        .advise("Name a tag of github.com/anynines/a8s-deployment, or a directory with its files."))
}

#[cfg(test)]
pub(crate) mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("v1.2.0", Some(Version::Tag("v1.2.0".to_owned())))]
    #[case("latest", Some(Version::Latest))]
    #[case("./x", Some(Version::Directory("./x".into())))]
    #[case("/x/y", Some(Version::Directory("/x/y".into())))]
    #[case("", None)]
    #[case("v1 2", None)]
    fn a_version_is_a_tag_latest_or_a_directory(#[case] text: &str, #[case] version: Option<Version>) {
        assert_eq!(text.parse().ok(), version);
    }

    /// An archive with these files below a first directory.
    pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut archive = tar::Builder::new(encoder);
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            // Written past the library's own checks: it would not make a path that leaves the directory.
            let name = format!("a8s-deployment-1.2.0/{path}");
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn an_archive_is_unpacked_without_its_first_directory() {
        let directory = tempfile::tempdir().unwrap();
        let files = [("deploy/a8s/manifests/kustomization.yaml", "resources: []\n"), ("README.md", "text")];
        unpack(&archive(&files), directory.path()).unwrap();
        assert_eq!(fs_err::read_to_string(directory.path().join("README.md")).unwrap(), "text");
        assert!(directory.path().join(MANIFESTS).join("kustomization.yaml").is_file());
    }

    #[rstest]
    #[case(archive(&[("../../evil", "x")]), "evil")]
    #[case(archive(&[("README.md", "x")]), "deploy/a8s/manifests")]
    #[case(b"<html>not found</html>".to_vec(), "damaged")]
    fn what_is_no_release_is_refused(#[case] archive: Vec<u8>, #[case] word: &str) {
        let directory = tempfile::tempdir().unwrap();
        let into = directory.path().join("a/b");
        let cause = unpack(&archive, &into).unwrap_err().cause;
        assert!(cause.contains(word), "{cause}");
        assert!(!directory.path().join("evil").exists());
    }
}
