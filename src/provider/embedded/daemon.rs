//! The process that serves a cluster: starting it, knowing it again, ending it.
//!
//! A stored process id may be somebody else's by now. So a process is the cluster's only if its start time is the
//! recorded one and its command line names the cluster's directory, by which it means the same one as we do.

use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fs_err::os::unix::fs::OpenOptionsExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::places::Place;
use super::record::Record;
use crate::finding::{Finding, Id};

/// First argument of the process.
pub const WORD: &str = "__cluster";
/// How often the end of a process that is not our child is looked for.
const POLL: Duration = Duration::from_millis(10);
/// Lines of the log that go into a finding.
const LOG_LINES: usize = 12;
/// As much of the log's end is read for them.
const LOG_END: u64 = 64 << 10;
/// A log that has grown beyond this is moved aside, in place of the one before.
const FULL: u64 = 16 << 20;

/// Start time of a process in clock ticks since boot (proc(5), `stat`, field 22); `None` if there is none, or a zombie.
pub fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may itself contain any character.
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Where the system tells of a process.
fn process(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// Whether this process is `a9s __cluster <directory>`.
fn serves(process: &Path, directory: &Path) -> bool {
    let Ok(line) = std::fs::read(process.join("cmdline")) else { return false };
    let mut words = line.split(|byte| *byte == 0).skip(1);
    let is_named =
        words.next() == Some(WORD.as_bytes()) && words.next() == Some(directory.as_os_str().as_encoded_bytes());
    is_named && means_the_same(process, directory)
}

/// Whether a path leads a process to where it leads us: in a container it leads elsewhere, and the system shows its
/// processes to everybody outside. Whose root can't be looked at is taken for one of ours.
fn means_the_same(process: &Path, path: &Path) -> bool {
    let root = process.join("root");
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    identity(&root).is_none() || identity(&root.join(path.strip_prefix("/").unwrap_or(path))) == identity(path)
}

/// The process on record, if it runs.
pub fn alive(record: &Record, place: &Place) -> Option<i32> {
    let pid = record.pid?;
    (started(pid)? == record.started? && serves(&process(pid), &place.directory)).then_some(pid)
}

/// All processes that serve this directory, whatever is on record.
pub fn serving(place: &Place) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| serves(&process(*pid), &place.directory) && started(*pid).is_some())
        .collect()
}

/// Starts the process, detached from the terminal. What it says goes to the cluster's log.
///
/// # Errors
/// It can't be started.
pub fn spawn(place: &Place) -> Result<Child, Finding> {
    let failed = |error: std::io::Error| {
        Finding::new(Id::ClusterNotStarted, format!("cannot start the cluster's process: {error}"))
    };
    let log = open_log(place).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let program = crate::caller::program().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg(WORD).arg(&place.directory).current_dir("/").env_clear();
    command.envs(crate::caller::variables().into_iter().filter(|(name, _)| is_passed_on(&name.to_string_lossy())));
    let name = place.directory.file_name().unwrap_or_default();
    command.env("A9S_CLUSTER", name).stdin(Stdio::null()).stdout(log.into_parts().0).stderr(errors.into_parts().0);
    command.spawn().map_err(failed)
}

/// Whether the log is to be moved aside.
pub fn log_is_full(place: &Place) -> bool {
    fs_err::metadata(place.log()).is_ok_and(|metadata| metadata.len() > FULL)
}

/// Opens the log to go on with it, or with a new one if it is full.
///
/// # Errors
/// It can't be written, or not be moved aside.
pub fn open_log(place: &Place) -> io::Result<fs_err::File> {
    if log_is_full(place) {
        fs_err::rename(place.log(), place.directory.join("cluster.log.1"))?;
    }
    fs_err::OpenOptions::new().create(true).append(true).mode(0o600).open(place.log())
}

/// Whether the process gets a variable of its caller: nothing reaches the servers but what they may need. The keys of a
/// store are for one command, and the process lives on.
fn is_passed_on(name: &str) -> bool {
    let words = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "RUST_BACKTRACE"];
    let beginnings = ["LC_", "A9S_", "XDG_"];
    let is_wanted = words.contains(&name) || beginnings.iter().any(|beginning| name.starts_with(beginning));
    is_wanted && !name.starts_with("A9S_BACKUP_STORE_")
}

/// The finding for a process that ended while it should have started. `from` is where its log began.
pub fn ended(place: &Place, status: ExitStatus, from: u64) -> Finding {
    let lines = log_since(place, from);
    let said = lines.iter().rev().find_map(|line| line.strip_prefix("error: "));
    let cause = match said {
        Some(said) => format!("the cluster did not start: {said}"),
        None => format!("the cluster's process ended while starting ({status})"),
    };
    let advice = format!("The whole log is {}.", place.log().display());
    Finding::new(Id::ClusterNotStarted, cause).with("log of the cluster", lines).advise(advice)
}

/// The last lines of the log that were written after the position `from`.
fn log_since(place: &Place, from: u64) -> Vec<String> {
    let bytes = end_of_log(place, from).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].to_vec()
}

