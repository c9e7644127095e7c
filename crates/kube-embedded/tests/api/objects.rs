//! Create, read, update, delete, list and watch.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event};
use kube_embedded::user::UserInfo;
use serde_json::{Value, json};

use super::harness::Server;

fn configmap(name: &str, text: &str) -> ConfigMap {
    serde_json::from_value(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": text}}),
    )
    .unwrap()
}

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client.clone());
    let created = api.create(&PostParams::default(), &configmap("a", "1")).await.unwrap();
    assert!(created.metadata.uid.is_some() && created.metadata.creation_timestamp.is_some());
    let mut changed = api.get("a").await.unwrap();
    changed.data.as_mut().unwrap().insert("k".to_owned(), "2".to_owned());
    let replaced = api.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(replaced.metadata.resource_version, created.metadata.resource_version);
    let error = api.replace("a", &PostParams::default(), &changed).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        status.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the \
         latest version and try again"
    );
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_watch_tells_what_happens_after_the_list() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client.clone());
    let list = api.list(&ListParams::default()).await.unwrap();
    let version = list.metadata.resource_version.unwrap();
    let mut events = api.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    api.create(&PostParams::default(), &configmap("a", "1")).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let added = events.try_next().await.unwrap().unwrap();
    assert!(matches!(added, WatchEvent::Added(object) if object.metadata.name.as_deref() == Some("a")));
    assert!(matches!(events.try_next().await.unwrap().unwrap(), WatchEvent::Deleted(_)));
}

#[tokio::test]
async fn lists_come_in_consistent_pages() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client.clone());
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &configmap(name, "1")).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, Some(1)));
    api.create(&PostParams::default(), &configmap("d", "1")).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let second = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    let names: Vec<_> = second.items.iter().filter_map(|item| item.metadata.name.as_deref()).collect();
    assert_eq!(names, ["c"], "what came after the first page is not in it");
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
}

#[tokio::test]
async fn kubectl_creates_gets_and_deletes() {
    let server = Server::start().await;
    let file = server.file("a.json", &serde_json::to_value(configmap("a", "v")).unwrap());
    server.kubectl_ok(&["create", "-f", &file]).await;
    assert_eq!(server.kubectl_ok(&["get", "cm", "a", "-o", "jsonpath={.data.k}"]).await, "v");
    assert!(server.kubectl_ok(&["get", "cm"]).await.contains('a'));
    server.kubectl_ok(&["delete", "cm", "a"]).await;
    let output = server.kubectl(&["get", "cm", "a"]).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "Error from server (NotFound): configmaps \"a\" not found\n");
}

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn what_a_selector_means_no_more_goes_as_what_it_was() {
    let server = Server::start().await;
    let labelled = json!({"metadata": {"name": "a", "labels": {"app": "web"}}});
    let (_, made) = server.request("POST", CONFIGMAPS, Some(labelled)).await;
    let (_, changed) = server.patch(&format!("{CONFIGMAPS}/a"), json!({"metadata": {"labels": {"app": "db"}}})).await;
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let watch = format!("{CONFIGMAPS}?watch=1&timeoutSeconds=1&resourceVersion={}", version(&made));
    let (_, left) = server.request("GET", &format!("{watch}&labelSelector=app%3Dweb"), None).await;
    assert_eq!((&left["type"], &left["object"]["metadata"]["labels"]["app"]), (&json!("DELETED"), &json!("web")));
    assert_eq!(version(&left["object"]), version(&changed));
    let (_, come) = server.request("GET", &format!("{watch}&labelSelector=app%3Ddb"), None).await;
    assert_eq!((&come["type"], &come["object"]), (&json!("ADDED"), &changed));
}

