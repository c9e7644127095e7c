//! Proof that a backup restores: it is restored into a scratch instance, whose every table is read to the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::instance;
use super::resource::{self, deleted_meanwhile, get};
use super::restore::{self, Destination};
use super::sql::{PLAIN, Query, Source, as_superuser};
use crate::finding::{Finding, Id};
use crate::kubernetes::{Access, Error};
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::order;
use crate::manifest::resource::{Kind, Reference, Resource};
use crate::postgres::DATABASE;
use crate::step::{Context, Observation, Plan, Step};

/// Label of what a verification makes; its value is the UID of the backup.
const LABEL: &str = "a8s.a9s/verifies";
/// Annotation of a scratch instance: another value again and again, while the run lives that has made it.
const SIGN: &str = "a8s.a9s/verification-lives";
/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(2);
/// A run that shows no sign of life for so long, as others see it by their own clocks, has ended.
pub const SILENCE: Duration = Duration::from_secs(10);
/// Lists the databases that applications may have something in, and whether they let anybody connect.
const DATABASES: &str = "SELECT CASE WHEN datallowconn THEN 'open ' ELSE 'closed ' END || datname \
    FROM pg_catalog.pg_database WHERE datname NOT IN ('template0', 'template1') ORDER BY datname";
/// Reads every table of a database, and its large objects: number of rows, and a hash of the content that does not
/// depend on the order of the rows. Where checksums of pages are on, the server compares them on the way.
const CONTENT: &str = include_str!("verify.sql");
/// Compares indexes and tables with what they should look like, where the server has the extension for it.
const STRUCTURE: &str = include_str!("verify_structure.sql");

/// What a verification needs to know.
pub struct Subject {
    /// The backup.
    pub backup: Reference,
    /// The instance it was made of.
    pub source: ObjectName,
    /// The scratch instance.
    pub scratch: Resource,
    /// The restore into it.
    pub restore: Resource,
}

/// The scratch instances of a namespace, and the restores into them, by their name: the last sign of life of the run that
/// each is of.
pub type Signs = BTreeMap<String, Option<String>>;

impl Subject {
    /// Finds out about a backup.
    ///
    /// # Errors
    /// There is no such backup, its instance is gone and it does not say what that was, or the cluster can't be asked.
    pub async fn of(client: &Client, backup: Reference) -> Result<Self, Finding> {
        let object = get(client, &backup).await?.ok_or_else(|| backup.missing())?;
        let source = restore::source(&backup, &object)?;
        let uid = object.uid().unwrap_or_default();
        let name = scratch_name(&uid)?;
        let like = Reference::new(Kind::Instance, &backup.namespace, &source);
        let mut scratch = restore::like(client, &like, &name, &object).await?;
        scratch.labels = BTreeMap::from([(LABEL.to_owned(), uid.clone())]);
        scratch.spec["replicas"] = json!(1);
        // Nobody is to reach it.
        if let Some(spec) = scratch.spec.as_object_mut() {
            spec.remove("expose");
        }
        let restore = Reference::new(Kind::Restore, &backup.namespace, &name);
        let mut restore = order::restore(restore, &backup.name, &name);
        restore.labels.clone_from(&scratch.labels);
        Ok(Self { backup, source, scratch, restore })
    }

    /// What there is of verifications in the namespace, of this backup or any other: who was cut off leaves something also of
    /// one that is deleted later.
    ///
    /// # Errors
    /// The cluster can't be asked.
    pub async fn signs(&self, client: &Client) -> Result<Signs, Finding> {
        let parameters = ListParams::default().labels(LABEL);
        let mut signs = Signs::new();
        // An instance tells, if there is one.
        for kind in [Kind::Restore, Kind::Instance] {
            let api = resource::api(client.clone(), &Reference { kind, ..self.scratch.reference.clone() });
            let list = api.list(&parameters).await;
            let list = list.map_err(|error| Error::request(format!("list the {}s", kind.noun()), error))?;
            signs.extend(list.items.iter().map(|it| (it.name_any(), it.annotations().get(SIGN).cloned())));
        }
        Ok(signs)
    }

