//! What an agent is told by environment variables, parsed once.
//!
//! Volumes are at the pod template's mount paths. Where a node cannot mount, it says in `A9S_MOUNT_<NAME>` where a
//! volume really is.

use super::datadir::DATA;
use crate::instance::pod::{CREDENTIALS_PATH, DATA_PATH, SOCKET_PATH};
use std::net::IpAddr;
use std::path::PathBuf;

/// A variable is missing or wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not set.
    #[error("the environment variable {0} is not set: this program runs in the pods of an instance")]
    Missing(&'static str),
    /// It cannot be understood.
    #[error("the environment variable {name} has the value {value:?}, which is no {expected}")]
    Wrong {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// Gives a variable's value.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What every container is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name of the instance.
    pub instance: String,
    /// Name of the pod.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its address.
    pub address: IpAddr,
    /// Directory of the server's socket.
    pub socket_directory: PathBuf,
}

/// What the container for backups is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// As every container.
    pub pod: Pod,
    /// UID of the pod.
    pub uid: String,
    /// PostgreSQL's programs.
    pub bin_directory: PathBuf,
    /// Their major.
    pub major: u32,
}

/// What the container of the server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As every container.
    pub pod: Pod,
    /// Directory of the volume for the data.
    pub volume: PathBuf,
    /// Directory with the superuser's name and password.
    pub admin_credentials: PathBuf,
    /// Directory with the replication role's name and password.
    pub standby_credentials: PathBuf,
    /// PostgreSQL's programs.
    pub bin_directory: PathBuf,
    /// Their major.
    pub major: u32,
    /// A template data directory, if there may be one.
    pub template: Option<PathBuf>,
    /// The container's memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// UID of the pod.
    pub uid: String,
    /// File whose content a kubelet reports when the container has ended.
    pub termination_log: PathBuf,
}

/// Where Kubernetes puts it, unless a pod asks for another place.
const TERMINATION_LOG: &str = "/dev/termination-log";

fn required(variables: Variables<'_>, name: &'static str) -> Result<String, Error> {
    variables(name).filter(|value| !value.is_empty()).ok_or(Error::Missing(name))
}

pub(crate) fn parsed<T: std::str::FromStr>(
    variables: Variables<'_>,
    name: &'static str,
    expected: &'static str,
) -> Result<T, Error> {
    let value = required(variables, name)?;
    value.parse().map_err(|_| Error::Wrong { name, value, expected })
}

pub(crate) fn volume(variables: Variables<'_>, name: &'static str, path: &str) -> PathBuf {
    required(variables, name).map_or_else(|_| PathBuf::from(path), PathBuf::from)
}

impl Pod {
    /// Reads the variables.
    ///
    /// # Errors
    /// If one is missing or wrong.
    pub fn read(variables: Variables<'_>) -> Result<Self, Error> {
        Ok(Self {
            instance: required(variables, "A9S_INSTANCE")?,
            name: required(variables, "POD_NAME")?,
            namespace: required(variables, "POD_NAMESPACE")?,
            address: parsed(variables, "POD_IP", "address")?,
            socket_directory: volume(variables, "A9S_MOUNT_SOCKET", SOCKET_PATH),
        })
    }

    /// The member's number, from the pod's name.
    pub fn ordinal(&self) -> Option<u32> {
        self.name.strip_prefix(&self.instance)?.strip_prefix('-')?.parse().ok()
    }
}

impl Backup {
    /// Reads the variables.
    ///
    /// # Errors
    /// If one is missing or wrong.
    pub fn read(variables: Variables<'_>) -> Result<Self, Error> {
        Ok(Self {
            pod: Pod::read(variables)?,
            uid: required(variables, "POD_UID")?,
            bin_directory: PathBuf::from(required(variables, "A9S_POSTGRESQL_BIN")?),
            major: parsed(variables, "A9S_POSTGRESQL_MAJOR", "PostgreSQL major")?,
        })
    }
}

impl Server {
    /// Reads the variables.
    ///
    /// # Errors
    /// If one is missing or wrong.
    pub fn read(variables: Variables<'_>) -> Result<Self, Error> {
        let credentials = |name, directory: &str| volume(variables, name, &format!("{CREDENTIALS_PATH}/{directory}"));
        let memory_limit = match variables("A9S_MEMORY_LIMIT").as_deref() {
            None | Some("" | "0") => None,
            Some(_) => Some(parsed(variables, "A9S_MEMORY_LIMIT", "number of bytes")?),
        };
        Ok(Self {
            pod: Pod::read(variables)?,
            volume: volume(variables, "A9S_MOUNT_PGDATA", DATA_PATH),
            admin_credentials: credentials("A9S_MOUNT_ADMIN_CREDENTIALS", "admin"),
            standby_credentials: credentials("A9S_MOUNT_STANDBY_CREDENTIALS", "standby"),
            bin_directory: PathBuf::from(required(variables, "A9S_POSTGRESQL_BIN")?),
            major: parsed(variables, "A9S_POSTGRESQL_MAJOR", "PostgreSQL major")?,
            template: variables("A9S_PGDATA_TEMPLATE").filter(|path| !path.is_empty()).map(PathBuf::from),
            memory_limit,
            uid: required(variables, "POD_UID")?,
            termination_log: volume(variables, "A9S_TERMINATION_LOG", TERMINATION_LOG),
        })
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.volume.join(DATA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(changed: &'static str, value: Option<&'static str>) -> impl Fn(&str) -> Option<String> {
        move |name| {
            if name == changed {
                return value.map(str::to_owned);
            }
            let value = match name {
                "A9S_INSTANCE" => "a-1",
                "POD_NAME" => "a-1-12",
                "POD_NAMESPACE" => "shop",
                "POD_UID" => "1-2-3",
                "POD_IP" => "127.64.0.9",
                "A9S_POSTGRESQL_BIN" => "/usr/lib/postgresql/15/bin",
                "A9S_POSTGRESQL_MAJOR" => "15",
                "A9S_MEMORY_LIMIT" => "209715200",
                _ => return None,
            };
            Some(value.to_owned())
        }
    }

    #[test]
    fn a_pod_knows_its_number_also_when_the_instance_is_named_like_a_pod() {
        let server = Server::read(&variables("", None)).expect("complete");
        assert_eq!(server.pod.ordinal(), Some(12));
        assert_eq!(server.data(), PathBuf::from("/home/postgres/pgdata/data"));
        assert_eq!(server.memory_limit, Some(209_715_200));
    }

    #[test]
    fn a_volume_that_could_not_be_mounted_is_found() {
        let server = Server::read(&variables("A9S_MOUNT_PGDATA", Some("/var/x"))).expect("complete");
        assert_eq!(server.data(), PathBuf::from("/var/x/data"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = |name, value| Server::read(&variables(name, value)).expect_err("incomplete").to_string();
        assert!(error("POD_IP", None).contains("POD_IP is not set"));
        assert_eq!(
            error("A9S_POSTGRESQL_MAJOR", Some("new")),
            "the environment variable A9S_POSTGRESQL_MAJOR has the value \"new\", which is no PostgreSQL major"
        );
    }
}
