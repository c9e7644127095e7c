//! Connections that can't be made, in the words of Go's `net`, which clients of Kubernetes know.

use std::io;

/// Why a connection can't be made: what follows `dial tcp <address>: `.
pub(crate) fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        _ => error.to_string(),
    }
}
