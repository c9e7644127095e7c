//! `~/.a9s` and the working directory.
//!
//! The file is the one the Go tool writes: YAML with the keys `WorkingDir` and `DemoSpace`, mode 0600. It is honoured as
//! found and never rewritten; a missing key is appended, so keys of others and comments stay. `Provider` is ours and
//! optional. What the program generates lies in the working directory, in the places where the Go tool has it.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err::os::unix::fs::OpenOptionsExt;
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;

use crate::finding::{Finding, Id, chain};
use crate::yaml;

/// The value of `DemoSpace`: the Go tool wants the key and uses it for one informational line.
const DEMO_SPACE: &str = "a8s-demo";

/// How long somebody else's lock is waited for: those who have one need moments.
pub const PATIENCE: Duration = Duration::from_secs(11);
/// Between two attempts to get one.
pub const AGAIN: Duration = Duration::from_millis(20);

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no file, or none that names a working directory.
    #[error("There is no config, yet: {} does not name a working directory", path.display())]
    NotThere {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be read.
    #[error("Couldn't open config file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("Couldn't parse config file {}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file can't be written.
    #[error("cannot write the config file {}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A working directory that the file can't name.
    #[error("{} can't be the working directory: it is no absolute path in UTF-8", directory.display())]
    Unnameable {
        /// The file.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// Nothing says where the home directory is.
    #[error("the home directory of this user is not known: HOME is not set")]
    NoHome,
}

impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        let cause = chain(&error);
        match error {
            Error::NotThere { .. } => Self::new(Id::ConfigMissing, cause)
                .advise("Please create a cluster first: a9s create cluster a8s --yes"),
            Error::Unreadable { path, .. } => Self::new(Id::ConfigUnreadable, cause)
                .advise(format!("Make {} a file that you can read.", path.display())),
            Error::Damaged { path, .. } => Self::new(Id::ConfigDamaged, cause)
                .advise(format!("Correct {}, or move it away and run the command again.", path.display())),
            Error::Unwritable { .. } => Self::new(Id::ConfigUnwritable, cause),
            Error::Unnameable { path, .. } => Self::new(Id::WorkingDirectory, cause)
                .advise(format!("Set HOME to such a path, or name another one as WorkingDir in {}.", path.display())),
            Error::NoHome => Self::new(Id::NoHome, cause).advise("Set HOME."),
        }
    }
}

/// The keys we know. Others are ignored here and kept in the file.
#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(rename = "WorkingDir")]
    working_dir: Option<String>,
    #[serde(rename = "DemoSpace")]
    demo_space: Option<String>,
    #[serde(rename = "Provider")]
    provider: Option<String>,
}

/// The configuration file of a user.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    home: PathBuf,
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The working directory, absolute.
    pub working_dir: Option<PathBuf>,
    /// The provider to use when the command line names none.
    pub provider: Option<String>,
}

impl ConfigFile {
    /// The file of the user who runs the program.
    ///
    /// # Errors
    /// Neither `HOME` nor the user database names a home directory.
    pub fn of_user() -> Result<Self, Error> {
        home().map(|home| Self::in_home(&home)).ok_or(Error::NoHome)
    }

    /// The file in a given home directory.
    pub fn in_home(home: &Path) -> Self {
        Self { path: home.join(".a9s"), home: home.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The working directory that is proposed when there is none: `~/a9s`.
    pub fn proposal(&self) -> PathBuf {
        self.home.join("a9s")
    }

    /// Reads it. A file that is not there is an empty configuration.
    ///
    /// # Errors
    /// It can't be read, or is not what it should be.
    pub fn read(&self) -> Result<Config, Error> {
        let Some(document) = self.document()? else { return Ok(Config::default()) };
        let working_dir = match document.working_dir.as_deref() {
            None => None,
            Some(text) if Path::new(text).is_absolute() => Some(PathBuf::from(text)),
            Some(text) => return Err(self.damaged(format!("WorkingDir is not an absolute path: {text:?}"))),
        };
        Ok(Config { working_dir, provider: document.provider })
    }

    /// Reads it and demands a working directory.
    ///
    /// # Errors
    /// As [`ConfigFile::read`], and where no working directory is named.
    pub fn working_directory(&self) -> Result<WorkingDirectory, Error> {
        let config = self.read()?;
        config.working_dir.map(WorkingDirectory).ok_or_else(|| Error::NotThere { path: self.path.clone() })
    }

    /// Adds what is missing: the working directory and the key that the Go tool also wants. All else stays.
    ///
    /// # Errors
    /// The file can't be read or written, or can't name the directory.
    pub fn add_working_directory(&self, directory: &Path) -> Result<WorkingDirectory, Error> {
        let document = self.document()?.unwrap_or_default();
        let mut text = self.text()?.unwrap_or_default();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if document.working_dir.is_none() {
            let unnameable = || Error::Unnameable { path: self.path.clone(), directory: directory.to_owned() };
            let name = directory.to_str().filter(|_| directory.is_absolute()).ok_or_else(unnameable)?;
            text.push_str(&entry("WorkingDir", name));
        }
        if document.demo_space.is_none() {
            text.push_str(&entry("DemoSpace", DEMO_SPACE));
        }
        write_private(&self.path, text.as_bytes())
            .map_err(|source| Error::Unwritable { path: self.path.clone(), source })?;
        self.working_directory()
    }

    /// Removes it. A file that is not there is fine.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove(&self) -> Result<(), Error> {
        gone_is_fine(fs_err::remove_file(&self.path))
            .map_err(|source| Error::Unwritable { path: self.path.clone(), source })
    }

    fn text(&self) -> Result<Option<String>, Error> {
        match fs_err::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(self.damaged("it is not UTF-8 text")),
            Err(source) => Err(Error::Unreadable { path: self.path.clone(), source }),
        }
    }

