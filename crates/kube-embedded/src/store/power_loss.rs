//! Power fails while the store commits: what was not flushed is written in part, in any order, or not at all. Or the disk
//! fails, and the store goes on.
//!
//! The backend below keeps what a disk has for certain apart from what was only written. A loss keeps any sectors of
//! the latter. Whatever it keeps, the store has to open, with every acknowledged commit and none of the next by half.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redb::{DatabaseError, StorageBackend};
use serde_json::json;

use super::Error;
use super::disk::Disk;
use super::medium::Medium;
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
    /// Which operation fails once, and how many of its kind come before.
    failing: Option<(Operation, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Write,
    Sync,
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

    /// Whether it is this operation that fails.
    fn fails(state: &mut State, operation: Operation) -> bool {
        let Some((failing, left)) = state.failing.filter(|(failing, _)| *failing == operation) else { return false };
        state.failing = left.checked_sub(1).map(|left| (failing, left));
        left == 0
    }

    fn change(&self, change: Pending) -> Result<(), std::io::Error> {
        let mut state = self.state();
        Self::spend(&mut state)?;
        if Self::fails(&mut state, Operation::Write) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
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
        if Self::fails(&mut state, Operation::Sync) {
            // As Linux has it: all of it counts as written and is read from the cache, whatever has come to the disk.
            let State { flushed, pending, .. } = &mut *state;
            pending.drain(..).step_by(2).for_each(|arrived| arrived.apply(flushed));
            return Err(std::io::Error::other("input/output error"));
        }
        state.flushed = state.current.clone();
        state.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.change(Pending::Write(usize::try_from(offset).expect("small"), data.to_vec()))
    }
}

/// A drive with one file on it, and perhaps another that is to take its place. Names last as soon as they are there.
#[derive(Debug, Clone, Default)]
struct Drive {
    file: Arc<Mutex<Unreliable>>,
    beside: Arc<Mutex<Unreliable>>,
}

impl Drive {
    fn with(file: Unreliable) -> Self {
        Self { file: Arc::new(Mutex::new(file)), beside: Arc::default() }
    }

    fn file(&self) -> Unreliable {
        self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn store(&self) -> Result<(Disk, Vec<Arc<Object>>, u64), Error> {
        Disk::on(self.clone(), PathBuf::from("of a test"))
    }

    /// The drive after power has come back, and how many writes to the file were on their way when it failed.
    fn after_loss(&self, random: &mut StdRng) -> (Self, usize) {
        let (file, on_their_way) = self.file().after_loss(random);
        (Self::with(file), on_their_way)
    }
}

impl Medium for Drive {
    fn open(&self) -> Result<Box<dyn StorageBackend>, DatabaseError> {
        Ok(Box::new(self.file()))
    }

    fn make(&self) -> Result<Box<dyn StorageBackend>, DatabaseError> {
        let made = Unreliable::default();
        *self.beside.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = made.clone();
        // It is the same drive, so power fails for both.
        made.state().left = self.file().state().left;
        Ok(Box::new(made))
    }

    fn replace(&self) -> std::io::Result<()> {
        let made = self.beside.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        *self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = made;
        Ok(())
    }

