//! Which objects an instance has, apart from its pods and volumes, which its StatefulSet makes.

use super::events::Happening;
use super::names::{self, APPLIED, CONFIGURATION, DATA_VOLUME, FINALIZER};
use super::pod::{self, Version};
use crate::agent::{REST_PORT, SQL_PORT, report};
use crate::manifests::AGENT_ROLE;
use crate::manifests::rights::RBAC;
use a8s_api::postgresql::MAXIMUM_REPLICAS;
use a8s_api::{LABEL_ROLE, Postgresql};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Which part of an existing object the operator keeps as it should be. Labels always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Metadata only: the rest cannot be changed.
    Metadata,
    /// These fields of the object, each as a whole, and no others.
    Fields(&'static [&'static str]),
}

/// An object as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The object.
    pub object: DynamicObject,
    /// What of it is kept so.
    pub kept: Kept,
    /// What is reported when it has been made.
    pub created: Option<Happening>,
}

/// Passwords of a new instance.
#[derive(Clone)]
pub struct Passwords {
    /// The superuser's.
    pub admin: String,
    /// The replication role's.
    pub standby: String,
}

impl Passwords {
    /// New ones: 32 letters and digits each, as clients paste them into URLs without escaping.
    pub fn random() -> Self {
        use rand::distr::{Alphanumeric, SampleString as _};
        let password = || Alphanumeric.sample_string(&mut rand::rng(), 32);
        Self { admin: password(), standby: password() }
    }
}

/// Everything an instance should have while it exists.
pub fn desired(instance: &Postgresql, version: &Version, passwords: &Passwords) -> Vec<Desired> {
    let builder = Builder::new(instance);
    let name = &builder.name;
    let namespace = instance.metadata.namespace.as_deref().unwrap_or_default();
    let mut objects = vec![
        builder.object("v1", "ServiceAccount", name, json!({}), Kept::Metadata, Some("serviceAccount".to_owned())),
        builder.role_binding(),
        builder.agent_role(),
        builder.agent_binding(),
        builder.secret("postgres", &passwords.admin, namespace),
        builder.secret("standby", &passwords.standby, namespace),
        builder.primary_service(namespace),
        builder.agent_service(namespace),
    ];
    if sabotage::sabotaged!("object-too-many") || instance.spec.enable_read_only_service == Some(true) {
        objects.push(builder.read_only_service());
    }
    objects.push(builder.stateful_set(version));
    for desired in &mut objects {
        seal(desired);
    }
    objects
}

/// Where an exposed instance is reached, as soon as its Services have their addresses.
pub fn connection(instance: &Postgresql, observed: &[DynamicObject]) -> Option<Desired> {
    let builder = Builder::new(instance);
    if builder.service_type() != "LoadBalancer" {
        return None;
    }
    let address = |service: &str| {
        let is_wanted = |object: &&DynamicObject| {
            object.metadata.name.as_deref() == Some(service)
                && object.types.as_ref().is_some_and(|t| t.kind == "Service")
        };
        let ingress = observed.iter().find(is_wanted)?.data.pointer("/status/loadBalancer/ingress/0")?;
        ingress["ip"].as_str().or_else(|| ingress["hostname"].as_str()).map(str::to_owned)
    };
    let mut data = json!({
        "primary": address(&names::primary_service(&builder.name))?,
        "port": SQL_PORT.to_string(),
    });
    if instance.spec.enable_read_only_service == Some(true) {
        data["readOnly"] = json!(address(&names::read_only_service(&builder.name))?);
    }
    let (name, content) = (names::connection(&builder.name), json!({"data": data}));
    let mut desired = builder.object("v1", "ConfigMap", &name, content, Kept::Fields(&["data"]), None);
    seal(&mut desired);
    Some(desired)
}

/// Notes on the object what it should be, so that a later change is found even where the API server has filled in
/// defaults.
fn seal(desired: &mut Desired) {
    let content = match desired.kept {
        Kept::Metadata => json!({}),
        Kept::Fields(_) => desired.object.data.clone(),
    };
    let text = json!([desired.object.metadata.labels, content]).to_string();
    let annotations = desired.object.metadata.annotations.get_or_insert_default();
    annotations.insert(APPLIED.to_owned(), report::hash(text.as_bytes()));
}

