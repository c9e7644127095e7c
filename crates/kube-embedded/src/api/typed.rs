//! Bodies become objects here: parsing, the check of types, and what is done about fields that nobody knows.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::builtin::{retype, rules};
use super::call::{Call, FieldValidation};
use super::duplicates;
use super::metadata;
use super::protobuf;
use super::registry::{Custom, Resource, Shape};
use crate::status::Status;

/// Reads the body as an object of the call's resource. Answers the object with unknown fields removed, and the warnings.
pub fn object(call: &Call) -> Result<(Value, Vec<String>), Status> {
    let value = parse(call)?;
    let repeated = match call.content_type.as_str() {
        "application/json" | "" => duplicates::find(&call.body),
        _ => Vec::new(),
    };
    judge(call, value, &repeated)
}

/// Parses the body, whatever it is.
pub fn parse(call: &Call) -> Result<Value, Status> {
    match call.content_type.as_str() {
        "application/json" | "" => parse_json(&call.body, &call.resource.kind),
        protobuf::MEDIA_TYPE => protobuf::parse(&call.body),
        "application/yaml" => parse_yaml(&call.body, &call.resource.kind),
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf (it was {other})"
        ))),
    }
}

/// Parses the body of a subresource that has a kind of its own: of the version `expected`, or of one of `others`.
pub fn parse_as(call: &Call, kind: &str, expected: &str, others: &[&str]) -> Result<Value, Status> {
    let value = parse(call)?;
    require_kind(&value, kind, expected, others)?;
    Ok(value)
}

/// Parses YAML, or JSON, which is YAML, too.
pub fn parse_yaml(bytes: &[u8], kind: &str) -> Result<Value, Status> {
    if bytes.trim_ascii_start().starts_with(b"{")
        && let Ok(value) = serde_json::from_slice(bytes)
    {
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Status::bad_request("yaml: invalid UTF-8"))?;
    let value: Value =
        serde_saphyr::from_str(text).map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    if !value.is_object() {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind"
        )));
    }
    Ok(value)
}

/// Checks a configuration to be applied: as [`check`], but nothing is added to it, and what the path does not let
/// through is taken out.
pub fn check_applied(call: &Call, mut value: Value) -> Result<(Value, Vec<String>), Status> {
    let (clean, warnings) = judge(call, value.clone(), &duplicates::find(&call.body))?;
    check_identity(&call.resource, &mut value)?;
    intersect(&mut value, &clean);
    let Some(fields) = value.as_object_mut() else { return Err(Status::bad_request("not an object")) };
    match call.request.subresource.as_str() {
        "" if call.resource.status => drop(fields.remove("status")),
        "" => {}
        subresource => {
            fields.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata") || key == subresource)
        }
    }
    if !call.request.subresource.is_empty() {
        metadata::of(&mut value)
            .retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "resourceVersion" | "uid"));
    }
    check_name(call, &value)?;
    metadata::set(&mut value, "name", Some(call.request.name.as_str().into()));
    Ok((value, warnings))
}

/// What takes the place of an object has its name.
pub fn require_name(call: &Call, value: &Value) -> Result<(), Status> {
    if metadata::name(value).is_empty() {
        let name = &call.request.name;
        let why = format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
        return Err(Status::bad_request(why));
    }
    check_name(call, value)
}

/// What is written over an object has its name, where it has any.
fn check_name(call: &Call, value: &Value) -> Result<(), Status> {
    let (name, on_url) = (metadata::name(value), call.request.name.as_str());
    if name.is_empty() || name == on_url {
        return Ok(());
    }
    Err(Status::bad_request(format!("the name of the object ({name}) does not match the name on the URL ({on_url})")))
}

/// Removes from `value` the fields that `known` lacks.
fn intersect(value: &mut Value, known: &Value) {
    match (value, known) {
        (Value::Object(value), Value::Object(known)) => {
            value.retain(|key, value| value.is_null() || known.contains_key(key));
            for (key, value) in value.iter_mut() {
                if let Some(known) = known.get(key) {
                    intersect(value, known);
                }
            }
        }
        (Value::Array(value), Value::Array(known)) => {
            value.iter_mut().zip(known).for_each(|(value, known)| intersect(value, known));
        }
        _ => {}
    }
}

/// Parses JSON, with the wording of a decoder of `kind`.
pub fn parse_json(bytes: &[u8], kind: &str) -> Result<Value, Status> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {error}"))
    })?;
    if !value.is_object() {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: \
             json: cannot unmarshal into Go value of type struct"
        )));
    }
    Ok(value)
}

