//! `a9s run`: playbooks. A playbook is a list of commands in YAML: each step names a command and gives its flags, so it
//! can do what the command line can, in the same way, and is checked by the same parser before anything is done.

mod journal;
mod place;
mod playbook;
mod schema;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use self::journal::{Goal, Journal, Progress, State};
use self::place::Place;
use self::playbook::{Phase, Playbook, Step};
use super::arguments::duration;
use super::session::interrupted;
use super::{Session, caller, run_command};
use crate::finding::{Class, Finding, Id};
use crate::provider::embedded::places::Places;

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Playbooks to start from are in scenarios/. Steps are commands: `a9s run --schema` lists them with their flags."
)]
pub struct RunPlaybook {
    /// The playbook
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// Print the JSON schema of playbooks
    #[arg(long, exclusive = true)]
    schema: bool,
    /// Only check it and print the commands it stands for
    #[arg(long)]
    dry_run: bool,
    /// Go on where the last run of this playbook was cut off or failed, with the rounds that are left
    #[arg(long, conflicts_with_all = ["dry_run", "repeat", "for"])]
    resume: bool,
    /// Run its steps so many times; what comes before and after them once
    #[arg(long, value_name = "NUMBER", conflicts_with = "for", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Run its steps again and again for this time, for example 10m
    #[arg(long = "for", value_name = "DURATION", id = "for", value_parser = duration)]
    time: Option<Duration>,
}

impl RunPlaybook {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        if self.schema {
            let schema = schema::of_playbooks();
            session.console.line(serde_json::to_string_pretty(&schema).unwrap_or_default());
            session.console.document(&schema);
            return Ok(());
        }
        let file = caller::path(self.file.as_deref().unwrap_or(Path::new("")));
        let playbook = Playbook::read(&file)?;
        if self.dry_run {
            session.console.line(playbook.describe().trim_end());
            session.console.document(&playbook.document());
            return Ok(());
        }
        // No cluster's name begins with a dot.
        let directory = Places::of_user()?.state.join(".playbooks");
        let journal = Journal::of(&directory, &file, &playbook)?;
        let goal = self.time.map_or(Goal::Rounds(self.repeat.unwrap_or(1)), Goal::Time);
        let progress = Progress::towards(goal);
        let mut drive = Drive { session, playbook: &playbook, journal, progress, done: Vec::new() };
        let result = drive.all(self.resume);
        drive.answer(&result);
        result
    }
}

struct Drive<'a> {
    session: &'a Session,
    playbook: &'a Playbook,
    journal: Journal,
    progress: Progress,
    done: Vec<serde_json::Value>,
}

impl Drive<'_> {
    fn all(&mut self, resume: bool) -> Result<(), Finding> {
        let from = self.start(resume)?;
        // After a failure everything stays as it is: it can be looked at, and gone on with.
        self.phase(Phase::Before, from)?;
        self.rounds(from)?;
        self.phase(Phase::After, from)?;
        self.journal.finish()
    }

    /// The number of steps that are done already.
    fn start(&mut self, resume: bool) -> Result<usize, Finding> {
        let console = &self.session.console;
        let name = &self.playbook.name;
        let refused = |id, why: String| Finding::new(id, why).advise("Run it from its beginning: leave --resume out.");
        match (self.journal.state()?, resume) {
            (State::Unfinished(progress), true) => {
                let done = progress.done;
                self.progress = progress;
                console.info(format!("{done} steps were done in the last run; going on after them."));
                return Ok(done);
            }
            (State::Changed, true) => {
                let why = format!("{name} was changed since its last run, so that run can't be resumed");
                return Err(refused(Id::PlaybookChanged, why));
            }
            // It stays as it is: somebody may still read in it how far the run came.
            (State::Damaged(why), true) => {
                let why = format!("the journal of {name}'s last run is damaged, so that run can't be resumed: {why}");
                return Err(refused(Id::PlaybookJournal, why));
            }
            (State::Damaged(why), false) => {
                console.warning(format!("The journal of the last run is damaged, and is begun anew: {why}"));
            }
            (State::Unfinished(Progress { done, .. }), false) => {
                console.info(format!("The last run ended after {done} steps; --resume would go on after them."));
            }
            (State::Changed | State::Finished, _) => {}
        }
        self.journal.write(&self.progress)?;
        Ok(0)
    }

    fn rounds(&mut self, from: usize) -> Result<(), Finding> {
        self.phase(Phase::Steps, from)?;
        while self.progress.goes_on() {
            self.progress.round += 1;
            self.session.console.info(format!("Round {} begins.", self.progress.round));
            self.phase(Phase::Steps, 0)?;
        }
        Ok(())
    }

    fn phase(&mut self, phase: Phase, from: usize) -> Result<(), Finding> {
        let playbook = self.playbook;
        let total = playbook.steps.len();
        for (index, step) in playbook.steps.iter().enumerate().filter(|(_, step)| step.phase == phase) {
            if index < from {
                continue;
            }
            let step = step.in_round(self.progress.round);
            self.session.console.line(format!("[{}/{total}] a9s {}", index + 1, step.line()));
            let begun = Instant::now();
            self.step(&step)?;
            if phase == Phase::Steps {
                self.progress.spent += begun.elapsed();
            }
            if step.is_of_cluster() {
                self.progress.place = Place::now();
            }
            self.progress.done = index + 1;
            self.journal.write(&self.progress)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Finding> {
        let begun = Instant::now();
        let result = match self.session.interrupt.is_cancelled() {
            true => Err(interrupted()),
            false => self.stays(step).and_then(|()| run_command(&step.words, self.session)),
        };
        self.session.progress.clear();
        let seconds = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let outcome = result.as_ref().err().map(|finding| finding.cause.clone());
        self.done.push(json!({"command": step.line(), "line": step.at, "seconds": seconds, "error": outcome}));
        result.map_err(|mut finding| {
            finding.cause = format!("{}: line {}: {}", self.playbook.name, step.at, finding.cause);
            match finding.class() {
                Class::Interrupted => finding.advise("a9s run --resume goes on with this step."),
                _ => finding.advise("Once the cause is mended, --resume goes on with this step."),
            }
        })
    }

    /// Steps that name no cluster go to that of the current context, all of them to the same: somebody may make another
    /// one the current one meanwhile, or before the playbook is resumed.
    fn stays(&mut self, step: &Step) -> Result<(), Finding> {
        if step.is_of_cluster() || step.names_cluster() {
            return Ok(());
        }
        let now = Place::now();
        let Some(place) = self.progress.place.clone() else {
            self.progress.place = now;
            return Ok(());
        };
        if now.as_ref() == Some(&place) {
            return Ok(());
        }
        let now = now.map_or_else(|| "there is none".to_owned(), |now| format!("it is {now}"));
        let cause = format!("earlier steps went to the current context {place}, and now {now}");
        Err(Finding::new(Id::PlaybookElsewhere, cause)
            .advise(format!("Go back: kubectl config use-context {}", place.context))
            .advise("Or run it from its beginning where you are now: leave --resume out."))
    }

    fn answer(&self, result: &Result<(), Finding>) {
        let console = &self.session.console;
        if result.is_ok() {
            let rounds =
                if self.progress.round > 1 { format!(", {} rounds", self.progress.round) } else { String::new() };
            console.celebrate(format!("{} is done: {} steps{rounds}.", self.playbook.name, self.done.len()));
        }
        // Of a playbook that has failed, too: the last of its steps is the one that did.
        console.document(&json!({"playbook": self.playbook.name, "rounds": self.progress.round, "steps": self.done}));
    }
}
