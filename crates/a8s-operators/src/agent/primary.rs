//! What a primary has beside the data of its users, kept as the cluster says while it is one.

use super::platform::{Primary, Seen};
use super::{extensions, logins};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Ends the keeping when it is dropped.
pub struct Kept([JoinHandle<()>; 2]);

impl Drop for Kept {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Keeps logins and extensions of the server behind these sockets, which must be a primary. It must be called within
/// a `LocalSet`.
pub fn keep<P: Primary + 'static>(platform: &Rc<P>, sockets: &Path, seen: watch::Receiver<Seen>) -> Kept {
    let (one, other) = ((platform.clone(), PathBuf::from(sockets)), (platform.clone(), PathBuf::from(sockets)));
    Kept([
        tokio::task::spawn_local(async move { logins::follow(one.0.as_ref(), &one.1).await }),
        tokio::task::spawn_local(async move { extensions::follow(other.0.as_ref(), &other.1, seen).await }),
    ])
}
