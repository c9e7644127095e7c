//! Custom resources: served right after their definition, checked by their schema, gone with it.

use serde_json::{Value, json};

use super::harness::Server;

const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {
                    "type": "object", "description": "A Widget is a thing.",
                    "properties": {
                        "spec": {"type": "object", "required": ["color"], "properties": {
                            "color": {"type": "string", "description": "Its color.", "enum": ["red", "blue"]},
                            "size": {"type": "integer", "default": 1, "maximum": 9},
                        }},
                        "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
                    },
                }},
            }],
        },
    })
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

async fn with_definition() -> Server {
    let server = Server::start().await;
    assert_eq!(server.request("POST", DEFINITIONS, Some(definition())).await.0, 201);
    server
}

#[tokio::test]
async fn a_custom_resource_is_defaulted_pruned_and_validated() {
    let server = Server::start().await;
    let (code, defined) = server.request("POST", DEFINITIONS, Some(definition())).await;
    assert_eq!(code, 201, "{defined}");
    assert_eq!(defined["status"]["conditions"][1]["type"], "Established");
    let (code, made) = server.request("POST", WIDGETS, Some(widget("a", json!({"color": "red", "extra": 1})))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"], json!({"color": "red", "size": 1}));
    assert_eq!(made["metadata"]["generation"], 1);
    let (_, refused) = server.request("POST", WIDGETS, Some(widget("b", json!({"color": null})))).await;
    assert_eq!(refused["message"], "Widget.example.com \"b\" is invalid: spec.color: Required value");
    let (code, refused) =
        server.request("POST", WIDGETS, Some(widget("b", json!({"color": "green", "size": 10})))).await;
    assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")));
    assert_eq!(
        refused["message"],
        "Widget.example.com \"b\" is invalid: [spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\", \
         spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9]"
    );
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let (code, refused) =
        server.request("POST", &strict, Some(widget("c", json!({"color": "red", "colour": 1})))).await;
    assert_eq!(
        (code, refused["message"].as_str()),
        (400, Some("strict decoding error: unknown field \"spec.colour\""))
    );
}

#[tokio::test]
async fn defaults_are_there_in_objects_that_are_older_than_they_are() {
    let (server, mut defined) = (with_definition().await, definition());
    let (_, made) = server.request("POST", WIDGETS, Some(widget("a", json!({"color": "red"})))).await;
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    defined.pointer_mut(properties).unwrap()["shape"] = json!({"type": "string", "default": "round"});
    let newer = json!({"spec": {"versions": defined["spec"]["versions"]}});
    let (code, newer) = server.patch(&format!("{DEFINITIONS}/widgets.example.com"), newer).await;
    assert_eq!(code, 200, "{newer}");

    let spec = json!({"color": "red", "size": 1, "shape": "round"});
    let path = format!("{WIDGETS}/a");
    let (_, found) = server.request("GET", &path, None).await;
    assert_eq!(found["spec"], spec);
    assert_eq!(found["metadata"], made["metadata"], "nothing was written");
    assert_eq!(server.request("GET", WIDGETS, None).await.1["items"][0]["spec"], spec);
    let (_, watched) = server.request("GET", &format!("{WIDGETS}?watch=1&timeoutSeconds=1"), None).await;
    assert_eq!(watched["object"]["spec"], spec);
    let (_, changed) = server.patch(&path, json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!((&changed["spec"], &changed["metadata"]["generation"]), (&spec, &json!(1)));
}

/// What a watch tells until it ends by itself, long before its time.
async fn watched(server: &Server, version: &Value) -> Vec<Value> {
    let watch = format!("{WIDGETS}?watch=1&timeoutSeconds=300&resourceVersion={}", version.as_str().unwrap());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), server.request("GET", &watch, None));
    let (code, told) = ended.await.expect("the watch ends");
    assert_eq!(code, 200, "{told}");
    // One event is one document, several are lines.
    let lines = told.as_str().map_or_else(|| told.to_string(), str::to_owned);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn who_watches_lists_again_when_the_definition_says_something_else() {
    let (server, mut defined) = (with_definition().await, definition());
    server.request("POST", WIDGETS, Some(widget("a", json!({"color": "red"})))).await;
    let (_, list) = server.request("GET", WIDGETS, None).await;
    let seen = &list["metadata"]["resourceVersion"];
    let name = format!("{DEFINITIONS}/widgets.example.com");
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    defined.pointer_mut(properties).unwrap()["shape"] = json!({"type": "string", "default": "round"});
    let change = async {
        // A label says nothing of widgets.
        assert_eq!(server.patch(&name, json!({"metadata": {"labels": {"a": "b"}}})).await.0, 200);
        let (_, made) = server.request("POST", WIDGETS, Some(widget("b", json!({"color": "red"})))).await;
        let newer = json!({"spec": {"versions": defined["spec"]["versions"]}});
        assert_eq!(server.patch(&name, newer).await.0, 200);
        made["metadata"]["resourceVersion"].clone()
    };
    let (told, made) = tokio::join!(watched(&server, seen), change);
    // The change may be quicker than what is told of before it: who lists again sees that, too.
    assert!(told.iter().all(|event| event["object"]["metadata"]["name"] == "b"), "{told:?}");

    for version in [seen, &made] {
        let refused = watched(&server, version).await;
        assert_eq!((&refused[0]["type"], &refused[0]["object"]["code"]), (&json!("ERROR"), &json!(410)), "{refused:?}");
    }
    let (_, list) = server.request("GET", WIDGETS, None).await;
    assert_eq!(list["items"][0]["spec"]["shape"], "round");
    let remove = async { assert_eq!(server.request("DELETE", &name, None).await.0, 200) };
    let (told, ()) = tokio::join!(watched(&server, &list["metadata"]["resourceVersion"]), remove);
    assert!(told.iter().all(|event| event["type"] == "DELETED"), "{told:?}");
    assert_eq!(told.len(), 2, "the last changes are told before the end: {told:?}");
}

#[tokio::test]
async fn objects_are_selected_by_the_fields_that_their_definition_names() {
    let server = Server::start().await;
    let mut selectable = definition();
    selectable["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    assert_eq!(server.request("POST", DEFINITIONS, Some(selectable)).await.0, 201);
    for (name, color) in [("a", "red"), ("b", "blue")] {
        server.request("POST", WIDGETS, Some(widget(name, json!({"color": color})))).await;
    }
    let (code, list) = server.request("GET", &format!("{WIDGETS}?fieldSelector=spec.color%3Dblue"), None).await;
    let names: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!((code, names), (200, vec![&json!("b")]));
    let (code, refused) = server.request("GET", &format!("{WIDGETS}?fieldSelector=spec.size%3D1"), None).await;
    assert_eq!((code, &refused["message"]), (400, &json!("field label not supported: spec.size")));
}

#[tokio::test]
async fn status_and_spec_change_separately() {
    let server = with_definition().await;
    let mut first = widget("a", json!({"color": "red"}));
    first["status"] = json!({"size": 7});
    let (_, made) = server.request("POST", WIDGETS, Some(first)).await;
    assert!(made.get("status").is_none(), "status is not the creator's");
    let path = format!("{WIDGETS}/a/status");
    let (code, patched) = server.patch(&path, json!({"spec": {"color": "blue"}, "status": {"size": 3}})).await;
    assert_eq!(code, 200, "{patched}");
    assert_eq!((&patched["spec"]["color"], &patched["status"]["size"]), (&json!("red"), &json!(3)));
    assert_eq!(patched["metadata"]["generation"], 1);
    let patch = json!({"spec": {"color": "blue"}, "status": {"size": 4}});
    let (_, patched) = server.patch(&format!("{WIDGETS}/a"), patch).await;
    assert_eq!((&patched["spec"]["color"], &patched["status"]["size"]), (&json!("blue"), &json!(3)));
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test]
async fn replicas_that_have_no_place_are_an_error() {
    let server = Server::start().await;
    let mut odd = definition();
    let version = &mut odd["spec"]["versions"][0];
    version["subresources"]["scale"]["specReplicasPath"] = ".spec.either.size".into();
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["either"] =
        json!({"x-kubernetes-int-or-string": true});
    let (code, defined) = server.request("POST", DEFINITIONS, Some(odd)).await;
    assert_eq!(code, 201, "{defined}");
    let (code, made) = server.request("POST", WIDGETS, Some(widget("a", json!({"color": "red", "either": 5})))).await;
    assert_eq!(code, 201, "{made}");
    let scale = json!({"metadata": {"name": "a"}, "spec": {"replicas": 3}});
    let (code, refused) = server.request("PUT", &format!("{WIDGETS}/a/scale"), Some(scale)).await;
    assert_eq!((code, refused["reason"].as_str()), (500, Some("InternalError")), "{refused}");
    assert_eq!(server.request("GET", &format!("{WIDGETS}/a"), None).await.1["spec"]["either"], 5);
}

#[tokio::test]
async fn a_definition_goes_with_its_last_object() {
    let server = with_definition().await;
    server.request("POST", WIDGETS, Some(widget("a", json!({"color": "red"})))).await;
    let mut held = widget("held", json!({"color": "red"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.request("POST", WIDGETS, Some(held)).await;
    let name = format!("{DEFINITIONS}/widgets.example.com");
    let (code, _) = server.request("DELETE", &name, None).await;
    assert_eq!(code, 200);
    assert_eq!(server.request("GET", &format!("{WIDGETS}/a"), None).await.0, 404);
    assert_eq!(server.request("GET", &name, None).await.0, 200, "one object is still held");
    assert_eq!(server.request("POST", WIDGETS, Some(widget("b", json!({"color": "red"})))).await.0, 405);
    server.patch(&format!("{WIDGETS}/held"), json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(server.request("GET", &name, None).await.0, 404);
    let (code, answer) = server.request("GET", WIDGETS, None).await;
    assert_eq!((code, answer.as_str()), (404, Some("404 page not found\n")));
}

#[tokio::test]
async fn objects_go_with_a_definition_that_was_replaced() {
    let server = with_definition().await;
    server.request("POST", WIDGETS, Some(widget("a", json!({"color": "red"})))).await;
    let name = format!("{DEFINITIONS}/widgets.example.com");
    let (_, now) = server.request("GET", &name, None).await;
    let mut bare = definition();
    bare["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
    let (code, replaced) = server.request("PUT", &name, Some(bare)).await;
    assert_eq!((code, replaced["metadata"].get("finalizers")), (200, None), "{replaced}");
    assert_eq!(server.request("DELETE", &name, None).await.0, 200);
    assert_eq!(server.request("GET", &name, None).await.0, 404);
    assert_eq!(server.request("POST", DEFINITIONS, Some(definition())).await.0, 201);
    let (code, list) = server.request("GET", WIDGETS, None).await;
    assert_eq!((code, &list["items"]), (200, &json!([])));
}

#[tokio::test]
async fn a_definition_of_which_nothing_is_served_can_be_deleted() {
    let server = with_definition().await;
    server.request("POST", WIDGETS, Some(widget("a", json!({"color": "red"})))).await;
    let mut versions = definition()["spec"]["versions"].clone();
    versions[0]["served"] = false.into();
    let name = format!("{DEFINITIONS}/widgets.example.com");
    assert_eq!(server.patch(&name, json!({"spec": {"versions": versions}})).await.0, 200);
    assert_eq!(server.request("DELETE", &name, None).await.0, 200);
    assert_eq!(server.request("GET", &name, None).await.0, 404);
    server.request("POST", DEFINITIONS, Some(definition())).await;
    assert_eq!(server.request("GET", WIDGETS, None).await.1["items"], json!([]));
}

#[tokio::test]
async fn an_object_is_shown_in_every_version() {
    let server = Server::start().await;
    let mut both = definition();
    let mut second = both["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    both["spec"]["versions"].as_array_mut().unwrap().push(second);
    assert_eq!(server.request("POST", DEFINITIONS, Some(both)).await.0, 201);
    let (_, first) = server.request("POST", WIDGETS, Some(widget("a", json!({"color": "red"})))).await;
    let seconds = WIDGETS.replace("/v1/", "/v2/");
    let (_, got) = server.request("GET", &format!("{seconds}/a"), None).await;
    assert_eq!(got["apiVersion"], "example.com/v2");
    let (_, list) = server.request("GET", &seconds, None).await;
    assert_eq!((&list["apiVersion"], &list["items"][0]), (&json!("example.com/v2"), &got));
    let (_, event) = server.request("GET", &format!("{seconds}?watch=1&timeoutSeconds=1"), None).await;
    assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &got));
    let (code, same) = server.patch(&format!("{seconds}/a"), json!({"spec": {"color": "red"}})).await;
    assert_eq!((code, &same), (200, &got));
    assert_eq!(same["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"], "another name is no change");
    let (code, patched) = server.patch(&format!("{seconds}/a"), json!({"spec": {"size": 2}})).await;
    assert_eq!((code, &patched["apiVersion"]), (200, &json!("example.com/v2")), "{patched}");
    let (code, patched) = server.patch(&format!("{WIDGETS}/a"), json!({"spec": {"size": 3}})).await;
    assert_eq!((code, &patched["apiVersion"]), (200, &json!("example.com/v1")), "{patched}");
    assert_eq!(patched["metadata"]["generation"], 3);
}

#[tokio::test]
async fn a_definition_does_not_change_what_its_objects_are_stored_by() {
    let server = with_definition().await;
    let name = format!("{DEFINITIONS}/widgets.example.com");
    let (code, refused) = server.patch(&name, json!({"spec": {"scope": "Cluster"}})).await;
    assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")));
    assert_eq!(
        refused["message"],
        "CustomResourceDefinition.apiextensions.k8s.io \"widgets.example.com\" is invalid: spec.scope: Invalid value: \
         \"Cluster\": field is immutable"
    );
    let mut second = definition()["spec"]["versions"].clone();
    second[0]["name"] = "v2".into();
    let only_second = json!({"spec": {"versions": second}});
    let (code, refused) = server.patch(&name, only_second.clone()).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("status.storedVersions[0]")));
    let mut both = definition()["spec"]["versions"].clone();
    both[0]["storage"] = false.into();
    both.as_array_mut().unwrap().push(second[0].clone());
    let (code, moved) = server.patch(&name, json!({"spec": {"versions": both}})).await;
    assert_eq!((code, &moved["status"]["storedVersions"]), (200, &json!(["v1", "v2"])), "{moved}");
    let status = format!("{name}/status");
    let (code, refused) = server.patch(&status, json!({"status": {"storedVersions": ["v1"]}})).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("status.storedVersions")));
    assert_eq!(server.patch(&status, json!({"status": {"storedVersions": ["v2"]}})).await.0, 200);
    assert_eq!(server.patch(&name, only_second).await.0, 200);
    assert_eq!(server.request("GET", WIDGETS, None).await.0, 404);
}

#[tokio::test]
async fn a_kind_is_defined_once() {
    let server = with_definition().await;
    let mut second = definition();
    second["metadata"]["name"] = "gadgets.example.com".into();
    second["spec"]["names"]["plural"] = "gadgets".into();
    let (code, refused) = server.request("POST", DEFINITIONS, Some(second.clone())).await;
    let message = "CustomResourceDefinition.apiextensions.k8s.io \"gadgets.example.com\" is invalid: spec.names.kind: \
                   Invalid value: \"Widget\": is already in use by widgets.example.com";
    assert_eq!((code, refused["message"].as_str()), (422, Some(message)));
    let (code, again) = server.request("POST", DEFINITIONS, Some(definition())).await;
    assert_eq!((code, again["reason"].as_str()), (409, Some("AlreadyExists")), "{again}");
    second["metadata"]["name"] = "gadgets.example.org".into();
    second["spec"]["group"] = "example.org".into();
    assert_eq!(server.request("POST", DEFINITIONS, Some(second)).await.0, 201, "of another group");
}

#[tokio::test]
async fn a_kind_that_is_defined_twice_at_once_is_defined_once() {
    let server = Server::start().await;
    for round in 0..10 {
        let group = format!("round{round}.example.com");
        let [one, other] = ["widgets", "gadgets"].map(|plural| {
            let mut definition = definition();
            definition["metadata"]["name"] = format!("{plural}.{group}").into();
            definition["spec"]["names"]["plural"] = plural.into();
            definition["spec"]["group"] = group.clone().into();
            server.request("POST", DEFINITIONS, Some(definition))
        });
        let ((one, _), (other, _)) = tokio::join!(one, other);
        assert_eq!([one.min(other), one.max(other)], [201, 422]);
    }
}

#[tokio::test]
async fn a_webhook_that_would_have_to_convert_is_refused() {
    let server = Server::start().await;
    let mut converted = definition();
    converted["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "w", "namespace": "default"}},
    }});
    let mut both = converted.clone();
    let mut second = both["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    both["spec"]["versions"].as_array_mut().unwrap().push(second);
    let (code, refused) = server.request("POST", DEFINITIONS, Some(both)).await;
    assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")));
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.conversion.strategy");
    let (code, taken) = server.request("POST", DEFINITIONS, Some(converted)).await;
    assert_eq!((code, &taken["spec"]["conversion"]["strategy"]), (201, &json!("Webhook")), "one version needs none");
}

#[tokio::test]
async fn an_object_older_than_its_schema_can_be_changed() {
    let server = with_definition().await;
    let mut old = widget("a", json!({"color": "red"}));
    old["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert_eq!(server.request("POST", WIDGETS, Some(old)).await.0, 201);
    let mut versions = definition()["spec"]["versions"].clone();
    let spec = &mut versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"]["color"]["enum"] = json!(["blue"]);
    spec["properties"]["shade"] = json!({"type": "string", "default": "dark"});
    spec["properties"]["owner"] = json!({"type": "string"});
    spec["required"] = json!(["color", "owner"]);
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    assert_eq!(server.patch(&definition, json!({"spec": {"versions": versions}})).await.0, 200);
    let path = format!("{WIDGETS}/a");
    let (code, changed) = server.patch(&format!("{path}/status"), json!({"status": {"size": 3}})).await;
    assert_eq!((code, &changed["status"]["size"]), (200, &json!(3)), "{changed}");
    let (code, changed) = server.patch(&path, json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(code, 200, "{changed}");
    let (code, refused) = server.patch(&path, json!({"spec": {"size": 2}})).await;
    let message = "Widget.example.com \"a\" is invalid: spec.owner: Required value";
    assert_eq!((code, refused["message"].as_str()), (422, Some(message)));
    let (code, changed) = server.patch(&path, json!({"spec": {"size": 2, "owner": "me"}})).await;
    assert_eq!((code, &changed["spec"]["color"]), (200, &json!("red")), "{changed}");
    let (code, refused) = server.patch(&path, json!({"spec": {"color": "green"}})).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("spec.color")));
    assert_eq!(server.request("DELETE", &path, None).await.0, 200);
    assert_eq!(server.patch(&path, json!({"metadata": {"finalizers": null}})).await.0, 200);
    assert_eq!(server.request("GET", &path, None).await.0, 404);
}

#[tokio::test]
async fn what_is_nested_too_deeply_or_too_large_is_refused() {
    let server = Server::start().await;
    let mut free = definition();
    let schema = &mut free["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] = true.into();
    assert_eq!(server.request("POST", DEFINITIONS, Some(free)).await.0, 201);
    let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"a": inner}));
    let large = widget("large", json!({"color": "red", "x": "x".repeat(2 << 20)}));
    let (code, refused) = server.request("POST", WIDGETS, Some(large)).await;
    assert_eq!((code, refused["message"].as_str()), (413, Some("etcdserver: request is too large")));
    let deep = widget("deep", json!({"color": "red", "x": nested(122)}));
    let (code, refused) = server.request("POST", WIDGETS, Some(deep)).await;
    assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.starts_with("the object is nested too deeply"), "{message}");
    server.request("POST", WIDGETS, Some(widget("a", json!({"color": "red"})))).await;
    let add = async |path: &str| {
        let patch = json!([{"op": "add", "path": path, "value": nested(70)}]).to_string();
        server.request_as("PATCH", &format!("{WIDGETS}/a"), "application/json-patch+json", patch).await
    };
    assert_eq!(add("/spec/x").await.0, 200);
    let (code, refused) = add(&format!("/spec/x{}/b", "/a".repeat(69))).await;
    assert_eq!(code, 400, "{refused}");
    let (_, list) = server.request("GET", WIDGETS, None).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn kubectl_knows_custom_resources() {
    let server = Server::start().await;
    let file = server.file("crd.json", &definition());
    server.kubectl_ok(&["apply", "-f", &file]).await;
    server.kubectl_ok(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=5s"]).await;
    let file = server.file("widget.json", &widget("a", json!({"color": "red"})));
    assert_eq!(server.kubectl_ok(&["apply", "-f", &file]).await, "widget.example.com/a created\n");
    assert_eq!(server.kubectl_ok(&["apply", "-f", &file]).await, "widget.example.com/a unchanged\n");
    let table = server.kubectl_ok(&["get", "wd"]).await;
    let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells, [["NAME", "SIZE"], ["a", "1"]]);
    assert!(server.kubectl_ok(&["explain", "widget.spec"]).await.contains("Its color."));
    assert!(server.kubectl_ok(&["get", "all"]).await.contains("widget.example.com/a"));
    let file = server.file("wrong.json", &widget("b", json!({"color": "red", "colour": "red"})));
    let refused = server.kubectl(&["apply", "-f", &file]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("unknown field \"spec.colour\""), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn definitions_made_at_once_are_all_served() {
    let server = std::sync::Arc::new(Server::start().await);
    let making: Vec<_> = (0..64)
        .map(|number| {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move {
                let mut one = definition();
                one["metadata"]["name"] = format!("widgets{number}.example.com").into();
                one["spec"]["names"] = json!({"kind": format!("Widget{number}"), "plural": format!("widgets{number}")});
                server.request("POST", DEFINITIONS, Some(one)).await
            })
        })
        .collect();
    for (number, made) in making.into_iter().enumerate() {
        assert_eq!(made.await.unwrap().0, 201);
        let (code, list) = server.request("GET", &format!("{WIDGETS}{number}"), None).await;
        assert_eq!(code, 200, "widgets{number}: {list}");
    }
}
