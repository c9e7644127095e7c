//! What the API server asks of a node, and what the node tells the API.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Endpoints, Node, Service};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube_embedded::kubelet::{ContainerRef, ExecOptions, ExitStatus, Kubelet, LogOptions, TerminalSize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, container, eventually, pod_ip, processes, status};

pub async fn logs_of_containers_are_found_and_followed() {
    let world = World::new().await;
    let script =
        "echo run; if [ -e ${A9S_MOUNT_V:-/v}/f ]; then exec sleep 600; fi; touch ${A9S_MOUNT_V:-/v}/f; exit 1";
    let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    world.pod("a", script, mounts, json!({"volumes": [{"name": "v", "emptyDir": {}}]})).await;
    world.until("a", "restarted", |pod| status(pod).restart_count == 1).await;
    world.ready("a").await;
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    assert_eq!(world.log_with("a", &previous).await, "run\n");
    world.pod("b", "echo one; read line; echo two", json!({}), json!({"restartPolicy": "Never"})).await;
    world.phase("b", "Succeeded").await;
    assert_eq!(world.log_with("b", &LogOptions { tail_lines: Some(1), ..LogOptions::default() }).await, "two\n");
    world.pod("f", "for i in 1 2 3; do echo $i; sleep 0.1; done", json!({}), json!({"restartPolicy": "Never"})).await;
    world.until("f", "running", |pod| status(pod).started == Some(true)).await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    assert_eq!(world.log_with("f", &follow).await, "1\n2\n3\n", "it ends with the container");
    let refused = |reference: ContainerRef, options: LogOptions| {
        let node = world.node.clone();
        async move { node.logs(&reference, &options).await.err().unwrap().to_string() }
    };
    assert_eq!(refused(container("f"), previous).await, "previous terminated container \"c\" in pod \"f\" not found");
    let other = ContainerRef { container: Some("x".into()), ..container("f") };
    assert_eq!(refused(other, LogOptions::default()).await, "container x is not valid for pod f");
    world.pod("w", "", json!({"image": "none"}), json!({})).await;
    eventually("it says why it waits", || async {
        let node = world.node.clone();
        node.logs(&container("w"), &LogOptions::default()).await.err().is_some_and(|error| {
            error.to_string() == "container \"c\" in pod \"w\" is waiting to start: trying and failing to pull image"
        })
    })
    .await;
    world.end().await;
}

pub async fn commands_run_in_the_container_with_input_output_and_exit_code() {
    let world = World::new().await;
    let env = json!({"env": [{"name": "OWN", "value": "mine"}], "workingDir": "/usr"});
    world.pod("a", "exec sleep 600", env, json!({})).await;
    world.ready("a").await;
    let (code, out, err) =
        world.exec("a", &["sh", "-c", "cat; echo $OWN $FROM_IMAGE; pwd; echo e >&2; exit 5"], Some("in\n")).await;
    assert_eq!((code, out.as_str(), err.as_str()), (ExitStatus::Code(5), "in\nmine yes\n/usr\n", "e\n"));
    let (code, _, err) = world.exec("a", &["no-such-program"], None).await;
    assert_eq!(
        (code, err.as_str()),
        (ExitStatus::Code(127), "exec: \"no-such-program\": executable file not found in $PATH\n")
    );
    let (code, _, err) = world.exec("a", &["/etc/passwd"], None).await;
    assert_eq!((code, err.as_str()), (ExitStatus::Code(126), "exec: \"/etc/passwd\": permission denied\n"));
    let (code, ..) = world.exec("a", &["sh", "-c", "kill -9 $$"], None).await;
    assert_eq!(code, ExitStatus::Signal(9));
    let (_, out, _) = world.exec("a", &["cat"], Some(&"x".repeat(300_000))).await;
    assert_eq!(out.len(), 300_000);
    let (_, own, _) = world.exec("a", &["sh", "-c", "id -u"], None).await;
    let expected =
        if nix::unistd::Uid::effective().is_root() { 65_534 } else { nix::unistd::Uid::effective().as_raw() };
    assert_eq!(own.trim(), expected.to_string());
    world.end().await;
}

pub async fn a_command_with_a_terminal_has_one() {
    let world = World::new().await;
    world.pod("a", "exec sleep 600", json!({}), json!({})).await;
    world.ready("a").await;
    // The size comes after the start, as from a kubelet.
    let sized = "until stty size | grep -x '33 111'; do sleep 0.02; done";
    let script = format!("test -t 0 && test -t 1 && {sized} && read line && echo got $line");
    let command = ["sh", "-c", &script];
    let options = ExecOptions {
        command: command.map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let mut process = world.node.exec(&container("a"), &options).await.unwrap();
    process.resize.as_ref().unwrap().send(TerminalSize { width: 111, height: 33 }).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"word\n").await.unwrap();
    let mut out = String::new();
    process.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(process.exit.await.unwrap(), ExitStatus::Code(0), "{out}");
    assert!(out.contains("33 111") && out.contains("got word"), "{out:?}");
    world.end().await;
}

pub async fn a_command_ends_with_its_client() {
    let world = World::new().await;
    world.pod("a", "exec sleep 600", json!({}), json!({})).await;
    world.ready("a").await;
    let command = ["sh", "-c", "sleep 601 & echo up; wait"].map(str::to_owned).to_vec();
    let options = ExecOptions { command, stdin: false, stdout: true, stderr: false, tty: false };
    let mut process = world.node.exec(&container("a"), &options).await.unwrap();
    let mut byte = [0];
    process.stdout.as_mut().unwrap().read_exact(&mut byte).await.unwrap();
    assert_eq!(processes(&world.directory).len(), 3);
    drop(process);
    eventually("only the container is left", || async { processes(&world.directory).len() == 1 }).await;
    world.end().await;
}

