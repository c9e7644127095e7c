//! An HTTPS server with one pod, `default/p`, and just the answers that `kubectl exec`, `cp` and `port-forward` ask for.

use std::convert::Infallible;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube_embedded::api::streaming;
use kube_embedded::kubelet::Kubelet;
use kube_embedded::status::Status;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::host::Host;

/// A running server. Its tasks end with the test's runtime.
pub struct Server {
    pub host: Arc<Host>,
    pub url: String,
    pub directory: tempfile::TempDir,
    certificate: String,
}

impl Server {
    pub async fn start() -> Self {
        let host = Arc::new(Host::default());
        let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(issued.cert.der().to_vec())], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&host)));
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join("ca.crt"), issued.cert.pem()).unwrap();
        Self { host, url, directory, certificate: issued.cert.pem() }
    }

    /// A `kubectl` command; `spdy` makes it speak SPDY alone, as it did before 1.31.
    pub fn kubectl(&self, spdy: bool, arguments: &[&str]) -> tokio::process::Command {
        let websockets = if spdy { "false" } else { "true" };
        let mut command = tokio::process::Command::new("kubectl");
        command
            .args(["--server", &self.url, "--namespace", "default", "--cache-dir"])
            .arg(self.directory.path().join("cache"))
            .arg("--certificate-authority")
            .arg(self.directory.path().join("ca.crt"))
            .args(["--token", "t"])
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env("HOME", self.directory.path())
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// A client of the `kube` crate.
    pub fn client(&self) -> kube::Client {
        let mut config = kube::Config::new(self.url.parse().unwrap());
        let certificate = self.certificate.lines().filter(|line| !line.starts_with('-')).collect::<String>();
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, certificate).unwrap();
        config.root_cert = Some(vec![der]);
        kube::Client::try_from(config).unwrap()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, host: Arc<Host>) {
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(serve(connection, tls.clone(), Arc::clone(&host)));
    }
}

async fn serve(connection: TcpStream, tls: TlsAcceptor, host: Arc<Host>) {
    let Ok(connection) = tls.accept(connection).await else { return };
    let service = service_fn(move |request| {
        let host = Arc::clone(&host);
        async move { Ok::<_, Infallible>(answer(request, host).await) }
    });
    // Both versions of HTTP, as the API server: streaming clients must choose the older one themselves.
    let http = auto::Builder::new(TokioExecutor::new());
    // A client may hang up at any time.
    let _ = http.serve_connection_with_upgrades(TokioIo::new(connection), service).await;
}

async fn answer(request: Request<Incoming>, kubelet: Arc<dyn Kubelet>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let switched = match path.as_str() {
        "/api/v1/namespaces/default/pods/p/exec" => streaming::exec(request, kubelet, "default", "p").await,
        "/api/v1/namespaces/default/pods/p/attach" => Err(streaming::no_attach("p")),
        "/api/v1/namespaces/default/pods/p/portforward" => {
            streaming::port_forward(request, kubelet, "default", "p").await
        }
        other => return document(other),
    };
    match switched {
        Ok(response) => response.map(|()| Full::default()),
        Err(status) => json_response(status.code(), &serde_json::to_value(&*status.0).unwrap()),
    }
}

fn document(path: &str) -> Response<Full<Bytes>> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "i", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running"},
    });
    let value = match path {
        "/api" => json!({"kind": "APIVersions", "versions": ["v1"]}),
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
        "/api/v1" => json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get"]},
        ]}),
        "/api/v1/namespaces/default/pods/p" => pod,
        _ => {
            let status = Status::no_such_resource();
            return json_response(status.code(), &serde_json::to_value(&*status.0).unwrap());
        }
    };
    json_response(200, &value)
}

fn json_response(code: u16, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(value.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
