//! `get` and `list`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::in_version;
use crate::api::ApiServer;
use crate::api::body::{self, Body};
use crate::api::builtin::causes::Causes;
use crate::api::call::{Call, Form};
use crate::api::table;
use crate::status::Status;
use crate::store::Object;

/// The part of a list that was asked for.
pub(super) struct Page {
    pub version: u64,
    pub objects: Vec<Arc<Object>>,
    pub next: Option<String>,
    pub remaining: Option<usize>,
}

impl ApiServer {
    pub(super) fn get(&self, call: &Call) -> Result<Response<Body>, Status> {
        self.wanted_version(call)?;
        let object = self.find(call)?;
        Ok(self.show(call, StatusCode::OK, &object, &[]))
    }

    /// The object that the path names.
    pub(super) fn find(&self, call: &Call) -> Result<Arc<Object>, Status> {
        let found = self.store.fetch_by(&call.group_resource(), call.namespace(), &call.request.name);
        found.map(|object| in_version(&call.resource, object)).ok_or_else(|| call.not_found())
    }

    pub(super) fn list(&self, call: &Call) -> Result<Response<Body>, Status> {
        let page = self.page(call)?;
        let mut metadata = json!({"resourceVersion": page.version.to_string()});
        if let Some(next) = &page.next {
            metadata["continue"] = next.as_str().into();
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        let resource = &call.resource;
        let values = page.objects.iter().map(|object| &*object.value);
        let head = match call.form {
            Form::Whole => {
                json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": metadata})
            }
            Form::Table => {
                return Ok(body::json(StatusCode::OK, &table::table(resource, metadata, values, call.include())));
            }
            Form::Metadata => {
                let items: Vec<Value> = values.map(table::partial).collect();
                return Ok(body::json(
                    StatusCode::OK,
                    &json!({
                        "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items,
                    }),
                ));
            }
        };
        Ok(body::json_line(StatusCode::OK, join(&head, &page.objects)))
    }

    /// Selects, cuts and continues as the query says.
    pub(super) fn page(&self, call: &Call) -> Result<Page, Status> {
        check_options(call)?;
        let limit = usize::try_from(call.query.number("limit")?.unwrap_or(0)).unwrap_or(0);
        let selector = call.selector()?;
        let namespace =
            Some(call.request.namespace.as_str()).filter(|namespace| !namespace.is_empty() && call.resource.namespaced);
        let (version, objects, start) = match call.query.get("continue") {
            Some(token) => self.continued(call, namespace, token)?,
            None => {
                let (version, objects) = self.at_version(call, namespace)?;
                (version, objects, None)
            }
        };
        let after = |object: &Arc<Object>| {
            start.as_ref().is_none_or(|(namespace, name): &(String, String)| {
                (&object.key.namespace, &object.key.name) > (namespace, name)
            })
        };
        let mut objects: Vec<Arc<Object>> =
            objects.into_iter().filter(after).filter(|object| selector.matches(&object.value)).collect();
        let mut page = Page { version, objects: Vec::new(), next: None, remaining: None };
        if limit > 0 && objects.len() > limit {
            let rest = objects.split_off(limit);
            page.next = objects.last().map(|last| continue_token(version, last));
            // With selectors kube-apiserver does not know how many more there are.
            page.remaining = selector.is_empty().then_some(rest.len());
        }
        page.objects = objects.into_iter().map(|object| in_version(&call.resource, object)).collect();
        Ok(page)
    }

    fn at_version(&self, call: &Call, namespace: Option<&str>) -> Result<(u64, Vec<Arc<Object>>), Status> {
        let resource = call.group_resource();
        match self.wanted_version(call)? {
            Some(wanted) if call.query.get("resourceVersionMatch") == Some("Exact") => {
                let objects = self
                    .store
                    .snapshot_at(&resource, namespace, wanted)
                    .map_err(|_| too_old(wanted, self.store.version()))?;
                Ok((wanted, objects))
            }
            _ => Ok(self.store.snapshot(&resource, namespace)),
        }
    }

    /// The version that the query names, if it names any. Nobody can have seen one that was not given out yet.
    pub(super) fn wanted_version(&self, call: &Call) -> Result<Option<u64>, Status> {
        let Some(text) = call.query.get("resourceVersion") else { return Ok(None) };
        let wanted: u64 = text.parse().map_err(|_| {
            Status::bad_request(format!(
                "Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
            ))
        })?;
        let current = self.store.version();
        if wanted <= current {
            return Ok(Some(wanted));
        }
        // In the words of `NewTooLargeResourceVersionError` (`k8s.io/apiserver/pkg/storage/errors.go`).
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        let mut status = Status::new(504, "Timeout", message);
        status.0.details = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails {
            causes: Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause {
                message: Some("Too large resource version".to_owned()),
                reason: Some("ResourceVersionTooLarge".to_owned()),
                ..Default::default()
            }]),
            retry_after_seconds: Some(1),
            ..Default::default()
        });
        Err(status)
    }

    #[expect(clippy::type_complexity, reason = "version, objects and the place after which to go on")]
    fn continued(
        &self,
        call: &Call,
        namespace: Option<&str>,
        token: &str,
    ) -> Result<(u64, Vec<Arc<Object>>, Option<(String, String)>), Status> {
        if call.query.get("resourceVersion").is_some_and(|version| version != "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let (version, start) = read_token(token)
            .ok_or_else(|| Status::bad_request("continue key is not valid: encoded start key is not valid"))?;
        let objects = self
            .store
            .snapshot_at(&call.group_resource(), namespace, version)
            .map_err(|error| call.store_error("", &error))?;
        Ok((version, objects, Some(start)))
    }
}

