//! What a person types, and how answers are rendered.
//!
//! One file per command: arguments become a plan, the plan's outcome becomes words or one document. Exit codes:
//! 0 done · 1 failed · 2 wrong usage · 3 something needed is missing · 4 deadline passed · 5 refused · 130 interrupted.

pub mod arguments;
mod cluster;
mod completion;
mod conformance;
mod console;
mod create;
mod delete;
mod describe;
mod images;
pub(crate) mod interrupt;
mod list;
mod pg;
mod printable;
mod progress;
mod prompt;
mod run;
mod session;
mod version;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::{CommandFactory, Parser, Subcommand};

use self::arguments::Global;
use self::progress::eprint_line;
use self::session::Session;
use crate::caller;
use crate::conformance::catalogue::Sources;
use crate::finding::{Class, Finding, Id};
use crate::step::Cancel;

/// PostgreSQL on Kubernetes from one program
#[derive(Debug, Parser)]
#[command(name = "a9s", bin_name = "a9s", version, max_term_width = 100)]
#[command(long_about = "A tool to make the use of a9s Platform modules more enjoyable.\n\n\
    It makes Kubernetes clusters with the a8s stack, and PostgreSQL instances on them.\n\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 something needed is missing, 4 deadline passed, 5 refused or \
    conflicting, 130 interrupted.")]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create clusters and PostgreSQL resources
    Create(Box<create::Create>),
    /// Delete clusters and PostgreSQL resources
    Delete(delete::Delete),
    /// List PostgreSQL resources
    List(list::List),
    /// Describe a PostgreSQL resource
    Describe(describe::Describe),
    /// Work with PostgreSQL instances
    Pg(pg::Pg),
    /// Look after clusters
    Cluster(cluster::Cluster),
    /// List, verify and load the images of the a8s stack
    Images(images::Images),
    /// Run a playbook: commands in a file of YAML
    Run(run::RunPlaybook),
    /// Test clusters: the suite behind this program
    Conformance(conformance::Conformance),
    /// Print the version of the program and of what is installed on the current cluster
    Version(version::Version),
    /// Print a script that completes commands in a shell
    Completion(completion::Completion),
}

/// Runs the program with the arguments of this process. `features` are the ones it was built with.
pub fn main(features: fn() -> Sources) -> ExitCode {
    main_with(std::env::args_os(), features)
}

/// Runs the program with other arguments, the first of which is its name.
pub fn main_with(words: impl IntoIterator<Item = OsString>, features: fn() -> Sources) -> ExitCode {
    match Cli::try_parse_from(words) {
        Ok(cli) => {
            log_to_stderr();
            ExitCode::from(carry_out(cli, features))
        }
        Err(error) => ExitCode::from(match error.print().and_then(|()| std::io::stdout().flush()) {
            // Help is an answer. A reader that went away is no error.
            Err(why) if !error.use_stderr() && why.kind() != ErrorKind::BrokenPipe => {
                let finding = console::unwritable(&why);
                report(&finding);
                exit_code(finding.class())
            }
            _ => refusal(&error),
        }),
    }
}

/// Runs a command inside of this process, for the [`caller`] of this thread, and gives its exit code.
pub fn run_in_process(words: &[String]) -> u8 {
    match Cli::try_parse_from(words) {
        Ok(cli) => carry_out(cli, Sources::default),
        Err(error) => {
            let text = error.render().to_string();
            if error.use_stderr() {
                caller::write_error(&text)
            } else {
                drop(caller::write(text.as_bytes()))
            }
            refusal(&error)
        }
    }
}

fn refusal(error: &clap::Error) -> u8 {
    if error.use_stderr() { exit_code(Class::Usage) } else { 0 }
}

fn carry_out(cli: Cli, features: fn() -> Sources) -> u8 {
    let session = Session::new(cli.global, Cancel::new());
    let result = session.listen().and_then(|()| match cli.command {
        None => group(&session, &[], ""),
        Some(command) => run(command, &session, features),
    });
    finish(&session, result)
}

fn run(command: Command, session: &Session, features: fn() -> Sources) -> Result<(), Finding> {
    match command {
        Command::Create(create) => create.run(session),
        Command::Delete(delete) => delete.run(session),
        Command::List(list) => list.run(session),
        Command::Describe(describe) => describe.run(session),
        Command::Pg(pg) => pg.run(session),
        Command::Cluster(cluster) => cluster.run(session),
        Command::Images(images) => images.run(session),
        Command::Conformance(conformance) => conformance.run(session, &features()),
        Command::Run(playbook) => playbook.run(session),
        Command::Version(version) => version.run(session),
        Command::Completion(completion) => completion.run(session),
    }
}

