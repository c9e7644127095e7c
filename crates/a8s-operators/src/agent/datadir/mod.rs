//! The data directory: whose it is, whether it may be used, and how it is made.
//!
//! `instance.json` on the volume, beside the data directory, says which instance the volume belongs to and how far its
//! initialisation is. A directory without it is somebody else's and is never touched.

pub mod copy;
pub mod exchange;
pub mod identifier;
pub mod initialise;

use super::environment::Server;
use crate::postgresql::durable;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Raised when a volume is laid out in another way.
const FORMAT: u32 = 1;
const IDENTITY: &str = "instance.json";
/// The data directory.
pub const DATA: &str = "data";
/// Where another content is prepared that will take its place.
pub const STAGED: &str = "staged";
/// Where a primary is copied to.
pub const COPY: &str = "copy";

/// What a volume says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Version of the volume's layout.
    pub format: u32,
    /// Name of the instance.
    pub instance: String,
    /// Its namespace.
    pub namespace: String,
    /// PostgreSQL major.
    pub major: u32,
    /// System identifier, which PostgreSQL compares before it streams.
    pub system_identifier: u64,
    /// Whether the data directory is complete and durable.
    pub is_initialised: bool,
    /// The term in which it was the primary, unless it has followed another one since.
    #[serde(default)]
    pub term: Option<u64>,
    /// Whether it has followed or copied a primary, or was one.
    #[serde(default)]
    pub has_followed: bool,
    /// Whether it was rewound to a primary and has not reached what that one had: it is not consistent without its WAL.
    #[serde(default)]
    pub is_rewound: bool,
    /// Whether the instance had no other members when the volume was last used.
    #[serde(default)]
    pub is_sole: bool,
}

/// What is found on a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Empty,
    /// An initialisation that was cut off. It may be done again.
    Unfinished(Identity),
    /// A data directory that may be used.
    Complete(Identity),
}

/// Why a volume is not used. Nothing on it is changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation.
    #[error("cannot use the volume {path}")]
    Volume {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Files that this program did not make.
    #[error("the data directory {path} was not made by this program and is left alone")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to somebody else.
    #[error("the data directory {path} belongs to user {owner}, and this program runs as user {user}")]
    Owner {
        /// The directory.
        path: PathBuf,
        /// The owner's number.
        owner: u32,
        /// This process' user.
        user: u32,
    },
    /// It belongs to another instance.
    #[error("the volume belongs to the instance {found}, and not to {expected}")]
    OtherInstance {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Another major.
    #[error("the data directory was made by PostgreSQL {found}, and this is PostgreSQL {expected}")]
    OtherMajor {
        /// Who made it.
        found: String,
        /// Who would run it.
        expected: u32,
    },
    /// The volume's description cannot be understood.
    #[error("the volume's description {path} cannot be understood: {reason}")]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A later version of this program made it.
    #[error("the volume has format {found}, and this program knows only format {FORMAT}")]
    Format {
        /// The volume's.
        found: u64,
    },
    /// It should have data and has none.
    #[error(
        "this instance was initialised before, with system identifier {identifier}, but the volume of {pod} is empty; \
         it is not initialised again, because that would hide the loss of its data"
    )]
    Lost {
        /// What was noted.
        identifier: String,
        /// The pod.
        pod: String,
    },
    /// The data is another instance's than the one that was noted.
    #[error("the data directory has system identifier {found}, and the instance was initialised with {expected}")]
    OtherIdentifier {
        /// In the volume.
        found: u64,
        /// What was noted.
        expected: String,
    },
    /// Making it failed.
    #[error("cannot initialise the data directory")]
    Initialise(#[source] Box<initialise::Error>),
}

/// Looks at the volume, without changing anything.
///
/// # Errors
/// If what is there may not be used.
pub fn inspect(server: &Server) -> Result<Found, Error> {
    let data = server.data();
    let path = server.volume.join(IDENTITY);
    let volume = |source| Error::Volume { path: server.volume.clone(), source };
    let text = match fs_err::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_empty = fs_err::metadata(&data).is_err() || is_empty(&data).map_err(volume)?;
            fs_err::metadata(&server.volume).map_err(volume)?;
            return if is_empty { Ok(Found::Empty) } else { Err(Error::Foreign { path: data }) };
        }
        Err(source) => return Err(Error::Volume { path, source }),
    };
    let identity = parse(&path, &text)?;
    let found = format!("{}/{}", identity.namespace, identity.instance);
    let expected = format!("{}/{}", server.pod.namespace, server.pod.instance);
    if found != expected {
        return Err(Error::OtherInstance { found, expected });
    }
    if identity.major != server.major {
        return Err(Error::OtherMajor { found: identity.major.to_string(), expected: server.major });
    }
    if !identity.is_initialised {
        return Ok(Found::Unfinished(identity));
    }
    check(&data, server.major)?;
    Ok(Found::Complete(identity))
}

fn parse(path: &Path, text: &[u8]) -> Result<Identity, Error> {
    let description = |reason: String| Error::Description { path: path.to_owned(), reason };
    let value: serde_json::Value = serde_json::from_slice(text).map_err(|error| description(error.to_string()))?;
    match value["format"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => {
            serde_json::from_value(value).map_err(|error| description(error.to_string()))
        }
        Some(found) => Err(Error::Format { found }),
        None => Err(description("it has no format".to_owned())),
    }
}

/// Whether a directory that should be complete is one this process can run.
fn check(data: &Path, major: u32) -> Result<(), Error> {
    let metadata = fs_err::metadata(data).map_err(|source| Error::Volume { path: data.to_owned(), source })?;
    let user = nix::unistd::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(Error::Owner { path: data.to_owned(), owner: metadata.uid(), user });
    }
    let path = data.join("PG_VERSION");
    let found = fs_err::read_to_string(&path).map_err(|source| Error::Volume { path, source })?;
    let found = found.trim().to_owned();
    if found != major.to_string() { Err(Error::OtherMajor { found, expected: major }) } else { Ok(()) }
}