fn end_of_log(place: &Place, from: u64) -> io::Result<Vec<u8>> {
    let mut log = fs_err::File::open(place.log())?;
    let size = log.metadata()?.len();
    // One that is shorter than it was is a new one.
    let from = if from > size { 0 } else { from };
    log.seek(SeekFrom::Start(from.max(size.saturating_sub(LOG_END))))?;
    let mut bytes = Vec::new();
    log.take(LOG_END).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Asks a process to end, and waits for it; after `patience` it is killed.
pub async fn end(pid: i32, patience: Duration) {
    let Some(start) = started(pid) else { return };
    let lives = || started(pid) == Some(start);
    for (signal, patience) in [(Signal::SIGTERM, patience), (Signal::SIGKILL, Duration::from_secs(10))] {
        // A process that is gone by now is what is wanted.
        let _ = kill(Pid::from_raw(pid), signal);
        let begun = Instant::now();
        while lives() && begun.elapsed() < patience {
            tokio::time::sleep(POLL).await;
        }
        if !lives() {
            return;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn the_process_gets_what_it_needs_and_no_secret() {
        for name in ["PATH", "LC_ALL", "A9S_STATE_DIR", "XDG_RUNTIME_DIR"] {
            assert!(is_passed_on(name), "{name}");
        }
        for name in ["AWS_SECRET_ACCESS_KEY", "PATHS", "A9S_BACKUP_STORE_ACCESSKEY", "A9S_BACKUP_STORE_SECRETKEY"] {
            assert!(!is_passed_on(name), "{name}");
        }
    }

    #[test]
    fn a_process_id_of_somebody_else_is_not_the_cluster() {
        let place = Place { directory: PathBuf::from("/nowhere/a8s"), run: PathBuf::from("/nowhere") };
        let own = i32::try_from(std::process::id()).unwrap();
        let record = Record { pid: Some(own), started: started(own), ..Record::new("a8s") };
        assert!(record.started.is_some());
        assert_eq!(alive(&record, &place), None);
        assert!(serving(&place).is_empty());
    }

    #[test]
    fn a_process_in_a_container_serves_a_directory_of_its_own() {
        let [ours, theirs] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let directory = ours.path().join("a8s");
        let process = |root: &Path| {
            let process = tempfile::tempdir().unwrap();
            let line = format!("a9s\0{WORD}\0{}\0", directory.display());
            fs_err::write(process.path().join("cmdline"), line).unwrap();
            fs_err::os::unix::fs::symlink(root, process.path().join("root")).unwrap();
            process
        };
        let (outside, inside) = (process(Path::new("/")), process(theirs.path()));
        fs_err::create_dir_all(theirs.path().join(directory.strip_prefix("/").unwrap())).unwrap();
        // Also where somebody has removed ours.
        for is_there in [false, true] {
            if is_there {
                fs_err::create_dir(&directory).unwrap();
            }
            assert!(serves(outside.path(), &directory), "{is_there}");
            assert!(!serves(inside.path(), &directory), "{is_there}");
        }
    }

    #[test]
    fn a_process_that_has_ended_is_told_by_its_last_words_or_by_how_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { directory: directory.path().to_owned(), run: PathBuf::from("/nowhere") };
        let finding = ended(&place, ExitStatus::from_raw(9), 0);
        assert!(finding.cause.starts_with("the cluster's process ended while starting (signal: 9"), "{finding}");
        assert_eq!(finding.advice, [format!("The whole log is {}.", place.log().display())]);
        fs_err::write(place.log(), "before\nerror: no room\nafter\n").unwrap();
        let finding = ended(&place, ExitStatus::from_raw(256), 7);
        assert_eq!(finding.cause, "the cluster did not start: no room");
        assert_eq!(finding.evidence[0].lines, ["error: no room", "after"]);
    }

    #[test]
    fn of_a_log_that_is_larger_than_the_memory_only_the_end_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { directory: directory.path().to_owned(), run: PathBuf::from("/nowhere") };
        // It takes no room: there is a hole before the end.
        let mut log = fs_err::File::create(place.log()).unwrap();
        log.seek(SeekFrom::Start(1 << 40)).unwrap();
        io::Write::write_all(&mut log, b"\nbefore\nerror: no room\n").unwrap();
        assert_eq!(log_since(&place, 0).last().unwrap(), "error: no room");
        assert_eq!(log_since(&place, (1 << 40) + 8), ["error: no room"]);
    }

    #[test]
    fn a_full_log_is_moved_aside() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { directory: directory.path().to_owned(), run: PathBuf::from("/nowhere") };
        let sizes = || {
            let size = |name: &str| fs_err::metadata(directory.path().join(name)).map_or(0, |metadata| metadata.len());
            (size("cluster.log"), size("cluster.log.1"))
        };
        fs_err::write(place.log(), "a\n").unwrap();
        let log = open_log(&place).unwrap();
        assert_eq!(sizes(), (2, 0), "it goes on");
        log.set_len(FULL + 1).unwrap();
        let mut log = open_log(&place).unwrap();
        assert_eq!(sizes(), (0, FULL + 1));
        io::Write::write_all(&mut log, b"b\n").unwrap();
        assert_eq!(log_since(&place, FULL + 1), ["b"], "what was written after it was full");
    }

    #[tokio::test]
    async fn a_process_that_does_not_mind_a_polite_signal_is_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 5];
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut ready).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        end(pid, Duration::from_millis(50)).await;
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
