//! Primaries that die, freeze or are asked to go, and the ledger that tells what it cost.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use cucumber::{given, then, when};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams};
use kube::config::Kubeconfig;
use kube::core::Status;
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;
use tokio_postgres::error::SqlState;

use super::members::{self, ROLE, member_login, pods, primary_of, standbys};
use super::{backup, sql};
use crate::conformance::cut::Cut;
use crate::conformance::inventory::{self, Process};
use crate::conformance::observe::{self, Look, SOON, until};
use crate::conformance::stage::Stage;
use crate::conformance::{Failure, World};
use crate::postgres::{self, DATABASE, Ledger, Login};

/// Rows before anything happens.
const SOME: usize = 50;
/// As long without a row is not by chance: a row takes milliseconds.
const STILL: Duration = Duration::from_secs(3);
/// What is acknowledged so soon after a blow may have been on its way before it.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// The latest moment of a restore at which something is killed.
const LATEST: Duration = Duration::from_secs(4);

#[given(expr = "a ledger of {string}")]
async fn open(world: &mut World, name: String) -> Result<(), Failure> {
    let login = observe::login(&world.client().await?, world.namespace(), &name).await?;
    world.ledger = Some(opened(login).await?);
    written(world, SOME).await
}

/// Without the Service, whose ports the embedded cluster's process serves.
#[given(expr = "a ledger of {string} at the address of its primary")]
async fn open_at_primary(world: &mut World, name: String) -> Result<(), Failure> {
    let pod = strike(world, &name).await?;
    let login = member_login(world, &name, &pod).await?;
    world.ledger = Some(opened(login).await?);
    written(world, SOME).await
}

/// Whichever member that is now.
#[when(expr = "the ledger goes to the address of the primary of {string}")]
async fn go_to_primary(world: &mut World, name: String) -> Result<(), Failure> {
    let pod = strike(world, &name).await?;
    let login = member_login(world, &name, &pod).await?;
    world.ledger.as_mut().ok_or(Failure::Missing("ledger"))?.go_to(login).await;
    Ok(())
}

async fn opened(login: Login) -> Result<Ledger, Failure> {
    let mut ledger = Ledger::new(login, "ledger");
    ledger.open().await?;
    Ok(ledger)
}

fn ledger(world: &World) -> Result<&Ledger, Failure> {
    world.ledger.as_ref().ok_or(Failure::Missing("ledger"))
}

#[when(expr = "{int} more rows are acknowledged")]
async fn written(world: &mut World, more: usize) -> Result<(), Failure> {
    let ledger = ledger(world)?;
    let wanted = ledger.count() + more;
    until(format!("{more} more rows"), SOON, || async { Ok(Look::when(ledger.count() >= wanted, ledger.count())) })
        .await
}

/// Where the primary was when something happened to it, and when that was.
pub(super) async fn strike(world: &mut World, name: &str) -> Result<Pod, Failure> {
    let pods = pods(world, name).await?;
    let primary = primary_of(&pods).map_err(|found| Failure::unexpected("one primary", found))?;
    world.struck = Some((primary.clone(), Instant::now()));
    pods.into_iter().find(|pod| pod.name_any() == primary).ok_or(Failure::Missing("primary"))
}

fn processes(pod: &Pod, part: &str) -> Result<Vec<Process>, Failure> {
    if part == "server-and-sessions" {
        let mut found = processes(pod, "server")?;
        found.extend(inventory::children(found[0].pid));
        return Ok(found);
    }
    if matches!(part, "receiver" | "sender") {
        // A session's title lies where its environment was (src/backend/utils/misc/ps_status.c), so it bears no mark.
        let mut found = inventory::children(processes(pod, "server")?[0].pid);
        found.retain(|process| process.line.contains(&format!("wal{part}")));
        return if found.is_empty() { Err(nothing(part, pod)) } else { Ok(found) };
    }
    let uid = pod.uid().unwrap_or_default();
    let mut found = inventory::processes_marked("A9S_POD_UID", &uid);
    // The directory differs between systems; sessions are children that change their command line.
    found.retain(|process| match part {
        "server" => process.line.contains("postgres") && process.line.contains("-D"),
        "agent" => process.line.contains("agent postgres"),
        "backup-agent" => process.line.contains("agent backup"),
        _ => true,
    });
    if matches!(part, "server" | "agent") {
        found.truncate(1);
    }
    if found.is_empty() { Err(nothing(part, pod)) } else { Ok(found) }
}

