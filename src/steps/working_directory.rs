//! Removing what the program generated in the working directory.

use std::path::{Path, PathBuf};

use a8s_operators::store::PASSWORD;
use async_trait::async_trait;

use crate::config::{ConfigFile, WorkingDirectory};
use crate::finding::{Finding, Id};
use crate::step::{Context, Observation, Step};

/// Generated files and the configuration should be gone. What others put into the working directory stays.
pub struct Removed {
    /// The configuration file.
    pub config: ConfigFile,
    /// The working directory it names, if any.
    pub directory: Option<WorkingDirectory>,
}

impl Removed {
    /// Everything the program makes below the working directory.
    fn generated(&self) -> Vec<PathBuf> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let names = [
            "usermanifests",
            "stackmanifests",
            "a8s-deployment",
            "releases",
            "minio",
            "kind",
            "journal.jsonl",
            "journal.jsonl.1",
        ];
        let all = names.iter().map(|name| directory.0.join(name)).filter(|path| path.symlink_metadata().is_ok());
        if self.kept().is_empty() {
            return all.collect();
        }
        let others = all.filter(|path| !directory.backup_config().starts_with(path));
        let beside = entries(&directory.backup_config()).into_iter().filter(|path| !is_of_another_cluster(path));
        others.chain(beside).collect()
    }

    /// Encryption passwords of other clusters: without them their backups can't be read, and they are nowhere else once the
    /// stack is off those.
    fn kept(&self) -> Vec<PathBuf> {
        let Some(directory) = &self.directory else { return Vec::new() };
        entries(&directory.backup_config()).into_iter().filter(|path| is_of_another_cluster(path)).collect()
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn is_of_another_cluster(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(PASSWORD).is_some_and(|rest| rest.starts_with('.'))
}

#[async_trait]
impl Step for Removed {
    fn id(&self) -> String {
        "generated-files".to_owned()
    }

    fn title(&self) -> String {
        "remove generated files and the configuration".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let mut there = self.generated();
        if self.config.path().exists() {
            there.push(self.config.path().to_owned());
        }
        Ok(match there.as_slice() {
            [] => Observation::satisfied("there are none"),
            [first, ..] => Observation::unmet(format!("{} is there", first.display())),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        for path in self.generated() {
            let is_directory = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            let removed = if is_directory { fs_err::remove_dir_all(&path) } else { fs_err::remove_file(&path) };
            removed.map_err(|error| Finding::new(Id::WorkingDirectory, error.to_string()))?;
        }
        if let [first, ..] = self.kept().as_slice() {
            let directory = first.parent().unwrap_or(first).display();
            context.note(format!("The encryption passwords of other clusters stay in {directory}."));
        }
        if let Some(directory) = &self.directory {
            // Only if nothing of anybody else is in it.
            let _ = std::fs::remove_dir(&directory.0);
        }
        // The configuration goes last: it says where the rest is.
        Ok(self.config.remove()?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::step::alone;

    #[tokio::test]
    async fn only_what_was_generated_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let config = ConfigFile::in_home(home.path());
        let directory = config.add_working_directory(&config.proposal()).unwrap();
        fs_err::create_dir_all(directory.user_manifests()).unwrap();
        fs_err::write(directory.0.join("notes.txt"), "mine").unwrap();
        fs_err::create_dir_all(directory.backup_config()).unwrap();
        let [own, other] = ["", ".prod"].map(|of| directory.backup_config().join(format!("{PASSWORD}{of}")));
        for path in [&own, &other] {
            fs_err::write(path, "secret").unwrap();
        }
        let removes = async || {
            let step = Removed { config: config.clone(), directory: Some(directory.clone()) };
            alone(step, Duration::from_secs(5)).await.unwrap().changed()
        };
        assert!(removes().await);
        assert!(!config.path().exists() && !directory.user_manifests().exists());
        assert!(directory.0.join("notes.txt").exists());
        assert!(other.exists() && !own.exists());
        assert!(!removes().await);
    }
}