    /// Shows others that this run lives, until it is cut off. Ends where its scratch instance was there and is not any
    /// more.
    pub async fn live(&self, access: &Access) -> Finding {
        let reference = &self.scratch.reference;
        let (mut beats, mut was_there) = (0_u64, false);
        loop {
            tokio::time::sleep(BEAT).await;
            beats += 1;
            let Ok(client) = access.client().await else { continue };
            let patch = Patch::Merge(json!({"metadata": {"annotations": {(SIGN): beats.to_string()}}}));
            let (api, parameters) = (resource::api(client, reference), PatchParams::default());
            match tokio::time::timeout(BEAT, api.patch(reference.name.as_str(), &parameters, &patch)).await {
                Ok(Ok(_)) => was_there = true,
                Ok(Err(kube::Error::Api(status))) if status.code == 404 && was_there => {
                    return deleted_meanwhile(reference);
                }
                // It may not be there yet, or out of reach for a moment.
                _ => {}
            }
        }
    }

    /// The plan that restores the backup and reads everything, and the step that knows what was read. With `live`, the
    /// instance that the backup was made of is read too.
    pub fn plan(&self, access: &Arc<Access>, live: bool) -> (Plan, Arc<Examined>, Option<Arc<Examined>>) {
        let mut plan = Plan::new("pg verify");
        let wanted = restore::Order {
            restore: self.restore.clone(),
            backup: self.backup.clone(),
            into: Destination::Made(self.scratch.clone()),
        };
        let restored = restore::add(&mut plan, access, &wanted, None);
        let namespace = &self.backup.namespace;
        let script = format!("{CONTENT}{STRUCTURE}");
        let restored_from = Some(self.backup.name.clone());
        let read = Arc::new(Examined::new(access, namespace, &self.scratch.reference.name, restored_from, &script));
        plan.push(&[restored.handle], read.clone());
        let live = live.then(|| {
            let live = Arc::new(Examined::new(access, namespace, &self.source, None, CONTENT));
            plan.push(&[], live.clone());
            live
        });
        (plan, read, live)
    }
}

/// The plan that removes a scratch instance and the restore into it, which has its name.
pub fn removal(access: &Arc<Access>, scratch: &Reference) -> Plan {
    let mut plan = Plan::new("pg verify: remove");
    let Reference { namespace, name, .. } = scratch;
    let restore =
        plan.add(resource::Deleted::new(access.clone(), Reference { kind: Kind::Restore, ..scratch.clone() }));
    plan.after(&[restore], instance::Deleted::new(access.clone(), namespace, name));
    plan
}

/// The finding of a run, with the likely reason where it misses what it has made: it knows only that this is gone.
pub fn explained(finding: Finding) -> Finding {
    if finding.id != Id::DeletedMeanwhile {
        return finding;
    }
    let cause = format!(
        "{}, as another verification does where this one shows no sign of life for {} s, for example while it is \
         suspended",
        finding.cause,
        SILENCE.as_secs()
    );
    Finding { cause, ..finding }
}

/// Of what was there before, that which is still there, and of which no sign of life has come since: left by runs that
/// were cut off.
pub fn left_over(before: &Signs, now: &Signs) -> Vec<ObjectName> {
    let is_left = |(name, sign): &(&String, &Option<String>)| now.get(*name) == Some(*sign);
    before.iter().filter(is_left).filter_map(|(name, _)| name.parse().ok()).collect()
}

/// What the instance is called that a verification of the backup with this UID restores into. Each run has one of its own:
/// several may run at once.
///
/// # Errors
/// The UID is none.
fn scratch_name(uid: &str) -> Result<ObjectName, Finding> {
    let short: String = uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let name = format!("verify-{}-{:016x}", short.to_lowercase(), rand::random::<u64>());
    name.parse().map_err(|why| Finding::new(Id::Internal, why))
}

