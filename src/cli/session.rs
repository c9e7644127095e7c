//! What a command works with: the console, progress, the configuration, a runner.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::mpsc::channel;
use std::time::Duration;

use futures::FutureExt;

use super::arguments::{Global, ProviderChoice, Run};
use super::console::Console;
use super::interrupt::Ear;
use super::progress::Progress;
use super::prompt;
use crate::caller;
use crate::config::{ConfigFile, WorkingDirectory};
use crate::finding::{Finding, Id};
use crate::kubernetes::DOES_IT_RUN;
use crate::manifest::resource::Resource;
use crate::provider::{self, Provider};
use crate::step::{Cancel, Event, Journal, Outcome, Plan, Reporter, Runner};

/// Ctrl-C, where nothing was done that stays.
pub fn interrupted() -> Finding {
    Finding::new(Id::Interrupted, "interrupted")
}

/// Does what can be left at any moment, until it is done or interrupted.
///
/// # Errors
/// The finding of `work`, or an interrupt.
async fn until_interrupted<T>(cancel: &Cancel, work: impl Future<Output = Result<T, Finding>>) -> Result<T, Finding> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        // Work that minds the interrupt itself says more of it. It may not have been heard yet when that was looked at last.
        () = cancel.cancelled() => work.now_or_never().unwrap_or_else(|| Err(interrupted())),
    }
}

/// The variable that names the provider, where no flag does.
const PROVIDER: &str = "A9S_PROVIDER";

/// How long a cluster may take to say how it is, before a command does anything.
const LOOK: Duration = Duration::from_secs(60);

/// What a command works with.
pub struct Session {
    /// Arguments of every command.
    pub global: Global,
    /// Standard output.
    pub console: Arc<Console>,
    /// Standard error.
    pub progress: Arc<Progress>,
    runtime: OnceCell<tokio::runtime::Runtime>,
    /// What an interrupt cancels.
    pub interrupt: Cancel,
    ear: OnceCell<Ear>,
    /// The exit code of a command that has done its work: that of a program which it ran for the user, else 0.
    pub exit_code: AtomicU8,
}

impl Session {
    /// A session of one command, which ends when `interrupt` is cancelled.
    pub fn new(global: Global, interrupt: Cancel) -> Self {
        let console = Arc::new(Console::new(global.output));
        let progress = Arc::new(Progress::new(global.verbose, global.show_commands));
        let (runtime, ear) = (OnceCell::new(), OnceCell::new());
        Self { global, console, progress, runtime, interrupt, ear, exit_code: AtomicU8::new(0) }
    }

    /// A session whose answers nobody hears.
    pub fn silent(global: Global, interrupt: Cancel) -> Self {
        let mut session = Self::new(global, interrupt);
        session.console = Arc::new(Console::silent());
        session
    }

    /// Hears from now on who interrupts it, for as long as it lives.
    ///
    /// # Errors
    /// The system has no resources for it.
    pub fn listen(&self) -> Result<(), Finding> {
        let progress = self.progress.clone();
        let ear = Ear::open(self.interrupt.clone(), move || end_at_once(progress))?;
        let _ = self.ear.set(ear);
        Ok(())
    }

    /// Runs the asynchronous part of a command, which an interrupt ends wherever it is.
    ///
    /// # Errors
    /// The finding of `work`, an interrupt, or the system has no resources for it.
    pub fn block_on<T, F>(&self, work: impl FnOnce(Cancel) -> F) -> Result<T, Finding>
    where
        F: Future<Output = Result<T, Finding>>,
    {
        self.see_through(|cancel| async move { until_interrupted(&cancel, work(cancel.clone())).await })
    }

    /// As [`Session::block_on`], for work that has something to take back: it minds its token, and comes to its end.
    ///
    /// # Errors
    /// The finding of `work`, or the system has no resources for it.
    pub fn see_through<T, F>(&self, work: impl FnOnce(Cancel) -> F) -> Result<T, Finding>
    where
        F: Future<Output = Result<T, Finding>>,
    {
        self.runtime(tokio::runtime::Builder::new_current_thread())?.block_on(work(self.interrupt.clone()))
    }

