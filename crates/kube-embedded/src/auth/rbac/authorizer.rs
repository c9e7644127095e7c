//! The authorizer: which rules does a user have, and does one of them allow the request.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::GROUP;
use super::rules::Rule;
use crate::objects::{GroupResource, Objects};
use crate::status::Status;
use crate::user::UserInfo;

/// What a request wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attributes {
    /// Something with objects.
    Resource(ResourceAttributes),
    /// Something with a path that belongs to no resource, such as `/healthz`.
    Path {
        /// The HTTP method in lower case.
        verb: String,
        /// The path.
        path: String,
    },
}

/// A request for objects. What does not apply is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceAttributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `bind` …
    pub verb: String,
    /// API group.
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// For example `log`.
    pub subresource: String,
    /// Empty for all namespaces and for cluster-scoped resources.
    pub namespace: String,
    /// Empty for lists and creations.
    pub name: String,
}

impl ResourceAttributes {
    /// `pods/log`, as rules name it.
    pub fn combined_resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

/// The authorizer's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// No rule allows it.
    Deny {
        /// What may explain it (a binding to a role that is not there); usually empty.
        reason: String,
    },
}

/// Decides by the roles and bindings among the objects.
pub struct Authorizer {
    objects: Arc<dyn Objects>,
}

impl Authorizer {
    /// An authorizer over these objects; every committed change counts at once.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// Whether `user` may do this.
    pub fn authorize(&self, user: &UserInfo, request: &Attributes) -> Decision {
        if is_master(user) || sabotage::sabotaged!("everybody-may-everything") {
            return Decision::Allow;
        }
        let namespace = match request {
            Attributes::Resource(request) => request.namespace.as_str(),
            Attributes::Path { .. } => "",
        };
        let mut errors = Vec::new();
        let found = self.visit(user, namespace, &mut errors, &mut |rule| {
            if rule.allows(request) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match (found, errors.as_slice()) {
            (ControlFlow::Break(()), _) => Decision::Allow,
            (ControlFlow::Continue(()), []) => Decision::Deny { reason: String::new() },
            (ControlFlow::Continue(()), [one]) => Decision::Deny { reason: format!("RBAC: {one}") },
            (ControlFlow::Continue(()), many) => Decision::Deny { reason: format!("RBAC: [{}]", many.join(", ")) },
        }
    }

    /// As [`Self::authorize`], with the answer that a client gets.
    ///
    /// # Errors
    /// 403 in kube-apiserver's words (`apiserver/pkg/endpoints/handlers/responsewriters/errors.go`).
    pub fn check(&self, user: &UserInfo, request: &Attributes) -> Result<(), Status> {
        match self.authorize(user, request) {
            Decision::Allow => Ok(()),
            Decision::Deny { reason } => Err(denied(user, request, &reason)),
        }
    }

    /// All rules a user has in a namespace (and with an empty one: at the cluster's scope), and the bindings that could
    /// not be followed; for `SelfSubjectRulesReview`.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        if is_master(user) {
            let all = || vec!["*".to_owned()];
            let everything = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
            rules.extend([everything, Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() }]);
        }
        let _ = self.visit(user, namespace, &mut errors, &mut |rule| {
            rules.push(rule);
            ControlFlow::Continue(())
        });
        (rules, errors)
    }

    /// Shows every rule of the user to `visitor`, cluster-wide ones first, until it breaks.
    fn visit(
        &self,
        user: &UserInfo,
        namespace: &str,
        errors: &mut Vec<String>,
        visitor: &mut dyn FnMut(Rule) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut bindings = self.list("clusterrolebindings", None);
        if !namespace.is_empty() {
            bindings.extend(self.list("rolebindings", Some(namespace)));
        }
        for binding in bindings {
            let of = binding["metadata"]["namespace"].as_str().unwrap_or_default();
            let subjects = binding["subjects"].as_array().map_or(&[][..], Vec::as_slice);
            if !subjects.iter().any(|subject| is_subject(subject, user, of)) {
                continue;
            }
            match self.rules_of_reference(&binding["roleRef"], of) {
                Ok(rules) => rules.into_iter().try_for_each(&mut *visitor)?,
                Err(error) => errors.push(error.to_string()),
            }
        }
        ControlFlow::Continue(())
    }

    /// The rules of the role that a binding in `namespace` (empty: a ClusterRoleBinding) refers to.
    pub(super) fn rules_of_reference(&self, reference: &Value, namespace: &str) -> Result<Vec<Rule>, Status> {
        let name = reference["name"].as_str().unwrap_or_default();
        let (resource, kind, namespace) = match reference["kind"].as_str() {
            Some("Role") => ("roles", "role", Some(namespace)),
            _ => ("clusterroles", "clusterrole", None),
        };
        let role = self
            .objects
            .get(&GroupResource::new(GROUP, resource), namespace, name)
            .ok_or_else(|| Status::not_found(GROUP, kind, name))?;
        Ok(self.rules_of_role(&role))
    }

    /// A role's rules; an aggregated ClusterRole has those of the roles it selects, whatever is written in it.
    pub fn rules_of_role(&self, role: &Value) -> Vec<Rule> {
        let mut seen = BTreeSet::new();
        let mut rules = Vec::new();
        self.aggregate(role, &mut seen, &mut rules);
        rules
    }

    fn aggregate(&self, role: &Value, seen: &mut BTreeSet<String>, rules: &mut Vec<Rule>) {
        let Some(selectors) = role["aggregationRule"]["clusterRoleSelectors"].as_array() else {
            for rule in rules_in(role) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
            return;
        };
        if !seen.insert(role["metadata"]["name"].as_str().unwrap_or_default().to_owned()) {
            return;
        }
        for part in self.list("clusterroles", None) {
            let itself = part["metadata"]["name"] == role["metadata"]["name"];
            if !itself && selectors.iter().any(|selector| selects(selector, &part["metadata"]["labels"])) {
                self.aggregate(&part, seen, rules);
            }
        }
    }

    fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.objects.list(&GroupResource::new(GROUP, resource), namespace)
    }
}