fn is_empty(directory: &Path) -> io::Result<bool> {
    Ok(fs_err::read_dir(directory)?.next().is_none())
}

impl Identity {
    /// For a new data directory.
    pub fn new(server: &Server, system_identifier: u64) -> Self {
        Self {
            format: FORMAT,
            instance: server.pod.instance.clone(),
            namespace: server.pod.namespace.clone(),
            major: server.major,
            system_identifier,
            is_initialised: false,
            term: None,
            has_followed: false,
            is_rewound: false,
            is_sole: false,
        }
    }

    /// Notes that the data may follow a primary. What was not rewound to it is consistent, and has what it had: whether
    /// that fits is still to be seen.
    pub fn rejoin(&mut self, is_rewound: bool) {
        self.has_followed = !is_rewound && (self.has_followed || self.term.is_some());
        self.is_rewound |= is_rewound;
        (self.term, self.is_initialised) = (None, true);
    }

    /// Changes it on the volume, durably, if that changes anything.
    ///
    /// # Errors
    /// As writing.
    pub fn change(&mut self, volume: &Path, edit: impl FnOnce(&mut Self)) -> Result<(), Error> {
        let before = self.clone();
        edit(self);
        if *self == before { Ok(()) } else { self.write(volume) }
    }

    /// Writes it to the volume, durably.
    ///
    /// # Errors
    /// As writing.
    pub fn write(&self, volume: &Path) -> Result<(), Error> {
        let path = volume.join(IDENTITY);
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        durable::replace(&path, &text, 0o600).map_err(|source| Error::Volume { path, source })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::agent::environment::Pod;

    pub fn server(volume: &Path) -> Server {
        Server {
            pod: Pod {
                instance: "solo".into(),
                name: "solo-0".into(),
                namespace: "shop".into(),
                address: [127, 0, 0, 1].into(),
                socket_directory: volume.join("socket"),
            },
            volume: volume.to_owned(),
            admin_credentials: volume.join("admin"),
            standby_credentials: volume.join("standby"),
            bin_directory: "/usr/lib/postgresql/15/bin".into(),
            major: 15,
            template: None,
            memory_limit: Some(200 << 20),
            uid: "1-2-3".into(),
            termination_log: volume.join("termination-log"),
        }
    }

    fn volume() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn complete(server: &Server) {
        fs_err::create_dir(server.data()).expect("made");
        fs_err::write(server.data().join("PG_VERSION"), "15\n").expect("written");
        Identity { is_initialised: true, ..Identity::new(server, 7) }.write(&server.volume).expect("written");
    }

    #[test]
    fn a_volume_is_empty_unfinished_or_complete() {
        let volume = volume();
        let server = server(volume.path());
        assert_eq!(inspect(&server).expect("usable"), Found::Empty);
        let identity = Identity::new(&server, 7);
        identity.write(&server.volume).expect("written");
        assert_eq!(inspect(&server).expect("usable"), Found::Unfinished(identity));
        complete(&server);
        assert!(matches!(inspect(&server), Ok(Found::Complete(identity)) if identity.system_identifier == 7));
    }

    #[test]
    fn what_was_not_rewound_is_what_it_was() {
        let new = |term, has_followed, is_rewound| {
            let volume = volume();
            let server = server(volume.path());
            Identity { term, has_followed, is_rewound, ..Identity::new(&server, 7) }
        };
        for (before, is_rewound, after) in [
            (new(Some(3), false, false), true, new(None, false, true)),
            (new(Some(3), false, false), false, new(None, true, false)),
            (new(None, true, false), false, new(None, true, false)),
            (new(None, false, false), false, new(None, false, false)),
            (new(None, false, true), false, new(None, false, true)),
        ] {
            let mut identity = before;
            identity.rejoin(is_rewound);
            assert_eq!(identity, Identity { is_initialised: true, ..after });
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_in_one_sentence() {
        let foreign = volume();
        fs_err::create_dir(foreign.path().join("data")).expect("made");
        fs_err::write(foreign.path().join("data/PG_VERSION"), "15\n").expect("written");
        let error = inspect(&server(foreign.path())).expect_err("foreign").to_string();
        assert!(error.contains("was not made by this program"), "{error}");

        let ours = volume();
        complete(&server(ours.path()));
        let mut other = server(ours.path());
        other.pod.instance = "duo".into();
        let error = inspect(&other).expect_err("another's").to_string();
        assert_eq!(error, "the volume belongs to the instance shop/solo, and not to shop/duo");
        let mut newer = server(ours.path());
        newer.major = 16;
        let error = inspect(&newer).expect_err("another major").to_string();
        assert_eq!(error, "the data directory was made by PostgreSQL 15, and this is PostgreSQL 16");
    }

    #[test]
    fn descriptions_of_other_formats_and_rubbish_are_refused() {
        for (text, part) in [
            (r#"{"format": 2, "new": true}"#, "the volume has format 2, and this program knows only format 1"),
            ("", "cannot be understood"),
            ("\0\u{1}rubbish", "cannot be understood"),
            (r#"{"instance": "solo"}"#, "it has no format"),
            (r#"{"format": 1}"#, "cannot be understood"),
        ] {
            let volume = volume();
            fs_err::write(volume.path().join(IDENTITY), text).expect("written");
            let error = inspect(&server(volume.path())).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_volume_that_is_not_there_is_an_error_and_not_empty() {
        let volume = volume();
        assert!(inspect(&server(&volume.path().join("missing"))).is_err());
    }
}
