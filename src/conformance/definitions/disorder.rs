//! Orders at random, several at a time: of what is there, of what is going, of what never was.

use std::time::Duration;

use cucumber::{then, when};
use futures::{StreamExt, stream};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::backup::store;
use super::cluster;
use crate::conformance::observe::{self, Look, SOON, refused, until};
use crate::conformance::{Failure, World};
use crate::postgres::{self, DATABASE};

/// Everything has come to rest by then.
const REST: Duration = Duration::from_secs(180);
/// At least one order of so many is taken: few names, and many that are there or gone already.
const TAKEN: usize = 10;
/// Few names, so that orders get in each other's way.
const INSTANCES: [&str; 2] = ["one", "two"];
/// Orders of one kind that are there at a time, at most.
const OF_A_KIND: u32 = 4;
/// The kinds that people make; what refers to others first.
const KINDS: [&str; 4] = ["restore", "backup", "servicebinding", "postgresql"];

/// Something that somebody wants done.
enum Order {
    Make(&'static str, Value),
    Scale(&'static str, u32),
    Delete(&'static str, String),
    Kill(String),
}

impl Order {
    fn any(random: &mut StdRng) -> Self {
        let instance = INSTANCES.choose(random).copied().unwrap_or("one");
        let of = json!({"apiGroup": "postgresql.anynines.com", "kind": "Postgresql", "name": instance});
        let number = random.random_range(0..OF_A_KIND);
        let made = |kind: &'static str, group: &str, type_: &str, spec: Value| {
            let document = json!({
                "apiVersion": format!("{group}/v1beta3"), "kind": type_,
                "metadata": {"name": format!("{kind}-{number}")}, "spec": spec,
            });
            Self::Make(kind, document)
        };
        match random.random_range(0..20) {
            0..5 => Self::Make(
                "postgresql",
                json!({
                    "apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql",
                    "metadata": {"name": instance},
                    // As small as those that commands make: several fit on any node.
                    "spec": {"version": 15, "replicas": 1, "volumeSize": "1Gi",
                        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "100Mi"}}},
                }),
            ),
            5..9 => made("backup", "backups.anynines.com", "Backup", json!({"serviceInstance": of})),
            9..11 => {
                let backup = format!("backup-{}", random.random_range(0..OF_A_KIND));
                let spec = json!({"serviceInstance": of, "backupName": backup});
                made("restore", "backups.anynines.com", "Restore", spec)
            }
            11..13 => {
                let of =
                    json!({"apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql", "name": instance});
                made("servicebinding", "servicebindings.anynines.com", "ServiceBinding", json!({"instance": of}))
            }
            13..14 => Self::Scale(instance, random.random_range(1..3)),
            14..15 => Self::Delete("postgresql", instance.to_owned()),
            15..16 => Self::Delete("backup", format!("backup-{number}")),
            16..17 => Self::Delete("restore", format!("restore-{number}")),
            17..18 => Self::Delete("servicebinding", format!("servicebinding-{number}")),
            _ => Self::Kill(format!("{instance}-0")),
        }
    }

    /// Gives the order, and tells whether it was taken. That it is refused, for what is not there or there already, is as good
    /// an end as any.
    async fn give(&self, world: &World) -> Result<bool, Failure> {
        let (client, namespace) = (world.client().await?, world.namespace());
        let answer = match self {
            Self::Make(kind, document) => {
                let api = observe::objects(&client, namespace, kind)?;
                let object: DynamicObject = serde_json::from_value(document.clone())?;
                api.create(&PostParams::default(), &object).await.map(drop)
            }
            Self::Scale(name, replicas) => {
                let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
                let api = observe::objects(&client, namespace, "postgresql")?;
                api.patch(name, &PatchParams::default(), &patch).await.map(drop)
            }
            Self::Delete(kind, name) => {
                observe::objects(&client, namespace, kind)?.delete(name, &DeleteParams::default()).await.map(drop)
            }
            Self::Kill(pod) => {
                let parameters = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                observe::objects(&client, namespace, "pod")?.delete(pod, &parameters).await.map(drop)
            }
        };
        match answer {
            Err(kube::Error::Api(status)) if [404, 409, 422].contains(&status.code) => Ok(false),
            answer => Ok(answer.map(|()| true)?),
        }
    }
}

/// Orders, each with the pause after it.
fn orders(random: &mut StdRng, number: usize) -> Vec<(Order, Duration)> {
    (0..number).map(|_| (Order::any(random), Duration::from_millis(random.random_range(0..600)))).collect()
}

/// Gives orders, so many at a time, and counts those that were taken. What becomes of one that nobody hears is `unheard`'s.
async fn give(
    world: &World,
    orders: &[(Order, Duration)],
    at_a_time: usize,
    unheard: impl Fn(Failure) -> Result<bool, Failure>,
) -> Result<usize, Failure> {
    let mut given = stream::iter(orders)
        .map(|(order, pause)| async move {
            let answer = order.give(world).await;
            tokio::time::sleep(*pause).await;
            answer
        })
        .buffered(at_a_time);
    let mut taken = 0;
    while let Some(answer) = given.next().await {
        taken += usize::from(answer.or_else(&unheard)?);
    }
    Ok(taken)
}

