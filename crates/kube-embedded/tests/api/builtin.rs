//! What the server does for the built-in kinds: defaults, addresses, accounts, deletion, scale, reviews.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube_embedded::user::UserInfo;
use serde_json::{Value, json};

use super::harness::Server;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn statefulset(labels: &Value) -> Value {
    json!({"metadata": {"name": "s"}, "spec": {
        "serviceName": "s", "selector": {"matchLabels": {"app": "s"}},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }})
}

#[tokio::test]
async fn a_pod_needs_its_account_and_gets_its_token() {
    let server = Server::start().await;
    let mut wrong = pod("a");
    wrong["spec"]["serviceAccountName"] = "nobody".into();
    let (code, refused) = server.request("POST", PODS, Some(wrong)).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "pods \"a\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
    let (code, made) = server.request("POST", PODS, Some(pod("a"))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(mount["name"], made["spec"]["volumes"][0]["name"]);
}

#[tokio::test]
async fn the_quality_of_service_class_of_a_pod_follows_its_resources_with_their_defaults() {
    let server = Server::start().await;
    for (name, resources, class) in [
        ("a", json!({}), "BestEffort"),
        ("b", json!({"requests": {"cpu": "100m"}}), "Burstable"),
        ("c", json!({"limits": {"cpu": 1, "memory": "1Gi"}}), "Guaranteed"),
        ("d", json!({"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable"),
    ] {
        let mut new = pod(name);
        new["spec"]["containers"][0]["resources"] = resources;
        let (code, made) = server.request("POST", PODS, Some(new)).await;
        assert_eq!((code, made["status"]["qosClass"].as_str()), (201, Some(class)), "{made}");
    }
}

#[tokio::test]
async fn quantities_are_stored_in_their_canonical_form() {
    let server = Server::start().await;
    let mut heavy = pod("a");
    heavy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": 0.5, "memory": "1024Mi"}});
    heavy["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {"sizeLimit": "1.5Gi"}}]);
    let (code, mut made) = server.request("POST", PODS, Some(heavy)).await;
    assert_eq!(code, 201, "{made}");
    let amounts = json!({"cpu": "500m", "memory": "1Gi"});
    assert_eq!(made["spec"]["containers"][0]["resources"], json!({"limits": amounts, "requests": amounts}));
    assert_eq!(made["spec"]["volumes"][0]["emptyDir"], json!({"sizeLimit": "1536Mi"}));
    made["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "0.5".into();
    let (code, same) = server.request("PUT", &format!("{PODS}/a"), Some(made.clone())).await;
    assert_eq!((code, &same["metadata"]["resourceVersion"]), (200, &made["metadata"]["resourceVersion"]), "{same}");
    let mut set = statefulset(&json!({"app": "s"}));
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "d"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2048Mi"}},
    }}]);
    let (code, made) = server.request("POST", "/apis/apps/v1/namespaces/default/statefulsets", Some(set)).await;
    assert_eq!(code, 201, "{made}");
    let claim = &made["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(claim["resources"], json!({"requests": {"storage": "2Gi"}}));
}

#[tokio::test]
async fn an_eviction_is_one_of_the_pod_that_the_path_names() {
    let server = Server::start().await;
    server.request("POST", PODS, Some(pod("a"))).await;
    let evict = async |version: &str, kind: &str, name: &str| {
        let body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        let (code, status) = server.request("POST", &format!("{PODS}/a/eviction"), Some(body)).await;
        (code, status["message"].as_str().unwrap_or_default().to_owned())
    };
    let other_version =
        "the API version in the data (policy/v2) does not match the expected API version (policy/v1)".to_owned();
    let other_kind = "Pod in version \"v1\" cannot be handled as a Eviction: converting (v1.Pod) to \
                      (policy.Eviction): unknown conversion";
    let other_name = "name in URL does not match name in Eviction object".to_owned();
    assert_eq!(evict("policy/v2", "Eviction", "a").await, (400, other_version));
    assert_eq!(evict("policy/v1", "Pod", "a").await, (400, other_kind.to_owned()));
    assert_eq!(evict("policy/v1", "Eviction", "b").await, (400, other_name));
    assert_eq!(server.request("GET", &format!("{PODS}/a"), None).await.0, 200);
    // Its version before Kubernetes 1.22, which is still taken.
    assert_eq!(evict("policy/v1beta1", "Eviction", "a").await, (201, String::new()));
    assert_eq!(server.request("GET", &format!("{PODS}/a"), None).await.0, 404);
}

#[tokio::test]
async fn a_running_pod_goes_gracefully_and_another_at_once() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        server.request("POST", PODS, Some(pod(name))).await;
    }
    let (_, gone) = server.request("DELETE", &format!("{PODS}/a"), None).await;
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(server.request("GET", &format!("{PODS}/a"), None).await.0, 404);
    let binding = json!({"metadata": {"name": "b"}, "target": {"kind": "Node", "name": "n"}});
    let tried = server.request("POST", &format!("{PODS}/b/binding?dryRun=All"), Some(binding.clone())).await;
    assert_eq!(tried.0, 201);
    assert_eq!(server.request("GET", &format!("{PODS}/b"), None).await.1["spec"].get("nodeName"), None);
    assert_eq!(server.request("POST", &format!("{PODS}/b/binding"), Some(binding)).await.0, 201);
    let (_, going) = server.request("DELETE", &format!("{PODS}/b"), None).await;
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let (_, forced) = server.request("DELETE", &format!("{PODS}/b"), Some(json!({"gracePeriodSeconds": 0}))).await;
    assert_eq!(forced["metadata"]["name"], "b");
    assert_eq!(server.request("GET", &format!("{PODS}/b"), None).await.0, 404);
}

