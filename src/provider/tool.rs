//! External programs: found on the PATH, run to an end, and believed only by their exit status.
//!
//! What a failed one said on standard error is the finding's evidence. Secrets go through standard input or files, never
//! into arguments.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::finding::{Finding, Id};
use crate::step::{Context, quoted};

/// Last lines of what a failed program said that are shown.
const LINES: usize = 12;

/// A program of this machine.
#[derive(Debug, Clone)]
pub struct Tool {
    /// As a person would type it.
    pub name: &'static str,
    /// How to get it.
    pub get: &'static str,
    path: Option<PathBuf>,
    environment: Vec<(&'static str, OsString)>,
}

impl Tool {
    /// A program that is looked for on the PATH when it is first needed.
    pub fn new(name: &'static str, get: &'static str) -> Self {
        Self { name, get, path: None, environment: Vec::new() }
    }

    /// The program at this path instead.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// The program with one more variable in its environment.
    #[must_use]
    pub fn with(mut self, variable: &'static str, value: &OsStr) -> Self {
        self.environment.push((variable, value.to_owned()));
        self
    }

    /// Where it is.
    ///
    /// # Errors
    /// Nowhere.
    pub fn find(&self) -> Result<PathBuf, Finding> {
        self.path.clone().or_else(|| on_path(self.name)).ok_or_else(|| missing(&[self]))
    }

    /// Runs it to a successful end; what it said on standard output.
    ///
    /// # Errors
    /// It is not there, or ended otherwise.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, Finding> {
        self.run_with(arguments, None).await
    }

    /// As [`Tool::run`], and tells the reporter.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub async fn act(&self, arguments: &[&str], input: Option<&str>, context: &Context) -> Result<String, Finding> {
        let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        context.command(format!("{} {}", self.name, words.join(" ")));
        self.run_with(arguments, input).await
    }

    async fn run_with(&self, arguments: &[&str], input: Option<&str>) -> Result<String, Finding> {
        let ended = self.end_of(arguments, input).await?;
        match ended.success {
            true => Ok(ended.stdout),
            false => Err(self.failed(arguments, &ended)),
        }
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// It can't be run.
    pub async fn end_of(&self, arguments: &[&str], input: Option<&str>) -> Result<Ended, Finding> {
        let path = self.find()?;
        let cannot =
            |error: std::io::Error| Finding::new(Id::ToolUnusable, format!("cannot run {}: {error}", path.display()));
        let mut child = Command::new(&path)
            .args(arguments.iter().map(OsStr::new))
            .envs(self.environment.iter().map(|(variable, value)| (variable, value)))
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C is ours to hear: it would seem to have failed by itself. So it can't ask at the terminal.
            .process_group(0)
            .spawn()
            .map_err(cannot)?;
        let mut group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw));
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A program that ends without reading says why by its exit status.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(cannot)?;
        group.0 = None;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ended {
            success: output.status.success(),
            status: output.status.to_string(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        })
    }

    /// The finding for a failed run: what it said last is the cause in short.
    pub fn failed(&self, arguments: &[&str], ended: &Ended) -> Finding {
        let command = format!("{} {}", self.name, arguments.join(" "));
        let said: Vec<&str> = ended.stderr.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
        let reason = said.iter().find(|line| line.to_ascii_lowercase().contains("error")).or(said.last());
        let cause = match reason {
            Some(reason) => format!("{command} failed ({}): {}", ended.status, reason.trim()),
            None => format!("{command} failed ({})", ended.status),
        };
        let last = said.iter().skip(said.len().saturating_sub(LINES)).map(|line| (*line).to_owned());
        Finding::new(Id::ToolFailed, cause).with(format!("standard error of {command}"), last)
    }
}

/// All of these are needed: one finding names all that are not there.
///
/// # Errors
/// One is not there.
pub fn all_there(tools: &[&Tool]) -> Result<(), Finding> {
    let gone: Vec<&Tool> = tools.iter().copied().filter(|tool| tool.find().is_err()).collect();
    if gone.is_empty() { Ok(()) } else { Err(missing(&gone)) }
}

fn missing(tools: &[&Tool]) -> Finding {
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    let cause = match names.as_slice() {
        [name] => format!("{name} is not installed: it is not on the PATH"),
        names => format!("{} are not installed: they are not on the PATH", names.join(" and ")),
    };
    let finding = Finding::new(Id::NoTool, cause);
    tools.iter().fold(finding, |finding, tool| finding.advise(format!("How to get {}: {}", tool.name, tool.get)))
}

/// The processes of a program that runs: where it is not waited for any more, they end.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // They may have ended.
        let _ = self.0.map(|group| killpg(group, Signal::SIGKILL));
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status 0.
    pub success: bool,
    /// The exit status in words.
    pub status: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// What a tool that has failed has said, line by line, and then the cause.
