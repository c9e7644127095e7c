//! The extensions of an instance: those of `spec.extensions` are installed in the default database, by the agent of the
//! primary. What users have installed themselves is left alone: an extension that came by the spec bears a comment that
//! says so, which is part of the content and goes with it to standbys and backups.
//!
//! They go into `public`, where applications look for them and may make objects themselves; the scripts of extensions are run
//! by the superuser. Those of the extensions that may be asked for are written for that (PostgreSQL manual, "Security
//! Considerations for Extensions"), and the server refuses a script that would replace what is not its own.

use super::bootstrap::{self, identifier, literal};
use super::platform::{Primary, Seen};
use crate::chain;
use crate::postgresql::template::DEFAULT_DATABASE;
use a8s_api::LABEL_ROLE;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Annotation of a pod: why extensions are not what they should be, in one sentence each. Absent if all are.
pub const ANNOTATION: &str = "a8s.a9s/extensions";
/// The comment on an extension that came by the spec.
const MARK: &str = "installed by spec.extensions";
/// Pause after an attempt that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is tried again to do what could not be done.
const UNDONE_ROUND: Duration = Duration::from_secs(30);

/// What the agent of a primary says of extensions that are not installed.
pub fn trouble_of_pod(pod: &PartialObjectMeta<Pod>) -> Option<String> {
    let is_primary = pod.metadata.labels.as_ref()?.get(LABEL_ROLE).is_some_and(|role| role == "master");
    pod.metadata.annotations.as_ref()?.get(ANNOTATION).filter(|_| is_primary).cloned()
}

/// What an attempt left undone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Why extensions are not installed, or still are.
    pub trouble: Vec<String>,
    /// Extensions that stay for those who depend on them.
    pub needed: Vec<String>,
}

/// The extensions that the instance should have, once it has been seen.
fn wanted(seen: &Seen) -> Option<Vec<String>> {
    seen.instance.as_ref().map(|instance| instance.spec.extensions.clone().unwrap_or_default())
}

/// Keeps the extensions of a primary as the instance says, until it is cut off.
pub async fn follow(platform: &impl Primary, sockets: &Path, mut seen: watch::Receiver<Seen>) {
    let mut known: Option<Vec<String>> = None;
    loop {
        let current = wanted(&seen.borrow_and_update());
        let mut again = None;
        if let Some(extensions) = &current
            && known.as_ref() != Some(extensions)
        {
            // What follows changes the server, to its end or not.
            known = None;
            let telling = async {
                match apply(sockets, extensions).await {
                    Ok(undone) => tell(platform, undone).await,
                    Err(error) => Err(chain(&error)),
                }
            };
            let told = tokio::select! {
                biased;
                Ok(_) = seen.wait_for(|seen| wanted(seen) != current) => continue,
                told = telling => told,
            };
            match told {
                Ok(undone) if undone == Undone::default() => known.clone_from(&current),
                // Who depends on it may go, and what the host lacks may come.
                Ok(_) => again = Some(UNDONE_ROUND),
                Err(text) => {
                    tracing::debug!("the extensions are not what they should be: {text}");
                    again = Some(AGAIN);
                }
            }
        }
        tokio::select! {
            changed = seen.wait_for(|seen| wanted(seen) != current) => if changed.is_err() {
                return std::future::pending().await;
            },
            () = sleep(again.unwrap_or_default()), if again.is_some() => {}
        }
    }
}

async fn tell(platform: &impl Primary, undone: Undone) -> Result<Undone, String> {
    for text in &undone.trouble {
        tracing::warn!("{text}");
    }
    let trouble = undone.trouble.join("; ");
    let note = platform.note(ANNOTATION, Some(trouble.as_str()).filter(|text| !text.is_empty())).await;
    note.map_err(|error| chain(&error))?;
    Ok(undone)
}

