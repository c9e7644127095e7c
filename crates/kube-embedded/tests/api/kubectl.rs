//! What people do with `kubectl` all day.

use serde_json::json;

use super::harness::Server;

#[tokio::test]
async fn apply_is_idempotent_and_merges() {
    let server = Server::start().await;
    let file = server.file("a.json", &json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"app": "x"}}, "data": {"k": "1", "l": "2"},
    }));
    let first = server.kubectl(&["apply", "-f", &file]).await;
    assert_eq!(String::from_utf8_lossy(&first.stdout), "configmap/a created\n", "{first:?}");
    assert_eq!(String::from_utf8_lossy(&first.stderr), "", "no warnings");
    assert_eq!(server.kubectl_ok(&["apply", "-f", &file]).await, "configmap/a unchanged\n");
    let file = server.file("a.json", &json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"app": "x"}}, "data": {"k": "3"},
    }));
    assert_eq!(
        server.kubectl_ok(&["apply", "-f", &file, "--dry-run=server"]).await,
        "configmap/a configured (server dry run)\n"
    );
    let second = server.kubectl(&["apply", "-f", &file]).await;
    assert_eq!(String::from_utf8_lossy(&second.stdout), "configmap/a configured\n");
    assert_eq!(String::from_utf8_lossy(&second.stderr), "", "no warnings");
    assert_eq!(server.kubectl_ok(&["get", "cm", "a", "-o", "jsonpath={.data}"]).await, r#"{"k":"3"}"#);
    assert_eq!(server.kubectl_ok(&["apply", "--server-side", "-f", &file]).await, "configmap/a serverside-applied\n");
    let file = server.file(
        "a.json",
        &json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": 3}, "dta": {},
        }),
    );
    let refused = server.kubectl(&["apply", "-f", &file]).await;
    assert!(!refused.status.success());
}

#[tokio::test]
async fn label_annotate_patch_and_wait_work() {
    let server = Server::start().await;
    let file = server.file("a.json", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
    server.kubectl_ok(&["create", "-f", &file]).await;
    assert_eq!(server.kubectl_ok(&["label", "cm", "a", "x=y"]).await, "configmap/a labeled\n");
    assert_eq!(server.kubectl_ok(&["get", "cm", "-l", "x=y", "-o", "name"]).await, "configmap/a\n");
    assert_eq!(server.kubectl_ok(&["annotate", "cm", "a", "n=1"]).await, "configmap/a annotated\n");
    server.kubectl_ok(&["patch", "cm", "a", "-p", r#"{"data":{"k":"v"}}"#]).await;
    server
        .kubectl_ok(&["patch", "cm", "a", "--type=json", "-p", r#"[{"op":"add","path":"/data/l","value":"w"}]"#])
        .await;
    assert_eq!(server.kubectl_ok(&["get", "cm", "a", "-o", "jsonpath={.data.k}{.data.l}"]).await, "vw");
    server.kubectl_ok(&["wait", "--for=jsonpath={.data.k}=v", "cm/a", "--timeout=5s"]).await;
    assert!(server.kubectl_ok(&["describe", "cm", "a"]).await.contains("Name:         a"));
    server.kubectl_ok(&["delete", "cm", "a", "--wait"]).await;
    assert!(server.kubectl_ok(&["api-resources"]).await.contains("configmaps"));
    assert!(server.kubectl_ok(&["version"]).await.contains("Server Version: v1.33"));
}

#[tokio::test]
async fn the_built_in_kinds_have_their_usual_columns() {
    let server = Server::start().await;
    let headers =
        |text: String| text.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let wide = |kind: &'static str| ["get", kind, "-o", "wide", "-A"];
    server.kubectl_ok(&["get", "ns"]).await;
    let file = server.file(
        "p.json",
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }),
    );
    server.kubectl_ok(&["create", "-f", &file]).await;
    assert_eq!(
        headers(server.kubectl_ok(&wide("pods")).await),
        "NAMESPACE NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    );
    assert!(server.kubectl_ok(&["get", "pods"]).await.contains("0/1"));
}

#[tokio::test]
async fn generators_of_kubectl_create_work() {
    let server = Server::start().await;
    for arguments in [
        &["create", "configmap", "c", "--from-literal=k=v"][..],
        &["create", "secret", "generic", "s", "--from-literal=k=v"],
        &["create", "namespace", "n"],
        &["create", "serviceaccount", "a", "-n", "n"],
        &["create", "service", "clusterip", "w", "--tcp=80:8080"],
        &["create", "clusterrole", "r", "--verb=get", "--resource=pods,statefulsets.apps"],
        &["create", "clusterrolebinding", "b", "--clusterrole=r", "--serviceaccount=n:a"],
        &["create", "rolebinding", "b", "--clusterrole=r", "--user=jane"],
    ] {
        server.kubectl_ok(arguments).await;
    }
    let get = async |kind: &str, path: &str| server.kubectl_ok(&["get", kind, "-o", &format!("jsonpath={path}")]).await;
    assert_eq!(get("cm/c", "{.data.k}").await, "v");
    assert_eq!(get("secret/s", "{.data.k} {.type}").await, "dg== Opaque");
    assert_eq!(
        get("svc/w", "{.spec.ports[0].port} {.spec.ports[0].targetPort} {.spec.selector.app}").await,
        "80 8080 w"
    );
    assert_eq!(get("clusterrole/r", "{.rules[1].apiGroups[0]} {.rules[1].resources[0]}").await, "apps statefulsets");
    let can = ["auth", "can-i", "get", "pods", "--as=system:serviceaccount:n:a", "-A"];
    assert_eq!(server.kubectl_ok(&can).await, "yes\n");
}
