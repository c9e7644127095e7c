//! The files that configure backups, in the place where the Go tool has them.
//!
//! The encryption password is made once and kept: whatever was encrypted with it is lost without it. All files are
//! readable by their owner only.

mod adopted;
mod saved;
mod store;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use a8s_operators::store::{ACCESS_KEY, CONFIG_KEY, Credentials, PASSWORD, SECRET_KEY};
use async_trait::async_trait;
use rand::seq::{IndexedRandom, SliceRandom};

pub use self::adopted::{Adopted, of_cluster};
pub use self::saved::Saved;
pub use self::store::{Choice, Owner, Secret, Store, Wish};
use crate::config::{PATIENCE, WorkingDirectory, turn, write_private};
use crate::finding::{Finding, Id};
use crate::step::{Context, Observation, Step};

/// All files, by the names that the kustomization of the released stack wants.
pub const FILES: [&str; 4] = [PASSWORD, ACCESS_KEY, SECRET_KEY, CONFIG_KEY];
const DIGITS: &[u8] = b"0123456789";
const SYMBOLS: &[u8] = b"~!@#$%^&*()_+`-={}|[]\\:\"<>?,./";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The files of a working directory.
pub struct Written {
    /// The working directory.
    pub directory: WorkingDirectory,
    /// Where backups go.
    pub choice: Arc<Choice>,
}

/// The store that a working directory is configured for, if it is for one.
pub fn of_directory(directory: &WorkingDirectory) -> Option<Store> {
    let read = |name| std::fs::read_to_string(directory.backup_config().join(name)).ok();
    let document = read(CONFIG_KEY)?;
    let [access_key, secret_key] = [read(ACCESS_KEY)?, read(SECRET_KEY)?].map(|key| key.trim_end().to_owned());
    Store::of(&document, Credentials { access_key, secret_key }).ok()
}

/// Where a working directory has the encryption password.
fn password_file(directory: &WorkingDirectory) -> PathBuf {
    directory.backup_config().join(PASSWORD)
}

/// Keeps a password in a file of a working directory.
fn keep(path: &Path, password: &[u8]) -> Result<(), Finding> {
    fs_err::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| write_private(path, password))
        .map_err(|error| Finding::new(Id::WorkingDirectory, error.to_string()))
}

impl Written {
    /// Path and content of every file whose content is given.
    fn files(&self) -> Result<Vec<(PathBuf, String)>, Finding> {
        let (directory, store) = (self.directory.backup_config(), self.choice.store());
        let document = store.document().map_err(|error| Finding::new(Id::Internal, error))?;
        Ok(vec![
            (directory.join(ACCESS_KEY), store.credentials.access_key),
            (directory.join(SECRET_KEY), store.credentials.secret_key),
            (directory.join(CONFIG_KEY), document),
        ])
    }
}

#[async_trait]
impl Step for Written {
    fn id(&self) -> String {
        "backup-config".to_owned()
    }

    fn title(&self) -> String {
        format!("write the configuration of backups to {}", self.directory.backup_config().display())
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let kept = password_file(&self.directory);
        if fs_err::metadata(&kept).map_or(true, |metadata| metadata.len() == 0) {
            return Ok(Observation::unmet("there is no encryption password yet"));
        }
        if !is_private(&kept) {
            return Ok(Observation::unmet("others can read the encryption password"));
        }
        for (path, content) in self.files()? {
            if fs_err::read_to_string(&path).ok().as_deref() != Some(&content) || !is_private(&path) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ok(Observation::unmet(format!("{name} is not there, or another")));
            }
        }
        Ok(Observation::satisfied("it is there"))
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        let failed = |error: std::io::Error| {
            Finding::new(Id::WorkingDirectory, format!("cannot write the working directory: {error}"))
                .advise("Make it writable and leave some space on its disk.")
        };
        fs_err::create_dir_all(self.directory.user_manifests()).map_err(failed)?;
        fs_err::create_dir_all(self.directory.backup_config()).map_err(failed)?;
        let path = password_file(&self.directory);
        // In turns: of two passwords that are made at once, one would be on a cluster and nowhere else.
        let _turn = turn(&self.directory.backup_config(), PATIENCE).await.map_err(failed)?;
        // One that can't be read is none that may be replaced: it is the only key to backups.
        let kept = match fs_err::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            kept => kept.map_err(failed)?,
        };
        let password = if kept.is_empty() { password() } else { kept };
        write_private(&path, &password).map_err(failed)?;
        for (path, content) in self.files()? {
            write_private(&path, content.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs_err::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0)
}

/// 64 characters: the ten digits, ten symbols and 44 letters, none twice, in random order.
fn password() -> Vec<u8> {
    let mut random = rand::rng();
    let mut characters: Vec<u8> = DIGITS.to_vec();
    characters.extend(SYMBOLS.sample(&mut random, 10));
    characters.extend(LETTERS.sample(&mut random, 44));
    characters.shuffle(&mut random);
    characters
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::step::alone;

    #[test]
    fn a_password_is_made_as_the_go_tool_makes_it() {
        let password = password();
        assert_eq!(password.len(), 64);
        assert_eq!(password.iter().collect::<BTreeSet<_>>().len(), 64);
        assert_eq!(password.iter().filter(|byte| byte.is_ascii_digit()).count(), 10);
        assert_eq!(password.iter().filter(|byte| byte.is_ascii_alphabetic()).count(), 44);
        assert!(password.iter().filter(|byte| !byte.is_ascii_alphanumeric()).all(|byte| SYMBOLS.contains(byte)));
    }

    #[test]
    fn runs_at_once_have_one_password() {
        let home = tempfile::tempdir().unwrap();
        let directory = WorkingDirectory(home.path().join("a9s"));
        let run = || {
            let secret_key = Some(Secret("s".to_owned()));
            let wish = Wish { owner: Some(Owner::Minio), secret_key, ..Wish::default() };
            let step = Written { directory: directory.clone(), choice: Choice::new(wish) };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(alone(step, Duration::from_secs(30))).unwrap();
            fs_err::read(directory.backup_config().join(PASSWORD)).unwrap()
        };
        let passwords: BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert_eq!(passwords.len(), 1);
    }

    #[tokio::test]
    async fn the_password_is_kept_and_nobody_else_reads_the_files() {
        let home = tempfile::tempdir().unwrap();
        let directory = WorkingDirectory(home.path().join("a9s"));
        let changes = async |owner| {
            let wish = Wish {
                owner: Some(owner),
                access_key: Some("a".to_owned()),
                secret_key: Some(Secret("s".to_owned())),
                ..Wish::default()
            };
            let step = Written { directory: directory.clone(), choice: Choice::new(wish) };
            alone(step, Duration::from_secs(5)).await.unwrap().changed()
        };
        assert!(changes(Owner::Minio).await);
        let password = fs_err::read(directory.backup_config().join(PASSWORD)).unwrap();
        assert!(!changes(Owner::Minio).await);
        assert!(changes(Owner::Aws).await);
        assert_eq!(fs_err::read(directory.backup_config().join(PASSWORD)).unwrap(), password);
        assert_eq!(of_directory(&directory).unwrap().owner, Owner::Aws);
        for entry in fs_err::read_dir(directory.backup_config()).unwrap() {
            assert!(is_private(&entry.unwrap().path()));
        }
    }
}