/// Runs one command in a session that is there already: a playbook's step. Its words go where the playbook's go; of
/// documents there is one, the playbook's; and it ends when that is interrupted.
fn run_command(words: &[String], session: &Session) -> Result<(), Finding> {
    let words = std::iter::once("a9s").chain(words.iter().map(String::as_str));
    let cli = Cli::try_parse_from(words).map_err(|error| Finding::new(Id::PlaybookWrong, error))?;
    let interrupt = session.interrupt.clone();
    let own = match session.console.words() {
        true => Session::new(cli.global, interrupt),
        false => Session::silent(cli.global, interrupt),
    };
    let Some(command) = cli.command else { return Ok(()) };
    run(command, &own, Sources::default).and_then(|()| own.console.trouble().map_or(Ok(()), Err))
}

/// Verdict, output and exit code agree: whatever is printed here is what the exit code says.
fn finish(session: &Session, result: Result<(), Finding>) -> u8 {
    session.progress.clear();
    session.console.hand_out(result.as_ref().err());
    let result = result.and_then(|()| session.console.trouble().map_or(Ok(()), Err));
    match result {
        Ok(()) => session.exit_code.load(Ordering::Relaxed),
        Err(finding) => {
            report(&finding);
            exit_code(finding.class())
        }
    }
}

fn exit_code(class: Class) -> u8 {
    match class {
        Class::Failed if sabotage::sabotaged!("exit-code-of-failure") => 0,
        Class::Usage if sabotage::sabotaged!("exit-code-of-usage") => 1,
        Class::Missing if sabotage::sabotaged!("exit-code-of-missing") => 1,
        class => class.exit_code(),
    }
}

/// Lines longer than this don't help anybody.
const LONGEST_LINE: usize = 500;

