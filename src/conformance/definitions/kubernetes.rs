//! The API server as other clients meet it.

use std::time::Duration;

use base64::Engine as _;
use cucumber::gherkin::Step;
use cucumber::{given, then, when};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::core::Status;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::conformance::command;
use crate::conformance::observe::{Look, SOON, until, within};
use crate::conformance::stage::Stage;
use crate::conformance::{Failure, World, preflight};

/// How long the account of a new namespace may take.
const ACCOUNT: Duration = Duration::from_secs(10);

#[given(expr = "the object:")]
#[when(expr = "I apply the object:")]
async fn apply(world: &mut World, step: &Step) -> Result<(), Failure> {
    let text = world.expand(step.docstring.as_deref().unwrap_or_default().trim_start_matches('\n'));
    world.kubectl(&["apply", "-f", "-"], Some(text.as_bytes())).await?.require_success()
}

/// When an object was made is told in whole seconds (metav1.Time): of two within one second nobody can tell which is older.
#[when("a second has passed")]
async fn second(_: &mut World) {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

#[when("my kubeconfig has no certificate")]
async fn anonymous(world: &mut World) -> Result<(), Failure> {
    become_user(world, &serde_json::json!({}))
}

#[when("the certificate in my kubeconfig has expired")]
async fn expired(world: &mut World) -> Result<(), Failure> {
    let (certificate, key) = certificate_until(2020)?;
    become_user(world, &serde_json::json!({"client-certificate-data": certificate, "client-key-data": key}))
}

#[when("my kubeconfig trusts somebody else")]
async fn trusts_another(world: &mut World) -> Result<(), Failure> {
    let (certificate, _) = certificate_until(4000)?;
    edit_kubeconfig(world, "clusters", |cluster| cluster["cluster"]["certificate-authority-data"] = certificate.clone())
}

/// A certificate that is valid until a year begins, and its key, as a kubeconfig has them.
fn certificate_until(year: i32) -> Result<(serde_json::Value, serde_json::Value), Failure> {
    let failed = |error: rcgen::Error| Failure::unexpected("a certificate", error.to_string());
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).map_err(failed)?;
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    let encoded = |text: String| base64::engine::general_purpose::STANDARD.encode(text).into();
    Ok((encoded(certificate.pem()), encoded(key.serialize_pem())))
}

/// Gives every user of the kubeconfig these credentials.
fn become_user(world: &World, credentials: &serde_json::Value) -> Result<(), Failure> {
    edit_kubeconfig(world, "users", |user| user["user"] = credentials.clone())
}

/// Changes every entry of one of the kubeconfig's lists.
fn edit_kubeconfig(world: &World, list: &str, edit: impl Fn(&mut serde_json::Value)) -> Result<(), Failure> {
    let kubeconfig = Kubeconfig::read_from(&world.surroundings.kubeconfig)?;
    let mut document = serde_json::to_value(&kubeconfig)?;
    document[list].as_array_mut().into_iter().flatten().for_each(edit);
    Ok(fs_err::write(&world.surroundings.kubeconfig, serde_json::to_vec(&document)?)?)
}

