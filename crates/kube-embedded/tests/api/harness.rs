//! An API server of a test: its own store, its own port, and a kubeconfig for `kubectl`.

use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};

use kube_embedded::api::audit::Policy;
use kube_embedded::api::{ApiServer, ApiServerParts, server};
use kube_embedded::auth::Authenticator;
use kube_embedded::auth::pki::Pki;
use kube_embedded::auth::rbac::Authorizer;
use kube_embedded::auth::tokens::ServiceAccountTokens;
use kube_embedded::objects::Objects;
use kube_embedded::store::Store;
use kube_embedded::user::UserInfo;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Stops when dropped.
pub struct Server {
    pub api: Arc<ApiServer>,
    pub client: kube::Client,
    pub directory: tempfile::TempDir,
    pub url: String,
    shutdown: CancellationToken,
}

impl Server {
    /// A server with what every cluster begins with, and the account `default` in the namespace `default`.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let pki = Pki::open_or_create(&directory.path().join("pki"), &["127.0.0.1".to_owned()]).unwrap();
        let tokens = Arc::new(ServiceAccountTokens::new([7; 32]));
        let objects: Arc<dyn Objects> = Arc::clone(&store) as Arc<dyn Objects>;
        let api = ApiServer::new(ApiServerParts {
            authenticator: Arc::new(Authenticator::new(Arc::clone(&tokens), Arc::clone(&objects))),
            authorizer: Arc::new(Authorizer::new(objects)),
            tokens,
            store,
            kubelet: Arc::new(OnceLock::new()),
            service_addresses: (Ipv4Addr::new(127, 100, 8, 0), Ipv4Addr::new(127, 100, 15, 254)),
            audit: Some(Policy { file: directory.path().join("audit.log"), has_reads: false }),
        });
        let client = api.client(UserInfo::master("test"));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        tokio::spawn(server::serve(Arc::clone(&api), listener, pki.server_config(), shutdown.clone()));
        let (certificate, key) = pki.issue_client("kubernetes-admin", &["system:masters"]).unwrap();
        for (file, text) in [("ca.crt", pki.ca_pem()), ("client.crt", &certificate), ("client.key", &key)] {
            fs_err::write(directory.path().join(file), text).unwrap();
        }
        let server = Self { api, client, directory, url, shutdown };
        kube_embedded::controllers::bootstrap(&server.client).await.unwrap();
        let account = json!({"metadata": {"name": "default"}});
        server.request("POST", "/api/v1/namespaces/default/serviceaccounts", Some(account)).await;
        server
    }

    /// A request as a client inside the process makes it: the code and the body.
    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.request_as(method, path, "application/json", body.map(|body| body.to_string()).unwrap_or_default()).await
    }

    /// As [`Server::request`], with a body of any type.
    pub async fn request_as(&self, method: &str, path: &str, content_type: &str, body: String) -> (u16, Value) {
        self.request_by(UserInfo::master("test"), method, path, content_type, body).await
    }

    /// As [`Server::request`], with a JSON merge patch (RFC 7386).
    pub async fn patch(&self, path: &str, patch: Value) -> (u16, Value) {
        self.request_as("PATCH", path, "application/merge-patch+json", patch.to_string()).await
    }

    /// As [`Server::request_as`], of any user.
    pub async fn request_by(
        &self,
        user: UserInfo,
        method: &str,
        path: &str,
        content_type: &str,
        body: String,
    ) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("user-agent", "test/1")
            .body(http_body_util::Full::new(bytes::Bytes::from(body)))
            .unwrap();
        self.send(user, request).await
    }

    /// What any request of a user is answered: the code and the body.
    pub async fn send(
        &self,
        user: UserInfo,
        request: http::Request<http_body_util::Full<bytes::Bytes>>,
    ) -> (u16, Value) {
        let response = self.api.handle(user, request).await;
        let code = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        // A watch may end before it has told anything.
        let is_line = body.is_empty() || body.ends_with(b"\n") && !body.ends_with(b"\n\n");
        assert!(is_line, "an answer in JSON is one line: {}", String::from_utf8_lossy(&body));
        (code, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()))
    }

    /// Lets a user do in a namespace what a rule says.
    pub async fn grant(&self, namespace: &str, user: &str, rule: Value) {
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let role = json!({"metadata": {"name": user}, "rules": [rule]});
        let binding = json!({
            "metadata": {"name": user}, "roleRef": {"kind": "Role", "name": user},
            "subjects": [{"kind": "User", "name": user}],
        });
        assert_eq!(self.request("POST", &format!("{rbac}/roles"), Some(role)).await.0, 201);
        assert_eq!(self.request("POST", &format!("{rbac}/rolebindings"), Some(binding)).await.0, 201);
    }

    /// Writes an object to a file for `kubectl -f`.
    pub fn file(&self, name: &str, object: &Value) -> String {
        let path = self.directory.path().join(name);
        fs_err::write(&path, object.to_string()).unwrap();
        path.display().to_string()
    }

    /// Runs `kubectl`.
    pub async fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = self.kubectl_command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// `kubectl`, not run yet.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(["--server", &self.url])
            .args(
                [
                    "certificate-authority=ca.crt",
                    "client-certificate=client.crt",
                    "client-key=client.key",
                    "cache-dir=cache",
                ]
                .map(|flag| {
                    let (flag, file) = flag.split_once('=').unwrap();
                    format!("--{flag}={}", self.directory.path().join(file).display())
                }),
            )
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env("HOME", self.directory.path());
        command
    }

    /// Runs `kubectl`, which must succeed; its standard output.
    pub async fn kubectl_ok(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).await;
        assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
