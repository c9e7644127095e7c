//! SQL: files and statements through the program, answers through PostgreSQL's own protocol.

use cucumber::gherkin::Step;
use cucumber::{given, then, when};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt;

use super::instance::rows;
use crate::conformance::observe::{self, Look, SOON, until, within};
use crate::conformance::{Failure, World};
use crate::postgres::{self, DATABASE};

#[given(expr = "an SQL file {string}:")]
async fn file(world: &mut World, name: String, step: &Step) -> Result<(), Failure> {
    let text = step.docstring.as_deref().unwrap_or_default().trim_start_matches('\n');
    let path = world.surroundings.home.join(name);
    fs_err::create_dir_all(path.parent().unwrap_or(&path))?;
    Ok(fs_err::write(path, text)?)
}

#[given(expr = "an SQL file {string} of {int} rows")]
async fn long_file(world: &mut World, name: String, rows: usize) -> Result<(), Failure> {
    let mut text = String::from("BEGIN;\nCREATE TABLE long (id int, line text);\n");
    for row in 0..rows {
        text.push_str(&format!(
            "INSERT INTO long VALUES ({row}, 'a line of text to make the file long enough {row}');\n"
        ));
    }
    text.push_str("COMMIT;\n");
    Ok(fs_err::write(world.surroundings.home.join(name), text)?)
}

#[given(expr = "the blog data set as {string}")]
async fn blog(world: &mut World, name: String) -> Result<(), Failure> {
    let text = include_str!("../../../scenarios/blog/posts.sql");
    Ok(fs_err::write(world.surroundings.home.join(name), text)?)
}

#[given(expr = "{int} bytes of random data as {string}")]
async fn garbage(world: &mut World, bytes: usize, name: String) -> Result<(), Failure> {
    let data: Vec<u8> = (0..bytes).map(|_| rand::random::<u8>()).collect();
    Ok(fs_err::write(world.surroundings.home.join(name), data)?)
}

#[given(expr = "I have applied the file {string} to {string}")]
async fn have_applied_file(world: &mut World, file: String, instance: String) -> Result<(), Failure> {
    apply_file(world, file, instance).await?;
    world.last()?.require_success()
}

#[when(expr = "I apply the file {string} to {string}")]
async fn apply_file(world: &mut World, file: String, instance: String) -> Result<(), Failure> {
    world.a9s(&["pg", "apply", "--service-instance", &instance, "--file", &file, "--yes"]).await.map(drop)
}

#[given(expr = "the table {string} of {string} holds {string}")]
async fn filled_table(world: &mut World, table: String, instance: String, value: String) -> Result<(), Failure> {
    let sql = format!("CREATE TABLE {table} (value text); INSERT INTO {table} VALUES ('{value}')");
    apply_statement(world, sql, instance).await?;
    world.last()?.require_success()
}

#[given(expr = "I have applied the statement {string} to {string}")]
async fn have_applied_statement(world: &mut World, sql: String, instance: String) -> Result<(), Failure> {
    apply_statement(world, sql, instance).await?;
    world.last()?.require_success()
}

#[when(expr = "I apply the statement {string} to {string}")]
pub(super) async fn apply_statement(world: &mut World, sql: String, instance: String) -> Result<(), Failure> {
    world.a9s(&["pg", "apply", "--service-instance", &instance, "--sql", &sql, "--yes"]).await.map(drop)
}

#[when(expr = "I apply the statement {string} to {string} in the namespace {string}")]
async fn apply_statement_in(
    world: &mut World,
    sql: String,
    instance: String,
    namespace: String,
) -> Result<(), Failure> {
    let namespace = world.namespace_called(&namespace);
    let words = ["pg", "apply", "-i", &instance, "-n", &namespace, "--sql", &sql, "--yes"];
    world.a9s(&words).await.map(drop)
}

#[when(expr = "I apply the files {string} and {string} to {string} at the same time")]
async fn two_files(world: &mut World, one: String, other: String, instance: String) -> Result<(), Failure> {
    let surroundings = world.surroundings.clone();
    let first = ["pg", "apply", "-i", &instance, "--file", &one, "--yes"];
    let second = ["pg", "apply", "-i", &instance, "--file", &other, "--yes"];
    let (first, second) = tokio::try_join!(
        crate::conformance::command::a9s(&surroundings, &first),
        crate::conformance::command::a9s(&surroundings, &second)
    )?;
    first.require_success()?;
    world.remember(first);
    world.remember(second);
    Ok(())
}

/// Over TCP with TLS and scram, as the administrator: what any client of the instance would be told.
#[then(expr = "{string} answers {string} with {string}")]
async fn answers(world: &mut World, instance: String, sql: String, answer: String) -> Result<(), Failure> {
    let namespace = world.namespace().to_owned();
    answers_with(world, &namespace, &instance, &sql, &answer).await
}

