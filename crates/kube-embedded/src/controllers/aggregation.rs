//! Aggregated ClusterRoles show the rules of the roles they select. (The authorizer looks at the selection itself, so
//! nothing depends on how soon this is written.)

use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::core::ApiResource;
use serde_json::Value;

use super::action::{Action, to_value};
use super::engine::Controller;
use super::view::{is, name_of};
use super::{Context, Error};
use crate::auth::rbac::Authorizer;
use crate::objects::Change;

/// The controller.
pub struct Aggregation {
    context: Context,
    authorizer: Authorizer,
}

impl Aggregation {
    pub fn new(context: Context) -> Self {
        let authorizer = Authorizer::new(context.objects.clone());
        Self { context, authorizer }
    }
}

impl Controller for Aggregation {
    type Key = String;
    const NAME: &'static str = "clusterrole-aggregation";

    fn keys(&self, change: &Change) -> Vec<String> {
        if !is::<ClusterRole>(&change.resource) {
            return Vec::new();
        }
        let roles = self.context.list_plain::<ClusterRole>(None);
        roles.iter().filter(|role| !role["aggregationRule"].is_null()).map(|role| name_of(role).1).collect()
    }

    async fn reconcile(&self, name: &String) -> Result<Option<Duration>, Error> {
        let resource = super::view::resource_of::<ClusterRole>();
        let Some(role) = self.context.objects.get(&resource, None, name) else {
            return Ok(None);
        };
        if !role["aggregationRule"].is_null() {
            let rules = to_value(&self.authorizer.rules_of_role(&role))?;
            if let Some(action) = plan(&role, rules) {
                self.context.apply(action).await?;
            }
        }
        Ok(None)
    }
}

fn plan(role: &Value, rules: Value) -> Option<Action> {
    let written = role["rules"].as_array().map_or(&[][..], Vec::as_slice);
    if rules.as_array().is_some_and(|rules| rules == written) {
        return None;
    }
    let mut object = role.clone();
    object["rules"] = rules;
    Some(Action::Replace { resource: ApiResource::erase::<ClusterRole>(&()), object, subresource: None })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_written_when_they_differ() {
        let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        assert!(plan(&json!({"rules": null}), json!([])).is_none());
        let Some(Action::Replace { object, .. }) = plan(&json!({"rules": null}), rules.clone()) else { panic!() };
        assert_eq!(object["rules"], rules);
        assert!(plan(&object, rules).is_none());
    }
}