/// As one line: another one would look like words of ours.
fn clipped(text: &str) -> String {
    let mut clipped: String = text.chars().take(LONGEST_LINE).map(|c| if c == '\n' { ' ' } else { c }).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

fn report(finding: &Finding) {
    let line = |text: String| eprint_line(&clipped(&text));
    eprint_line(&format!(" ❌ {} [{}]", clipped(&finding.cause), finding.id));
    for evidence in &finding.evidence {
        line(format!("    {}:", evidence.about));
        for text in &evidence.lines {
            line(format!("      {text}"));
        }
    }
    for advice in &finding.advice {
        line(format!("    → {advice}"));
    }
}

/// A group without a command: a warning and its help, as an answer. So it is no failure, but where a document was asked for.
fn group(session: &Session, path: &[&str], warning: &str) -> Result<(), Finding> {
    if !session.console.words() {
        let cause = "help is no document: name one of the commands, or leave out --output";
        return Err(Finding::new(Id::NoDocument, cause));
    }
    let mut root = Cli::command();
    root.build();
    let command = path.iter().try_fold(&mut root, |command, word| command.find_subcommand_mut(word));
    if !warning.is_empty() {
        session.console.line(format!(" ⚠️  {warning}"));
        session.console.line("");
    }
    if let Some(command) = command {
        session.console.line(command.render_help().to_string().trim_end());
    }
    Ok(())
}

fn log_to_stderr() {
    let Some(filter) = std::env::var("A9S_LOG").ok().or_else(|| std::env::var("RUST_LOG").ok()) else { return };
    let filter = tracing_subscriber::EnvFilter::new(filter);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::conformance::catalogue::{Catalogue, Sources};
    use crate::conformance::command::words;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_line_of_a_finding_is_one_line() {
        assert_eq!(clipped("it failed\n ✅ it is done"), "it failed  ✅ it is done");
        assert_eq!(clipped(&"é".repeat(LONGEST_LINE + 1)), "é".repeat(LONGEST_LINE) + "…");
    }

    fn each(command: &mut clap::Command, path: &str, visit: &mut impl FnMut(&str, &mut clap::Command)) {
        visit(path, command);
        for sub in command.get_subcommands_mut() {
            let path = format!("{path}_{}", sub.get_name());
            each(sub, &path, visit);
        }
    }

    #[test]
    fn every_help_is_as_reviewed() {
        let mut root = Cli::command().term_width(100);
        root.build();
        insta::with_settings!({snapshot_path => "../../snapshots/help", prepend_module_to_snapshot => false}, {
            each(&mut root, "a9s", &mut |path, command| {
                if !path.contains("_help") {
                    insta::assert_snapshot!(path, command.render_long_help().to_string());
                }
            });
        });
    }

    /// `A9S_UPDATE_DOCS=1 cargo test -p a9s --lib reference` writes it anew.
    #[test]
    fn the_command_reference_is_up_to_date() {
        let mut root = Cli::command().term_width(100);
        root.build();
        let mut text = String::from(
            "# Commands\n\nGenerated from the program: `A9S_UPDATE_DOCS=1 cargo test -p a9s --lib reference`.\n",
        );
        each(&mut root, "a9s", &mut |path, command| {
            if !path.contains("_help") {
                let help = command.render_long_help().to_string();
                let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
                text.push_str(&format!(
                    "\n## {}\n\n```text\n{}\n```\n",
                    path.replace('_', " "),
                    lines.join("\n").trim_end()
                ));
            }
        });
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
        if std::env::var_os("A9S_UPDATE_DOCS").is_some() {
            fs_err::write(&path, &text).unwrap();
        }
        assert!(fs_err::read_to_string(&path).unwrap_or_default() == text, "docs/commands.md is not what --help says");
    }

    /// Adds what a command line sets, as `command --flag`.
    fn note(command: &clap::Command, path: &str, matches: &clap::ArgMatches, used: &mut BTreeSet<String>) {
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            if matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine) {
                used.insert(flag(path, argument));
            }
        }
        if let Some((name, matches)) = matches.subcommand()
            && let Some(command) = command.find_subcommand(name)
        {
            note(command, &format!("{path} {name}"), matches, used);
        }
    }

    /// What has a heading of its own is the same in all the commands that have it.
    fn flag(path: &str, argument: &clap::Arg) -> String {
        let name = argument.get_long().map_or_else(|| argument.get_id().to_string(), |long| format!("--{long}"));
        if argument.get_help_heading().is_some() { name } else { format!("{path} {name}") }
    }

    /// The features are complete in this respect too: what no scenario says, nobody has seen work.
    #[test]
    fn every_flag_is_in_a_feature() {
        let mut root = Cli::command();
        root.build();
        let features = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("features");
        let catalogue = Catalogue::read(&Sources::from_directory(&features).unwrap());
        let steps = catalogue.entries.iter().flat_map(|entry| entry.steps());
        let mut used = BTreeSet::new();
        let instance = regex::Regex::new(r#"instance "([^"]+)" with `"#).unwrap();
        for step in steps {
            let text = instance.replace(&step.value, "`a9s create pg instance --name $1 ");
            let quoted = text.split_once("`a9s ").map(|(_, rest)| rest.split_once('`').map_or(rest, |(line, _)| line));
            let cells = step.table.iter().flat_map(|table| table.rows.iter().flatten());
            for line in cells.filter_map(|cell| cell.strip_prefix("a9s ")).chain(quoted) {
                let line = line.replace("{namespace}", "e2e").replace(['{', '}'], "");
                let words = ["a9s".to_owned()].into_iter().chain(words(&line));
                if let Ok(matches) = root.clone().try_get_matches_from(words) {
                    note(&root, "a9s", &matches, &mut used);
                }
            }
        }
        let mut unseen = BTreeSet::new();
        each(&mut root, "a9s", &mut |path, command| {
            if path.contains("_help") {
                return;
            }
            let path = path.replace('_', " ");
            let arguments = command.get_arguments().filter(|argument| {
                !argument.is_hide_set() && argument.get_id() != "help" && argument.get_id() != "version"
            });
            unseen.extend(arguments.map(|argument| flag(&path, argument)).filter(|flag| !used.contains(flag)));
        });
        assert_eq!(unseen, BTreeSet::new(), "in no feature");
    }

    #[test]
    fn commands_that_destroy_have_no_default_name() {
        let lines = [
            "a9s delete pg instance",
            "a9s delete pg backup",
            "a9s delete pg restore",
            "a9s delete cluster a8s",
            "a9s create pg restore",
        ];
        for line in lines {
            let error = Cli::try_parse_from(line.split(' ')).err().map(|error| error.exit_code());
            assert_eq!(error, Some(2), "{line}");
        }
    }
}
