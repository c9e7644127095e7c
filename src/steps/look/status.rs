//! How an instance is: its members, its last backup, its bindings. Every member is asked on its own and at the same
//! time, so that one that does not answer holds up nobody and hides nothing of the others.

use a8s_api::LABEL_ROLE;
use a8s_api::postgresql::MAXIMUM_REPLICAS;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};

use super::item::Item;
use super::{PATIENCE, ask, known, list_for};
use crate::finding::Finding;
use crate::kubernetes::exec::{self, Container};
use crate::kubernetes::{diagnosis, within};
use crate::manifest::names::Namespace;
use crate::manifest::resource::{Kind, Reference};
use crate::steps::resource::get;
use crate::steps::sql::as_superuser;
use crate::steps::{condition, members};

/// What a server is asked. The functions that only a primary has are not called on a standby, which has no standbys.
const QUESTION: &str = "SELECT json_build_object(
    'version', current_setting('server_version'),
    'timeline', CASE WHEN pg_is_in_recovery()
        THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint()))
        ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
    'standbys', (SELECT coalesce(json_agg(json_build_object('name', application_name, 'state', state,
        'bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint,
        'seconds', extract(epoch FROM replay_lag)::float)), '[]') FROM pg_stat_replication))";

/// Kilobytes of the data directory, and what is free where it lies. Its argument is the database that is asked.
const DISK: &str = r#"d="$(psql -X -A -t -q -U postgres -d "$1" -c 'SHOW data_directory')" || exit 1
du -sk "$d" 2>/dev/null | cut -f 1; df -Pk "$d" | tail -n 1 | awk '{print $4}'"#;

/// How an instance is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The instance, as a list tells it.
    pub instance: Item,
    /// PostgreSQL's version that runs, as the primary says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_version: Option<String>,
    /// Its members.
    pub members: Vec<Member>,
    /// The last backup that is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<Item>,
    /// Its service bindings.
    pub bindings: Vec<Item>,
    /// What could not be found out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// How a member is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of its pod.
    pub name: String,
    /// `primary`, `standby`, or nothing where its pod has no label yet.
    pub role: String,
    /// Whether its pod is ready.
    pub ready: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Restarts of its containers.
    pub restarts: i32,
    /// The timeline of its server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<i64>,
    /// How much WAL of the primary a standby has not replayed, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<i64>,
    /// How far a standby is behind, in seconds, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    /// Size of its data directory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_used: Option<u64>,
    /// What is free where it lies, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_free: Option<u64>,
}

/// What a server answers.
#[derive(Debug, Clone, Deserialize)]
struct Server {
    version: String,
    timeline: Option<i64>,
    standbys: Vec<Standby>,
}

/// What a primary knows of a standby.
#[derive(Debug, Clone, Deserialize)]
struct Standby {
    name: String,
    bytes: Option<i64>,
    seconds: Option<f64>,
}

/// Looks at an instance; `None` if it is not there.
///
/// # Errors
/// The instance itself can't be read.
pub async fn status(client: &Client, reference: &Reference) -> Result<Option<Status>, Finding> {
    let Some(object) = get(client, reference).await? else { return Ok(None) };
    let namespace = &reference.namespace;
    let (pods, backups, bindings) = tokio::join!(
        ask("list its members", members::list(client, namespace, &reference.name)),
        list_for(client, Kind::Backup, reference),
        list_for(client, Kind::ServiceBinding, reference),
    );
    let mut unknown = Vec::new();
    let pods = known(&mut unknown, pods);
    let asked = futures::future::join_all(pods.iter().map(|pod| async {
        let name = pod.name_any();
        tokio::join!(server(client, namespace, &name), disk(client, namespace, &name))
    }))
    .await;
    let mut members: Vec<Member> = pods.iter().map(member).collect();
    let mut standbys = Vec::new();
    let mut running_version = None;
    for (member, (server, disk)) in members.iter_mut().zip(asked) {
        match server {
            Ok(server) => {
                member.timeline = server.timeline;
                if member.role == "primary" {
                    running_version = Some(server.version);
                    standbys = server.standbys;
                }
            }
            Err(why) => unknown.push(format!("what the server of {} says: {why}", member.name)),
        }
        match disk {
            Ok((used, free)) => (member.disk_used, member.disk_free) = (used, free),
            Err(why) => unknown.push(format!("the disk of {}: {why}", member.name)),
        }
    }
    add_lag(&mut members, &standbys);
    add_missing(&mut members, &object);
    let mut backups = known(&mut unknown, backups);
    // One of a former instance of the same name says nothing about this one.
    backups.retain(|backup| condition::completed(backup).is_some() && !condition::is_older(backup, &object));
    let bindings = known(&mut unknown, bindings);
    Ok(Some(Status {
        instance: Item::of(Kind::Instance, &object),
        running_version,
        members,
        last_backup: backups
            .iter()
            .max_by_key(|backup| condition::completed(backup))
            .map(|o| Item::of(Kind::Backup, o)),
        bindings: bindings.iter().map(|o| Item::of(Kind::ServiceBinding, o)).collect(),
        unknown,
    }))
}

