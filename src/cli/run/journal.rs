//! How far the last run of a playbook came, so that one that was cut off can go on. It is written after every step, by
//! rename: a cut leaves the old or the new number. One run has it at a time: of two, each would skip what the other has
//! done.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::playbook::Playbook;
use crate::config::{gone_is_fine, lock, write_private};
use crate::finding::{Finding, Id};

/// Its file, in the directory that each playbook has.
const FILE: &str = "journal.json";

/// The journal of one playbook, for as long as a run has it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    text: u64,
    _lock: Option<Flock<File>>,
}

/// What the journal says.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// The last run came to its end, or there was none.
    Finished,
    /// It did not.
    Unfinished(Progress),
    /// It did not, and the playbook was another then.
    Changed,
    /// How far it came can't be read any more, for this reason.
    Damaged(String),
}

/// How often the steps are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// So many times.
    Rounds(u32),
    /// Again and again for this time.
    Time(Duration),
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it was told.
    pub goal: Goal,
    /// Steps of the round that are done, counted from the playbook's first.
    pub done: usize,
    /// The round that is under way or was the last, from 1.
    pub round: u32,
    /// How long its rounds have taken.
    pub spent: Duration,
    /// Where its steps went that name no cluster, if any did.
    pub place: Option<Place>,
}

impl Progress {
    /// That of a run that begins.
    pub fn towards(goal: Goal) -> Self {
        Self { goal, done: 0, round: 1, spent: Duration::ZERO, place: None }
    }

    /// Whether there is another round to come after this one.
    pub fn goes_on(&self) -> bool {
        match self.goal {
            Goal::Rounds(_) if sabotage::sabotaged!("playbook-one-round") => false,
            Goal::Rounds(rounds) => self.round < rounds,
            Goal::Time(time) => self.spent < time,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    text: u64,
    progress: Progress,
}

impl Journal {
    /// The journal of the playbook in `file`, below `directory`.
    ///
    /// # Errors
    /// Another run has it, or its directory can't be made.
    pub fn of(directory: &Path, file: &Path, playbook: &Playbook) -> Result<Self, Finding> {
        let file = fs_err::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let directory = directory.join(format!("{:016x}", hash(&file)));
        fs_err::create_dir_all(&directory).map_err(unwritable)?;
        let lock = lock(&directory, format!("another run of {} goes on", playbook.name)).map_err(|finding| {
            finding.advise("Wait for its end, or run a copy of the playbook, which has a journal of its own.")
        })?;
        Ok(Self { path: directory.join(FILE), text: hash(&playbook.text), _lock: lock })
    }

    /// What it says.
    ///
    /// # Errors
    /// It can't be read.
    pub fn state(&self) -> Result<State, Finding> {
        let text = match fs_err::read(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::Finished),
            other => other.map_err(unwritable)?,
        };
        Ok(match serde_json::from_slice::<Written>(&text) {
            Err(error) => State::Damaged(format!("{}: {error}", self.path.display())),
            Ok(written) if written.text == self.text => State::Unfinished(written.progress),
            Ok(_) => State::Changed,
        })
    }

    /// The run has come so far.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, progress: &Progress) -> Result<(), Finding> {
        let written = Written { text: self.text, progress: progress.clone() };
        let text = serde_json::to_vec(&written).map_err(std::io::Error::other);
        text.and_then(|text| write_private(&self.path, &text)).map_err(unwritable)
    }

    /// The run came to its end.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn finish(&self) -> Result<(), Finding> {
        gone_is_fine(fs_err::remove_file(&self.path)).map_err(unwritable)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // One that can be gone on with keeps its directory, and journals of others keep the one of all.
        let _ = self.path.ancestors().skip(1).take(2).try_for_each(std::fs::remove_dir);
    }
}

fn unwritable(error: std::io::Error) -> Finding {
    Finding::new(Id::PlaybookJournal, format!("the journal of the playbook can't be used: {error}"))
}

/// The same in every run of this build, which is all that is needed.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn playbook(text: &str) -> Playbook {
        Playbook { name: "x".to_owned(), description: String::new(), text: text.to_owned(), steps: Vec::new() }
    }

    #[test]
    fn a_run_that_was_cut_off_can_be_resumed_unless_the_playbook_has_changed_or_the_journal_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.yaml");
        let of = |text: &str| Journal::of(directory.path(), &file, &playbook(text)).unwrap();
        let journal = of("one");
        assert_eq!(journal.state().unwrap(), State::Finished);
        let place = Place { context: "a".to_owned(), server: "https://one".to_owned() };
        let goal = Goal::Time(Duration::from_secs(600));
        let progress = Progress { done: 3, round: 2, place: Some(place), ..Progress::towards(goal) };
        journal.write(&progress).unwrap();
        assert_eq!(journal.state().unwrap(), State::Unfinished(progress.clone()));
        drop(journal);
        assert_eq!(of("two").state().unwrap(), State::Changed);
        let journal = of("one");
        journal.finish().unwrap();
        assert_eq!(journal.state().unwrap(), State::Finished);
        journal.write(&progress).unwrap();
        let whole = fs_err::read_to_string(&journal.path).unwrap();
        for damaged in ["", "{", &whole[..whole.len() / 2], "{}"] {
            fs_err::write(&journal.path, damaged).unwrap();
            let State::Damaged(why) = journal.state().unwrap() else { panic!("{damaged:?} is not damaged") };
            assert!(why.starts_with(&format!("{}: ", journal.path.display())), "{why}");
        }
    }

    #[test]
    fn one_run_of_a_playbook_goes_on_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(".playbooks");
        let of = |file: &str| Journal::of(&directory, &home.path().join(file), &playbook("one"));
        let one = of("one.yaml").unwrap();
        let finding = of("one.yaml").unwrap_err();
        assert_eq!((finding.id, finding.cause.as_str()), (Id::RunGoesOn, "another run of x goes on"));
        let other = of("other.yaml").unwrap();
        one.write(&Progress::towards(Goal::Rounds(1))).unwrap();
        drop(one);
        let one = of("one.yaml").unwrap();
        assert!(matches!(one.state().unwrap(), State::Unfinished(_)), "how far the first one came is still known");
        one.finish().unwrap();
        drop((one, other));
        assert!(!directory.exists());
    }

    #[test]
    fn rounds_end_by_their_number_or_their_time() {
        let at =
            |goal, round, seconds| Progress { round, spent: Duration::from_secs(seconds), ..Progress::towards(goal) };
        let minute = Goal::Time(Duration::from_secs(60));
        for (progress, goes_on) in [
            (at(Goal::Rounds(1), 1, 0), false),
            (at(Goal::Rounds(3), 2, 1000), true),
            (at(Goal::Rounds(3), 3, 0), false),
            (at(minute, 1, 0), true),
            (at(minute, 700, 59), true),
            (at(minute, 2, 60), false),
        ] {
            assert_eq!(progress.goes_on(), goes_on, "{progress:?}");
        }
    }
}
