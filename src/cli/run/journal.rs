//! How far the last run of a playbook came, so that one that was cut off can go on. It is written after every step, by
//! rename: a cut leaves the old or the new number.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::playbook::Playbook;
use crate::config::write_private;
use crate::finding::{Class, Finding};

/// The journal of one playbook.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    text: u64,
}

/// What the journal says.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// The last run came to its end, or there was none.
    Finished,
    /// It did not.
    Unfinished {
        /// Steps that were done.
        done: usize,
        /// The round it was in, from 1.
        round: u32,
    },
    /// It did not, and the playbook was another then.
    Changed,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    text: u64,
    done: usize,
    round: u32,
}

impl Journal {
    /// The journal of the playbook in `file`, below `directory`.
    pub fn of(directory: &Path, file: &Path, playbook: &Playbook) -> Self {
        let file = fs_err::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        Self { path: directory.join(format!("{:016x}.json", hash(&file))), text: hash(&playbook.text) }
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
        // A damaged one says nothing: the playbook starts from its beginning.
        let Ok(written) = serde_json::from_slice::<Written>(&text) else { return Ok(State::Changed) };
        Ok(if written.text == self.text {
            State::Unfinished { done: written.done, round: written.round }
        } else {
            State::Changed
        })
    }

    /// A new run begins.
    ///
    /// # Errors
    /// It can't be written.
    pub fn begin(&self) -> Result<(), Finding> {
        self.done(0, 1)
    }

    /// So many steps are done, in this round.
    ///
    /// # Errors
    /// It can't be written.
    pub fn done(&self, done: usize, round: u32) -> Result<(), Finding> {
        let directory = self.path.parent().unwrap_or(&self.path);
        let written = Written { text: self.text, done, round };
        let text = serde_json::to_vec(&written).map_err(std::io::Error::other);
        fs_err::create_dir_all(directory)
            .and(text)
            .and_then(|text| write_private(&self.path, &text))
            .map_err(unwritable)
    }

    /// The run came to its end.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn finish(&self) -> Result<(), Finding> {
        match fs_err::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritable(error)),
            _ => {
                // The last one takes the directory along; others keep it.
                let _ = self.path.parent().map(std::fs::remove_dir);
                Ok(())
            }
        }
    }
}

fn unwritable(error: std::io::Error) -> Finding {
    Finding::new("playbook-journal", Class::Failed, format!("the journal of the playbook can't be used: {error}"))
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
    fn a_run_that_was_cut_off_can_be_resumed_unless_the_playbook_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.yaml");
        let journal = Journal::of(directory.path(), &file, &playbook("one"));
        assert_eq!(journal.state().unwrap(), State::Finished);
        journal.begin().unwrap();
        journal.done(3, 2).unwrap();
        assert_eq!(journal.state().unwrap(), State::Unfinished { done: 3, round: 2 });
        assert_eq!(Journal::of(directory.path(), &file, &playbook("two")).state().unwrap(), State::Changed);
        journal.finish().unwrap();
        assert_eq!(journal.state().unwrap(), State::Finished);
        journal.begin().unwrap();
        fs_err::write(&journal.path, "{").unwrap();
        assert_eq!(journal.state().unwrap(), State::Changed);
    }
}
