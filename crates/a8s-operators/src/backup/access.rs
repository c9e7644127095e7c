//! What an agent needs for one order, which is there while the order runs: a Secret with the way to the store and the key
//! of that one backup, and the right to answer. The encryption password stays with the controller.
//!
//! The keys of the store are the stack's, for its whole bucket: there are no narrower ones that every store knows, and
//! URLs that are signed beforehand would need the number of a backup's parts, which nobody knows then. PostgreSQL runs
//! in the agent's container as the same user, so superusers of an instance can read them while an order runs. It is for
//! the bucket to keep what they must not remove (README: "What protects what").

use super::order::Order;
use crate::archive::keys::DataKey;
use crate::instance::names;
use crate::manifests::rights::RBAC;
use crate::store::{Config, Credentials};
use a8s_api::{Backup, Postgresql, Restore};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Key of the document in the Secret.
const DOCUMENT: &str = "order.json";

/// The content of the Secret. It has no `Debug`: it is secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Identifier of the order, as in the status of its Backup or Restore.
    pub order: String,
    bucket: String,
    region: String,
    endpoint: Option<String>,
    path_style: bool,
    access_key_id: String,
    secret_access_key: String,
    data_key: String,
    /// Where the objects of the backup are.
    pub prefix: String,
    /// UID of the Backup.
    pub backup_uid: String,
}

impl Access {
    /// For an order about the backup with this UID, whose objects are below `prefix`.
    pub fn new(
        order: &str,
        config: &Config,
        credentials: &Credentials,
        data_key: &DataKey,
        (backup_uid, prefix): (&str, &str),
    ) -> Self {
        Self {
            order: order.to_owned(),
            bucket: config.bucket.clone(),
            region: config.region.clone(),
            endpoint: config.endpoint.clone(),
            path_style: config.path_style,
            access_key_id: credentials.access_key.clone(),
            secret_access_key: credentials.secret_key.clone(),
            data_key: data_key.to_hex(),
            prefix: prefix.to_owned(),
            backup_uid: backup_uid.to_owned(),
        }
    }

    /// Where the store is.
    pub fn config(&self) -> Config {
        Config {
            bucket: self.bucket.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            path_style: self.path_style,
        }
    }

    /// Who the agent is there.
    pub fn credentials(&self) -> Credentials {
        Credentials { access_key: self.access_key_id.clone(), secret_key: self.secret_access_key.clone() }
    }

    /// The key of the backup; `None` if the Secret was damaged.
    pub fn data_key(&self) -> Option<DataKey> {
        DataKey::from_hex(&self.data_key)
    }

    /// The Secret of an instance that says this. It goes with the object whose order it is for.
    pub fn secret(&self, namespace: &str, instance: &str, owner: OwnerReference) -> Secret {
        let document = serde_json::to_vec(self).expect("plain data");
        Secret {
            metadata: metadata(names::backup_store(instance), namespace, instance, owner),
            data: Some(BTreeMap::from([(DOCUMENT.to_owned(), ByteString(document))])),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        }
    }

    /// What a Secret says; `None` if it is no such Secret.
    pub fn of(secret: &Secret) -> Option<Self> {
        serde_json::from_slice(&secret.data.as_ref()?.get(DOCUMENT)?.0).ok()
    }
}

fn metadata(name: String, namespace: &str, instance: &str, owner: OwnerReference) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: Some(names::reserved_labels(instance)),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Lets the agents of an instance answer an order, and no other one of the namespace. It goes with the object whose order it
/// is.
pub fn answering<K: Order>(object: &K, namespace: &str, instance: &str) -> (Role, RoleBinding) {
    let name = names::order_role(instance);
    let metadata = || metadata(name.clone(), namespace, instance, object.owner());
    let rule = PolicyRule {
        api_groups: Some(vec![Backup::GROUP.to_owned()]),
        resources: Some(vec![format!("{}/status", K::plural(&()))]),
        resource_names: Some(vec![object.name_any()]),
        verbs: vec!["patch".to_owned()],
        ..PolicyRule::default()
    };
    let subject = Subject {
        kind: "ServiceAccount".to_owned(),
        name: instance.to_owned(),
        namespace: Some(namespace.to_owned()),
        ..Subject::default()
    };
    let role = Role { metadata: metadata(), rules: Some(vec![rule]) };
    let role_ref = RoleRef { api_group: RBAC.to_owned(), kind: "Role".to_owned(), name: name.clone() };
    (role, RoleBinding { metadata: metadata(), role_ref, subjects: Some(vec![subject]) })
}

/// Whether an object is one of these, and not one of somebody else who chose its name: it goes with a Backup or a Restore.
pub fn belongs_to_order(metadata: &ObjectMeta) -> bool {
    let is_order = |owner: &OwnerReference| {
        let group = owner.api_version.split_once('/').map(|(group, _)| group);
        group == Some(Backup::GROUP) && [Backup::KIND, Restore::KIND].contains(&owner.kind.as_str())
    };
    metadata.owner_references.iter().flatten().any(is_order) || sabotage::sabotaged!("secrets-of-others-are-taken")
}

/// Where the objects of a Backup are, whatever instance it is of.
pub fn prefix(namespace: &str, instance: &str, backup_uid: &str) -> String {
    format!("{namespace}/{instance}/{backup_uid}")
}

/// Whether a reference is to an instance. Both `Postgresql` and `PostgreSQL` are in use.
pub fn is_instance(reference: &a8s_api::backup::InstanceReference) -> bool {
    reference.kind.eq_ignore_ascii_case(Postgresql::KIND) && reference.api_group == Postgresql::GROUP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_belongs_to_an_order_with_which_it_goes() {
        let config = Config { bucket: "b".into(), region: "r".into(), endpoint: None, path_style: false };
        let credentials = Credentials { access_key: "a".into(), secret_key: "s".into() };
        let key = DataKey::derive(b"password", "b-1");
        let access = Access::new("o-1", &config, &credentials, &key, ("b-1", "shop/solo/b-1"));
        let backup = Backup::new("nightly", Default::default()).owner();
        let restore = Restore::new("back", Default::default()).owner();
        let secret = |owner| access.secret("shop", "solo", owner).metadata;
        assert!(belongs_to_order(&secret(backup.clone())) && belongs_to_order(&secret(restore)));

        let other = OwnerReference { api_version: "example.com/v1".into(), ..backup };
        let instance =
            OwnerReference { api_version: Backup::API_VERSION.into(), kind: "Postgresql".into(), ..other.clone() };
        assert!(!belongs_to_order(&secret(other)) && !belongs_to_order(&secret(instance)));
        assert!(!belongs_to_order(&ObjectMeta::default()));
    }

    #[test]
    fn the_agents_of_an_instance_may_answer_this_order_only() {
        let (role, binding) = answering(&Restore::new("back", Default::default()), "shop", "solo");
        assert!(belongs_to_order(&role.metadata) && belongs_to_order(&binding.metadata));
        let rules = serde_json::json!([{
            "apiGroups": ["backups.anynines.com"], "resources": ["restores/status"], "resourceNames": ["back"],
            "verbs": ["patch"],
        }]);
        assert_eq!(serde_json::json!(role.rules), rules);
        assert_eq!(binding.role_ref.name, role.name_any());
        let subjects = serde_json::json!([{"kind": "ServiceAccount", "name": "solo", "namespace": "shop"}]);
        assert_eq!(serde_json::json!(binding.subjects), subjects);
        let (role, _) = answering(&Backup::new("nightly", Default::default()), "shop", "solo");
        assert_eq!(serde_json::json!(role.rules)[0]["resources"], serde_json::json!(["backups/status"]));
    }
}
