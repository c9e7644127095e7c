//! Service bindings, their Secrets, and what their logins may do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cucumber::gherkin::Step;
use cucumber::{given, then, when};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::files::below;
use crate::conformance::command;
use crate::conformance::observe::{self, Look, SOON, until, within};
use crate::conformance::world::Connected;
use crate::conformance::{Failure, World};
use crate::postgres::{self, Login};

#[when(expr = "I create a service binding {string} to {string}")]
async fn create(world: &mut World, name: String, instance: String) -> Result<(), Failure> {
    let words = ["create", "pg", "servicebinding", "--name", &name, "--service-instance", &instance, "--yes"];
    world.a9s(&words).await.map(drop)
}

/// A list such as `"one", "two"`.
fn names(list: &str) -> Vec<String> {
    list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect()
}

#[given(regex = r#"^service bindings (".+") to "([^"]+)"$"#)]
async fn given(world: &mut World, list: String, instance: String) -> Result<(), Failure> {
    for name in names(&list) {
        create(world, name.clone(), instance.clone()).await?;
        world.last()?.require_success()?;
        // A login is also needed when its binding is gone.
        let login = login(world, world.namespace(), &name).await?;
        world.logins.insert(name, login);
    }
    Ok(())
}

async fn words(world: &World, namespace: &str, binding: &str) -> Result<BTreeMap<String, String>, Failure> {
    let secrets: Api<Secret> = Api::namespaced(world.client().await?, namespace);
    let data = secrets.get(&format!("{binding}-service-binding")).await?.data.unwrap_or_default();
    Ok(data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
}

/// What the Secret tells an application: where, who, and the database.
async fn login(world: &World, namespace: &str, binding: &str) -> Result<(Login, String), Failure> {
    let words = words(world, namespace, binding).await?;
    let word =
        |key: &str| words.get(key).cloned().ok_or_else(|| Failure::unexpected(format!("the word {key}"), "none"));
    let service = word("instance_service")?;
    let (service, namespace) =
        service.split_once('.').ok_or_else(|| Failure::unexpected("<service>.<namespace>", service.clone()))?;
    let (host, port) = observe::of_service(&world.client().await?, namespace, service).await?;
    Ok((Login { host, port, user: word("username")?, password: word("password")? }, word("database")?))
}

#[then(expr = "the Secret of {string} tells the login that it told before")]
async fn same_login(world: &mut World, name: String) -> Result<(), Failure> {
    let before = world.logins.get(&name).ok_or(Failure::Missing("login"))?;
    let now = login(world, world.namespace(), &name).await?;
    let told = |(login, database): &(Login, String)| {
        (login.user.clone(), login.password.clone(), database.clone(), login.port)
    };
    // What differs is a password: it is not said.
    Failure::unless(told(before) == told(&now), "the login that it told before", "another")
}

async fn run(world: &World, namespace: &str, binding: &str, sql: &str) -> Result<String, Failure> {
    let (login, database) = login(world, namespace, binding).await?;
    // A server may just be coming back.
    until(format!("an answer to {binding}"), SOON, || async {
        match postgres::ask(&login, &database, sql).await {
            Ok(rows) => Ok(Look::Yes(Ok(rows.join("\n")))),
            Err(error) if error.is_answer() => Ok(Look::Yes(Err(error.into()))),
            Err(other) => Err(other.into()),
        }
    })
    .await?
}

#[when(expr = "as {string} the statement {string} is run")]
async fn statement(world: &mut World, binding: String, sql: String) -> Result<(), Failure> {
    run(world, world.namespace(), &binding, &sql).await.map(drop)
}

#[when(expr = "as {string} these statements are run:")]
async fn statements_of(world: &mut World, binding: String, step: &Step) -> Result<(), Failure> {
    let sql = step.docstring.as_deref().unwrap_or_default();
    run(world, world.namespace(), &binding, sql).await.map(drop)
}

#[when(regex = r#"^as each of (".+") the statement "(.+)" is run$"#)]
async fn statements(world: &mut World, list: String, sql: String) -> Result<(), Failure> {
    for binding in names(&list) {
        run(world, world.namespace(), &binding, &sql).await?;
    }
    Ok(())
}

#[then(expr = "as {string} the statement {string} answers {string}")]
async fn answers(world: &mut World, binding: String, sql: String, answer: String) -> Result<(), Failure> {
    let found = run(world, world.namespace(), &binding, &sql).await?;
    Failure::unless(found == answer, answer, found)
}

#[then(expr = "as {string} of the namespace {string} the statement {string} answers {string}")]
async fn answers_in(
    world: &mut World,
    binding: String,
    namespace: String,
    sql: String,
    answer: String,
) -> Result<(), Failure> {
    let found = run(world, &world.namespace_called(&namespace), &binding, &sql).await?;
    Failure::unless(found == answer, answer, found)
}

#[then(expr = "the service binding {string} has exactly four words in its Secret")]
async fn four_words(world: &mut World, binding: String) -> Result<(), Failure> {
    let words = words(world, world.namespace(), &binding).await?;
    let keys: Vec<&str> = words.keys().map(String::as_str).collect();
    let is_plain = |word: &str, length| word.len() == length && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let suffix = words.get("username").and_then(|name| name.strip_prefix("a8s-sb-")).unwrap_or_default();
    let password = words.get("password").map(String::as_str).unwrap_or_default();
    let are_right = keys == ["database", "instance_service", "password", "username"]
        && is_plain(suffix, 9)
        && is_plain(password, 32);
    let found = format!("{keys:?}, a name with the suffix {suffix:?}");
    Failure::unless(are_right, "four words as of the reference", found)
}

#[then(expr = "the service binding {string} has the events {string}")]
async fn events(world: &mut World, binding: String, reasons: String) -> Result<(), Failure> {
    let client = world.client().await?;
    let object = observe::object(&client, world.namespace(), "servicebinding", &binding).await?.unwrap_or_default();
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client, world.namespace());
    until(format!("the events {reasons}"), SOON, || async {
        let list = events.list(&ListParams::default().fields(&format!("involvedObject.uid={uid}"))).await?;
        let mut found: Vec<String> = list.items.into_iter().filter_map(|event| event.reason).collect();
        found.sort();
        Ok(Look::when(found.join(",") == reasons, found.join(",")))
    })
    .await
}

