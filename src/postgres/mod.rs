//! PostgreSQL as its clients see it, by its protocol: what the conformance suite asks with, and what commands that prove
//! something do.

mod client;
pub mod ledger;

use std::time::Duration;

pub use self::client::{ask, connect, connect_in_the_clear, connect_with, query, versions};
pub use self::ledger::Ledger;

/// The database that every instance has.
pub const DATABASE: &str = "a9s_apps_default_db";

/// Address, user name and password with which a client reaches an instance.
#[derive(Debug, Clone)]
pub struct Login {
    /// The address of what leads to a server: of a Service, of a member, or of a port of this machine.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The name of the role.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server said no, or can't be reached.
    #[error("PostgreSQL: {}", words(.0))]
    Server(#[from] tokio_postgres::Error),
    /// It says nothing.
    #[error("PostgreSQL did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It is not the one that takes writes.
    #[error("the server that answers is a standby")]
    Standby,
}

impl Error {
    /// The SQLSTATE of the server's answer (PostgreSQL manual, appendix "PostgreSQL Error Codes").
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => error.code().map(tokio_postgres::error::SqlState::code),
            Self::Silent(_) | Self::Standby => None,
        }
    }

    /// Whether the statement or the login has earned it, rather than a server that comes, goes (classes 57 and 08) or has no
    /// place left (53300).
    pub fn is_answer(&self) -> bool {
        self.code().is_some_and(|code| !code.starts_with("57") && !code.starts_with("08") && code != "53300")
    }
}

/// The server's own words where it has any.
fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(answer) => answer.to_string(),
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")),
    }
}
