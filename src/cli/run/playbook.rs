//! The document of a playbook, and what it stands for: command lines, checked by the parser of the command line.

use std::collections::BTreeMap;
use std::path::Path;

use clap::builder::ValueParser;
use clap::{ArgAction, CommandFactory, Parser, ValueHint};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::finding::{Finding, Id};
use crate::step::quoted;
use crate::yaml::{self, Located};

/// The document. What comes `before` and `after` is run once, `steps` as often as is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    defaults: Located<Flags>,
    #[serde(default)]
    before: Vec<Located<Written>>,
    steps: Vec<Located<Written>>,
    #[serde(default)]
    after: Vec<Located<Written>>,
}

/// A step as written: one command with its flags.
type Written = BTreeMap<String, Option<Flags>>;

/// Flags by their long names.
type Flags = BTreeMap<String, Located<Value>>;

/// When a step is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Once, first.
    Before,
    /// As often as is asked for.
    Steps,
    /// Once, when all that has been done.
    After,
}

/// What stands in a value for the number of the round.
const ROUND: &str = "{round}";

/// One step.
#[derive(Debug)]
pub struct Step {
    /// When it is run.
    pub phase: Phase,
    /// The line it begins at.
    pub at: u64,
    /// The command without the program's name.
    pub words: Vec<String>,
}

impl Step {
    /// The step as it is run in a round: `{round}` is its number, from 1. So the playbook knows what an instance has to hold
    /// without asking the instance.
    pub fn in_round(&self, round: u32) -> Self {
        Self { phase: self.phase, at: self.at, words: in_round(&self.words, round) }
    }

    /// Whether it is about a cluster as such, and may make another context the current one.
    pub fn is_of_cluster(&self) -> bool {
        self.words.iter().take(2).any(|word| word == "cluster")
    }

    /// Whether it says itself to which cluster it goes.
    pub fn names_cluster(&self) -> bool {
        const NAMES: [&str; 3] = ["--context=", "--kubeconfig=", "--cluster-name="];
        self.words.iter().any(|word| NAMES.iter().any(|name| word.starts_with(*name)))
    }

