//! What the node tells the launcher: one JSON document on standard input, after its length in four bytes, so that what
//! follows on the same descriptor is left for the program.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::node::HostUser;

/// Longest order that is read, in bytes. Environments are limited to less by the kernel.
const LIMIT: usize = 16 * 1024 * 1024;

/// The whole message.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Spec {
    /// The node's process. A launcher that is no longer its child has been orphaned and ends.
    pub parent: u32,
    /// What to do.
    pub order: Order,
}

/// What a launcher does.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub enum Order {
    /// Become a container's main process.
    Run(Run),
    /// Become a further process of a running container.
    Exec(Exec),
    /// Try whether views can be made here, and end with 0 if so.
    Survey(View),
    /// Wait until standard input ends, then end every process that bears the mark.
    Sweep(Sweep),
}

/// A container's main process. Standard input is a socket: an error is written to it, and its end without one says
/// that the program has been executed.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Run {
    /// The view of the file system to make; `None`: the host's.
    pub view: Option<View>,
    /// What is executed.
    pub program: Program,
}

/// A process beside a container's main process.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Exec {
    /// The container's namespaces; `None`: the host's.
    pub join: Option<Join>,
    /// What standard input becomes.
    pub stdin: Stdin,
    /// What is executed.
    pub program: Program,
}

/// The namespaces of a running process.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Join {
    /// The process.
    pub pid: u32,
    /// It also has a user namespace of its own.
    pub user_namespace: bool,
}

/// Standard input of an exec'd program.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`.
    Nothing,
    /// What follows the order.
    Follows,
    /// The terminal that standard output is; it becomes the controlling terminal.
    Terminal,
}

/// A view of the file system for one container.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct View {
    /// Make a user namespace first, since the caller is not root.
    pub user_namespace: bool,
    /// An empty directory of the host; the view is built on it, invisible to others.
    pub root: PathBuf,
    /// The mark: source of the root's tmpfs, as `/proc/PID/mountinfo` shows it.
    pub label: String,
    /// Directories of the host that are empty here.
    pub hidden: Vec<PathBuf>,
    /// What is mounted where.
    pub mounts: Vec<Mount>,
}

/// A file or directory of the host that appears at a path of the container.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Mount {
    /// Path on the host, without links: what has become one is not followed.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// No writing through this path.
    pub read_only: bool,
}

/// A program and the rights it runs with.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Program {
    /// Program and arguments; a program without a slash is looked for in the `PATH` of `env`.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub directory: PathBuf,
    /// Whom to become; `None`: stay who the node is.
    pub user: Option<HostUser>,
}

/// The end of a node's processes after the node.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Sweep {
    /// The mark of the node's run, see [`crate::node::marks`].
    pub mark: crate::node::marks::Mark,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u64,
}

/// The message as bytes.
///
/// # Errors
/// When it is too long.
pub fn encode(spec: &Spec) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(spec)?;
    if body.len() > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the order is too long"));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(&body);
    Ok(message)
}

/// Reads one message, and not a byte more.
///
/// # Errors
/// A message that is cut short, too long or not understood.
pub fn read(from: BorrowedFd<'_>) -> io::Result<Spec> {
    let mut length = [0; 4];
    read_exact(from, &mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the order is too long"));
    }
    let mut body = vec![0; length];
    read_exact(from, &mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

fn read_exact(from: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match nix::unistd::read(from, &mut buffer[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_follows_an_order_is_left_unread() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let spec = Spec {
            parent: 7,
            order: Order::Exec(Exec {
                join: Some(Join { pid: 12, user_namespace: true }),
                stdin: Stdin::Follows,
                program: Program {
                    command: vec!["cat".into()],
                    env: vec![("A".into(), "b=c\nd".into())],
                    directory: "/".into(),
                    user: None,
                },
            }),
        };
        writer.write_all(&encode(&spec).unwrap()).unwrap();
        writer.write_all(b"rest").unwrap();
        drop(writer);
        assert_eq!(read(reader.as_fd()).unwrap(), spec);
        assert_eq!(std::io::read_to_string(reader).unwrap(), "rest");
    }

    #[test]
    fn an_order_that_is_cut_short_is_an_error() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&[0, 0, 0, 9, b'{']).unwrap();
        drop(writer);
        assert_eq!(read(reader.as_fd()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
