//! Discovery: which groups, versions and resources there are, in the plain and in the aggregated form.

use http::header::ACCEPT;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use super::body::{self, Body};
use super::registry::{Registry, Resource, api_version};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/version`: the Kubernetes release whose API is served.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": concat!("v1.33.0+a9s.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "2025-04-23T13:00:00Z", "goVersion": "",
        "compiler": "", "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

/// Kubernetes' word for the architecture of this machine.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Answers `/api`, `/apis` and what lies below, up to a version's list of resources; `None` where nothing is.
pub fn answer(registry: &Registry, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let value = match parts.as_slice() {
        [] => json!({"paths": paths(registry)}),
        ["api"] if wants_aggregated(headers) => return Some(aggregated(registry, true)),
        ["apis"] if wants_aggregated(headers) => return Some(aggregated(registry, false)),
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["apis"] => {
            let groups: Vec<Value> =
                named_groups(registry).map(|(group, versions)| plain_group(group, &versions)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", group] => {
            let (group, versions) = named_groups(registry).find(|(name, _)| name == group)?;
            let mut value = plain_group(group, &versions);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        }
        ["api", version] => plain_resources(registry, "", version)?,
        ["apis", group, version] => plain_resources(registry, group, version)?,
        _ => return None,
    };
    Some(body::json(StatusCode::OK, &value))
}

fn named_groups(registry: &Registry) -> impl Iterator<Item = (&str, Vec<&str>)> {
    registry.groups().into_iter().filter(|(group, _)| !group.is_empty())
}

fn paths(registry: &Registry) -> Vec<String> {
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis"].map(str::to_owned).into();
    for (group, versions) in named_groups(registry) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(["/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    paths
}

fn plain_group(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": api_version(group, version), "version": version}))
        .collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

fn plain_resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resource in registry.all().filter(|resource| resource.group == group && resource.version == version) {
        let mut main = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs(),
        });
        if !resource.short_names.is_empty() {
            main["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            main["categories"] = json!(resource.categories);
        }
        resources.push(main);
        for (name, group, version, kind, verbs) in subresources(resource) {
            let mut entry = json!({
                "name": format!("{}/{name}", resource.plural), "singularName": "", "namespaced": resource.namespaced,
                "kind": kind, "verbs": verbs,
            });
            if (group, version) != (resource.group.as_str(), resource.version.as_str()) {
                entry["group"] = group.into();
                entry["version"] = version.into();
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": resources,
    }))
}

type SubresourceEntry<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [&'static str]);

fn subresources(resource: &Resource) -> Vec<SubresourceEntry<'_>> {
    const CHANGE: &[&str] = &["get", "patch", "update"];
    let (group, version) = (resource.group.as_str(), resource.version.as_str());
    let mut entries: Vec<SubresourceEntry<'_>> = Vec::new();
    for subresource in &resource.subresources {
        let (group, version) = subresource.group_version.unwrap_or((group, version));
        entries.push((subresource.name, group, version, subresource.kind, subresource.verbs));
    }
    if resource.scale.is_some() {
        entries.push(("scale", "autoscaling", "v1", "Scale", CHANGE));
    }
    if resource.status {
        entries.push(("status", group, version, resource.kind.as_str(), CHANGE));
    }
    entries.sort_by_key(|entry| entry.0);
    entries
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first =
        accept.split(',').map(str::trim).find(|clause| clause.starts_with("application/json") || *clause == "*/*");
    accept.split(',').any(|clause| {
        clause.contains("g=apidiscovery.k8s.io") && clause.contains("v=v2") && !clause.contains("v=v2beta1")
    }) && first.is_some()
}

fn aggregated(registry: &Registry, core: bool) -> Response<Body> {
    let mut items = Vec::new();
    for (group, versions) in registry.groups().into_iter().filter(|(group, _)| group.is_empty() == core) {
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| {
                let resources: Vec<Value> = registry
                    .all()
                    .filter(|resource| resource.group == group && resource.version == *version)
                    .map(|resource| aggregated_resource(resource))
                    .collect();
                json!({"version": version, "freshness": "Current", "resources": resources})
            })
            .collect();
        let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    body::typed(StatusCode::OK, AGGREGATED, list.to_string())
}

fn aggregated_resource(resource: &Resource) -> Value {
    let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": scope, "singularResource": resource.singular, "verbs": resource.verbs(),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let subresources: Vec<Value> = subresources(resource)
        .into_iter()
        .map(|(name, group, version, kind, verbs)| {
            json!({
                "subresource": name, "responseKind": {"group": group, "version": version, "kind": kind}, "verbs": verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}
