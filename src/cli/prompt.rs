//! Questions. Only a terminal can answer one; the end of input is "no", and Ctrl-C is none.

use super::Session;
use super::progress::eprint_line;
use crate::caller;
use crate::finding::{Finding, Id};

/// Asks a yes-no question on standard error. `--yes` answers it.
///
/// # Errors
/// The answer is "no", or an interrupt, or nobody can answer. `what` says what was to be confirmed.
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
    if ask(session, question)? { Ok(()) } else { Err(Finding::new(Id::Declined, format!("{what}: declined"))) }
}

/// Asks on the terminal until the answer begins with y or n. The end of input is "no".
///
/// # Errors
/// An interrupt.
pub fn ask(session: &Session, question: &str) -> Result<bool, Finding> {
    loop {
        let Some(answer) = line(session, &format!("{question} (y/n): "))? else { return Ok(false) };
        match answer.trim_start().chars().next() {
            Some('y' | 'Y') => return Ok(true),
            Some('n' | 'N') => return Ok(false),
            _ => eprint_line("Invalid choice. Please try again."),
        }
    }
}

/// One line from the terminal; `None` at the end of input.
///
/// # Errors
/// An interrupt.
pub fn line(session: &Session, prompt: &str) -> Result<Option<String>, Finding> {
    caller::write_error(prompt);
    // It is read on a thread of its own, which an interrupt leaves alone with it.
    let answer =
        session.block_on(async |_| Ok(tokio::task::spawn_blocking(caller::read_line).await.unwrap_or_default()));
    answer.inspect_err(|_| eprint_line(""))
}

/// As [`line`], and what is typed is not shown.
///
/// # Errors
/// As [`line`].
pub fn secret(session: &Session, prompt: &str) -> Result<Option<String>, Finding> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).ok();
    if let Some(mut hidden) = shown.clone() {
        hidden.local_flags.remove(LocalFlags::ECHO);
        // A terminal that can't hide it is better than none.
        let _ = tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden);
    }
    let answer = line(session, prompt);
    if let Some(shown) = shown {
        let _ = tcsetattr(&stdin, SetArg::TCSAFLUSH, &shown);
        eprint_line("");
    }
    answer
}