/// Errors of a server that say nothing of what it reads.
const WELL: [&str; 3] = ["out of memory", "canceling statement", "No space left on device"];

/// Every table of every database of an instance should have been read to the end, in this run.
pub struct Examined {
    access: Arc<Access>,
    namespace: Namespace,
    instance: ObjectName,
    restored_from: Option<ObjectName>,
    script: String,
    /// The last thing that was asked.
    asked: Mutex<Option<Arc<Query>>>,
    content: Mutex<Option<Content>>,
}

impl Examined {
    fn new(
        access: &Arc<Access>,
        namespace: &Namespace,
        instance: &ObjectName,
        restored_from: Option<ObjectName>,
        script: &str,
    ) -> Self {
        Self {
            access: access.clone(),
            namespace: namespace.clone(),
            instance: instance.clone(),
            restored_from,
            script: script.to_owned(),
            asked: Mutex::default(),
            content: Mutex::default(),
        }
    }

    /// What was read.
    pub fn content(&self) -> Content {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    /// Whether the scratch instance is gone, or about to go. What can't be read of it then says nothing of the backup.
    async fn is_going(&self, scratch: &Reference) -> bool {
        let Ok(client) = self.access.client().await else { return false };
        let there = get(&client, scratch).await;
        there.is_ok_and(|there| there.is_none_or(|it| it.metadata.deletion_timestamp.is_some()))
    }

    /// What there is in every database.
    async fn read(&self, context: &Context) -> Result<Content, Finding> {
        let mut content = Content { checksums: true, ..Content::default() };
        for line in self.run("postgres", format!("{PLAIN}{DATABASES}"), context).await?.lines() {
            match line.split_once(' ') {
                Some(("open", database)) => {
                    content.add(database, Content::read(&self.run(database, self.script.clone(), context).await?));
                }
                Some(("closed", database)) => {
                    let why = format!("database \"{database}\" is not currently accepting connections");
                    content.unread.push(Unread { unread: format!("the database {database}"), why });
                }
                _ => {}
            }
        }
        Ok(content)
    }

    /// What psql prints for a script.
    async fn run(&self, database: &str, script: String, context: &Context) -> Result<String, Finding> {
        let query = Arc::new(Query {
            access: self.access.clone(),
            instance: self.instance.clone(),
            namespace: self.namespace.clone(),
            database: as_superuser(database),
            source: Source::Statement(script),
            keep: false,
            under_way: Mutex::default(),
        });
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(query.clone());
        let mut printed = Vec::new();
        let mut output = |bytes: &[u8]| printed.extend_from_slice(bytes);
        query.carry_out(context, &mut output).await.map_err(|finding| self.of_backup(finding))?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// What the server can't read of the content that it was given is damage of the backup.
    fn of_backup(&self, finding: Finding) -> Finding {
        // Other words are of a server that has no memory or is being stopped, or of psql itself.
        let is_refusal = finding.cause.contains("ERROR:") && !WELL.iter().any(|word| finding.cause.contains(word));
        match &self.restored_from {
            Some(backup) if finding.id == Id::SqlFailed && is_refusal => {
                let cause = format!("the backup {backup} restores, but can't be read to its end: {}", finding.cause);
                Finding { evidence: finding.evidence, ..Finding::new(Id::BackupDamaged, cause) }
            }
            _ => finding,
        }
    }
}

#[async_trait]
impl Step for Examined {
    fn id(&self) -> String {
        format!("read-{}", self.instance)
    }

    fn title(&self) -> String {
        format!("read every table of the instance {}", self.instance)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match content.as_ref() {
            None => Observation::unmet("they were not read yet"),
            Some(content) => Observation::satisfied(format!("{} tables", content.tables.len())),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let content = self.read(context).await;
        if content.is_err() && self.restored_from.is_some() {
            let scratch = Reference::new(Kind::Instance, &self.namespace, &self.instance);
            if self.is_going(&scratch).await {
                return Err(deleted_meanwhile(&scratch));
            }
        }
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = Some(content?);
        Ok(())
    }

    async fn call_off(&self) -> Option<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        // It only reads: there is nothing to tell of what it has done.
        asked.call_off().await;
        None
    }
}

/// A table that was read to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name with its schema, quoted where SQL needs it.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// A hash of its content.
    pub hash: String,
}

/// Damage that the server has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The table.
    pub damaged: String,
    /// What is wrong.
    pub why: String,
}

