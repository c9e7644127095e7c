//! PostgreSQL on this host: which majors are installed, which of them serves a request, and the template data
//! directories from which instances start.

pub mod durable;
pub mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A PostgreSQL server of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The major, such as 15.
    pub major: u32,
    /// The version as the server prints it, such as `15.8` or `18beta1`.
    pub version: String,
    /// Where `postgres`, `initdb` and the other programs are.
    pub bin_directory: PathBuf,
}

/// Directories whose children are named after a major and contain `bin`: Debian's, and Homebrew's on both processors.
const NUMBERED: [(&str, &str); 3] =
    [("/usr/lib/postgresql", ""), ("/opt/homebrew/opt", "postgresql@"), ("/usr/local/opt", "postgresql@")];

/// The servers of this host that this program can run, one per major (the newest of each), oldest first.
pub fn installations() -> Vec<Installation> {
    let mut found: BTreeMap<u32, Installation> = BTreeMap::new();
    for bin_directory in candidates() {
        let Some(installation) = inspect(&bin_directory) else { continue };
        let newer = |known: &Installation| minor(&known.version) < minor(&installation.version);
        if found.get(&installation.major).is_none_or(newer) {
            found.insert(installation.major, installation);
        }
    }
    found.into_values().collect()
}

/// The server in a directory of programs, if there is one of a major that is supported.
pub fn inspect(bin_directory: &Path) -> Option<Installation> {
    if !bin_directory.join("initdb").exists() {
        return None;
    }
    let output = Command::new(bin_directory.join("postgres")).arg("--version").output().ok()?;
    let (major, version) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
    let supported = a8s_api::postgresql::MINIMUM_VERSION..=a8s_api::postgresql::MAXIMUM_VERSION;
    let is_supported = i32::try_from(major).is_ok_and(|major| supported.contains(&major));
    is_supported.then(|| Installation { major, version, bin_directory: bin_directory.to_owned() })
}

fn candidates() -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for (parent, prefix) in NUMBERED {
        for entry in fs_err::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                directories.insert(entry.path().join("bin"));
            }
        }
    }
    for entry in fs_err::read_dir("/usr").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("pgsql-") {
            directories.insert(entry.path().join("bin"));
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for directory in std::env::split_paths(&path).filter(|directory| directory.is_absolute()) {
        if directory.join("postgres").exists() {
            directories.insert(directory);
        } else if directory.join("pg_config").exists() {
            directories.extend(bindir(&directory.join("pg_config")));
        }
    }
    directories.retain(|directory| directory.join("postgres").exists());
    directories.into_iter().filter_map(|directory| fs_err::canonicalize(directory).ok()).collect()
}

fn bindir(pg_config: &Path) -> Option<PathBuf> {
    let output = Command::new(pg_config).arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Major and version in the answer of `postgres --version`.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.split_once("(PostgreSQL)")?.1.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, version.to_owned()))
}

fn minor(version: &str) -> u32 {
    version.split_once('.').and_then(|(_, minor)| minor.parse().ok()).unwrap_or(0)
}

/// Why no major serves a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nothing that is new enough.
    #[error("PostgreSQL {requested} is not available, nor is a newer one (available: {available})")]
    NoNewer {
        /// The major asked for.
        requested: u32,
        /// The majors there are, as text.
        available: String,
    },
    /// Only a newer one, and a substitute was refused.
    #[error("PostgreSQL {requested} is not available, and {nearest} in its place was refused")]
    Strict {
        /// The major asked for.
        requested: u32,
        /// The nearest newer one.
        nearest: u32,
    },
}

/// The major that serves a request: itself, else the nearest newer one unless `strict`.
///
/// # Errors
/// If there is none.
pub fn choose(requested: u32, available: impl IntoIterator<Item = u32>, strict: bool) -> Result<u32, Unavailable> {
    let available: BTreeSet<u32> = available.into_iter().collect();
    match available.range(requested..).next() {
        Some(&major) if major == requested || !strict => Ok(major),
        Some(&nearest) => Err(Unavailable::Strict { requested, nearest }),
        None => {
            let names: Vec<String> = available.iter().map(u32::to_string).collect();
            let available = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(Unavailable::NoNewer { requested, available })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_servers_print() {
        let parsed = |text: &str| parse_version(text).map(|(major, version)| format!("{major} {version}"));
        assert_eq!(parsed("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n").as_deref(), Some("15 15.8"));
        assert_eq!(parsed("postgres (PostgreSQL) 18beta1\n").as_deref(), Some("18 18beta1"));
        assert_eq!(parsed("postgres (Other) 15"), None);
        assert_eq!(parsed(""), None);
    }

    #[test]
    fn the_nearest_newer_major_serves_unless_strict() {
        assert_eq!(choose(14, [13, 15, 17], false), Ok(15));
        assert_eq!(choose(15, [13, 15, 17], true), Ok(15));
        assert_eq!(choose(14, [15], true), Err(Unavailable::Strict { requested: 14, nearest: 15 }));
        let error = choose(18, [15, 16], false).expect_err("too new");
        assert_eq!(error.to_string(), "PostgreSQL 18 is not available, nor is a newer one (available: 15, 16)");
        assert!(choose(13, [], false).expect_err("nothing").to_string().contains("available: none"));
    }
}
