//! From the first process of a pod to the last.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use serde_json::json;

use crate::world::{World, eventually, is_ready, processes, state, status, waiting_reason};

pub async fn a_program_runs_to_its_end_and_its_output_is_the_log() {
    let world = World::new().await;
    world.pod("a", "echo one; echo two >&2; exit 0", json!({}), json!({"restartPolicy": "Never"})).await;
    let pod = world.phase("a", "Succeeded").await;
    let ended = state(&pod).terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
    let mut lines: Vec<_> = world.log("a").await.lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    world.pod("b", "exit 7", json!({}), json!({"restartPolicy": "Never"})).await;
    assert_eq!(state(&world.phase("b", "Failed").await).terminated.unwrap().exit_code, 7);
    world.pod("k", "kill -9 $$$$", json!({}), json!({"restartPolicy": "Never"})).await;
    assert_eq!(state(&world.phase("k", "Failed").await).terminated.unwrap().exit_code, 137);
    world.event("a", "Started", "Started container c").await;
    world.end().await;
}

pub async fn init_containers_run_first_and_in_order() {
    let world = World::new().await;
    let volume = json!([{"name": "v", "mountPath": "/shared"}]);
    let init = |name: &str| {
        json!({"name": name, "image": "test/sh", "volumeMounts": volume,
            "args": ["-c", format!("echo {name} >> ${{A9S_MOUNT_V:-/shared}}/order")]})
    };
    let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}], "initContainers": [init("one"), init("two")]});
    let script = "cat ${A9S_MOUNT_V:-/shared}/order; exec sleep 600";
    world.pod("a", script, json!({"volumeMounts": volume}), spec).await;
    let pod = world.ready("a").await;
    let inits = pod.status.unwrap().init_container_statuses.unwrap();
    assert!(inits.iter().all(|status| status.ready), "{inits:?}");
    eventually("the order is in the log", || async { world.log("a").await == "one\ntwo\n" }).await;
    world.end().await;
}

pub async fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let world = World::new().await;
    let init = json!([{"name": "i", "image": "test/sh", "args": ["-c", "exit 4"]}]);
    world.pod("a", "echo never", json!({}), json!({"initContainers": init, "restartPolicy": "Never"})).await;
    let pod = world.phase("a", "Failed").await;
    assert_eq!(waiting_reason(&pod), "PodInitializing");
    world.end().await;
}

pub async fn a_crashing_container_restarts_at_once_and_then_waits() {
    let world = World::new().await;
    world.pod("a", "echo try; exit 3", json!({}), json!({})).await;
    let pod = world.until("a", "in a crash loop", |pod| waiting_reason(pod) == "CrashLoopBackOff").await;
    let status = status(&pod);
    assert_eq!(status.restart_count, 1, "{status:?}");
    assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 3);
    let uid = pod.metadata.uid.clone().unwrap();
    assert_eq!(
        status.state.unwrap().waiting.unwrap().message.unwrap(),
        format!("back-off 10s restarting failed container=c pod=a_default({uid})")
    );
    assert!(!is_ready(&pod));
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"));
    world.event("a", "BackOff", "Back-off restarting failed container c in pod a_default").await;
    world.end().await;
}

pub async fn a_program_that_does_not_exist_is_a_start_error() {
    let world = World::new().await;
    world.pod("a", "", json!({"command": ["no-such-program"]}), json!({"restartPolicy": "Never"})).await;
    let ended = state(&world.phase("a", "Failed").await).terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (128, Some("StartError")));
    let message = ended.message.unwrap();
    assert!(message.contains("exec: \"no-such-program\": executable file not found in $PATH"), "{message}");
    world.end().await;
}

pub async fn an_unknown_image_is_not_pulled_and_said() {
    let world = World::new().await;
    world.pod("a", "", json!({"image": "nginx"}), json!({})).await;
    let pod = world.until("a", "without image", |pod| waiting_reason(pod) == "ErrImagePull").await;
    let message = state(&pod).waiting.unwrap().message.unwrap();
    assert_eq!(message, "image \"nginx\" is not among the programs of this host");
    world.until("a", "in back-off", |pod| waiting_reason(pod) == "ImagePullBackOff").await;
    world.event("a", "Failed", "Failed to pull image \"nginx\": image \"nginx\" is not among").await;
    world.event("a", "BackOff", "Back-off pulling image \"nginx\"").await;
    world.delete("a").await;
    world.end().await;
}

