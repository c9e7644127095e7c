//! The logins of service bindings: the agent of the primary makes exactly the roles that the instance's Secret
//! `X-logins` lists, and says on its pod which content of it applies.
//!
//! A login is a member of [`ROOT_ROLE`] and its sessions begin as that role: so everything it makes belongs to
//! [`ROOT_ROLE`], every other login may use it, and dropping the login leaves it where it is.

use super::bootstrap::{self, first, identifier, literal};
use super::platform::{self, Primary};
use super::report;
use crate::chain;
use crate::postgresql::template::{ROOT_ROLE, SUPERUSER};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Key of the Secret.
pub const KEY: &str = "logins.json";
/// Annotation of a pod: [`report::hash`] of the content of the Secret that its server has.
pub const ANNOTATION: &str = "a8s.a9s/logins";
/// How names of logins begin.
pub const PREFIX: &str = "a8s-sb-";
/// Length of what follows, letters and digits.
pub const SUFFIX: usize = 9;

/// Pause after an attempt that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest pause after one that only could not drop old logins.
const LATER: Duration = Duration::from_secs(60);
/// How long sessions of a dropped login may take to end before the login is dropped nevertheless.
const ENDING: Duration = Duration::from_secs(3);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(10);

/// A login as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Name of the role.
    pub role: String,
    /// SCRAM verifier of its password.
    pub verifier: String,
}

/// The logins of an instance, by the uid of their service binding.
pub type Logins = BTreeMap<String, Login>;