pub fn said(failed: &Finding) -> impl Iterator<Item = &String> {
    failed.evidence.iter().flat_map(|evidence| &evidence.lines).chain([&failed.cause])
}

/// A program of this name on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = crate::caller::variable("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| {
        std::fs::metadata(candidate).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// Major, minor and patch out of text such as `kind v0.27.0 go1.23 linux/amd64`.
pub fn version(text: &str) -> Option<(u32, u32, u32)> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | '(')).find_map(|word| {
        let mut parts = word.trim_start_matches('v').split(['.', '-', '+']);
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let patch = parts.next().and_then(|patch| patch.parse().ok()).unwrap_or(0);
        Some((major, minor, patch))
    })
}

/// The oldest version that is good enough.
///
/// # Errors
/// It is older, or says nothing that looks like a version.
pub fn require(tool: &Tool, said: &str, oldest: (u32, u32, u32)) -> Result<(), Finding> {
    let wanted = format!("{}.{}.{}", oldest.0, oldest.1, oldest.2);
    let cause = match version(said) {
        Some(found) if found >= oldest => return Ok(()),
        Some((major, minor, patch)) => {
            format!("{} {major}.{minor}.{patch} is too old: at least {wanted} is needed", tool.name)
        }
        None => format!("{} does not say its version: {:?}", tool.name, said.trim()),
    };
    Err(Finding::new(Id::ToolTooOld, cause).advise(format!("How to get it: {}", tool.get)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rstest::rstest;

    use super::*;
    use crate::finding::Class;

    #[rstest]
    #[case("kind v0.27.0 go1.23.6 linux/amd64", Some((0, 27, 0)))]
    #[case("kind version 0.33.0", Some((0, 33, 0)))]
    #[case("minikube version: v1.36.0\ncommit: f8f5\n", Some((1, 36, 0)))]
    #[case("20.10.24+dfsg1", Some((20, 10, 24)))]
    #[case("v0.24.0-alpha+abc", Some((0, 24, 0)))]
    #[case("no version here", None)]
    fn versions_are_found_in_what_programs_say(#[case] text: &str, #[case] found: Option<(u32, u32, u32)>) {
        assert_eq!(version(text), found);
    }

    fn shell() -> Tool {
        Tool::new("sh", "nowhere").at(Path::new("/bin/sh"))
    }

    #[tokio::test]
    async fn output_of_a_failed_program_is_never_taken_for_an_answer() {
        let finding = shell().run(&["-c", "echo fine; echo 'ERROR: it broke' >&2; echo more >&2; exit 3"]).await;
        let finding = finding.unwrap_err();
        assert_eq!(finding.class(), Class::Failed);
        assert!(finding.cause.contains("exit status: 3") && finding.cause.contains("it broke"), "{}", finding.cause);
        assert_eq!(finding.evidence[0].lines, ["ERROR: it broke", "more"]);
    }

    #[tokio::test]
    async fn what_is_given_is_read_and_what_is_said_is_returned() {
        let ended = shell().end_of(&["-c", "cat; echo aside >&2"], Some("text")).await.unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("text", "aside\n"));
    }

    #[tokio::test]
    async fn a_program_that_is_cut_off_ends_with_what_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("written");
        let size = || std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
        let line = format!("(while :; do echo >>'{}'; sleep 0.01; done) & wait", file.display());
        let arguments = ["-c", line.as_str()];
        let shell = shell();
        let writes = async {
            while size() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = shell.end_of(&arguments, None) => panic!("it has ended: {ended:?}"),
            () = writes => {}
        }
        let begun = Instant::now();
        let mut before = 0;
        while before != size() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it goes on");
            before = size();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_missing_with_the_way_to_get_it() {
        let finding = Tool::new("no-such-program", "https://tool.test").run(&[]).await.unwrap_err();
        assert_eq!(finding.class(), Class::Missing);
        assert!(finding.advice[0].contains("https://tool.test"));
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let [one, other] = ["no-such-program", "nor-this-one"].map(|name| Tool::new(name, "https://tool.test"));
        let finding = all_there(&[&one, &shell(), &other]).unwrap_err();
        assert!(finding.cause.starts_with("no-such-program and nor-this-one are not installed"), "{}", finding.cause);
        assert_eq!(finding.advice.len(), 2);
        assert!(all_there(&[&shell()]).is_ok());
    }

    #[test]
    fn an_old_version_is_missing_and_says_what_is_needed() {
        let finding = require(&shell(), "kind v0.9.1", (0, 20, 0)).unwrap_err();
        assert_eq!(finding.class(), Class::Missing);
        assert!(finding.cause.contains("0.9.1") && finding.cause.contains("0.20.0"), "{}", finding.cause);
        assert!(require(&shell(), "kind v0.20.0", (0, 20, 0)).is_ok());
    }
}
