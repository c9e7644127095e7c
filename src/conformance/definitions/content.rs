//! The whole content of an instance, compared before and after.

use std::time::Duration;

use cucumber::{given, then, when};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::instance::pod_uid;
use crate::conformance::observe::{self, within};
use crate::conformance::{Failure, World, command};
use crate::postgres::{self, DATABASE, Login};

/// Every table with a hash of its rows, as one text.
async fn content(login: &Login) -> Result<String, Failure> {
    let tables = "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables \
                  WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";
    let mut text = String::new();
    for table in postgres::ask(login, DATABASE, tables).await? {
        let hash = format!("SELECT md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {table} t");
        text += &format!("{table} {}\n", postgres::ask(login, DATABASE, &hash).await?.join(""));
    }
    Ok(text)
}

async fn login(world: &World, instance: &str) -> Result<Login, Failure> {
    observe::login(&world.client().await?, world.namespace(), instance).await
}

#[given(expr = "I remember the content of {string}")]
async fn remember(world: &mut World, instance: String) -> Result<(), Failure> {
    let content = content(&login(world, &instance).await?).await?;
    let uid = pod_uid(world, world.namespace(), &instance).await?;
    world.notes.insert(format!("content of {instance}"), content);
    world.notes.insert(format!("pod of {instance}"), uid);
    Ok(())
}

#[then(expr = "the content of {string} is as I remember it")]
async fn is_same(world: &mut World, instance: String) -> Result<(), Failure> {
    let found = content(&login(world, &instance).await?).await?;
    let expected = world.notes.get(&format!("content of {instance}")).ok_or(Failure::Missing("content"))?;
    Failure::unless(found == *expected, expected, found)
}

#[then(expr = "the pod of {string} is the same as before")]
async fn same_pod(world: &mut World, instance: String) -> Result<(), Failure> {
    let (found, before) = pods_of(world, world.namespace(), &instance).await?;
    Failure::unless(found == before, before, found)
}

#[when(regex = r#"^I remember the pod of "([^"]+)"(?: in the namespace "([^"]+)")?$"#)]
async fn remember_pod(world: &mut World, instance: String, namespace: String) -> Result<(), Failure> {
    let uid = pod_uid(world, &world.namespace_or_own(&namespace), &instance).await?;
    world.notes.insert(format!("pod of {instance}"), uid);
    Ok(())
}

#[then(regex = r#"^the pod of "([^"]+)"(?: in the namespace "([^"]+)")? is another than before$"#)]
async fn other_pod(world: &mut World, instance: String, namespace: String) -> Result<(), Failure> {
    let (found, before) = pods_of(world, &world.namespace_or_own(&namespace), &instance).await?;
    Failure::unless(found != before, format!("another pod of {instance}"), found)
}

/// The pod that is there now and the one that is remembered.
async fn pods_of(world: &World, namespace: &str, instance: &str) -> Result<(String, String), Failure> {
    let before = world.notes.get(&format!("pod of {instance}")).cloned().ok_or(Failure::Missing("pod"))?;
    Ok((pod_uid(world, namespace, instance).await?, before))
}

/// They stay connected, in the middle of a transaction, until the scenario ends or somebody ends them.
#[given(expr = "{int} clients are connected to {string}")]
async fn connected(world: &mut World, number: usize, instance: String) -> Result<(), Failure> {
    let login = login(world, &instance).await?;
    for _ in 0..number {
        let client = postgres::connect(&login, DATABASE).await?;
        client.batch_execute("BEGIN; SELECT count(*) FROM pg_class").await?;
        world.clients.push(client);
    }
    Ok(())
}

#[given(expr = "a port-forward to {string}")]
async fn forward(world: &mut World, instance: String) -> Result<(), Failure> {
    let mut login = login(world, &instance).await?;
    let mut child =
        command::start_kubectl(&world.surroundings, &["port-forward", &format!("pod/{instance}-0"), ":5432"])?;
    let stdout = child.stdout.take().ok_or(Failure::Missing("output of port-forward"))?;
    world.background.push(child);
    let mut lines = BufReader::new(stdout).lines();
    let line = within("a word of the port-forward", Duration::from_secs(20), lines.next_line()).await?;
    let line = line.unwrap_or_default();
    // It says something for every connection, and would end if nobody listened.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let port = line.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok());
    login.port = port.ok_or_else(|| Failure::unexpected("Forwarding from 127.0.0.1:…", line))?;
    "127.0.0.1".clone_into(&mut login.host);
    world.forward = Some(login);
    Ok(())
}

#[then(expr = "the port-forward answers {string} with {string} at the first attempt")]
async fn forwarded(world: &mut World, sql: String, answer: String) -> Result<(), Failure> {
    let login = world.forward.clone().ok_or(Failure::Missing("port-forward"))?;
    let found = postgres::ask(&login, DATABASE, &sql).await?.join("\n");
    Failure::unless(found == answer, answer, found)
}

/// The server sees it come from its own pod.
#[then("through the port-forward a client gets in without TLS")]
async fn forwarded_in_the_clear(world: &mut World) -> Result<(), Failure> {
    let login = world.forward.clone().ok_or(Failure::Missing("port-forward"))?;
    Ok(postgres::connect_in_the_clear(&login, DATABASE).await.map(drop)?)
}
