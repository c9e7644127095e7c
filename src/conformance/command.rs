//! Runs programs as a person would, in surroundings of the scenario's own, and keeps all they said.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kube::config::Kubeconfig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::failure::Failure;
use super::stage::{Door, Stage};
use crate::caller::{self, Caller};
use crate::cli::interrupt;
pub use crate::provider::tool::on_path;

/// No command of a scenario may usually take longer; one that does is killed and fails the scenario.
const LONGEST: Duration = Duration::from_secs(150);

fn longest() -> Duration {
    Stage::patience(LONGEST)
}

/// Variables of the caller that commands see.
const PASSED: [&str; 7] = ["PATH", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "RUST_BACKTRACE", "A9S_LOG", "RUST_LOG"];

/// Names the defect that the programs under test have: those only, a suite with a defect would prove nothing.
const DEFECT: &str = "A9S_SABOTAGE_PROGRAM";

/// The variables of the caller's environment that are text.
pub fn callers_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The home directory, state and kubeconfig that commands see. Nothing else of the caller's environment reaches them.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `HOME`, and the directory commands start in.
    pub home: PathBuf,
    /// `A9S_STATE_DIR`.
    pub state: PathBuf,
    /// `KUBECONFIG`.
    pub kubeconfig: PathBuf,
    /// More variables, last one wins.
    pub env: Vec<(String, String)>,
}

impl Surroundings {
    /// Fresh ones below `directory`, with an empty home.
    ///
    /// # Errors
    /// What the file system said.
    pub fn new(directory: &Path) -> Result<Self, Failure> {
        let home = directory.join("home");
        let state = directory.join("state");
        fs_err::create_dir_all(&home)?;
        fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
        fs_err::set_permissions(&home, std::fs::Permissions::from_mode(0o700))?;
        Ok(Self { kubeconfig: home.join(".kube/config"), home, state, env: Vec::new() })
    }

    /// Writes the kubeconfig, for nobody else to read.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write_kubeconfig(&self, kubeconfig: &Kubeconfig) -> Result<(), Failure> {
        let file = &self.kubeconfig;
        fs_err::create_dir_all(file.parent().unwrap_or(file))?;
        // JSON is YAML, so every reader of a kubeconfig takes it.
        fs_err::write(file, serde_json::to_vec_pretty(kubeconfig)?)?;
        Ok(fs_err::set_permissions(file, std::fs::Permissions::from_mode(0o600))?)
    }

    /// The name of the cluster that `a9s` makes here when no name is given.
    pub fn default_cluster(&self) -> &'static str {
        "a8s"
    }

    /// Where the state of a cluster lies.
    pub fn cluster_state(&self, cluster: &str) -> PathBuf {
        self.state.join(cluster)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.home).stdin(Stdio::null()).envs(self.variables());
        // A Ctrl-C at the terminal ends the run, which ends it: no scenario is to fail for it before.
        command.process_group(0).kill_on_drop(true);
        command
    }

    /// All variables that commands see; of two with one name the last one counts.
    fn variables(&self) -> Vec<(OsString, OsString)> {
        let passed = PASSED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
        let own = [("HOME", &self.home), ("A9S_STATE_DIR", &self.state), ("KUBECONFIG", &self.kubeconfig)];
        let own = own.into_iter().map(|(name, path)| (name.into(), path.into()));
        let defect = std::env::var_os(DEFECT).map(|defect| (OsString::from(sabotage::VARIABLE), defect));
        let more = self.env.iter().map(|(name, value)| (name.into(), value.into()));
        passed.chain(defect).chain(own).chain(more).collect()
    }
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line, for people.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Whether both are on a terminal, and so on standard output.
    pub in_terminal: bool,
    /// From start to end.
    pub took: Duration,
}

impl Outcome {
    /// What a command did that has ended.
    pub fn of(line: String, output: &std::process::Output, took: Duration) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Self { line, status: output.status, stdout, stderr, in_terminal: false, took }
    }

    /// What it has said on standard error, and what can't be told from it.
    pub fn complaints(&self) -> &str {
        if self.in_terminal { &self.stdout } else { &self.stderr }
    }

    /// The exit code, or minus the signal that ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| -self.status.signal().unwrap_or_default())
    }

    /// Everything, as a transcript.
    pub fn transcript(&self) -> String {
        format!(
            "$ {}\n[exit {} after {:.1} s]\n--- standard output\n{}\n--- standard error\n{}\n",
            self.line,
            self.code(),
            self.took.as_secs_f64(),
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }

    /// # Errors
    /// The whole transcript, unless the command ended with 0.
    pub fn require_success(&self) -> Result<(), Failure> {
        self.require_code(0)
    }

    /// # Errors
    /// The whole transcript, unless the command ended with `code`.
    pub fn require_code(&self, code: i32) -> Result<(), Failure> {
        Failure::unless(self.code() == code, format!("exit code {code}"), self.transcript())
    }
}