/// The rules written in a role; one that can't be read grants nothing.
pub(super) fn rules_in(role: &Value) -> Vec<Rule> {
    let rules = role["rules"].as_array().map_or(&[][..], Vec::as_slice);
    rules.iter().filter_map(|rule| Rule::deserialize(rule).ok()).collect()
}

/// `system:masters` may do everything, whatever the roles say.
pub(super) fn is_master(user: &UserInfo) -> bool {
    user.groups.iter().any(|group| group == "system:masters")
}

fn is_subject(subject: &Value, user: &UserInfo, binding_namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace =
                subject["namespace"].as_str().filter(|given| !given.is_empty()).unwrap_or(binding_namespace);
            let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
            !namespace.is_empty() && account == Some((namespace, name))
        }
        _ => false,
    }
}

/// Whether a `metav1.LabelSelector` selects these labels. An empty selector selects everything.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let equal = selector["matchLabels"].as_object().is_none_or(|wanted| {
        wanted.iter().all(|(key, value)| label(key).is_some_and(|have| value.as_str() == Some(have)))
    });
    let expression = |expression: &Value| {
        let have = label(expression["key"].as_str().unwrap_or_default());
        let values = expression["values"].as_array().map_or(&[][..], Vec::as_slice);
        let among = have.is_some_and(|have| values.iter().any(|value| value.as_str() == Some(have)));
        match expression["operator"].as_str() {
            Some("In") => among,
            Some("NotIn") => !among,
            Some("Exists") => have.is_some(),
            Some("DoesNotExist") => have.is_none(),
            _ => false,
        }
    };
    equal && selector["matchExpressions"].as_array().is_none_or(|all| all.iter().all(expression))
}

