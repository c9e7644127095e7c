//! A server beside the cluster, in a container: an object store that the cluster knows nothing of, from our own image.
//!
//! `docker` is asked as a person would; what runs bears the label of its run, so that what a killed run has left is found.

use std::net::SocketAddr;
use std::path::Path;

use a8s_operators::object_store::manifests::{BUCKETS, CREDENTIALS_PATH, DATA_PATH, VERSIONED};
use a8s_operators::store::{ACCESS_KEY, Credentials, SECRET_KEY};

use super::command::said;
use super::failure::Failure;
use super::inventory::is_running;

/// Says which run a container is of, by its process.
const LABEL: &str = "a9s-e2e-process";
/// What the image runs as.
const USER: u32 = 65532;
/// The port of the store in its container.
const PORT: &str = "9000/tcp";

/// A container; it is gone with this value.
#[derive(Debug)]
pub struct Container {
    id: String,
    /// Where its store listens, on this machine.
    address: SocketAddr,
}

impl Container {
    /// An object store with one bucket, whose keys are in files below `directory`.
    ///
    /// # Errors
    /// Docker refuses.
    pub fn object_store(directory: &Path, bucket: &str, keys: &Credentials) -> Result<Self, Failure> {
        sweep()?;
        fs_err::create_dir_all(directory)?;
        fs_err::write(directory.join(ACCESS_KEY), &keys.access_key)?;
        fs_err::write(directory.join(SECRET_KEY), &keys.secret_key)?;
        let label = format!("{LABEL}={}", std::process::id());
        let keys = format!("{}:{CREDENTIALS_PATH}:ro", directory.display());
        let data = format!("{DATA_PATH}:uid={USER},mode=0700");
        let buckets = format!("{BUCKETS}={bucket}");
        let words = [
            &["run", "--detach", "--rm", "--label", &label, "--publish", "127.0.0.1::9000"][..],
            &["--volume", &keys, "--tmpfs", &data, "--env", &buckets],
            // Any address but loopback: it listens on every address of the container.
            &["--env", "POD_IP=192.0.2.1", VERSIONED, "object-store"],
        ];
        let id = docker(&words.concat())?.trim().to_owned();
        // From here on it is to be removed, whatever comes.
        let mut container = Self { id, address: ([127, 0, 0, 1], 0).into() };
        let said = docker(&["port", &container.id, PORT])?;
        let address = said.lines().next().and_then(|line| line.trim().parse().ok());
        container.address = address.ok_or_else(|| Failure::unexpected("a port of this machine", said))?;
        Ok(container)
    }

    /// The endpoint of its store.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Freezes it, or lets it go on.
    ///
    /// # Errors
    /// Docker refuses.
    pub fn freeze(&self, frozen: bool) -> Result<(), Failure> {
        docker(&[if frozen { "pause" } else { "unpause" }, &self.id]).map(drop)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "--force", &self.id]);
    }
}

/// Whether there is an engine that has the image; if not, that.
pub fn lacking() -> Option<String> {
    let there = docker(&["image", "inspect", "--format", "{{.Id}}", VERSIONED]);
    there.err().map(|_| format!("there is no Docker engine with the image {VERSIONED}"))
}

/// Removes what runs have left that were killed.
fn sweep() -> Result<(), Failure> {
    let format = format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
    let listed = docker(&["ps", "--all", "--filter", &format!("label={LABEL}"), "--format", &format])?;
    let mut left = listed.lines().filter_map(|line| line.split_once(' '));
    left.try_for_each(
        |(id, pid)| if is_running(pid.trim()) { Ok(()) } else { docker(&["rm", "--force", id]).map(drop) },
    )
}

fn docker(words: &[&str]) -> Result<String, Failure> {
    said("docker", words)
}
