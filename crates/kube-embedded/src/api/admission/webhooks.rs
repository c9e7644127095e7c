//! Admission webhooks (`admission.k8s.io/v1`): which of them want to see a change, the calls, and what they answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status as Body;
use serde_json::{Value, json};

use super::conditions;
use super::connection::Endpoint;
use crate::api::ApiServer;
use crate::api::call::Call;
use crate::api::selector;
use crate::objects::{GroupResource, Objects as _};
use crate::patch;
use crate::status::Status;

const GROUP: &str = "admissionregistration.k8s.io";

/// A change that is about to be made.
pub struct Change<'a> {
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub operation: &'static str,
    /// The state to come; null for a deletion.
    pub object: &'a Value,
    /// The state before; null for a creation.
    pub old: &'a Value,
    /// Whether it is only tried.
    pub dry: bool,
}

/// A webhook that wants to see a change.
struct Wanted<'a> {
    webhook: &'a Value,
    /// The version of the resource that it knows: it is shown the change in that one.
    version: String,
    /// What it is shown. The uid is still missing.
    review: Value,
}

impl ApiServer {
    /// Asks the mutating webhooks. Answers the changed object, if they changed it.
    pub(in crate::api) async fn mutate(
        &self,
        call: &Call,
        change: &Change<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Value>, Status> {
        let mut changed: Option<Value> = None;
        let configurations = self.configurations(call, "mutatingwebhookconfigurations");
        for webhook in webhooks(&configurations) {
            let current = Change { object: changed.as_ref().unwrap_or(change.object), ..*change };
            let Some(wanted) = self.wanted(call, &current, webhook)? else { continue };
            let Some(answer) = self.ask(wanted.webhook, wanted.review, warnings).await? else { continue };
            let Some(encoded) = answer["patch"].as_str() else { continue };
            let name = webhook["name"].as_str().unwrap_or_default();
            let broken =
                |why: String| Status::internal(format!("failed calling webhook \"{name}\": invalid patch: {why}"));
            let bytes = STANDARD.decode(encoded).map_err(|error| broken(error.to_string()))?;
            let operations: Value = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
            let converted = call.resource.convert(current.object, &wanted.version);
            let patched = patch::json(converted.as_ref().unwrap_or(current.object), &operations);
            let mut patched = patched.map_err(|status| broken(status.to_string()))?;
            patched["apiVersion"] = call.resource.api_version().into();
            patched["kind"] = call.resource.kind.as_str().into();
            changed = Some(patched);
        }
        Ok(changed)
    }

    /// Asks the validating webhooks, all at once.
    pub(in crate::api) async fn ask_validators(
        &self,
        call: &Call,
        change: &Change<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let configurations = self.configurations(call, "validatingwebhookconfigurations");
        let mut all = Vec::new();
        for webhook in webhooks(&configurations) {
            all.extend(self.wanted(call, change, webhook)?);
        }
        if sabotage::sabotaged!("webhooks-are-not-asked") {
            all.clear();
        }
        let asked = all.into_iter().map(|wanted| async move {
            let mut warnings = Vec::new();
            let answer = self.ask(wanted.webhook, wanted.review, &mut warnings).await;
            (answer, warnings)
        });
        for (answer, said) in futures::future::join_all(asked).await {
            warnings.extend(said);
            answer?;
        }
        Ok(())
    }

    /// The configurations of webhooks that may be asked about a change, by the order of their names.
    fn configurations(&self, call: &Call, plural: &str) -> Vec<Arc<Value>> {
        // Who could not be asked could then not be repaired.
        if call.resource.group == GROUP {
            return Vec::new();
        }
        self.store.list(&GroupResource::new(GROUP, plural), None)
    }

    /// Whether, and in which version, a webhook wants to see this change: by its rules, then its selectors, then its
    /// conditions.
    fn wanted<'a>(&self, call: &Call, change: &Change<'_>, webhook: &'a Value) -> Result<Option<Wanted<'a>>, Status> {
        let Some(version) = self.known_version(call, change.operation, webhook) else { return Ok(None) };
        if !self.selects(call, change, webhook) {
            return Ok(None);
        }
        let review = review(call, change, &version);
        let wanted = Wanted { webhook, version, review };
        let conditions = webhook["matchConditions"].as_array().map_or(&[][..], Vec::as_slice);
        if conditions.is_empty() {
            return Ok(Some(wanted));
        }
        match conditions::hold(conditions, &wanted.review["request"]) {
            Ok(true) => Ok(Some(wanted)),
            Ok(false) => Ok(None),
            Err(why) if webhook["failurePolicy"] == "Ignore" => {
                tracing::warn!(webhook = webhook["name"].as_str(), why, "a webhook that may be ignored was not asked");
                Ok(None)
            }
            Err(why) => {
                let (resource, name) = (&call.resource, change.subject()["metadata"]["name"].as_str());
                Err(Status::forbidden(&resource.group, &resource.plural, name.unwrap_or_default(), why))
            }
        }
    }

    /// The version in which a webhook's rules know the resource: the call's own, or any other that is served, unless
    /// the webhook wants to match exactly.
    fn known_version(&self, call: &Call, operation: &str, webhook: &Value) -> Option<String> {
        let (group, plural, own) = (&call.resource.group, &call.resource.plural, &call.resource.version);
        let knows = |version: &str| {
            let mut rules = webhook["rules"].as_array().into_iter().flatten();
            rules.any(|rule| rule_matches(call, version, operation, rule))
        };
        if knows(own) {
            return Some(own.clone());
        }
        if webhook["matchPolicy"] == "Exact" {
            return None;
        }
        let registry = self.registry();
        let mut served = registry.all().filter(|other| other.group == *group && other.plural == *plural);
        served.find(|other| knows(&other.version)).map(|other| other.version.clone())
    }

    fn selects(&self, call: &Call, change: &Change<'_>, webhook: &Value) -> bool {
        let selected =
            |selector: &Value, object: &Value| selector::matches_labels(selector, &object["metadata"]["labels"]);
        let selector = &webhook["namespaceSelector"];
        let in_namespace = if call.resource.namespaced {
            let namespace = self.store.fetch_by(&GroupResource::new("", "namespaces"), "", call.namespace());
            namespace.is_none_or(|namespace| selected(selector, &namespace.value))
        } else {
            // A namespace counts as its own.
            !call.resource.is_namespace() || selected(selector, change.subject())
        };
        let wanted = |object: &Value| object.is_object() && selected(&webhook["objectSelector"], object);
        in_namespace && (wanted(change.object) || wanted(change.old))
    }

    async fn ask(
        &self,
        webhook: &Value,
        mut review: Value,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Value>, Status> {
        let name = webhook["name"].as_str().unwrap_or_default();
        let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(10);
        let uid = uuid::Uuid::new_v4().to_string();
        review["request"]["uid"] = uid.as_str().into();
        let asked = async {
            let endpoint = self.endpoint(webhook, seconds)?;
            let url = format!("https://{}:{}{}", endpoint.host, endpoint.port, endpoint.path);
            let failed = |why: String| format!("failed to call webhook: Post \"{url}\": {why}");
            let answered =
                tokio::time::timeout(Duration::from_secs(seconds), endpoint.post(review.to_string().into_bytes()));
            let bytes = answered.await.map_err(|_| failed("context deadline exceeded".to_owned()))?.map_err(failed)?;
            let answer: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
            if answer["response"]["uid"] != uid.as_str() {
                return Err(format!("expected response.uid=\"{uid}\", got {}", answer["response"]["uid"]));
            }
            Ok(answer["response"].clone())
        };
        match asked.await {
            Ok(answer) => {
                let said = answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
                warnings.extend(said.map(str::to_owned));
                if answer["allowed"] == true { Ok(Some(answer)) } else { Err(denied(name, &answer["status"])) }
            }
            Err(why) if webhook["failurePolicy"] == "Ignore" => {
                tracing::warn!(webhook = name, why, "a webhook that may be ignored failed");
                Ok(None)
            }
            Err(why) => Err(Status::internal(format!("failed calling webhook \"{name}\": {why}"))),
        }
    }

    fn endpoint(&self, webhook: &Value, seconds: u64) -> Result<Endpoint, String> {
        let config = &webhook["clientConfig"];
        let bundle = config["caBundle"].as_str().unwrap_or_default();
        let authorities = STANDARD.decode(bundle).map_err(|error| format!("caBundle: {error}"))?;
        if let Some(url) = config["url"].as_str() {
            let uri: http::Uri = url.parse().map_err(|error| format!("url: {error}"))?;
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let path = format!("{path}{}timeout={seconds}s", if path.contains('?') { '&' } else { '?' });
            return Ok(Endpoint { host, address: None, port: uri.port_u16().unwrap_or(443), path, authorities });
        }
        let service = &config["service"];
        let text = |field: &str| service[field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
        let found = self.store.fetch_by(&GroupResource::new("", "services"), namespace, name);
        let found = found.ok_or_else(|| format!("failed to call webhook: service \"{name}\" not found"))?;
        let address = found.value["spec"]["clusterIP"].as_str().and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| format!("failed to call webhook: service \"{name}\" has no cluster IP"))?;
        let path = match text("path") {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        Ok(Endpoint {
            host: format!("{name}.{namespace}.svc"),
            address: Some(SocketAddr::new(address, port)),
            port,
            path: format!("{path}?timeout={seconds}s"),
            authorities,
        })
    }
}

/// The `AdmissionReview` that is sent, but for its uid. Of a change of `scale` it shows the `Scale`, not the object that has it
/// (`apiextensions-apiserver/pkg/registry/customresource/etcd.go`, `toScaleUpdateValidation`).
fn review(call: &Call, change: &Change<'_>, version: &str) -> Value {
    let resource = &call.resource;
    let scale = resource.scale.as_ref().filter(|_| call.request.subresource == "scale");
    let shown = |value: &Value| match scale {
        Some(paths) if value.is_object() => paths.show(value),
        _ => resource.convert(value, version).unwrap_or_else(|| value.clone()),
    };
    let kind = |version: &str| match scale {
        Some(_) => json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}),
        None => json!({"group": resource.group, "version": version, "kind": resource.kind}),
    };
    let named = |version: &str| json!({"group": resource.group, "version": version, "resource": resource.plural});
    let name = &change.subject()["metadata"]["name"];
    // A namespace counts as its own.
    let namespace = if resource.is_namespace() { name.clone() } else { call.namespace().into() };
    let mut request = json!({
        "uid": "", "kind": kind(version), "resource": named(version),
        "requestKind": kind(&resource.version), "requestResource": named(&resource.version),
        "name": name, "namespace": namespace, "operation": change.operation,
        "userInfo": {"username": call.user.name, "groups": call.user.groups},
        "object": shown(change.object), "oldObject": shown(change.old), "dryRun": change.dry, "options": null,
    });
    if !call.request.subresource.is_empty() {
        request["subResource"] = call.request.subresource.as_str().into();
        request["requestSubResource"] = call.request.subresource.as_str().into();
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

impl Change<'_> {
    /// The object it is about: as it will be, or as it was if it goes.
    fn subject(&self) -> &Value {
        if self.object.is_object() { self.object } else { self.old }
    }
}

fn webhooks(configurations: &[Arc<Value>]) -> Vec<&Value> {
    configurations.iter().flat_map(|one| one["webhooks"].as_array().into_iter().flatten()).collect()
}

/// A denial, as `admission/plugin/webhook/errors/statuserror.go` words it.
fn denied(name: &str, said: &Value) -> Status {
    let mut body: Body = serde_json::from_value(said.clone()).unwrap_or_default();
    let why = match (body.message.as_deref().unwrap_or_default(), body.reason.as_deref().unwrap_or_default()) {
        ("", "") => format!("admission webhook \"{name}\" denied the request without explanation"),
        ("", reason) => format!("admission webhook \"{name}\" denied the request: {reason}"),
        (message, _) => format!("admission webhook \"{name}\" denied the request: {message}"),
    };
    body.message = Some(why);
    body.status = Some("Failure".to_owned());
    if body.code.is_none_or(|code| code < 400) {
        body.code = Some(400);
    }
    if body.reason.as_deref().is_none_or(str::is_empty) && body.code == Some(403) {
        body.reason = Some("Forbidden".to_owned());
    }
    Status(Box::new(body))
}

fn rule_matches(call: &Call, version: &str, operation: &str, rule: &Value) -> bool {
    let lists = |field: &str, wanted: &str| {
        let mut values = rule[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        values.any(|value| value == "*" || value == wanted)
    };
    let scope = match rule["scope"].as_str() {
        Some("Cluster") => !call.resource.namespaced,
        Some("Namespaced") => call.resource.namespaced,
        _ => true,
    };
    let (plural, subresource) = (call.resource.plural.as_str(), call.request.subresource.as_str());
    let mut resources = rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let resource = resources.any(|pattern| {
        let (main, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
        (main == "*" || main == plural) && (sub == "*" || sub == subresource)
    });
    scope
        && resource
        && lists("operations", operation)
        && lists("apiGroups", &call.resource.group)
        && lists("apiVersions", version)
}