async fn status(world: &World, binding: &str) -> Result<Value, Failure> {
    let object = observe::object(&world.client().await?, world.namespace(), "servicebinding", binding).await?;
    Ok(object.map(|object| object["status"].clone()).unwrap_or_default())
}

#[then(expr = "the service binding {string} is implemented within {int} seconds")]
async fn implemented(world: &mut World, binding: String, seconds: u64) -> Result<(), Failure> {
    until(format!("service binding {binding}"), Duration::from_secs(seconds), || async {
        let status = status(world, &binding).await?;
        Ok(Look::when(status["implemented"] == true && status["error"].is_null(), status))
    })
    .await
}

#[then(expr = "the service binding {string} soon tells the error {string}")]
async fn tells(world: &mut World, binding: String, text: String) -> Result<(), Failure> {
    let text = world.expand(&text);
    until(format!("the error of {binding}"), SOON, || async {
        let status = status(world, &binding).await?;
        Ok(Look::when(status["implemented"] == false && status["error"] == text, status))
    })
    .await
}

/// As somebody who may write Secrets does it: the finalizer goes, and the Secret with it; and the other one has to be there
/// before the stack has made a new one.
#[when(expr = "somebody puts a Secret with the username {string} in the place of that of {string}")]
async fn usurp(world: &mut World, username: String, binding: String) -> Result<(), Failure> {
    let secrets: Api<Secret> = Api::namespaced(world.client().await?, world.namespace());
    let name = format!("{binding}-service-binding");
    let mut forged = secrets.get(&name).await?;
    forged.metadata.finalizers = None;
    forged.metadata.resource_version = None;
    forged.metadata.uid = None;
    forged.data.get_or_insert_default().insert("username".to_owned(), ByteString(username.into_bytes()));
    until(format!("another Secret {name}"), SOON, || async {
        let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        // Whether it is there or not: what counts is who makes the next one.
        let _ = secrets.patch(&name, &PatchParams::default(), &release).await;
        let _ = secrets.delete(&name, &DeleteParams::default()).await;
        secrets.create(&PostParams::default(), &forged).await?;
        Ok(Look::Yes(()))
    })
    .await
}

#[given(expr = "a session of {string} is open")]
async fn session(world: &mut World, binding: String) -> Result<(), Failure> {
    let (login, database) = login(world, world.namespace(), &binding).await?;
    let client = postgres::connect(&login, &database).await?;
    client.simple_query("SELECT 1").await?;
    world.sessions.insert(binding, client);
    Ok(())
}

/// Names a session that holds a lock.
fn lock(instance: &str) -> String {
    format!("lock of {instance}")
}