    /// The command line.
    pub fn line(&self) -> String {
        self.words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A playbook whose every command is one.
#[derive(Debug)]
pub struct Playbook {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its text.
    pub text: String,
    /// All steps, in the order of their phases.
    pub steps: Vec<Step>,
}

impl Playbook {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It can't be read, is not a playbook, or holds a command that is wrong; all of those are named with their lines.
    pub fn read(file: &Path) -> Result<Self, Finding> {
        let text = fs_err::read_to_string(file)
            .map_err(|error| Finding::new(Id::NoPlaybook, format!("can't read the playbook: {error}")))?;
        let base = std::path::absolute(file).ok().and_then(|file| Some(file.parent()?.to_owned())).unwrap_or_default();
        Self::parse(&text, &base).map_err(|wrong| {
            let (first, rest) = wrong.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
            Finding::new(Id::PlaybookWrong, format!("{}: {first}", file.display()))
                .with("and", rest.iter().map(|text| format!("{}: {text}", file.display())))
                .advise("a9s run --schema describes playbooks.")
        })
    }

    /// Checks a text. Paths in it start at `base`.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Vec<String>> {
        let document: Document = yaml::read(text).map_err(|error| vec![error.to_string()])?;
        let mut wrong = Vec::new();
        let mut steps = Vec::new();
        let phases =
            [(Phase::Before, &document.before), (Phase::Steps, &document.steps), (Phase::After, &document.after)];
        for (phase, written) in &phases {
            for step in *written {
                match words(&step.value, &document.defaults.value, base, text) {
                    Ok(words) => steps.push(Step { phase: *phase, at: step.line, words }),
                    Err((at, why)) => wrong.push(format!("line {}: {why}", at.unwrap_or(step.line))),
                }
            }
        }
        let written = phases.iter().flat_map(|(_, written)| written.iter()).flat_map(|step| step.value.keys());
        let used: Vec<clap::Command> = written.filter_map(|name| command(name)).collect();
        for (name, value) in &document.defaults.value {
            if !used.iter().any(|command| argument(command, name).is_some()) {
                wrong.push(format!("line {}: no step has \"{name}\"", value.line));
            }
        }
        if document.steps.is_empty() {
            wrong.push("there are no steps".to_owned());
        }
        let Document { name, description, .. } = document;
        if wrong.is_empty() { Ok(Self { name, description, text: text.to_owned(), steps }) } else { Err(wrong) }
    }

    /// What it would do, as command lines.
    pub fn describe(&self) -> String {
        let mut text = format!("{}\n", self.name);
        if !self.description.is_empty() {
            text.push_str(&format!("{}\n", self.description.trim()));
        }
        for (phase, title) in
            [(Phase::Before, "once, before"), (Phase::Steps, "the steps"), (Phase::After, "once, after")]
        {
            let steps: Vec<(usize, &Step)> =
                self.steps.iter().enumerate().filter(|(_, step)| step.phase == phase).collect();
            if !steps.is_empty() {
                text.push_str(&format!("{title}:\n"));
            }
            for (index, step) in steps {
                text.push_str(&format!("{:>3}. a9s {}\n", index + 1, step.line()));
            }
        }
        text
    }

    /// The same as a document.
    pub fn document(&self) -> Value {
        let steps: Vec<Value> =
            self.steps.iter().map(|step| json!({"command": step.line(), "line": step.at})).collect();
        json!({"playbook": self.name, "description": self.description, "dryRun": true, "steps": steps})
    }
}

/// What is wrong with a step, and at which line where that is known better than the step's.
type Wrong = (Option<u64>, String);

fn words(written: &Written, defaults: &Flags, base: &Path, document: &str) -> Result<Vec<String>, Wrong> {
    let mut entries = written.iter();
    let (Some((name, flags)), None) = (entries.next(), entries.next()) else {
        return Err((None, "a step is one command with its flags below it".to_owned()));
    };
    let command = command(name).ok_or_else(|| {
        let near = nearest(name).map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        (None, format!("there is no step \"{name}\"{near}"))
    })?;
    let mut words: Vec<String> = name.split_whitespace().map(str::to_owned).collect();
    let none = BTreeMap::new();
    let flags = flags.as_ref().unwrap_or(&none);
    let fitting = defaults.iter().filter(|(name, _)| !flags.contains_key(*name) && argument(&command, name).is_some());
    let step_name = name;
    for (name, value) in fitting.chain(flags) {
        let Some(argument) = argument(&command, name) else {
            return Err((Some(value.line), format!("the step \"{}\" has no \"{name}\"", step_name)));
        };
        flag(argument, name, value, document, base, &mut words).map_err(|why| (Some(value.line), why))?;
    }
    // Nobody is there to answer questions.
    words.push("--yes".to_owned());
    match Cli::try_parse_from(std::iter::once("a9s".to_owned()).chain(in_round(&words, 1))) {
        Ok(_) => Ok(words),
        Err(error) => Err((None, one_line(&error))),
    }
}

fn in_round(words: &[String], round: u32) -> Vec<String> {
    words.iter().map(|word| word.replace(ROUND, &round.to_string())).collect()
}

/// How an argument is called in a playbook: by its long name, or, where its place says what it is, by the word for it.
pub fn name_of(argument: &clap::Arg) -> Option<&str> {
    let by_place = || argument.is_positional().then(|| argument.get_id().as_str());
    let name = argument.get_long().or_else(by_place)?;
    (!matches!(name, "help" | "version" | "dry-run" | "yes" | "output")).then_some(name)
}

fn argument<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    command.get_arguments().find(|argument| name_of(argument) == Some(name))
}

fn flag(
    argument: &clap::Arg,
    name: &str,
    value: &Located<Value>,
    document: &str,
    base: &Path,
    words: &mut Vec<String>,
) -> Result<(), String> {
    let switch = matches!(argument.get_action(), ArgAction::SetTrue);
    // Of 1.50, 0644 and yes nothing is known but what YAML takes them for; whoever wrote them may have meant the text.
    let as_written = |read: String| match value.is_written(&read, document) {
        true => Ok(read),
        false => Err(format!("\"{name}\" is read as {read}, and is not written so: put it in quotes")),
    };
    let text = match (switch, &value.value) {
        (true, Value::Bool(true)) => {
            words.push(format!("--{name}"));
            return Ok(());
        }
        (true, Value::Bool(false)) => return Ok(()),
        (true, _) => return Err(format!("\"{name}\" is true or false")),
        (false, Value::String(text)) => text.clone(),
        (false, Value::Number(number)) => as_written(number.to_string())?,
        (false, Value::Bool(truth)) => as_written(truth.to_string())?,
        (false, _) => return Err(format!("\"{name}\" is a text or a number")),
    };
    // Files are named from where the playbook is; what may be a file or something else says with a dot that it is one.
    let says_so = text.starts_with("./") || text.starts_with("../");
    let is_never_else = || argument.get_value_parser().type_id() == ValueParser::path_buf().type_id();
    let is_path = argument.get_value_hint() == ValueHint::AnyPath && (says_so || is_never_else());
    let text = if is_path { base.join(text).display().to_string() } else { text };
    if argument.is_positional() {
        if text.starts_with('-') {
            return Err(format!("\"{name}\" can't begin with a dash"));
        }
        words.push(text);
    } else {
        // One word, so that a value may begin with a dash.
        words.push(format!("--{name}={text}"));
    }
    Ok(())
}