/// A table that was not read, because of what its indexes and statistics call; or a database that lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The table, or the database.
    pub unread: String,
    /// The server's words.
    pub why: String,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Content {
    /// Whether the server keeps checksums of pages, and so compared them.
    pub checksums: bool,
    /// Number of indexes that were compared with what they should look like; 0 where the server has no `amcheck`.
    pub indexes: usize,
    /// The tables.
    pub tables: Vec<Table>,
    /// What was not read.
    pub unread: Vec<Unread>,
    /// What is damaged.
    pub damage: Vec<Damage>,
}

/// A line of the script's output.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Table(Table),
    Unread(Unread),
    Damage(Damage),
    Index { index: String },
    Checksums { checksums: bool },
}

impl Content {
    /// Adds what was read in a database. Those of applications have no name of their own in front.
    fn add(&mut self, database: &str, mut other: Self) {
        if database != DATABASE {
            other.tables.iter_mut().for_each(|it| it.table.insert_str(0, &format!("{database}: ")));
            other.unread.iter_mut().for_each(|it| it.unread.insert_str(0, &format!("{database}: ")));
            other.damage.iter_mut().for_each(|it| it.damaged.insert_str(0, &format!("{database}: ")));
        }
        self.checksums &= other.checksums;
        self.indexes += other.indexes;
        self.tables.append(&mut other.tables);
        self.unread.append(&mut other.unread);
        self.damage.append(&mut other.damage);
    }