fn member(pod: &Pod) -> Member {
    let role = match pod.labels().contains_key(LABEL_ROLE) {
        true if members::is_primary(pod) => "primary",
        true => "standby",
        false => "",
    };
    let ready = diagnosis::is_ready(pod);
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    Member {
        name: pod.name_any(),
        role: role.to_owned(),
        ready,
        reason: (!ready).then(|| diagnosis::difference(pod)),
        restarts: containers.iter().map(|container| container.restart_count).sum(),
        ..Member::default()
    }
}

/// Members that are wanted and have no pod. An instance that came past admission may want any number.
fn add_missing(members: &mut Vec<Member>, instance: &DynamicObject) {
    let wanted = members::wanted(&instance.data["spec"]).min(MAXIMUM_REPLICAS);
    for index in 0..wanted {
        let name = format!("{}-{index}", instance.name_any());
        if !members.iter().any(|member| member.name == name) {
            let reason = Some(format!("the pod {name} is not there"));
            members.push(Member { name, reason, ..Member::default() });
        }
    }
    members.sort_by(|one, other| (one.name.len(), &one.name).cmp(&(other.name.len(), &other.name)));
}

/// A standby calls itself as its pod when it connects.
fn add_lag(members: &mut [Member], standbys: &[Standby]) {
    for member in members {
        if let Some(standby) = standbys.iter().find(|standby| standby.name == member.name) {
            (member.lag_bytes, member.lag_seconds) = (standby.bytes, standby.seconds);
        }
    }
}

async fn server(client: &Client, namespace: &Namespace, pod: &str) -> Result<Server, String> {
    let database = as_superuser("postgres");
    let words = ["psql", "-X", "-A", "-t", "-q", "-U", "postgres", "-d", &database, "-c", QUESTION];
    let text = run(client, namespace, pod, &words).await?;
    serde_json::from_str(text.trim()).map_err(|error| format!("an answer that is not understood: {error}"))
}

async fn disk(client: &Client, namespace: &Namespace, pod: &str) -> Result<(Option<u64>, Option<u64>), String> {
    let words = ["sh", "-c", DISK, "sh", &as_superuser("postgres")];
    Ok(kilobytes(&run(client, namespace, pod, &words).await?))
}

/// Two lines of kilobytes as bytes.
fn kilobytes(text: &str) -> (Option<u64>, Option<u64>) {
    let mut lines = text.lines().map(|line| line.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024));
    (lines.next().flatten(), lines.next().flatten())
}

/// Standard output of a command in a member, if it succeeds in time.
async fn run(client: &Client, namespace: &Namespace, pod: &str, words: &[&str]) -> Result<String, String> {
    let container = Container::postgres(namespace.as_str(), pod);
    let mut output = Vec::new();
    let mut keep = |bytes: &[u8]| output.extend_from_slice(bytes);
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    let ended = within(PATIENCE, exec::run(client.clone(), &container, words, None, &mut keep)).await;
    match ended {
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(Finding::from(error).cause),
        Ok(Ok(ended)) if ended.code == Some(0) => Ok(String::from_utf8_lossy(&output).into_owned()),
        Ok(Ok(ended)) => Err(ended.stderr.lines().next().unwrap_or(&ended.message).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_lag_is_that_of_the_standby_with_the_members_name() {
        let named = |name: &str| Member { name: name.to_owned(), ..Member::default() };
        let mut members = [named("solo-1"), named("solo-10"), named("solo-0")];
        let standbys = [Standby { name: "solo-10".to_owned(), bytes: Some(42), seconds: Some(0.5) }];
        add_lag(&mut members, &standbys);
        assert_eq!(members.map(|member| member.lag_bytes), [None, Some(42), None]);
    }

    #[test]
    fn a_member_that_is_not_ready_says_why() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "solo-0", "labels": {LABEL_ROLE: "master"}},
            "status": {"containerStatuses": [{"name": "postgres", "ready": false, "restartCount": 2, "image": "", "imageID": ""}]},
        }))
        .unwrap();
        let member = member(&pod);
        assert_eq!((member.role.as_str(), member.ready, member.restarts), ("primary", false, 2));
        assert_eq!(member.reason.as_deref(), Some("the container postgres of the pod solo-0 is not ready"));
    }

    #[test]
    fn a_member_without_a_pod_is_told_in_its_place() {
        let instance = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"replicas": 11}})).unwrap();
        let mut members = vec![Member { name: "x-10".to_owned(), ready: true, ..Member::default() }];
        add_missing(&mut members, &instance);
        assert_eq!(members.len(), 11);
        assert_eq!((members[10].ready, members[9].reason.as_deref()), (true, Some("the pod x-9 is not there")));
    }

    #[test]
    fn disk_sizes_that_are_not_numbers_are_unknown() {
        assert_eq!(kilobytes("10\n20\n"), (Some(10_240), Some(20_480)));
        assert_eq!(kilobytes("du: x\n20\n"), (None, Some(20_480)));
        assert_eq!(kilobytes(""), (None, None));
    }

    #[test]
    fn what_a_server_answers_is_understood() {
        let answer = r#"{"version" : "15.8", "timeline" : 3, "standbys" : [{"name" : "x-1", "state" : "streaming", "bytes" : 0, "seconds" : null}]}"#;
        let server: Server = serde_json::from_str(answer).unwrap();
        assert_eq!((server.timeline, server.standbys[0].bytes, server.standbys[0].seconds), (Some(3), Some(0), None));
    }
}