/// A server in the shell would need `nc`; the test's own stands in at the pod's address.
pub async fn ready_pods_answer_at_the_services_address_and_by_port_forward() {
    let world = World::new().await;
    let probe = json!({"readinessProbe": {"tcpSocket": {"port": 8080}}});
    world.pod("a", "exec sleep 600", probe, json!({})).await;
    let pod = world.until("a", "running", |pod| status(pod).started == Some(true)).await;
    assert!(!crate::world::is_ready(&pod));
    let address = pod_ip(&pod);
    let refused = world.node.port_forward("default", "a", 8080).await.err().unwrap().to_string();
    assert_eq!(refused, format!("dial tcp4 {address}:8080: connect: connection refused"));
    let listener = tokio::net::TcpListener::bind((address.as_str(), 8080)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"hello").await;
        }
    });
    world.ready("a").await;
    let mut text = String::new();
    world.node.port_forward("default", "a", 8080).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    let service_ip = world.range.services().0.to_string();
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": service_ip, "ports": [{"port": 7070}, {"port": 80, "name": "low"}]}});
    let service = service.to_string().replace("{\"port\":7070}", "{\"port\":7070,\"name\":\"high\"}");
    world.create::<Service>(serde_json::from_str(&service).unwrap()).await;
    let ports = json!([{"port": 8080, "name": "high"}, {"port": 8080, "name": "low"}]);
    let endpoints = json!({"metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": address}], "ports": ports}]});
    world.create::<Endpoints>(endpoints).await;
    let ask = || async {
        let mut text = String::new();
        match tokio::net::TcpStream::connect((service_ip.as_str(), 7070)).await {
            Ok(mut stream) => stream.read_to_string(&mut text).await.is_ok() && text == "hello",
            Err(_) => false,
        }
    };
    eventually("the service answers", ask).await;
    world.event("s", "FailedToServe", "ports below 1024 are not served").await;
    let none = Patch::Merge(json!({"subsets": []}));
    world.api::<Endpoints>().patch("s", &PatchParams::default(), &none).await.unwrap();
    eventually("the service refuses", || async {
        tokio::net::TcpStream::connect((service_ip.as_str(), 7070)).await.is_err()
    })
    .await;
    world.end().await;
}

/// Nothing else changes meanwhile that would be a reason to look again.
pub async fn a_services_address_that_was_taken_is_served_once_it_is_free() {
    let world = World::new().await;
    let (service, pod) = (world.range.services().0, world.range.pods().1);
    let taken = tokio::net::TcpListener::bind((service, 7070)).await.unwrap();
    let _server = tokio::net::TcpListener::bind((pod, 8080)).await.unwrap();
    let spec = json!({"clusterIP": service.to_string(), "ports": [{"port": 7070}]});
    world.create::<Service>(json!({"metadata": {"name": "s"}, "spec": spec})).await;
    let subset = json!({"addresses": [{"ip": pod.to_string()}], "ports": [{"port": 8080}]});
    world.create::<Endpoints>(json!({"metadata": {"name": "s"}, "subsets": [subset]})).await;
    world.event("s", "FailedToServe", "Address already in use").await;
    drop(taken);
    let reach = || async { tokio::net::TcpStream::connect((service, 7070)).await.is_ok() };
    eventually("the service is reached", reach).await;
    world.end().await;
}

pub async fn conditions_that_others_gave_the_node_stay() {
    let temporary = tempfile::Builder::new().prefix("a9s-node-").tempdir().unwrap();
    let world = World::at(temporary.path()).await;
    let condition = json!({"type": "HasRoom", "status": "True"});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    Api::<Node>::all(world.client.clone()).patch_status("test", &PatchParams::default(), &patch).await.unwrap();
    // It says that it has stopped, and registers again.
    world.end().await;
    let world = World::at(temporary.path()).await;
    let node = Api::<Node>::all(world.client.clone()).get("test").await.unwrap();
    let conditions = node.status.unwrap().conditions.unwrap();
    let status = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind).map(|found| &*found.status);
    assert_eq!((status("HasRoom"), status("Ready")), (Some("True"), Some("True")));
    world.end().await;
}

pub async fn the_node_object_and_its_lease_are_there() {
    let world = World::new().await;
    let node = Api::<Node>::all(world.client.clone()).get("test").await.unwrap();
    let status = node.status.unwrap();
    let ready = status.conditions.unwrap().into_iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!(ready.status, "True");
    assert_eq!(status.images.unwrap()[0].names.as_deref().unwrap(), ["test/sh"]);
    assert!(status.capacity.unwrap().contains_key("memory"));
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "kube-node-lease");
    eventually("the lease is held", || async {
        let lease = leases.get_opt("test").await.unwrap();
        lease.and_then(|lease| lease.spec).is_some_and(|spec| spec.holder_identity.as_deref() == Some("test"))
    })
    .await;
    let follower = world.node.logs(&container("none"), &LogOptions::default()).await;
    assert_eq!(follower.err().unwrap().code(), 404);
    let _ = (Duration::ZERO, futures::stream::empty::<()>().next().await);
    world.end().await;
}