/// Nothing else: what the suite does and does not ask for before, it is refused.
#[given(expr = "the ServiceAccount {string} may do exactly what the suite asks for scenarios with the tag {string}")]
async fn may_run_suite(world: &mut World, name: String, tag: String) -> Result<(), Failure> {
    let rules = preflight::needed(&[tag].into()).into_iter().map(|(verb, group, resource, subresource)| {
        let below = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
        serde_json::json!({"verbs": [verb], "apiGroups": [group], "resources": [format!("{resource}{below}")]})
    });
    let rules: Vec<serde_json::Value> = rules.collect();
    let role = serde_json::json!({"metadata": {"name": "suite"}, "rules": rules});
    let binding = serde_json::json!({
        "metadata": {"name": "suite"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "suite"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": world.namespace()}],
    });
    let client = world.client().await?;
    let (roles, bindings) = (Api::<ClusterRole>::all(client.clone()), Api::<ClusterRoleBinding>::all(client));
    roles.create(&PostParams::default(), &serde_json::from_value(role)?).await?;
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    Ok(())
}

#[when(expr = "my kubeconfig has the token of the ServiceAccount {string}")]
async fn with_token(world: &mut World, name: String) -> Result<(), Failure> {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client().await?, world.namespace());
    let request = TokenRequest {
        spec: TokenRequestSpec { audiences: Vec::new(), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    // A controller makes the account of a namespace soon after it.
    until(format!("the ServiceAccount {name}"), ACCOUNT, || async {
        Ok(Look::when(accounts.get_opt(&name).await?.is_some(), "it is not there"))
    })
    .await?;
    let answer = accounts.create_token_request(&name, &PostParams::default(), &request).await?;
    let token = answer.status.map(|status| status.token).ok_or(Failure::Missing("token"))?;
    become_user(world, &serde_json::json!({"token": token}))
}

#[then(expr = "the API server answers {string} with 200")]
async fn served(world: &mut World, path: String) -> Result<(), Failure> {
    let request = http::Request::get(world.expand(&path)).body(Vec::new()).map_err(kube::Error::HttpError)?;
    Ok(world.client().await?.request_text(request).await.map(drop)?)
}

/// The answer is a `Status`, as any client expects one.
#[then(expr = "the API server answers {string} with {int} and the reason {string}")]
async fn refused(world: &mut World, path: String, code: u16, reason: String) -> Result<(), Failure> {
    refuses(world, &path, &format!("{code} {reason}"), |it| it.code == code && it.reason == reason).await
}

/// No API is there: of kube-apiserver's answer that is no `Status`, only the code counts.
#[then(expr = "the API server has no API at {string}")]
async fn unserved(world: &mut World, path: String) -> Result<(), Failure> {
    refuses(world, &path, "404", |it| it.code == 404).await
}

async fn refuses(world: &World, path: &str, wanted: &str, is_so: impl Fn(&Status) -> bool) -> Result<(), Failure> {
    let request = http::Request::get(world.expand(path)).body(Vec::new()).map_err(kube::Error::HttpError)?;
    match world.client().await?.request_text(request).await {
        Err(kube::Error::Api(status)) if is_so(&status) => Ok(()),
        Err(other) => Err(Failure::unexpected(wanted, other.to_string())),
        Ok(text) => Err(Failure::unexpected(wanted, text)),
    }
}

/// Sends a body as it stands, right or wrong.
#[when(regex = r"^I (POST|PUT|PATCH) this to `(.+)` as `(.+)`:$")]
async fn send(world: &mut World, verb: String, path: String, media: String, step: &Step) -> Result<(), Failure> {
    let body = world.expand(step.docstring.as_deref().unwrap_or_default().trim());
    answer(world, &verb, &path, &media, body.into_bytes()).await
}

#[when(regex = r"^I (POST|PUT|PATCH) (\d+) bytes of garbage to `(.+)`$")]
async fn send_garbage(world: &mut World, verb: String, bytes: usize, path: String) -> Result<(), Failure> {
    let body = (0..bytes).map(|_| rand::random::<u8>()).collect();
    answer(world, &verb, &path, "application/json", body).await
}

/// Keeps the answer as if a command had printed it.
async fn answer(world: &mut World, verb: &str, path: &str, media: &str, body: Vec<u8>) -> Result<(), Failure> {
    use std::os::unix::process::ExitStatusExt;
    let request = http::Request::builder()
        .method(verb)
        .uri(world.expand(path))
        .header("content-type", media)
        .body(body)
        .map_err(kube::Error::HttpError)?;
    let (code, text) = match world.client().await?.request_text(request).await {
        Ok(text) => (0, text),
        Err(kube::Error::Api(status)) => (1, serde_json::to_string(&status)?),
        Err(other) => return Err(other.into()),
    };
    world.remember(command::Outcome {
        line: format!("{verb} {path}"),
        status: std::process::ExitStatus::from_raw(code << 8),
        stdout: text,
        stderr: String::new(),
        in_terminal: false,
        took: Duration::ZERO,
    });
    Ok(())
}

#[then(expr = "the answer is {int} {word}: {string}")]
async fn answered(world: &mut World, code: u16, reason: String, text: String) -> Result<(), Failure> {
    let answer: serde_json::Value = serde_json::from_str(&world.last()?.stdout)?;
    let message = answer["message"].as_str().unwrap_or_default();
    let is_so = answer["code"] == code && answer["reason"] == reason.as_str() && message.contains(&world.expand(&text));
    Failure::unless(is_so, format!("{code} {reason}: {text}"), answer)
}

/// Waits until a pod says why it does not run.
#[then(expr = "the pod {string} waits with the reason {string}")]
async fn pod_waits(world: &mut World, name: String, reason: String) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(world.client().await?, world.namespace());
    until(format!("reason {reason}"), Duration::from_secs(30), || async {
        let statuses = pods.get(&name).await?.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let found: Vec<String> = statuses.into_iter().filter_map(|status| status.state?.waiting?.reason).collect();
        Ok(Look::when(found.contains(&reason), format!("{found:?}")))
    })
    .await
}

/// Follows something until a line has been seen, while another command makes it happen.
#[when(regex = r"^I follow `(kubectl|a9s) (.+)` until it says `(.+)` while I run `(a9s .+)`$")]
async fn follow_until(
    world: &mut World,
    program: String,
    follow: String,
    text: String,
    line: String,
) -> Result<(), Failure> {
    let words = command::words(&world.expand(&follow));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut child = match program.as_str() {
        "a9s" => command::start_a9s(&world.surroundings, &words)?,
        _ => command::start_kubectl(&world.surroundings, &words)?,
    };
    let stdout = child.stdout.take().ok_or(Failure::Missing("output to follow"))?;
    world.background.push(child);
    let command = command::words(&world.expand(&line));
    let command: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
    let surroundings = world.surroundings.clone();
    let seen = async {
        let mut lines = BufReader::new(stdout).lines();
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().await? {
            all.push(line);
            if all.last().is_some_and(|line| line.contains(&text)) {
                return Ok(());
            }
        }
        Err(Failure::unexpected(format!("a line with {text:?}"), all.join("\n")))
    };
    let seen = within(format!("a line with {text:?}"), SOON, seen);
    let (outcome, ()) = tokio::try_join!(command::a9s(&surroundings, &command), seen)?;
    outcome.require_success()?;
    world.remember(outcome);
    Ok(())
}

/// `^C` is what it is on a keyboard.
#[when(
    regex = r#"^I run `(kubectl|a9s) (.+)` in a terminal(?:, have `kubectl (.+)` run once it asks,)?(?: and type "(.*)")?$"#
)]
async fn in_terminal(
    world: &mut World,
    program: String,
    words: String,
    meanwhile: String,
    typed: String,
) -> Result<(), Failure> {
    let stage = Stage::get();
    let program = match program.as_str() {
        "a9s" => &stage.program,
        _ => stage.kubectl.as_ref().map_err(|why| Failure::Missing(why))?,
    };
    let line = format!("exec '{}' {}", program.display(), world.expand(&words));
    let typed = typed.replace("^C", command::INTERRUPT_KEY);
    let answers: Vec<&str> = typed.split_whitespace().collect();
    let meanwhile = command::words(&world.expand(&meanwhile));
    let meanwhile: Vec<&str> = meanwhile.iter().map(String::as_str).collect();
    let outcome = command::in_terminal(&world.surroundings, &line, &answers, &meanwhile).await?;
    world.remember(outcome);
    Ok(())
}