    /// As [`Session::see_through`], for work that has more to do at the same time than wait.
    ///
    /// # Errors
    /// As [`Session::see_through`].
    pub fn see_many_through<T, F>(&self, work: impl FnOnce(Cancel) -> F) -> Result<T, Finding>
    where
        F: Future<Output = Result<T, Finding>>,
    {
        self.runtime(tokio::runtime::Builder::new_multi_thread())?.block_on(work(self.interrupt.clone()))
    }

    /// Looks at a cluster, before anything is done: what does not answer is not waited for for ever.
    ///
    /// # Errors
    /// The finding of `look`, an interrupt, or that nothing answered.
    pub fn look<T>(&self, look: impl Future<Output = Result<T, Finding>>) -> Result<T, Finding> {
        self.block_on(async |_| {
            tokio::time::timeout(LOOK, look).await.unwrap_or_else(|_| {
                let cause = format!("the cluster did not answer within {} s", LOOK.as_secs());
                Err(Finding::new(Id::ClusterUnreachable, cause).advise(DOES_IT_RUN))
            })
        })
    }

    /// A session has one runtime, made by the first who needs one: connections live in it from one piece of work to the
    /// next.
    fn runtime(&self, mut builder: tokio::runtime::Builder) -> Result<&tokio::runtime::Runtime, Finding> {
        if self.runtime.get().is_none() {
            let runtime = builder
                .enable_all()
                .build()
                .map_err(|error| Finding::new(Id::NoResources, format!("cannot start: {error}")))?;
            let _ = self.runtime.set(runtime);
        }
        let Some(runtime) = self.runtime.get() else { unreachable!("it was just made") };
        Ok(runtime)
    }