struct Builder<'a> {
    instance: &'a Postgresql,
    name: String,
    labels: BTreeMap<String, String>,
}

impl<'a> Builder<'a> {
    fn new(instance: &'a Postgresql) -> Self {
        let name = instance.metadata.name.clone().unwrap_or_default();
        // The reserved ones win: admission refuses them, but it may not have been there.
        let mut labels = instance.metadata.labels.clone().unwrap_or_default();
        labels.extend(names::reserved_labels(&name));
        labels.remove(LABEL_ROLE);
        if sabotage::sabotaged!("label-instance-wrong") {
            labels.insert("a8s.a9s/dsi-name".to_owned(), format!("{name}-x"));
        }
        Self { instance, name, labels }
    }

    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: Postgresql::API_VERSION.to_owned(),
            kind: Postgresql::KIND.to_owned(),
            name: self.name.clone(),
            uid: self.instance.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn object(
        &self,
        api_version: &str,
        kind: &str,
        name: &str,
        content: Value,
        kept: Kept,
        created: Option<String>,
    ) -> Desired {
        let mut document = json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {
                "name": name, "namespace": self.instance.metadata.namespace,
                "labels": self.labels,
                "ownerReferences": if sabotage::sabotaged!("owner-missing") { vec![] } else { vec![self.owner()] },
            },
        });
        if let (Some(document), Value::Object(content)) = (document.as_object_mut(), content) {
            document.extend(content);
        }
        let object = serde_json::from_value(document).expect("it has a kind and metadata");
        Desired { object, kept, created: created.map(|what| Happening::created(&what)) }
    }

    /// Gives the instance's ServiceAccount a role. What is bound cannot be changed, only to whom.
    fn binding(&self, name: &str, kind: &str, role: &str, created: Option<String>) -> Desired {
        let content = json!({
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
            "subjects": [{
                "kind": "ServiceAccount", "name": self.name, "namespace": self.instance.metadata.namespace,
            }],
        });
        self.object(&format!("{RBAC}/v1"), "RoleBinding", name, content, Kept::Fields(&["subjects"]), created)
    }

    fn role_binding(&self) -> Desired {
        self.binding(
            &self.name,
            "ClusterRole",
            AGENT_ROLE,
            Some("roleBinding".to_owned()).filter(|_| !sabotage::sabotaged!("event-missing")),
        )
    }

    /// What its agents may do with the instance's own, by names: who gets hold of their token, as a superuser of the instance
    /// can, reads no Secret of another instance of the namespace and changes no Lease and no pod of it. They can still have
    /// pods of their own be taken for that one's, since Services go by labels: whoever must not do that needs a namespace of
    /// their own. They follow the Secrets, which needs `list` and `watch`. Nothing is reported: clients count the events of a
    /// new instance.
    fn agent_role(&self) -> Desired {
        let secrets = if sabotage::sabotaged!("agent-may-read-all-secrets") {
            vec![]
        } else {
            vec![names::logins(&self.name), names::backup_store(&self.name)]
        };
        let leases = if sabotage::sabotaged!("agent-may-write-all-leases") { vec![] } else { vec![&self.name] };
        // All that there can ever be: a new member labels its pod at once, one that is taken away until it has ended. And
        // no names would be all names.
        let pods: Vec<String> = (0..MAXIMUM_REPLICAS).map(|ordinal| format!("{}-{ordinal}", self.name)).collect();
        let rules = json!([
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get", "list", "watch"]},
            {
                "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": leases,
                "verbs": ["get", "patch"],
            },
            {"apiGroups": [""], "resources": ["pods"], "resourceNames": pods, "verbs": ["patch"]},
        ]);
        let (name, content) = (names::agent_role(&self.name), json!({"rules": rules}));
        self.object(&format!("{RBAC}/v1"), "Role", &name, content, Kept::Fields(&["rules"]), None)
    }

    fn agent_binding(&self) -> Desired {
        let name = names::agent_role(&self.name);
        self.binding(&name, "Role", &name, None)
    }

    fn secret(&self, role: &str, password: &str, namespace: &str) -> Desired {
        use base64::Engine as _;
        let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let content = json!({
            "type": "Opaque",
            "immutable": !sabotage::sabotaged!("secret-mutable"),
            "data": {"username": encoded(role), "password": encoded(password)},
        });
        let name = names::credentials(role, &self.name);
        let created = Some(format!("secret {namespace}/{name}"));
        let mut desired = self.object("v1", "Secret", &name, content, Kept::Metadata, created);
        desired.object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        desired
    }

    fn service_type(&self) -> &'static str {
        if self.instance.spec.expose.as_deref() == Some("LoadBalancer") { "LoadBalancer" } else { "ClusterIP" }
    }

    fn selector(&self, role: Option<&str>) -> BTreeMap<String, String> {
        let mut selector = names::reserved_labels(&self.name);
        selector.extend(role.map(|role| (LABEL_ROLE.to_owned(), role.to_owned())));
        selector
    }

    fn service(&self, name: &str, port: Value, selector: &BTreeMap<String, String>, kind: &str) -> Desired {
        let content = json!({"spec": {"type": kind, "ports": [port], "selector": selector}});
        self.object("v1", "Service", name, content, Kept::Fields(&["spec"]), None)
    }

    fn primary_service(&self, namespace: &str) -> Desired {
        let name = names::primary_service(&self.name);
        let mut desired = self.service(
            &name,
            sql_port(),
            &self.selector(Some(if sabotage::sabotaged!("service-selects-standbys") { "replica" } else { "master" })),
            self.service_type(),
        );
        let labels = desired.object.metadata.labels.get_or_insert_default();
        labels.insert(LABEL_ROLE.to_owned(), "master".to_owned());
        desired.created = Some(Happening::created(&format!("service: {namespace}/{name}")));
        desired
    }

    fn agent_service(&self, namespace: &str) -> Desired {
        let name = names::agent_service(&self.name);
        let port = json!({"name": "patroni", "port": REST_PORT, "protocol": "TCP", "targetPort": REST_PORT});
        let mut desired = self.service(&name, port, &self.selector(Some("master")), "ClusterIP");
        desired.created = Some(Happening::created(&format!("service: {namespace}/{name}")));
        desired
    }

    fn read_only_service(&self) -> Desired {
        let is_for_all = self.instance.spec.read_only_target_nodes.as_deref() == Some("all");
        let selector = self.selector(if is_for_all { None } else { Some("replica") });
        self.service(&names::read_only_service(&self.name), sql_port(), &selector, self.service_type())
    }

    fn stateful_set(&self, version: &Version) -> Desired {
        // Who makes claims of this need not be allowed to hold up the instance.
        let owner = OwnerReference { block_owner_deletion: None, ..self.owner() };
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": DATA_VOLUME, "labels": names::reserved_labels(&self.name),
                "annotations": {(names::VERSION): version.major.to_string()},
                "ownerReferences": if leaves_claims() { vec![] } else { vec![owner] },
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": self.instance.spec.volume_size().canonical()}},
                "volumeMode": "Filesystem",
            },
        });
        let content = json!({"spec": {
            "replicas": self.instance.spec.replicas(),
            "serviceName": self.name,
            // Members start and stop together; updates still go one by one.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": names::reserved_labels(&self.name)},
            "template": pod::template(self.instance, version, &self.labels),
            "volumeClaimTemplates": [claim],
            // The data goes with the instance. It stays when members are taken away, and when somebody deletes this,
            // which is made again.
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        }});
        let kept = Kept::Fields(&["spec/replicas", "spec/template", "spec/persistentVolumeClaimRetentionPolicy"]);
        let mut desired =
            self.object("apps/v1", "StatefulSet", &self.name, content, kept, Some("statefulSet".to_owned()));
        let parameters = self.instance.spec.parameters.clone().unwrap_or_default();
        let annotations = desired.object.metadata.annotations.get_or_insert_default();
        annotations.insert(CONFIGURATION.to_owned(), report::fingerprint(&parameters));
        desired
    }
}