#[tokio::test]
async fn the_events_of_both_groups_are_the_same_in_two_forms() {
    let server = Server::start().await;
    let (core, other) = ("/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events");
    let reporter = Reporter { controller: "example.com/tester".to_owned(), instance: Some("a".to_owned()) };
    let recorder = Recorder::new(server.client.clone(), reporter);
    let pod = ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some("default".to_owned()),
        name: Some("p".to_owned()),
        ..ObjectReference::default()
    };
    let event = Event {
        type_: EventType::Warning,
        reason: "Tried".to_owned(),
        note: Some("it was tried".to_owned()),
        action: "Try".to_owned(),
        secondary: None,
    };
    for _ in 0..2 {
        recorder.publish(&event, &pod).await.unwrap();
    }
    let (_, list) = server.request("GET", &format!("{core}?fieldSelector=involvedObject.name%3Dp"), None).await;
    let told = &list["items"][0];
    assert_eq!((&told["apiVersion"], &told["message"]), (&json!("v1"), &json!("it was tried")), "{list}");
    assert_eq!((&told["reportingComponent"], &told["series"]["count"]), (&json!("example.com/tester"), &json!(2)));
    let selector = "fieldSelector=regarding.name%3Dp,reportingController%3Dexample.com/tester";
    let (_, list) = server.request("GET", &format!("{other}?{selector}"), None).await;
    let same = &list["items"][0];
    assert_eq!((&list["apiVersion"], &same["note"]), (&json!("events.k8s.io/v1"), &json!("it was tried")), "{list}");
    assert_eq!((&same["metadata"]["uid"], same.get("message")), (&told["metadata"]["uid"], None));
    let (_, added) = server.request("GET", &format!("{other}?watch=1&timeoutSeconds=1"), None).await;
    assert_eq!((&added["type"], &added["object"]), (&json!("ADDED"), same));
    assert!(server.kubectl_ok(&["get", "events.events.k8s.io"]).await.contains("it was tried"));

    let old = json!({"metadata": {"name": "old"}, "involvedObject": {"namespace": "default"}, "count": 3});
    assert_eq!(server.request("POST", core, Some(old)).await.0, 201);
    let (_, shown) = server.request("GET", &format!("{other}/old"), None).await;
    assert_eq!((&shown["deprecatedCount"], &shown["regarding"]), (&json!(3), &json!({"namespace": "default"})));
    let (code, refused) = server.request("POST", other, Some(json!({"metadata": {"name": "bare"}}))).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("eventTime")), "{refused}");
    assert_eq!(server.request("DELETE", &format!("{other}/old"), None).await.0, 200);
    assert_eq!(server.request("GET", &format!("{core}/old"), None).await.0, 404);
}

