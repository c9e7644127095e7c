//! Keeps what the node knows of Services: their names for pods' hosts files, and their addresses for the proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Endpoints, ObjectReference, Service};
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::COMPONENT;
use super::hosts::Names;
use super::proxy::{Problem, Proxy};
use crate::events::{Events, Note};

/// Between two attempts to serve what could not be served (kube-proxy, `--iptables-sync-period`, has 30 s).
const AGAIN: Duration = Duration::from_secs(2);

/// Namespace and name.
type Key = (String, String);

/// Follows Services and Endpoints until `shutdown`. Answers when both have been read once.
///
/// # Errors
/// When they can't be listed.
pub async fn follow(
    client: kube::Client,
    names: watch::Sender<Arc<Names>>,
    events: Events,
    shutdown: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, kube::Error> {
    let mut known =
        Known { services: BTreeMap::new(), endpoints: BTreeMap::new(), names, events, proxy: Proxy::default() };
    let services: Api<Service> = Api::all(client.clone());
    let endpoints: Api<Endpoints> = Api::all(client);
    known.services = services.list(&ListParams::default()).await?.into_iter().map(keyed).collect();
    known.endpoints = endpoints.list(&ListParams::default()).await?.into_iter().map(keyed).collect();
    known.apply().await;
    Ok(tokio::spawn(async move {
        let mut services = watcher::watcher(services, watcher::Config::default()).boxed();
        let mut endpoints = watcher::watcher(endpoints, watcher::Config::default()).boxed();
        let mut all_services = BTreeMap::new();
        let mut all_endpoints = BTreeMap::new();
        loop {
            let has_changed = tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(AGAIN), if known.proxy.lacks_addresses() => true,
                Some(event) = services.next() => take(&mut known.services, &mut all_services, event).await,
                Some(event) = endpoints.next() => take(&mut known.endpoints, &mut all_endpoints, event).await,
            };
            if has_changed {
                known.apply().await;
            }
        }
    }))
}

fn keyed<K: Resource>(object: K) -> (Key, K) {
    ((object.namespace().unwrap_or_default(), object.name_any()), object)
}

/// Takes an event into the map. Answers whether the map may be different.
async fn take<K: Resource>(
    known: &mut BTreeMap<Key, K>,
    listed: &mut BTreeMap<Key, K>,
    event: Result<Event<K>, watcher::Error>,
) -> bool {
    match event {
        Ok(Event::Apply(object)) => {
            let (key, object) = keyed(object);
            known.insert(key, object);
        }
        Ok(Event::Delete(object)) => {
            known.remove(&keyed(object).0);
        }
        Ok(Event::Init) => {
            listed.clear();
            return false;
        }
        Ok(Event::InitApply(object)) => {
            let (key, object) = keyed(object);
            listed.insert(key, object);
            return false;
        }
        Ok(Event::InitDone) => *known = std::mem::take(listed),
        Err(error) => {
            tracing::debug!(%error, "a watch was interrupted");
            // The watcher begins again by itself; not at once.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return false;
        }
    }
    true
}

struct Known {
    services: BTreeMap<Key, Service>,
    endpoints: BTreeMap<Key, Endpoints>,
    names: watch::Sender<Arc<Names>>,
    events: Events,
    proxy: Proxy,
}

impl Known {
    async fn apply(&mut self) {
        let names = Arc::new(Names::new(self.services.values(), &self.endpoints));
        self.names.send_if_modified(|known| {
            let differs = **known != *names;
            if differs {
                *known = names;
            }
            differs
        });
        let mut wanted = BTreeMap::new();
        for (key, service) in &self.services {
            for (address, targets) in routes(service, self.endpoints.get(key)) {
                wanted.insert(address, (key.clone(), targets));
            }
        }
        let targets = wanted.iter().map(|(address, (_, targets))| (*address, targets.clone())).collect();
        for (address, problem) in self.proxy.apply(targets).await {
            if let Some(service) = wanted.get(&address).and_then(|(key, _)| self.services.get(key)) {
                self.complain(service, address, &problem);
            }
        }
    }

    fn complain(&self, service: &Service, address: SocketAddr, problem: &Problem) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            uid: service.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let message = format!("cannot serve {address}: {problem}");
        self.events.tell(Note::warning(about, COMPONENT, "FailedToServe", message));
    }
}

/// The addresses of a Service and where each leads. Other protocols than TCP are not served.
fn routes(service: &Service, endpoints: Option<&Endpoints>) -> Vec<(SocketAddr, Vec<SocketAddr>)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    // The API server itself listens where its clients are told, on a port that nobody has to be root for.
    if service.name_any() == "kubernetes" && service.namespace().as_deref() == Some("default") {
        return Vec::new();
    }
    let Some(address) = spec.cluster_ip.as_deref().and_then(|address| address.parse().ok()) else { return Vec::new() };
    let mut routes = Vec::new();
    for port in spec.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.port) else { continue };
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            continue;
        }
        let mut targets = Vec::new();
        for subset in endpoints.iter().flat_map(|endpoints| endpoints.subsets.iter().flatten()) {
            // An endpoint's port belongs to the Service's port of the same name.
            let found = subset.ports.iter().flatten().find(|candidate| {
                candidate.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
            });
            let Some(target) = found.and_then(|found| u16::try_from(found.port).ok()) else { continue };
            targets.extend(
                subset
                    .addresses
                    .iter()
                    .flatten()
                    .filter_map(|address| Some(SocketAddr::new(address.ip.parse().ok()?, target))),
            );
        }
        targets.sort();
        routes.push((SocketAddr::new(address, number), targets));
    }
    routes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_matched_by_name_and_only_ready_addresses_count() {
        let service: Service = serde_json::from_value(json!({"spec": {"clusterIP": "127.64.8.1", "ports": [
            {"name": "sql", "port": 5432}, {"name": "web", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}]}}))
        .unwrap();
        let endpoints: Endpoints = serde_json::from_value(json!({"metadata": {}, "subsets": [{
            "addresses": [{"ip": "127.64.0.3"}, {"ip": "127.64.0.2"}], "notReadyAddresses": [{"ip": "127.64.0.4"}],
            "ports": [{"name": "sql", "port": 15432}]}]}))
        .unwrap();
        let routes = routes(&service, Some(&endpoints));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(
            routes,
            [
                (at("127.64.8.1:5432"), vec![at("127.64.0.2:15432"), at("127.64.0.3:15432")]),
                (at("127.64.8.1:8080"), vec![])
            ]
        );
    }
}