    fn document(&self) -> Result<Option<Document>, Error> {
        match self.text()? {
            None => Ok(None),
            Some(text) if text.trim().is_empty() => Ok(None),
            Some(text) => yaml::read(&text).map(Some).map_err(|error| self.damaged(error.to_string())),
        }
    }

    fn damaged(&self, why: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), why: why.into() }
    }
}

/// The home directory: `HOME`, else what the user database says.
pub fn home() -> Option<PathBuf> {
    match crate::caller::given("HOME") {
        Some(home) => Some(PathBuf::from(home)),
        None => nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.dir),
    }
}

fn entry(key: &str, value: &str) -> String {
    // A map of one string to one string can always be written.
    yaml::write(&serde_json::json!({ key: value })).unwrap_or_default()
}

/// Where generated files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkingDirectory(pub PathBuf);

impl WorkingDirectory {
    /// Manifests of the user's objects.
    pub fn user_manifests(&self) -> PathBuf {
        self.0.join("usermanifests")
    }

    /// Manifests of the stack, for those who apply them by other means.
    pub fn stack_manifests(&self) -> PathBuf {
        self.0.join("stackmanifests")
    }

    /// The configuration of backups: credentials of the object store and the encryption password.
    pub fn backup_config(&self) -> PathBuf {
        self.0.join("a8s-deployment/deploy/a8s/backup-config")
    }

    /// Released documents that were fetched.
    pub fn releases(&self) -> PathBuf {
        self.0.join("releases")
    }

    /// The journal of commands.
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal.jsonl")
    }
}

/// What came of removing a file or a directory of which it is fine that it was not there.
///
/// # Errors
/// It is there, and can't be removed.
pub fn gone_is_fine(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Writes a file that only its owner reads, by rename: it is whole or not there. Nothing happens if it is so already.
///
/// # Errors
/// As of the file operations.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    // A symbolic link stays one: its target is replaced.
    let path = fs_err::canonicalize(path).or_else(|_| std::path::absolute(path))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}.{:x}", std::process::id(), rand::random::<u32>()));
    let result = (|| {
        let mut file = fs_err::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if sabotage::sabotaged!("files-for-everybody") { 0o644 } else { 0o600 })
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs_err::rename(&temporary, &path)?;
        fs_err::File::open(directory)?.sync_all()
    })();
    if result.is_err() {
        // Best effort: the first error is the one that counts.
        let _ = fs_err::remove_file(&temporary);
    }
    result
}

/// Locks a directory for as long as the lock lives, which leaves no file in it. A file system may have no locks; there,
/// nobody is refused.
///
/// # Errors
/// Another run has locked it, of which `taken` tells.
pub fn lock(directory: &Path, taken: impl fmt::Display) -> Result<Option<Flock<File>>, Finding> {
    match hold(directory, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Finding::new(Id::RunGoesOn, taken)),
        Err(_) => Ok(None),
    }
}

/// Locks a directory, until that is dropped or the process ends.
///
/// # Errors
/// There is no such directory, somebody else has locked it, or its file system has no locks.
pub fn hold(directory: &Path, how: FlockArg) -> std::io::Result<Flock<File>> {
    Flock::lock(File::open(directory)?, how).map_err(|(_, errno)| errno.into())
}

/// Waits for a turn with a directory, which ends when it is dropped or the process ends. A file system may have no
/// locks; there, nobody waits. Nor does anybody without end: others who may look into the directory can lock it, too.
///
/// # Errors
/// Somebody keeps it locked (`WouldBlock`).
pub async fn turn(directory: &Path, patience: Duration) -> std::io::Result<Option<Flock<File>>> {
    let begun = Instant::now();
    loop {
        match hold(directory, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Ok(Some(turn)),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Ok(None),
            Err(_) if begun.elapsed() <= patience => tokio::time::sleep(AGAIN).await,
            Err(_) => {
                let why = format!("another program has locked {}: lslocks names it", directory.display());
                return Err(std::io::Error::new(ErrorKind::WouldBlock, why));
            }
        }
    }
}

