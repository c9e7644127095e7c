//! Admission webhooks: called over HTTPS, obeyed, and quoted as kube-apiserver quotes them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Defines things, and asks `answer` about every `operation` on them.
async fn things(server: &Server, operation: &str, answer: fn(&Value) -> Value) {
    define_things(server).await;
    let (address, bundle) = webhook(server.directory.path(), answer).await;
    let mut hook = configuration("ValidatingWebhookConfiguration", address, &bundle);
    hook["webhooks"][0]["rules"] = json!([{
        "apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": [operation], "resources": ["things"],
    }]);
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    assert_eq!(server.request("POST", &path, Some(hook)).await.0, 201);
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
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "Internal error occurred: failed calling webhook \"test.example.com\": failed to call webhook: Post"
        ),
        "{message}"
    );
    hook["webhooks"][0]["failurePolicy"] = "Ignore".into();
    assert_eq!(server.request("PUT", &format!("{path}/test"), Some(hook)).await.0, 200);
    assert_eq!(server.request("POST", CONFIGMAPS, Some(configmap("a"))).await.0, 201);
}
