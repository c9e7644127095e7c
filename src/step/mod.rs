//! The step engine: idempotent operations, plans made of them, and the runner. It knows no Kubernetes.
//!
//! A [`Step`] has two halves. [`Step::observe`] only reads; [`Step::converge`] changes the world and may be run again,
//! cut off anywhere, and meet its own half-done work. A [`Plan`] lists the steps of one command with what each waits
//! for. The [`Runner`] observes, converges what is unmet, and waits until it is satisfied.

mod journal;
mod plan;
mod runner;

#[cfg(test)]
mod properties;

use std::time::Duration;

use async_trait::async_trait;

pub use self::journal::Journal;
pub use self::plan::{Handle, Plan};
pub use self::runner::{Cancel, Context, Outcome, Runner, StepOutcome};
use crate::finding::{Evidence, Finding};

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The world is as it should be; what was found, in the user's words.
    Satisfied(String),
    /// It is not (yet); the difference, in the user's words.
    Unmet(String),
}

impl Observation {
    /// Satisfied, with what was found.
    pub fn satisfied(what: impl Into<String>) -> Self {
        Self::Satisfied(what.into())
    }

    /// Unmet, with the difference.
    pub fn unmet(difference: impl Into<String>) -> Self {
        Self::Unmet(difference.into())
    }
}

/// One idempotent operation.
#[async_trait]
pub trait Step: Send + Sync {
    /// Short name, unique in a plan: what the journal and `-o json` call it.
    fn id(&self) -> String;

    /// What it brings about, in the user's words, as an infinitive without "to": `create the cluster a8s`.
    fn title(&self) -> String;

    /// Looks, and changes nothing.
    ///
    /// # Errors
    /// A finding that waiting cannot heal; the runner stops at once. What may heal is [`Observation::Unmet`].
    async fn observe(&self) -> Result<Observation, Finding>;

    /// Brings the world to the wanted state, or starts what brings it there. The runner waits for the rest. Nothing is
    /// done where somebody else brings it about.
    ///
    /// # Errors
    /// A finding; what was done so far is met again by the next run.
    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        Ok(())
    }

    /// Looks after [`Step::converge`]. A step that has seen the end of it there says so without asking again.
    ///
    /// # Errors
    /// As [`Step::observe`].
    async fn confirm(&self) -> Result<Observation, Finding> {
        self.observe().await
    }

    /// Whether the same command, run again, goes on where this step was cut off. Where it would be done a second time,
    /// nobody is told to do that.
    fn is_resumed(&self) -> bool {
        true
    }

    /// Ends what would go on by itself after the step was cut off (by an interrupt, at the deadline, or because another
    /// step has failed), or has failed itself. Says what became of it, if there was anything. May be cut off itself.
    async fn call_off(&self) -> Option<String> {
        None
    }

    /// Resolves when another look is worth it. The runner also looks by itself, at growing intervals up to a second.
    async fn changed(&self) {
        std::future::pending().await
    }

    /// What can be seen that explains why the step is not satisfied. Called when it failed or the deadline passed; what
    /// has no lines is left out.
    async fn evidence(&self) -> Vec<Evidence> {
        Vec::new()
    }
}

/// What happens while a plan runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was unmet and is being converged.
    Started {
        /// [`Step::title`].
        title: &'a str,
        /// What was unmet.
        difference: &'a str,
    },
    /// A step still waits. Sent about every second.
    Waiting {
        /// [`Step::title`].
        title: &'a str,
        /// What it waits for.
        difference: &'a str,
        /// Since it started.
        elapsed: Duration,
    },
    /// A step is satisfied.
    Satisfied {
        /// [`Step::title`].
        title: &'a str,
        /// What was found.
        what: &'a str,
        /// Whether this run brought it about.
        changed: bool,
    },
    /// What a dry run found about a step.
    Observed {
        /// [`Step::title`].
        title: &'a str,
        /// What was observed.
        observation: &'a Observation,
    },
    /// A step failed. The finding itself is returned by the runner.
    Failed {
        /// [`Step::title`].
        title: &'a str,
    },
    /// Something a step wants to be known.
    Note(&'a str),
    /// A warning that does not change the outcome.
    Warning(&'a str),
    /// The shell command that does what a step does, for those who want to see it.
    Command(&'a str),
}

/// A word of a shell command, as a shell takes it: for those who copy what is shown to them.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Where events go: a terminal, a log, nowhere.
pub trait Reporter: Send + Sync {
    /// Takes note of an event.
    fn event(&self, event: &Event<'_>);
}

/// A reporter that says nothing.
#[cfg(test)]
pub(crate) struct Silent;

#[cfg(test)]
impl Reporter for Silent {
    fn event(&self, _event: &Event<'_>) {}
}

/// Runs a step alone.
#[cfg(test)]
pub(crate) async fn alone(step: impl Step + 'static, timeout: Duration) -> Result<Outcome, Finding> {
    let mut plan = Plan::new("test");
    plan.add(step);
    Runner::new(std::sync::Arc::new(Silent), Cancel::new(), timeout).run(&plan).await
}
