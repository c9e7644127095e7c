//! Power fails while the store commits: what was not flushed is written in part, in any order, or not at all.
//!
//! The backend below keeps what a disk has for certain apart from what was only written. A loss keeps any sectors of
//! the latter. Whatever it keeps, the store has to open, with every acknowledged commit and none of the next by half.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redb::StorageBackend;
use serde_json::json;

use super::disk::Disk;
use super::watch::Event;
use super::{Key, Object};
use crate::objects::{ChangeKind, GroupResource};

/// What a disk writes as a whole.
const SECTOR: usize = 512;
/// Losses of one run of the test.
const LOSSES: u64 = 150;
/// Commits between two losses, at most.
const COMMITS: u64 = 6;

/// Written, and not flushed yet.
#[derive(Debug, Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Pending {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Length(length) => image.resize(*length, 0),
            Self::Write(offset, data) => {
                image.resize(image.len().max(offset + data.len()), 0);
                image[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
    }

    /// As much of it as reached the disk: of a write, any of its sectors.
    fn apply_in_part(&self, image: &mut Vec<u8>, random: &mut StdRng) {
        match self {
            Self::Length(_) if random.random_bool(0.5) => self.apply(image),
            Self::Length(_) => {}
            Self::Write(offset, data) => {
                for (index, sector) in data.chunks(SECTOR).enumerate().filter(|_| random.random_bool(0.5)) {
                    Self::Write(offset + index * SECTOR, sector.to_vec()).apply(image);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    flushed: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Pending>,
    /// Operations until power fails; then everything is refused.
    left: Option<u64>,
}

/// A disk whose power can fail.
#[derive(Debug, Clone, Default)]
struct Unreliable(Arc<Mutex<State>>);

impl Unreliable {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Counts an operation; refuses it when power has failed.
    fn spend(state: &mut State) -> Result<(), std::io::Error> {
        match state.left.as_mut() {
            Some(0) => Err(std::io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&self, change: Pending) -> Result<(), std::io::Error> {
        let mut state = self.state();
        Self::spend(&mut state)?;
        change.apply(&mut state.current);
        state.pending.push(change);
        Ok(())
    }

    /// The disk after power has come back, and how many writes were on their way when it failed.
    fn after_loss(&self, random: &mut StdRng) -> (Self, usize) {
        let state = self.state();
        let mut image = state.flushed.clone();
        for pending in &state.pending {
            pending.apply_in_part(&mut image, random);
        }
        let survived = State { flushed: image.clone(), current: image, ..State::default() };
        (Self(Arc::new(Mutex::new(survived))), state.pending.len())
    }
}

impl StorageBackend for Unreliable {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let state = self.state();
        let begin = usize::try_from(offset).expect("small");
        let found = state.current.get(begin..begin + out.len());
        out.copy_from_slice(found.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.change(Pending::Length(usize::try_from(len).expect("small")))
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut state = self.state();
        Self::spend(&mut state)?;
        state.flushed = state.current.clone();
        state.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.change(Pending::Write(usize::try_from(offset).expect("small"), data.to_vec()))
    }
}

/// A commit: some objects get the version as their content, one is removed.
fn commit(version: u64, there: &BTreeMap<String, u64>, random: &mut StdRng) -> Vec<Event> {
    let resource = GroupResource::new("", "configmaps");
    let event = |kind, name: &str| {
        let key = Key::new(resource.clone(), "default", name);
        let value = json!({
            "metadata": {"name": name, "resourceVersion": version.to_string()},
            "data": {"text": "x".repeat(usize::try_from(version % 97).expect("small") * 40)},
        });
        let bytes = serde_json::to_vec(&value).expect("plain data").into();
        let object = Arc::new(Object { key, version, bytes, value: Arc::new(value) });
        Event { kind, version, object, previous: None }
    };
    let mut events: Vec<Event> = (0..random.random_range(1..5_u32))
        .map(|_| event(ChangeKind::Added, &format!("c{}", random.random_range(0..40_u32))))
        .collect();
    let kept = |name: &&String| !events.iter().any(|event| event.object.key.name == **name);
    if let Some(name) = there.keys().find(kept).filter(|_| random.random_bool(0.3)) {
        events.push(event(ChangeKind::Deleted, name));
    }
    events
}

/// The objects by name, and which version each is at.
fn after(mut objects: BTreeMap<String, u64>, events: &[Event]) -> BTreeMap<String, u64> {
    for event in events {
        match event.kind {
            ChangeKind::Deleted => drop(objects.remove(&event.object.key.name)),
            _ => drop(objects.insert(event.object.key.name.clone(), event.version)),
        }
    }
    objects
}

#[test]
fn a_commit_that_was_acknowledged_survives_every_loss_of_power_and_no_other_does_by_half() {
    let mut random = StdRng::seed_from_u64(20_260_101);
    let (mut hits, mut half_done) = (0, 0);
    let mut power = Unreliable::default();
    let mut acknowledged = (BTreeMap::new(), 0);
    for loss in 0..LOSSES {
        let (mut disk, ..) = Disk::on(power.clone()).unwrap_or_else(|error| panic!("loss {loss}: {error}"));
        // Opening writes, too; power may fail there the next time.
        power.state().left = Some(random.random_range(0..40));
        let mut promised = None;
        for _ in 0..COMMITS {
            let version = acknowledged.1 + 1;
            let events = commit(version, &acknowledged.0, &mut random);
            let next = (after(acknowledged.0.clone(), &events), version);
            if disk.commit(&events, version).is_err() {
                promised = Some(next);
                break;
            }
            acknowledged = next;
        }
        let (survived, on_their_way) = power.after_loss(&mut random);
        drop(disk);
        hits += u32::from(promised.is_some());
        half_done += u32::from(promised.is_some() && on_their_way > 0);
        let (disk, objects, version) =
            Disk::on(survived.clone()).unwrap_or_else(|error| panic!("loss {loss} made the store unreadable: {error}"));
        drop(disk);
        let found: BTreeMap<String, u64> =
            objects.iter().map(|object| (object.key.name.clone(), object.version)).collect();
        let found = (found, version);
        assert!(found == acknowledged || Some(&found) == promised.as_ref(), "loss {loss}: {found:?}");
        acknowledged = found;
        power = survived;
    }
    // Otherwise the test would prove nothing.
    assert!(hits > 100 && half_done > 50, "{hits} losses within a commit, {half_done} with writes on their way");
}
