//! Answers: what goes to standard output. In words, or as exactly one document, which is written when the command ends:
//! only then is it known whether it has failed.
//!
//! A reader that went away (`a9s … | head -1`) is no error: the command goes on, silently. Any other failure to write is
//! remembered and becomes the command's finding, so that the verdict and what was printed agree.

use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use super::arguments::Format;
use super::printable::{escaped, printable};
use crate::caller;
use crate::finding::{Finding, Id};
use crate::yaml;

/// What is said where everything was as it should be.
pub const NOTHING_CHANGED: &str = "Nothing had to be changed.";

/// Standard output.
#[derive(Debug)]
pub struct Console {
    format: Option<Format>,
    silent: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    gone: bool,
    failed: Option<std::io::Error>,
    document: Value,
    handed_out: bool,
}

impl Console {
    /// A console that speaks in words (`None`) or prints one document.
    pub fn new(format: Option<Format>) -> Self {
        Self { format, silent: false, state: Mutex::new(State::default()) }
    }

    /// A console that says nothing.
    pub fn silent() -> Self {
        Self { silent: true, ..Self::new(None) }
    }

    /// Whether it speaks in words.
    pub fn words(&self) -> bool {
        matches!(self.format, None | Some(Format::Wide))
    }

    /// Whether tables have all columns.
    pub fn wide(&self) -> bool {
        self.format == Some(Format::Wide)
    }

    /// Whether its reader went away.
    pub fn gone(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).gone
    }

    /// A line, without what would steer a terminal.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.words() {
            self.bytes(format!("{}\n", printable(text.as_ref())).as_bytes());
        }
    }

    /// A heading.
    pub fn heading(&self, text: impl AsRef<str>) {
        self.line(format!(" {}", text.as_ref()));
    }

    /// Something is as it should be.
    pub fn success(&self, text: impl AsRef<str>) {
        self.line(format!(" ✅ {}", text.as_ref()));
    }

    /// The whole has succeeded.
    pub fn celebrate(&self, text: impl AsRef<str>) {
        self.line(format!(" 🎉 {}", text.as_ref()));
    }

    /// Something to know.
    pub fn info(&self, text: impl AsRef<str>) {
        self.line(format!(" ℹ️  {}", text.as_ref()));
    }

    /// Something to mind.
    pub fn warning(&self, text: impl AsRef<str>) {
        self.line(format!(" ⚠️ {}", text.as_ref()));
    }

    /// Bytes as they are, in words only.
    pub fn raw(&self, bytes: &[u8]) {
        if self.words() {
            self.bytes(bytes);
        }
    }

    /// The one document of the command, an object. Nothing is kept when the console speaks in words, or a second time.
    pub fn document(&self, value: &impl Serialize) {
        if self.words() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.document.is_null() {
            state.document = serde_json::to_value(value).unwrap_or_default();
        }
    }

    /// Writes the document: when the command ends, or before it goes on for as long as the user likes. What went wrong is
    /// its field `error`; a command that had nothing else to say has a document of that alone.
    pub fn hand_out(&self, error: Option<&Finding>) {
        if self.words() {
            return;
        }
        let document = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut document = std::mem::take(&mut state.document);
            if let Some(finding) = error {
                document["error"] = json!(finding);
            }
            if document.is_null() || std::mem::replace(&mut state.handed_out, true) {
                return;
            }
            document
        };
        let json = || serde_json::to_string_pretty(&document).map(|text| escaped(&text) + "\n").ok();
        let text = match self.format {
            // JSON is YAML, too, and has an escape for everything.
            Some(Format::Yaml) => yaml::write(&document).ok().filter(|text| *text == printable(text)).or_else(json),
            _ => json(),
        };
        self.bytes(text.unwrap_or_default().as_bytes());
    }

    fn bytes(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.silent || state.gone || state.failed.is_some() {
            return;
        }
        if sabotage::sabotaged!("answers-on-standard-error") {
            return caller::write_error(bytes);
        }
        match caller::write(bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => state.gone = true,
            Err(error) => state.failed = Some(error),
        }
    }

    /// What could not be written, if anything.
    pub fn trouble(&self) -> Option<Finding> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failed.as_ref().map(|error| unwritable(error).advise("The command itself was carried out."))
    }
}

/// The finding that standard output can't be written.
pub fn unwritable(error: &std::io::Error) -> Finding {
    Finding::new(Id::OutputUnwritable, format!("cannot write to standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Caller;

    fn written(work: impl FnOnce(&Console)) -> Value {
        let said = caller::instead(Caller::default(), || work(&Console::new(Some(Format::Json)))).1;
        serde_json::from_slice(&said.stdout).unwrap()
    }

    #[test]
    fn what_went_wrong_is_a_field_of_the_one_document() {
        let finding = Finding::new(Id::Deadline, "it was too late");
        let error = json!(finding);
        assert_eq!(written(|console| console.hand_out(Some(&finding))), json!({"error": error}));
        let both = written(|console| {
            console.document(&json!({"answer": 1}));
            console.document(&json!({"answer": 2}));
            console.hand_out(Some(&finding));
            console.hand_out(None);
        });
        assert_eq!(both, json!({"answer": 1, "error": error}));
    }
}
