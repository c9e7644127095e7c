//! Streaming replication of this host's server: what its configuration says of it, and what is asked of a server that
//! is a standby or a primary.

use super::bootstrap::{self, Credentials, first};
use super::environment::Server;
use super::report::Lsn;
use super::{SQL_PORT, datadir};
use crate::postgresql::durable;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Client, SimpleQueryMessage};

/// What is added to a member's name while a copy of the primary is made for it: it confirms nothing, and follows nobody.
pub const COPY: &str = " copy";
/// Included by `postgresql.conf`.
pub const CONFIGURATION: &str = "replication.conf";
/// A data directory with it starts as a standby.
pub const SIGNAL: &str = "standby.signal";
/// Passwords, for the programs and the receiver.
const PASSWORDS: &str = "standby.pgpass";
const LOOK: Duration = Duration::from_millis(3);
/// How long a receiver may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// With this ends the history file of a timeline that was skipped (see [`skip_timelines`]).
const SKIPPED: &str = "never used by this member\n";
/// Looks in a row that find no receiver: one may just be starting.
const LOOKS: u32 = 3;

/// What a server is configured to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A primary with this `synchronous_standby_names`.
    Primary(String),
    /// A standby.
    Standby {
        /// The address of the server that it follows, if it receives anything.
        upstream: Option<String>,
        /// The `synchronous_standby_names` of its primary. Backends ask shared memory whether to wait at all, and the
        /// process that notes it there may be busy when a standby is promoted (PostgreSQL,
        /// `SyncRepUpdateSyncStandbysDefined`): a standby has noted it before.
        confirmed_by: String,
    },
}

/// How this member reaches a primary, as libpq wants it. `name` is what the primary knows the connection by: under its
/// pod's a standby confirms commits. With scram and channel binding both sides prove who they are, although the
/// certificate is self-signed.
pub fn connection(server: &Server, address: &str, user: &str, name: &str, database: Option<&str>) -> String {
    let passwords = server.volume.join(PASSWORDS);
    let mut words = vec![
        ("host", address.to_owned()),
        ("port", SQL_PORT.to_string()),
        ("user", user.to_owned()),
        ("passfile", passwords.to_string_lossy().into_owned()),
        ("application_name", name.to_owned()),
        ("sslmode", "require".to_owned()),
        ("channel_binding", "require".to_owned()),
        ("gssencmode", "disable".to_owned()),
        ("connect_timeout", "3".to_owned()),
        ("keepalives_idle", "5".to_owned()),
        ("keepalives_interval", "2".to_owned()),
        ("keepalives_count", "3".to_owned()),
    ];
    if let Some(database) = database {
        words.extend([("dbname", database.to_owned()), ("options", bootstrap::safe(server.major))]);
    }
    let words: Vec<String> = words.iter().map(|(key, value)| bootstrap::word(key, value)).collect();
    words.join(" ")
}

/// The file [`CONFIGURATION`].
fn text(server: &Server, role: &Role, standby: &Credentials) -> String {
    let (names, conninfo) = match role {
        Role::Primary(names) => (names.as_str(), String::new()),
        Role::Standby { upstream, confirmed_by } => {
            let connection = |address: &String| connection(server, address, &standby.username, &server.pod.name, None);
            (confirmed_by.as_str(), upstream.as_ref().map(connection).unwrap_or_default())
        }
    };
    let quoted = super::configuration::quoted;
    // Each attempt to receive is a line in the log; without a primary they are in vain.
    let retry = if conninfo.is_empty() { "5s" } else { "100ms" };
    format!(
        "# Written by the agent. Changes here are lost.\nsynchronous_standby_names = {}\nprimary_conninfo = {}\n\
         wal_retrieve_retry_interval = {}\n",
        quoted(names),
        quoted(&conninfo),
        quoted(retry),
    )
}

/// Writes what a server should be, and the passwords with which it reaches others. The server reads it when it is
/// started or reloaded.
///
/// # Errors
/// As writing.
pub fn configure(server: &Server, role: &Role, admin: &Credentials, standby: &Credentials) -> io::Result<()> {
    write_passwords(server, admin, standby)?;
    durable::swap(&server.data().join(CONFIGURATION), text(server, role, standby).as_bytes(), 0o600)
}

