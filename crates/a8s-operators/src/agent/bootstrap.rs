//! What has to be in a server before it is used: roles with their passwords, and the default database. Every statement
//! may be cut off and run again.

use super::SQL_PORT;
use crate::postgresql::template::{DEFAULT_DATABASE, REPLICATION_ROLE, ROOT_ROLE, SUPERUSER};
use std::io;
use std::path::{Path, PathBuf};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Why a server is not ready for use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret cannot be read.
    #[error("cannot read {path}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The server refused.
    #[error("the server refused to {action}")]
    Refused {
        /// What was asked of it.
        action: &'static str,
        /// The cause.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The data directory is not the one it should be.
    #[error("the server has the system identifier {found}, and not {expected}, with which it was initialised")]
    Foreign {
        /// What the server says.
        found: String,
        /// What was noted.
        expected: u64,
    },
}

/// A role and its password.
pub struct Credentials {
    /// Name of the role.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl Credentials {
    /// Reads a Secret's files.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs_err::read_to_string(&path).map_err(|source| Error::Credentials { path, source })
        };
        Ok(Self { username: read("username")?, password: read("password")? })
    }
}

/// Connects through the socket as the superuser. The connection ends with the client.
///
/// # Errors
/// If the server does not accept it.
pub async fn connect(sockets: &Path, application: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(sockets).port(SQL_PORT).user(SUPERUSER).dbname(SUPERUSER).application_name(application);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Its end shows at the client.
        let _ = connection.await;
    });
    Ok(client)
}

/// Makes what is missing, and sets the passwords. The server must be a primary.
///
/// # Errors
/// If the server refuses, or is another one than the identifier says.
pub async fn prepare(
    client: &Client,
    system_identifier: u64,
    admin: &Credentials,
    standby: &Credentials,
) -> Result<(), Error> {
    let refused = |action| move |source| Error::Refused { action, source };
    let found = first(client, "SELECT system_identifier FROM pg_control_system()").await;
    let found = found.map_err(refused("say who it is"))?.unwrap_or_default();
    if found != system_identifier.to_string() {
        return Err(Error::Foreign { found, expected: system_identifier });
    }
    // Whatever the instance's parameters say, nothing of this is logged or waits for standbys.
    let quiet = "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic'; \
                 SET synchronous_commit = 'local'; SET statement_timeout = 0";
    client.batch_execute(quiet).await.map_err(refused("prepare its roles"))?;
    let mut statements = String::from("BEGIN;");
    for role in [ROOT_ROLE, REPLICATION_ROLE, &admin.username, &standby.username] {
        let query = format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(role));
        if first(client, &query).await.map_err(refused("list its roles"))?.is_none()
            && !statements.contains(&identifier(role))
        {
            statements += &format!("CREATE ROLE {};", identifier(role));
        }
    }
    let verifier = |credentials: &Credentials| {
        literal(&postgres_protocol::password::scram_sha_256(credentials.password.as_bytes()))
    };
    statements += &format!("ALTER ROLE {} NOLOGIN;", identifier(ROOT_ROLE));
    statements += &format!("ALTER ROLE {} SUPERUSER LOGIN PASSWORD {};", identifier(&admin.username), verifier(admin));
    statements +=
        &format!("ALTER ROLE {} REPLICATION LOGIN PASSWORD {};", identifier(&standby.username), verifier(standby));
    statements += "COMMIT";
    client.batch_execute(&statements).await.map_err(refused("make its roles"))?;
    for (database, owner) in [(DEFAULT_DATABASE, ROOT_ROLE), (&admin.username, &admin.username)] {
        let query = format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(database));
        if first(client, &query).await.map_err(refused("list its databases"))?.is_none() {
            // Cannot be in a transaction; it is there or not.
            let statement = format!("CREATE DATABASE {} OWNER {}", identifier(database), identifier(owner));
            client.batch_execute(&statement).await.map_err(refused("make its databases"))?;
        }
    }
    client.batch_execute("RESET ALL").await.map_err(refused("end its preparation"))
}

/// The first column of the first row.
///
/// # Errors
/// As the query.
pub async fn first(client: &Client, query: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    Ok(messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten().map(str::to_owned),
        _ => None,
    }))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