/// Whether a path still leads to what is held: whoever held it before may have deleted it.
pub fn leads_to(path: &Path, held: &File) -> bool {
    let identity = |found: std::io::Result<Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
    identity(held.metadata()) == identity(std::fs::metadata(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::finding::Class;

    fn home_with(text: impl AsRef<[u8]>) -> (tempfile::TempDir, ConfigFile) {
        let home = tempfile::tempdir().unwrap();
        fs_err::write(home.path().join(".a9s"), text).unwrap();
        let file = ConfigFile::in_home(home.path());
        (home, file)
    }

    #[test]
    fn a_new_file_is_what_the_go_tool_writes() {
        let home = tempfile::tempdir().unwrap();
        let file = ConfigFile::in_home(home.path());
        let directory = file.add_working_directory(&file.proposal()).unwrap();
        assert_eq!(directory.0, home.path().join("a9s"));
        let text = fs_err::read_to_string(file.path()).unwrap();
        assert_eq!(text, format!("WorkingDir: {}/a9s\nDemoSpace: a8s-demo\n", home.path().display()));
        assert_eq!(fs_err::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_the_go_tool_is_honoured() {
        let (_home, file) = home_with("WorkingDir: /somewhere/a9s\nDemoSpace: a8s-demo\n");
        assert_eq!(file.working_directory().unwrap().0, Path::new("/somewhere/a9s"));
    }

    #[test]
    fn what_others_wrote_stays() {
        let (_home, file) = home_with("# mine\nProvider: kind\nOther:\n  nested: 0644");
        file.add_working_directory(Path::new("/w")).unwrap();
        let text = fs_err::read_to_string(file.path()).unwrap();
        assert_eq!(text, "# mine\nProvider: kind\nOther:\n  nested: 0644\nWorkingDir: /w\nDemoSpace: a8s-demo\n");
        assert_eq!(file.read().unwrap().provider.as_deref(), Some("kind"));
    }

    #[tokio::test]
    async fn a_turn_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let patience = Duration::from_millis(50);
        let held = hold(directory.path(), FlockArg::LockExclusive).unwrap();
        let why = turn(directory.path(), patience).await.unwrap_err().to_string();
        assert_eq!(why, format!("another program has locked {}: lslocks names it", directory.path().display()));
        let cut_off = tokio::time::timeout(patience, turn(directory.path(), PATIENCE)).await;
        assert!(cut_off.is_err(), "whoever waits can be interrupted");
        drop(held);
        let next = turn(directory.path(), patience).await.unwrap();
        assert!(next.is_some());
        assert!(turn(directory.path(), patience).await.is_err(), "it is somebody's turn");
    }

    #[test]
    fn what_the_file_can_not_name_is_no_working_directory() {
        let home = tempfile::tempdir().unwrap();
        let file = ConfigFile::in_home(home.path());
        for directory in [&b"here/a9s"[..], &b"/h\xffme/a9s"[..]] {
            let directory = Path::new(std::ffi::OsStr::from_bytes(directory));
            let finding = Finding::from(file.add_working_directory(directory).unwrap_err());
            assert_eq!(finding.id, Id::WorkingDirectory);
            assert!(finding.cause.ends_with("can't be the working directory: it is no absolute path in UTF-8"));
            assert!(!file.path().exists());
        }
    }

    #[test]
    fn damage_is_a_finding_and_not_a_guess() {
        let relative = "WorkingDir is not an absolute path: \"relative/path\"";
        let damages: [(&[u8], &str); 6] = [
            (b"WorkingDir: [", ""),
            (b"WorkingDir: 3\n- x", ""),
            (b"WorkingDir: relative/path\n", relative),
            (b"just words", ""),
            (b"a: 1\na: 2\n", ""),
            (b"\xff", "it is not UTF-8 text"),
        ];
        for (text, why) in damages {
            let (_home, file) = home_with(text);
            let finding = Finding::from(file.read().unwrap_err());
            assert_eq!(finding.id, Id::ConfigDamaged);
            let cause = format!("Couldn't parse config file {}: ", file.path().display());
            assert!(finding.cause.starts_with(&cause) && finding.cause.contains(why), "{finding}");
            assert_eq!(fs_err::read(file.path()).unwrap(), text);
        }
    }

    #[test]
    fn a_user_without_a_home_is_told_so() {
        let finding = Finding::from(Error::NoHome);
        assert_eq!(finding.id, Id::NoHome);
        assert_eq!(finding.cause, "the home directory of this user is not known: HOME is not set");
    }

    #[test]
    fn a_file_that_is_a_directory_is_unreadable() {
        let home = tempfile::tempdir().unwrap();
        fs_err::create_dir(home.path().join(".a9s")).unwrap();
        let finding = Finding::from(ConfigFile::in_home(home.path()).read().unwrap_err());
        assert_eq!(finding.id, Id::ConfigUnreadable);
    }

    #[test]
    fn an_empty_file_names_no_working_directory() {
        let (_home, file) = home_with("");
        assert_eq!(file.read().unwrap(), Config::default());
        assert_eq!(Finding::from(file.working_directory().unwrap_err()).class(), Class::Missing);
    }
}
