//! Disks that are full, and volumes that are emptied. Only root may make a small disk: those scenarios carry `@root`.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use a8s_operators::instance::names;
use a8s_operators::object_store::manifests::NAMESPACE;
use cucumber::{given, when};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, Client};
use tokio::process::Command;

use super::{backup, members};

use crate::conformance::stage::Stage;
use crate::conformance::{Failure, World, mounts, nodes};

/// The name of the file that takes all the room.
const FILLER: &str = "filler";

#[given(expr = "a disk of {int} MiB for the state of clusters")]
async fn small_disk(world: &mut World, size: usize) -> Result<(), Failure> {
    let state = world.surroundings.state.clone();
    fs_err::create_dir_all(&state)?;
    mounts::disk(&state, &format!("size={size}m,mode=755"))?;
    world.mounts.push(state);
    Ok(())
}

/// The volume's directory becomes a disk with the same content, while nobody uses it.
#[given(expr = "the member {string} of {string} has a disk of its own, of {int} MiB")]
async fn disk_of_member(world: &mut World, pod: String, instance: String, size: usize) -> Result<(), Failure> {
    let client = world.client().await?;
    let members = members::pods(world, &instance).await?.len();
    members::scale(world, instance.clone(), 0).await?;
    members::no_member(world, instance.clone()).await?;
    let path = volume(&client, world.namespace(), &names::data_claim(&pod)).await?;
    let disk = world.surroundings.home.join(format!("disk-of-{pod}"));
    fs_err::create_dir(&disk)?;
    mounts::disk(&disk, &format!("size={size}m"))?;
    let copied = Command::new("cp").arg("-a").arg(path.join(".")).arg(&disk).status().await;
    let bound = mounts::bind(&disk, &path);
    mounts::detach(&disk)?;
    bound?;
    world.disks.insert(pod, path);
    if !copied?.success() {
        return Err(Failure::Missing("copy of the volume"));
    }
    members::scale(world, instance.clone(), u32::try_from(members).unwrap_or_default()).await?;
    members::roles(world, instance, members - 1).await
}

/// Where the volume of a claim is: on this machine, or on a node.
async fn volume(client: &Client, namespace: &str, claim: &str) -> Result<PathBuf, Failure> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let volume = claims.get(claim).await?.spec.and_then(|spec| spec.volume_name).ok_or(Failure::Missing("volume"))?;
    let spec = Api::<PersistentVolume>::all(client.clone()).get(&volume).await?.spec.unwrap_or_default();
    let path = spec.host_path.map(|source| source.path).or_else(|| spec.local.map(|source| source.path));
    path.map(PathBuf::from).ok_or(Failure::Missing("path of the volume"))
}

/// The claim and its volume stay, as where a member comes back on a machine that has none of its data. Nobody may use it.
#[when(expr = "the volume of the member {string} is emptied")]
async fn empty_of_member(world: &mut World, pod: String) -> Result<(), Failure> {
    let directory = volume(&world.client().await?, world.namespace(), &names::data_claim(&pod)).await?;
    let work = move || match &Stage::get().existing {
        Some(cluster) => nodes::empty(cluster, &directory),
        None => empty(&directory),
    };
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::from)??;
    world.struck = Some((pod, std::time::Instant::now()));
    Ok(())
}

fn empty(directory: &Path) -> Result<(), Failure> {
    let entries = fs_err::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    if entries.is_empty() {
        return Err(Failure::Missing("content of the volume"));
    }
    for entry in entries {
        match entry.file_type()?.is_dir() {
            true => fs_err::remove_dir_all(entry.path())?,
            false => fs_err::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Its process does not start with that, and says why.
#[when("the index of the store is damaged")]
async fn damage_store(world: &mut World) -> Result<(), Failure> {
    let directory = volume(&world.client().await?, NAMESPACE, "data-minio-0").await?;
    fs_err::write(directory.join("index.redb"), b"no database")?;
    backup::kill_store(world).await
}

#[when(expr = "the disk of the member {string} is full")]
async fn fill_of_member(world: &mut World, pod: String) -> Result<(), Failure> {
    world.struck = Some((pod.clone(), std::time::Instant::now()));
    fill(world.disks.get(&pod).ok_or(Failure::Missing("disk of the member"))?)
}

#[when(expr = "the disk of the member {string} has room again")]
async fn make_room_of_member(world: &mut World, pod: String) -> Result<(), Failure> {
    Ok(fs_err::remove_file(world.disks.get(&pod).ok_or(Failure::Missing("disk of the member"))?.join(FILLER))?)
}

#[when("the disk is full")]
async fn fill_state(world: &mut World) -> Result<(), Failure> {
    fill(&world.surroundings.state)
}

fn fill(directory: &Path) -> Result<(), Failure> {
    let mut file = fs_err::File::create(directory.join(FILLER))?;
    let block = vec![0u8; 1 << 16];
    loop {
        match file.write_all(&block) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[when("the disk has room again")]
async fn make_room(world: &mut World) -> Result<(), Failure> {
    Ok(fs_err::remove_file(world.surroundings.state.join(FILLER))?)
}