    /// Warns, on standard error.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.progress.event(&Event::Warning(text.as_ref()));
    }

    /// Says where the manifest of a resource is and, where it is to be `shown` or more is to be said, what it contains.
    ///
    /// # Errors
    /// None that can happen with valid names.
    pub fn tell_manifest(&self, resource: &Resource, path: &Path, shown: bool) -> Result<(), Finding> {
        self.console.info(format!("The YAML manifest is located at: {}", path.display()));
        if shown || self.global.verbose {
            self.console.line(" The YAML manifest contains: ");
            let document = resource.document().map_err(|error| Finding::new(Id::Internal, error))?;
            self.console.raw(document.as_bytes());
        }
        Ok(())
    }

    /// A runner for one plan.
    pub fn runner(&self, cancel: Cancel, timeout: Duration, directory: Option<&WorkingDirectory>) -> Runner {
        let runner = Runner::new(self.progress.clone(), cancel, timeout);
        match directory {
            Some(directory) => runner.with_journal(Journal::new(directory.journal())),
            None => runner,
        }
    }

    /// Runs a plan, or (with `--dry-run`) shows what it would do and returns nothing.
    ///
    /// # Errors
    /// The finding of a step.
    pub async fn carry_out(
        &self,
        plan: &Plan,
        run: &Run,
        cancel: Cancel,
        directory: Option<&WorkingDirectory>,
    ) -> Result<Option<Outcome>, Finding> {
        let runner = self.runner(cancel, run.deadline.timeout, directory);
        if !run.dry_run || sabotage::sabotaged!("dry-run-is-carried-out") {
            let outcome = runner.run(plan).await;
            // What is answered comes in its place.
            self.progress.clear();
            return outcome.map(Some);
        }
        let outcome = runner.dry_run(plan).await?;
        self.progress.clear();
        self.console.line(render_dry_run(plan, &outcome).trim_end());
        self.console.document(&serde_json::json!({"dryRun": true, "plan": plan.name(), "steps": outcome.steps}));
        Ok(None)
    }

    /// The provider: named on the command line or in `A9S_PROVIDER`, else in the configuration, else the embedded one.
    ///
    /// # Errors
    /// It is not supported, or the configuration can't be read.
    pub fn provider(&self, choice: &ProviderChoice, options: provider::Options) -> Result<Arc<dyn Provider>, Finding> {
        let file = ConfigFile::of_user()?;
        let configured = file.read()?.provider;
        let (name, why) = match (choice.provider, caller::given(PROVIDER), configured) {
            (Some(name), ..) => (name, "as named".to_owned()),
            (None, Some(value), _) => {
                let parsed = value.to_string_lossy().parse::<provider::Name>();
                let named = parsed.map_err(|why| Finding::new(Id::Usage, format!("{PROVIDER}: {why}")))?;
                (named, format!("by {PROVIDER}"))
            }
            (None, None, Some(text)) => {
                let parsed = text.parse().map_err(|why: String| {
                    Finding::new(Id::ConfigDamaged, format!("{}: {why}", file.path().display()))
                })?;
                (parsed, format!("by {}", file.path().display()))
            }
            (None, None, None) => (provider::Name::default(), "the default".to_owned()),
        };
        let provider = provider::of_name(name, options)?;
        self.console.success(format!("Using {name} ({why})"));
        Ok(provider)
    }

    /// The working directory. If there is none yet, one is chosen: by asking on a terminal, else the proposal.
    ///
    /// # Errors
    /// The configuration can't be read or written, or the user declined.
    pub fn establish_working_directory(&self) -> Result<WorkingDirectory, Finding> {
        let file = ConfigFile::of_user()?;
        if let Some(directory) = file.read()?.working_dir {
            return Ok(WorkingDirectory(directory));
        }
        let chosen = self.choose(&file.proposal())?;
        self.console.info(format!("The working directory is {}", chosen.display()));
        Ok(file.add_working_directory(&chosen)?)
    }

    /// Where generated files lie. A dry run must not write the configuration, so it takes what would be proposed.
    ///
    /// # Errors
    /// As [`Session::establish_working_directory`].
    pub fn generated_directory(&self, run: &Run) -> Result<WorkingDirectory, Finding> {
        if !run.dry_run {
            return self.establish_working_directory();
        }
        let file = ConfigFile::of_user()?;
        Ok(WorkingDirectory(file.read()?.working_dir.unwrap_or_else(|| file.proposal())))
    }

    fn choose(&self, proposal: &Path) -> Result<PathBuf, Finding> {
        // Without a terminal there is nobody to ask, and the proposal harms nobody.
        if self.global.yes || !caller::can_answer() {
            return Ok(proposal.to_owned());
        }
        let declined = || Finding::new(Id::Declined, "no working directory was chosen");
        super::eprint_line(" Setting up a Working Directory");
        super::eprint_line(&format!(" The current working directory is:  {}", proposal.display()));
        if prompt::ask(self, "Do you want to use this directory as a working directory?")? {
            return Ok(proposal.to_owned());
        }
        loop {
            let path = prompt::line(self, "Enter a path: ")?.ok_or_else(declined)?;
            if path.trim().is_empty() {
                continue;
            }
            let path = std::path::absolute(path.trim()).map_err(|error| Finding::new(Id::Usage, error.to_string()))?;
            let question = format!("Awesome. We got {} as a working directory. Is this ok?", path.display());
            if prompt::ask(self, &question)? {
                return Ok(path);
            }
            super::eprint_line("Ok, no problem. Please try again.");
        }
    }

    /// The working directory, which must have been chosen before.
    ///
    /// # Errors
    /// There is none, or the configuration can't be read.
    pub fn working_directory(&self) -> Result<WorkingDirectory, Finding> {
        Ok(ConfigFile::of_user()?.working_directory()?)
    }

    /// The working directory, if one was ever chosen: for the journal of commands that need none.
    pub fn journal(&self) -> Option<WorkingDirectory> {
        self.working_directory().ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A blocked read of a file or of standard input must not hold up the end.
            runtime.shutdown_timeout(Duration::from_millis(10));
        }
    }
}

fn render_dry_run(plan: &Plan, outcome: &Outcome) -> String {
    let mut text = format!("What {} would do:\n", plan.name());
    for (index, step) in outcome.steps.iter().enumerate() {
        let verdict = if step.satisfied { "is done" } else { "to do" };
        text.push_str(&format!("{:>3}. {} ({verdict}: {})\n", index + 1, step.title, step.observed));
    }
    text
}