/// Runs the program under test.
///
/// # Errors
/// When it can't be started or does not end in time. An exit code is an outcome, not an error.
pub async fn a9s(surroundings: &Surroundings, words: &[&str]) -> Result<Outcome, Failure> {
    a9s_within(longest(), surroundings, words).await
}

/// As [`a9s`], to take back what a scenario has made: however little patience the run has.
///
/// # Errors
/// As [`a9s`].
pub async fn a9s_to_clear(surroundings: &Surroundings, words: &[&str]) -> Result<Outcome, Failure> {
    a9s_within(Stage::ample_patience(LONGEST), surroundings, words).await
}

async fn a9s_within(longest: Duration, surroundings: &Surroundings, words: &[&str]) -> Result<Outcome, Failure> {
    match Stage::get().door {
        Door::Cli => run_within(longest, surroundings, &Stage::get().program, "a9s", words, None).await,
        Door::Plan => in_process(longest, surroundings, words).await,
    }
}

/// Runs the program under test with something on its standard input, which takes a process of its own.
///
/// # Errors
/// As [`a9s`].
pub async fn a9s_fed(surroundings: &Surroundings, words: &[&str], stdin: &[u8]) -> Result<Outcome, Failure> {
    run(surroundings, &Stage::get().program, "a9s", words, Some(stdin)).await
}

/// Runs the program under test with a standard output that takes nothing, which takes a process of its own.
///
/// # Errors
/// As [`a9s`], and when this machine has no `sh`.
pub async fn a9s_to_full(surroundings: &Surroundings, words: &[&str]) -> Result<Outcome, Failure> {
    in_shell(surroundings, "exec \"$@\" >/dev/full", words).await
}

/// Runs the program under test where it, and what it starts, can have so many files open: a process of its own.
///
/// # Errors
/// As [`a9s_to_full`].
pub async fn a9s_with_files(surroundings: &Surroundings, most: u32, words: &[&str]) -> Result<Outcome, Failure> {
    in_shell(surroundings, &format!("ulimit -n {most} && exec \"$@\""), words).await
}

/// Has a line of sh(1) execute the program under test, which is its `"$@"`.
async fn in_shell(surroundings: &Surroundings, script: &str, words: &[&str]) -> Result<Outcome, Failure> {
    let (shell, program) = (on_path("sh").ok_or(Failure::Missing("program sh"))?, Stage::get().program.display());
    let program = program.to_string();
    let mut line = vec!["-c", script, "sh", &program];
    line.extend(words);
    run(surroundings, &shell, "sh", &line, None).await
}

/// Runs a command of the program in a thread of this process: the same code from the command line to the exit code, without
/// a process for each command.
async fn in_process(longest: Duration, surroundings: &Surroundings, words: &[&str]) -> Result<Outcome, Failure> {
    let words: Vec<String> = std::iter::once("a9s").chain(words.iter().copied()).map(str::to_owned).collect();
    let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let (variables, directory) = (surroundings.variables(), surroundings.home.clone());
    let started = Instant::now();
    let command = tokio::task::spawn_blocking(move || {
        let program = Stage::get().program.clone();
        let caller = Caller { variables, directory, program, ..Caller::default() };
        caller::instead(caller, || crate::cli::run_in_process(&words))
    });
    let Ok(ended) = tokio::time::timeout(longest, command).await else { return Err(too_long(longest, &line, "")) };
    let (code, said) =
        ended.map_err(|error| Failure::Run { program: line.clone(), cause: std::io::Error::other(error) })?;
    let status = ExitStatus::from_raw(i32::from(code) << 8);
    let output = std::process::Output { status, stdout: said.stdout, stderr: said.stderr };
    Ok(Outcome::of(line, &output, started.elapsed()))
}

fn too_long(waited: Duration, line: &str, said: &str) -> Failure {
    Failure::Deadline {
        what: format!("the end of `{line}`"),
        waited,
        last: format!("it was still running and has been given up{said}"),
    }
}

/// What runs the program on a network where a listener is in the way: loopback is up, and the listener is Perl, which
/// every Debian has and which ends with the command.
const BESIDE_LISTENER: &str = r#"ip link set lo up && exec perl -MIO::Socket::INET -e '
$held = IO::Socket::INET->new(Listen => 1, LocalAddr => "0.0.0.0", LocalPort => shift) or die $!;
exit(system(@ARGV) >> 8)' "$@""#;

