//! The same cases as an ordinary user, and where no namespaces can be made.

use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

/// Environment variable that says who to be.
const VARIABLE: &str = "NODE_TEST_AS";
/// The ordinary user.
const NOBODY: u32 = 65_534;
/// How long all cases together may take: they need 20 s.
const LIMIT: Duration = Duration::from_secs(240);

/// Trials that run all others again; only root can become somebody else.
pub fn others() -> Vec<Trial> {
    if std::env::var_os(VARIABLE).is_some() || !nix::unistd::Uid::effective().is_root() {
        return Vec::new();
    }
    ["ordinary-user", "without-namespaces"].map(|who| Trial::test(format!("all::{who}"), move || again(who))).into()
}

fn again(who: &str) -> Result<(), Failed> {
    // A file, because a pipe would end only with the last process that has it, and that may be one that is left.
    let mut output = tempfile::tempfile()?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("node-tests")
        .env(VARIABLE, who)
        .env("HOME", "/nonexistent")
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    let end = Instant::now() + LIMIT;
    let verdict = loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => break status.to_string(),
            None if Instant::now() > end => break format!("not done after {LIMIT:?}\n{}", evidence(child.id())),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let _ = child.kill();
    let mut said = String::new();
    output.rewind()?;
    output.read_to_string(&mut said)?;
    Err(Failed::from(format!("{said}{verdict}")))
}

/// What the threads of a process, and the processes beside it, wait for.
fn evidence(process: u32) -> String {
    let columns = "pid,ppid,lwp,etimes,stat,wchan:24,args";
    let output = Command::new("ps").args(["-L", "-o", columns, "-p", &process.to_string(), "-u", "nobody"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Takes the right to make namespaces away from this process, if asked.
#[cfg(target_os = "linux")]
pub fn become_what_is_asked() {
    if std::env::var(VARIABLE).as_deref() != Ok("without-namespaces") {
        return;
    }
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_NEWUSER).unwrap();
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{NOBODY} {NOBODY} 1")),
        ("/proc/self/gid_map", format!("{NOBODY} {NOBODY} 1")),
        ("/proc/sys/user/max_user_namespaces", "0".to_owned()),
    ] {
        fs_err::write(file, text).unwrap();
    }
}
