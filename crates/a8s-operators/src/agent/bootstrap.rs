//! What has to be in a server before it is used: roles with their passwords, and the default database. Every statement
//! may be cut off and run again.

use super::{SQL_PORT, scram};
use crate::postgresql::template::{DEFAULT_DATABASE, REPLICATION_ROLE, ROOT_ROLE, SUPERUSER};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;
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

/// How every session of the superuser begins: as the superuser, with a path of `pg_catalog` alone, able to write, able
/// to read at a standby, which has no serializable transactions, and not cut off, however long it works or waits.
/// Applications may set all of it for the sessions of their database, and make objects in schemas of theirs; a function of theirs
/// that fits better than the one that is meant would be run by the superuser (PostgreSQL manual, "Usage Patterns" of schemas;
/// CVE-2018-1058). What is not in `pg_catalog` is named with its schema.
pub const SAFE: &str = "-c search_path= -c role=none -c default_transaction_read_only=off \
                        -c default_transaction_isolation=read\\ committed -c statement_timeout=0 -c lock_timeout=0 \
                        -c idle_in_transaction_session_timeout=0";
/// What else cuts sessions off, and the major that brought it.
const TIMEOUTS: [(u32, &str); 2] = [(14, "idle_session_timeout"), (17, "transaction_timeout")];
/// Whatever the instance's parameters say, nothing of the agent's work is logged, counted or shown to others.
pub(super) const QUIET: &str = "-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic \
                                -c track_activities=off -c pg_stat_statements.track=none";
/// How long a server may take to read its configuration.
const RELOAD: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(3);

/// A role and its password.
#[derive(Clone)]
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

/// [`SAFE`] for a server of this major, with what not every one knows.
pub fn safe(major: u32) -> String {
    timeouts(major).fold(SAFE.to_owned(), |options, name| format!("{options} -c {name}=0"))
}

fn timeouts(major: u32) -> impl Iterator<Item = &'static str> {
    TIMEOUTS.into_iter().filter(move |(since, _)| *since <= major).map(|(_, name)| name)
}

/// Connects through the socket as the superuser, to the superuser's database. The connection ends with the client.
///
/// # Errors
/// If the server does not accept it.
pub async fn connect(sockets: &Path, application: &str) -> Result<Client, tokio_postgres::Error> {
    // It waits for no standbys, either.
    connect_to(sockets, SUPERUSER, application, &format!("{QUIET} -c synchronous_commit=local")).await
}

/// Connects through the socket as the superuser, with [`SAFE`] and other settings. The connection ends with the client.
///
/// # Errors
/// If the server does not accept it.
pub async fn connect_to(
    sockets: &Path,
    database: &str,
    application: &str,
    settings: &str,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(sockets).port(SQL_PORT).user(SUPERUSER).dbname(database).application_name(application);
    config.options(format!("{SAFE} {settings}"));
    let (client, connection) = config.connect(NoTls).await?;
    // Such as `15.14 (Debian 15.14-0+deb12u1)`, or `18beta1`.
    let version = connection.parameter("server_version").unwrap_or_default();
    let major = version.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|major| major.parse().ok());
    tokio::spawn(async move {
        // Its end shows at the client.
        let _ = connection.await;
    });
    // A server refuses a connection with a setting that it does not know.
    let settings: String = timeouts(major.unwrap_or_default()).map(|name| format!("SET {name} = 0; ")).collect();
    client.batch_execute(&settings).await?;
    Ok(client)
}

/// One word of a connection string, as libpq wants it (PostgreSQL manual, 34.1.1.1).
pub fn word(key: &str, value: &str) -> String {
    format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
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
    let statements = role_statements(&roles(client).await.map_err(refused("list its roles"))?, admin, standby);
    if !statements.is_empty() {
        let transaction = format!("BEGIN; {}; COMMIT", statements.join("; "));
        client.batch_execute(&transaction).await.map_err(refused("make its roles"))?;
    }
    for (database, owner) in [(DEFAULT_DATABASE, ROOT_ROLE), (&admin.username, &admin.username)] {
        let query = format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(database));
        if first(client, &query).await.map_err(refused("list its databases"))?.is_none() {
            // Cannot be in a transaction; it is there or not.
            let statement = format!("CREATE DATABASE {} OWNER {}", identifier(database), identifier(owner));
            client.batch_execute(&statement).await.map_err(refused("make its databases"))?;
        }
    }
    // Before PostgreSQL 15 everybody may make objects there, and every login may connect.
    let is_open =
        "SELECT 1 FROM pg_namespace WHERE nspname = 'public' AND has_schema_privilege('public', oid, 'CREATE')";
    if first(client, is_open).await.map_err(refused("say who may make objects"))?.is_some() {
        let statement = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
        client.batch_execute(statement).await.map_err(refused("close the schema of its superuser"))?;
    }
    Ok(())
}

