//! The server's certificate: self-signed, made by the agent, renewed before it expires.

use super::environment::Pod;
use crate::instance::names;
use crate::postgresql::durable;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a certificate is valid.
const LIFETIME: Duration = DAY.saturating_mul(397);
/// How long before its end it is replaced.
const MARGIN: Duration = DAY.saturating_mul(60);
/// Clocks of clients may be behind.
const SKEW: Duration = DAY;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be made.
    #[error("cannot make the server's certificate")]
    Make(#[source] rcgen::Error),
    /// It could not be kept.
    #[error("cannot write the server's certificate")]
    Write(#[source] io::Error),
}

/// Sees to it that `server.crt` and `server.key` in the directory are valid for longer, and for this pod. Says whether
/// they were made anew.
///
/// # Errors
/// If they cannot be made or written.
pub fn ensure(directory: &Path, pod: &Pod, now: SystemTime) -> Result<bool, Error> {
    let names = names_of(pod);
    if is_good(directory, &names, now) {
        return Ok(false);
    }
    fs_err::create_dir_all(directory).map_err(Error::Write)?;
    let mut parameters = rcgen::CertificateParams::new(names.clone()).map_err(Error::Make)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, names[0].as_str());
    parameters.not_before = (now - SKEW).into();
    parameters.not_after = (now + LIFETIME).into();
    let key = rcgen::KeyPair::generate().map_err(Error::Make)?;
    let certificate = parameters.self_signed(&key).map_err(Error::Make)?;
    let write = |name: &str, text: &str| durable::swap(&directory.join(name), text.as_bytes(), 0o600);
    // The note is last: without it, all is made anew.
    write("server.key", &key.serialize_pem())
        .and_then(|()| write("server.crt", &certificate.pem()))
        .and_then(|()| write("names", &note(&names, now + LIFETIME)))
        .map_err(Error::Write)?;
    Ok(true)
}

fn note(names: &[String], end: SystemTime) -> String {
    let seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{seconds}\n{}\n", names.join("\n"))
}

fn is_good(directory: &Path, names: &[String], now: SystemTime) -> bool {
    let exists = |name: &str| fs_err::metadata(directory.join(name)).is_ok_and(|metadata| metadata.len() > 0);
    let Ok(text) = fs_err::read_to_string(directory.join("names")) else { return false };
    let Some((end, rest)) = text.split_once('\n') else { return false };
    let end = end.parse().ok().and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    exists("server.key")
        && exists("server.crt")
        && rest.lines().eq(names)
        && end.is_some_and(|end| now + MARGIN < end && end < now + LIFETIME + SKEW)
}

/// The names under which clients reach the server.
fn names_of(pod: &Pod) -> Vec<String> {
    let Pod { instance, name, namespace, address, .. } = pod;
    let mut all = vec![name.clone(), address.to_string(), "localhost".to_owned()];
    for service in [names::primary_service(instance), names::read_only_service(instance)] {
        all.push(service.clone());
        all.push(format!("{service}.{namespace}"));
        all.push(format!("{service}.{namespace}.svc"));
        all.push(format!("{service}.{namespace}.svc.cluster.local"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(address: &str) -> Pod {
        Pod {
            instance: "solo".into(),
            name: "solo-0".into(),
            namespace: "shop".into(),
            address: address.parse().expect("an address"),
            socket_directory: "/tmp".into(),
        }
    }

    #[test]
    fn it_is_kept_until_it_nears_its_end_or_the_pod_moves() {
        let directory = tempfile::tempdir().expect("a directory");
        let tls = directory.path().join("tls");
        let now = SystemTime::now();
        let ensure = |address, now| ensure(&tls, &pod(address), now).expect("made");
        assert!(ensure("127.64.0.9", now));
        assert!(!ensure("127.64.0.9", now));
        assert!(!ensure("127.64.0.9", now + DAY * 300));
        assert!(ensure("127.64.0.9", now + DAY * 350));
        assert!(ensure("127.64.0.10", now + DAY * 350));
        let note = fs_err::read_to_string(tls.join("names")).expect("there");
        let (_, names) = note.split_once('\n').expect("an end and names");
        fs_err::write(tls.join("names"), format!("{}\n{names}", u64::MAX)).expect("written");
        assert!(ensure("127.64.0.10", now + DAY * 350), "no clock reaches that end");
        fs_err::remove_file(tls.join("server.key")).expect("removed");
        assert!(ensure("127.64.0.10", now + DAY * 350));
    }

    #[test]
    fn the_key_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        ensure(directory.path(), &pod("::1"), SystemTime::now()).expect("made");
        let mode = fs_err::metadata(directory.path().join("server.key")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