fn nothing(part: &str, pod: &Pod) -> Failure {
    Failure::unexpected(format!("the {part} of {}", pod.name_any()), "nothing")
}

fn signal(processes: &[Process], signal: Signal) -> Result<(), Failure> {
    Ok(processes.iter().try_for_each(|process| process.signal(signal))?)
}

#[when(expr = "the {word} of the primary of {string} is killed")]
async fn kill_part(world: &mut World, part: String, name: String) -> Result<(), Failure> {
    let pod = strike(world, &name).await?;
    signal(&processes(&pod, &part)?, Signal::SIGKILL)
}

/// In one restore after the other, until so many were hit: they were not complete when it was dead. The moment is random, for
/// what is done then is different on every machine. A hit shows that a restore takes longer than that, so the next one may
/// come later. Each restore has to come to its end, and to have the content of the backup.
#[when(
    expr = "the {word} of the primary of {string} is killed within {int} restores of the backup {string}, which bring back that the table {string} holds {string}"
)]
async fn kill_within_restores(
    world: &mut World,
    part: String,
    name: String,
    times: usize,
    of: String,
    table: String,
    value: String,
) -> Result<(), Failure> {
    let standbys = pods(world, &name).await?.len().saturating_sub(1);
    let mut longest = Duration::from_millis(400);
    let mut hits = 0;
    for round in 0..times * 4 {
        if hits == times {
            break;
        }
        sql::apply_statement(world, format!("UPDATE {table} SET value = 'changed'"), name.clone()).await?;
        world.last()?.require_success()?;
        let restore = format!("back-{round}");
        backup::order_restore(world, restore.clone(), of.clone(), name.clone()).await?;
        if backup::is_seen_to_run(world, &restore).await? {
            let moment = longest.mul_f64(rand::random::<f64>());
            tokio::time::sleep(moment).await;
            let pods = pods(world, &name).await?;
            // While the content is exchanged, nobody is ready.
            let primary = pods.iter().find(|pod| pod.labels().get(ROLE).is_some_and(|role| role == "master"));
            signal(&processes(primary.ok_or(Failure::Missing("primary"))?, &part)?, Signal::SIGKILL)?;
            if backup::is_complete(world, "restore", &restore).await? {
                longest = moment;
            } else {
                hits += 1;
                longest = (longest * 2).min(LATEST);
            }
        }
        backup::soon_complete(world, "restore".to_owned(), restore).await?;
        members::roles(world, name.clone(), standbys).await?;
        members::all_answer(world, name.clone(), format!("SELECT value FROM {table}"), value.clone()).await?;
    }
    Failure::unless(hits == times, format!("{times} kills within a restore"), hits)
}

#[when(expr = "the {word} of the primary of {string} is killed {int} times, each time it acknowledges rows again")]
async fn kill_repeatedly(world: &mut World, part: String, name: String, times: usize) -> Result<(), Failure> {
    for _ in 0..times {
        written(world, 1).await?;
        // The labels of one that has just died are still there for a moment; its processes are not.
        let (primary, struck) = until(format!("the {part} of a primary of {name}"), SOON, || async {
            let pods = pods(world, &name).await?;
            Ok(match primary_of(&pods) {
                Ok(primary) => {
                    let pod = pods.iter().find(|pod| pod.name_any() == primary).ok_or(Failure::Missing("primary"))?;
                    Look::Yes((primary, processes(pod, &part)?))
                }
                Err(found) => Look::NotYet(found),
            })
        })
        .await?;
        world.struck = Some((primary, Instant::now()));
        signal(&struck, Signal::SIGKILL)?;
    }
    Ok(())
}

#[when(expr = "the {word} of the primary of {string} is frozen")]
async fn freeze_part(world: &mut World, part: String, name: String) -> Result<(), Failure> {
    let pod = strike(world, &name).await?;
    Ok(world.freeze(&processes(&pod, &part)?)?)
}

#[when(expr = "the {word} of the member {string} of {string} is frozen")]
async fn freeze_member(world: &mut World, part: String, member: String, name: String) -> Result<(), Failure> {
    let pod = member_of(world, &name, &member).await?;
    Ok(world.freeze(&processes(&pod, &part)?)?)
}

#[when(expr = "the standby {string} of {string} applies nothing that it receives")]
async fn pause_replay(world: &mut World, member: String, name: String) -> Result<(), Failure> {
    let pod = member_of(world, &name, &member).await?;
    let login = member_login(world, &name, &pod).await?;
    Ok(postgres::ask(&login, DATABASE, "SELECT pg_wal_replay_pause()").await.map(drop)?)
}

