//! The user's kubeconfig file: adding and removing one context, and leaving everything else as it is.
//!
//! Writers take turns by a lock on the directory and by client-go's lock file (`<file>.lock`,
//! k8s.io/client-go `tools/clientcmd/config.go`), so that `kubectl config` is kept out too. The file is replaced by
//! rename.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use fs_err::os::unix::fs::OpenOptionsExt;
use nix::fcntl::Flock;
use serde_json::{Map, Value, json};

use crate::config::{AGAIN, PATIENCE, home, turn, write_private};
use crate::finding::{Finding, Id, chain};
use crate::yaml;

/// client-go holds its lock for milliseconds; one older than this was left by a process that died. Nobody loses
/// [`PATIENCE`] before that.
const STALE: Duration = Duration::from_secs(10);

/// Why the file can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read or written.
    #[error("cannot {what} the kubeconfig {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a kubeconfig.
    #[error("the kubeconfig {} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another program holds its lock.
    #[error("the kubeconfig {} is locked by another program", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        let cause = chain(&error);
        match error {
            Error::Io { .. } => Self::new(Id::KubeconfigIo, cause),
            Error::Damaged { path, .. } => Self::new(Id::KubeconfigDamaged, cause)
                .advise(format!("Correct {}, or move it away. Nothing was changed in it.", path.display())),
            Error::Locked { path } => {
                let file = lock_path(&path);
                Self::new(Id::KubeconfigLocked, cause).advise(match file.exists() {
                    true => format!("If no other program runs, remove {}.", file.display()),
                    false => "A program has locked its directory: lslocks names it.".to_owned(),
                })
            }
        }
    }
}

/// The files that `kubectl` would read: those of `$KUBECONFIG`, else `~/.kube/config`.
pub fn paths() -> Vec<PathBuf> {
    let listed: Vec<PathBuf> = crate::caller::variable("KUBECONFIG")
        .map(|list| std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    if listed.is_empty() { home().map(|home| home.join(".kube/config")).into_iter().collect() } else { listed }
}

/// One context with its cluster and user, all of the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name of the three.
    pub name: String,
    /// The `cluster` part.
    pub cluster: Value,
    /// The `user` part.
    pub user: Value,
}

impl Entry {
    /// Takes the first context of a kubeconfig, with the first cluster and user, and gives the three one name.
    ///
    /// # Errors
    /// The file can't be read or has no such entry.
    pub fn of_file(path: &Path, name: &str) -> Result<Self, Error> {
        let document = read(path)?;
        let first = |list: &str, part: &str| {
            let found = document.get(list).and_then(|list| list.get(0)).and_then(|entry| entry.get(part)).cloned();
            found.ok_or_else(|| Error::Damaged { path: path.to_owned(), why: format!("it has no {list}") })
        };
        Ok(Self { name: name.to_owned(), cluster: first("clusters", "cluster")?, user: first("users", "user")? })
    }

    fn parts(&self) -> [(&'static str, &'static str, Value); 3] {
        [
            ("clusters", "cluster", self.cluster.clone()),
            ("users", "user", self.user.clone()),
            ("contexts", "context", json!({"cluster": self.name, "user": self.name})),
        ]
    }

    /// Whether the file has exactly this entry. A namespace that the user has set in the context does not matter.
    ///
    /// # Errors
    /// The file can't be read or is damaged.
    pub fn is_in(&self, path: &Path) -> Result<bool, Error> {
        let document = read(path)?;
        Ok(self.parts().iter().all(|(list, part, wanted)| {
            let there = find(&document, list, &self.name).and_then(|entry| entry.get(part));
            match (*part, there) {
                ("context", Some(there)) => ["cluster", "user"].iter().all(|key| there.get(key) == wanted.get(key)),
                (_, there) => there == Some(wanted),
            }
        }))
    }