/// Why the logins of a server are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret's content.
    #[error("the list of logins cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// The server refused.
    #[error("the server refused to {action}")]
    Refused {
        /// What was asked of it.
        action: &'static str,
        /// The cause.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Logins that could not be dropped.
    #[error("{count} logins could not be dropped, and can no longer be used")]
    Kept {
        /// How many.
        count: usize,
    },
    /// The cluster.
    #[error(transparent)]
    Platform(#[from] platform::Error),
}

fn refused(action: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |source| Error::Refused { action, source }
}

/// Keeps the logins of a primary as the Secret says, until it is cut off. A server that does not take part (it may be
/// ending) is asked again and again.
pub async fn follow(platform: &impl Primary, sockets: &Path) {
    let (contents, mut changes) = watch::channel(None);
    let following = async {
        platform.follow_logins(contents).await;
        std::future::pending::<()>().await;
    };
    let applying = async {
        let (mut said, mut pause) = (String::new(), AGAIN);
        loop {
            let content = changes.borrow_and_update().clone();
            if let Some(content) = content {
                // A newer list does not wait for an older one, which may be waiting for standbys.
                let result = tokio::select! {
                    biased;
                    Ok(()) = changes.changed() => continue,
                    result = apply_and_note(platform, sockets, &content) => result,
                };
                if let Err(error) = result {
                    // Nobody waits for what is left of old logins, and somebody works with it.
                    pause = if matches!(error, Error::Kept { .. }) { (pause * 2).min(LATER) } else { AGAIN };
                    let text = chain(&error);
                    if text != said {
                        tracing::warn!("{text}; it is tried again");
                        said = text;
                    }
                    tokio::select! {
                        () = sleep(pause) => continue,
                        Ok(()) = changes.changed() => continue,
                    }
                }
            }
            said.clear();
            pause = AGAIN;
            if changes.changed().await.is_err() {
                return std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = following => {}
        () = applying => {}
    }
}

/// Applies a list and says so. It is in effect although something of old logins is left: nobody can use them.
async fn apply_and_note(platform: &impl Primary, sockets: &Path, content: &[u8]) -> Result<(), Error> {
    let applied = apply(sockets, content).await;
    if matches!(applied, Ok(()) | Err(Error::Kept { .. })) {
        platform.note(ANNOTATION, Some(&report::hash(content))).await?;
    }
    applied
}

/// Applies the Secret as it is now, once: for a server whose content has just been replaced.
///
/// # Errors
/// If the Secret can't be read, or the server refuses.
pub async fn apply_now(platform: &impl Primary, sockets: &Path) -> Result<(), Error> {
    let content = platform.logins().await?;
    apply(sockets, &content).await?;
    Ok(platform.note(ANNOTATION, Some(&report::hash(&content))).await?)
}

/// Makes the logins of the server those of the list, which may be empty. The server must be a primary.
///
/// # Errors
/// If the list is no list of logins, or the server refuses. What was done stays; it can be tried again.
pub async fn apply(sockets: &Path, content: &[u8]) -> Result<(), Error> {
    let wanted = parse(content)?;
    let client = connect(sockets, SUPERUSER).await.map_err(refused("take a connection for its logins"))?;
    let existing = existing(&client).await.map_err(refused("list its logins"))?;
    let statements = statements(&wanted, &existing);
    // The message makes it a transaction that waits for standbys also where an attempt that was cut off while waiting
    // had changed everything: a login that is said to exist survives the primary.
    let transaction = format!("BEGIN; {}SELECT pg_logical_emit_message(true, 'a9s', ''); COMMIT", statements.concat());
    client.batch_execute(&transaction).await.map_err(refused("make its logins"))?;
    let surplus: Vec<&Existing> =
        existing.iter().filter(|login| wanted.values().all(|wanted| wanted.role != login.role)).collect();
    if surplus.is_empty() || sabotage::sabotaged!("logins-never-dropped") {
        Ok(())
    } else {
        drop_logins(sockets, &client, &surplus).await
    }
}

/// Reads the list. Nothing at all is an empty one. A role that could be somebody else's is left out, and so is the second of a
/// name: one wrong entry must not keep the others from what they are to have.
///
/// # Errors
/// If it is none.
pub fn parse(content: &[u8]) -> Result<Logins, Error> {
    if content.is_empty() {
        return Ok(Logins::new());
    }
    let mut logins: Logins = serde_json::from_slice(content).map_err(Error::Unreadable)?;
    let mut roles = BTreeSet::new();
    logins.retain(|_, login| {
        let is_fine = is_ours(&login.role) && roles.insert(login.role.clone());
        if !is_fine {
            tracing::warn!("the list of logins has {:?}, which is no login of a service binding", login.role);
        }
        is_fine
    });
    Ok(logins)
}

/// Whether a role's name is that of a service binding's login.
pub fn is_ours(role: &str) -> bool {
    let suffix = role.strip_prefix(PREFIX).unwrap_or_default();
    suffix.len() == SUFFIX && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Connects through the socket. Whatever the instance's parameters say, nothing of what is sent is logged, counted or
/// shown to others; and what is committed is so on the standbys that commits wait for.
async fn connect(sockets: &Path, database: &str) -> Result<Client, tokio_postgres::Error> {
    let own = "-c log_duration=off -c synchronous_commit=on -c client_min_messages=warning";
    bootstrap::connect_to(sockets, database, "a9s logins", &format!("{} {own}", bootstrap::QUIET)).await
}

/// Ownership changes under a lock that keeps everybody from a table, also those who come later, and a role goes when nobody
/// is giving it rights: neither is waited for long, but asked for again.
const PATIENT: &str = "SET lock_timeout = '1s'";

/// A login as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    role: String,
    oid: String,
    verifier: String,
    /// Whether it has the attributes, the membership and the setting of a login, and no attribute more.
    is_sound: bool,
}

async fn existing(client: &Client) -> Result<Vec<Existing>, tokio_postgres::Error> {
    let query = format!(
        "SELECT r.rolname, r.oid, coalesce(r.rolpassword, ''), \
         r.rolcanlogin AND r.rolinherit AND r.rolconnlimit = -1 AND coalesce(r.rolvaliduntil, 'infinity') = 'infinity' \
         AND NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls) \
         AND EXISTS (SELECT FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid \
                     WHERE m.member = r.oid AND g.rolname = {root}) \
         AND EXISTS (SELECT FROM pg_db_role_setting s \
                     WHERE s.setrole = r.oid AND s.setdatabase = 0 AND {setting} = ANY (s.setconfig)) \
         FROM pg_authid r WHERE r.rolname ~ '^{PREFIX}[A-Za-z0-9]{{{SUFFIX}}}$'",
        root = literal(ROOT_ROLE),
        setting = literal(&format!("role={ROOT_ROLE}")),
    );
    let messages = client.simple_query(&query).await?;
    let login = |message| {
        let SimpleQueryMessage::Row(row) = message else { return None };
        let text = |column| row.try_get(column).ok().flatten().unwrap_or_default().to_owned();
        Some(Existing { role: text(0), oid: text(1), verifier: text(2), is_sound: text(3) == "t" })
    };
    Ok(messages.into_iter().filter_map(login).collect())
}

/// What makes the logins what they should be; nothing where they are. Surplus ones are left alone.
fn statements(wanted: &Logins, existing: &[Existing]) -> Vec<String> {
    let mut statements = Vec::new();
    for login in wanted.values() {
        let there = existing.iter().find(|existing| existing.role == login.role);
        if there.is_some_and(|there| there.is_sound && there.verifier == login.verifier) {
            continue;
        }
        let (verb, role, root) =
            (if there.is_some() { "ALTER" } else { "CREATE" }, identifier(&login.role), identifier(ROOT_ROLE));
        if there.is_some() {
            statements.push(format!("ALTER ROLE {role} RESET ALL; "));
        }
        statements.push(format!(
            "{verb} ROLE {role} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
             CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD {verifier}; GRANT {root} TO {role}; ALTER ROLE {role} SET role = {root}; ",
            verifier = literal(&login.verifier),
        ));
        if sabotage::sabotaged!("login-is-superuser") {
            statements.push(format!("ALTER ROLE {role} SUPERUSER; "));
        }
    }
    statements
}

/// Drops logins: first nobody can use them any more, then their sessions end, then what they own goes to [`ROOT_ROLE`]
/// and they go. Those that can't be dropped stay unusable.
async fn drop_logins(sockets: &Path, client: &Client, surplus: &[&Existing]) -> Result<(), Error> {
    let locked: String =
        surplus.iter().map(|login| format!("ALTER ROLE {} NOLOGIN; ", identifier(&login.role))).collect();
    client.batch_execute(&format!("BEGIN; {locked}COMMIT")).await.map_err(refused("lock its old logins"))?;
    let oids = surplus.iter().map(|login| login.oid.as_str()).collect::<Vec<_>>().join(", ");
    let sessions = format!("FROM pg_stat_activity WHERE usesysid IN ({oids})");
    end_sessions(client, &sessions).await.map_err(refused("end the sessions of its old logins"))?;
    hand_over(sockets, client, surplus, &oids).await?;
    client.batch_execute(PATIENT).await.map_err(refused("limit its waits"))?;
    let mut kept = 0;
    for login in surplus {
        if let Err(source) = client.batch_execute(&format!("DROP ROLE {}", identifier(&login.role))).await {
            kept += 1;
            tracing::warn!("the login {} cannot be dropped: {}", login.role, chain(&source));
        }
    }
    // Who was just coming in when the login was locked.
    end_sessions(client, &sessions).await.map_err(refused("end the sessions of its old logins"))?;
    if kept == 0 { Ok(()) } else { Err(Error::Kept { count: kept }) }
}

async fn end_sessions(client: &Client, sessions: &str) -> Result<(), tokio_postgres::Error> {
    let deadline = Instant::now() + ENDING;
    let query = format!("SELECT count(*) FROM (SELECT pg_terminate_backend(pid) {sessions}) AS ended");
    while first(client, &query).await?.is_some_and(|count| count != "0") && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    Ok(())
}

/// Gives what the logins own, by having gone back to their own role, to [`ROOT_ROLE`], in each database that has any
/// of it; and takes their own rights away. Applications can keep it from that, in databases of theirs: by locks, and by letting
/// nobody connect.
async fn hand_over(sockets: &Path, client: &Client, surplus: &[&Existing], oids: &str) -> Result<(), Error> {
    let query = format!(
        "SELECT DISTINCT coalesce(d.datname, {here}) FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid \
         WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid IN ({oids})",
        here = literal(SUPERUSER),
    );
    let messages = client.simple_query(&query).await.map_err(refused("say what its old logins own"))?;
    let roles = surplus.iter().map(|login| identifier(&login.role)).collect::<Vec<_>>().join(", ");
    for message in messages {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let Some(database) = row.get(0) else { continue };
        if let Err(error) = hand_over_in(sockets, database, &roles).await {
            tracing::warn!("what old logins own in {database} stays theirs: {}", chain(&error));
        }
    }
    Ok(())
}

async fn hand_over_in(sockets: &Path, database: &str, roles: &str) -> Result<(), tokio_postgres::Error> {
    let client = connect(sockets, database).await?;
    client.batch_execute(PATIENT).await?;
    let root = identifier(ROOT_ROLE);
    client.batch_execute(&format!("REASSIGN OWNED BY {roles} TO {root}; DROP OWNED BY {roles}")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(role: &str, verifier: &str) -> Login {
        Login { role: role.into(), verifier: verifier.into() }
    }

    #[test]
    fn the_list_is_read_and_roles_of_others_are_left_out() {
        assert!(parse(b"").expect("empty").is_empty());
        assert!(parse(b"{}").expect("empty").is_empty());
        let logins = parse(br#"{"1-2": {"role": "a8s-sb-Abc123xyz", "verifier": "SCRAM-SHA-256$x"}}"#).expect("one");
        assert_eq!(logins["1-2"], login("a8s-sb-Abc123xyz", "SCRAM-SHA-256$x"));
        for role in ["postgres", "a8s-sb-", "a8s-sb-Abc123xy", "a8s-sb-Abc123xyzz", "a8s-sb-Abc123xy\\\""] {
            let own = r#"{"role": "a8s-sb-Abc123xyz", "verifier": "v"}"#;
            let text = format!(r#"{{"1": {{"role": "{role}", "verifier": "v"}}, "2": {own}, "3": {own}}}"#);
            let logins = parse(text.as_bytes()).expect("a list");
            assert_eq!(logins, Logins::from([("2".into(), login("a8s-sb-Abc123xyz", "v"))]), "{role}");
        }
        assert!(matches!(parse(b"[]"), Err(Error::Unreadable(_))));
    }

    #[test]
    fn logins_that_are_right_are_not_written_again() {
        let wanted = Logins::from([("1".into(), login("a8s-sb-aaaaaaaaa", "v"))]);
        let existing = |verifier: &str, is_sound| Existing {
            role: "a8s-sb-aaaaaaaaa".into(),
            oid: "16385".into(),
            verifier: verifier.into(),
            is_sound,
        };
        assert_eq!(statements(&wanted, &[existing("v", true)]), Vec::<String>::new());
        for wrong in [existing("other", true), existing("v", false)] {
            let statements = statements(&wanted, &[wrong]);
            assert!(statements[0].contains("RESET ALL"), "{statements:?}");
            assert!(statements[1].starts_with("ALTER ROLE \"a8s-sb-aaaaaaaaa\" LOGIN"), "{statements:?}");
        }
        let made = statements(&wanted, &[]).concat();
        assert!(made.starts_with("CREATE ROLE \"a8s-sb-aaaaaaaaa\" LOGIN INHERIT NOSUPERUSER"), "{made}");
        assert!(made.contains("GRANT \"a9s_user\" TO") && made.contains("SET role = \"a9s_user\""), "{made}");
    }
}