async fn member_of(world: &World, name: &str, member: &str) -> Result<Pod, Failure> {
    pods(world, name).await?.into_iter().find(|pod| pod.name_any() == member).ok_or(Failure::Missing("member"))
}

#[when(regex = r#"^the (\w+)s of the standbys of "([^"]+)" are (frozen|killed)$"#)]
async fn strike_standbys(world: &mut World, part: String, name: String, how: String) -> Result<(), Failure> {
    for pod in standbys(world, &name).await? {
        let struck = processes(&pod, &part)?;
        if how == "frozen" {
            world.freeze(&struck)?;
        } else {
            signal(&struck, Signal::SIGKILL)?;
        }
    }
    Ok(())
}

#[then(expr = "what was frozen is ended within {int} seconds")]
async fn frozen_ended(world: &mut World, seconds: u64) -> Result<(), Failure> {
    until("the end of what was frozen", Duration::from_secs(seconds), || async {
        let mut left = world.frozen.clone();
        left.retain(|process| inventory::is_running(process.pid));
        Ok(Look::when(left.is_empty(), format!("{left:?} still there")))
    })
    .await
}

#[when("what was frozen goes on")]
async fn thaw(world: &mut World) -> Result<(), Failure> {
    world.thaw();
    Ok(())
}

#[when(expr = "the primary of {string} is cut off from the API server")]
async fn cut_primary(world: &mut World, name: String) -> Result<(), Failure> {
    let pod = strike(world, &name).await?;
    cut_off(world, &pod)
}

#[when(expr = "a standby of {string} is cut off from the API server")]
async fn cut_standby(world: &mut World, name: String) -> Result<(), Failure> {
    let primary = strike(world, &name).await?.name_any();
    let standby = pods(world, &name).await?.into_iter().find(|pod| pod.name_any() != primary);
    cut_off(world, &standby.ok_or(Failure::Missing("standby"))?)
}

fn cut_off(world: &mut World, pod: &Pod) -> Result<(), Failure> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse().ok());
    let kubeconfig = Kubeconfig::read_from(&world.surroundings.kubeconfig)?;
    let server = kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref()?.server.clone());
    let port = server.and_then(|server| server.parse::<http::Uri>().ok()?.port_u16());
    let cut = Cut::off(address.ok_or(Failure::Missing("address"))?, port.ok_or(Failure::Missing("port"))?)?;
    world.cuts.push(cut);
    Ok(())
}

#[when("the network is whole again")]
async fn heal(world: &mut World) -> Result<(), Failure> {
    world.cuts.clear();
    Ok(())
}

/// As a holder would whose clock is wrong: it renews, and writes what its clock says.
#[when(expr = "the Lease of {string} is written by a clock that is {int} seconds {word}")]
async fn other_clock(world: &mut World, name: String, seconds: i64, direction: String) -> Result<(), Failure> {
    let offset = jiff::SignedDuration::from_secs(if direction == "ahead" { seconds } else { -seconds });
    let wrong = MicroTime(jiff::Timestamp::now() + offset);
    strike(world, &name).await?;
    let leases: Api<Lease> = Api::namespaced(world.client().await?, world.namespace());
    let patch = serde_json::json!({"spec": {"renewTime": wrong, "acquireTime": wrong}});
    leases.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Longer than a Lease lasts, say.
#[then(expr = "rows of the ledger are acknowledged for {int} seconds more")]
async fn goes_on(world: &mut World, seconds: u64) -> Result<(), Failure> {
    let ledger = ledger(world)?;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let before = ledger.count();
        tokio::time::sleep(STILL).await;
        if ledger.count() == before {
            return Err(Failure::unexpected("rows", format!("none for {STILL:?}")));
        }
    }
    Ok(())
}

#[then(expr = "the ledger soon stands still")]
async fn stands_still(world: &mut World) -> Result<(), Failure> {
    let ledger = ledger(world)?;
    let mut last = (ledger.count(), Instant::now());
    until("the end of acknowledgements", SOON, || {
        let count = ledger.count();
        if count != last.0 {
            last = (count, Instant::now());
        }
        let is_still = last.1.elapsed() >= STILL;
        async move { Ok(Look::when(is_still, "rows are acknowledged")) }
    })
    .await
}