/// 410 as the watch cache words it.
pub(super) fn too_old(asked: u64, oldest: u64) -> Status {
    Status::expired(format!("too old resource version: {asked} ({oldest})"))
}

/// Refuses parameters that do not go together, as `ValidateListOptions` of apimachinery.
pub(super) fn check_options(call: &Call) -> Result<(), Status> {
    const MATCH: &str = "resourceVersionMatch";
    let query = &call.query;
    let (matching, initial) = (query.get(MATCH), query.all("sendInitialEvents").next().is_some());
    let watches = call.request.verb == "watch";
    let mut causes = Causes::default();
    if watches && initial && matching != Some("NotOlderThan") {
        causes.forbidden(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if let Some(matching) = matching {
        if watches && !initial {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.forbidden(MATCH, why);
        }
        if !watches && query.get("resourceVersion").is_none() {
            causes.forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        let supported: &[&str] = if watches { &["NotOlderThan"] } else { &["Exact", "NotOlderThan", ""] };
        causes.one_of(MATCH, &matching.into(), supported);
        if query.get("continue").is_some() {
            causes.forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided");
        }
        if !watches && matching == "Exact" && query.get("resourceVersion") == Some("0") {
            causes.forbidden(MATCH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
    }
    if !watches && initial {
        causes.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if causes.0.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", causes.0)) }
}

fn continue_token(version: u64, last: &Object) -> String {
    let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": [last.key.namespace, last.key.name]});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn read_token(token: &str) -> Option<(u64, (String, String))> {
    let value: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let start = value["start"].as_array()?;
    let text = |index: usize| start.get(index)?.as_str().map(str::to_owned);
    Some((value["rv"].as_u64()?, (text(0)?, text(1)?)))
}

/// A list around objects that are serialized already.
fn join(head: &Value, objects: &[Arc<Object>]) -> Vec<u8> {
    let mut bytes = head.to_string().into_bytes();
    bytes.pop();
    bytes.reserve(objects.iter().map(|object| object.bytes.len() + 1).sum::<usize>() + 16);
    bytes.extend_from_slice(b",\"items\":[");
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(&object.bytes);
    }
    bytes.extend_from_slice(b"]}\n");
    bytes
}
