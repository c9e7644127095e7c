//! Progress on standard error: a live line on a terminal, otherwise a plain line per phase and one every ten seconds of
//! waiting.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::printable::printable;
use crate::caller;
use crate::step::{Event, Observation, Reporter};

/// Between two plain lines about the same wait.
const PLAIN_HEARTBEAT: Duration = Duration::from_secs(10);

/// Where progress goes.
pub struct Progress {
    live: Option<ProgressBar>,
    verbose: bool,
    commands: bool,
    last: Mutex<HashMap<String, Duration>>,
}

impl Progress {
    /// Progress for standard error as it is.
    pub fn new(verbose: bool, commands: bool) -> Self {
        let dumb = caller::variable("TERM").is_none_or(|term| term == "dumb");
        let is_live = caller::is_system() && std::io::stderr().is_terminal() && !dumb;
        let live = is_live.then(|| bar(ProgressDrawTarget::stderr()));
        Self { live, verbose, commands, last: Mutex::new(HashMap::new()) }
    }

    /// Progress with a live line that nobody sees.
    #[cfg(test)]
    pub fn unseen() -> Self {
        let live = Some(bar(ProgressDrawTarget::hidden()));
        Self { live, verbose: false, commands: false, last: Mutex::new(HashMap::new()) }
    }

    /// Whether there is a live line at the moment.
    #[cfg(test)]
    pub fn is_live(&self) -> bool {
        self.live.as_ref().is_some_and(|bar| !bar.is_finished())
    }

    /// Takes the live line away, so that other output is not mixed with it. It comes back with what is shown next.
    pub fn clear(&self) {
        if let Some(bar) = &self.live {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.live {
            Some(bar) => bar.suspend(|| eprint_line(text)),
            None => eprint_line(text),
        }
    }

    fn waiting(&self, title: &str, difference: &str, elapsed: Duration) {
        match &self.live {
            Some(bar) => show(bar, &format!("{title}: {difference} ({} s)", elapsed.as_secs())),
            None => {
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                let said = last.entry(title.to_owned()).or_default();
                if elapsed >= *said + PLAIN_HEARTBEAT {
                    *said = elapsed;
                    eprint_line(&format!("… {title}: still waiting after {} s: {difference}", elapsed.as_secs()));
                }
            }
        }
    }
}

impl Reporter for Progress {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Started { title, difference } => {
                if let Some(bar) = &self.live {
                    show(bar, &format!("{title}: {difference}"));
                }
                if self.live.is_none() || self.verbose {
                    self.line(&format!("· {title}: {difference}"));
                }
            }
            Event::Waiting { title, difference, elapsed } => self.waiting(title, difference, *elapsed),
            Event::Satisfied { title, what, changed } => {
                if *changed {
                    self.line(&format!("✓ {title}: {what}"));
                } else if self.verbose {
                    self.line(&format!("= {title}: {what}"));
                }
            }
            Event::Observed { title, observation } => {
                if self.verbose {
                    match observation {
                        Observation::Satisfied(what) => self.line(&format!("= {title}: {what}")),
                        Observation::Unmet(difference) => self.line(&format!("· {title}: {difference}")),
                    }
                }
            }
            Event::Failed { title } => {
                if self.verbose {
                    self.line(&format!("✗ {title}"));
                }
            }
            Event::Note(text) => {
                if self.verbose {
                    self.line(&format!("  {text}"));
                }
            }
            Event::Warning(text) => self.line(&format!(" ⚠️ {text}")),
            Event::Command(text) => {
                if self.commands {
                    self.line(&format!(" ➡️  {text}"));
                }
            }
        }
    }
}

/// A live line, which is not there before something is shown.
fn bar(target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or(ProgressStyle::default_spinner()));
    bar.finish_and_clear();
    bar
}

fn show(bar: &ProgressBar, text: &str) {
    bar.set_message(printable(text));
    if bar.is_finished() {
        bar.reset();
    }
    bar.tick();
}

/// A line on standard error, without what would steer a terminal. It may be closed or full; that must not stop a command.
pub fn eprint_line(text: &str) {
    let text = printable(text);
    if sabotage::sabotaged!("errors-on-standard-output") {
        return drop(caller::write(format!("{text}\n").as_bytes()));
    }
    caller::write_error(format!("{text}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_is_there_from_the_first_thing_that_is_shown_and_comes_back_with_the_next() {
        let progress = Progress::unseen();
        assert!(!progress.is_live());
        for title in ["create the instance", "remove it"] {
            progress.event(&Event::Started { title, difference: "it waits" });
            assert!(progress.is_live(), "{title}");
            progress.clear();
            assert!(!progress.is_live(), "{title}");
        }
    }
}
