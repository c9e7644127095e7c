//! `kubectl port-forward` and `Api::portforward` of the `kube` crate.

use std::process::Stdio;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;

use crate::exec::noise;
use crate::server::Server;

/// A server that sends everything back, and closes when its client does. Its port.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = connection.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
    port
}

/// `kubectl port-forward` to a port, and the local port it listens on.
async fn forwarded(server: &Server, spdy: bool, port: u16) -> (Child, u16) {
    let mut kubectl = server.kubectl(spdy, &["port-forward", "p", &format!(":{port}")]);
    let mut child = kubectl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect("kubectl says where it listens");
    let (_, rest) = line.split_once("127.0.0.1:").unwrap();
    let local = rest.split_once(' ').unwrap().0.parse().unwrap();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, local)
}

async fn round_trip(local: u16, length: usize) {
    let mut connection = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
    let sent = noise(length);
    let (mut reader, mut writer) = connection.split();
    let mut received = vec![0; length];
    let write = async { writer.write_all(&sent).await.unwrap() };
    let read = async { reader.read_exact(&mut received).await.unwrap() };
    tokio::join!(write, read);
    assert!(received == sent);
    writer.shutdown().await.unwrap();
    assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0, "the end reaches the client");
}

async fn forwards_several_connections(spdy: bool) {
    let server = Server::start().await;
    let (mut kubectl, local) = forwarded(&server, spdy, echo().await).await;
    for _ in 0..2 {
        let connections = (0..8).map(|number| tokio::spawn(round_trip(local, (1 << 20) + number)));
        for connection in connections.collect::<Vec<_>>() {
            connection.await.unwrap();
        }
    }
    // Many short connections, one after the other.
    for _ in 0..50 {
        round_trip(local, 10).await;
    }
    assert!(kubectl.try_wait().unwrap().is_none(), "kubectl still forwards");
    kubectl.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_forwards_several_connections() {
    forwards_several_connections(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_forwards_several_connections_over_spdy() {
    forwards_several_connections(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_off_does_not_disturb_the_others() {
    let server = Server::start().await;
    for spdy in [false, true] {
        let (mut kubectl, local) = forwarded(&server, spdy, echo().await).await;
        for _ in 0..5 {
            let mut cut = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
            cut.write_all(&noise(100_000)).await.unwrap();
            // Closed with unread bytes: the peer sees a reset.
            drop(cut);
            round_trip(local, 1000).await;
        }
        assert!(kubectl.try_wait().unwrap().is_none(), "kubectl still forwards");
        kubectl.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_nobody_listens_is_told_on_the_error_stream() {
    let server = Server::start().await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    for spdy in [false, true] {
        let (kubectl, local) = forwarded(&server, spdy, closed).await;
        let mut connection = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
        // Reset or closed: no byte comes.
        assert_eq!(connection.read(&mut [0; 1]).await.unwrap_or(0), 0);
        let output = kubectl.wait_with_output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(&format!("error forwarding port {closed} to pod p")), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_forwards_several_ports() {
    let server = Server::start().await;
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let ports = [echo().await, echo().await];
    let mut forwarder = pods.portforward("p", &ports).await.unwrap();
    for port in ports {
        let mut stream = forwarder.take_stream(port).unwrap();
        let sent = noise(300_000);
        stream.write_all(&sent).await.unwrap();
        let mut received = vec![0; sent.len()];
        stream.read_exact(&mut received).await.unwrap();
        assert!(received == sent);
    }
    forwarder.join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_is_told_about_a_port_where_nobody_listens() {
    let server = Server::start().await;
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut forwarder = pods.portforward("p", &[closed]).await.unwrap();
    let error = forwarder.take_error(closed).unwrap().await.unwrap();
    assert!(error.contains("Connection refused"), "{error}");
}
