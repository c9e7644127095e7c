//! Disks that are full. Only root may make a small one, so these scenarios carry `@root`.

use std::io::{ErrorKind, Write as _};

use cucumber::{given, when};
use nix::mount::{MsFlags, mount};

use crate::conformance::{Failure, World};

/// The name of the file that takes all the room.
const FILLER: &str = "filler";

#[given(expr = "a disk of {int} MiB for the state of clusters")]
async fn small_disk(world: &mut World, size: usize) -> Result<(), Failure> {
    let state = world.surroundings.state.clone();
    fs_err::create_dir_all(&state)?;
    let options = format!("size={size}m,mode=755");
    mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        .map_err(std::io::Error::from)?;
    world.mounts.push(state);
    Ok(())
}

#[when("the disk is full")]
async fn fill(world: &mut World) -> Result<(), Failure> {
    let mut file = fs_err::File::create(world.surroundings.state.join(FILLER))?;
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