    /// Whether what the file has under this name is of the same cluster: at the same address, or with the same authority. What
    /// is there without a cluster belongs to nobody else either.
    ///
    /// # Errors
    /// The file can't be read or is damaged.
    pub fn is_of_its_cluster(&self, path: &Path) -> Result<bool, Error> {
        let document = read(path)?;
        if !is_named_in(&document, &self.name) {
            return Ok(false);
        }
        let Some(there) = find(&document, "clusters", &self.name).and_then(|entry| entry.get("cluster")) else {
            return Ok(true);
        };
        let same = |key: &str| self.cluster.get(key).is_some_and(|wanted| there.get(key) == Some(wanted));
        Ok(same("server") || same("certificate-authority-data"))
    }

    /// Writes the entry into the file, and makes it the current one if asked to.
    ///
    /// # Errors
    /// The file can't be read, is damaged, locked, or can't be written. It is as it was then.
    pub async fn write(&self, path: &Path, make_current: bool) -> Result<(), Error> {
        edit(path, |document| {
            for (list, part, value) in self.parts() {
                let entries = entries(document, list);
                match entries.iter_mut().find(|entry| named(entry, &self.name)).and_then(Value::as_object_mut) {
                    Some(entry) => merge(entry, part, value),
                    None => entries.push(json!({"name": self.name, part: value})),
                }
            }
            if make_current {
                document.insert("current-context".to_owned(), json!(self.name));
            }
        })
        .await
    }
}

/// Whether the file names a context, cluster or user so.
///
/// # Errors
/// The file can't be read or is damaged.
pub fn mentions(path: &Path, name: &str) -> Result<bool, Error> {
    Ok(is_named_in(&read(path)?, name))
}

fn is_named_in(document: &Map<String, Value>, name: &str) -> bool {
    ["clusters", "users", "contexts"].iter().any(|list| find(document, list, name).is_some())
}

/// Looks whether the file, if it is there, is a kubeconfig.
///
/// # Errors
/// It can't be read or is damaged.
pub fn check(path: &Path) -> Result<(), Error> {
    read(path).map(drop)
}

/// Whether the context of this name is the file's current one.
///
/// # Errors
/// As reading the file.
pub fn is_current(path: &Path, name: &str) -> Result<bool, Error> {
    Ok(current(&read(path)?) == Some(name))
}

fn current(document: &Map<String, Value>) -> Option<&str> {
    document.get("current-context").and_then(Value::as_str)
}

/// Whether no context is selected: by the file, and by those that `kubectl` merges with it.
///
/// # Errors
/// As reading the files.
pub fn selects_none(path: &Path) -> Result<bool, Error> {
    let listed = paths();
    let merged = if listed.iter().any(|listed| listed == path) { listed } else { vec![path.to_owned()] };
    for path in merged {
        if current(&read(&path)?).is_some_and(|name| !name.is_empty()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes context, cluster and user of this name, and the current context if it is this one.
///
/// # Errors
/// As [`Entry::write`].
pub async fn remove(path: &Path, name: &str) -> Result<(), Error> {
    edit(path, |document| {
        for list in ["clusters", "users", "contexts"] {
            entries(document, list).retain(|entry| !named(entry, name));
        }
        if current(document) == Some(name) {
            document.insert("current-context".to_owned(), json!(""));
        }
    })
    .await
}

fn merge(entry: &mut Map<String, Value>, part: &str, value: Value) {
    match (part, entry.get_mut(part)) {
        // What the user has set in the context, such as a namespace, stays.
        ("context", Some(Value::Object(there))) => {
            if let Value::Object(value) = value {
                there.extend(value);
            }
        }
        _ => {
            entry.insert(part.to_owned(), value);
        }
    }
}

fn named(entry: &Value, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}

fn find<'a>(document: &'a Map<String, Value>, list: &str, name: &str) -> Option<&'a Value> {
    document.get(list)?.as_array()?.iter().find(|entry| named(entry, name))
}

fn entries<'a>(document: &'a mut Map<String, Value>, list: &str) -> &'a mut Vec<Value> {
    let slot = document.entry(list).or_insert_with(|| json!([]));
    if !slot.is_array() {
        // `clusters: null` is how an emptied file may look.
        *slot = json!([]);
    }
    match slot {
        Value::Array(entries) => entries,
        _ => unreachable!("it was made an array above"),
    }
}

fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    let text = match fs_err::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(Error::Io { what: "read", path: path.to_owned(), source }),
    };
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    match yaml::read::<Value>(&text).map_err(|error| damaged(error.to_string()))? {
        Value::Object(map) => {
            let lists = ["clusters", "users", "contexts"];
            match lists.iter().find(|list| map.get(**list).is_some_and(|value| !value.is_array() && !value.is_null())) {
                Some(list) => Err(damaged(format!("{list} is not a list"))),
                None => Ok(map),
            }
        }
        _ => Err(damaged("it is not a mapping".to_owned())),
    }
}

/// Changes the file under its locks. If the change changes nothing, the file is not touched.
async fn edit(path: &Path, change: impl FnOnce(&mut Map<String, Value>) + Send) -> Result<(), Error> {
    let io = |what| move |source| Error::Io { what, path: path.to_owned(), source };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.exists() {
        fs_err::create_dir_all(directory).map_err(io("make the directory of"))?;
    }
    let _turn = Lock::take(path, directory, PATIENCE).await?;
    let before = read(path)?;
    let mut after = if sabotage::sabotaged!("kubeconfig-forgets-others") { Map::new() } else { before.clone() };
    change(&mut after);
    if after == before {
        return Ok(());
    }
    after.entry("apiVersion").or_insert(json!("v1"));
    after.entry("kind").or_insert(json!("Config"));
    let text = yaml::write(&after).map_err(|error| Error::Damaged { path: path.to_owned(), why: error.to_string() })?;
    write_private(path, text.as_bytes()).map_err(io("write"))
}

/// Both locks. The lock file is removed when it is dropped.
struct Lock {
    file: PathBuf,
    _directory: Option<Flock<std::fs::File>>,
}