/// Runs the program on a network of its own (unshare(1)) where somebody listens on `port` of every address. Only root
/// may make one.
///
/// # Errors
/// As [`a9s`], and when this machine has no `unshare`.
pub async fn a9s_beside_listener(surroundings: &Surroundings, port: u16, words: &[&str]) -> Result<Outcome, Failure> {
    let unshare = on_path("unshare").ok_or(Failure::Missing("program unshare"))?;
    let (port, program) = (port.to_string(), Stage::get().program.display().to_string());
    let mut line = vec!["--net", "sh", "-c", BESIDE_LISTENER, "sh", &port, &program];
    line.extend(words);
    run(surroundings, &unshare, "unshare", &line, None).await
}

/// Runs `kubectl`.
///
/// # Errors
/// As [`a9s`], and when this machine has none.
pub async fn kubectl(surroundings: &Surroundings, words: &[&str], stdin: Option<&[u8]>) -> Result<Outcome, Failure> {
    run(surroundings, kubectl_program()?, "kubectl", words, stdin).await
}

/// A line for `a9s` or `kubectl` that is yet to be run, by whoever does not wait for the runtime.
///
/// # Errors
/// This machine has no `kubectl`.
pub fn for_later(surroundings: &Surroundings, line: &str) -> Result<std::process::Command, Failure> {
    let (program, words) = match line.strip_prefix("a9s ") {
        Some(words) => (Stage::get().program.as_path(), words),
        None => (kubectl_program()?, line.trim_start_matches("kubectl ")),
    };
    let mut command = surroundings.command(program).into_std();
    command.args(self::words(words));
    Ok(command)
}

fn kubectl_program() -> Result<&'static Path, Failure> {
    Stage::get().kubectl.as_deref().map_err(|why| Failure::Missing(why))
}

/// How a question on a terminal ends.
const PROMPT: &[u8] = b": ";

/// The key that interrupts, as a terminal has it: it needs no Enter.
pub const INTERRUPT_KEY: &str = "\u{3}";

/// Runs a line of the shell in a terminal of its own (script(1), which every system has in its own way), where somebody
/// answers one question after the other and types nothing before it is asked, and nothing after an interrupt. While the
/// first question stands, `kubectl` is run with the words of `meanwhile`, if there are any. What it says is on standard
/// output.
///
/// # Errors
/// As [`a9s`], when this machine has no `script`, and when `kubectl` fails.
pub async fn in_terminal(
    surroundings: &Surroundings,
    line: &str,
    answers: &[&str],
    meanwhile: &[&str],
) -> Result<Outcome, Failure> {
    let script = on_path("script").ok_or(Failure::Missing("program script"))?;
    let failed = |cause| Failure::Run { program: line.to_owned(), cause };
    let started = Instant::now();
    let mut command = surroundings.command(&script);
    if cfg!(target_os = "linux") && !interrupt::heard().contains(&Signal::SIGINT) {
        // What the suite's caller has had ignored, as nohup(1) does, a person at a terminal has not.
        command = surroundings.command(&on_path("env").ok_or(Failure::Missing("program env"))?);
        command.arg("--default-signal=INT").arg(&script);
    }
    if cfg!(target_os = "linux") {
        command.args(["-qec", line, "/dev/null"]);
    } else {
        command.args(["-q", "/dev/null", "sh", "-c", line]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (mut keyboard, mut screen) = (child.stdin.take(), child.stdout.take().ok_or(Failure::Missing("terminal"))?);
    let is_interrupt = |answer: &str| answer == INTERRUPT_KEY;
    let ends = !answers.last().is_some_and(|answer| is_interrupt(answer));
    let mut answers = answers.iter();
    let (mut shown, mut answered) = (Vec::new(), 0);
    let converse = async {
        loop {
            if answers.len() == 0 && ends {
                // The end of input.
                keyboard = None;
            }
            if screen.read_buf(&mut shown).await.map_err(failed)? == 0 {
                return child.wait_with_output().await.map_err(failed);
            }
            if shown[answered..].ends_with(PROMPT)
                && let (Some(keyboard), Some(answer)) = (&mut keyboard, answers.next())
            {
                if answered == 0 && !meanwhile.is_empty() {
                    kubectl(surroundings, meanwhile, None).await?.require_success()?;
                }
                answered = shown.len();
                let enter = if is_interrupt(answer) { "" } else { "\n" };
                keyboard.write_all(format!("{answer}{enter}").as_bytes()).await.map_err(failed)?;
            }
        }
    };
    let longest = longest();
    let Ok(output) = tokio::time::timeout(longest, converse).await else {
        let shown = format!("; it has shown: {}", String::from_utf8_lossy(&shown));
        return Err(too_long(longest, line, &shown));
    };
    let output = std::process::Output { stdout: shown, ..output? };
    Ok(Outcome { in_terminal: true, ..Outcome::of(line.to_owned(), &output, started.elapsed()) })
}

/// Starts the program under test and does not wait for it.
///
/// # Errors
/// When it can't be started.
pub fn start_a9s(surroundings: &Surroundings, words: &[&str]) -> Result<Child, Failure> {
    start(surroundings, &Stage::get().program, words)
}

/// As [`start_a9s`], as nohup(1) starts it.
///
/// # Errors
/// As [`start_a9s`], and when this machine has no `nohup`.
pub fn start_a9s_with_nohup(surroundings: &Surroundings, words: &[&str]) -> Result<Child, Failure> {
    let (nohup, program) = (on_path("nohup").ok_or(Failure::Missing("program nohup"))?, Stage::get().program.display());
    let program = program.to_string();
    let line: Vec<&str> = std::iter::once(program.as_str()).chain(words.iter().copied()).collect();
    start(surroundings, &nohup, &line)
}

/// The process of a command that was started.
///
/// # Errors
/// Somebody has waited for its end.
pub fn pid(child: &Child) -> Result<Pid, Failure> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(Failure::Missing("running command"))?;
    Ok(Pid::from_raw(pid))
}

/// Interrupts a command that was started, as Ctrl-C does.
///
/// # Errors
/// It can't be sent a signal.
pub fn interrupt(child: &Child) -> Result<Pid, Failure> {
    let pid = pid(child)?;
    kill(pid, interrupt::usual()?).map_err(std::io::Error::from)?;
    Ok(pid)
}

/// Starts `kubectl` and does not wait for it.
///
/// # Errors
/// When there is none or it can't be started.
pub fn start_kubectl(surroundings: &Surroundings, words: &[&str]) -> Result<Child, Failure> {
    start(surroundings, kubectl_program()?, words)
}

fn start(surroundings: &Surroundings, program: &Path, words: &[&str]) -> Result<Child, Failure> {
    let mut command = surroundings.command(program);
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|cause| Failure::Run { program: program.display().to_string(), cause })
}