#[tokio::test]
async fn services_get_distinct_addresses_that_stay() {
    let server = Server::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service =
        |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    let (code, a) = server.request("POST", services, Some(service("a"))).await;
    assert_eq!(code, 201, "{a}");
    let (_, b) = server.request("POST", services, Some(service("b"))).await;
    assert_eq!(a["spec"]["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    assert!(a["spec"]["clusterIP"].is_string() && a["spec"]["clusterIP"] != b["spec"]["clusterIP"]);
    let patch = json!({"spec": {"clusterIP": "127.100.9.9", "clusterIPs": null}});
    let (code, refused) = server.patch(&format!("{services}/a"), patch).await;
    assert_eq!(code, 422);
    assert!(refused["message"].as_str().unwrap().ends_with("may not change once set"), "{refused}");
    let mut headless = service("c");
    headless["spec"]["clusterIP"] = "None".into();
    let (_, c) = server.request("POST", services, Some(headless)).await;
    assert_eq!(c["spec"]["clusterIPs"], json!(["None"]));
    let (_, replaced) = server.request("PUT", &format!("{services}/a"), Some(service("a"))).await;
    assert_eq!(replaced["spec"]["clusterIP"], a["spec"]["clusterIP"]);
}

#[tokio::test]
async fn a_stateful_set_is_checked_and_scaled() {
    let server = Server::start().await;
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let (code, refused) = server.request("POST", sets, Some(statefulset(&json!({"app": "other"})))).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "StatefulSet.apps \"s\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does \
         not match template `labels`"
    );
    let mut negative = statefulset(&json!({"app": "s"}));
    negative["spec"]["ordinals"] = json!({"start": -1});
    negative["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": -2}});
    let (code, refused) = server.request("POST", sets, Some(negative)).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "StatefulSet.apps \"s\" is invalid: [spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0, \
         spec.updateStrategy.rollingUpdate.partition: Invalid value: -2: must be greater than or equal to 0]"
    );
    let (code, made) = server.request("POST", sets, Some(statefulset(&json!({"app": "s"})))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
    let (code, refused) = server.patch(&format!("{sets}/s"), json!({"spec": {"serviceName": "other"}})).await;
    assert_eq!(code, 422);
    assert!(refused["message"].as_str().unwrap().contains("spec: Forbidden: updates to statefulset spec"), "{refused}");
    assert_eq!(server.kubectl_ok(&["scale", "sts", "s", "--replicas=3"]).await, "statefulset.apps/s scaled\n");
    let (_, scale) = server.request("GET", &format!("{sets}/s/scale"), None).await;
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(3), &json!("app=s")));
    let (_, after) = server.request("GET", &format!("{sets}/s"), None).await;
    assert_eq!(after["metadata"]["generation"], 2);
}

#[tokio::test]
async fn what_is_no_scale_scales_nothing() {
    let server = Server::start().await;
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let mut set = statefulset(&json!({"app": "s"}));
    set["spec"]["replicas"] = 2.into();
    assert_eq!(server.request("POST", sets, Some(set)).await.0, 201);
    let scale = format!("{sets}/s/scale");
    for replicas in [json!("3"), json!(3_000_000_000_i64), json!(1.5), json!({})] {
        let wanted = json!({"spec": {"replicas": replicas}});
        let (code, refused) = server.patch(&scale, wanted.clone()).await;
        assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{replicas}: {refused}");
        let (code, refused) = server.request("PUT", &scale, Some(wanted)).await;
        assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{replicas}: {refused}");
    }
    let (_, now) = server.request("GET", &scale, None).await;
    assert_eq!(now["spec"]["replicas"], 2);
    let wanted = json!({"metadata": {"name": "s"}, "spec": {"replicas": 3}});
    let (code, now) = server.request("PUT", &scale, Some(wanted)).await;
    assert_eq!((code, &now["spec"]["replicas"]), (200, &json!(3)));
}

#[tokio::test]
async fn secrets_and_config_maps_can_be_frozen() {
    let server = Server::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}, "immutable": true});
    let (_, made) = server.request("POST", secrets, Some(secret)).await;
    assert_eq!((&made["data"]["k"], &made["type"], made.get("stringData")), (&json!("dg=="), &json!("Opaque"), None));
    let (code, refused) = server.patch(&format!("{secrets}/s"), json!({"stringData": {"k": "w"}})).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "Secret \"s\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
}

