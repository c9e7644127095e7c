//! The manifests of backups, restores and service bindings, as the Go tool renders them.

use std::str::FromStr;

use serde_json::{Value, json};

use super::names::ObjectName;
use super::resource::{Kind, Reference, Resource};

/// The instance of a backup or restore, which is in the same namespace.
fn service_instance(name: &ObjectName) -> Value {
    json!({"apiGroup": Kind::Instance.group(), "kind": Kind::Instance.kind(), "name": name})
}

/// A backup of an instance. Without `max_retries` the stack decides how often a failed attempt is repeated.
pub fn backup(reference: Reference, instance: &ObjectName, max_retries: Option<&MaxRetries>) -> Resource {
    let mut spec = json!({"serviceInstance": service_instance(instance)});
    if let Some(MaxRetries(max_retries)) = max_retries {
        spec["maxRetries"] = json!(max_retries);
    }
    Resource::new(reference, spec)
}

/// A restore of a backup into an instance.
pub fn restore(reference: Reference, backup: &ObjectName, instance: &ObjectName) -> Resource {
    Resource::new(reference, json!({"backupName": backup, "serviceInstance": service_instance(instance)}))
}

/// A service binding to an instance, which may be in another namespace.
pub fn binding(reference: Reference, instance: &Reference) -> Resource {
    let spec = json!({"instance": {
        "apiVersion": format!("{}/{}", Kind::Instance.group(), instance.api_version.0),
        "kind": Kind::Instance.kind(),
        "name": instance.name,
        "namespace": instance.namespace,
    }});
    Resource::new(reference, spec)
}

/// How often a failed attempt is repeated: a number, or `Infinite`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxRetries(pub String);

impl FromStr for MaxRetries {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "Infinite" || text.parse::<u32>().is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err("a number or Infinite is expected".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(kind: Kind) -> Reference {
        Reference::new(kind, &"a8s-workload".parse().unwrap(), &"b".parse().unwrap())
    }

    #[test]
    fn the_documents_are_those_of_the_go_tool() {
        let instance = "clustered".parse().unwrap();
        let backup = backup(reference(Kind::Backup), &instance, None).document().unwrap();
        assert_eq!(
            backup,
            "apiVersion: backups.anynines.com/v1beta3\nkind: Backup\nmetadata:\n  name: b\n  namespace: a8s-workload\nspec:\n  \
             serviceInstance:\n    apiGroup: postgresql.anynines.com\n    kind: Postgresql\n    name: clustered\n"
        );
        let restore = restore(reference(Kind::Restore), &"nightly".parse().unwrap(), &instance).document().unwrap();
        assert_eq!(
            restore,
            "apiVersion: backups.anynines.com/v1beta3\nkind: Restore\nmetadata:\n  name: b\n  namespace: a8s-workload\nspec:\n  \
             backupName: nightly\n  serviceInstance:\n    apiGroup: postgresql.anynines.com\n    kind: Postgresql\n    \
             name: clustered\n"
        );
        let target = Reference { name: instance, ..reference(Kind::Instance) };
        assert_eq!(
            binding(reference(Kind::ServiceBinding), &target).document().unwrap(),
            "apiVersion: servicebindings.anynines.com/v1beta3\nkind: ServiceBinding\nmetadata:\n  name: b\n  namespace: \
             a8s-workload\nspec:\n  instance:\n    apiVersion: postgresql.anynines.com/v1beta3\n    kind: Postgresql\n    name: \
             clustered\n    namespace: a8s-workload\n"
        );
    }

    #[test]
    fn retries_are_a_number_or_infinite() {
        let good = ["0", "7", "Infinite"].map(|text| text.parse::<MaxRetries>().is_ok());
        let bad = ["", "-1", "infinite", "7x", "many"].map(|text| text.parse::<MaxRetries>().is_err());
        assert_eq!((good, bad), ([true; 3], [true; 5]));
        let two = backup(reference(Kind::Backup), &"x".parse().unwrap(), Some(&"2".parse().unwrap()));
        assert_eq!(two.spec["maxRetries"], "2");
    }
}