impl Lock {
    async fn take(path: &Path, directory: &Path, patience: Duration) -> Result<Self, Error> {
        let io = |source| Error::Io { what: "lock", path: path.to_owned(), source };
        let turn = turn(directory, patience).await.map_err(|_| Error::Locked { path: path.to_owned() })?;
        let file = lock_path(path);
        let begun = Instant::now();
        loop {
            match fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
                Ok(_) => return Ok(Self { file, _directory: turn }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    if is_stale(&file) {
                        let _ = fs_err::remove_file(&file);
                    } else if begun.elapsed() > patience {
                        return Err(Error::Locked { path: path.to_owned() });
                    } else {
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                Err(error) => return Err(io(error)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(&self.file);
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn is_stale(file: &Path) -> bool {
    let modified = fs_err::metadata(file).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > STALE))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn entry(server: &str) -> Entry {
        Entry { name: "a9s-a8s".to_owned(), cluster: json!({"server": server}), user: json!({"token": "t"}) }
    }

    #[tokio::test]
    async fn other_entries_and_unknown_fields_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let before = "apiVersion: v1\nclusters:\n- cluster:\n    server: https://prod\n    unknown: 0644\n  name: prod\n\
                      contexts:\n- context:\n    cluster: prod\n    user: me\n  name: prod\ncurrent-context: prod\n\
                      extra:\n  deep: [1, two]\nkind: Config\nusers:\n- name: me\n  user:\n    exec:\n      command: x\n";
        fs_err::write(&path, before).unwrap();
        let original: Value = yaml::read(before).unwrap();
        entry("https://one").write(&path, false).await.unwrap();
        assert!(entry("https://one").is_in(&path).unwrap());
        let text = fs_err::read_to_string(&path).unwrap();
        let document: Value = yaml::read(&text).unwrap();
        assert_eq!(document["current-context"], "prod");
        remove(&path, "a9s-a8s").await.unwrap();
        let after: Value = yaml::read(&fs_err::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(after, original);
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!lock_path(&path).exists());
    }

    #[tokio::test]
    async fn a_context_becomes_current_only_when_asked_and_is_unset_with_its_removal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config");
        entry("https://one").write(&path, true).await.unwrap();
        let current = |path: &Path| read(path).unwrap()["current-context"].clone();
        assert_eq!(current(&path), "a9s-a8s");
        remove(&path, "a9s-a8s").await.unwrap();
        assert_eq!(current(&path), "");
        assert!(!mentions(&path, "a9s-a8s").unwrap());
    }

    #[tokio::test]
    async fn a_namespace_the_user_has_set_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        entry("https://one").write(&path, true).await.unwrap();
        let text = fs_err::read_to_string(&path)
            .unwrap()
            .replace("    user: a9s-a8s", "    namespace: mine\n    user: a9s-a8s");
        fs_err::write(&path, text).unwrap();
        assert!(entry("https://one").is_in(&path).unwrap());
        assert!(!entry("https://two").is_in(&path).unwrap());
        entry("https://two").write(&path, false).await.unwrap();
        assert!(fs_err::read_to_string(&path).unwrap().contains("namespace: mine"));
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let (list, number) = (("- a list", "it is not a mapping"), ("clusters: 3\n", "clusters is not a list"));
        for (text, why) in [list, number, ("a: [", ""), ("a: 1\na: 2\n", "")] {
            fs_err::write(&path, text).unwrap();
            let finding = Finding::from(entry("https://one").write(&path, true).await.unwrap_err());
            assert_eq!(finding.id, Id::KubeconfigDamaged);
            let cause = format!("the kubeconfig {} is damaged: ", path.display());
            assert!(finding.cause.starts_with(&cause) && finding.cause.contains(why), "{finding}");
            assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_kubeconfig_without_a_cluster_has_no_entry() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        fs_err::write(&path, "apiVersion: v1\nkind: Config\n").unwrap();
        let finding = Finding::from(Entry::of_file(&path, "a9s-a8s").unwrap_err());
        assert_eq!(finding.cause, format!("the kubeconfig {} is damaged: it has no clusters", path.display()));
    }

    #[tokio::test]
    async fn what_cannot_be_done_with_the_file_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs_err::os::unix::fs::symlink(directory.path().join("nowhere"), &elsewhere).unwrap();
        // Names have at most 255 characters: the lock's has five more than the file's, the new file's still more.
        let long = |length: usize| directory.path().join("x".repeat(length));
        let unmade = (elsewhere.join("config"), "make the directory of");
        for (path, what) in [unmade, (long(253), "lock"), (long(250), "write")] {
            let finding = Finding::from(entry("https://one").write(&path, true).await.unwrap_err());
            assert_eq!(finding.id, Id::KubeconfigIo);
            let cause = format!("cannot {what} the kubeconfig {}: ", path.display());
            assert!(finding.cause.starts_with(&cause), "{finding}");
        }
    }

    #[tokio::test]
    async fn locks_of_others_are_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let refused = async || {
            let lock = Lock::take(&path, directory.path(), Duration::from_millis(50)).await;
            lock.err().map(|error| Finding::from(error).advice.concat())
        };
        let held = turn(directory.path(), Duration::ZERO).await.unwrap();
        assert_eq!(refused().await.unwrap(), "A program has locked its directory: lslocks names it.");
        drop(held);
        assert_eq!(refused().await, None);
        fs_err::write(lock_path(&path), "").unwrap();
        assert!(refused().await.unwrap().starts_with("If no other program runs, remove "));
        let cut_off = tokio::time::timeout(Duration::from_millis(50), Lock::take(&path, directory.path(), PATIENCE));
        assert!(cut_off.await.is_err(), "whoever waits can be interrupted");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn writers_at_the_same_time_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let writers: Vec<_> = (0..8)
            .map(|number| {
                let path = path.clone();
                tokio::spawn(async move {
                    let entry = Entry { name: format!("c{number}"), cluster: json!({}), user: json!({}) };
                    entry.write(&path, false).await.unwrap();
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        for number in 0..8 {
            assert!(mentions(&path, &format!("c{number}")).unwrap());
        }
    }
}