#[tokio::test]
async fn a_bookmark_has_the_form_that_was_asked_for() {
    let server = Server::start().await;
    let (_, list) = server.request("GET", CONFIGMAPS, None).await;
    let version = &list["metadata"]["resourceVersion"];
    let watch = format!(
        "{CONFIGMAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={}",
        version.as_str().unwrap()
    );
    for (accept, kind) in [
        ("application/json", "ConfigMap"),
        ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json", "PartialObjectMetadata"),
    ] {
        let request = http::Request::get(&watch).header("accept", accept);
        let request = request.body(http_body_util::Full::new(bytes::Bytes::new())).unwrap();
        let (code, event) = server.send(UserInfo::master("test"), request).await;
        assert_eq!((code, &event["type"], &event["object"]["kind"]), (200, &json!("BOOKMARK"), &json!(kind)));
        assert_eq!(&event["object"]["metadata"]["resourceVersion"], version);
    }
}

#[tokio::test]
async fn a_watch_that_begins_with_what_is_there_says_where_that_ends() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        server.request("POST", CONFIGMAPS, Some(json!({"metadata": {"name": name}}))).await;
    }
    let (_, list) = server.request("GET", CONFIGMAPS, None).await;
    let watch = async |query: &str| {
        let (code, told) = server.request("GET", &format!("{CONFIGMAPS}?watch=1&timeoutSeconds=1&{query}"), None).await;
        assert_eq!(code, 200, "{told}");
        // One event is one document, several are lines.
        let lines = told.as_str().map_or_else(|| told.to_string(), str::to_owned);
        let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        events
    };
    let matching = "resourceVersionMatch=NotOlderThan";
    let with_end = "allowWatchBookmarks=true";
    let (streamed, without_end, from_now, unsaid) = (
        format!("sendInitialEvents=true&{matching}&{with_end}&fieldSelector=metadata.name%3Da&resourceVersion=1"),
        format!("sendInitialEvents=true&{matching}"),
        format!("sendInitialEvents=false&{matching}&{with_end}"),
        format!("resourceVersion=0&{with_end}"),
    );
    let (streamed, without_end, from_now, unsaid) =
        tokio::join!(watch(&streamed), watch(&without_end), watch(&from_now), watch(&unsaid));
    let words = |events: &[Value]| {
        let word = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
        events.iter().map(word).collect::<Vec<_>>()
    };
    assert_eq!(words(&streamed), ["ADDED", "BOOKMARK", "BOOKMARK"]);
    let end = &streamed[1]["object"]["metadata"];
    assert_eq!(end["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!(end["resourceVersion"], list["metadata"]["resourceVersion"]);
    assert_eq!(streamed[2]["object"]["metadata"].get("annotations"), None);
    assert_eq!(words(&without_end), ["ADDED", "ADDED"]);
    assert_eq!(words(&from_now), ["BOOKMARK"]);
    assert_eq!(words(&unsaid), ["ADDED", "ADDED", "BOOKMARK", "BOOKMARK"]);
}

#[tokio::test]
async fn a_watcher_of_kube_streams_its_first_list() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client.clone());
    api.create(&PostParams::default(), &configmap("a", "1")).await.unwrap();
    let mut events = watcher::watcher(api.clone(), watcher::Config::default().streaming_lists()).boxed();
    let mut next = async || match events.try_next().await.unwrap().unwrap() {
        Event::Init => "init".to_owned(),
        Event::InitApply(object) => format!("init {}", object.metadata.name.unwrap()),
        Event::InitDone => "done".to_owned(),
        Event::Apply(object) => format!("apply {}", object.metadata.name.unwrap()),
        Event::Delete(object) => format!("delete {}", object.metadata.name.unwrap()),
    };
    assert_eq!([next().await, next().await, next().await], ["init", "init a", "done"]);
    api.create(&PostParams::default(), &configmap("b", "1")).await.unwrap();
    assert_eq!(next().await, "apply b");
}

#[tokio::test]
async fn what_is_created_has_no_version_yet() {
    let server = Server::start().await;
    let create = async |version: &str| {
        let object = json!({"metadata": {"name": "a", "resourceVersion": version}});
        server.request("POST", CONFIGMAPS, Some(object)).await
    };
    let (code, refused) = create("5").await;
    assert_eq!((code, refused.get("reason")), (500, None), "{refused}");
    assert_eq!(refused["message"], "resourceVersion should not be set on objects to be created");
    assert_eq!(create("0").await.0, 201);
}