/// Readers of the roles go on, so that everybody can still log in (PostgreSQL manual, 13.3.1).
#[given(expr = "no login can be made in {string}")]
async fn lock_roles(world: &mut World, instance: String) -> Result<(), Failure> {
    let login = observe::login(&world.client().await?, world.namespace(), &instance).await?;
    let client = postgres::connect(&login, "postgres").await?;
    client.batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_authid IN SHARE MODE").await?;
    world.sessions.insert(lock(&instance), client);
    Ok(())
}

#[when(expr = "logins can be made in {string} again")]
#[when(expr = "the transaction in {string} ends")]
async fn unlock_roles(world: &mut World, instance: String) -> Result<(), Failure> {
    let session = world.sessions.remove(&lock(&instance)).ok_or(Failure::Missing("session with the lock"))?;
    Ok(session.batch_execute("ROLLBACK").await?)
}

#[given(expr = "a transaction that has read the table {string} of {string}")]
async fn read_in_transaction(world: &mut World, table: String, instance: String) -> Result<(), Failure> {
    let login = observe::login(&world.client().await?, world.namespace(), &instance).await?;
    let client = postgres::connect(&login, postgres::DATABASE).await?;
    client.batch_execute(&format!("BEGIN; SELECT * FROM {table}")).await?;
    world.sessions.insert(lock(&instance), client);
    Ok(())
}

#[then(expr = "the session of {string} has been ended")]
async fn session_ended(world: &mut World, binding: String) -> Result<(), Failure> {
    let session = world.sessions.get(&binding).ok_or(Failure::Missing("open session"))?;
    until("the end of the session", Duration::from_secs(5), || async {
        Ok(Look::when(session.is_closed(), "it is open"))
    })
    .await
}

#[then(expr = "the login of {string} is refused")]
async fn login_refused(world: &mut World, binding: String) -> Result<(), Failure> {
    let (login, database) = world.logins.get(&binding).ok_or(Failure::Missing("login"))?;
    match postgres::connect(login, database).await {
        Err(error) if error.code() == Some("28P01") => Ok(()),
        Err(failure) => Err(Failure::unexpected("a refused login", failure.to_string())),
        Ok(_) => Err(Failure::unexpected("a refused login", "a connection")),
    }
}

#[then(regex = r#"^there is no (backup|restore|servicebinding|secret|configmap) "([^"]+)"$"#)]
async fn no_object(world: &mut World, kind: String, name: String) -> Result<(), Failure> {
    let found = observe::object(&world.client().await?, world.namespace(), &kind, &name).await?;
    found.map_or(Ok(()), |object| Err(Failure::unexpected(format!("no {kind} {name}"), object.to_string())))
}

#[then(regex = r#"^there is no (servicebinding|secret|configmap) "([^"]+)"(?: in the namespace "([^"]+)")? soon$"#)]
async fn soon_no_object(world: &mut World, kind: String, name: String, namespace: String) -> Result<(), Failure> {
    let (client, namespace) = (world.client().await?, world.namespace_or_own(&namespace));
    until(format!("the end of {kind} {name}"), Duration::from_secs(10), || async {
        let found = observe::object(&client, &namespace, &kind, &name).await?;
        Ok(Look::when(found.is_none(), found.unwrap_or_default()))
    })
    .await
}

#[when(expr = "I apply {int} service bindings to {string} at once")]
async fn many(world: &mut World, count: usize, instance: String) -> Result<(), Failure> {
    let api = observe::objects(&world.client().await?, world.namespace(), "servicebinding")?;
    let making = (0..count).map(|number| {
        let document = json!({
            "apiVersion": "servicebindings.anynines.com/v1beta3", "kind": "ServiceBinding",
            "metadata": {"name": format!("many-{number}")},
            "spec": {"instance": {
                "apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql", "name": instance,
            }},
        });
        let api = api.clone();
        async move {
            let object: DynamicObject = serde_json::from_value(document)?;
            api.create(&PostParams::default(), &object).await?;
            Ok::<(), Failure>(())
        }
    });
    futures::future::try_join_all(making).await.map(drop)
}

#[then(expr = "all service bindings are implemented within {int} seconds")]
async fn all_implemented(world: &mut World, seconds: u64) -> Result<(), Failure> {
    let api = observe::objects(&world.client().await?, world.namespace(), "servicebinding")?;
    until("all service bindings", Duration::from_secs(seconds), || async {
        let list = api.list(&ListParams::default()).await?.items;
        let left = list.iter().filter(|binding| binding.data["status"]["implemented"] != true).count();
        Ok(Look::when(left == 0 && !list.is_empty(), format!("{left} of {} are not", list.len())))
    })
    .await
}

