//! No one gives rights that they do not have (Kubernetes documentation, "Using RBAC Authorization": privilege escalation
//! prevention; `pkg/registry/rbac/*/policybased/storage.go`).

use serde_json::Value;

use super::GROUP;
use super::authorizer::{Attributes, Authorizer, Decision, ResourceAttributes, is_master, rules_in};
use super::rules::{Rule, covers, quoted};
use crate::status::Status;
use crate::user::UserInfo;

impl Authorizer {
    /// Whether `user` may write this Role, ClusterRole, RoleBinding or ClusterRoleBinding, which they may create or update
    /// as far as their verbs go. `old` is the object before an update. Other resources pass.
    ///
    /// # Errors
    /// 403 with the rights that are missing, 404 for a binding to a role that is not there.
    pub fn check_write(&self, user: &UserInfo, resource: &str, old: Option<&Value>, new: &Value) -> Result<(), Status> {
        if is_master(user) {
            return Ok(());
        }
        match resource {
            "roles" | "clusterroles" => self.check_role(user, resource, old, new),
            "rolebindings" | "clusterrolebindings" => self.check_binding(user, resource, old, new),
            _ => Ok(()),
        }
    }

    fn check_role(&self, user: &UserInfo, resource: &str, old: Option<&Value>, new: &Value) -> Result<(), Status> {
        let unchanged = |old: &Value| old["rules"] == new["rules"] && old["aggregationRule"] == new["aggregationRule"];
        if old.is_some_and(unchanged) || self.may(user, "escalate", resource, new, name_of(new)) {
            return Ok(());
        }
        let mut wanted = rules_in(new);
        if !new["aggregationRule"].is_null() {
            // What such a role will hold is not known, so who writes it must hold everything.
            let all = || vec!["*".to_owned()];
            wanted.push(Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() });
            wanted.push(Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
        }
        self.check_held(user, resource, new, &wanted)
    }

    fn check_binding(&self, user: &UserInfo, resource: &str, old: Option<&Value>, new: &Value) -> Result<(), Status> {
        let unchanged = |old: &Value| old["roleRef"] == new["roleRef"] && old["subjects"] == new["subjects"];
        let reference = &new["roleRef"];
        let role = if reference["kind"] == "Role" { "roles" } else { "clusterroles" };
        let role_name = reference["name"].as_str().unwrap_or_default();
        if old.is_some_and(unchanged) || self.may(user, "bind", role, new, role_name) {
            return Ok(());
        }
        let wanted = self.rules_of_reference(reference, namespace_of(new))?;
        self.check_held(user, resource, new, &wanted)
    }

    fn check_held(&self, user: &UserInfo, resource: &str, object: &Value, wanted: &[Rule]) -> Result<(), Status> {
        let (held, errors) = self.rules_for(user, namespace_of(object));
        let Err(missing) = covers(&held, wanted) else {
            return Ok(());
        };
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            quoted(&user.groups),
            missing.join("\n")
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        Err(Status::forbidden(GROUP, resource, name_of(object), why))
    }

    fn may(&self, user: &UserInfo, verb: &str, resource: &str, object: &Value, name: &str) -> bool {
        let request = Attributes::Resource(ResourceAttributes {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            resource: resource.to_owned(),
            subresource: String::new(),
            namespace: namespace_of(object).to_owned(),
            name: name.to_owned(),
        });
        self.authorize(user, &request) == Decision::Allow
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn namespace_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::super::fixture::Fixture;
    use super::*;

    fn authorizer() -> Authorizer {
        let objects = Fixture::default()
            .cluster_grant("alice", "pod-reader", json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]))
            .cluster_grant(
                "binder",
                "binders",
                json!([{"apiGroups": [GROUP], "resources": ["clusterroles"], "verbs": ["bind", "escalate"],
                        "resourceNames": ["secret-reader", "grown"]}]),
            )
            .cluster_grant(
                "nobody",
                "secret-reader",
                json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]),
            );
        Authorizer::new(Arc::new(objects))
    }

    fn role(name: &str, resource: &str) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "ns"},
            "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}],
        })
    }

    fn binding(role: &str) -> Value {
        json!({
            "metadata": {"name": "b", "namespace": "ns"},
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": "eve"}],
        })
    }

    fn alice() -> UserInfo {
        UserInfo::new("alice", ["dev"])
    }

    #[test]
    fn a_role_may_hold_what_its_author_holds() {
        let authorizer = authorizer();
        assert!(authorizer.check_write(&alice(), "roles", None, &role("r", "pods")).is_ok());
        let error = authorizer.check_write(&alice(), "roles", None, &role("r", "secrets")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"alice\" (groups=[\"dev\" \"system:authenticated\"]) \
             is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
        );
        let (old, mut new) = (role("r", "secrets"), role("r", "secrets"));
        new["metadata"]["labels"] = json!({"a": "b"});
        assert!(authorizer.check_write(&alice(), "roles", Some(&old), &new).is_ok(), "no new rights");
        assert!(authorizer.check_write(&UserInfo::master("root"), "roles", None, &old).is_ok());
    }

    #[test]
    fn escalate_and_bind_are_rights_to_give_more() {
        let authorizer = authorizer();
        let binder = UserInfo::new("binder", [""; 0]);
        let mut grown = role("grown", "secrets");
        grown["metadata"]["namespace"] = Value::Null;
        assert!(authorizer.check_write(&binder, "clusterroles", None, &grown).is_ok());
        grown["metadata"]["name"] = json!("other");
        assert!(authorizer.check_write(&binder, "clusterroles", None, &grown).is_err());
        assert!(authorizer.check_write(&binder, "rolebindings", None, &binding("secret-reader")).is_ok());
        assert!(authorizer.check_write(&binder, "rolebindings", None, &binding("pod-reader")).is_err());
    }

    #[test]
    fn a_binding_needs_the_rights_of_its_role_and_the_role() {
        let authorizer = authorizer();
        assert!(authorizer.check_write(&alice(), "rolebindings", None, &binding("pod-reader")).is_ok());
        assert_eq!(
            authorizer.check_write(&alice(), "rolebindings", None, &binding("secret-reader")).unwrap_err().code(),
            403
        );
        let error = authorizer.check_write(&alice(), "rolebindings", None, &binding("none")).unwrap_err();
        assert_eq!(error.code(), 404);
    }

    #[test]
    fn an_aggregation_rule_needs_every_right() {
        let role = json!({"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": [{}]}});
        assert!(authorizer().check_write(&alice(), "clusterroles", None, &role).is_err());
    }
}