#[when(expr = "the primary of {string} is deleted")]
async fn delete_primary(world: &mut World, name: String) -> Result<(), Failure> {
    let pod = strike(world, &name).await?;
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
    Ok(())
}

/// Of the version that the API server names for it: Kubernetes 1.22 brought policy/v1.
#[when(expr = "the primary of {string} is evicted")]
async fn evict_primary(world: &mut World, name: String) -> Result<(), Failure> {
    let pod = strike(world, &name).await?.name_any();
    let client = world.client().await?;
    let resources = client.list_core_api_resources("v1").await?.resources;
    let resource = resources.into_iter().find(|resource| resource.name == "pods/eviction");
    let resource = resource.ok_or(Failure::Missing("resource pods/eviction"))?;
    let version = [resource.group, resource.version].map(Option::unwrap_or_default).join("/");
    let namespace = world.namespace();
    let eviction = serde_json::json!({
        "apiVersion": version, "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace},
    });
    let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction"));
    let request = request.header("Content-Type", "application/json").body(serde_json::to_vec(&eviction)?);
    client.request::<Status>(request.map_err(io::Error::other)?).await?;
    Ok(())
}

#[when(expr = "the primary of {string} loses its volume")]
async fn lose_primary(world: &mut World, name: String) -> Result<(), Failure> {
    let pod = strike(world, &name).await?;
    super::members::lose_volume(world, pod.name_any()).await
}

#[when(expr = "I kill the primary of {string}")]
async fn kill_primary(world: &mut World, name: String) -> Result<(), Failure> {
    strike(world, &name).await?;
    world.a9s(&["pg", "kill", "-i", &name, "--member", "primary", "--yes"]).await.map(drop)
}

#[when(expr = "I fail {string} over")]
async fn fail_over(world: &mut World, name: String) -> Result<(), Failure> {
    strike(world, &name).await?;
    world.a9s(&["pg", "failover", &name]).await.map(drop)
}

#[when(expr = "I fail {string} over to {string}")]
async fn fail_over_to(world: &mut World, name: String, member: String) -> Result<(), Failure> {
    // Of an instance that does not exist there is nothing to be struck.
    if !pods(world, &name).await?.is_empty() {
        strike(world, &name).await?;
    }
    world.a9s(&["pg", "failover", &name, "--to", &member]).await.map(drop)
}

#[then(expr = "the ledger of {string} is complete")]
async fn complete(world: &mut World, name: String) -> Result<(), Failure> {
    recovered(world).await?;
    let lost = close(world, &name).await?.lost;
    Failure::unless(lost.is_empty(), "every acknowledged row", format!("{} are lost: {lost:?}", lost.len()))
}

/// The longest time without a row is known only when rows are acknowledged again.
async fn recovered(world: &World) -> Result<(), Failure> {
    let ledger = ledger(world)?;
    let now = Instant::now();
    let after = world.struck.as_ref().map_or(now, |(_, at)| now.max(*at + ON_ITS_WAY));
    until("the next acknowledged row", SOON, || async {
        let is_over = ledger.first_after(after).is_some() || ledger.has_ended();
        Ok(Look::when(is_over, "none"))
    })
    .await
}

/// Whoever served meanwhile: also one that went on until another one could take its place.
#[then(expr = "no row of the ledger waited longer than {int} seconds")]
async fn waited(world: &mut World, seconds: u64) -> Result<(), Failure> {
    let longest = world.longest_gap.ok_or(Failure::Missing("ledger that has been read"))?;
    let most = Stage::ample_patience(Duration::from_secs(seconds));
    let expected = format!("at most {} s without a row", most.as_secs_f64());
    Failure::unless(longest <= most, expected, format!("{longest:.1?}"))
}

#[then(expr = "the ledger of {string} reports lost rows")]
async fn incomplete(world: &mut World, name: String) -> Result<(), Failure> {
    let verdict = close(world, &name).await?;
    Failure::unless(!verdict.lost.is_empty(), "a loss, which the ledger has to see", format!("{verdict:?}"))
}

