//! Bad input gets the answer that a real API server gives.

use kube_embedded::user::UserInfo;
use serde_json::json;

use super::harness::Server;

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn malformed_bodies_are_refused_with_the_right_code() {
    let server = Server::start().await;
    let post = |kind: &'static str, body: &str| server.request_as("POST", CONFIGMAPS, kind, body.to_owned());
    for body in ["{", "", "[]", "\"x\"", "null", "\u{0}", "{\"metadata\": {\"name\": 5}}", "{\"data\": []}"] {
        let (code, answer) = post("application/json", body).await;
        assert_eq!((code, answer["reason"].as_str()), (400, Some("BadRequest")), "{body:?}: {answer}");
        assert_eq!(answer["kind"], "Status");
    }
    let (code, answer) = post("text/plain", "{}").await;
    assert_eq!((code, answer["reason"].as_str()), (415, Some("UnsupportedMediaType")));
    let (code, answer) = post("application/json", &format!("{{\"a\":\"{}\"}}", "x".repeat(4 << 20))).await;
    assert_eq!((code, answer["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
    let (code, answer) = post("application/json", "{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}").await;
    let expected = "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion";
    assert_eq!((code, answer["message"].as_str()), (400, Some(expected)));
    let (code, answer) = post("application/json", "{\"metadata\": {\"namespace\": \"other\", \"name\": \"a\"}}").await;
    assert_eq!(code, 400, "{answer}");
    let (code, _) = post("application/yaml", "metadata:\n  name: from-yaml\n").await;
    assert_eq!(code, 201);
}

#[tokio::test]
async fn a_field_that_is_there_twice_is_told_as_the_request_wants_it() {
    let server = Server::start().await;
    let body = |name: &str| format!(r#"{{"metadata": {{"name": "{name}"}}, "data": {{"k": "1", "k": "2"}}, "x": 1}}"#);
    let post = async |query: &str, name: &str| {
        let path = format!("{CONFIGMAPS}?fieldValidation={query}");
        server.request_as("POST", &path, "application/json", body(name)).await
    };
    let (code, answer) = post("Strict", "strict").await;
    let expected = "strict decoding error: duplicate field \"data.k\", unknown field \"x\"";
    assert_eq!((code, answer["message"].as_str()), (400, Some(expected)));
    for mode in ["Warn", "Ignore"] {
        let (code, made) = post(mode, &mode.to_lowercase()).await;
        assert_eq!((code, made["data"]["k"].as_str()), (201, Some("2")), "{made}");
    }
}

#[tokio::test]
async fn a_patch_that_does_not_fit_the_kind_is_invalid() {
    let server = Server::start().await;
    assert_eq!(server.request("POST", CONFIGMAPS, Some(json!({"metadata": {"name": "a"}}))).await.0, 201);
    let patch = async |kind: &str, query: &str, body: serde_json::Value| {
        let media = format!("application/{kind}+json");
        server.request_as("PATCH", &format!("{CONFIGMAPS}/a{query}"), &media, body.to_string()).await
    };
    let wrong = json!({"data": {"k": 1}});
    for (kind, query, body) in [
        ("merge-patch", "", wrong.clone()),
        ("strategic-merge-patch", "", wrong),
        ("json-patch", "", json!([{"op": "add", "path": "/data", "value": 1}])),
        ("merge-patch", "", json!({"kind": "Secret"})),
        ("merge-patch", "?fieldValidation=Strict", json!({"dta": {}})),
    ] {
        let (code, refused) = patch(kind, query, body.clone()).await;
        assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")), "{body}: {refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{message}");
        assert_eq!(refused["details"]["causes"][0]["field"], "patch");
    }
    let output = server.kubectl(&["patch", "cm", "a", "-p", r#"{"data": {"k": 1}}"#]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("The request is invalid: patch: Invalid value: "), "{said}");
}

#[tokio::test]
async fn every_violation_is_told_at_once() {
    let server = Server::start().await;
    let (code, answer) = server
        .request(
            "POST",
            "/api/v1/namespaces/default/pods",
            Some(json!({"metadata": {"name": "p", "labels": {"-": "x y"}}, "spec": {"containers": [{"name": "C"}]}})),
        )
        .await;
    assert_eq!(code, 422);
    let causes = answer["details"]["causes"].as_array().unwrap();
    let fields: Vec<_> = causes.iter().filter_map(|cause| cause["field"].as_str()).collect();
    assert_eq!(
        fields,
        ["metadata.labels", "metadata.labels", "spec.containers[0].name", "spec.containers[0].image"],
        "{answer}"
    );
}

#[tokio::test]
async fn names_selectors_and_paths_are_checked() {
    let server = Server::start().await;
    for (path, code) in [
        ("/api/v1/namespaces/default/nothings", 404),
        ("/api/v1/namespaces/default/configmaps?labelSelector=a%20b%20c", 400),
        ("/api/v1/namespaces/default/configmaps?fieldSelector=spec.x%3Dy", 400),
        ("/api/v1/namespaces/default/configmaps?resourceVersion=x", 400),
        ("/api/v1/namespaces/default?resourceVersion=x", 400),
        ("/api/v1/namespaces/default/configmaps?limit=x", 400),
        ("/api/v1/namespaces/default/configmaps?continue=nonsense", 400),
        ("/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=99999999", 504),
    ] {
        let (got, answer) = server.request("GET", path, None).await;
        assert_eq!(got, code, "{path}: {answer}");
        assert_eq!(answer["kind"], "Status", "{path}: {answer}");
    }
    for path in ["/apis/none/v1/things", "/apis/apps/v9/namespaces/default/statefulsets", "/apis/none", "/nothing"] {
        let (code, answer) = server.request("GET", path, None).await;
        assert_eq!((code, answer.as_str()), (404, Some("404 page not found\n")), "{path}");
        let refused = server.kubectl(&["get", "--raw", path]).await;
        let expected = "Error from server (NotFound): the server could not find the requested resource\n";
        assert_eq!(String::from_utf8_lossy(&refused.stderr), expected, "{path}");
    }
    let (code, answer) = server.request("POST", CONFIGMAPS, Some(json!({}))).await;
    assert_eq!(code, 422);
    assert_eq!(
        answer["message"],
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    let (code, answer) =
        server.request("POST", "/api/v1/namespaces/nowhere/configmaps", Some(json!({"metadata": {"name": "a"}}))).await;
    assert_eq!((code, answer["message"].as_str()), (404, Some("namespaces \"nowhere\" not found")));
    let (code, made) = server.request("POST", CONFIGMAPS, Some(json!({"metadata": {"generateName": "g-"}}))).await;
    assert_eq!(code, 201);
    assert!(made["metadata"]["name"].as_str().unwrap().len() == 7, "{made}");
}

#[tokio::test]
async fn a_version_that_was_not_given_out_yet_is_to_be_asked_for_later() {
    let server = Server::start().await;
    for path in [
        "/api/v1/namespaces/default?",
        "/api/v1/namespaces/nowhere?",
        "/api/v1/namespaces?",
        "/api/v1/namespaces?resourceVersionMatch=Exact&",
        "/api/v1/namespaces?watch=1&",
    ] {
        let uri = format!("{path}resourceVersion=99999999");
        let (code, answer) = server.request("GET", &uri, None).await;
        assert_eq!((code, &answer["reason"]), (504, &json!("Timeout")), "{uri}");
        assert_eq!(answer["details"]["causes"][0]["reason"], "ResourceVersionTooLarge", "{uri}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with("Timeout: Too large resource version: 99999999, current: "), "{message}");
        let request = http::Request::get(&uri).body(http_body_util::Full::new(bytes::Bytes::new())).unwrap();
        let response = server.api.handle(UserInfo::master("test"), request).await;
        assert_eq!(response.headers()["retry-after"], "1", "{uri}");
    }
    let (_, found) = server.request("GET", "/api/v1/namespaces/default?resourceVersion=1", None).await;
    assert_eq!(found["metadata"]["name"], "default", "what is newer is as good");
}

#[tokio::test]
async fn the_name_of_who_changes_something_is_not_too_long() {
    let server = Server::start().await;
    let configmaps = "/api/v1/namespaces/default/configmaps";
    let (longest, longer) = ("m".repeat(128), "m".repeat(129));
    let object = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let path = format!("{configmaps}?fieldManager={longest}");
    let (code, made) = server.request("POST", &path, Some(object.clone())).await;
    assert_eq!((code, &made["metadata"]["managedFields"][0]["manager"]), (201, &json!(longest)), "{made}");
    for (method, name, options) in
        [("POST", "", "CreateOptions"), ("PUT", "/a", "UpdateOptions"), ("PATCH", "/a", "PatchOptions")]
    {
        let path = format!("{configmaps}{name}?fieldManager={longer}");
        let (code, refused) = server.request(method, &path, Some(object.clone())).await;
        let why = "is invalid: fieldManager: Too long: may not be more than 128 bytes";
        assert_eq!((code, &refused["message"]), (422, &json!(format!("{options}.meta.k8s.io \"\" {why}"))));
    }
}

#[tokio::test]
async fn parameters_of_lists_and_watches_that_do_not_go_together_are_refused() {
    let server = Server::start().await;
    let refused = async |query: &str| {
        let (code, answer) = server.request("GET", &format!("{CONFIGMAPS}?{query}"), None).await;
        assert_eq!(code, 422, "{query}: {answer}");
        let message = answer["message"].as_str().unwrap_or_default();
        message.strip_prefix("ListOptions.meta.k8s.io \"\" is invalid: ").unwrap_or(message).to_owned()
    };
    for (query, why) in [
        ("sendInitialEvents=true", "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        (
            "resourceVersionMatch=Exact",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersionMatch=Some&resourceVersion=1",
            "resourceVersionMatch: Unsupported value: \"Some\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            "watch=1&sendInitialEvents=true",
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "watch=1&resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is \
             provided",
        ),
        (
            "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact",
            "[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to \
             NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]",
        ),
    ] {
        assert_eq!(refused(query).await, why, "{query}");
    }
}

#[tokio::test]
async fn a_subresource_that_is_not_served_is_told_from_a_pod_that_is_not_there() {
    let server = Server::start().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(server.request("POST", "/api/v1/namespaces/default/pods", Some(pod)).await.0, 201);
    let path = "/api/v1/namespaces/default/pods/p/ephemeralcontainers";
    let (code, refused) = server.request("GET", path, None).await;
    assert_eq!((code, &refused["reason"], &refused["details"]), (404, &json!("NotFound"), &json!({})));
    let output = server.kubectl(&["debug", "p", "--image=i"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("ephemeral containers are disabled for this cluster"), "{said}");
}

#[tokio::test]
async fn what_is_opened_in_a_pod_is_audited_however_it_is_asked_for() {
    let server = Server::start().await;
    for subresource in ["exec?command=id", "attach", "portforward?ports=1", "log", ""] {
        for method in ["GET", "POST"] {
            server.request(method, &format!("/api/v1/namespaces/default/pods/p/{subresource}"), None).await;
        }
    }
    let audit = fs_err::read_to_string(server.directory.path().join("audit.log")).unwrap();
    let events = audit.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let read = events.filter(|event| event["verb"] == "get");
    let opened: Vec<String> = read.map(|event| event["objectRef"]["subresource"].to_string()).collect();
    assert_eq!(opened, ["\"exec\"", "\"attach\"", "\"portforward\""]);
}

/// Kubernetes API reference, `audit.k8s.io/v1`, ObjectReference.
#[tokio::test]
async fn the_audit_names_group_and_version_of_an_object_apart() {
    let server = Server::start().await;
    server.request("DELETE", "/apis/apps/v1/namespaces/default/statefulsets/solo", None).await;
    server.request("DELETE", "/api/v1/namespaces/default/pods/solo-0", None).await;
    let audit = fs_err::read_to_string(server.directory.path().join("audit.log")).unwrap();
    let events = audit.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let deletions = events.filter(|event| event["verb"] == "delete");
    let named: Vec<_> = deletions.map(|event| event["objectRef"].clone()).collect();
    let of = |resource: &str, name: &str| json!({"resource": resource, "namespace": "default", "name": name, "apiVersion": "v1"});
    let mut statefulset = of("statefulsets", "solo");
    statefulset["apiGroup"] = "apps".into();
    assert_eq!(named, [statefulset, of("pods", "solo-0")]);
}

#[tokio::test]
async fn the_network_asks_for_credentials() {
    let server = Server::start().await;
    let anonymous = http::Request::get("/api/v1/pods").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(server.api.handle_from_network(None, anonymous).await.status(), 401);
    let audit = fs_err::read_to_string(server.directory.path().join("audit.log")).unwrap();
    assert!(audit.lines().count() > 0 && !audit.contains("\"verb\":\"list\""), "{audit}");
}
