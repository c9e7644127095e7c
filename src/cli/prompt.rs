//! Questions. Only a terminal can answer one; the end of input is "no".

use super::Session;
use super::progress::eprint_line;
use crate::caller;
use crate::finding::{Class, Finding};

/// Asks a yes-no question on standard error. `--yes` answers it.
///
/// # Errors
/// The answer is "no", or nobody can answer. `what` says what was to be confirmed.
pub fn confirm(session: &Session, question: &str, what: &str) -> Result<(), Finding> {
    if session.global.yes {
        return Ok(());
    }
    if !caller::can_answer() {
        return Err(Finding::new(
            "confirmation-needed",
            Class::Refused,
            format!("{what} needs a confirmation, and there is no terminal to ask on"),
        )
        .advise("Add --yes to confirm it."));
    }
    if ask(question) { Ok(()) } else { Err(Finding::new("declined", Class::Refused, format!("{what}: declined"))) }
}

/// Asks on the terminal until the answer begins with y or n. The end of input is "no".
pub fn ask(question: &str) -> bool {
    loop {
        let Some(answer) = line(&format!("{question} (y/n): ")) else { return false };
        match answer.trim_start().chars().next() {
            Some('y' | 'Y') => return true,
            Some('n' | 'N') => return false,
            _ => eprint_line("Invalid choice. Please try again."),
        }
    }
}

/// One line from the terminal; `None` at the end of input.
pub fn line(prompt: &str) -> Option<String> {
    caller::write_error(prompt);
    caller::read_line()
}
