//! The same cases as an ordinary user, and where no namespaces can be made.

use std::os::unix::process::CommandExt;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

/// Environment variable that says who to be.
const VARIABLE: &str = "NODE_TEST_AS";
/// The ordinary user.
const NOBODY: u32 = 65_534;

/// Trials that run all others again; only root can become somebody else.
pub fn others() -> Vec<Trial> {
    if std::env::var_os(VARIABLE).is_some() || !nix::unistd::Uid::effective().is_root() {
        return Vec::new();
    }
    ["ordinary-user", "without-namespaces"].map(|who| Trial::test(format!("all::{who}"), move || again(who))).into()
}

fn again(who: &str) -> Result<(), Failed> {
    let output = Command::new("/proc/self/exe")
        .arg0("node-tests")
        .env(VARIABLE, who)
        .env("HOME", "/nonexistent")
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failed::from(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))))
}

/// Takes the right to make namespaces away from this process, if asked.
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