/// The command of a step: one that carries out a plan. Flags of the groups above it are among its own.
pub fn command(name: &str) -> Option<clap::Command> {
    commands().into_iter().find(|(path, _)| path == name).map(|(_, command)| command)
}

/// All commands that can be steps, with their names: those that carry out a plan.
pub fn commands() -> Vec<(String, clap::Command)> {
    let mut root = Cli::command();
    root.build();
    let mut found = Vec::new();
    collect(&root, "", &mut found);
    found
}

fn collect(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    for sub in command.get_subcommands() {
        let path = format!("{path} {}", sub.get_name()).trim().to_owned();
        let has = |name: &str| sub.get_arguments().any(|argument| argument.get_long() == Some(name));
        if has("dry-run") && has("timeout") && !sub.is_hide_set() && path != "run" {
            found.push((path.clone(), sub.clone()));
        }
        collect(sub, &path, found);
    }
}

fn nearest(name: &str) -> Option<String> {
    let words: Vec<&str> = name.split_whitespace().collect();
    let common = |path: &str| path.split_whitespace().filter(|word| words.contains(word)).count();
    let best = commands().into_iter().map(|(path, _)| path).max_by_key(|path| common(path))?;
    (common(&best) > 0).then_some(best)
}

/// clap's first sentence; the usage below it is of no use in a playbook.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse(text: &str) -> Result<Playbook, Vec<String>> {
        Playbook::parse(text, Path::new("/books"))
    }

    #[test]
    fn steps_are_command_lines_and_defaults_go_where_they_fit() {
        let playbook = parse(
            "name: x\ndefaults: {namespace: apps, context: c}\nbefore:\n- create cluster a8s:\nsteps:\n\
             - create pg instance: {name: blog, replicas: 3, no-apply: false}\n\
             - pg apply:\n    service-instance: blog\n    file: a/posts.sql\n\
             - pg apply: {service-instance: blog, sql: \"SELECT 'it''s'; -- $HOME\", namespace: other}\n",
        )
        .unwrap();
        let lines: Vec<String> = playbook.steps.iter().map(Step::line).collect();
        assert_eq!(
            lines,
            [
                "create cluster a8s --yes",
                "create pg instance --context=c --namespace=apps --name=blog --replicas=3 --yes",
                "pg apply --context=c --namespace=apps --file=/books/a/posts.sql --service-instance=blog --yes",
                r"pg apply --context=c --namespace=other --service-instance=blog '--sql=SELECT '\''it'\'''\''s'\''; -- $HOME' --yes",
            ]
        );
        assert_eq!(playbook.steps.iter().map(|step| step.at).collect::<Vec<_>>(), [4, 6, 7, 10]);
    }

    #[test]
    fn a_default_that_no_step_has_is_wrong() {
        let wrong =
            parse("name: x\ndefaults:\n  namspace: apps\n  name: solo\nsteps:\n- create pg instance:\n").unwrap_err();
        assert_eq!(wrong, ["line 3: no step has \"namspace\""]);
    }

    #[test]
    fn files_lie_beside_the_playbook() {
        let text = "name: x\nsteps:\n- create stack a8s: {image-map: map.yaml, deployment-version: ./release}\n\
             - create stack a8s: {deployment-version: v1.2.0, backup-store-accesskey-file: /key}\n";
        let lines: Vec<String> = parse(text).unwrap().steps.iter().map(Step::line).collect();
        assert_eq!(
            lines,
            [
                "create stack a8s --deployment-version=/books/./release --image-map=/books/map.yaml --yes",
                "create stack a8s --backup-store-accesskey-file=/key --deployment-version=v1.2.0 --yes",
            ]
        );
    }

    #[test]
    fn what_is_no_file_may_begin_like_the_name_of_one() {
        let playbook = parse("name: x\nsteps:\n- pg check: {service-instance: a, sql: b, is: ../x}\n").unwrap();
        assert!(playbook.steps[0].words.contains(&"--is=../x".to_owned()), "{:?}", playbook.steps[0].words);
    }

    #[test]
    fn the_number_of_the_round_can_be_part_of_a_value() {
        let playbook =
            parse("name: x\nsteps:\n- pg check: {service-instance: a, sql: b, is: \"{round}000\"}\n").unwrap();
        assert!(playbook.steps[0].line().contains("{round}000"));
        assert!(playbook.steps[0].in_round(7).words.contains(&"--is=7000".to_owned()));
    }

    #[test]
    fn a_number_or_a_truth_is_the_text_that_is_written() {
        for written in ["20", "-1", "1.5", "15.0", "true", "\"12.50\"", "'yes'", "0.10.0"] {
            let flags = format!("    service-instance: a\n    sql: b\n    is: {written} # so\n");
            let text = format!("name: x\nsteps:\n- pg check:\n{flags}");
            let wanted = format!("--is={}", written.trim_matches(['"', '\'']));
            assert!(parse(&text).unwrap().steps[0].words.contains(&wanted), "{written}");
        }
    }

    #[test]
    fn steps_about_a_cluster_and_steps_that_name_one_are_known() {
        let playbook = parse(
            "name: x\nbefore:\n- create cluster a8s:\nsteps:\n- pg apply: {service-instance: a, sql: cluster}\n\
             - pg apply: {service-instance: a, sql: b, context: c}\n",
        )
        .unwrap();
        assert_eq!(playbook.steps.iter().map(Step::is_of_cluster).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(playbook.steps.iter().map(Step::names_cluster).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn what_a_command_takes_by_its_place_has_a_name_in_a_playbook() {
        let playbook = parse("name: x\nsteps:\n- pg verify: {backup: nightly, against-live: true}\n").unwrap();
        assert_eq!(playbook.steps[0].line(), "pg verify --against-live nightly --yes");
        let wrong = parse("name: x\nsteps:\n- pg verify: {backup: --yes}\n").unwrap_err();
        assert_eq!(wrong, ["line 3: \"backup\" can't begin with a dash"]);
    }

    #[rstest]
    #[case(
        "name: x\nsteps:\n- create pg instnace: {name: a}\n",
        "line 3: there is no step \"create pg instnace\"; did you mean"
    )]
    #[case(
        "name: x\nsteps:\n- create pg instance:\n    name: a\n    replica: 3\n",
        "line 5: the step \"create pg instance\" has no \"replica\""
    )]
    #[case("name: x\nsteps:\n- create pg instance: {name: UPPER}\n", "line 3: invalid value 'UPPER'")]
    #[case(
        "name: x\nsteps:\n- delete pg instance:\n",
        "line 3: the following required arguments were not provided: --name <NAME>"
    )]
    #[case("name: x\nsteps:\n- pg apply: {service-instance: a, sql: [1]}\n", "line 3: \"sql\" is a text or a number")]
    #[case(
        "name: x\nsteps:\n- create pg instance: {name: a, no-apply: maybe}\n",
        "line 3: \"no-apply\" is true or false"
    )]
    #[case(
        "name: x\nsteps:\n- pg check: {service-instance: a, sql: b, is: 12.50}\n",
        "line 3: \"is\" is read as 12.5, and is not written so: put it in quotes"
    )]
    #[case("name: x\nsteps:\n- pg check: {service-instance: a, sql: b, is: yes}\n", "line 3: \"is\" is read as true")]
    #[case("name: x\nsteps:\n- version:\n", "line 3: there is no step \"version\"")]
    #[case("name: x\nsteps: []\n", "there are no steps")]
    #[case("name: x\nsteps:\n- {a: , b: }\n", "line 3: a step is one command")]
    #[case("name: x\nstep: []\n", "line 2")]
    #[case("just words", "line 1")]
    fn what_is_wrong_is_said_with_its_line(#[case] text: &str, #[case] wanted: &str) {
        let wrong = parse(text).unwrap_err();
        assert!(wrong[0].contains(wanted), "{wrong:?}");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let text = "name: x\nsteps:\n- nothing:\n- pg apply: {sql: a, service-instance: UPPER}\n- nowhere:\n";
        assert_eq!(parse(text).unwrap_err().len(), 3);
    }

    #[test]
    fn the_playbooks_of_the_repository_are_as_reviewed() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut count = 0;
        for entry in fs_err::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                count += 1;
                let text =
                    Playbook::read(&path).unwrap().describe().replace(&directory.display().to_string(), "[SCENARIOS]");
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                insta::with_settings!({snapshot_path => "../../../snapshots/playbooks", prepend_module_to_snapshot => false}, {
                    insta::assert_snapshot!(name, text);
                });
            }
        }
        assert!(count >= 2);
    }
}