/// Writes the passwords alone, where there is no data directory yet.
///
/// # Errors
/// As writing.
pub fn write_passwords(server: &Server, admin: &Credentials, standby: &Credentials) -> io::Result<()> {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    let lines: Vec<String> = [admin, standby]
        .iter()
        .map(|it| format!("*:*:*:{}:{}\n", escaped(&it.username), escaped(&it.password)))
        .collect();
    durable::swap(&server.volume.join(PASSWORDS), lines.concat().as_bytes(), 0o600)
}

/// Makes the data directory one that starts as a standby, or as a primary. Durable.
///
/// # Errors
/// As writing.
pub fn signal(data: &Path, is_standby: bool) -> io::Result<()> {
    let path = data.join(SIGNAL);
    match (is_standby, path.exists()) {
        (true, false) => durable::replace(&path, b"", 0o600),
        (false, true) => {
            fs_err::remove_file(&path)?;
            durable::flush_directory(data)
        }
        _ => Ok(()),
    }
}

/// Whether the data directory is a standby's. So is one without the signal whose promotion was cut off before its new
/// timeline began: it would start as a primary of the old one.
///
/// # Errors
/// If `pg_controldata` fails: what is not known to be a primary's is not taken for it.
pub async fn is_standby(server: &Server) -> Result<bool, super::tools::Error> {
    Ok(server.data().join(SIGNAL).exists() || is_in_recovery(&control_file(server, &server.data()).await?))
}

fn is_in_recovery(text: &str) -> bool {
    noted(text, "Database cluster state") == Some("in archive recovery")
}

/// Waits until a standby, whose configuration has been reloaded, receives nothing any more. Answers `false` if it still
/// does after ten seconds.
///
/// # Errors
/// If the server does not answer.
pub async fn detached(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let deadline = Instant::now() + PATIENCE;
    let query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver'";
    let mut looks = 0;
    while looks < LOOKS {
        looks = if first(client, query).await?.as_deref() == Some("0") { looks + 1 } else { 0 };
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(true)
}

/// Timeline and end of what a standby has on its disk; `None` while it applies what was there when it started, as it
/// does not know the end of that before it is there. `data` is its data directory.
///
/// # Errors
/// If the server does not answer.
pub async fn position(client: &Client, data: &Path) -> Result<Option<(u32, Lsn)>, tokio_postgres::Error> {
    // Who has received something had applied all before; who has not asks for more, or waits until it asks again (PostgreSQL
    // manual, "Wait Events of Type Activity" and "of Type Timeout").
    let knows = "SELECT pg_last_wal_receive_lsn() IS NOT NULL OR EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = \
                 'startup' AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream'))";
    if !sabotage::sabotaged!("standing-before-the-end") && first(client, knows).await?.as_deref() != Some("t") {
        return Ok(None);
    }
    let query = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), \
                 (SELECT string_agg(name, ' ') FROM pg_ls_waldir())";
    let row = row(client, query).await?;
    let text = |column: usize| row.get(column).cloned().flatten().unwrap_or_default();
    Ok(Some((newest_timeline(data, &text(1)), text(0).parse().unwrap_or_default())))
}