/// Orders that are all refused put nothing into disorder.
fn enough(taken: usize, given: usize) -> Result<(), Failure> {
    let least = given / TAKEN;
    Failure::unless(taken >= least, format!("{least} orders taken"), taken)
}

#[when(expr = "{int} orders are given at random, {int} at a time, from the seed {int}")]
async fn given(world: &mut World, number: usize, at_a_time: usize, seed: u64) -> Result<(), Failure> {
    let taken = give(world, &orders(&mut StdRng::seed_from_u64(seed), number), at_a_time, Err).await?;
    enough(taken, number)
}

#[when(
    expr = "{int} orders are given at random, {int} at a time, from the seed {int}, and the cluster is killed and started {int} times"
)]
async fn given_to_the_killed(
    world: &mut World,
    number: usize,
    at_a_time: usize,
    seed: u64,
    times: usize,
) -> Result<(), Failure> {
    let mut random = StdRng::seed_from_u64(seed);
    let orders = orders(&mut random, number);
    let mut taken = 0;
    for some in orders.chunks(number.div_ceil(times)) {
        let there: &World = world;
        let until_killed = Duration::from_millis(random.random_range(0..3000));
        // Those that come after the blow have nobody to hear them; those that were heard count.
        let given = give(there, some, at_a_time, |_| Ok(false));
        let blow = async {
            tokio::time::sleep(until_killed).await;
            cluster::kill_process(there).await
        };
        let (given, struck) = tokio::join!(given, blow);
        struck?;
        taken += given?;
        cluster::start(world).await?;
        world.last()?.require_success()?;
    }
    enough(taken, number)
}

/// Whether an object is where it stays, as its status says: an order at its end, a good or a bad one.
fn is_at_rest(kind: &str, object: &Value) -> bool {
    match kind {
        "postgresql" => object["status"]["clusterStatus"] == "Running",
        "servicebinding" => object["status"]["implemented"] == true,
        _ => ["Complete", "PermanentlyFailed"].iter().any(|end| observe::holds(object, end)),
    }
}

/// Why an object is not at rest; nothing if it is.
async fn unrest(world: &World, kind: &str, object: &DynamicObject) -> Result<Option<String>, Failure> {
    let name = object.name_any();
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Some(format!("the {kind} {name} is being deleted")));
    }
    if is_at_rest(kind, &object.data) {
        return Ok(None);
    }
    if kind == "servicebinding" {
        // It waits for its instance, and says so.
        let instance = object.data["spec"]["instance"]["name"].as_str().unwrap_or_default();
        let there = observe::object(&world.client().await?, world.namespace(), "postgresql", instance).await?;
        return Ok(there.map(|_| format!("the {kind} {name} is not implemented, and its instance is there")));
    }
    Ok(Some(format!("the {kind} {name}: {}", object.data["status"])))
}

#[then("everything comes to rest")]
async fn rest(world: &mut World) -> Result<(), Failure> {
    let client = world.client().await?;
    until("everything to come to rest", REST, || async {
        let mut restless = Vec::new();
        for kind in KINDS {
            for object in observe::objects(&client, world.namespace(), kind)?.list(&ListParams::default()).await? {
                restless.extend(unrest(world, kind, &object).await?);
            }
        }
        Ok(Look::when(restless.is_empty(), restless.join("; ")))
    })
    .await
}

#[then("every instance that is there answers")]
async fn answers(world: &mut World) -> Result<(), Failure> {
    let client = world.client().await?;
    let instances = observe::objects(&client, world.namespace(), "postgresql")?.list(&ListParams::default()).await?;
    if instances.items.is_empty() {
        return Err(Failure::Missing("instance"));
    }
    for instance in instances {
        until(format!("an answer of {}", instance.name_any()), SOON, || async {
            let login = observe::login(&client, world.namespace(), &instance.name_any()).await?;
            let answer = postgres::ask(&login, DATABASE, "SELECT 1").await?;
            Ok(Look::when(answer == ["1"], answer.join(", ")))
        })
        .await?;
    }
    Ok(())
}

#[then("everything that was ordered can be deleted, at once")]
async fn deleted(world: &mut World) -> Result<(), Failure> {
    let (client, namespace) = (world.client().await?, world.namespace());
    for kind in KINDS {
        let api = observe::objects(&client, namespace, kind)?;
        api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    }
    let made = ["postgresql", "backup", "restore", "servicebinding", "statefulset", "pod", "persistentvolumeclaim"];
    until("everything to be gone", REST, || async {
        let mut left = Vec::new();
        for kind in made {
            let all = observe::objects(&client, namespace, kind)?.list(&ListParams::default()).await?;
            left.extend(all.iter().map(|object| format!("the {kind} {}", object.name_any())));
        }
        Ok(Look::when(left.is_empty(), left.join(", ")))
    })
    .await
}

#[then("the store soon has nothing of this namespace")]
async fn nothing_in_store(world: &mut World) -> Result<(), Failure> {
    until("the store to have nothing of this namespace", REST, || async {
        let left = store(world).await?.list(world.namespace()).await.map_err(refused)?;
        Ok(Look::when(left.is_empty(), format!("{left:?}")))
    })
    .await
}