/// In what commands said, in files of the program, in the logs of the cluster and of the pods, in other objects.
#[then(expr = "the password of {string} is nowhere but in its Secret")]
async fn password_nowhere(world: &mut World, binding: String) -> Result<(), Failure> {
    let (login, _) = login(world, world.namespace(), &binding).await?;
    let mut places: Vec<(String, String)> = Vec::new();
    places.extend(world.outcomes().iter().map(|outcome| (outcome.line.clone(), outcome.transcript())));
    let state = world.surroundings.cluster_state(world.surroundings.default_cluster());
    for path in [&world.surroundings.home, &state].into_iter().flat_map(|folder| below(folder, &["pods", "volumes"])) {
        // The cluster's store, which holds the Secret, is no text.
        if let Ok(text) = fs_err::read_to_string(&path) {
            places.push((path.display().to_string(), text));
        }
    }
    let client = world.client().await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), world.namespace());
    for pod in pods.list(&ListParams::default()).await?.items {
        let name = pod.metadata.name.unwrap_or_default();
        for container in pod.spec.unwrap_or_default().containers {
            let parameters = LogParams { container: Some(container.name.clone()), ..LogParams::default() };
            places.push((format!("log of {name} {}", container.name), pods.logs(&name, &parameters).await?));
        }
    }
    let own = format!("{binding}-service-binding");
    for kind in observe::kinds() {
        for object in observe::all(&client, world.namespace(), kind).await? {
            let name = object.metadata.name.clone().unwrap_or_default();
            if kind != "secret" || name != own {
                places.push((format!("{kind} {name}"), serde_json::to_string(&object)?));
            }
        }
    }
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(&login.password);
    let found = places.iter().find(|(_, text)| text.contains(&login.password) || text.contains(&encoded));
    match found {
        Some((place, _)) => Err(Failure::unexpected("the password nowhere", format!("it in {place}"))),
        None if places.len() < 10 => Err(Failure::unexpected("places to look at", format!("{}", places.len()))),
        None => Ok(()),
    }
}

/// Runs until it is interrupted; its first line is the URL.
#[when(regex = r"^I start `a9s (pg connect [^`]+)`$")]
async fn connect(world: &mut World, line: String) -> Result<(), Failure> {
    let words = command::words(&world.expand(&line));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let since = std::time::Instant::now();
    let mut child = command::start_a9s(&world.surroundings, &words)?;
    let mut lines = BufReader::new(child.stdout.take().ok_or(Failure::Missing("standard output"))?).lines();
    let first = within("its URL", Duration::from_secs(30), lines.next_line()).await;
    let url = first.ok().flatten().unwrap_or_default();
    if !url.starts_with("postgresql://") {
        // It may wait for ever.
        let _ = child.start_kill();
        let output = child.wait_with_output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::unexpected("a URL", format!("{url}\n{said}")));
    }
    let passfile = url.split_once("&passfile=").map(|(_, path)| PathBuf::from(path.replace("%2F", "/")));
    world.connected = Some(Connected { child, url, passfile, since });
    Ok(())
}

fn connected(world: &World) -> Result<&Connected, Failure> {
    world.connected.as_ref().ok_or(Failure::Missing("connection"))
}

/// As a person would use it: by psql of this machine.
async fn psql(connected: &Connected, sql: &str) -> Result<std::process::Output, Failure> {
    let installation = a8s_operators::postgresql::installations().pop().ok_or(Failure::Missing("psql"))?;
    let mut psql = tokio::process::Command::new(installation.bin_directory.join("psql"));
    psql.args(["-XAtw", "-c", sql, &connected.url]).env_remove("PGPASSWORD").stdin(std::process::Stdio::null());
    within("an answer to psql", Duration::from_secs(20), psql.kill_on_drop(true).output()).await
}