    fn discard(&self) {}
}

fn object(name: &str, version: u64) -> Arc<Object> {
    let key = Key::new(GroupResource::new("", "configmaps"), "default", name);
    let value = json!({
        "metadata": {"name": name, "resourceVersion": version.to_string()},
        "data": {"text": "x".repeat(usize::try_from(version % 97).expect("small") * 40)},
    });
    let bytes = serde_json::to_vec(&value).expect("plain data").into();
    Arc::new(Object { key, version, bytes, value: Arc::new(value) })
}

/// A commit: some objects get the version as their content, one is removed.
fn commit(version: u64, there: &BTreeMap<String, u64>, random: &mut StdRng) -> Vec<Event> {
    let event = |kind, name: &str| Event { kind, version, object: object(name, version), previous: None };
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

fn versions(objects: &[Arc<Object>]) -> BTreeMap<String, u64> {
    objects.iter().map(|object| (object.key.name.clone(), object.version)).collect()
}

/// The objects by name with their versions, and the version of the store.
type Known = (BTreeMap<String, u64>, u64);

/// Makes so many commits, unless one fails: what would be there with that one.
fn commits(disk: &mut Disk, number: u64, acknowledged: &mut Known, random: &mut StdRng) -> Option<Known> {
    for _ in 0..number {
        let version = acknowledged.1 + 1;
        let events = commit(version, &acknowledged.0, random);
        let next = (after(acknowledged.0.clone(), &events), version);
        if disk.commit(&events, version).is_err() {
            return Some(next);
        }
        *acknowledged = next;
    }
    None
}

#[test]
fn a_commit_that_was_acknowledged_survives_every_loss_of_power_and_no_other_does_by_half() {
    let mut random = StdRng::seed_from_u64(20_260_101);
    let (mut hits, mut half_done) = (0, 0);
    let mut power = Drive::default();
    let mut acknowledged = (BTreeMap::new(), 0);
    for loss in 0..LOSSES {
        let (mut disk, ..) = power.store().unwrap_or_else(|error| panic!("loss {loss}: {error}"));
        // Opening writes, too; power may fail there the next time.
        power.file().state().left = Some(random.random_range(0..40));
        let promised = commits(&mut disk, COMMITS, &mut acknowledged, &mut random);
        let (survived, on_their_way) = power.after_loss(&mut random);
        drop(disk);
        hits += u32::from(promised.is_some());
        half_done += u32::from(promised.is_some() && on_their_way > 0);
        let (disk, objects, version) =
            survived.store().unwrap_or_else(|error| panic!("loss {loss} made the store unreadable: {error}"));
        drop(disk);
        let found = (versions(&objects), version);
        assert!(found == acknowledged || Some(&found) == promised.as_ref(), "loss {loss}: {found:?}");
        acknowledged = found;
        power = survived;
    }
    // Otherwise the test would prove nothing.
    assert!(hits > 100 && half_done > 50, "{hits} losses within a commit, {half_done} with writes on their way");
}

/// One operation fails. The store makes up for it and goes on, as its writer does, until power fails, too.
fn goes_on_after_the_failure_of(operation: Operation) {
    let mut random = StdRng::seed_from_u64(20_260_102);
    let (mut failures, mut later) = (0, 0);
    for run in 0..LOSSES {
        let drive = Drive::default();
        let (mut disk, ..) = drive.store().unwrap_or_else(|error| panic!("run {run}: {error}"));
        drive.file().state().failing = Some((operation, random.random_range(0..20)));
        let mut acknowledged = (BTreeMap::new(), 0);
        let mut promised = commits(&mut disk, 100, &mut acknowledged, &mut random);
        failures += u32::from(promised.is_some());
        drive.file().state().left = Some(random.random_range(0..120));
        let objects: Vec<_> = acknowledged.0.iter().map(|(name, version)| object(name, *version)).collect();
        if disk.recover(&objects, acknowledged.1).is_ok() {
            // The number of the commit that has failed is given again.
            let recovered = acknowledged.1;
            promised = commits(&mut disk, COMMITS, &mut acknowledged, &mut random);
            later += acknowledged.1 - recovered;
        }
        let (survived, _) = drive.after_loss(&mut random);
        drop(disk);
        let (_, objects, version) = survived.store().unwrap_or_else(|error| panic!("run {run}: {error}"));
        let found = (versions(&objects), version);
        assert!(found == acknowledged || Some(&found) == promised.as_ref(), "run {run}: {found:?}");
    }
    // Otherwise the test would prove nothing.
    assert!(failures > 100 && later > 100, "{failures} failures, {later} commits after them");
}

#[test]
fn a_sync_that_fails_takes_nothing_along_and_leaves_nothing_behind() {
    goes_on_after_the_failure_of(Operation::Sync);
}

#[test]
fn a_write_that_fails_takes_nothing_along_and_leaves_nothing_behind() {
    goes_on_after_the_failure_of(Operation::Write);
}
