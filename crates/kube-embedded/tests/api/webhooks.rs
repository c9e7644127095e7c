//! Admission webhooks: called over HTTPS, obeyed, and quoted as kube-apiserver quotes them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube_embedded::auth::pki::Pki;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::harness::Server;

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";

/// A webhook on loopback that answers each review with `answer`.
async fn webhook(directory: &std::path::Path, answer: fn(&Value) -> Value) -> (SocketAddr, String) {
    let pki = Pki::open_or_create(&directory.join("webhook"), &["127.0.0.1".to_owned()]).unwrap();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(pki.server_config());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let review: Value = serde_json::from_slice(&body).unwrap();
                let mut response = answer(&review["request"]);
                response["uid"] = review["request"]["uid"].clone();
                let review =
                    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
                Ok::<_, Infallible>(hyper::Response::new(Full::new(bytes::Bytes::from(review.to_string()))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, STANDARD.encode(pki.ca_pem()))
}

fn configuration(kind: &str, address: SocketAddr, bundle: &str) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "test"}, "webhooks": [{
        "name": "test.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": format!("https://{address}/check"), "caBundle": bundle},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
    }]})
}

fn configmap(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

/// A validating webhook that denies everything by saying what it saw, after `change` of its configuration.
async fn validating(server: &Server, answer: fn(&Value) -> Value, change: impl FnOnce(&mut Value)) {
    let (address, bundle) = webhook(server.directory.path(), answer).await;
    let mut hook = configuration("ValidatingWebhookConfiguration", address, &bundle);
    change(&mut hook["webhooks"][0]);
    let (code, made) =
        server.request("POST", &format!("{CONFIGURATIONS}/validatingwebhookconfigurations"), Some(hook)).await;
    assert_eq!(code, 201, "{made}");
}

fn deny(what: &str) -> Value {
    json!({"allowed": false, "status": {"message": what}})
}

fn denied(what: &str) -> Value {
    format!("admission webhook \"test.example.com\" denied the request: {what}").into()
}

#[tokio::test]
async fn a_validating_webhook_can_refuse_and_warn() {
    let server = Server::start().await;
    let (address, bundle) = webhook(server.directory.path(), |request| {
        if request["name"] == "bad" {
            let status = json!({"code": 422, "reason": "Invalid", "message": "names must be good"});
            json!({"allowed": false, "status": status})
        } else {
            json!({"allowed": true, "warnings": ["have a care"]})
        }
    })
    .await;
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    let hook = configuration("ValidatingWebhookConfiguration", address, &bundle);
    assert_eq!(server.request("POST", &path, Some(hook)).await.0, 201);
    let (code, refused) = server.request("POST", CONFIGMAPS, Some(configmap("bad"))).await;
    assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")));
    assert_eq!(refused["message"], "admission webhook \"test.example.com\" denied the request: names must be good");
    let file =
        server.file("good.json", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "good"}}));
    let made = server.kubectl(&["create", "-f", &file]).await;
    assert_eq!(String::from_utf8_lossy(&made.stderr), "Warning: have a care\n");
    let secret = json!({"metadata": {"name": "bad"}});
    assert_eq!(server.request("POST", "/api/v1/namespaces/default/secrets", Some(secret)).await.0, 201);
}