#[tokio::test]
async fn a_secret_for_a_token_names_its_account_and_stays_empty() {
    let server = Server::start().await;
    let kind = "kubernetes.io/service-account-token";
    let secret = |annotations: Value| {
        let metadata = json!({"name": "s", "annotations": annotations});
        server.file("secret.json", &json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind}))
    };
    let refused = server.kubectl(&["create", "-f", &secret(json!({}))]).await;
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("metadata.annotations[kubernetes.io/service-account.name]: Required value"), "{why}");
    let file = secret(json!({"kubernetes.io/service-account.name": "default"}));
    let made = server.kubectl(&["create", "-f", &file]).await;
    assert_eq!(String::from_utf8_lossy(&made.stdout), "secret/s created\n");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(said.starts_with("Warning: ") && said.contains("use kubectl create token default"), "{said}");
}

#[tokio::test]
async fn a_namespace_waits_for_its_finalizer() {
    let server = Server::start().await;
    let (_, made) = server.request("POST", "/api/v1/namespaces", Some(json!({"metadata": {"name": "n"}}))).await;
    assert_eq!((&made["spec"]["finalizers"], &made["status"]["phase"]), (&json!(["kubernetes"]), &json!("Active")));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let (_, going) = server.request("DELETE", "/api/v1/namespaces/n", None).await;
    assert_eq!(going["status"]["phase"], "Terminating");
    let configmap = json!({"metadata": {"name": "c"}});
    let (code, refused) = server.request("POST", "/api/v1/namespaces/n/configmaps", Some(configmap)).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "configmaps \"c\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    let mut last = going;
    last["spec"]["finalizers"] = json!([]);
    assert_eq!(server.request("PUT", "/api/v1/namespaces/n/finalize", Some(last)).await.0, 200);
    assert_eq!(server.request("GET", "/api/v1/namespaces/n", None).await.0, 404);
}

#[tokio::test]
async fn the_namespaces_of_the_cluster_stay() {
    let server = Server::start().await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let path = format!("/api/v1/namespaces/{name}");
        let (code, refused) = server.request("DELETE", &path, None).await;
        let message = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
        assert_eq!((code, &refused["message"]), (403, &json!(message)));
        assert_eq!(server.request("GET", &path, None).await.1["status"]["phase"], "Active");
    }
    let (code, refused) = server.request("DELETE", "/api/v1/namespaces", None).await;
    assert_eq!((code, refused["reason"].as_str()), (405, Some("MethodNotAllowed")));
    let (_, list) = server.request("GET", "/api/v1", None).await;
    let namespaces = list["resources"].as_array().unwrap().iter().find(|one| one["name"] == "namespaces").unwrap();
    assert_eq!(namespaces["verbs"], json!(["create", "delete", "get", "list", "patch", "update", "watch"]));
}

#[tokio::test]
async fn a_token_is_made_of_what_was_asked_for_or_refused() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let ask = async |spec: Value| server.request("POST", path, Some(json!({"spec": spec}))).await;
    for nonsense in [json!("x"), json!(5), json!([]), json!({"expirationSeconds": "x"}), json!({"audiences": "x"})] {
        let (code, refused) = ask(nonsense.clone()).await;
        assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{nonsense}: {refused}");
    }
    for (seconds, why) in [(599, "less than 10 minutes"), (i64::MAX, "larger than 2^32 seconds")] {
        let (code, refused) = ask(json!({"expirationSeconds": seconds})).await;
        let message = format!(
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: {seconds}: may not \
             specify a duration {why}"
        );
        assert_eq!((code, &refused["message"]), (422, &json!(message)));
    }
    for spec in [Value::Null, json!({}), json!({"expirationSeconds": 700, "audiences": ["a"]})] {
        let (code, made) = ask(spec.clone()).await;
        assert_eq!(code, 201, "{made}");
        assert_eq!(made["spec"]["expirationSeconds"], spec.get("expirationSeconds").cloned().unwrap_or(json!(3600)));
        let audiences = spec.get("audiences").cloned().unwrap_or(json!(["https://kubernetes.default.svc"]));
        assert_eq!(made["spec"]["audiences"], audiences);
        assert!(made["status"]["token"].is_string());
    }
}