async fn close(world: &mut World, name: &str) -> Result<postgres::ledger::Verdict, Failure> {
    let ledger = world.ledger.as_mut().ok_or(Failure::Missing("ledger"))?;
    ledger.pause().await;
    let started = Instant::now();
    let verdict = loop {
        match ledger.close().await {
            Ok(verdict) => break verdict,
            Err(error) if started.elapsed() > Stage::patience(SOON) => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let told = format!(
        "{name}: {} rows acknowledged, RPO {} rows, RTO {:.2} s",
        verdict.acknowledged,
        verdict.lost.len(),
        verdict.longest_gap.as_secs_f64()
    );
    // A number for whoever watches the run; nothing depends on it.
    let _ = writeln!(std::io::stderr(), "ledger   {told}");
    world.notes.insert("ledger".to_owned(), told);
    world.longest_gap = Some(verdict.longest_gap);
    Ok(verdict)
}

#[then(expr = "another member of {string} is the primary")]
async fn another(world: &mut World, name: String) -> Result<(), Failure> {
    let (before, _) = world.struck.clone().ok_or(Failure::Missing("blow"))?;
    until(format!("a primary of {name} other than {before}"), SOON, || async {
        Ok(match primary_of(&pods(world, &name).await?) {
            Ok(primary) => Look::when(primary != before, primary),
            Err(found) => Look::NotYet(found),
        })
    })
    .await
}

/// Whoever reaches it must not find it writable: that commits are not confirmed is not enough for one who only reads.
#[then(expr = "the former primary of {string} does not serve as one")]
async fn is_fenced(world: &mut World, name: String) -> Result<(), Failure> {
    let (before, _) = world.struck.clone().ok_or(Failure::Missing("blow"))?;
    let pod = pods(world, &name).await?.into_iter().find(|pod| pod.name_any() == before);
    let login = member_login(world, &name, &pod.ok_or(Failure::Missing("former primary"))?).await?;
    match postgres::ask(&login, DATABASE, "SELECT pg_is_in_recovery()").await {
        Ok(rows) if rows == ["t"] => Ok(()),
        Err(error) if takes_nobody(&error) => Ok(()),
        found => Err(Failure::unexpected(format!("{before} not to serve as a primary"), format!("{found:?}"))),
    }
}

/// Whether nobody listens there, or whoever does hangs up or says that he takes nobody. Silence says nothing.
fn takes_nobody(error: &postgres::Error) -> bool {
    let postgres::Error::Server(error) = error else { return false };
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    let hung_up = cause.is_some_and(|cause| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
        matches!(cause.kind(), BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | UnexpectedEof)
    });
    hung_up || error.is_closed() || error.code() == Some(&SqlState::CANNOT_CONNECT_NOW)
}

/// Instead of being copied anew.
#[then(expr = "the former primary of {string} has been rewound")]
async fn is_rewound(world: &mut World, name: String) -> Result<(), Failure> {
    let (before, _) = world.struck.clone().ok_or(Failure::Missing("blow"))?;
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    let of_server = LogParams { container: Some("postgres".to_owned()), ..LogParams::default() };
    until(format!("a word of {before} that it was rewound"), SOON, || async {
        let log = pods.logs(&before, &of_server).await?;
        Ok(Look::when(log.contains("rewound to the primary"), format!("none in the log of {name}'s {before}")))
    })
    .await
}

#[given(expr = "the member {string} is the primary of {string}")]
#[then(expr = "the member {string} is the primary of {string}")]
async fn this_one(world: &mut World, member: String, name: String) -> Result<(), Failure> {
    let found = primary_of(&pods(world, &name).await?);
    Failure::unless(found.as_ref() == Ok(&member), member, format!("{found:?}"))
}

#[then(expr = "the primary of {string} stays the same for {int} seconds")]
async fn stays(world: &mut World, name: String, seconds: u64) -> Result<(), Failure> {
    let (before, _) = world.struck.clone().ok_or(Failure::Missing("blow"))?;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let found = primary_of(&pods(world, &name).await?);
        if found.as_ref() != Ok(&before) {
            return Err(Failure::unexpected(format!("{before} as the primary"), format!("{found:?}")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// A segment is begun whenever the one before is switched away from (PostgreSQL manual, 30.5 "WAL Configuration").
#[when(expr = "the WAL of {string} goes on by {int} segments")]
async fn switch_wal(world: &mut World, name: String, segments: usize) -> Result<(), Failure> {
    let login = observe::login(&world.client().await?, world.namespace(), &name).await?;
    strike(world, &name).await?;
    for _ in 0..segments {
        let one = "SELECT pg_logical_emit_message(false, 'conformance', 'x'); SELECT pg_switch_wal()";
        // It is the server that is to stumble over this.
        if postgres::ask(&login, DATABASE, one).await.is_err() {
            break;
        }
    }
    Ok(())
}
