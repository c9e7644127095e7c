//! Template data directories: what `initdb` makes, once per PostgreSQL version, with the roles and the database that
//! every instance has, shut down cleanly. Copying one is much quicker than `initdb`.
//!
//! A template is complete or not there: it is made beside its place and renamed when it is durable. Only its data directory
//! belongs to the server's user, who could put links in the way of whoever writes beside it.

use super::{Installation, durable};
use nix::unistd::{Gid, Uid, User};
use serde::{Deserialize, Serialize};
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Raised when a template is made in another way, so that older ones are not used.
const FORMAT: u32 = 1;
/// The data directory within a template.
pub const DATA: &str = "data";
const STAMP: &str = "template.json";
/// Bytes of a failed program's messages that an error carries.
const TAIL: usize = 2000;

/// Database for applications, in every instance.
pub const DEFAULT_DATABASE: &str = "a9s_apps_default_db";
/// Role that owns it, without login.
pub const ROOT_ROLE: &str = "a9s_user";
/// The superuser.
pub const SUPERUSER: &str = "postgres";
/// The role of standbys.
pub const REPLICATION_ROLE: &str = "standby";

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user does not exist.
    #[error("there is no user {user:?} to run PostgreSQL as")]
    NoUser {
        /// Its name.
        user: String,
    },
    /// A file operation.
    #[error("cannot prepare the template directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program.
        program: PathBuf,
        /// The last of what it said.
        output: String,
    },
}

/// What a template says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Stamp {
    format: u32,
    version: String,
}

/// Where the template of an installation is, below the directory of templates. The path may not exist.
pub fn path(directory: &Path, installation: &Installation) -> PathBuf {
    directory.join(format!("{}-{FORMAT}", installation.version))
}

/// Whether a path is a complete template.
pub fn is_complete(template: &Path) -> bool {
    let stamp = fs_err::read(template.join(STAMP)).ok().and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
    stamp.is_some_and(|stamp| stamp.format == FORMAT)
}

/// Makes the template of an installation unless it is there, and returns its path. It blocks for about a second, and
/// runs PostgreSQL's programs as `run_as` (only root can do so; `None`: as the caller).
///
/// # Errors
/// If the user is unknown, the directory cannot be written, or one of PostgreSQL's programs fails.
pub fn ensure(installation: &Installation, directory: &Path, run_as: Option<&str>) -> Result<PathBuf, Error> {
    let target = path(directory, installation);
    if is_complete(&target) {
        return Ok(target);
    }
    let user = run_as.map(find_user).transpose()?;
    let failed = |source| Error::Directory { path: directory.to_owned(), source };
    fs_err::create_dir_all(directory).map_err(failed)?;
    sweep(directory).map_err(failed)?;
    let work = directory.join(format!(".making-{}-{}", std::process::id(), installation.version));
    prepare(&work, user).map_err(failed)?;
    let result = make(installation, &work, user).and_then(|()| publish(&work, &target).map_err(failed));
    if result.is_err() || work.exists() {
        // Best effort: the next call sweeps what stays.
        let _ = fs_err::remove_dir_all(&work);
    }
    result.map(|()| target)
}

/// The directory to work in, and in it the one that the server's user fills.
fn prepare(work: &Path, user: Option<(Uid, Gid)>) -> io::Result<()> {
    let data = work.join(DATA);
    fs_err::create_dir(work)?;
    // Whatever this process' mask is: the user has to pass, and to read what the template says of itself.
    fs_err::set_permissions(work, Permissions::from_mode(0o755))?;
    fs_err::create_dir(&data)?;
    fs_err::set_permissions(&data, Permissions::from_mode(0o700))?;
    user.map_or(Ok(()), |(uid, gid)| chown(&data, Some(uid.as_raw()), Some(gid.as_raw())))
}

fn find_user(name: &str) -> Result<(Uid, Gid), Error> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid, user.gid)),
        _ => Err(Error::NoUser { user: name.to_owned() }),
    }
}

