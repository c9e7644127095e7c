//! `a9s pg verify`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::Named;
use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run};
use crate::cli::list::table;
use crate::config::WorkingDirectory;
use crate::finding::{Finding, Id};
use crate::kubernetes::Access;
use crate::manifest::names::ObjectName;
use crate::manifest::resource::{Kind, Reference};
use crate::step::{Cancel, Event, Reporter};
use crate::steps::verify::{Content, SILENCE, Signs, Subject, explained, left_over, removal};

/// How long the removal of the scratch instance may take.
const REMOVAL: Duration = Duration::from_secs(120);

/// Arguments of `pg verify`.
#[derive(Debug, Args)]
#[command(after_help = "The scratch instance is made like the one the backup was made of, with one member, and is \
    removed in the end, also after a failure or an interrupt. So is what verifications that were cut off have left in \
    the namespace. For this, the user must be allowed to list `postgresqls` and `restores`, and to patch \
    `postgresqls`.")]
pub struct Verify {
    /// The backup
    #[arg(value_name = "BACKUP")]
    backup: ObjectName,
    /// Also read the instance the backup was made of, and tell which tables differ now
    #[arg(long)]
    against_live: bool,
    #[command(flatten)]
    cluster: ClusterTarget,
    #[command(flatten)]
    run: Run,
}

impl Verify {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        if named.instance.is_some() {
            let cause = "-i is not taken here: the backup tells which instance it is of";
            return Err(Finding::new(Id::Usage, cause));
        }
        let directory = session.journal();
        let (access, namespace, subject) = session.block_on(async |_| {
            let (access, namespace) = self.cluster.reach(named.namespace.as_ref()).await?;
            let backup = Reference::new(Kind::Backup, &namespace, &self.backup);
            let subject = Subject::of(&access.client().await?, backup).await?;
            Ok((access, namespace, subject))
        })?;
        session.see_through(async |cancel| {
            let (plan, read, live) = subject.plan(&access, self.against_live);
            if self.run.dry_run {
                return session.carry_out(&plan, &self.run, cancel, directory.as_ref()).await.map(drop);
            }
            let scratch = &subject.scratch.reference;
            let (begun, before) = (Instant::now(), subject.signs(&access.client().await?).await?);
            let cut_off = cancel.child_token();
            let mut carried_out = pin!(session.carry_out(&plan, &self.run, cut_off.clone(), directory.as_ref()));
            let result = tokio::select! {
                result = &mut carried_out => result,
                gone = subject.live(&access) => {
                    // What it reads of the live instance ends in the server, too.
                    cut_off.cancel();
                    let _ = carried_out.await;
                    Err(gone)
                }
            };
            let result = result.map_err(explained);
            // An interrupt has ended the plan; what it made is removed all the same.
            let removed = remove(session, scratch, &access, Cancel::new(), directory.as_ref()).await;
            if !before.is_empty() && !cancel.is_cancelled() {
                let text = "Other verifications are there: what shows no sign of life is removed.";
                session.progress.event(&Event::Note(text));
                let removed =
                    remove_left(session, &subject, &before, begun, &access, &cancel, directory.as_ref()).await;
                if let Err(finding) = removed {
                    left_by_others(finding).for_each(|text| session.warn(text));
                }
            }
            let outcome = match (result, removed) {
                (Ok(outcome), Ok(())) => outcome,
                (Ok(_), Err(left)) => return Err(left),
                (Err(mut finding), Ok(())) => {
                    // Unlike other commands', nothing of what was done stays.
                    finding.advice = vec!["What was made was removed again.".to_owned()];
                    return Err(finding);
                }
                (Err(finding), Err(left)) => return Err(left.advice.into_iter().fold(finding, Finding::advise)),
            };
            let content = read.content();
            let differences = live.map(|live| content.differences(&live.content()));
            session.progress.clear();
            self.answer(session, &subject, &content, differences.as_deref());
            session.console.document(&json!({
                "backup": self.backup, "namespace": namespace, "instance": subject.source,
                "verified": content.is_whole(), "content": content, "differencesToLive": differences,
                "steps": outcome.map(|outcome| outcome.steps),
            }));
            verdict(&self.backup, &content)
        })
    }

    fn answer(&self, session: &Session, subject: &Subject, content: &Content, differences: Option<&[String]>) {
        let console = &session.console;
        let rows = content.tables.iter().map(|it| vec![it.table.clone(), it.rows.to_string(), it.hash.clone()]);
        console.line(table(&["TABLE", "ROWS", "HASH"], rows));
        let checksums = if content.checksums { "compared" } else { "off" };
        let indexes = match content.indexes {
            0 => "none checked".to_owned(),
            checked => format!("{checked} checked"),
        };
        console.info(format!("Checksums of pages: {checksums}. Indexes: {indexes}."));
        for difference in differences.unwrap_or_default() {
            console.info(format!("Compared with the instance {} now: {difference}.", subject.source));
        }
        if differences.is_some_and(<[String]>::is_empty) {
            console.info(format!("The instance {} has the same content now.", subject.source));
        }
        for table in &content.unread {
            console.info(format!("Not read: {}: {}.", table.unread, table.why));
        }
        if content.is_whole() {
            let tables = content.tables.len();
            console
                .success(format!("The backup {} restores, and all of its {tables} tables can be read.", self.backup));
        }
    }
}