#[then(expr = "{string} in the namespace {string} answers {string} with {string}")]
async fn answers_in(
    world: &mut World,
    instance: String,
    namespace: String,
    sql: String,
    answer: String,
) -> Result<(), Failure> {
    let namespace = world.namespace_called(&namespace);
    answers_with(world, &namespace, &instance, &sql, &answer).await
}

/// A connection may fail while a server comes back; an answer that is given must be the right one at once.
async fn answers_with(world: &World, namespace: &str, instance: &str, sql: &str, answer: &str) -> Result<(), Failure> {
    let client = world.client().await?;
    let found = until(format!("an answer of {instance}"), SOON, || async {
        let login = observe::login(&client, namespace, instance).await?;
        match postgres::ask(&login, DATABASE, sql).await {
            Ok(rows) => Ok(Look::Yes(Ok(rows.join("\n")))),
            Err(error) if error.is_answer() => Ok(Look::Yes(Err(Failure::Database(error)))),
            Err(error) => Err(error.into()),
        }
    })
    .await??;
    Failure::unless(found == answer, format!("{answer:?} for {sql}"), format!("{found:?}"))
}

#[then(expr = "{string} refuses a wrong password")]
async fn wrong_password(world: &mut World, instance: String) -> Result<(), Failure> {
    let mut login = observe::login(&world.client().await?, world.namespace(), &instance).await?;
    login.password.push('x');
    refused(postgres::connect(&login, DATABASE).await.map(drop), "28P01")
}

#[then(expr = "{string} refuses a connection without TLS")]
async fn without_tls(world: &mut World, instance: String) -> Result<(), Failure> {
    let login = observe::login(&world.client().await?, world.namespace(), &instance).await?;
    refused(postgres::connect_in_the_clear(&login, DATABASE).await.map(drop), "28000")
}

fn refused(attempt: Result<(), postgres::Error>, code: &str) -> Result<(), Failure> {
    match attempt {
        Err(error) if error.code() == Some(code) => Ok(()),
        Err(error) => Err(Failure::unexpected(format!("the refusal {code}"), error.to_string())),
        Ok(()) => Err(Failure::unexpected(format!("the refusal {code}"), "a connection")),
    }
}

#[then(expr = "the server of {string} shows these settings:")]
async fn settings(world: &mut World, instance: String, step: &Step) -> Result<(), Failure> {
    let client = world.client().await?;
    let login = observe::login(&client, world.namespace(), &instance).await?;
    until("these settings", SOON, || async {
        let mut wrong = Vec::new();
        for row in rows(step) {
            let [name, wanted] = row.as_slice() else { continue };
            let found = postgres::ask(&login, DATABASE, &format!("SHOW {name}")).await?.join("");
            if found != *wanted {
                wrong.push(format!("{name} = {found}, not {wanted}"));
            }
        }
        Ok(Look::when(wrong.is_empty(), wrong.join(", ")))
    })
    .await
}

/// The server's directory for temporary files holds no file of a user.
#[then(expr = "no uploaded file is left in the pod of {string}")]
async fn nothing_uploaded(world: &mut World, instance: String) -> Result<(), Failure> {
    let listing = in_pod(world, &instance, &["ls", "-A", "/tmp"]).await?;
    let left: Vec<&str> = listing.lines().filter(|name| name.contains("sql")).collect();
    Failure::unless(left.is_empty(), "no uploaded file", listing)
}

#[then(expr = "the uploaded file is still in the pod of {string}")]
async fn still_uploaded(world: &mut World, instance: String) -> Result<(), Failure> {
    let listing = in_pod(world, &instance, &["ls", "-A", "/tmp"]).await?;
    let left = listing.lines().any(|name| name.contains("sql"));
    Failure::unless(left, "the uploaded file", listing)
}

/// The standard output of a command in the container of the server. One that fails has looked at nothing.
async fn in_pod(world: &World, instance: &str, command: &[&str]) -> Result<String, Failure> {
    let what = format!("the end of {command:?} in the pod of {instance}");
    within(what, SOON, said_in_pod(world, instance, command)).await
}

async fn said_in_pod(world: &World, instance: &str, command: &[&str]) -> Result<String, Failure> {
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    let params = AttachParams::default().container("postgres").stdout(true).stderr(false);
    let mut process = pods.exec(&format!("{instance}-0"), command.iter().copied(), &params).await?;
    let status = process.take_status();
    let mut text = String::new();
    if let Some(mut stdout) = process.stdout() {
        stdout.read_to_string(&mut text).await?;
    }
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let is_success = status.as_ref().is_some_and(|status| status.status.as_deref() == Some("Success"));
    if is_success {
        Ok(text)
    } else {
        Err(Failure::unexpected(format!("{command:?} to succeed"), format!("{status:?}")))
    }
}
