//! What a container sees: volumes, names, itself.

use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube_embedded::auth::tokens::ServiceAccountTokens;
use kube_embedded::kubelet::ExitStatus;
use serde_json::json;

use crate::world::{HIDDEN, World, eventually, pod_ip};

pub async fn volumes_are_at_their_paths_and_private() {
    let world = World::new().await;
    world.create::<ConfigMap>(json!({"metadata": {"name": "cm"}, "data": {"x": "from-map", "y": "2"}})).await;
    world.create::<Secret>(json!({"metadata": {"name": "s"}, "data": {"k": "c2VjcmV0"}})).await;
    let mounts = json!([
        {"name": "cm", "mountPath": "/no/such/place"}, {"name": "s", "mountPath": "/etc/a9s-secret"},
        {"name": "data", "mountPath": "/home/postgres/pgdata"}, {"name": "cm", "mountPath": "/one-file", "subPath": "x"},
        {"name": "info", "mountPath": "/etc/podinfo"}, {"name": "data", "mountPath": "/etc/podinfo/with/data"},
    ]);
    let volumes = json!([
        {"name": "cm", "configMap": {"name": "cm"}},
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "data", "emptyDir": {}},
        {"name": "info", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]);
    world.pod("a", "exec sleep 600", json!({"volumeMounts": mounts}), json!({"volumes": volumes})).await;
    world.ready("a").await;
    if !world.has_views() {
        let (code, out, err) =
            world.exec("a", &["sh", "-c", "cat $A9S_MOUNT_S/k $A9S_SERVICEACCOUNT_DIR/namespace"], None).await;
        assert_eq!((code, out.as_str()), (ExitStatus::Code(0), "secretdefault"), "{err}");
        return world.end().await;
    }
    let script = "
        set -e
        cat /no/such/place/x /etc/a9s-secret/k /one-file /etc/podinfo/name; echo
        echo data > /etc/podinfo/with/data/f; cat /home/postgres/pgdata/f
        cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo
        test -s /var/run/secrets/kubernetes.io/serviceaccount/token
        echo private > /tmp/private; test ! -e /run/nologin; echo shm > /dev/shm/x; echo null > /dev/null
        ls /home/postgres; ls -d /usr/bin; id -G | wc -w
        if echo x > /no/such/place/x; then echo writable; fi
    ";
    let (code, out, err) = world.exec("a", &["sh", "-c", script], None).await;
    let expected = "from-mapsecretfrom-mapa\ndata\ndefault\npgdata\n/usr/bin\n1\n";
    assert_eq!((code, out.as_str()), (ExitStatus::Code(0), expected), "{err}");
    for path in ["/no/such", "/etc/a9s-secret", "/tmp/private", "/one-file"] {
        assert!(!std::path::Path::new(path).exists(), "{path} is on the host");
    }
    let two = json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "../.."}]});
    world.pod("b", "true", two, json!({"volumes": [{"name": "v", "emptyDir": {}}]})).await;
    world.event("b", "Failed", "subPath ../.. is not inside of its volume").await;
    world.end().await;
}

pub async fn a_pod_gets_no_token_that_its_account_forbids() {
    let world = World::new().await;
    world.create::<ServiceAccount>(json!({"metadata": {"name": "quiet"}, "automountServiceAccountToken": false})).await;
    world.pod("a", "exec sleep 600", json!({}), json!({"serviceAccountName": "quiet"})).await;
    world.ready("a").await;
    let (code, out, err) = world.exec("a", &["sh", "-c", "echo $A9S_SERVICEACCOUNT_DIR"], None).await;
    assert_eq!((code, out.as_str()), (ExitStatus::Code(0), "\n"), "{err}");
    if world.has_views() {
        let script = "ls /var/run/secrets/kubernetes.io/serviceaccount";
        let (code, out, _) = world.exec("a", &["sh", "-c", script], None).await;
        assert_ne!(code, ExitStatus::Code(0), "{out}");
    }
    world.end().await;
}

pub async fn projected_tokens_are_for_their_audiences() {
    let world = World::new().await;
    let sources = json!([
        {"serviceAccountToken": {"path": "own"}}, {"serviceAccountToken": {"path": "vault", "audience": "vault"}},
    ]);
    let spec = json!({"volumes": [{"name": "t", "projected": {"sources": sources}}]});
    let mounts = json!({"volumeMounts": [{"name": "t", "mountPath": "/tokens"}]});
    world.pod("a", "exec sleep 600", mounts, spec).await;
    world.ready("a").await;
    let read = async |name: &str| {
        let script = format!("cat ${{A9S_MOUNT_T:-/tokens}}/{name}");
        world.exec("a", &["sh", "-c", &script], None).await.1
    };
    // The key of the world's tokens.
    let tokens = ServiceAccountTokens::new([7; 32]);
    assert!(tokens.verify(&read("own").await).is_ok());
    let vault = read("vault").await;
    assert!(tokens.verify(&vault).is_err() && tokens.verify_for(&vault, &["vault"]).is_ok(), "{vault}");
    world.end().await;
}