/// Removes what runs have left that were cut off. Those that live have shown it meanwhile.
async fn remove_left(
    session: &Session,
    subject: &Subject,
    before: &Signs,
    begun: Instant,
    access: &Arc<Access>,
    cancel: &Cancel,
    directory: Option<&WorkingDirectory>,
) -> Result<(), Finding> {
    tokio::select! {
        () = tokio::time::sleep_until(begun + SILENCE) => {}
        () = cancel.cancelled() => return Ok(()),
    }
    let now = subject.signs(&access.client().await?).await?;
    let removals = left_over(before, &now).into_iter().map(|name| async move {
        let scratch = Reference { name, ..subject.scratch.reference.clone() };
        remove(session, &scratch, access, cancel.clone(), directory).await
    });
    all(removals).await
}

/// Does all of them at the same time. What keeps one of them does not keep the others, and all that stayed is told.
async fn all(removals: impl IntoIterator<Item = impl Future<Output = Result<(), Finding>>>) -> Result<(), Finding> {
    let stayed = join_all(removals).await.into_iter().filter_map(Result::err).reduce(|mut stayed, next| {
        if next.cause != stayed.cause {
            stayed.cause = format!("{}; {}", stayed.cause, next.cause);
        }
        stayed.advice.extend(next.advice);
        stayed
    });
    stayed.map_or(Ok(()), Err)
}

/// Removes a scratch instance, or says exactly what is left.
async fn remove(
    session: &Session,
    scratch: &Reference,
    access: &Arc<Access>,
    cancel: Cancel,
    directory: Option<&WorkingDirectory>,
) -> Result<(), Finding> {
    let runner = session.runner(cancel, REMOVAL, directory);
    runner.run(&removal(access, scratch)).await.map(drop).map_err(|finding| left(finding, scratch))
}

/// The finding of a removal, with what removes the rest. The same command makes another scratch instance.
fn left(finding: Finding, scratch: &Reference) -> Finding {
    let Reference { namespace, name, .. } = scratch;
    let advice = ["restore", "instance"]
        .map(|kind| format!("Left may be the {kind} {name}: a9s delete pg {kind} --name {name} -n {namespace}"));
    Finding { advice: advice.into(), ..finding }
}

/// What is said where something of other verifications could not be removed, line by line.
fn left_by_others(finding: Finding) -> impl Iterator<Item = String> {
    let cause = format!("Something may be left of other verifications: {}.", finding.cause);
    std::iter::once(cause).chain(finding.advice)
}

/// What is said in the end: damage first, as more is known of it.
fn verdict(backup: &ObjectName, content: &Content) -> Result<(), Finding> {
    if let Some(damage) = content.damage.first() {
        let cause = format!("the backup {backup} restores, but {} is damaged: {}", damage.damaged, damage.why);
        return Err(Finding::new(Id::BackupDamaged, cause));
    }
    let Some(first) = content.unread.first() else { return Ok(()) };
    let cause = format!(
        "the backup {backup} restores, but not all of it could be read; of {} PostgreSQL says: {}",
        first.unread, first.why
    );
    Err(Finding::new(Id::BackupUnread, cause).advise(
        "A table is read with the rights of its owner, who must be able to call what its indexes and statistics call, \
         by names in the table's own schema or in public; and a database must accept connections. Mend that in the \
         instance, and verify another backup.",
    ))
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::steps::verify::{Damage, Unread};

    #[tokio::test]
    async fn all_that_is_left_of_other_verifications_is_told_with_what_removes_it() {
        let late = |name: &str| {
            let scratch = Reference::new(Kind::Instance, &"shop".parse().unwrap(), &name.parse().unwrap());
            let finding = Finding::new(Id::Deadline, format!("{name} takes too long")).advise("Run it again.");
            ready(Err(left(finding, &scratch)))
        };
        let stayed = all([late("verify-x"), ready(Ok(())), late("verify-y")]).await.unwrap_err();
        assert_eq!(
            left_by_others(stayed).collect::<Vec<_>>(),
            [
                "Something may be left of other verifications: verify-x takes too long; verify-y takes too long.",
                "Left may be the restore verify-x: a9s delete pg restore --name verify-x -n shop",
                "Left may be the instance verify-x: a9s delete pg instance --name verify-x -n shop",
                "Left may be the restore verify-y: a9s delete pg restore --name verify-y -n shop",
                "Left may be the instance verify-y: a9s delete pg instance --name verify-y -n shop",
            ]
        );
        let away = || ready(Err(Finding::new(Id::ClusterUnreachable, "it does not answer")));
        assert_eq!(all([away(), away()]).await.unwrap_err().cause, "it does not answer");
        assert!(all([ready(Ok(()))]).await.is_ok());
    }

    #[test]
    fn damage_is_told_before_what_was_not_read() {
        let backup = "nightly".parse().unwrap();
        assert!(verdict(&backup, &Content::default()).is_ok());
        let unread = vec![Unread { unread: "public.u".to_owned(), why: "it may not be".to_owned() }];
        let mut content = Content { unread, ..Content::default() };
        assert_eq!(verdict(&backup, &content).unwrap_err().id, Id::BackupUnread);
        content.damage.push(Damage { damaged: "public.d".to_owned(), why: "an item is missing".to_owned() });
        let finding = verdict(&backup, &content).unwrap_err();
        assert_eq!(finding.id, Id::BackupDamaged);
        assert_eq!(finding.cause, "the backup nightly restores, but public.d is damaged: an item is missing");
    }
}