/// A role as it is.
#[derive(Clone, Debug, Default)]
struct Role {
    attributes: String,
    verifier: String,
}

async fn roles(client: &Client) -> Result<BTreeMap<String, Role>, tokio_postgres::Error> {
    let query = "SELECT rolname, CASE WHEN rolsuper THEN 'SUPERUSER ' ELSE '' END || \
                 CASE WHEN rolreplication THEN 'REPLICATION ' ELSE '' END || \
                 CASE WHEN rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END, rolpassword FROM pg_authid";
    let messages = client.simple_query(query).await?;
    let role = |message| {
        let SimpleQueryMessage::Row(row) = message else { return None };
        let text = |column| row.try_get(column).ok().flatten().unwrap_or_default().to_owned();
        Some((text(0), Role { attributes: text(1), verifier: text(2) }))
    };
    Ok(messages.into_iter().filter_map(role).collect())
}

/// What makes the roles what they should be; nothing where they are.
fn role_statements(roles: &BTreeMap<String, Role>, admin: &Credentials, standby: &Credentials) -> Vec<String> {
    let mut statements = Vec::new();
    let mut change = |name: &str, attributes: &[&str], password: Option<&str>| {
        let existing = roles.get(name);
        let has = |attribute: &&str| existing.is_some_and(|role| role.attributes.split(' ').any(|a| a == *attribute));
        let is_kept = sabotage::sabotaged!("restore-keeps-old-passwords") && existing.is_some();
        let matches = |p| existing.is_some_and(|role| scram::matches(&role.verifier, p));
        let is_known = is_kept || password.is_none_or(matches);
        if attributes.iter().all(has) && is_known {
            return;
        }
        let verb = if existing.is_some() { "ALTER" } else { "CREATE" };
        let mut statement = format!("{verb} ROLE {} {}", identifier(name), attributes.join(" "));
        if let Some(password) = password {
            statement += &format!(" PASSWORD {}", literal(&scram::verifier(password)));
        }
        statements.push(statement);
    };
    change(ROOT_ROLE, &["NOLOGIN"], None);
    if standby.username != REPLICATION_ROLE {
        change(REPLICATION_ROLE, &["REPLICATION"], None);
    }
    change(&standby.username, &["REPLICATION", "LOGIN"], Some(&standby.password));
    change(&admin.username, &["SUPERUSER", "LOGIN"], Some(&admin.password));
    statements
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

/// What a server has taken of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All of it.
    Whole,
    /// What needs no restart.
    InPart,
    /// It has not read it yet.
    NotYet,
}

/// Lets the server read its configuration.
///
/// # Errors
/// If it does not answer.
pub async fn reload(client: &Client) -> Result<Taken, tokio_postgres::Error> {
    let loaded = first(client, "SELECT pg_conf_load_time()").await?.unwrap_or_default();
    client.batch_execute("SELECT pg_reload_conf()").await?;
    let deadline = Instant::now() + RELOAD;
    // The session reads its configuration between two queries.
    while first(client, "SELECT pg_conf_load_time()").await?.unwrap_or_default() == loaded {
        if Instant::now() > deadline {
            return Ok(Taken::NotYet);
        }
        tokio::time::sleep(LOOK).await;
    }
    let waiting = first(client, "SELECT count(*) FROM pg_settings WHERE pending_restart").await?;
    Ok(if waiting.as_deref() == Some("0") { Taken::Whole } else { Taken::InPart })
}

/// A name for a statement.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text for a statement.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(username: &str) -> Credentials {
        Credentials { username: username.into(), password: "secret".into() }
    }

    #[test]
    fn roles_that_are_right_are_not_written_again() {
        let role = |attributes: &str, verifier: String| Role { attributes: attributes.into(), verifier };
        let mut roles = BTreeMap::from([
            ("a9s_user".to_owned(), role("NOLOGIN", String::new())),
            ("standby".to_owned(), role("REPLICATION LOGIN", scram::verifier("secret"))),
            ("postgres".to_owned(), role("SUPERUSER REPLICATION LOGIN", scram::verifier("secret"))),
        ]);
        let statements =
            |roles: &BTreeMap<_, _>| role_statements(roles, &credentials("postgres"), &credentials("standby"));
        assert_eq!(statements(&roles), Vec::<String>::new());

        roles.insert("standby".to_owned(), role("REPLICATION LOGIN", scram::verifier("other")));
        let changed = statements(&roles);
        assert!(
            changed.len() == 1 && changed[0].starts_with("ALTER ROLE \"standby\" REPLICATION LOGIN PASSWORD 'SCRAM")
        );
        assert!(!changed[0].contains("secret"));

        roles.clear();
        assert_eq!(statements(&roles).iter().filter(|statement| statement.starts_with("CREATE ROLE")).count(), 3);
    }

    #[test]
    fn names_and_texts_cannot_end_their_quotes() {
        assert_eq!(identifier("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(literal("a'; DROP"), "'a''; DROP'");
    }
}