    fn read(text: &str) -> Self {
        let mut content = Self::default();
        for answer in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match answer {
                Answer::Table(table) => content.tables.push(table),
                Answer::Unread(unread) => content.unread.push(unread),
                Answer::Damage(damage) => content.damage.push(damage),
                Answer::Index { index } => content.indexes += usize::from(!index.is_empty()),
                Answer::Checksums { checksums } => content.checksums = checksums,
            }
        }
        content
    }

    /// Whether it is known that everything can be read to its end.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty() && self.unread.is_empty()
    }

    /// How this backup's tables differ from those of the live instance, table by table. The instance has been written to
    /// since, so a difference is no fault. A table that was not read is compared with none.
    pub fn differences(&self, live: &Self) -> Vec<String> {
        let unread: BTreeSet<&String> = self.unread.iter().chain(&live.unread).map(|it| &it.unread).collect();
        let by_name = |content: &Self| -> BTreeMap<String, Table> {
            let read = content.tables.iter().filter(|table| !unread.contains(&table.table));
            read.map(|table| (table.table.clone(), table.clone())).collect()
        };
        let (backup, live) = (by_name(self), by_name(live));
        let not_compared = |name: &&String| format!("{name} was not read, and is not compared");
        let mut differences: Vec<String> = unread.iter().map(not_compared).collect();
        for (name, table) in &backup {
            match live.get(name) {
                None => differences.push(format!("{name} is only in the backup")),
                Some(other) if other.rows != table.rows => {
                    differences
                        .push(format!("{name} has {} rows in the backup, {} in the instance", table.rows, other.rows));
                }
                Some(other) if other.hash != table.hash => {
                    differences.push(format!("{name} has as many rows and another content"));
                }
                Some(_) => {}
            }
        }
        let only_live = live.keys().filter(|name| !backup.contains_key(*name));
        differences.extend(only_live.map(|name| format!("{name} is only in the instance")));
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = r#"{"checksums" : true}
{"table" : "public.posts", "rows" : 20, "hash" : "-17"}
{"table" : "public.\"Odd\"", "rows" : 0, "hash" : "0"}
{"index" : "public.posts_pkey"}
{"unread" : "public.odd", "why" : "permission denied for function lonely"}
{"damaged" : "public.posts", "why" : "xmin 3 is in the future"}
"#;

    #[test]
    fn what_the_server_answers_is_understood() {
        let content = Content::read(OUTPUT);
        assert!(content.checksums);
        assert_eq!((content.tables.len(), content.indexes, content.damage.len()), (2, 1, 1));
        let why = "permission denied for function lonely";
        assert_eq!(content.unread, [Unread { unread: "public.odd".into(), why: why.into() }]);
        assert_eq!(content.tables[0], Table { table: "public.posts".into(), rows: 20, hash: "-17".into() });
    }

    #[test]
    fn differences_are_told_table_by_table() {
        let table = |table: &str, rows, hash: &str| Table { table: table.into(), rows, hash: hash.into() };
        let content = |tables: &[Table]| Content { tables: tables.to_vec(), ..Content::default() };
        let backup = content(&[table("a", 1, "1"), table("b", 2, "2"), table("c", 3, "3"), table("d", 4, "4")]);
        let live = content(&[table("a", 1, "1"), table("b", 9, "2"), table("c", 3, "x"), table("e", 5, "5")]);
        assert_eq!(
            backup.differences(&live),
            [
                "b has 2 rows in the backup, 9 in the instance",
                "c has as many rows and another content",
                "d is only in the backup",
                "e is only in the instance"
            ]
        );
    }

    #[test]
    fn a_table_that_was_not_read_is_not_compared_and_nothing_is_whole_without_it() {
        let table = Table { table: "a".into(), rows: 1, hash: "1".into() };
        let read = Content { tables: vec![table], ..Content::default() };
        let unread = Unread { unread: "a".into(), why: "permission denied".into() };
        let unread = Content { unread: vec![unread], ..Content::default() };
        assert!(read.is_whole() && !unread.is_whole());
        for (backup, live) in [(&read, &unread), (&unread, &read), (&unread, &unread)] {
            assert_eq!(backup.differences(live), ["a was not read, and is not compared"]);
        }
        let mut all = Content::default();
        all.add("other", unread);
        assert_eq!(all.unread[0].unread, "other: a");
    }

    #[test]
    fn the_scratch_instance_has_a_name_that_tells_the_backup() {
        let name = scratch_name("0f8fad5b-d9cb-469f-a165-70867728950e").unwrap();
        assert!(name.as_str().starts_with("verify-0f8fad5bd9cb-"), "{name}");
        assert_eq!(name.as_str().len(), "verify-0f8fad5bd9cb-0123456789abcdef".len());
    }

    #[test]
    fn who_misses_what_it_has_made_is_told_who_removes_that() {
        let of = |id| explained(Finding::new(id, "somebody has deleted verify-x")).cause;
        assert_eq!(
            of(Id::DeletedMeanwhile),
            "somebody has deleted verify-x, as another verification does where this one shows no sign of life for \
             10 s, for example while it is suspended"
        );
        assert_eq!(of(Id::Deadline), "somebody has deleted verify-x");
    }

    #[test]
    fn what_shows_no_sign_of_life_is_left() {
        let signs = |signs: &[(&str, Option<&str>)]| -> Signs {
            signs.iter().map(|(name, sign)| ((*name).to_owned(), sign.map(str::to_owned))).collect()
        };
        let before =
            signs(&[("begun", None), ("dead", Some("7")), ("gone", Some("1")), ("living", Some("3")), ("young", None)]);
        let now =
            signs(&[("begun", None), ("dead", Some("7")), ("living", Some("4")), ("new", None), ("young", Some("1"))]);
        let left = left_over(&before, &now);
        assert_eq!(left.iter().map(ObjectName::as_str).collect::<Vec<_>>(), ["begun", "dead"]);
    }
}
