//! Whether this host lets containers have a view of the file system of their own. Found out once, by trying.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::launcher::spec::{Order, Spec, View, encode};
use super::spawner::Spawner;

/// What is possible here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// Mount namespaces, as root.
    Root,
    /// Mount namespaces inside of user namespaces, as an ordinary user.
    User,
    /// Nothing: containers see the host's files, and learn their own paths from the environment.
    None {
        /// What the system said.
        reason: String,
    },
}

impl Isolation {
    /// Tries, using the empty directory `root`.
    ///
    /// # Errors
    /// When not even a process can be started.
    pub async fn survey(spawner: &Spawner, root: &Path) -> io::Result<Self> {
        if nix::unistd::Uid::effective().is_root() && attempt(spawner, root, false).await?.is_ok() {
            return Ok(Self::Root);
        }
        Ok(match attempt(spawner, root, true).await? {
            Ok(()) => Self::User,
            Err(reason) => Self::None { reason },
        })
    }

    /// Containers have their own view.
    pub fn has_views(&self) -> bool {
        !matches!(self, Self::None { .. })
    }

    /// Containers have a user namespace.
    pub fn has_user_namespace(&self) -> bool {
        matches!(self, Self::User)
    }
}

async fn attempt(spawner: &Spawner, root: &Path, user_namespace: bool) -> io::Result<Result<(), String>> {
    let view = View {
        user_namespace,
        root: root.to_path_buf(),
        label: "a9s-survey".into(),
        hidden: Vec::new(),
        mounts: Vec::new(),
    };
    let mut command = spawner.launcher(&[]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawner.spawn(command).await?;
    let order = encode(&Spec { parent: std::process::id(), order: Order::Survey(view) })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&order).await?;
    }
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).await?;
    }
    Ok(if child.wait().await?.success() { Ok(()) } else { Err(said.trim().to_owned()) })
}