/// The newest timeline that has begun, of a server that does not say it itself.
///
/// # Errors
/// As reading.
pub fn timeline_on_disk(data: &Path) -> io::Result<u32> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(data.join("pg_wal"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(newest_timeline(data, &names.join(" ")))
}

/// The newest timeline that has begun, by the files of `pg_wal`. A promotion makes the first segment of its timeline,
/// and then notes its history: one that is cut off between the two leaves a segment of a timeline that never began. A
/// later promotion may have skipped that one.
fn newest_timeline(data: &Path, files: &str) -> u32 {
    let is_segment = |file: &&str| file.len() == 24 && file.bytes().all(|byte| byte.is_ascii_hexdigit());
    let timelines: BTreeSet<&str> = files.split(' ').filter(is_segment).map(|file| &file[..8]).collect();
    let histories: BTreeSet<&str> = files.split(' ').filter_map(|file| file.strip_suffix(".history")).collect();
    let noted = timelines.intersection(&histories).filter_map(|timeline| u32::from_str_radix(timeline, 16).ok());
    let is_skipped = |timeline| fs_err::read_to_string(history(data, timeline)).is_ok_and(|it| it.ends_with(SKIPPED));
    // The first one has no history.
    noted.filter(|timeline| !is_skipped(*timeline)).last().unwrap_or(1)
}

/// Where a server notes from where a timeline was forked.
fn history(data: &Path, timeline: u32) -> PathBuf {
    data.join("pg_wal").join(format!("{timeline:08X}.history"))
}

/// Whether a standby is receiving a timeline.
///
/// # Errors
/// If the server does not answer.
pub async fn is_streaming(client: &Client, timeline: u32) -> Result<bool, tokio_postgres::Error> {
    let query = "SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    Ok(first(client, query).await? == Some(timeline.to_string()))
}

/// Where a primary is, and which standbys receive from it, each with what it has on its disk. A copy that is being made
/// is none of them.
///
/// # Errors
/// If the server does not answer.
pub async fn standbys(client: &Client) -> Result<(Lsn, Vec<(String, Lsn)>), tokio_postgres::Error> {
    let query = "SELECT '' AS name, pg_current_wal_flush_lsn() UNION ALL \
                 SELECT application_name, flush_lsn FROM pg_stat_replication WHERE state = 'streaming'";
    let mut own = Lsn::default();
    let mut others = Vec::new();
    for message in client.simple_query(query).await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let position = row.get(1).and_then(|text| text.parse().ok()).unwrap_or_default();
        match row.get(0).unwrap_or_default() {
            "" => own = position,
            name if name.ends_with(COPY) => {}
            name => others.push((name.to_owned(), position)),
        }
    }
    Ok((own, others))
}

/// The `synchronous_standby_names` for which a server waits, and whether they are of `ALTER SYSTEM`, which goes before this
/// agent's files.
///
/// # Errors
/// If the server does not answer.
pub async fn confirmation(client: &Client) -> Result<(String, bool), tokio_postgres::Error> {
    let query = "SELECT setting, sourcefile LIKE '%/postgresql.auto.conf' FROM pg_settings \
                 WHERE name = 'synchronous_standby_names'";
    let row = row(client, query).await?;
    let text = |column: usize| row.get(column).cloned().flatten().unwrap_or_default();
    Ok((text(0), text(1) == "t"))
}

/// Resolves when backends heed who confirms commits, after the configuration was read that says so. They ask shared memory
/// whether to wait. The checkpointer notes it there, before it makes a checkpoint that was asked for (PostgreSQL,
/// `SyncRepUpdateSyncStandbysDefined`).
///
/// # Errors
/// If the server does not answer.
pub async fn heeded(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("CHECKPOINT").await
}

async fn row(client: &Client, query: &str) -> Result<Vec<Option<String>>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let row = messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(row.unwrap_or_default())
}