static IS_ASKED: AtomicBool = AtomicBool::new(false);
static HAS_LEFT: AtomicBool = AtomicBool::new(false);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_is_finished_though_its_client_has_left() {
    let server = Server::start().await;
    let (address, bundle) = webhook(server.directory.path(), |_| {
        IS_ASKED.store(true, Ordering::SeqCst);
        while !HAS_LEFT.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        json!({"allowed": true})
    })
    .await;
    let hook = configuration("ValidatingWebhookConfiguration", address, &bundle);
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    assert_eq!(server.request("POST", &path, Some(hook)).await.0, 201);
    let mut client = server.kubectl_command(&["create", "configmap", "a"]).spawn().unwrap();
    while !IS_ASKED.load(Ordering::SeqCst) {
        assert!(client.try_wait().unwrap().is_none(), "the client ended before the webhook was asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.kill().unwrap();
    client.wait().unwrap();
    // The server hears of it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    HAS_LEFT.store(true, Ordering::SeqCst);
    let end = tokio::time::Instant::now() + Duration::from_secs(5);
    while server.request("GET", &format!("{CONFIGMAPS}/a"), None).await.0 != 200 {
        assert!(tokio::time::Instant::now() < end, "what was begun was not finished");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Defines things, and asks `answer` about every `operation` on them.
async fn things(server: &Server, operation: &str, answer: fn(&Value) -> Value) {
    define_things(server).await;
    let rule = json!({"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": [operation], "resources": ["things"]});
    validating(server, answer, |hook| hook["rules"] = json!([rule])).await;
}

async fn define_things(server: &Server) {
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    assert_eq!(server.request("POST", DEFINITIONS, Some(definition)).await.0, 201);
}

#[tokio::test]
async fn objects_that_go_with_their_definition_go_unasked() {
    let server = Server::start().await;
    let refuse = |_: &Value| json!({"allowed": false, "status": {"code": 403, "message": "it stays"}});
    things(&server, "DELETE", refuse).await;
    assert_eq!(server.request("POST", THINGS, Some(json!({"metadata": {"name": "a"}}))).await.0, 201);
    assert_eq!(server.request("DELETE", &format!("{THINGS}/a"), None).await.0, 403);
    let name = format!("{DEFINITIONS}/things.example.com");
    assert_eq!(server.request("DELETE", &name, None).await.0, 200);
    assert_eq!(server.request("GET", &name, None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_object_that_comes_after_its_definition_has_gone_goes_too() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    static ANSWERS: AtomicBool = AtomicBool::new(false);
    let server = Arc::new(Server::start().await);
    let wait = |_: &Value| {
        ASKED.store(true, Ordering::Relaxed);
        for _ in 0..500 {
            if ANSWERS.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        json!({"allowed": true})
    };
    things(&server, "CREATE", wait).await;
    let making = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.request("POST", THINGS, Some(json!({"metadata": {"name": "late"}}))).await }
    });
    while !ASKED.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let name = format!("{DEFINITIONS}/things.example.com");
    assert_eq!(server.request("DELETE", &name, None).await.0, 200);
    assert_eq!(server.request("GET", &name, None).await.0, 404);
    ANSWERS.store(true, Ordering::Relaxed);
    assert_eq!(making.await.unwrap().0, 201);
    define_things(&server).await;
    assert_eq!(server.request("GET", THINGS, None).await.1["items"], json!([]));
}

#[tokio::test]
async fn a_mutating_webhook_changes_the_object() {
    let server = Server::start().await;
    let (address, bundle) = webhook(server.directory.path(), |_| {
        let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}]);
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
    })
    .await;
    let path = format!("{CONFIGURATIONS}/mutatingwebhookconfigurations");
    let hook = configuration("MutatingWebhookConfiguration", address, &bundle);
    assert_eq!(server.request("POST", &path, Some(hook)).await.0, 201);
    let (code, made) = server.request("POST", CONFIGMAPS, Some(configmap("a"))).await;
    assert_eq!((code, &made["metadata"]["labels"]), (201, &json!({"seen": "yes"})));
}

#[tokio::test]
async fn a_webhook_that_cannot_be_reached_fails_or_is_ignored() {
    let server = Server::start().await;
    let nobody = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    let mut hook = configuration("ValidatingWebhookConfiguration", nobody, "");
    server.request("POST", &path, Some(hook.clone())).await;
    let (code, refused) = server.request("POST", CONFIGMAPS, Some(configmap("a"))).await;
    assert_eq!((code, refused["reason"].as_str()), (500, Some("InternalError")));
    let why = format!("dial tcp {nobody}: connect: connection refused");
    assert_eq!(refused["message"], failed(nobody, 10, &why));
    hook["webhooks"][0]["failurePolicy"] = "Ignore".into();
    assert_eq!(server.patch(&format!("{path}/test"), hook).await.0, 200);
    assert_eq!(server.request("POST", CONFIGMAPS, Some(configmap("a"))).await.0, 201);
}

/// What kube-apiserver says of a webhook at this address that it cannot call.
fn failed(address: SocketAddr, seconds: u64, why: &str) -> Value {
    let calling = "Internal error occurred: failed calling webhook \"test.example.com\": failed to call webhook";
    format!("{calling}: Post \"https://{address}/check?timeout={seconds}s\": {why}").into()
}

#[tokio::test]
async fn a_webhook_that_takes_the_connection_and_stays_silent_is_given_its_time_and_no_more() {
    // The system takes connections for it, and nobody reads what they bring.
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = silent.local_addr().unwrap();
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        let server = Server::start().await;
        let path = format!("{CONFIGURATIONS}/{}s", kind.to_lowercase());
        let mut hook = configuration(kind, address, "");
        hook["webhooks"][0]["timeoutSeconds"] = 1.into();
        assert_eq!(server.request("POST", &path, Some(hook.clone())).await.0, 201);
        let begun = Instant::now();
        let (code, refused) = server.request("POST", CONFIGMAPS, Some(configmap("a"))).await;
        assert!((1..5).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!((code, refused["reason"].as_str()), (500, Some("InternalError")));
        assert_eq!(refused["message"], failed(address, 1, "context deadline exceeded"));
        hook["webhooks"][0]["failurePolicy"] = "Ignore".into();
        assert_eq!(server.patch(&format!("{path}/test"), hook).await.0, 200);
        assert_eq!(server.request("POST", CONFIGMAPS, Some(configmap("a"))).await.0, 201);
    }
}

#[tokio::test]
async fn the_conditions_of_a_webhook_decide_whether_it_is_asked() {
    let server = Server::start().await;
    let with = |expression: &str| json!([{"name": "c", "expression": expression}]);
    validating(
        &server,
        |_| deny("no"),
        |hook| hook["matchConditions"] = with("object.metadata.name.startsWith('a') && request.operation == 'CREATE'"),
    )
    .await;
    assert_eq!(server.request("POST", CONFIGMAPS, Some(configmap("b"))).await.0, 201);
    let (code, refused) = server.request("POST", CONFIGMAPS, Some(configmap("a"))).await;
    assert_eq!((code, &refused["message"]), (400, &denied("no")));
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations/test");
    let (_, mut hook) = server.request("GET", &path, None).await;
    hook["webhooks"][0]["matchConditions"] = with("object.data.absent == 'x'");
    let (code, mut hook) = server.request("PUT", &path, Some(hook)).await;
    assert_eq!(code, 200, "{hook}");
    let (code, refused) = server.request("POST", CONFIGMAPS, Some(configmap("c"))).await;
    assert_eq!((code, refused["reason"].as_str()), (403, Some("Forbidden")), "{refused}");
    hook["webhooks"][0]["failurePolicy"] = "Ignore".into();
    let (code, mut hook) = server.request("PUT", &path, Some(hook)).await;
    assert_eq!(code, 200, "{hook}");
    assert_eq!(server.request("POST", CONFIGMAPS, Some(configmap("c"))).await.0, 201);
    let unknown = ["authorizer.path('/x').check('get').allowed()", "objekt.metadata.name == 'c'"];
    for expression in unknown.into_iter().chain(["object.metadata.name ==", "size(object)", ""]) {
        hook["webhooks"][0]["matchConditions"] = with(expression);
        let (code, refused) = server.request("PUT", &path, Some(hook.clone())).await;
        assert_eq!(code, 422, "{expression}");
        assert_eq!(refused["details"]["causes"][0]["field"], "webhooks[0].matchConditions[0].expression");
    }
}

#[tokio::test]
async fn a_webhook_knows_a_resource_by_any_of_its_versions() {
    let server = Server::start().await;
    let version = |name: &str| {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        json!({"name": name, "served": true, "storage": name == "v1", "schema": schema})
    };
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
        "versions": [version("v1"), version("v2")],
    }});
    assert_eq!(server.request("POST", DEFINITIONS, Some(definition)).await.0, 201);
    let saw = |request: &Value| {
        let kinds = ["kind", "requestKind"].map(|field| request[field]["version"].as_str().unwrap().to_owned());
        deny(&format!("{} {}", request["object"]["apiVersion"].as_str().unwrap(), kinds.join(" ")))
    };
    let rule =
        json!({"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["things"]});
    validating(&server, saw, |hook| hook["rules"] = json!([rule])).await;
    let things = "/apis/example.com/v2/namespaces/default/things";
    let (_, refused) = server.request("POST", things, Some(configmap("a"))).await;
    assert_eq!(refused["message"], denied("example.com/v1 v1 v2"));
    let exact = json!({"webhooks": [{"name": "test.example.com", "matchPolicy": "Exact"}]}).to_string();
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations/test");
    let patched = server.request_as("PATCH", &path, "application/strategic-merge-patch+json", exact).await;
    assert_eq!(patched.0, 200, "{}", patched.1);
    let (code, made) = server.request("POST", things, Some(configmap("a"))).await;
    assert_eq!((code, &made["metadata"]["generation"]), (201, &json!(1)), "also of what has no spec");
}

#[tokio::test]
async fn a_namespace_is_selected_by_its_own_labels() {
    let server = Server::start().await;
    validating(
        &server,
        |request| deny(&format!("{}/{}", request["operation"], request["namespace"])),
        |hook| {
            hook["rules"][0]["resources"] = json!(["namespaces"]);
            hook["rules"][0]["operations"] = json!(["CREATE", "DELETE"]);
            hook["namespaceSelector"] = json!({"matchLabels": {"team": "a"}});
        },
    )
    .await;
    let namespace = |team: &str| json!({"metadata": {"name": "n", "labels": {"team": team}}});
    let (_, refused) = server.request("POST", "/api/v1/namespaces", Some(namespace("a"))).await;
    assert_eq!(refused["message"], denied("\"CREATE\"/\"n\""));
    assert_eq!(server.request("POST", "/api/v1/namespaces", Some(namespace("b"))).await.0, 201);
    assert_eq!(server.request("PUT", "/api/v1/namespaces/n", Some(namespace("a"))).await.0, 200);
    let (_, refused) = server.request("DELETE", "/api/v1/namespaces/n", None).await;
    assert_eq!(refused["message"], denied("\"DELETE\"/\"n\""));
}

#[tokio::test]
async fn a_mutating_webhook_changes_no_more_than_the_client_could() {
    let server = Server::start().await;
    let (address, bundle) = webhook(server.directory.path(), |request| {
        let patch = json!([
            {"op": "add", "path": "/metadata/labels", "value": {"seen": request["operation"]}},
            {"op": "add", "path": "/metadata/name", "value": "other"},
            {"op": "add", "path": "/metadata/uid", "value": "other"},
            {"op": "add", "path": "/kind", "value": "Other"},
            {"op": "add", "path": "/status", "value": {"phase": "Running"}},
        ]);
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
    })
    .await;
    let mut hook = configuration("MutatingWebhookConfiguration", address, &bundle);
    hook["webhooks"][0]["rules"][0]["resources"] = json!(["pods", "pods/status"]);
    hook["webhooks"][0]["rules"][0]["operations"] = json!(["*"]);
    let path = format!("{CONFIGURATIONS}/mutatingwebhookconfigurations");
    assert_eq!(server.request("POST", &path, Some(hook)).await.0, 201);
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (code, made) = server.request("POST", "/api/v1/namespaces/default/pods", Some(pod)).await;
    assert_eq!(code, 201, "{made}");
    let own =
        |pod: &Value| [&pod["kind"], &pod["metadata"]["name"], &pod["metadata"]["labels"]["seen"]].map(Value::clone);
    assert_eq!(
        (own(&made), &made["status"]["phase"]),
        ([json!("Pod"), json!("a"), json!("CREATE")], &json!("Pending"))
    );
    let patch = json!({"status": {"message": "m"}});
    let path = "/api/v1/namespaces/default/pods/a/status";
    let (code, changed) = server.patch(path, patch).await;
    assert_eq!((code, own(&changed), &changed["status"]), (200, own(&made), &json!({"phase": "Running"})));
    assert_eq!(changed["metadata"]["uid"], made["metadata"]["uid"]);
}

#[tokio::test]
async fn a_webhook_is_told_when_a_deletion_is_only_tried() {
    let server = Server::start().await;
    assert_eq!(server.request("POST", CONFIGMAPS, Some(configmap("a"))).await.0, 201);
    let tried = |request: &Value| deny(&request["dryRun"].to_string());
    validating(&server, tried, |hook| hook["rules"][0]["operations"] = json!(["DELETE"])).await;
    let path = format!("{CONFIGMAPS}/a");
    for (query, body, wanted) in
        [("", json!({"dryRun": ["All"]}), "true"), ("?dryRun=All", json!({}), "true"), ("", json!({}), "false")]
    {
        let (_, refused) = server.request("DELETE", &format!("{path}{query}"), Some(body)).await;
        assert_eq!(refused["message"], denied(wanted));
    }
}
