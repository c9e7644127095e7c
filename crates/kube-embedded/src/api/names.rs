//! Syntax of names, labels and annotations, with the messages of `k8s.io/apimachinery/pkg/util/validation`, and names
//! that are made up, or that several parts know.

use std::cmp::Reverse;
use std::sync::Arc;

use rand::RngExt as _;
use serde_json::Value;

use super::metadata;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                     and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end \
     with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                          alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
                          regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
     character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Annotation of the StorageClass that a claim gets which names none.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The name of that class: of several default ones the newest, then the first by name (`GetDefaultClass` in
/// `pkg/volume/util/storageclass.go`).
pub fn default_class(classes: &[Arc<Value>]) -> Option<&str> {
    let defaults = classes.iter().filter(|class| class["metadata"]["annotations"][DEFAULT_CLASS] == "true");
    let keys = defaults.map(|class| (Reverse(metadata::text(class, "creationTimestamp")), metadata::name(class)));
    keys.min().map(|(_, name)| name)
}

/// The letters of names that are made up (`k8s.io/apimachinery/pkg/util/rand`): no vowels, so no words.
pub const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The end of a name of which only the beginning is given.
pub fn random_suffix() -> String {
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

/// A DNS label, as of namespaces and containers.
pub fn dns_label(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err(too_long(63));
    }
    if is_label(text) { Ok(()) } else { Err(LABEL.to_owned()) }
}

/// A DNS subdomain, as of most objects.
pub fn dns_subdomain(text: &str) -> Result<(), String> {
    if text.len() > 253 {
        return Err(too_long(253));
    }
    if text.split('.').all(is_label) { Ok(()) } else { Err(SUBDOMAIN.to_owned()) }
}

/// A DNS label that starts with a letter, as of Services.
pub fn dns_1035_label(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err(too_long(63));
    }
    if is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase()) {
        Ok(())
    } else {
        Err(LABEL_1035.to_owned())
    }
}

/// A name that can be one segment of a path, as of roles and bindings.
pub fn path_segment(text: &str) -> Result<(), String> {
    if text == "." || text == ".." {
        return Err(format!("may not be '{text}'"));
    }
    match text.chars().find(|c| "/%".contains(*c)) {
        Some(c) => Err(format!("may not contain '{c}'")),
        None => Ok(()),
    }
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// A key of labels, annotations, finalizers: `name` or `prefix/name`.
pub fn qualified_name(text: &str) -> Result<(), String> {
    let name = match text.split_once('/') {
        None => text,
        Some(("", _)) => return Err("prefix part must be non-empty".to_owned()),
        Some((_, name)) if name.contains('/') => {
            return Err(format!("a qualified name {}", QUALIFIED.trim_start_matches("name part "))
                + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')");
        }
        Some((prefix, name)) => {
            dns_subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            name
        }
    };
    match name {
        "" => Err("name part must be non-empty".to_owned()),
        name if name.len() > 63 => Err(format!("name part {}", too_long(63))),
        name if !is_name_part(name) => Err(QUALIFIED.to_owned()),
        _ => Ok(()),
    }
}

/// A label's value.
pub fn label_value(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err(too_long(63));
    }
    if text.is_empty() || is_name_part(text) { Ok(()) } else { Err(VALUE.to_owned()) }
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Result<(), String> {
    if text.len() > 253 {
        return Err(too_long(253));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || !text.bytes().all(legal) {
        return Err(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                    'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match text {
        "." | ".." => Err(format!("must not be '{text}'")),
        text if text.starts_with("..") => Err("must not start with '..'".to_owned()),
        _ => Ok(()),
    }
}

/// A name that an object of `group`/`resource` may bear.
pub fn object_name(group: &str, resource: &str, name: &str) -> Result<(), String> {
    match (group, resource) {
        ("", "namespaces") => dns_label(name),
        ("", "services") => dns_1035_label(name),
        ("apps", "statefulsets") => dns_subdomain(name),
        ("rbac.authorization.k8s.io", _) => path_segment(name),
        _ => dns_subdomain(name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_several_default_classes_the_newest_counts_then_the_name() {
        let class = |name: &str, made: &str, is_default: &str| {
            let annotations = json!({DEFAULT_CLASS: is_default});
            Arc::new(json!({"metadata": {"name": name, "creationTimestamp": made, "annotations": annotations}}))
        };
        let classes = [
            class("a", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("c", "2026-01-02T00:00:00Z", "true"),
            class("d", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(default_class(&classes), Some("b"));
        assert_eq!(default_class(&classes[3..]), None);
    }

    #[test]
    fn names_follow_their_kinds_rule() {
        assert!(object_name("", "pods", "a.b-1").is_ok());
        assert!(object_name("", "pods", "A").unwrap_err().starts_with("a lowercase RFC 1123 subdomain"));
        assert!(object_name("", "services", "1a").unwrap_err().starts_with("a DNS-1035 label"));
        assert!(object_name("", "namespaces", "a.b").unwrap_err().starts_with("a lowercase RFC 1123 label"));
        assert!(object_name("rbac.authorization.k8s.io", "clusterroles", "system:x").is_ok());
        assert_eq!(object_name("", "pods", &"a".repeat(254)).unwrap_err(), "must be no more than 253 characters");
    }

    #[test]
    fn label_keys_may_have_a_prefix() {
        for good in ["a", "a8s.a9s/dsi-name", "x_y.z"] {
            assert!(qualified_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "A_/b", "a b"] {
            assert!(qualified_name(bad).is_err(), "{bad}");
        }
        assert!(label_value("").is_ok() && label_value("a b").is_err());
    }
}