pub async fn a_changed_config_map_and_label_arrive_in_the_container() {
    let world = World::new().await;
    world.create::<ConfigMap>(json!({"metadata": {"name": "cm"}, "data": {"x": "old"}})).await;
    let mounts = json!([{"name": "cm", "mountPath": "/cm"}, {"name": "info", "mountPath": "/info"}]);
    let volumes = json!([
        {"name": "cm", "configMap": {"name": "cm"}},
        {"name": "info", "downwardAPI": {"items": [{"path": "role", "fieldRef": {"fieldPath": "metadata.labels['role']"}}]}},
    ]);
    world.pod("a", "exec sleep 600", json!({"volumeMounts": mounts}), json!({"volumes": volumes})).await;
    world.ready("a").await;
    let read = || async {
        let script = "cat ${A9S_MOUNT_CM:-/cm}/x ${A9S_MOUNT_INFO:-/info}/role";
        world.exec("a", &["sh", "-c", script], None).await.1
    };
    assert_eq!(read().await, "old");
    let change = Patch::Merge(json!({"data": {"x": "new"}}));
    world.api::<ConfigMap>().patch("cm", &PatchParams::default(), &change).await.unwrap();
    eventually("the new value arrives", || async { read().await == "new" }).await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"role": "primary"}}}));
    world.api::<Pod>().patch("a", &PatchParams::default(), &label).await.unwrap();
    eventually("the label arrives", || async { read().await == "newprimary" }).await;
    world.end().await;
}

pub async fn a_config_map_that_changes_keeps_no_container_from_a_file_of_it() {
    let world = World::new().await;
    world.create::<ConfigMap>(json!({"metadata": {"name": "cm"}, "data": {"x": "0"}})).await;
    let mount = json!({"volumeMounts": [{"name": "cm", "mountPath": "/one-file", "subPath": "x"}]});
    let spec = json!({"restartPolicy": "Never", "volumes": [{"name": "cm", "configMap": {"name": "cm"}}]});
    let run = async {
        for name in ["a", "b", "c", "d", "e"] {
            world.pod(name, "true", mount.clone(), spec.clone()).await;
            world.phase(name, "Succeeded").await;
        }
    };
    let change = async {
        for number in 1.. {
            let change = Patch::Merge(json!({"data": {"x": number.to_string()}}));
            world.api::<ConfigMap>().patch("cm", &PatchParams::default(), &change).await.unwrap();
        }
    };
    tokio::select! {
        () = run => {}
        () = change => {}
    }
    world.end().await;
}

pub async fn data_of_a_claim_outlives_the_pod() {
    let world = World::new().await;
    let path = world.directory.join("volumes/pv");
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "hostPath": {"path": path}}});
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    let claim = json!({"metadata": {"name": "claim"}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "pv",
        "resources": {"requests": {"storage": "1Gi"}}}});
    world.create::<PersistentVolumeClaim>(claim).await;
    let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let spec = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]});
    world.pod("a", "echo kept > ${A9S_MOUNT_V:-/v}/f; echo done; exec sleep 600", mounts.clone(), spec.clone()).await;
    world.event("a", "FailedMount", "persistentvolumeclaim \"claim\" is not bound yet").await;
    let bound = Patch::Merge(json!({"status": {"phase": "Bound"}}));
    let claims = world.api::<PersistentVolumeClaim>();
    claims.patch_status("claim", &PatchParams::default(), &bound).await.unwrap();
    world.ready("a").await;
    eventually("it has written", || async { world.log("a").await == "done\n" }).await;
    world.delete("a").await;
    world.pod("b", "cat ${A9S_MOUNT_V:-/v}/f; exec sleep 600", mounts, spec).await;
    world.ready("b").await;
    eventually("the data is there", || async { world.log("b").await == "kept\n" }).await;
    world.end().await;
}

