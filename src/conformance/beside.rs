//! A server beside the cluster: an object store that the cluster knows nothing of, in a container from our own image or,
//! where the cluster's pods are processes of this machine, as another such process.
//!
//! `docker` is asked as a person would; what runs bears the label of its run, so that what a killed run has left is found.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use a8s_operators::object_store::manifests::{BUCKETS, CREDENTIALS_PATH, DATA_PATH, VERSIONED};
use a8s_operators::object_store::server::PORT;
use a8s_operators::store::{ACCESS_KEY, Credentials, SECRET_KEY};
use tokio::net::TcpStream;
use tokio::process::Child;

use super::command::{Surroundings, said, start_a9s};
use super::failure::Failure;
use super::inventory::is_running;
use super::observe::{Look, until};
use super::stage::Stage;

/// Says which run a container is of, by its process.
const LABEL: &str = "a9s-e2e-process";
/// What the image runs as.
const USER: u32 = 65532;
/// Longest time until a process listens.
const START: Duration = Duration::from_secs(20);

/// An object store with one bucket; it is gone with this value. That it is not is told when the run ends.
#[derive(Debug)]
pub struct ObjectStore {
    /// Where it listens, on this machine.
    address: SocketAddr,
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    /// In the container of this id.
    Container(String),
    /// As this process, which ends with its handle.
    Process { _ends_with_this: Child },
}

impl ObjectStore {
    /// One in a container, whose keys are in files below `directory`.
    ///
    /// # Errors
    /// Docker refuses.
    pub fn in_container(directory: &Path, bucket: &str, keys: &Credentials) -> Result<Self, Failure> {
        sweep()?;
        write(directory, keys)?;
        let label = format!("{LABEL}={}", std::process::id());
        let keys = format!("{}:{CREDENTIALS_PATH}:ro", directory.display());
        let data = format!("{DATA_PATH}:uid={USER},mode=0700");
        let buckets = format!("{BUCKETS}={bucket}");
        let published = format!("127.0.0.1::{PORT}");
        let words = [
            &["run", "--detach", "--rm", "--label", &label, "--publish", &published][..],
            &["--volume", &keys, "--tmpfs", &data, "--env", &buckets],
            // Any address but loopback: it listens on every address of the container.
            &["--env", "POD_IP=192.0.2.1", VERSIONED, "object-store"],
        ];
        let id = docker(&words.concat())?.trim().to_owned();
        // From here on it is to be removed, whatever comes.
        let mut store = Self { address: ([127, 0, 0, 1], 0).into(), runs: Runs::Container(id.clone()) };
        let said = docker(&["port", &id, &format!("{PORT}/tcp")])?;
        let address = said.lines().next().and_then(|line| line.trim().parse().ok());
        store.address = address.ok_or_else(|| Failure::unexpected("a port of this machine", said))?;
        Ok(store)
    }

    /// One of the program under test, whose keys are in files below `directory`, and whose objects are below `data`.
    ///
    /// # Errors
    /// It does not start.
    pub async fn as_process(
        surroundings: &Surroundings,
        directory: &Path,
        data: &Path,
        bucket: &str,
        keys: &Credentials,
    ) -> Result<Self, Failure> {
        write(directory, keys)?;
        fs_err::create_dir_all(data)?;
        // A loopback address that no cluster takes (127.64.0.0/10), by chance another one each time.
        let [a, b, c] = rand::random::<[u8; 3]>();
        let address = Ipv4Addr::new(127, 32 + a % 16, b, c.clamp(1, 254));
        let mut surroundings = surroundings.clone();
        let paths = [("A9S_MOUNT_CREDENTIALS", directory), ("A9S_MOUNT_DATA", data)];
        surroundings.env.extend(paths.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned())));
        surroundings.env.push(("POD_IP".to_owned(), address.to_string()));
        surroundings.env.push((BUCKETS.to_owned(), bucket.to_owned()));
        let child = start_a9s(&surroundings, &["agent", "object-store"])?;
        let store = Self { address: (address, PORT).into(), runs: Runs::Process { _ends_with_this: child } };
        until("the object store beside the cluster", START, || async {
            Ok(Look::when(TcpStream::connect(store.address).await.is_ok(), "it does not listen"))
        })
        .await?;
        Ok(store)
    }

    /// Its endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Freezes one in a container, or lets it go on.
    ///
    /// # Errors
    /// Docker refuses, or it is in none.
    pub fn freeze(&self, frozen: bool) -> Result<(), Failure> {
        match &self.runs {
            Runs::Container(id) => docker(&[if frozen { "pause" } else { "unpause" }, id]).map(drop),
            Runs::Process { .. } => Err(Failure::Missing("container with an object store")),
        }
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let Runs::Container(id) = &self.runs else { return };
        let removed = docker(&["rm", "--force", id]).map_err(|failure| failure.to_string());
        // One that has ended takes itself away.
        if let Err(why) = removed
            && !["No such container", "already in progress"].iter().any(|going| why.contains(going))
        {
            Stage::get().note_left(format!("the container {id} with an object store: {why}"));
        }
    }
}

fn write(directory: &Path, keys: &Credentials) -> Result<(), Failure> {
    fs_err::create_dir_all(directory)?;
    fs_err::write(directory.join(ACCESS_KEY), &keys.access_key)?;
    Ok(fs_err::write(directory.join(SECRET_KEY), &keys.secret_key)?)
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
    left.try_for_each(|(id, pid)| match pid.trim().parse().is_ok_and(is_running) {
        true => Ok(()),
        false => docker(&["rm", "--force", id]).map(drop),
    })
}

fn docker(words: &[&str]) -> Result<String, Failure> {
    said("docker", words)
}
