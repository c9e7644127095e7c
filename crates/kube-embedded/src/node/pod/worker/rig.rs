//! The task of a pod of a test: it has a directory, and an API that gives the same answers again and again.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Worker;
use crate::auth::tokens::ServiceAccountTokens;
use crate::events::Events;
use crate::image::{Image, ImageCatalogue};
use crate::node::address::Addresses;
use crate::node::context::Context;
use crate::node::downward::Capacity;
use crate::node::hosts::Names;
use crate::node::isolation::Isolation;
use crate::node::pod::View;
use crate::node::spawner::Spawner;
use crate::node::{ApiAccess, NodeOptions, THIS_PROGRAM};

struct NoImages;

impl ImageCatalogue for NoImages {
    fn resolve(&self, reference: &str) -> Result<Image, String> {
        Err(format!("there is no {reference}"))
    }

    fn references(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The task of the pod `p`. `answer` gives code and body of what the API answers.
pub(super) fn worker(directory: &Path, answer: fn(&Method) -> (u16, Value)) -> Worker {
    let service = tower::service_fn(move |request: Request<Body>| async move {
        let (code, body) = answer(request.method());
        let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
        Ok::<_, Infallible>(response.unwrap())
    });
    let client = kube::Client::new(service, "default");
    let address = Ipv4Addr::new(127, 64, 0, 1);
    let tokens = Arc::new(ServiceAccountTokens::new([7; 32]));
    let options = NodeOptions {
        name: "test".into(),
        cluster: "test".into(),
        directory: directory.join("node"),
        volumes: directory.join("volumes"),
        hidden: Vec::new(),
        run_directory: directory.join("run"),
        images: Arc::new(NoImages),
        run_as: None,
        address,
        pod_addresses: (address, address),
        api_server: ApiAccess { address, port: 6443, ca_pem: "CA".into(), tokens },
        stop_grace: Duration::from_secs(3),
        launcher: THIS_PROGRAM.into(),
    };
    let context = Context {
        client: client.clone(),
        spawner: Spawner::new(options.launcher.clone()).unwrap(),
        events: Events::start(client, None),
        addresses: Addresses::new(options.pod_addresses),
        capacity: Capacity { cpus: 1.0, memory: 1.0, storage: 1.0 },
        isolation: Isolation::None { reason: "a test".into() },
        node_id: "node".into(),
        run_id: "run".into(),
        names: watch::channel(Arc::new(Names::default())).1,
        is_clean: watch::channel(true).1,
        options,
    };
    let pod: Pod = serde_json::from_value(pod("standby")).unwrap();
    Worker::new(Arc::new(context), Arc::new(pod), Arc::new(Mutex::new(View::default())))
}

/// The pod `p`, labelled with a role.
pub(super) fn pod(role: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u", "labels": {"role": role}},
        "spec": {"containers": []},
    })
}

/// A refusal of the API.
pub(super) fn refused(code: u16) -> (u16, Value) {
    (code, json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code}))
}