/// Checks kind, version and types.
pub fn check(call: &Call, value: Value) -> Result<(Value, Vec<String>), Status> {
    judge(call, value, &[])
}

/// As [`check`], of a document that had these fields more than once.
fn judge(call: &Call, mut value: Value, repeated: &[String]) -> Result<(Value, Vec<String>), Status> {
    let resource = &call.resource;
    check_identity(resource, &mut value)?;
    let (clean, unknown) = clean(resource, value)?;
    let mut warnings = Vec::new();
    if !unknown.is_empty() || !repeated.is_empty() {
        let repeated = repeated.iter().map(|path| format!("duplicate field \"{path}\""));
        let errors: Vec<String> =
            repeated.chain(unknown.iter().map(|path| format!("unknown field \"{path}\""))).collect();
        match call.field_validation()? {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings = errors,
            FieldValidation::Strict => {
                return Err(Status::bad_request(format!("strict decoding error: {}", errors.join(", "))));
            }
        }
    }
    Ok((clean, warnings))
}

/// `apiVersion` and `kind` must be those of the path; where they are missing they are filled in.
fn check_identity(resource: &Resource, value: &mut Value) -> Result<(), Status> {
    let expected = resource.api_version();
    require_kind(value, &resource.kind, &expected, &[])?;
    value["apiVersion"] = Value::String(expected);
    value["kind"] = Value::String(resource.kind.clone());
    Ok(())
}

/// Refuses what says that it is of another kind, or of a version that is neither `expected` nor one of `others`.
fn require_kind(value: &Value, kind: &str, expected: &str, others: &[&str]) -> Result<(), Status> {
    let (version, said) =
        (value["apiVersion"].as_str().unwrap_or_default(), value["kind"].as_str().unwrap_or_default());
    if !said.is_empty() && said != kind {
        let version = if version.is_empty() { expected } else { version };
        return Err(Status::bad_request(format!(
            "{said} in version \"{}\" cannot be handled as a {kind}: converting (v1.{said}) to ({}.{kind}): unknown \
             conversion",
            version.rsplit('/').next().unwrap_or(version),
            go_package(expected.split_once('/').map_or("", |(group, _)| group)),
        )));
    }
    if !version.is_empty() && version != expected && !others.contains(&version) {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        )));
    }
    Ok(())
}

/// The package of kube-apiserver's own types of a group (`pkg/apis`).
fn go_package(group: &str) -> &str {
    match group.split('.').next() {
        None | Some("") => "core",
        Some(package) => package,
    }
}

/// Removes what the resource does not know, and tells the paths of what was removed.
pub fn clean(resource: &Resource, value: Value) -> Result<(Value, Vec<String>), Status> {
    match &resource.shape {
        Shape::Builtin(retype) => {
            let mut clean = retype(&value).map_err(|error| {
                Status::bad_request(format!(
                    "{} in version \"{}\" cannot be handled as a {}: {error}",
                    resource.kind, resource.version, resource.kind
                ))
            })?;
            let mut unknown = Vec::new();
            missing(&value, &clean, &mut String::new(), &mut unknown);
            rules::canonicalize(&resource.group, &resource.plural, &mut clean);
            metadata::drop_empty(&mut clean);
            Ok((clean, unknown))
        }
        Shape::Custom(custom) => clean_custom(resource, custom, value),
    }
}

/// Custom objects have the metadata of every object, and whatever their schema knows, defaults filled in.
fn clean_custom(resource: &Resource, custom: &Custom, mut value: Value) -> Result<(Value, Vec<String>), Status> {
    let before =
        value.get("metadata").cloned().filter(|metadata| !metadata.is_null()).unwrap_or_else(|| serde_json::json!({}));
    let after = retype::<ObjectMeta>(&before).map_err(|error| {
        let (kind, version) = (&resource.kind, &resource.version);
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {error}"))
    })?;
    let mut unknown = custom.schema.prune(&mut value);
    missing(&before, &after, &mut "metadata".to_owned(), &mut unknown);
    value["metadata"] = after;
    metadata::drop_empty(&mut value);
    custom.schema.default(&mut value);
    Ok((value, unknown))
}

/// The paths in `before` that `after` lacks; a null counts as absent.
fn missing(before: &Value, after: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before.iter().filter(|(_, value)| !value.is_null()) {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
                match after.get(key) {
                    Some(after) => missing(value, after, path, found),
                    None => found.push(path.clone()),
                }
                path.truncate(length);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                path.push_str(&format!("[{index}]"));
                missing(before, after, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}
