//! `kubectl exec` and `cp`, and `Api::exec` of the `kube` crate.

use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::SinkExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use kube_embedded::kubelet::TerminalSize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::Server;

/// Bytes that no compression or line handling survives by accident.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length).map(|_| next() as u8).collect()
}

/// Waits until something that has no event of its own is so.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn streams_megabytes_both_ways(spdy: bool) {
    let server = Server::start().await;
    let sent = noise(6 << 20);
    let mut kubectl = server.kubectl(spdy, &["exec", "-i", "p", "--", "cat"]);
    let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = sent.clone();
    let writer = tokio::spawn(async move { stdin.write_all(&input).await });
    let output = child.wait_with_output().await.unwrap();
    writer.await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == sent, "{} of {} bytes came back, or others", output.stdout.len(), sent.len());
    until("the process has ended", || server.host.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_exec_streams_megabytes_both_ways() {
    streams_megabytes_both_ways(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_exec_streams_megabytes_both_ways_over_spdy() {
    streams_megabytes_both_ways(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_exec_gives_the_exit_code_and_both_outputs() {
    let server = Server::start().await;
    for spdy in [false, true] {
        let script = "echo out; echo err >&2; exit 7";
        let output = server.kubectl(spdy, &["exec", "p", "--", "sh", "-c", script]).output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{stderr}");
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(stderr, "err\ncommand terminated with exit code 7\n");
        let killed = server.kubectl(spdy, &["exec", "p", "--", "sh", "-c", "kill -9 $$"]).output().await.unwrap();
        assert_eq!(killed.status.code(), Some(137));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_before_the_start_is_the_clients_to_see() {
    let server = Server::start().await;
    for spdy in [false, true] {
        let output = server.kubectl(spdy, &["exec", "p", "-c", "other", "--", "true"]).output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(stderr.contains("other"), "{stderr}");
        let attach = server.kubectl(spdy, &["attach", "p"]).output().await.unwrap();
        let stderr = String::from_utf8_lossy(&attach.stderr);
        assert!(stderr.contains("cannot be attached to"), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_end_without_reading_its_input() {
    let server = Server::start().await;
    for spdy in [false, true] {
        let mut kubectl = server.kubectl(spdy, &["exec", "-i", "p", "--", "sh", "-c", "echo early; exit 3"]);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Whether all of it can be written is up to kubectl.
        let writer = tokio::spawn(async move { stdin.write_all(&noise(3 << 20)).await });
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"early\n");
        drop(writer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_cp_copies_both_ways() {
    let server = Server::start().await;
    let content = noise(2 << 20);
    let path = |name: &str| server.directory.path().join(name);
    fs_err::write(path("local"), &content).unwrap();
    let remote = format!("p:{}", path("remote").display());
    let up = server.kubectl(false, &["cp", "local", &remote]).output().await.unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    assert!(fs_err::read(path("remote")).unwrap() == content);
    let down = server.kubectl(true, &["cp", &remote, "back"]).output().await.unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(fs_err::read(path("back")).unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_ends_when_its_client_is_killed() {
    let server = Server::start().await;
    for (spdy, input) in [(false, "-i=false"), (true, "-i=false"), (false, "-i"), (true, "-i")] {
        let mut kubectl = server.kubectl(spdy, &["exec", input, "p", "--", "sleep", "600"]);
        let mut child = kubectl.stdin(Stdio::piped()).spawn().unwrap();
        // Input that the process never reads fills all queues.
        let mut stdin = child.stdin.take().unwrap();
        let writer = tokio::spawn(async move { stdin.write_all(&noise(8 << 20)).await });
        until("the process runs", || server.host.running.load(Ordering::SeqCst) == 1).await;
        child.kill().await.unwrap();
        until("the process has ended", || server.host.running.load(Ordering::SeqCst) == 0).await;
        writer.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_keeps_the_output_open_does_not_keep_the_session() {
    let server = Server::start().await;
    let script = "sleep 600 & echo $!";
    let output = server.kubectl(false, &["exec", "p", "--", "sh", "-c", script]).output().await.unwrap();
    assert!(output.status.success());
    let child: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_execs_with_input_output_and_status() {
    let server = Server::start().await;
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let parameters = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods.exec("p", ["sh", "-c", "cat; exit 5"], &parameters).await.unwrap();
    let (mut stdin, mut stdout) = (process.stdin().unwrap(), process.stdout().unwrap());
    let status = process.take_status().unwrap();
    let sent = noise(1 << 20);
    let input = sent.clone();
    let writer = tokio::spawn(async move {
        stdin.write_all(&input).await.unwrap();
        // The end of the input is the end of `cat`.
        stdin.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    stdout.read_to_end(&mut received).await.unwrap();
    writer.await.unwrap();
    assert!(received == sent);
    let status = status.await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    assert_eq!(status.details.unwrap().causes.unwrap()[0].message.as_deref(), Some("5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_of_the_clients_terminal_reach_the_process() {
    let server = Server::start().await;
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let parameters = AttachParams::interactive_tty();
    let mut process = pods.exec("p", ["cat"], &parameters).await.unwrap();
    let mut sizes = process.terminal_size().unwrap();
    for width in [80, 132] {
        sizes.send(kube::api::TerminalSize { width, height: 24 }).await.unwrap();
    }
    until("both sizes", || server.host.sizes.lock().unwrap().len() == 2).await;
    assert_eq!(server.host.sizes.lock().unwrap()[1].width, 132);
    drop(process);
    until("the process has ended", || server.host.running.load(Ordering::SeqCst) == 0).await;
}

/// `script` gives kubectl a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_with_a_terminal_tells_its_size() {
    for spdy in [false, true] {
        let server = Server::start().await;
        let go_on = server.directory.path().join("go-on");
        let command = format!("echo started; until [ -e {} ]; do sleep 0.05; done; exit 4", go_on.display());
        let kubectl = server.kubectl(spdy, &["exec", "-it", "p", "--", "sh", "-c", &command]);
        let kubectl = kubectl.as_std();
        let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
        let quoted = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ");
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &format!("stty rows 33 cols 111; {quoted}"), "/dev/null"]);
        script.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.stdin(Stdio::null()).stdout(Stdio::piped());
        let running = tokio::process::Command::from(script).kill_on_drop(true).spawn().unwrap();
        let size = TerminalSize { width: 111, height: 33 };
        until("the size", || server.host.sizes.lock().unwrap().contains(&size)).await;
        fs_err::write(go_on, "").unwrap();
        let output = running.wait_with_output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("started"), "{text}");
        assert!(text.contains("command terminated with exit code 4"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_the_process_back() {
    let server = Server::start().await;
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let mut process = pods.exec("p", ["endless"], &AttachParams::default().stderr(false)).await.unwrap();
    let mut stdout = process.stdout().unwrap();
    let mut some = vec![0; 1 << 20];
    stdout.read_exact(&mut some).await.unwrap();
    // Nothing is read now: what is taken from the process must come to rest.
    let taken = || server.host.taken.load(Ordering::SeqCst);
    let mut before = (taken(), std::time::Instant::now());
    until("the process rests", || {
        if taken() != before.0 {
            before = (taken(), std::time::Instant::now());
        }
        before.1.elapsed() > Duration::from_millis(500)
    })
    .await;
    assert!(taken() < 32 << 20, "{} bytes wait somewhere", taken());
    stdout.read_exact(&mut some).await.unwrap();
    drop((stdout, process));
    until("the process has ended", || server.host.running.load(Ordering::SeqCst) == 0).await;
}
