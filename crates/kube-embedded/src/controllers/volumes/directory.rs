//! The directories of volumes: each a child of one directory, made for and removed with its volume. Nothing else is
//! ever touched: names that could lead elsewhere are refused, links are not followed.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::chown;

use crate::controllers::Error;
use crate::removal::remove_tree;

/// Where the volumes are, and whose they are.
#[derive(Debug, Clone)]
pub struct Directories {
    root: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Directories {
    pub fn new(root: PathBuf, owner: Option<(u32, u32)>) -> Self {
        Self { root, owner }
    }

    /// The directory of a volume; `None` for a name that can't be one.
    pub fn path(&self, volume: &str) -> Option<PathBuf> {
        let fine = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || ".-".contains(letter);
        let safe = !volume.is_empty() && !volume.starts_with('.') && volume.len() < 254 && volume.chars().all(fine);
        safe.then(|| self.root.join(volume))
    }

    /// Makes a volume's directory, or finds it there.
    pub async fn make(&self, volume: &str) -> Result<(), Error> {
        let this = self.clone();
        self.blocking(volume, move |path| this.make_now(path)).await
    }

    /// Removes a volume's directory and everything in it. One that is not there is removed already.
    pub async fn remove(&self, volume: &str) -> Result<(), Error> {
        self.blocking(volume, |path| match fs_err::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => remove_tree(path),
            Ok(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
        .await
    }

    /// Removes empty directories of volumes that `is_known` does not know: a crash may leave one behind before its volume
    /// was written. One that has content is never removed here.
    pub async fn remove_empty(&self, is_known: impl Fn(&str) -> bool + Send + 'static) -> Result<(), Error> {
        let this = self.clone();
        let work = move || {
            for entry in fs_err::read_dir(&this.root)? {
                let entry = entry?;
                let name = entry.file_name();
                let unknown = name.to_str().is_some_and(|name| name.starts_with("pvc-") && !is_known(name));
                if unknown && entry.file_type()?.is_dir() {
                    // Fails for one that is not empty, which is as it should be.
                    let _ = fs_err::remove_dir(entry.path());
                }
            }
            Ok(())
        };
        match tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| Error::Volume { path: self.root.clone(), source }),
        }
    }

    fn make_now(&self, path: &Path) -> io::Result<()> {
        // The owner of a volume has to get through, and nobody to look around.
        match std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !fs_err::symlink_metadata(path)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
        }
        if let Some((user, group)) = self.owner {
            chown(path, Some(user), Some(group))?;
        }
        // A volume that a claim is told of is there after a power loss.
        fs_err::File::open(&self.root)?.sync_all()
    }

    async fn blocking(
        &self,
        volume: &str,
        work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(path) = self.path(volume) else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not the name of a volume");
            return Err(Error::Volume { path: PathBuf::from(volume), source });
        };
        let at = path.clone();
        let result = tokio::task::spawn_blocking(move || work(&at)).await;
        result.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|source| Error::Volume { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let directories = Directories::new(PathBuf::from("/volumes"), None);
        assert_eq!(directories.path("pvc-1"), Some(PathBuf::from("/volumes/pvc-1")));
        for name in ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0b", "A"] {
            assert_eq!(directories.path(name), None, "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_volume_is_made_twice_and_removed_twice() {
        let temp = tempfile::tempdir().unwrap();
        let directories = Directories::new(temp.path().join("volumes"), None);
        directories.make("pvc-1").await.unwrap();
        let file = directories.path("pvc-1").unwrap().join("file");
        fs_err::write(&file, "x").unwrap();
        directories.make("pvc-1").await.unwrap();
        assert!(file.exists());
        directories.remove("pvc-1").await.unwrap();
        assert!(!file.exists());
        directories.remove("pvc-1").await.unwrap();
    }

    #[tokio::test]
    async fn only_empty_directories_that_nobody_knows_are_cleared_away() {
        let temp = tempfile::tempdir().unwrap();
        let directories = Directories::new(temp.path().join("volumes"), None);
        directories.remove_empty(|_| false).await.unwrap();
        for name in ["pvc-known", "pvc-full", "pvc-left"] {
            directories.make(name).await.unwrap();
        }
        fs_err::write(directories.path("pvc-full").unwrap().join("file"), "x").unwrap();
        fs_err::create_dir(temp.path().join("volumes/other")).unwrap();
        directories.remove_empty(|name| name == "pvc-known").await.unwrap();
        let mut left: Vec<_> =
            fs_err::read_dir(temp.path().join("volumes")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other", "pvc-full", "pvc-known"]);
    }

    #[tokio::test]
    async fn a_link_in_place_of_a_volume_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let elsewhere = temp.path().join("elsewhere");
        fs_err::create_dir(&elsewhere).unwrap();
        fs_err::write(elsewhere.join("file"), "x").unwrap();
        let directories = Directories::new(temp.path().join("volumes"), None);
        directories.make("pvc-1").await.unwrap();
        let link = directories.path("pvc-2").unwrap();
        fs_err::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        assert!(directories.make("pvc-2").await.is_err());
        assert!(directories.remove("pvc-2").await.is_err());
        assert!(elsewhere.join("file").exists());
    }
}
