//! The subresources of pods that lead to the node: `log`, `exec`, `attach`, `portforward`.

use std::sync::Arc;

use http::{Request, Response, StatusCode};

use crate::api::ApiServer;
use crate::api::body::{self, Body};
use crate::api::builtin::causes::Causes;
use crate::api::request::{Query, ResourceRequest};
use crate::api::streaming;
use crate::kubelet::{ContainerRef, Kubelet, LogOptions};
use crate::objects::GroupResource;
use crate::status::Status;
use crate::store::Object;

/// Whether a request leads to the node.
pub(in crate::api) fn leads_to_node(request: &ResourceRequest) -> bool {
    request.group.is_empty()
        && request.resource == "pods"
        && matches!(request.subresource.as_str(), "log" | "exec" | "attach" | "portforward")
}

impl ApiServer {
    pub(in crate::api) async fn connect<B>(
        &self,
        target: &ResourceRequest,
        query: &Query,
        request: Request<B>,
    ) -> Result<Response<Body>, Status> {
        let pods = GroupResource::new("", "pods");
        let pod = self.store.fetch_by(&pods, &target.namespace, &target.name);
        let pod = pod.ok_or_else(|| Status::not_found("", "pods", &target.name))?;
        let kubelet = self
            .kubelet
            .get()
            .cloned()
            .ok_or_else(|| Status::new(503, "ServiceUnavailable", "the node is not ready yet"))?;
        if target.subresource == "log" {
            return logs(&*kubelet, &pod, query).await;
        }
        let (namespace, name) = (target.namespace.as_str(), target.name.as_str());
        if matches!(target.subresource.as_str(), "exec" | "attach") {
            container(&pod, query.get("container"), false)?;
        }
        if !has_node(&pod) {
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        }
        let response = match target.subresource.as_str() {
            "exec" => streaming::exec(request, kubelet, namespace, name).await?,
            "attach" => return Err(streaming::no_attach(name)),
            _ => streaming::port_forward(request, kubelet, namespace, name).await?,
        };
        Ok(response.map(|()| body::full("")))
    }
}

async fn logs(kubelet: &dyn Kubelet, pod: &Arc<Object>, query: &Query) -> Result<Response<Body>, Status> {
    let container = container(pod, query.get("container"), true)?;
    let at_least = |least: i64, name: &str| -> Result<Option<i64>, Status> {
        let number = query.number(name)?;
        if number.is_none_or(|number| number >= least) {
            return Ok(number);
        }
        let mut causes = Causes::default();
        let bound = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
        causes.invalid(name, &number.into(), bound);
        Err(Status::invalid("", "PodLogOptions", &pod.key.name, causes.0))
    };
    let since = query.get("sinceTime").map(|text| {
        text.parse().map_err(|_| Status::bad_request(format!("sinceTime: \"{text}\" is not an RFC 3339 time")))
    });
    let options = LogOptions {
        follow: query.flag("follow")?,
        previous: query.flag("previous")?,
        timestamps: query.flag("timestamps")?,
        tail_lines: at_least(0, "tailLines")?.map(i64::unsigned_abs),
        limit_bytes: at_least(1, "limitBytes")?.map(i64::unsigned_abs),
        since_seconds: at_least(1, "sinceSeconds")?,
        since_time: since.transpose()?,
    };
    let reference =
        ContainerRef { namespace: pod.key.namespace.clone(), pod: pod.key.name.clone(), container: Some(container) };
    if !has_node(pod) {
        return Ok(body::typed(StatusCode::OK, "text/plain", ""));
    }
    let lines = kubelet.logs(&reference, &options).await?;
    let mut response = body::typed(StatusCode::OK, "text/plain", "");
    *response.body_mut() = body::stream(lines);
    Ok(response)
}

/// Whether a pod has been given to a node. Without one, its log is empty and nothing can be run in it
/// (`pkg/registry/core/pod/strategy.go`).
fn has_node(pod: &Object) -> bool {
    pod.value["spec"]["nodeName"].as_str().is_some_and(|name| !name.is_empty())
}

/// The container that is meant (`pkg/registry/core/pod/strategy.go`).
fn container(pod: &Object, asked: Option<&str>, only_one: bool) -> Result<String, Status> {
    let of = |list: &str| -> Vec<String> {
        let containers = pod.value["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|container| container["name"].as_str()).map(str::to_owned).collect()
    };
    let (main, init) = (of("containers"), of("initContainers"));
    let name = &pod.key.name;
    if let Some(asked) = asked {
        if main.iter().chain(&init).any(|known| known == asked) {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")));
    }
    let preferred = pod.value["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    match (preferred.filter(|name| main.iter().any(|known| known == name)), main.as_slice()) {
        (Some(preferred), _) if !only_one => Ok(preferred.to_owned()),
        (_, [one]) => Ok(one.clone()),
        _ => {
            let mut why =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", main.join(" "));
            if !init.is_empty() {
                why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(why))
        }
    }
}
