//! Questions. Only a terminal can answer one; the end of input is "no".

use super::Session;
use super::progress::eprint_line;
use crate::caller;
use crate::finding::{Finding, Id};

/// Asks a yes-no question on standard error. `--yes` answers it.
///
/// # Errors
/// The answer is "no", or nobody can answer. `what` says what was to be confirmed.
pub fn confirm(session: &Session, question: &str, what: &str) -> Result<(), Finding> {
    if session.global.yes || sabotage::sabotaged!("nobody-is-asked") {
        return Ok(());
    }
    if !caller::can_answer() {
        return Err(Finding::new(
            Id::ConfirmationNeeded,
            format!("{what} needs a confirmation, and there is no terminal to ask on"),
        )
        .advise("Add --yes to confirm it."));
    }
    if ask(question) { Ok(()) } else { Err(Finding::new(Id::Declined, format!("{what}: declined"))) }
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

/// As [`line`], and what is typed is not shown.
pub fn secret(prompt: &str) -> Option<String> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).ok();
    if let Some(mut hidden) = shown.clone() {
        hidden.local_flags.remove(LocalFlags::ECHO);
        // A terminal that can't hide it is better than none.
        let _ = tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden);
    }
    let answer = line(prompt);
    if let Some(shown) = shown {
        let _ = tcsetattr(&stdin, SetArg::TCSAFLUSH, &shown);
        eprint_line("");
    }
    answer
}
