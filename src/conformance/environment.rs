//! What a run ran on, for its report.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::utsname::uname;
use nix::unistd::Uid;
use serde_json::Value;

use super::stage::Stage;
use crate::postgres;

/// The facts, by name.
pub fn facts(stage: &Stage) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut say = |name: &str, value: String| facts.insert(name.to_owned(), value);
    say("suite", version());
    say("program", stage.program.display().to_string());
    if let Some(version) = version_of(&stage.program) {
        say("a9s", version);
    }
    let servers: Vec<String> = postgres::versions().into_iter().collect();
    if !servers.is_empty() {
        say("postgresql", servers.join(", "));
    }
    match &stage.existing {
        Some(existing) => {
            say("cluster", format!("context {} at {}", existing.context, existing.server));
            say("kubernetes", existing.version.git_version.clone());
            say("stack", existing.stack.clone());
        }
        None => {
            say("cluster", "embedded, made by the run".to_owned());
            say("stack", "builtin".to_owned());
        }
    }
    say("patience", stage.patience.to_string());
    if let Ok(system) = uname() {
        let word = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        say("system", format!("{} {} {}", word(system.sysname()), word(system.release()), word(system.machine())));
    }
    say("processors", std::thread::available_parallelism().map_or(0, usize::from).to_string());
    if let Some(memory) = memory() {
        say("memory", memory);
    }
    say("user", if Uid::effective().is_root() { "root".to_owned() } else { "an ordinary user".to_owned() });
    say("kubectl", stage.kubectl.as_ref().map_or_else(|why| (*why).to_owned(), |path| path.display().to_string()));
    facts
}

/// The version of the program under test, which may be of another build than the suite; `None` where it does not say.
fn version_of(program: &Path) -> Option<String> {
    let asked = Command::new(program).args(["version", "--client", "-o", "json"]).stdin(Stdio::null()).output().ok()?;
    let answer: Value = serde_json::from_slice(&asked.stdout).ok()?;
    let commit = answer["commit"].as_str().map(|commit| format!(" ({commit})")).unwrap_or_default();
    Some(format!("{}{commit}", answer["version"].as_str()?))
}

/// The version of this program, with its commit where the build knows it.
pub fn version() -> String {
    let commit = option_env!("A9S_COMMIT").map(|commit| format!(" ({commit})")).unwrap_or_default();
    format!("a9s {}{commit}", env!("CARGO_PKG_VERSION"))
}

fn memory() -> Option<String> {
    let table = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(format!("{} MiB", kibibytes / 1024))
}