/// How long standard error may take to take the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whoever asks twice does not want to wait for anything, also not for standard error, which nobody may read.
fn end_at_once(progress: Arc<Progress>) {
    let cause = "interrupted again: what was being done or taken back is left as it is";
    // What it was is not known here: some commands would do again what may be done.
    let advice = "Look what was done before you run the same command again.";
    let finding = Finding::new(Id::Interrupted, cause).advise(advice);
    let exit_code = finding.class().exit_code();
    within(LAST_WORDS, move || {
        progress.clear();
        super::report(&finding);
    });
    std::process::exit(i32::from(exit_code));
}

/// Waits so long at most for what is done.
fn within(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel::<()>();
    let work = move || {
        work();
        drop(done);
    };
    // Without a thread it is not done: there is no time to do something about it.
    if std::thread::Builder::new().spawn(work).is_ok() {
        let _ = ended.recv_timeout(limit);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Instant;

    use super::*;
    use crate::caller::Caller;
    use crate::cli::arguments::Deadline;
    use crate::provider::Name;

    #[test]
    fn a_variable_names_the_provider_and_an_empty_one_none() {
        let named = |value: &str| {
            let variables = vec![("HOME".into(), "/nowhere".into()), (PROVIDER.into(), value.into())];
            let caller = Caller { variables, ..Caller::default() };
            let global = Global { yes: false, verbose: false, show_commands: false, output: None };
            let look = || {
                let session = Session::silent(global, Cancel::new());
                let provider = session.provider(&ProviderChoice { provider: None }, provider::Options::default());
                provider.map(|provider| provider.name())
            };
            caller::instead(caller, look).0
        };
        assert_eq!(named("kind").unwrap(), Name::Kind);
        assert_eq!(named("").unwrap(), Name::Embedded);
        let finding = named("nimbus").unwrap_err();
        assert_eq!(finding.id, Id::Usage);
        let words = "A9S_PROVIDER: The selected Kubernetes provider nimbus is not valid.";
        assert!(finding.cause.starts_with(words), "{finding:?}");
    }

    #[test]
    fn the_live_line_of_a_plan_is_gone_before_there_is_an_answer() {
        let global = Global { yes: false, verbose: false, show_commands: false, output: None };
        let mut session = Session::silent(global, Cancel::new());
        session.progress = Arc::new(Progress::unseen());
        session.progress.event(&Event::Started { title: "create it", difference: "it is not there" });
        assert!(session.progress.is_live());
        let (plan, deadline) = (Plan::new("test"), Deadline { timeout: Duration::from_secs(10) });
        let run = Run { dry_run: false, deadline };
        session.block_on(async |cancel| session.carry_out(&plan, &run, cancel, None).await).unwrap();
        assert!(!session.progress.is_live());
    }

    #[test]
    fn what_does_not_end_is_not_waited_for() {
        let (sender, done) = channel();
        let begun = Instant::now();
        within(Duration::from_secs(60), move || sender.send(()).unwrap());
        assert!(done.try_recv().is_ok() && begun.elapsed() < Duration::from_secs(30));
        let (forever, never) = channel::<()>();
        within(Duration::from_millis(10), move || {
            let _ = never.recv();
        });
        assert!(begun.elapsed() < Duration::from_secs(30));
        drop(forever);
    }

    #[test]
    fn an_interrupt_before_a_piece_of_work_ends_it_unless_it_is_to_be_seen_through() {
        let global = Global { yes: false, verbose: false, show_commands: false, output: None };
        let session = Session::silent(global, Cancel::new());
        assert_eq!(session.block_on(async |_| Ok(1)).unwrap(), 1);
        session.interrupt.cancel();
        assert_eq!(session.block_on(async |_| pending::<Result<(), Finding>>().await).unwrap_err().id, Id::Interrupted);
        assert_eq!(session.look(pending::<Result<(), Finding>>()).unwrap_err().id, Id::Interrupted);
        let seen_through = session.see_through(async |cancel| {
            tokio::task::yield_now().await;
            Ok(cancel.is_cancelled())
        });
        assert!(seen_through.unwrap());
    }
}