/// Makes a standby the primary: everything it has is applied first. Its next timeline is the first that has no history
/// file (see [`skip_timelines`]).
///
/// # Errors
/// If the server does not answer.
pub async fn promote(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("SELECT pg_promote(false)").await?;
    while !is_primary(client).await? {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The timeline on which a primary writes.
///
/// # Errors
/// If the server does not answer.
pub async fn written_timeline(client: &Client) -> Result<u32, tokio_postgres::Error> {
    let timeline = first(client, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)").await?;
    Ok(timeline.and_then(|text| u32::from_str_radix(&text, 16).ok()).unwrap_or_default())
}

/// Whether a server is a primary.
///
/// # Errors
/// If it does not answer.
pub async fn is_primary(client: &Client) -> Result<bool, tokio_postgres::Error> {
    Ok(first(client, "SELECT pg_is_in_recovery()").await?.as_deref() == Some("f"))
}

/// Lets the next promotion skip timelines that others may have used: a server takes the first number above those of
/// which it has a history file. `own` is its timeline, `wanted` the next one. Answers which one it takes: a later one
/// if a promotion to `wanted` was cut off and has left its history.
///
/// # Errors
/// As writing.
pub fn skip_timelines(data: &Path, own: u32, wanted: u32, position: Lsn) -> io::Result<u32> {
    let before = fs_err::read_to_string(history(data, own)).unwrap_or_default();
    for timeline in own + 1..wanted {
        let file = history(data, timeline);
        if !file.exists() {
            let text = format!("{before}{own}\t{position}\t{SKIPPED}");
            durable::replace(&file, text.as_bytes(), 0o600)?;
        }
    }
    let first = wanted.max(own + 1);
    Ok((first..).find(|timeline| !history(data, *timeline).exists()).unwrap_or(first))
}

/// Whether what a server has of a timeline until `position` is part of the one with this history file, which has a line
/// for each timeline before, with the place where it was left (PostgreSQL, `readTimeLineHistory`). Of one that was left
/// where it began nothing is: it was skipped (see [`skip_timelines`]), and another member may have used it.
pub fn is_part_of(history: &str, timeline: u32, position: Lsn) -> bool {
    let mut began = Lsn(0);
    for line in history.lines() {
        let mut words = line.split_whitespace();
        let number = words.next().and_then(|word| word.parse::<u32>().ok());
        let end = words.next().and_then(|word| word.parse::<Lsn>().ok());
        let (Some(number), Some(end)) = (number, end) else { continue };
        if number == timeline {
            return began < position && position <= end;
        }
        began = end;
    }
    false
}

/// Whether a standby applies nothing that it receives: somebody has told it so, or its primary was started with more of
/// what it must not have less of.
///
/// # Errors
/// If the server does not answer.
pub async fn is_paused(client: &Client) -> Result<bool, tokio_postgres::Error> {
    Ok(first(client, "SELECT pg_is_wal_replay_paused()").await?.as_deref() == Some("t"))
}

/// What a standby must not have less of than its primary, as the control file of its data notes it of the primary
/// (PostgreSQL manual, "Hot Standby: Administrator's Overview"). That of a primary notes what it had itself.
///
/// # Errors
/// If `pg_controldata` fails.
pub async fn demands(server: &Server, data: &Path) -> Result<Vec<(String, i64)>, super::tools::Error> {
    Ok(parse_demands(&control_file(server, data).await?))
}

fn parse_demands(text: &str) -> Vec<(String, i64)> {
    let setting = |line: &str| {
        let (name, value) = line.split_once(" setting:")?;
        let name = match name.trim() {
            "max_prepared_xacts" => "max_prepared_transactions",
            "max_locks_per_xact" => "max_locks_per_transaction",
            other => other,
        };
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(setting).collect()
}

/// The timeline of a data directory whose server has been a primary, by its control file.
///
/// # Errors
/// If `pg_controldata` fails.
pub async fn timeline(server: &Server) -> Result<u32, super::tools::Error> {
    Ok(parse_timeline(&control_file(server, &server.data()).await?))
}

fn parse_timeline(text: &str) -> u32 {
    noted(text, "Latest checkpoint's TimeLineID").and_then(|value| value.parse().ok()).unwrap_or(1)
}

/// Where the WAL ends of a server that has ended cleanly: with the checkpoint that it made then, which is after every
/// commit. `None` if it has not ended so, or nobody knows.
pub async fn clean_end(server: &Server) -> Option<Lsn> {
    parse_clean_end(&control_file(server, &server.data()).await.ok()?)
}

fn parse_clean_end(text: &str) -> Option<Lsn> {
    let is_clean = noted(text, "Database cluster state")? == "shut down";
    noted(text, "Latest checkpoint location").filter(|_| is_clean)?.parse().ok()
}

/// Timeline and place up to which a server must apply its WAL before its data is consistent.
///
/// # Errors
/// If `pg_controldata` fails.
pub async fn needs(server: &Server) -> Result<(u32, Lsn), super::tools::Error> {
    Ok(parse_needs(&control_file(server, &server.data()).await?))
}

fn parse_needs(text: &str) -> (u32, Lsn) {
    let timeline = noted(text, "Min recovery ending loc's timeline").and_then(|value| value.parse().ok());
    let position = noted(text, "Minimum recovery ending location").and_then(|value| value.parse().ok());
    (timeline.unwrap_or_default(), position.unwrap_or_default())
}

/// The control file of a data directory, as `pg_controldata` prints it.
async fn control_file(server: &Server, data: &Path) -> Result<String, super::tools::Error> {
    super::tools::output(server, "pg_controldata", &[data.as_os_str()]).await
}

/// What a control file notes under a name.
fn noted<'a>(control_file: &'a str, name: &str) -> Option<&'a str> {
    control_file.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The place of a member's copy while it is made.
pub fn copy_directory(server: &Server) -> PathBuf {
    server.volume.join(datadir::COPY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(username: &str) -> Credentials {
        Credentials { username: username.into(), password: r"p:w\d".into() }
    }

    #[test]
    fn a_standby_reaches_its_primary_encrypted_and_no_password_is_in_its_configuration() {
        let volume = tempfile::tempdir().expect("a directory");
        let server = datadir::tests::server(volume.path());
        fs_err::create_dir(server.data()).expect("made");
        let role = Role::Standby { upstream: Some("127.64.0.9".into()), confirmed_by: "ANY 1 (x)".into() };
        configure(&server, &role, &credentials("postgres"), &credentials("standby")).expect("written");
        let text = fs_err::read_to_string(server.data().join(CONFIGURATION)).expect("there");
        for part in ["host=''127.64.0.9''", "user=''standby''", "sslmode=''require''", "channel_binding=''require''"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("p:w"), "{text}");
        let as_superuser = connection(&server, "127.64.0.9", "postgres", "solo-0", Some("postgres"));
        let safe = format!("dbname='postgres' {}", bootstrap::word("options", &bootstrap::safe(server.major)));
        assert!(as_superuser.ends_with(&safe), "{as_superuser}");
        let passwords = fs_err::read_to_string(server.volume.join(PASSWORDS)).expect("there");
        assert_eq!(passwords, "*:*:*:postgres:p\\:w\\\\d\n*:*:*:standby:p\\:w\\\\d\n");
    }

    #[test]
    fn the_control_file_says_what_a_standby_needs() {
        let text = "pg_control version number:            1300\nwal_level setting:                    replica\n\
                    max_connections setting:              101\nmax_locks_per_xact setting:           64\n";
        let expected = [("max_connections".to_owned(), 101), ("max_locks_per_transaction".to_owned(), 64)];
        assert_eq!(parse_demands(text), expected);
    }

    #[test]
    fn the_control_file_says_which_timeline_it_is() {
        assert_eq!(parse_timeline("Latest checkpoint location: 0/1\nLatest checkpoint's TimeLineID:       7\n"), 7);
        assert_eq!(parse_timeline(""), 1);
    }

    #[test]
    fn a_server_that_ended_cleanly_says_where_its_wal_ends() {
        let text = |state: &str| {
            format!("Database cluster state:               {state}\nLatest checkpoint location:           1/4000350\n")
        };
        assert_eq!(parse_clean_end(&text("shut down")), Some(Lsn(0x1_0400_0350)));
        assert_eq!(parse_clean_end(&text("in production")), None);
        assert_eq!(parse_clean_end(&text("shut down in recovery")), None);
        assert_eq!(parse_clean_end(""), None);
        assert!(is_in_recovery(&text("in archive recovery")));
        assert!(!is_in_recovery(&text("in crash recovery")) && !is_in_recovery(&text("shut down")));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_taken_for_a_primarys() {
        let volume = tempfile::tempdir().expect("a directory");
        let mut server = datadir::tests::server(volume.path());
        volume.path().clone_into(&mut server.bin_directory);
        fs_err::create_dir(server.data()).expect("made");
        assert!(is_standby(&server).await.is_err());
        signal(&server.data(), true).expect("written");
        assert!(is_standby(&server).await.expect("its signal says it"));
    }

    #[test]
    fn the_control_file_says_up_to_where_a_server_has_to_apply_its_wal() {
        let text = "Minimum recovery ending location:     0/5000148\nMin recovery ending loc's timeline:   3\n";
        assert_eq!(parse_needs(text), (3, Lsn(0x500_0148)));
        assert_eq!(parse_needs(""), (0, Lsn(0)));
    }

    #[test]
    fn a_timeline_has_begun_once_its_history_is_noted() {
        let (one, two, three) = ("000000010000000000000003", "000000020000000A00000004", "000000030000000A00000004");
        for (files, expected) in [
            (vec![], 1),
            (vec![one], 1),
            (vec![one, two], 1),
            (vec![two, "00000002.history", one, "archive_status"], 2),
            (vec![three, "00000002.history", two], 2),
            (vec![three, "00000002.history", two, "00000003.history", "00000004.history"], 3),
        ] {
            assert_eq!(newest_timeline(Path::new("none"), &files.join(" ")), expected, "{files:?}");
        }
    }

    #[test]
    fn the_timeline_of_a_server_that_does_not_say_it_is_on_its_disk() {
        let data = tempfile::tempdir().expect("a directory");
        assert!(timeline_on_disk(data.path()).is_err());
        fs_err::create_dir(data.path().join("pg_wal")).expect("made");
        for file in ["000000020000000A00000004", "00000002.history", "000000010000000000000003"] {
            fs_err::write(data.path().join("pg_wal").join(file), "").expect("written");
        }
        assert_eq!(timeline_on_disk(data.path()).expect("readable"), 2);
    }

    #[test]
    fn a_timeline_that_was_skipped_has_not_begun() {
        let data = tempfile::tempdir().expect("a directory");
        fs_err::create_dir(data.path().join("pg_wal")).expect("made");
        let newest = || {
            let histories = "00000002.history 00000003.history 00000004.history";
            let segments = "000000010000000000000003 000000020000000000000003 000000030000000000000003";
            newest_timeline(data.path(), &format!("{histories} {segments}"))
        };
        skip_timelines(data.path(), 1, 4, Lsn(16)).expect("written");
        assert_eq!(newest(), 1);
        // As a server has it that was promoted when timeline 2 had been skipped.
        let text = "1\t0/10\tnever used by this member\n\n2\t0/10\tno recovery target specified\n";
        fs_err::write(history(data.path(), 3), text).expect("written");
        assert_eq!(newest(), 3);
    }

    #[test]
    fn a_history_says_up_to_where_each_older_timeline_is_shared() {
        let history = "1\t0/3000148\tno recovery target specified\n\n# 2\t9/0\n3\t1/200\tnever used by this member\n\n\
                       4\t1/200\tno recovery target specified\n\n5\t1/0A000000\tat restore point \"9\t9/9\"";
        for (timeline, position, expected) in [
            (1, 0x300_0147, true),
            (1, 0x300_0148, true),
            (1, 0x300_0149, false),
            (2, 1, false),
            (3, 0x300_0148, false),
            (3, 0x1_0000_0200, true),
            (3, 0x1_0000_0201, false),
            (4, 0x1_0000_01ff, false),
            (4, 0x1_0000_0200, false),
            (5, 0x1_0A00_0000, true),
            (6, 0x1_0A00_0000, false),
            (9, 0x1_0A00_0000, false),
        ] {
            assert_eq!(is_part_of(history, timeline, Lsn(position)), expected, "{position:X} of {timeline}");
        }
        assert!(!is_part_of("", 1, Lsn(0)));
    }

    #[test]
    fn skipped_timelines_are_children_of_the_own_one() {
        let data = tempfile::tempdir().expect("a directory");
        fs_err::create_dir(data.path().join("pg_wal")).expect("made");
        let skip = |own, wanted| skip_timelines(data.path(), own, wanted, Lsn(16)).expect("written");
        assert_eq!(skip(2, 3), 3);
        assert_eq!(fs_err::read_dir(data.path().join("pg_wal")).expect("there").count(), 0);
        fs_err::write(data.path().join("pg_wal/00000002.history"), "1\t0/8\tx\n").expect("written");
        assert_eq!(skip(2, 4), 4);
        let text = fs_err::read_to_string(data.path().join("pg_wal/00000003.history")).expect("there");
        assert_eq!(text, "1\t0/8\tx\n2\t0/10\tnever used by this member\n");
    }

    #[test]
    fn a_promotion_takes_the_first_timeline_without_a_history() {
        let data = tempfile::tempdir().expect("a directory");
        fs_err::create_dir(data.path().join("pg_wal")).expect("made");
        let takes = |own, wanted| skip_timelines(data.path(), own, wanted, Lsn(16)).expect("written");
        assert_eq!((takes(1, 1), takes(1, 2)), (2, 2), "never its own one");
        for timeline in 2..=3 {
            fs_err::write(data.path().join(format!("pg_wal/{timeline:08X}.history")), "").expect("written");
        }
        assert_eq!((takes(1, 2), takes(2, 3), takes(3, 3), takes(3, 4)), (4, 4, 4, 4));
        assert_eq!(takes(3, 6), 6);
    }
}