#[tokio::test]
async fn no_number_is_too_large_for_a_clock() {
    let server = Server::start().await;
    let most = i64::MAX;
    server.request("POST", PODS, Some(pod("a"))).await;
    let watch = format!("/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds={most}");
    let request = http::Request::get(&watch).body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let response = server.api.handle(UserInfo::master("test"), request).await;
    assert_eq!(response.status(), 200);
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(server.request("POST", &format!("{PODS}/a/binding"), Some(binding)).await.0, 201);
    let (_, going) = server.request("DELETE", &format!("{PODS}/a?gracePeriodSeconds={most}"), None).await;
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], most);
}

#[tokio::test]
async fn rights_are_enforced_and_can_be_asked_for() {
    let server = Server::start().await;
    assert_eq!(server.kubectl_ok(&["auth", "can-i", "create", "pods"]).await, "yes\n");
    let refused = server.kubectl(&["get", "pods", "--as=jane"]).await;
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"default\"\n"
    );
    let output = server.kubectl(&["auth", "can-i", "get", "pods", "--as=jane"]).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"no\n".as_slice()));
    assert!(server.kubectl_ok(&["auth", "whoami"]).await.contains("kubernetes-admin"));
    let token = server.kubectl_ok(&["create", "token", "default"]).await;
    let review = json!({"spec": {"token": token.trim()}});
    let (_, answer) = server.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", Some(review)).await;
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:default");
    assert_eq!(answer["status"]["audiences"], json!(["https://kubernetes.default.svc"]));
}

#[tokio::test]
async fn a_token_is_for_its_audience() {
    let server = Server::start().await;
    let token = server.kubectl_ok(&["create", "token", "default", "--audience=vault"]).await;
    let review = async |audiences: Value| {
        let review = json!({"spec": {"token": token.trim(), "audiences": audiences}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        server.request("POST", path, Some(review)).await.1["status"].clone()
    };
    let status = review(json!(["other", "vault"])).await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])), "{status}");
    for others in [json!([]), json!(["other"])] {
        assert_eq!(review(others).await["authenticated"], false);
    }
    let request = http::Request::get("/api/v1/namespaces").header("authorization", format!("Bearer {}", token.trim()));
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(server.api.handle_from_network(None, request).await.status(), 401);
}

#[tokio::test]
async fn rights_in_a_namespace_end_there() {
    let server = Server::start().await;
    for name in ["team-a", "team-b"] {
        server.request("POST", "/api/v1/namespaces", Some(json!({"metadata": {"name": name}}))).await;
    }
    server.grant("team-a", "jane", json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})).await;
    let volume = json!({"metadata": {"name": "pv"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/"},
    }});
    for (method, path, body, expected) in [
        ("GET", "", json!(""), 200),
        ("GET", "/configmaps", json!(""), 200),
        ("GET", "/namespaces", json!(""), 404),
        ("GET", "/namespaces/team-a", json!(""), 404),
        ("DELETE", "/namespaces/team-b", json!({}), 404),
        ("POST", "/persistentvolumes", volume, 404),
    ] {
        let (user, path) = (UserInfo::new("jane", [""; 0]), format!("/api/v1/namespaces/team-a{path}"));
        let (code, answer) = server.request_by(user, method, &path, "application/json", body.to_string()).await;
        assert_eq!(code, expected, "{method} {path}: {answer}");
    }
    assert_eq!(server.request("GET", "/api/v1/namespaces/team-b", None).await.0, 200);
}

#[tokio::test]
async fn an_apply_makes_only_what_its_user_may_create() {
    let server = Server::start().await;
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]});
    server.grant("default", "jane", rule).await;
    let apply = async |name: &str| {
        let path = format!("/api/v1/namespaces/default/configmaps/{name}?fieldManager=jane");
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}}).to_string();
        let user = UserInfo::new("jane", [""; 0]);
        server.request_by(user, "PATCH", &path, "application/apply-patch+yaml", body).await
    };
    let (code, refused) = apply("a").await;
    assert_eq!(code, 403, "{refused}");
    assert_eq!(
        refused["message"],
        "configmaps \"a\" is forbidden: User \"jane\" cannot create resource \"configmaps\" in API group \"\" in the \
         namespace \"default\""
    );
    let there = json!({"metadata": {"name": "a"}});
    assert_eq!(server.request("POST", "/api/v1/namespaces/default/configmaps", Some(there)).await.0, 201);
    let (code, applied) = apply("a").await;
    assert_eq!((code, &applied["data"]["k"]), (200, &json!("v")));
}

