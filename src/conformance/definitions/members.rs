//! Instances of several members.

use std::collections::BTreeSet;

use a8s_operators::agent::SQL_PORT;
use a8s_operators::instance::names;
use cucumber::{given, then, when};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Endpoints, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};

use crate::conformance::observe::{self, Look, SOON, until};
use crate::conformance::{Failure, World};
use crate::postgres::{self, DATABASE, Login};

pub(super) const ROLE: &str = "a8s.a9s/replication-role";

#[given(expr = "an instance {string} of {int} members")]
async fn given(world: &mut World, name: String, members: u32) -> Result<(), Failure> {
    create(world, name, members).await?;
    world.last()?.require_success()
}

#[when(expr = "I create an instance {string} of {int} members")]
async fn create(world: &mut World, name: String, members: u32) -> Result<(), Failure> {
    let members = members.to_string();
    let words =
        ["create", "pg", "instance", "--name", &name, "--replicas", &members, "--limits-memory", "200Mi", "--yes"];
    // Many scenarios share a node: what a member asks for is kept from the others, whether it needs it or not.
    world.a9s(&[&words[..], &["--requests-cpu", "10m"]].concat()).await.map(drop)
}

#[when(expr = "I scale {string} to {int} members")]
pub(super) async fn scale(world: &mut World, name: String, members: u32) -> Result<(), Failure> {
    let instances = observe::objects(&world.client().await?, world.namespace(), "postgresql")?;
    let patch = serde_json::json!({"spec": {"replicas": members}});
    instances.patch_scale(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// The pods of an instance.
pub(super) async fn pods(world: &World, instance: &str) -> Result<Vec<Pod>, Failure> {
    observe::members(&world.client().await?, world.namespace(), instance).await
}

/// Whether a pod's condition `Ready` holds.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The name of the one member that is ready and labelled as the primary.
pub(super) fn primary_of(pods: &[Pod]) -> Result<String, String> {
    let role = |pod: &Pod| pod.labels().get(ROLE).cloned().unwrap_or_default();
    let primaries: Vec<&Pod> = pods.iter().filter(|pod| role(pod) == "master" && is_ready(pod)).collect();
    match primaries.as_slice() {
        [one] => Ok(one.name_any()),
        _ => Err(pods
            .iter()
            .map(|pod| format!("{} {} {}", pod.name_any(), role(pod), is_ready(pod)))
            .collect::<Vec<_>>()
            .join(", ")),
    }
}

/// The members that are not the one primary.
pub(super) async fn standbys(world: &World, instance: &str) -> Result<Vec<Pod>, Failure> {
    let mut pods = pods(world, instance).await?;
    let primary = primary_of(&pods).map_err(|found| Failure::unexpected("one primary", found))?;
    pods.retain(|pod| pod.name_any() != primary);
    Ok(pods)
}

#[then(expr = "the Service {string} soon leads to the standbys of {string}, and to nobody else")]
async fn leads_to_standbys(world: &mut World, service: String, name: String) -> Result<(), Failure> {
    leads_to(world, &service, || standbys(world, &name)).await
}

#[then(expr = "the Service {string} soon leads to every member of {string}")]
async fn leads_to_all(world: &mut World, service: String, name: String) -> Result<(), Failure> {
    leads_to(world, &service, || pods(world, &name)).await
}

/// Waits until exactly these pods are behind a Service.
async fn leads_to(
    world: &World,
    service: &str,
    wanted: impl AsyncFn() -> Result<Vec<Pod>, Failure>,
) -> Result<(), Failure> {
    let endpoints: Api<Endpoints> = Api::namespaced(world.client().await?, world.namespace());
    until(format!("the pods behind {service}"), SOON, || async {
        let subsets = endpoints.get_opt(service).await?.and_then(|it| it.subsets).unwrap_or_default();
        let addresses = subsets.into_iter().flat_map(|subset| subset.addresses.unwrap_or_default());
        let found: BTreeSet<String> = addresses.filter_map(|address| address.target_ref?.name).collect();
        let wanted: BTreeSet<String> = wanted().await?.iter().map(ResourceExt::name_any).collect();
        Ok(Look::when(!wanted.is_empty() && found == wanted, format!("{found:?} instead of {wanted:?}")))
    })
    .await
}

#[then(expr = "every standby of {string} refuses {string} with {string}")]
async fn standbys_refuse(world: &mut World, name: String, sql: String, reason: String) -> Result<(), Failure> {
    for pod in standbys(world, &name).await? {
        let login = member_login(world, &name, &pod).await?;
        match postgres::ask(&login, DATABASE, &sql).await {
            Err(failure) if failure.to_string().contains(&reason) => {}
            found => return Err(Failure::unexpected(format!("{reason} of {}", pod.name_any()), format!("{found:?}"))),
        }
    }
    Ok(())
}

#[then(expr = "{string} has one primary and {int} standbys")]
pub(super) async fn roles(world: &mut World, name: String, standbys: usize) -> Result<(), Failure> {
    until(format!("one primary and {standbys} standbys of {name}"), SOON, || async {
        let pods = pods(world, &name).await?;
        let replicas = pods
            .iter()
            .filter(|pod| is_ready(pod) && pod.labels().get(ROLE).is_some_and(|role| role == "replica"))
            .count();
        Ok(match primary_of(&pods) {
            // The labels are those of the last time the agents reached the API.
            Ok(primary) if replicas == standbys && pods.len() == standbys + 1 => {
                let pod = pods.iter().find(|pod| pod.name_any() == primary).ok_or(Failure::Missing("primary"))?;
                let query = "SELECT pg_is_in_recovery()";
                let answer = postgres::ask(&member_login(world, &name, pod).await?, DATABASE, query).await?;
                Look::when(answer == ["f"], format!("{primary} is in recovery"))
            }
            Ok(primary) => {
                Look::NotYet(format!("the primary {primary} and {replicas} standbys of {} pods", pods.len()))
            }
            Err(found) => Look::NotYet(found),
        })
    })
    .await
}

/// A way in to one member, not to the Service.
pub(super) async fn member_login(world: &World, instance: &str, pod: &Pod) -> Result<Login, Failure> {
    let client = world.client().await?;
    let login = observe::login(&client, world.namespace(), instance).await?;
    let (host, port) = observe::at_port(&client, pod, SQL_PORT).await?;
    Ok(Login { host, port, ..login })
}

/// Another member that is becomes the primary: whoever drains a node would see to that.
#[given(expr = "the primary of {string} is alone on its node")]
async fn alone(world: &mut World, name: String) -> Result<(), Failure> {
    let pods = pods(world, &name).await?;
    let primary = primary_of(&pods).map_err(|found| Failure::unexpected("one primary", found))?;
    let is_alone = |pod: &&Pod| pods.iter().filter(|other| node(other) == node(pod)).count() == 1;
    let mut alone = pods.iter().filter(is_alone).map(ResourceExt::name_any).peekable();
    let first = alone.peek().cloned().ok_or(Failure::Missing("member that is alone on its node"))?;
    if alone.any(|member| member == primary) {
        return Ok(());
    }
    world.a9s(&["pg", "failover", &name, "--to", &first, "--yes"]).await?.require_success()
}

fn node(pod: &Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone())
}

#[then(expr = "the members of {string} are on {int} nodes")]
async fn on_nodes(world: &mut World, name: String, wanted: usize) -> Result<(), Failure> {
    let nodes: BTreeSet<String> = pods(world, &name).await?.iter().filter_map(node).collect();
    Failure::unless(nodes.len() == wanted, format!("{wanted} nodes"), format!("{nodes:?}"))
}

#[then(expr = "{string} soon has no member")]
pub(super) async fn no_member(world: &mut World, name: String) -> Result<(), Failure> {
    // A kubelet that has much to do removes a pod long after its containers have ended.
    until(format!("the end of the members of {name}"), SOON * 2, || async {
        let there: Vec<String> = pods(world, &name).await?.iter().map(ResourceExt::name_any).collect();
        Ok(Look::when(there.is_empty(), there.join(", ")))
    })
    .await
}

#[then(expr = "every member of {string} soon answers {string} with {string}")]
pub(super) async fn all_answer(world: &mut World, name: String, sql: String, answer: String) -> Result<(), Failure> {
    until(format!("{answer:?} for {sql} of every member"), SOON, || async {
        let pods = pods(world, &name).await?;
        if pods.is_empty() {
            return Ok(Look::NotYet("there is no member".to_owned()));
        }
        for pod in pods {
            let found = postgres::ask(&member_login(world, &name, &pod).await?, DATABASE, &sql).await?.join("\n");
            if found != answer {
                return Ok(Look::NotYet(format!("{} says {found:?}", pod.name_any())));
            }
        }
        Ok(Look::Yes(()))
    })
    .await
}

#[then(expr = "the members of {string} have the same system identifier, and {string} has another")]
async fn identifiers(world: &mut World, name: String, other: String) -> Result<(), Failure> {
    let mut found = Vec::new();
    for instance in [&name, &other] {
        for pod in pods(world, instance).await? {
            let login = member_login(world, instance, &pod).await?;
            let query = "SELECT system_identifier FROM pg_control_system()";
            found.push((instance.clone(), postgres::ask(&login, DATABASE, query).await?.join("")));
        }
    }
    let of = |instance: &str| {
        let mut all: Vec<&String> = found.iter().filter(|(name, _)| name == instance).map(|(_, id)| id).collect();
        all.dedup();
        all
    };
    let (own, others) = (of(&name), of(&other));
    let are_different = own.len() == 1 && others.len() == 1 && own != others;
    Failure::unless(are_different, "one identifier per instance", format!("{found:?}"))
}

#[then(expr = "the Lease of {string} names its primary, in term {int}")]
async fn lease(world: &mut World, name: String, term: i32) -> Result<(), Failure> {
    let primary = primary_of(&pods(world, &name).await?).map_err(|found| Failure::unexpected("one primary", found))?;
    let leases: Api<Lease> = Api::namespaced(world.client().await?, world.namespace());
    let spec = leases.get(&name).await?.spec.unwrap_or_default();
    let found = (spec.holder_identity.unwrap_or_default(), spec.lease_transitions.unwrap_or_default());
    Failure::unless(found == (primary.clone(), term), format!("{primary} in term {term}"), format!("{found:?}"))
}

#[then(expr = "the volumes of {string} soon have {string}")]
async fn volumes(world: &mut World, name: String, size: String) -> Result<(), Failure> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(world.client().await?, world.namespace());
    let of_instance = ListParams::default().labels(&format!("a8s.a9s/dsi-name={name}"));
    until(format!("volumes of {size}"), SOON, || async {
        let claims = claims.list(&of_instance).await?.items;
        let sizes = claims.into_iter().map(|claim| claim.status?.capacity?.remove("storage").map(|size| size.0));
        let sizes: Vec<Option<String>> = sizes.collect();
        let are = !sizes.is_empty() && sizes.iter().all(|found| found.as_deref() == Some(size.as_str()));
        Ok(Look::when(are, format!("{sizes:?}")))
    })
    .await
}