pub async fn a_missing_secret_is_waited_for() {
    let world = World::new().await;
    let env = json!([{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    world.pod("a", "echo $S; exec sleep 600", json!({"env": env}), json!({})).await;
    let pod = world.until("a", "waiting", |pod| waiting_reason(pod) == "CreateContainerConfigError").await;
    assert_eq!(state(&pod).waiting.unwrap().message.unwrap(), "secret \"s\" not found");
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "value"}, "data": {"k": "dmFsdWU="}});
    world.create::<k8s_openapi::api::core::v1::Secret>(secret).await;
    let pod = world.ready("a").await;
    assert_eq!(status(&pod).restart_count, 0);
    eventually("the secret is in the environment", || async { world.log("a").await == "value\n" }).await;
    world.end().await;
}

pub async fn hooks_and_the_termination_message_are_heard() {
    let world = World::new().await;
    let path = world.directory.join("volumes/hooks");
    let message = if world.has_views() { "/dev/termination-log" } else { "/dev/null" };
    let script = format!("trap 'echo done > {message}; exit 3' TERM; echo up; while :; do sleep 0.05; done");
    let hook =
        |name: &str| json!({"exec": {"command": ["sh", "-c", format!("date > ${{A9S_MOUNT_H:-/hooks}}/{name}")]}});
    let more = json!({
        "lifecycle": {"postStart": hook("post"), "preStop": hook("pre")},
        "volumeMounts": [{"name": "h", "mountPath": "/hooks"}],
        "livenessProbe": {"exec": {"command": ["sh", "-c", "test ! -e ${A9S_MOUNT_H:-/hooks}/fail"]}, "periodSeconds": 1, "failureThreshold": 1},
    });
    let volumes = json!([{"name": "h", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]);
    world.pod("a", &script, more, json!({"volumes": volumes})).await;
    world.ready("a").await;
    assert!(path.join("post").is_file() && !path.join("pre").exists());
    fs_err::write(path.join("fail"), "").unwrap();
    let pod = world.until("a", "restarted", |pod| status(pod).restart_count == 1).await;
    assert!(path.join("pre").is_file());
    let ended = status(&pod).last_state.unwrap().terminated.unwrap();
    assert_eq!(ended.exit_code, 3);
    if world.has_views() {
        assert_eq!(ended.message.as_deref(), Some("done\n"));
    }
    fs_err::remove_file(path.join("fail")).unwrap();
    world.end().await;
}

pub async fn a_deleted_pod_gets_its_grace_period_and_leaves_nothing() {
    let world = World::new().await;
    // No clock reaches so far.
    let spec = json!({"terminationGracePeriodSeconds": i64::MAX});
    world.pod("a", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done", json!({}), spec).await;
    let pod = world.ready("a").await;
    assert!(!processes(&world.directory).is_empty());
    let begin = std::time::Instant::now();
    world.delete("a").await;
    assert!(begin.elapsed().as_secs() < 4, "it ended by itself");
    assert_eq!(processes(&world.directory), Vec::<String>::new());
    let left = world.directory.join("node/pods").join(pod.metadata.uid.unwrap());
    eventually("its files are gone", || async { !left.exists() }).await;
    world.end().await;
}

pub async fn directories_that_a_program_closed_to_itself_are_in_nobodys_way() {
    let world = World::new().await;
    let script = "mkdir -p ${TMPDIR:-/tmp}/x/y; chmod 0 ${TMPDIR:-/tmp}/x; exit 3";
    world.pod("a", script, json!({}), json!({})).await;
    let pod = world.until("a", "in a crash loop", |pod| waiting_reason(pod) == "CrashLoopBackOff").await;
    assert_eq!(status(&pod).restart_count, 1, "it ran twice");
    world.delete("a").await;
    let left = world.directory.join("node/pods").join(pod.metadata.uid.unwrap());
    eventually("its files are gone", || async { !left.exists() }).await;
    world.end().await;
}

pub async fn a_hook_that_takes_all_the_time_leaves_its_program_some() {
    let world = World::new().await;
    let path = world.directory.join("volumes/hooks");
    let script = "trap 'echo > ${A9S_MOUNT_H:-/hooks}/bye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let more = json!({
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "600"]}}},
        "volumeMounts": [{"name": "h", "mountPath": "/hooks"}],
    });
    let volumes = json!([{"name": "h", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]);
    let spec = json!({"volumes": volumes, "terminationGracePeriodSeconds": 600});
    world.pod("a", script, more, spec).await;
    world.ready("a").await;
    eventually("it hears signals", || async { world.log("a").await == "up\n" }).await;
    let pods = world.api::<Pod>();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    world.event("a", "Killing", "Stopping container c").await;
    // The hook is cut off when the pod gets less time.
    pods.delete("a", &DeleteParams { grace_period_seconds: Some(1), ..DeleteParams::default() }).await.unwrap();
    eventually("the pod is gone", || async { pods.get_opt("a").await.unwrap().is_none() }).await;
    assert!(path.join("bye").is_file(), "it was killed before it was asked to end");
    world.end().await;
}