/// Installs what is wanted and removes what once was, and says what could not be done.
///
/// # Errors
/// If the server cannot be asked.
pub async fn apply(sockets: &Path, wanted: &[String]) -> Result<Undone, tokio_postgres::Error> {
    let settings = "-c client_min_messages=warning";
    let mut undone = Undone::default();
    let client = match bootstrap::connect_to(sockets, DEFAULT_DATABASE, "a9s extensions", settings).await {
        // Its owner, an application, may let nobody connect, and may have dropped it.
        Err(error)
            if [Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), Some(&SqlState::INVALID_CATALOG_NAME)]
                .contains(&error.code()) =>
        {
            undone.trouble.push(format!("the extensions are not looked after: {}", words(&error)));
            return Ok(undone);
        }
        client => client?,
    };
    for change in plan(wanted, &extensions(&client).await?) {
        match change {
            Change::Missing(name) => undone.trouble.push(format!("the extension {name} is not installed on the host")),
            Change::Install { name, schema } => {
                let quoted = identifier(&name);
                let statement = format!(
                    "BEGIN; CREATE EXTENSION {quoted} SCHEMA {}; COMMENT ON EXTENSION {quoted} IS {}; COMMIT",
                    identifier(&schema),
                    literal(MARK)
                );
                if let Err(error) = client.batch_execute(&statement).await {
                    client.batch_execute("ROLLBACK").await?;
                    undone.trouble.push(format!("the extension {name} cannot be installed: {}", words(&error)));
                }
            }
            Change::Remove(name) => {
                match client.batch_execute(&format!("DROP EXTENSION {}", identifier(&name))).await {
                    Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
                        undone.needed.push(name);
                    }
                    Err(error) if is_refusal(&error) => {
                        undone.trouble.push(format!("the extension {name} cannot be removed: {}", words(&error)));
                    }
                    result => result?,
                }
            }
        }
    }
    Ok(undone)
}

/// Whether the server goes on after it.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| error.parsed_severity() == Some(Severity::Error))
}

/// The server's own words, if it gave any.
fn words(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| chain(error), |error| error.message().to_owned())
}

/// An extension of the host.
struct Extension {
    name: String,
    /// Where it is to be installed.
    schema: String,
    is_installed: bool,
    /// Whether it was installed for the spec.
    is_marked: bool,
}

async fn extensions(client: &Client) -> Result<Vec<Extension>, tokio_postgres::Error> {
    let query = format!(
        "SELECT a.name, e.oid IS NOT NULL, coalesce(obj_description(e.oid, 'pg_extension') = {}, false), \
         coalesce(v.schema, 'public') FROM pg_available_extensions a \
         LEFT JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version \
         FULL JOIN pg_extension e ON e.extname = a.name",
        literal(MARK)
    );
    let messages = client.simple_query(&query).await?;
    let extension = |message| {
        let SimpleQueryMessage::Row(row) = message else { return None };
        let text = |column| row.try_get(column).ok().flatten().unwrap_or_default().to_owned();
        let (is_installed, is_marked) = (text(1) == "t", text(2) == "t");
        Some(Extension { name: text(0), schema: text(3), is_installed, is_marked })
    };
    Ok(messages.into_iter().filter_map(extension).collect())
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Install { name: String, schema: String },
    Remove(String),
    Missing(String),
}

/// What to do, given the extensions of the host.
fn plan(wanted: &[String], there: &[Extension]) -> Vec<Change> {
    let mut changes: Vec<Change> = wanted
        .iter()
        .filter_map(|name| match there.iter().find(|extension| extension.name == *name) {
            None => Some(Change::Missing(name.clone())),
            Some(extension) if extension.is_installed => None,
            Some(extension) => Some(Change::Install { name: name.clone(), schema: extension.schema.clone() }),
        })
        .collect();
    let is_obsolete = |extension: &&Extension| extension.is_marked && !wanted.contains(&extension.name);
    changes.extend(there.iter().filter(is_obsolete).map(|extension| Change::Remove(extension.name.clone())));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_installed_is_left_alone_and_what_is_not_there_is_named() {
        let extension = |name: &str, is_installed, is_marked| {
            let schema = if name == "adminpack" { "pg_catalog" } else { "public" };
            Extension { name: name.into(), schema: schema.into(), is_installed, is_marked }
        };
        let there = [
            extension("hstore", true, true),
            extension("ltree", true, true),
            extension("pgcrypto", true, false),
            extension("pg_trgm", false, false),
            extension("adminpack", false, false),
            extension("plpgsql", true, false),
        ];
        let wanted = ["hstore", "pg_trgm", "adminpack", "postgis"].map(str::to_owned);
        let install = |name: &str, schema: &str| Change::Install { name: name.into(), schema: schema.into() };
        assert_eq!(
            plan(&wanted, &there),
            [
                install("pg_trgm", "public"),
                install("adminpack", "pg_catalog"),
                Change::Missing("postgis".into()),
                Change::Remove("ltree".into())
            ]
        );
    }
}