/// What a request with these headers is answered that asks who makes it.
async fn whoami(server: &Server, headers: Vec<(&str, &str)>) -> (u16, Value) {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let mut request = http::Request::post(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(name, value.as_bytes());
    }
    let request = request.body(http_body_util::Full::new(bytes::Bytes::from("{}"))).unwrap();
    server.send(UserInfo::master("test"), request).await
}

#[tokio::test]
async fn who_is_impersonated_is_who_was_asked_for_or_nobody() {
    let server = Server::start().await;
    let account = "system:serviceaccount:default:default";
    for (user, groups, expected) in [
        ("jane", vec![], vec!["system:authenticated"]),
        ("jürgen", vec!["a"], vec!["a", "system:authenticated"]),
        (account, vec![], vec!["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]),
        (account, vec!["a"], vec!["a", "system:authenticated"]),
    ] {
        let mut headers = vec![("impersonate-user", user)];
        headers.extend(groups.into_iter().map(|group| ("impersonate-group", group)));
        let (code, answer) = whoami(&server, headers).await;
        let info = &answer["status"]["userInfo"];
        assert_eq!((code, &info["username"], &info["groups"]), (201, &json!(user), &json!(expected)), "{answer}");
    }
    // Who is not authenticated may not even ask who he is.
    for (user, groups) in [("system:anonymous", vec![]), ("jane", vec!["system:unauthenticated"])] {
        let mut headers = vec![("impersonate-user", user)];
        headers.extend(groups.into_iter().map(|group| ("impersonate-group", group)));
        let (code, refused) = whoami(&server, headers).await;
        assert_eq!(code, 403);
        assert!(refused["message"].as_str().unwrap().contains(&format!("User \"{user}\" cannot create")), "{refused}");
    }
    for (headers, why) in [
        (
            vec![("impersonate-group", "a"), ("impersonate-user", "")],
            "requested the groups [\"a\"] without impersonating a user",
        ),
        (vec![("impersonate-uid", "1")], "the header impersonate-uid is not supported by this cluster"),
        (
            vec![("impersonate-user", "jane"), ("impersonate-extra-scopes", "x")],
            "the header impersonate-extra-scopes is not supported by this cluster",
        ),
        (vec![("impersonate-user", "a"), ("impersonate-user", "b")], "only one user can be impersonated"),
    ] {
        let (code, refused) = whoami(&server, headers).await;
        assert_eq!((code, &refused["message"]), (400, &json!(why)));
    }
}

#[tokio::test]
async fn nothing_is_created_at_the_path_of_an_object() {
    let server = Server::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let rule = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["create"]});
    server.grant("default", "jane", rule).await;
    let body = json!({"metadata": {"name": "other"}}).to_string();
    let jane = UserInfo::new("jane", [""; 0]);
    let (code, refused) = server.request_by(jane, "POST", &format!("{secrets}/mine"), "application/json", body).await;
    assert_eq!((code, refused["reason"].as_str()), (405, Some("MethodNotAllowed")), "{refused}");
    assert_eq!(server.request("GET", &format!("{secrets}/other"), None).await.0, 404);
    let review = "/apis/authentication.k8s.io/v1/tokenreviews/any";
    assert_eq!(server.request("POST", review, Some(json!({"spec": {"token": "x"}}))).await.0, 405);
}

#[tokio::test]
async fn hostnames_are_labels() {
    let server = Server::start().await;
    let forged = "a\n127.0.0.1\tdb";
    let mut named = pod("a");
    named["spec"]["hostname"] = forged.into();
    let address = json!({"ip": "127.100.0.1", "hostname": forged});
    let endpoints = json!({"metadata": {"name": "s"}, "subsets": [{"addresses": [address]}]});
    let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [
        {"addresses": ["127.100.0.1"], "hostname": forged},
    ]});
    for (path, object, field) in [
        (PODS, named, "spec.hostname"),
        ("/api/v1/namespaces/default/endpoints", endpoints, "subsets[0].addresses[0].hostname"),
        ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice, "endpoints[0].hostname"),
    ] {
        let (code, refused) = server.request("POST", path, Some(object)).await;
        assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!(field)), "{refused}");
    }
}