pub async fn a_stubborn_pod_is_killed_with_everything_it_started() {
    let world = World::new().await;
    let script = "trap '' TERM; (setsid sleep 600 &) ; env -i setsid sleep 601 & echo up; while :; do sleep 1; done";
    let spec = json!({"terminationGracePeriodSeconds": 1});
    world.pod("a", script, json!({}), spec).await;
    world.ready("a").await;
    eventually("all its processes run", || async { processes(&world.directory).len() >= 3 }).await;
    world.delete("a").await;
    assert_eq!(processes(&world.directory), Vec::<String>::new());
    world.end().await;
}

pub async fn a_pod_that_lives_for_too_long_fails() {
    let world = World::new().await;
    world.pod("a", "exec sleep 600", json!({}), json!({"activeDeadlineSeconds": 4})).await;
    let pod = world.phase("a", "Failed").await;
    assert_eq!(pod.status.as_ref().unwrap().reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(state(&pod).terminated.unwrap().exit_code, 143);
    world.event("a", "DeadlineExceeded", "longer than the specified deadline").await;
    assert_eq!(processes(&world.directory), Vec::<String>::new());
    world.end().await;
}

pub async fn a_deleted_pod_that_is_held_says_how_it_ended() {
    let world = World::new().await;
    world.pod("a", "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done", json!({}), json!({})).await;
    world.ready("a").await;
    eventually("it hears signals", || async { world.log("a").await == "up\n" }).await;
    let pods = world.api::<Pod>();
    let hold = |finalizers: serde_json::Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    pods.patch("a", &PatchParams::default(), &hold(json!(["example.com/hold"]))).await.unwrap();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    let pod = world.phase("a", "Succeeded").await;
    assert_eq!(state(&pod).terminated.unwrap().exit_code, 0);
    pods.patch("a", &PatchParams::default(), &hold(json!(null))).await.unwrap();
    eventually("the pod is gone", || async { pods.get_opt("a").await.unwrap().is_none() }).await;
    world.end().await;
}

pub async fn who_watches_a_deleted_pod_learns_how_it_ended() {
    let world = World::new().await;
    world.pod("a", "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done", json!({}), json!({})).await;
    world.ready("a").await;
    eventually("it hears signals", || async { world.log("a").await == "up\n" }).await;
    let mut events = watcher::watcher(world.api::<Pod>(), watcher::Config::default()).boxed();
    while !matches!(events.next().await, Some(Ok(Event::InitDone))) {}
    world.delete("a").await;
    let pod = loop {
        if let Event::Delete(pod) = events.next().await.unwrap().unwrap() {
            break pod;
        }
    };
    assert_eq!(state(&pod).terminated.unwrap().exit_code, 3);
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Failed"));
    world.end().await;
}

pub async fn a_failing_liveness_probe_restarts_the_container() {
    let world = World::new().await;
    let probe = json!({"livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}});
    world.pod("a", "exec sleep 600", probe, json!({"terminationGracePeriodSeconds": 1})).await;
    world.until("a", "restarted", |pod| status(pod).restart_count > 0).await;
    world.event("a", "Unhealthy", "Liveness probe failed").await;
    world.event("a", "Killing", "Container c failed liveness probe, will be restarted").await;
    world.end().await;
}

pub async fn a_container_that_ends_slowly_is_asked_on_whether_it_is_ready() {
    let world = World::new().await;
    let path = world.directory.join("volumes/files");
    let script = "cd ${A9S_MOUNT_F:-/files}; trap 'rm up' TERM; touch up; while :; do sleep 0.05; done";
    let ask = |test: &str| {
        let command = json!(["sh", "-c", format!("test {test}")]);
        json!({"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 1})
    };
    let more = json!({
        "readinessProbe": ask("-e ${A9S_MOUNT_F:-/files}/up"),
        "livenessProbe": ask("! -e ${A9S_MOUNT_F:-/files}/fail"),
        "volumeMounts": [{"name": "f", "mountPath": "/files"}],
    });
    let volumes = json!([{"name": "f", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]);
    world.pod("a", script, more, json!({"volumes": volumes, "terminationGracePeriodSeconds": 600})).await;
    world.ready("a").await;
    fs_err::write(path.join("fail"), "").unwrap();
    let pod = world.until("a", "not ready", |pod| !status(pod).ready).await;
    assert!(state(&pod).running.is_some(), "it is not ready before it has ended: {:?}", status(&pod));
    world.end().await;
}
