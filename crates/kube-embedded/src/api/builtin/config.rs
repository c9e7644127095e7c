//! ConfigMaps and Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::causes::Causes;
use super::rules::set;
use crate::api::names;

/// The type of a Secret with the token of a ServiceAccount.
const TOKEN: &str = "kubernetes.io/service-account-token";
/// The annotation that names its account.
const ACCOUNT: &str = "kubernetes.io/service-account.name";
/// The most that the values of one object may hold (`MaxSecretSize`).
const SIZE: usize = 1 << 20;

/// `stringData` becomes `data`; without a type it is opaque.
pub fn default_secret(new: &mut Value) {
    set(new, "type", "Opaque");
    if new["type"] == "" {
        new["type"] = "Opaque".into();
    }
    let Some(Value::Object(texts)) = new.as_object_mut().and_then(|fields| fields.remove("stringData")) else { return };
    if !new["data"].is_object() {
        new["data"] = json!({});
    }
    for (key, text) in texts {
        new["data"][key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
    }
}

/// What a client is warned of: Kubernetes has a controller that puts a token into a new Secret of that type.
pub fn warning(secret: &Value) -> Option<String> {
    let account = secret["metadata"]["annotations"][ACCOUNT].as_str()?;
    (secret["type"] == TOKEN && secret["data"].get("token").is_none()).then(|| {
        format!("this cluster puts no token into a Secret of type {TOKEN}: use kubectl create token {account}")
    })
}

/// What a Secret of its type has (`ValidateSecret` in `pkg/apis/core/validation`).
fn require_parts(causes: &mut Causes, secret: &Value) {
    let has = |key: &str| secret["data"].get(key).is_some();
    let keys: &[&str] = match secret["type"].as_str().unwrap_or_default() {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        // One of them is enough.
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => &["username", "password"],
        _ => &[],
    };
    for key in keys.iter().filter(|key| !has(key)) {
        causes.required(&format!("data[{key}]"), "");
    }
    let account = secret["metadata"]["annotations"][ACCOUNT].as_str();
    if secret["type"] == TOKEN && account.is_none_or(str::is_empty) {
        causes.required(&format!("metadata.annotations[{ACCOUNT}]"), "");
    }
}

/// Keys, size, and what may not change.
pub fn validate(causes: &mut Causes, plural: &str, new: &Value, old: Option<&Value>) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in new[field].as_object().into_iter().flatten() {
            if let Err(why) = names::config_key(key) {
                causes.invalid(&format!("{field}[{key}]"), &json!(key), &why);
            }
            let text = value.as_str().unwrap_or_default();
            let encoded = plural == "secrets" || field == "binaryData";
            size += if encoded { text.len() / 4 * 3 } else { text.len() };
        }
    }
    if size > SIZE {
        causes.too_long(if plural == "secrets" { "data" } else { "" }, SIZE);
    }
    if plural == "secrets" {
        require_parts(causes, new);
    }
    let Some(old) = old else { return };
    if plural == "secrets" && old["type"] != new["type"] {
        causes.invalid("type", &new["type"], "field is immutable");
    }
    if old["immutable"] == true {
        let why = "field is immutable when `immutable` is set";
        if new["immutable"] != true {
            causes.forbidden("immutable", why);
        }
        for field in ["data", "binaryData"] {
            if old.get(field) != new.get(field) {
                causes.forbidden(field, why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_what_its_type_asks_for() {
        let missing = |kind: &str, data: Value| -> Vec<String> {
            let mut causes = Causes::default();
            validate(&mut causes, "secrets", &json!({"type": kind, "data": data}), None);
            causes.0.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
        };
        assert_eq!(missing("kubernetes.io/tls", json!({"tls.crt": ""})), ["data[tls.key]: Required value"]);
        assert_eq!(missing("kubernetes.io/basic-auth", json!({"password": ""})), Vec::<String>::new());
        assert_eq!(
            missing("kubernetes.io/basic-auth", json!({})),
            ["data[username]: Required value", "data[password]: Required value"]
        );
        assert_eq!(missing("example.com/own", json!({})), Vec::<String>::new());
        assert_eq!(
            missing(TOKEN, json!({})),
            ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
        );
    }

    #[test]
    fn who_waits_for_a_token_is_warned() {
        let metadata = json!({"annotations": {ACCOUNT: "robot"}});
        let secret = |kind: &str, data: Value| json!({"metadata": metadata, "type": kind, "data": data});
        let said = warning(&secret(TOKEN, Value::Null)).unwrap();
        assert!(said.ends_with("use kubectl create token robot"), "{said}");
        assert_eq!(warning(&secret(TOKEN, json!({"token": ""}))), None);
        assert_eq!(warning(&secret("Opaque", Value::Null)), None);
    }
}
