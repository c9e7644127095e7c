//! The Secret of a binding: made once, never changed.

use super::FINALIZER;
use crate::agent::logins::{Login, PREFIX, SUFFIX};
use crate::agent::scram;
use crate::instance::names;
use crate::postgresql::template::DEFAULT_DATABASE;
use a8s_api::ServiceBinding;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

/// Label of the Secrets of bindings.
pub const LABEL: (&str, &str) = ("service-binding", "true");
/// Annotation: the uid of the instance for which the credentials were made.
pub const INSTANCE: &str = "a8s.a9s/instance-uid";
/// Length of passwords.
const PASSWORD: usize = 32;

/// Name of the Secret of a binding.
pub fn name(binding: &str) -> String {
    format!("{binding}-service-binding")
}

/// The Secret of a binding to this instance, with new credentials: letters and digits, as clients paste them into URLs
/// without escaping.
pub fn new(binding: &ServiceBinding, instance_uid: &str) -> Secret {
    use rand::distr::{Alphanumeric, SampleString as _};
    let random = |length| Alphanumeric.sample_string(&mut rand::rng(), length);
    with(binding, instance_uid, &format!("{PREFIX}{}", random(SUFFIX)), &random(PASSWORD))
}

fn with(binding: &ServiceBinding, instance_uid: &str, username: &str, password: &str) -> Secret {
    let binding_name = binding.metadata.name.as_deref().unwrap_or_default();
    let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
    let document = json!({
        "metadata": {
            "name": name(binding_name), "namespace": namespace,
            "labels": {(LABEL.0): LABEL.1},
            "annotations": {(INSTANCE): instance_uid},
            "finalizers": [FINALIZER],
            "ownerReferences": [{
                "apiVersion": ServiceBinding::API_VERSION, "kind": ServiceBinding::KIND, "name": binding_name,
                "uid": binding.metadata.uid, "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "type": "Opaque",
        "immutable": true,
    });
    let mut secret: Secret = serde_json::from_value(document).expect("it is a Secret");
    let data = [
        ("database", DEFAULT_DATABASE.to_owned()),
        ("instance_service", service_of(binding)),
        ("username", username.to_owned()),
        ("password", password.to_owned()),
    ];
    secret.data = Some(data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).into());
    secret
}

/// The Service of the instance's primary, with its namespace, as clients resolve it.
pub fn service_of(binding: &ServiceBinding) -> String {
    let instance = &binding.spec.instance;
    let namespace = instance.namespace.as_ref().or(binding.metadata.namespace.as_ref());
    format!("{}.{}", names::primary_service(&instance.name), namespace.map_or("", String::as_str))
}

/// The Service for which it was made.
pub fn instance_service(secret: &Secret) -> Option<&str> {
    word(secret, "instance_service")
}

/// Whether a Secret is this binding's.
pub fn is_of(secret: &Secret, binding: &ServiceBinding) -> bool {
    let owners = secret.metadata.owner_references.iter().flatten();
    binding.metadata.uid.is_some() && owners.into_iter().any(|owner| Some(&owner.uid) == binding.metadata.uid.as_ref())
}

/// The instance for which it was made.
pub fn instance_uid(secret: &Secret) -> Option<&str> {
    secret.metadata.annotations.as_ref()?.get(INSTANCE).map(String::as_str)
}

/// The name of the role.
pub fn username(secret: &Secret) -> Option<&str> {
    word(secret, "username")
}

/// The login with a verifier of its own. It takes milliseconds to compute.
pub fn login(secret: &Secret) -> Option<Login> {
    Some(Login { role: username(secret)?.to_owned(), verifier: scram::verifier(word(secret, "password")?) })
}

fn word<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::agent::logins::is_ours;

    pub fn binding() -> ServiceBinding {
        serde_json::from_value(json!({
            "metadata": {"name": "app", "namespace": "shop", "uid": "b-1", "finalizers": [FINALIZER]},
            "spec": {"instance": {
                "apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql", "name": "solo", "namespace": "data",
            }},
        }))
        .expect("a binding")
    }

    #[test]
    fn the_secret_is_as_reviewed() {
        let secret = with(&binding(), "i-1", "a8s-sb-Abc123xyz", "secret");
        insta::assert_snapshot!(serde_saphyr::to_string(&secret).expect("plain data"));
    }

    #[test]
    fn credentials_are_new_each_time_and_need_no_escaping() {
        let [one, two] = [(); 2].map(|()| new(&binding(), "i-1"));
        assert!(is_ours(username(&one).expect("a name")));
        assert_ne!(username(&one), username(&two));
        let password = word(&one, "password").expect("a password");
        assert!(password.len() == 32 && password.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(scram::matches(&login(&one).expect("a login").verifier, password));
        assert!(is_of(&one, &binding()));
        let mut other = binding();
        other.metadata.uid = Some("b-2".into());
        assert!(!is_of(&one, &other));
    }
}