#[tokio::test]
async fn what_many_write_is_replaced_only_by_who_has_seen_it() {
    let server = Server::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = |holder: &str| json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": holder}});
    let (_, seen) = server.request("POST", leases, Some(lease("first"))).await;
    let mut second = lease("second");
    // `0` is no version.
    for none in ["", "0"] {
        second["metadata"]["resourceVersion"] = none.into();
        let (code, refused) = server.request("PUT", &format!("{leases}/a"), Some(second.clone())).await;
        assert_eq!(code, 422, "{none}");
        assert_eq!(
            refused["message"],
            "Lease.coordination.k8s.io \"a\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be \
             specified for an update"
        );
    }
    second["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"].clone();
    assert_eq!(server.request("PUT", &format!("{leases}/a"), Some(second)).await.0, 200);
    server.request("POST", CONFIGMAPS, Some(json!({"metadata": {"name": "a"}}))).await;
    for none in ["", "0"] {
        let blind = json!({"metadata": {"name": "a", "resourceVersion": none}, "data": {"k": none}});
        let (code, replaced) = server.request("PUT", &format!("{CONFIGMAPS}/a"), Some(blind)).await;
        assert_eq!((code, &replaced["data"]["k"]), (200, &json!(none)), "{replaced}");
    }
}

/// As after the last owner of an object was taken away.
#[tokio::test]
async fn what_is_empty_in_metadata_is_left_out() {
    let server = Server::start().await;
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
    let owned = json!({"metadata": {"name": "a", "labels": {}, "ownerReferences": [owner], "finalizers": []}});
    let (_, made) = server.request("POST", CONFIGMAPS, Some(owned)).await;
    assert!(made["metadata"].get("labels").is_none() && made["metadata"].get("finalizers").is_none(), "{made}");
    let mut freed = made.clone();
    freed["metadata"]["ownerReferences"] = json!([]);
    let (code, freed) = server.request("PUT", &format!("{CONFIGMAPS}/a"), Some(freed)).await;
    assert_eq!((code, freed["metadata"].get("ownerReferences")), (200, None), "{freed}");
}

/// `AllowCreateOnUpdate` in `pkg/registry/*/*/strategy.go` of Kubernetes.
#[tokio::test]
async fn an_update_makes_what_is_not_there_of_the_kinds_of_which_kubernetes_makes_it() {
    let server = Server::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    // That it was there once does not matter; which one it was does.
    let mut lease = json!({"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "me"}});
    let (code, refused) = server.request("PUT", &format!("{leases}/a"), Some(lease.clone())).await;
    let why = "the name of the object (a based on URL) was undeterminable: name must be provided";
    assert_eq!((code, &refused["message"]), (400, &json!(why)));
    lease["metadata"]["name"] = "a".into();
    let (code, made) = server.request("PUT", &format!("{leases}/a"), Some(lease.clone())).await;
    assert_eq!((code, &made["spec"]["holderIdentity"]), (201, &json!("me")), "{made}");
    assert!(made["metadata"]["uid"].is_string(), "{made}");
    assert_eq!(server.request("DELETE", &format!("{leases}/a"), None).await.0, 200);
    let (code, refused) = server.request("PUT", &format!("{leases}/a"), Some(made)).await;
    assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")), "{refused}");
    server.grant("default", "jane", json!({"apiGroups": ["*"], "resources": ["leases"], "verbs": ["update"]})).await;
    let jane = UserInfo::new("jane", [""; 0]);
    let path = format!("{leases}/a");
    let (code, refused) = server.request_by(jane, "PUT", &path, "application/json", lease.to_string()).await;
    assert_eq!(code, 403);
    assert!(refused["message"].as_str().unwrap().contains("cannot create resource \"leases\""), "{refused}");
    let blind = json!({"metadata": {"name": "a"}});
    for path in ["configmaps/a", "services/a/status"] {
        let path = format!("/api/v1/namespaces/default/{path}");
        assert_eq!(server.request("PUT", &path, Some(blind.clone())).await.0, 404, "{path}");
    }
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    });
    let replaced = server.kubectl_ok(&["replace", "-f", &server.file("role.json", &role)]).await;
    assert_eq!(replaced, "role.rbac.authorization.k8s.io/r replaced\n");
}