fn denied(user: &UserInfo, request: &Attributes, reason: &str) -> Status {
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let name = &user.name;
    match request {
        Attributes::Path { verb, path } => {
            Status::new(403, "Forbidden", format!("forbidden: User {name:?} cannot {verb} path {path:?}{reason}"))
        }
        Attributes::Resource(request) => {
            let scope = match request.namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let (verb, group, resource) = (&request.verb, &request.group, request.combined_resource());
            let why =
                format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}{reason}");
            Status::forbidden(group, &request.resource, &request.name, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::fixture::Fixture;
    use super::*;

    fn request(verb: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes::Resource(ResourceAttributes {
            verb: verb.to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    fn binding(namespace: Option<&str>, kind: &str, role: &str, subject: Value) -> Value {
        json!({
            "metadata": {"name": format!("{role}-binding"), "namespace": namespace},
            "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
            "subjects": [subject],
        })
    }

    fn read_pods() -> Value {
        json!([{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}])
    }

    fn authorizer() -> Authorizer {
        let account = json!({"kind": "ServiceAccount", "name": "app"});
        let far_account = json!({"kind": "ServiceAccount", "name": "far", "namespace": "other"});
        let objects = Fixture::default()
            .cluster_grant("alice", "everywhere", read_pods())
            .rbac("roles", json!({"metadata": {"name": "reader", "namespace": "ns"}, "rules": read_pods()}))
            .rbac("rolebindings", binding(Some("ns"), "Role", "reader", account))
            .rbac("rolebindings", binding(Some("ns"), "ClusterRole", "everywhere", far_account))
            .rbac("clusterrolebindings", binding(None, "ClusterRole", "gone", json!({"kind": "Group", "name": "dev"})))
            .rbac("clusterroles", json!({"metadata": {"name": "gone-not"}, "rules": null}));
        Authorizer::new(Arc::new(objects))
    }

    #[test]
    fn bindings_reach_users_groups_and_accounts_in_their_scope() {
        let alice = UserInfo::new("alice", [""; 0]);
        let app = UserInfo::service_account("ns", "app");
        let far = UserInfo::service_account("other", "far");
        let table = [
            (&alice, request("list", "pods", "", ""), true),
            (&alice, request("get", "pods/log", "any", "x"), true),
            (&alice, request("delete", "pods", "any", "x"), false),
            (&app, request("get", "pods", "ns", "x"), true),
            (&app, request("get", "pods", "other", "x"), false),
            (&app, request("list", "pods", "", ""), false),
            (&far, request("get", "pods", "ns", "x"), true),
            (&far, request("get", "pods", "other", "x"), false),
            (&UserInfo::service_account("other", "app"), request("get", "pods", "ns", "x"), false),
            (&UserInfo::new("app", [""; 0]), request("get", "pods", "ns", "x"), false),
            (&UserInfo::master("root"), request("delete", "nodes", "", "x"), true),
        ];
        for (user, request, expected) in table {
            let decision = authorizer().authorize(user, &request);
            assert_eq!(decision == Decision::Allow, expected, "{user:?} {request:?}");
        }
    }

    #[test]
    fn a_denial_is_worded_as_by_kube_apiserver() {
        let bob = UserInfo::new("bob", [""; 0]);
        let words = |request: &Attributes| authorizer().check(&bob, request).unwrap_err().to_string();
        assert_eq!(
            words(&request("list", "pods", "y", "")),
            r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "y""#
        );
        assert_eq!(
            words(&request("create", "pods/exec", "y", "p")),
            r#"pods "p" is forbidden: User "bob" cannot create resource "pods/exec" in API group "" in the namespace "y""#
        );
        let scale = Attributes::Resource(ResourceAttributes {
            verb: "patch".to_owned(),
            group: "apps".to_owned(),
            resource: "statefulsets".to_owned(),
            ..ResourceAttributes::default()
        });
        assert_eq!(
            words(&scale),
            r#"statefulsets.apps is forbidden: User "bob" cannot patch resource "statefulsets" in API group "apps" at the cluster scope"#
        );
        let path = Attributes::Path { verb: "get".to_owned(), path: "/metrics".to_owned() };
        assert_eq!(words(&path), r#"forbidden: User "bob" cannot get path "/metrics""#);

        let dev = UserInfo::new("dev1", ["dev"]);
        let error = authorizer().check(&dev, &request("list", "pods", "y", "")).unwrap_err();
        assert_eq!(error.code(), 403);
        assert!(
            error.to_string().ends_with(r#": RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#),
            "{error}"
        );
    }

    #[test]
    fn an_aggregated_role_has_the_rules_of_what_it_selects() {
        let part = |name: &str, label: &str, verb: &str| {
            json!({
                "metadata": {"name": name, "labels": {label: "true"}},
                "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}],
            })
        };
        let whole = |name: &str, label: &str, own: &str| {
            json!({
                "metadata": {"name": name, "labels": {own: "true"}},
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]},
                "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
            })
        };
        let objects = Fixture::default()
            .rbac("clusterroles", part("v1", "to-view", "get"))
            .rbac("clusterroles", part("e1", "to-edit", "update"))
            .rbac("clusterroles", whole("view", "to-view", "to-edit"))
            .rbac("clusterroles", whole("edit", "to-edit", "to-view"))
            .rbac("clusterrolebindings", binding(None, "ClusterRole", "edit", json!({"kind": "User", "name": "ed"})));
        let authorizer = Authorizer::new(Arc::new(objects));
        let ed = UserInfo::new("ed", [""; 0]);
        let may = |verb| authorizer.authorize(&ed, &request(verb, "pods", "ns", "x")) == Decision::Allow;
        assert!(may("get") && may("update"), "also of a role that aggregates itself");
        assert!(!may("delete"), "rules written into an aggregated role count for nothing");
    }

    #[test]
    fn selectors_of_labels() {
        let labels = json!({"a": "1"});
        let expression = |operator: &str, key: &str| json!({"matchExpressions": [{"key": key, "operator": operator, "values": ["1"]}]});
        for (selector, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {"a": "1"}}), true),
            (json!({"matchLabels": {"a": "2"}}), false),
            (expression("In", "a"), true),
            (expression("In", "b"), false),
            (expression("NotIn", "a"), false),
            (expression("NotIn", "b"), true),
            (expression("Exists", "a"), true),
            (expression("DoesNotExist", "a"), false),
            (expression("Like", "a"), false),
        ] {
            assert_eq!(selects(&selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn rules_of_a_user_are_those_of_all_bindings() {
        let (rules, errors) = authorizer().rules_for(&UserInfo::service_account("ns", "app"), "ns");
        assert_eq!((rules.len(), errors.len()), (1, 0));
        let (rules, errors) = authorizer().rules_for(&UserInfo::new("dev1", ["dev"]), "ns");
        assert_eq!((rules.len(), errors.len()), (0, 1));
    }
}
