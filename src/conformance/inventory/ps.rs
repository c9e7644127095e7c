//! Processes as ps(1) of macOS shows them. It tells no working directory, and no environment but of this user's programs,
//! the system's own excepted: a process that belongs to a run only by one of these is not found.

use std::process::Command;

use super::contains;

/// A process, as it was when all were listed.
#[derive(Debug)]
pub struct Seen {
    /// Process id.
    pub pid: i32,
    parent: i32,
    /// Its command line, and behind it what can be seen of its environment.
    text: String,
}

impl Seen {
    /// All that run.
    pub fn all() -> impl Iterator<Item = Self> {
        // Each column by itself: what follows the first `=` would be the title of that column.
        let text = say(&["-axwwE", "-o", "pid=", "-o", "ppid=", "-o", "command="]);
        text.lines().filter_map(read).collect::<Vec<_>>().into_iter()
    }

    /// The one that has started it.
    pub fn parent(&self) -> Option<i32> {
        Some(self.parent)
    }

    /// Its command line, without its environment: empty where it is gone.
    pub fn line(&self) -> String {
        say(&["-ww", "-o", "command=", "-p", &self.pid.to_string()]).trim().to_owned()
    }

    /// Whether its environment has this, a name with its value.
    pub fn has(&self, variable: &str) -> bool {
        self.text.split_whitespace().any(|word| word == variable)
    }

    /// Whether a word is in its command line or environment.
    pub fn names(&self, word: &str) -> bool {
        contains(self.text.as_bytes(), word.as_bytes())
    }
}

/// What ps says; nothing where it can't be asked. It has no environment, so that it names nothing itself.
fn say(words: &[&str]) -> String {
    let output = Command::new("/bin/ps").args(words).env_clear().output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn read(line: &str) -> Option<Seen> {
    let (pid, rest) = line.trim_start().split_once(' ')?;
    let (parent, text) = rest.trim_start().split_once(' ')?;
    Some(Seen { pid: pid.parse().ok()?, parent: parent.parse().ok()?, text: text.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_a_process_with_its_parent_and_environment() {
        let seen = read("  711     1 /usr/bin/tail -f /t/s2/file HOME=/t/s2 A=b ").expect("a process");
        assert_eq!((seen.pid, seen.parent()), (711, Some(1)));
        assert!(seen.has("A=b") && !seen.has("A=") && seen.names("/t/s2") && !seen.names("/t/s"));
        assert!(read("PID").is_none() && read("").is_none());
    }
}