#[tokio::test]
async fn only_the_object_that_was_meant_is_deleted() {
    let server = Server::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let (_, made) = server.request("POST", leases, Some(json!({"metadata": {"name": "a"}}))).await;
    let (uid, version) = (&made["metadata"]["uid"], &made["metadata"]["resourceVersion"]);
    for (field, what, is, why) in [
        ("uid", "UID", uid, "The object might have been deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", version, "The object might have been modified"),
    ] {
        let options = json!({"preconditions": {field: "0"}});
        let (code, refused) = server.request("DELETE", &format!("{leases}/a"), Some(options)).await;
        let message = format!(
            "Operation cannot be fulfilled on Lease.coordination.k8s.io \"a\": the {what} in the precondition (0) does \
             not match the {what} in record ({}). {why}",
            is.as_str().unwrap()
        );
        assert_eq!((code, &refused["message"]), (409, &json!(message)));
    }
    let options = json!({"preconditions": {"uid": uid, "resourceVersion": version}});
    assert_eq!(server.request("DELETE", &format!("{leases}/a"), Some(options)).await.0, 200);
}

#[tokio::test]
async fn a_patch_does_not_move_an_object() {
    let server = Server::start().await;
    server.request("POST", CONFIGMAPS, Some(json!({"metadata": {"name": "a"}}))).await;
    for (metadata, why) in [
        (json!({"name": "b"}), "the name of the object (b) does not match the name on the URL (a)"),
        (json!({"name": null}), "the name of the object (a based on URL) was undeterminable: name must be provided"),
        (
            json!({"namespace": "kube-system"}),
            "the namespace of the object (kube-system) does not match the namespace on the URL (default)",
        ),
    ] {
        let patch = json!({"metadata": metadata, "data": {"k": "v"}});
        let (code, refused) = server.patch(&format!("{CONFIGMAPS}/a"), patch).await;
        assert_eq!((code, &refused["message"]), (400, &json!(why)));
    }
    let (_, now) = server.request("GET", &format!("{CONFIGMAPS}/a"), None).await;
    assert_eq!(now.get("data"), None);
}

#[tokio::test]
async fn an_object_that_is_being_deleted_waits_for_nobody_new() {
    let server = Server::start().await;
    let held = json!({"metadata": {"name": "a", "finalizers": ["example.com/a"]}});
    server.request("POST", CONFIGMAPS, Some(held)).await;
    let path = format!("{CONFIGMAPS}/a");
    let set = async |finalizers: Value| server.patch(&path, json!({"metadata": {"finalizers": finalizers}})).await;
    assert_eq!(set(json!(["example.com/a", "example.com/b"])).await.0, 200);
    assert_eq!(server.request("DELETE", &path, None).await.0, 200);
    let (code, refused) = set(json!(["example.com/a", "example.com/d", "example.com/c"])).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being \
         deleted, found new finalizers []string{\"example.com/c\", \"example.com/d\"}"
    );
    assert_eq!(set(json!(["example.com/a"])).await.0, 200);
    assert_eq!(set(json!([])).await.0, 200);
    assert_eq!(server.request("GET", &path, None).await.0, 404);
}

#[tokio::test]
async fn changes_are_counted_where_kubernetes_counts_them() {
    let server = Server::start().await;
    let core = |plural: &str| format!("/api/v1/namespaces/default/{plural}");
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let webhooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations".to_owned();
    for (path, spec, generation) in [
        (core("pods"), json!({"containers": [{"name": "c", "image": "i"}]}), Some(1)),
        (core("services"), json!({"ports": [{"port": 80}]}), None),
        (core("persistentvolumeclaims"), claim, None),
        (core("configmaps"), json!(null), None),
        ("/api/v1/namespaces".to_owned(), json!({}), None),
        (webhooks, json!(null), Some(1)),
    ] {
        let (code, made) = server.request("POST", &path, Some(json!({"metadata": {"name": "x"}, "spec": spec}))).await;
        assert_eq!(code, 201, "{path}: {made}");
        assert_eq!(made["metadata"]["generation"].as_i64(), generation, "{path}");
    }
}