#[then(expr = "its URL answers {string} with {string}")]
async fn url_answers(world: &mut World, sql: String, answer: String) -> Result<(), Failure> {
    let connected = connected(world)?;
    until("an answer at the URL", SOON, || async {
        let output = psql(connected, &sql).await?;
        let (found, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok(Look::when(found.trim() == answer, format!("{found}{said}")))
    })
    .await
}

#[then("its URL has no password, and its passfile is private")]
async fn private_url(world: &mut World) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let connected = connected(world)?;
    let user = connected.url.trim_start_matches("postgresql://").split('@').next().unwrap_or_default();
    let passfile = connected.passfile.as_ref().ok_or(Failure::Missing("passfile"))?;
    let mode = fs_err::metadata(passfile)?.permissions().mode() & 0o777;
    let is_private = mode == 0o600 && !user.contains(':');
    Failure::unless(is_private, "a name without a password, and mode 600", format!("{user}, {mode:o}"))
}

#[when("I interrupt it")]
async fn interrupt(world: &mut World) -> Result<(), Failure> {
    let connected = world.connected.as_mut().ok_or(Failure::Missing("connection"))?;
    command::interrupt(&connected.child)?;
    let status = within("its end", Duration::from_secs(10), connected.child.wait()).await?;
    let outcome = command::Outcome {
        line: "a9s pg connect".to_owned(),
        status,
        stdout: connected.url.clone(),
        stderr: String::new(),
        in_terminal: false,
        took: connected.since.elapsed(),
    };
    world.remember(outcome);
    Ok(())
}

#[then("its URL is dead and its passfile is gone")]
async fn dead(world: &mut World) -> Result<(), Failure> {
    let connected = connected(world)?;
    if connected.passfile.as_ref().is_some_and(|path| path.exists()) {
        return Err(Failure::unexpected("no passfile", "one"));
    }
    let output = psql(connected, "SELECT 1").await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Failure::unless(said.contains("refused"), "a refused connection", said)
}

#[then(expr = "{string} soon answers {string} with {string}")]
async fn soon_answers(world: &mut World, instance: String, sql: String, answer: String) -> Result<(), Failure> {
    let client = world.client().await?;
    until(format!("{answer} of {instance}"), SOON, || async {
        let login = observe::login(&client, world.namespace(), &instance).await?;
        let found = postgres::ask(&login, postgres::DATABASE, &sql).await?.join("\n");
        Ok(Look::when(found == answer, found))
    })
    .await
}

#[then(expr = "the instance {string} soon tells the error {string}")]
async fn instance_tells(world: &mut World, instance: String, text: String) -> Result<(), Failure> {
    await_error(world, &instance, &json!(text)).await
}

#[then(expr = "the instance {string} soon tells no error")]
async fn instance_tells_nothing(world: &mut World, instance: String) -> Result<(), Failure> {
    await_error(world, &instance, &Value::Null).await
}

async fn await_error(world: &World, instance: &str, error: &Value) -> Result<(), Failure> {
    let client = world.client().await?;
    until(format!("the error {error}"), SOON, || async {
        let object = observe::object(&client, world.namespace(), "postgresql", instance).await?.unwrap_or_default();
        let status = &object["status"];
        Ok(Look::when(status["error"] == *error && status["clusterStatus"] == "Running", status))
    })
    .await
}

async fn told(world: &World, map: &str) -> Result<Value, Failure> {
    let object = observe::object(&world.client().await?, world.namespace(), "configmap", map).await?;
    Ok(object.ok_or(Failure::Missing("ConfigMap"))?["data"].clone())
}

#[then(expr = "the configmap {string} tells two addresses and the port {int}")]
async fn two_addresses(world: &mut World, map: String, port: u16) -> Result<(), Failure> {
    until("two addresses", SOON, || async {
        let data = told(world, &map).await?;
        let address = |key: &str| data[key].as_str().and_then(|text| text.parse::<std::net::IpAddr>().ok());
        let differ =
            address("primary").is_some() && address("readOnly").is_some() && data["primary"] != data["readOnly"];
        Ok(Look::when(differ && data["port"] == port.to_string().as_str(), data))
    })
    .await
}

#[then(expr = "at the address that {string} tells as {word}, {string} answers {string} with {string}")]
async fn at_address(
    world: &mut World,
    map: String,
    which: String,
    instance: String,
    sql: String,
    answer: String,
) -> Result<(), Failure> {
    let client = world.client().await?;
    until(format!("{answer} at the address {which}"), SOON, || async {
        let data = told(world, &map).await?;
        let mut login = observe::login(&client, world.namespace(), &instance).await?;
        login.host = data[which.as_str()].as_str().unwrap_or_default().to_owned();
        let found = postgres::ask(&login, postgres::DATABASE, &sql).await?.join("\n");
        Ok(Look::when(found == answer, found))
    })
    .await
}