/// As a disk that was replaced: the claim goes, and the pod with it.
#[when(expr = "the member {string} loses its volume")]
pub(super) async fn lose_volume(world: &mut World, pod: String) -> Result<(), Failure> {
    let client = world.client().await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), world.namespace());
    let pods: Api<Pod> = Api::namespaced(client, world.namespace());
    let claim = names::data_claim(&pod);
    let uid = claims.get(&claim).await?.uid();
    claims.delete(&claim, &DeleteParams::default()).await?;
    // Without grace, as a machine that is gone has none.
    pods.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
    until(format!("another volume of {pod}"), SOON, || async {
        let now = claims.get_opt(&claim).await?.and_then(|claim| claim.uid());
        Ok(Look::when(now.is_some() && now != uid, format!("{now:?}")))
    })
    .await
}

#[then(expr = "the status of {string} soon says {string}")]
async fn status(world: &mut World, name: String, text: String) -> Result<(), Failure> {
    let client = world.client().await?;
    until(format!("{text:?} in the status of {name}"), SOON, || async {
        let object = observe::object(&client, world.namespace(), "postgresql", &name).await?.unwrap_or_default();
        let error = object["status"]["error"].as_str().unwrap_or_default();
        Ok(Look::when(error.contains(&text), &object["status"]))
    })
    .await
}

#[then(expr = "the status of {string} soon has no error")]
async fn healthy(world: &mut World, name: String) -> Result<(), Failure> {
    let client = world.client().await?;
    until(format!("no error in the status of {name}"), SOON, || async {
        let object = observe::object(&client, world.namespace(), "postgresql", &name).await?.unwrap_or_default();
        let status = &object["status"];
        Ok(Look::when(status.is_object() && status["error"].is_null(), status))
    })
    .await
}