/// Whether the volume claims of standbys stay when their instance goes, as a seeded defect.
pub fn leaves_claims() -> bool {
    sabotage::sabotaged!("claims-of-standbys-stay")
}

fn sql_port() -> Value {
    json!({"name": "postgresql", "port": SQL_PORT, "protocol": "TCP", "targetPort": SQL_PORT})
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::plan::kind;
    use super::*;

    pub fn instance(spec: Value, labels: Value) -> Postgresql {
        let document = json!({
            "metadata": {"name": "solo", "namespace": "shop", "uid": "1-2-3", "labels": labels},
            "spec": spec,
        });
        serde_json::from_value(document).expect("an instance")
    }

    pub fn version() -> Version {
        Version { major: 15, image: "a9s/postgresql:15".into() }
    }

    fn passwords() -> Passwords {
        Passwords { admin: "a".repeat(32), standby: "b".repeat(32) }
    }

    fn text(instance: &Postgresql) -> String {
        let objects = desired(instance, &version(), &passwords());
        let documents: Vec<String> =
            objects.iter().map(|d| serde_saphyr::to_string(&d.object).expect("plain data")).collect();
        documents.join("---\n")
    }

    #[test]
    fn the_objects_of_a_small_instance_are_as_reviewed() {
        let resources = json!({"requests": {"cpu": "100m"}, "limits": {"memory": "200Mi"}});
        insta::assert_snapshot!(text(&instance(json!({"version": 15, "resources": resources}), json!({}))));
    }

    #[test]
    fn the_objects_of_a_large_instance_are_as_reviewed() {
        let spec = json!({
            "version": 14, "replicas": 3, "volumeSize": "0.5Gi", "expose": "LoadBalancer",
            "enableReadOnlyService": true, "readOnlyTargetNodes": "all",
            "schedulingConstraints": {"tolerations": [{"key": "pg", "operator": "Exists"}]},
        });
        insta::assert_snapshot!(text(&instance(spec, json!({"team": "blue"}))));
    }

    /// An empty list of names would be all names.
    #[test]
    fn what_agents_may_do_has_the_names_of_their_instance_also_without_members() {
        for replicas in [0, 1, 99] {
            let objects =
                desired(&instance(json!({"version": 15, "replicas": replicas}), json!({})), &version(), &passwords());
            let is_role = |desired: &&Desired| kind(&desired.object) == "Role";
            let role = objects.iter().find(is_role).expect("a Role");
            for rule in role.object.data["rules"].as_array().expect("rules") {
                let names: Vec<&str> =
                    rule["resourceNames"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
                assert!(!names.is_empty(), "{rule}");
                assert!(names.iter().all(|name| *name == "solo" || name.starts_with("solo-")), "{rule}");
                assert!(rule["resources"] != json!(["pods"]) || names.contains(&"solo-98"), "{rule}");
            }
        }
    }

    #[test]
    fn the_data_belongs_to_the_instance_and_not_to_its_stateful_set() {
        let objects = desired(&instance(json!({"version": 15}), json!({})), &version(), &passwords());
        let set = objects.iter().find(|desired| kind(&desired.object) == "StatefulSet").expect("there");
        let owners = &set.object.data["spec"]["volumeClaimTemplates"][0]["metadata"]["ownerReferences"];
        let (api_version, kind) = (Postgresql::API_VERSION, Postgresql::KIND);
        let owner =
            json!({"apiVersion": api_version, "kind": kind, "name": "solo", "uid": "1-2-3", "controller": true});
        assert_eq!(*owners, json!([owner]));
        let policy = &set.object.data["spec"]["persistentVolumeClaimRetentionPolicy"];
        assert_eq!(*policy, json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
        let annotations = &set.object.data["spec"]["volumeClaimTemplates"][0]["metadata"]["annotations"];
        assert_eq!(*annotations, json!({"a8s.a9s/version": "15"}));
    }

    #[test]
    fn labels_are_counted_as_clients_count_them() {
        let objects = desired(&instance(json!({"version": 15}), json!({"a": "1", "b": "2"})), &version(), &passwords());
        for desired in objects {
            let name = desired.object.metadata.name.clone().expect("named");
            let expected = if name == "solo-master" { 6 } else { 5 };
            assert_eq!(desired.object.metadata.labels.map(|labels| labels.len()), Some(expected), "{name}");
            if desired.object.types.is_some_and(|types| types.kind == "StatefulSet") {
                assert_eq!(
                    desired.object.data["spec"]["selector"]["matchLabels"].as_object().map(|l| l.len()),
                    Some(3)
                );
            }
        }
    }

    #[test]
    fn passwords_are_alphanumeric_and_differ() {
        let passwords = Passwords::random();
        assert_ne!(passwords.admin, passwords.standby);
        for password in [passwords.admin, passwords.standby] {
            assert!(password.len() == 32 && password.chars().all(|c| c.is_ascii_alphanumeric()));
        }
    }
}
