//! The node as the API server sees it: logs, exec and port-forward, with the errors of kubelets and of
//! kubernetes/kubernetes `pkg/registry/core/pod/strategy.go`.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;

use super::Node;
use super::pod::{ContainerView, View};
use super::{exec, logs};
use crate::dial;
use crate::kubelet::{ContainerRef, Duplex, ExecOptions, Kubelet, LogOptions, Process};
use crate::status::Status;

/// Annotation that names the container to use when a client names none.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

#[async_trait]
impl Kubelet for Node {
    async fn logs(
        &self,
        container: &ContainerRef,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, Status> {
        let log = self.look(container, |name, found| {
            if options.previous {
                let missing = || {
                    let pod = &container.pod;
                    Status::bad_request(format!("previous terminated container \"{name}\" in pod \"{pod}\" not found"))
                };
                // While it waits for its next run, the latest one is the previous.
                let latest = found.log.clone().filter(|_| found.waiting.is_some());
                return latest.or_else(|| found.previous.clone()).ok_or_else(missing);
            }
            found.log.clone().ok_or_else(|| waiting(name, &container.pod, found))
        })?;
        logs::stream(&log, options).map_err(Status::internal)
    }

    async fn exec(&self, container: &ContainerRef, options: &ExecOptions) -> Result<Process, Status> {
        let running = self.look(container, |name, found| {
            let not_running = || Status::internal(format!("container not found (\"{name}\")"));
            found.running.clone().ok_or_else(not_running)
        })?;
        exec::start(&self.context().spawner, &running, options).await.map_err(Status::internal)
    }

    /// Only the pod's own address is tried: `127.0.0.1` belongs to everybody on this host.
    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> std::io::Result<Box<dyn Duplex>> {
        let address = self.pod(namespace, pod).and_then(|pod| pod.view(|view| view.pod_ip.clone()));
        let missing = || std::io::Error::other(format!("pod {pod} in namespace {namespace} is not running"));
        let address = address.ok_or_else(missing)?;
        let stream = TcpStream::connect((address.as_str(), port)).await.map_err(|error| {
            std::io::Error::new(error.kind(), format!("dial tcp4 {address}:{port}: {}", dial::why(&error)))
        })?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

fn waiting(name: &str, pod: &str, found: &ContainerView) -> Status {
    let reason = match found.waiting.as_deref() {
        Some("ErrImagePull" | "ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => "ContainerCreating",
    };
    Status::bad_request(format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {reason}"))
}

impl Node {
    /// Finds the container that is meant and looks at it.
    fn look<T>(
        &self,
        container: &ContainerRef,
        look: impl FnOnce(&str, &ContainerView) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let ContainerRef { namespace, pod, container } = container;
        let Some(handle) = self.pod(namespace, pod) else { return Err(Status::not_found("", "pods", pod)) };
        handle.view(|view| {
            let name = chosen(&view.pod, container.as_deref())?;
            let fresh = ContainerView::default();
            look(&name, found(view, &name).unwrap_or(&fresh))
        })
    }
}

fn found<'a>(view: &'a View, name: &str) -> Option<&'a ContainerView> {
    view.containers.get(name)
}

fn chosen(pod: &Pod, wanted: Option<&str>) -> Result<String, Status> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let names: Vec<String> = spec.containers.into_iter().map(|container| container.name).collect();
    let inits: Vec<String> = spec.init_containers.into_iter().flatten().map(|container| container.name).collect();
    let annotated = pod.metadata.annotations.as_ref().and_then(|map| map.get(DEFAULT_CONTAINER));
    let wanted = wanted
        .filter(|name| !name.is_empty())
        .or_else(|| annotated.map(String::as_str).filter(|name| names.iter().any(|known| known == name)));
    match (wanted, names.as_slice()) {
        (Some(name), _) if names.iter().chain(&inits).any(|known| known == name) => Ok(name.to_owned()),
        (Some(name), _) => Err(Status::bad_request(format!("container {name} is not valid for pod {pod_name}"))),
        (None, [only]) => Ok(only.clone()),
        (None, _) => {
            let mut choice = format!("choose one of: [{}]", names.join(" "));
            if !inits.is_empty() {
                choice += &format!(" or one of the init containers: [{}]", inits.join(" "));
            }
            Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}, {choice}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_must_be_named_unless_there_is_a_choice_already() {
        let pod = |annotations: serde_json::Value, names: &[&str]| -> Pod {
            let containers: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
            serde_json::from_value(json!({"metadata": {"name": "p", "annotations": annotations},
                "spec": {"containers": containers, "initContainers": [{"name": "i"}]}}))
            .unwrap()
        };
        assert_eq!(chosen(&pod(json!({}), &["a"]), None).unwrap(), "a");
        assert_eq!(chosen(&pod(json!({}), &["a", "b"]), Some("i")).unwrap(), "i");
        assert_eq!(chosen(&pod(json!({DEFAULT_CONTAINER: "b"}), &["a", "b"]), None).unwrap(), "b");
        let several = chosen(&pod(json!({}), &["a", "b"]), None).unwrap_err().to_string();
        assert_eq!(
            several,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        let unknown = chosen(&pod(json!({}), &["a"]), Some("x")).unwrap_err().to_string();
        assert_eq!(unknown, "container x is not valid for pod p");
    }
}