async fn run(
    surroundings: &Surroundings,
    program: &Path,
    name: &str,
    words: &[&str],
    stdin: Option<&[u8]>,
) -> Result<Outcome, Failure> {
    run_within(longest(), surroundings, program, name, words, stdin).await
}

async fn run_within(
    longest: Duration,
    surroundings: &Surroundings,
    program: &Path,
    name: &str,
    words: &[&str],
    stdin: Option<&[u8]>,
) -> Result<Outcome, Failure> {
    let line = std::iter::once(name).chain(words.iter().copied()).map(quoted).collect::<Vec<_>>().join(" ");
    let failed = |cause| Failure::Run { program: line.clone(), cause };
    let started = Instant::now();
    let mut command = surroundings.command(program);
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().map_err(failed)?;
    let pipe = child.stdin.take();
    let feed = async {
        if let (Some(mut pipe), Some(bytes)) = (pipe, stdin) {
            // A program that ends without reading all of it closes the pipe; its exit code says whether that was right.
            let _ = pipe.write_all(bytes).await;
        }
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (said, complained) = (child.stdout.take(), child.stderr.take());
    let ended = tokio::time::timeout(longest, async {
        tokio::join!(feed, read(said, &mut stdout), read(complained, &mut stderr), child.wait()).3
    });
    match ended.await {
        Ok(status) => {
            let output = std::process::Output { status: status.map_err(failed)?, stdout, stderr };
            Ok(Outcome::of(line, &output, started.elapsed()))
        }
        // It is killed when it is dropped; what it said tells what it waited for.
        Err(_) => Err(too_long(longest, &line, &format!("{}{}", tail(&stdout), tail(&stderr)))),
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    if let Some(mut stream) = stream {
        // What can't be read is not said.
        let _ = stream.read_to_end(into).await;
    }
}

/// The last lines of what was said.
fn tail(said: &[u8]) -> String {
    const LINES: usize = 10;
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(LINES)).map(|line| format!("\n{line}")).collect()
}

/// What a program of this machine says that a scenario needs beside the one under test. It is quick: it is waited for here.
///
/// # Errors
/// It can't be run, or fails.
pub fn said(program: &str, words: &[&str]) -> Result<String, Failure> {
    let failed = |cause| Failure::Run { program: program.to_owned(), cause };
    let said = std::process::Command::new(program).args(words).stdin(Stdio::null()).output().map_err(failed)?;
    if said.status.success() {
        return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
    }
    Err(Failure::unexpected(format!("{program} {}", words.join(" ")), String::from_utf8_lossy(&said.stderr)))
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@{}".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Splits a command line at blanks; single and double quotes keep them.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_keep_blanks_together_and_may_be_empty() {
        assert_eq!(
            words("a9s pg  apply --sql 'SELECT 1; -- \"x\"' ''"),
            ["a9s", "pg", "apply", "--sql", "SELECT 1; -- \"x\"", ""]
        );
    }
}