/// Removes what makers left that no longer live.
fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(".making-")?.split('-').next()?.parse().ok());
        let Some(maker) = maker else { continue };
        if nix::sys::signal::kill(nix::unistd::Pid::from_raw(maker), None) == Err(nix::errno::Errno::ESRCH) {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn make(installation: &Installation, work: &Path, user: Option<(Uid, Gid)>) -> Result<(), Error> {
    let data = work.join(DATA);
    initialise(&installation.bin_directory, &data, user)?;
    let mut postgres = command(&installation.bin_directory.join("postgres"), user);
    postgres.args(["--single", "-c", "fsync=off", "-D"]).arg(&data).arg(SUPERUSER);
    // One statement per line, as single-user mode reads them.
    let statements = format!(
        "CREATE ROLE {ROOT_ROLE} NOLOGIN\nCREATE ROLE {REPLICATION_ROLE} LOGIN REPLICATION\n\
         CREATE DATABASE {DEFAULT_DATABASE} OWNER {ROOT_ROLE}\n"
    );
    run(postgres, statements.as_bytes())?;
    let stamp = Stamp { format: FORMAT, version: installation.version.clone() };
    let text = serde_json::to_vec(&stamp).unwrap_or_default();
    let path = work.join(STAMP);
    durable::replace(&path, &text, 0o644)
        .and_then(|()| durable::flush_tree(work))
        .map_err(|source| Error::Directory { path, source })
}

/// Runs `initdb` for a directory that does not exist yet or is empty, without flushing what it makes. Trust applies
/// to the socket only.
///
/// # Errors
/// If `initdb` fails with each of the locales that are tried.
pub fn initialise(bin_directory: &Path, data: &Path, user: Option<(Uid, Gid)>) -> Result<(), Error> {
    let mut result = Ok(());
    for locale in ["C.UTF-8", "en_US.UTF-8", "C"] {
        let mut initdb = command(&bin_directory.join("initdb"), user);
        initdb.arg("-D").arg(data).args(["-U", SUPERUSER, "-E", "UTF8", "--locale", locale, "--data-checksums"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]);
        result = run(initdb, b"");
        match &result {
            // The host may lack the locale; anything else is not cured by another one.
            Err(Error::Failed { output, .. }) if output.contains("locale") => {}
            _ => break,
        }
    }
    result
}

fn command(program: &Path, user: Option<(Uid, Gid)>) -> Command {
    let mut command = Command::new(program);
    // Messages are read by this program, and the user's settings must not reach the server.
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    if let Some((uid, gid)) = user {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command
}

fn run(mut command: Command, input: &[u8]) -> Result<(), Error> {
    let program = PathBuf::from(command.get_program());
    let failed = |source| Error::Run { program: program.clone(), source };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ended early says why on its error stream.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stderr);
    // Single-user mode reports failing statements, and ends with 0.
    if output.status.success() && !text.contains("ERROR:") {
        return Ok(());
    }
    let text = text.trim();
    let start = text.char_indices().rev().map(|(i, _)| i).find(|i| text.len() - i >= TAIL).unwrap_or(0);
    Err(Error::Failed { program, output: text[start..].to_owned() })
}

/// Renames the finished work into place. Somebody else may have been quicker: theirs is as good.
fn publish(work: &Path, target: &Path) -> io::Result<()> {
    match fs_err::rename(work, target) {
        Err(_) if is_complete(target) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => durable::flush_directory(target.parent().unwrap_or(Path::new("/"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// A stand-in for one of PostgreSQL's programs.
    fn program(directory: &Path, name: &str, script: &str) {
        let path = directory.join(name);
        fs_err::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs_err::set_permissions(&path, Permissions::from_mode(0o755)).expect("executable");
    }

    #[test]
    fn nothing_is_written_where_the_servers_user_leads() {
        let directory = tempfile::tempdir().expect("a directory");
        fs_err::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("open to all");
        let (victim, templates) = (directory.path().join("victim"), directory.path().join("templates"));
        fs_err::write(&victim, "untouched").expect("written");
        let link = format!("ln -s {} \"$2/../{STAMP}.new\" 2>&-", victim.display());
        program(directory.path(), "initdb", &format!("touch \"$2/PG_VERSION\" && {{ {link}; true; }}"));
        program(directory.path(), "postgres", "cat >/dev/null");
        let installation =
            Installation { major: 15, version: "15.8".to_owned(), bin_directory: directory.path().to_owned() };
        let is_root = Uid::effective().is_root();
        let made = ensure(&installation, &templates, is_root.then_some("nobody")).expect("made");
        assert_eq!(fs_err::read(&victim).expect("there"), b"untouched");
        assert!(is_complete(&made) && made.join(DATA).join("PG_VERSION").exists());
        assert_eq!(fs_err::read_dir(&made).expect("there").count(), 2);
        let owner = |path: &Path| Uid::from_raw(fs_err::metadata(path).expect("there").uid());
        let servers = if is_root { find_user("nobody").expect("known").0 } else { Uid::effective() };
        assert_eq!((owner(&made), owner(&made.join(DATA))), (Uid::effective(), servers));
    }
}