pub async fn names_of_services_are_in_the_hosts_file() {
    let world = World::new().await;
    let pod = world.pod("a", "exec sleep 600", json!({}), json!({})).await;
    let pod = world.ready(&pod.metadata.name.unwrap()).await;
    let service = json!({"metadata": {"name": "db"}, "spec": {"clusterIP": "None", "ports": [{"port": 5432}]}});
    world.create::<Service>(service).await;
    let endpoints = json!({"metadata": {"name": "db"}, "subsets": [
        {"addresses": [{"ip": pod_ip(&pod), "hostname": "db-0"}], "ports": [{"port": 5432}]}]});
    world.create::<Endpoints>(endpoints).await;
    let expected = format!("{}\tdb-0.db\tdb-0.db.default\tdb-0.db.default.svc", pod_ip(&pod));
    let script = "cat ${A9S_HOSTS:-/etc/hosts}";
    eventually("the name is there", || async {
        world.exec("a", &["sh", "-c", script], None).await.1.contains(&expected)
    })
    .await;
    let (_, out, _) = world.exec("a", &["sh", "-c", script], None).await;
    assert!(out.contains(&format!("{}\ta\n", pod_ip(&pod))), "{out}");
    world.end().await;
}

pub async fn no_directory_is_made_through_a_link() {
    let world = World::new().await;
    let (shared, elsewhere) = (world.directory.join("volumes/shared"), world.directory.join("elsewhere"));
    fs_err::create_dir_all(&shared).unwrap();
    fs_err::create_dir(&elsewhere).unwrap();
    fs_err::os::unix::fs::symlink(&elsewhere, shared.join("link")).unwrap();
    let host = |path: std::path::PathBuf| json!({"path": path, "type": "DirectoryOrCreate"});
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let volumes = json!({"volumes": [{"name": "v", "hostPath": host(shared.join("link/made"))}]});
    world.pod("a", "exec sleep 600", mount.clone(), volumes).await;
    world.event("a", "FailedMount", "link/made").await;
    let volumes = json!({"volumes": [{"name": "v", "hostPath": host(shared.join("a/made"))}]});
    world.pod("b", "exec sleep 600", mount, volumes).await;
    world.ready("b").await;
    assert!(shared.join("a/made").is_dir());
    assert_eq!(fs_err::read_dir(&elsewhere).unwrap().count(), 0);
    world.end().await;
}

pub async fn what_is_hidden_is_seen_only_where_it_is_mounted() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    if !world.has_views() {
        return world.end().await;
    }
    let directory = tempfile::tempdir_in(HIDDEN).unwrap();
    fs_err::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs_err::write(directory.path().join("file"), "shown\n").unwrap();
    let mounts = json!([{"name": "v", "mountPath": "/v"}, {"name": "e", "mountPath": "/var/made"}]);
    let volumes = json!([{"name": "v", "hostPath": {"path": directory.path()}}, {"name": "e", "emptyDir": {}}]);
    world.pod("a", "exec sleep 600", json!({"volumeMounts": mounts}), json!({"volumes": volumes})).await;
    world.ready("a").await;
    let script = format!("ls -A {HIDDEN}; ls -d /var/made; cat /v/file");
    let (code, out, err) = world.exec("a", &["sh", "-c", &script], None).await;
    assert_eq!((code, out.as_str()), (ExitStatus::Code(0), "/var/made\nshown\n"), "{err}");
    world.end().await;
}

pub async fn what_a_program_needs_it_cannot_change() {
    let world = World::new().await;
    if !world.has_views() {
        return world.end().await;
    }
    world.pod("a", "exec sleep 600", json!({}), json!({})).await;
    world.ready("a").await;
    let (code, out, err) = world.exec("a", &["grep", "-c", " /usr/lib ro", "/proc/self/mountinfo"], None).await;
    assert_eq!((code, out.as_str()), (ExitStatus::Code(0), "1\n"), "{err}");
    world.end().await;
}

/// Only of root's node the containers have another user.
pub async fn a_mount_leads_past_no_closed_directory() {
    use std::os::unix::fs::PermissionsExt;
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let world = World::new().await;
    let closed = world.directory.join("open/closed");
    let project = closed.join("project");
    fs_err::create_dir_all(&project).unwrap();
    let mode = |mode| fs_err::set_permissions(&closed, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o700);
    let mount = |path: &str| json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": path}]});
    let volume = |path: &std::path::Path| json!({"volumes": [{"name": "v", "hostPath": {"path": path}}]});
    let why = format!("is behind {}, which the user nobody may not pass through", closed.display());
    world.pod("whole", "true", mount(""), volume(&project)).await;
    world.event("whole", "FailedMount", &why).await;
    world.pod("part", "true", mount("closed/project"), volume(&world.directory.join("open"))).await;
    world.event("part", "Failed", &why).await;
    mode(0o711);
    world.pod("open", "exec sleep 600", mount("closed/project"), volume(&world.directory.join("open"))).await;
    world.ready("open").await;
    world.end().await;
}
