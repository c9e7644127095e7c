//! Which resources are served, and what is known of each: names, scope, verbs, subresources, shape.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::builtin::events;
use super::schema::Schema;
use super::selector;
use crate::objects::GroupResource;
use crate::patch;

/// How objects of a resource are checked.
#[derive(Clone)]
pub enum Shape {
    /// By the Rust type of a built-in kind: what the type does not know, the result lacks.
    Builtin(fn(&Value) -> Result<Value, serde_json::Error>),
    /// By the schema of a CustomResourceDefinition.
    Custom(Arc<Custom>),
}

/// What a CustomResourceDefinition says of one version.
pub struct Custom {
    /// The definition.
    pub definition: Arc<Value>,
    /// The version of the store since which the definition says what it says.
    pub since: u64,
    /// The schema of its objects.
    pub schema: Schema,
    /// The schema as it was written, for OpenAPI.
    pub published: Arc<Value>,
    /// The columns of its tables, after the name.
    pub columns: Vec<Column>,
    /// The fields by which its objects can be selected, as `spec.color`.
    pub selectable: Vec<String>,
    /// The definition is being deleted: nothing new may come.
    pub terminating: bool,
}

/// A column of a custom resource's table (`additionalPrinterColumns`).
#[derive(Debug, Clone)]
pub struct Column {
    /// Its title.
    pub name: String,
    /// OpenAPI type.
    pub kind: String,
    /// OpenAPI format.
    pub format: String,
    /// What it shows.
    pub description: String,
    /// 0: always shown; otherwise only in wide tables.
    pub priority: i32,
    /// JSONPath to the value.
    pub path: String,
}

/// One served resource in one version.
#[derive(Clone)]
pub struct Resource {
    /// API group; `""` is the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind of its objects.
    pub kind: String,
    /// Kind of its lists.
    pub list_kind: String,
    /// Name in paths.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Short names, as `po`.
    pub short_names: Vec<String>,
    /// Categories, as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether objects are stored; the others (reviews) are only answered.
    pub stored: bool,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// Where a `scale` subresource finds its fields.
    pub scale: Option<Scale>,
    /// Further subresources: name, kind, verbs.
    pub subresources: Vec<Subresource>,
    /// How objects are checked.
    pub shape: Shape,
    /// How their fields merge.
    pub merge: patch::Shape,
}

/// The paths of a `scale` subresource, as arrays of field names.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Desired replicas.
    pub spec_replicas: Vec<String>,
    /// Observed replicas.
    pub status_replicas: Vec<String>,
    /// The serialized label selector, if there is one.
    pub selector: Option<Vec<String>>,
}

impl Scale {
    /// What an object says of its replicas, as a `Scale`.
    pub fn show(&self, value: &Value) -> Value {
        let at = |path: &[String]| path.iter().fold(value, |value, part| &value[part]).clone();
        let selector = match &self.selector {
            Some(path) => at(path),
            None if value["spec"]["selector"].is_object() => selector::label_text(&value["spec"]["selector"]).into(),
            None => Value::Null,
        };
        let mut status = json!({"replicas": at(&self.status_replicas).as_i64().unwrap_or(0)});
        if selector.as_str().is_some_and(|text| !text.is_empty()) {
            status["selector"] = selector;
        }
        let mut own = serde_json::Map::new();
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            own.extend(value["metadata"].get(field).map(|value| (field.to_owned(), value.clone())));
        }
        json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": own,
            "spec": {"replicas": at(&self.spec_replicas).as_i64().unwrap_or(0)}, "status": status,
        })
    }
}

/// A subresource other than `status` and `scale`.
#[derive(Debug, Clone)]
pub struct Subresource {
    /// Its name.
    pub name: &'static str,
    /// Group and version of its kind, where that differs from the resource's.
    pub group_version: Option<(&'static str, &'static str)>,
    /// Its kind.
    pub kind: &'static str,
    /// Its verbs.
    pub verbs: &'static [&'static str],
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// An object of it in some version, if it was written in another. Nothing but the version's name differs: no other
    /// conversion is done (strategy `None`). Of what is built in there is one version, but for events.
    pub fn convert(&self, object: &Value, version: &str) -> Option<Value> {
        if self.is_event() {
            return events::convert(object, &api_version(&self.group, version));
        }
        let written_in = object["apiVersion"].as_str()?;
        let written_in = written_in.rsplit_once('/').unwrap_or(("", written_in));
        if !self.is_custom() || written_in == (self.group.as_str(), version) {
            return None;
        }
        let mut object = object.clone();
        object["apiVersion"] = api_version(&self.group, version).into();
        Some(object)
    }

    /// An object of it as it is read, if it is stored otherwise: in another version, or by a schema that had not the
    /// defaults of this one.
    pub fn read(&self, object: &Value) -> Option<Value> {
        let converted = self.convert(object, &self.version);
        let Shape::Custom(custom) = &self.shape else { return converted };
        if !custom.schema.lacks_defaults(converted.as_ref().unwrap_or(object)) {
            return converted;
        }
        let mut object = converted.unwrap_or_else(|| object.clone());
        custom.schema.default(&mut object);
        Some(object)
    }

    /// Group and plural by which its objects are stored.
    pub fn group_resource(&self) -> GroupResource {
        let group = if self.is_event() { "" } else { &self.group };
        GroupResource::new(group, self.plural.clone())
    }

    /// Whether its objects are events, of which there is a resource in two groups.
    fn is_event(&self) -> bool {
        !self.is_custom() && self.plural == "events" && matches!(self.group.as_str(), "" | events::GROUP)
    }

    /// Whether the resource is defined by a CustomResourceDefinition.
    pub fn is_custom(&self) -> bool {
        !matches!(self.shape, Shape::Builtin(_))
    }

    /// The version of the store since which it is defined as it is; `None` of what is built in. What was read before is
    /// out of date: it had other defaults and other columns.
    pub fn since(&self) -> Option<u64> {
        match &self.shape {
            Shape::Builtin(_) => None,
            Shape::Custom(custom) => Some(custom.since),
        }
    }

    /// The verbs of the main resource, in the order discovery gives them.
    pub fn verbs(&self) -> &'static [&'static str] {
        match (self.stored, self.is_namespace()) {
            (false, _) => &["create"],
            (true, true) => &["create", "delete", "get", "list", "patch", "update", "watch"],
            (true, false) => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        }
    }

    /// Whether changes of its objects are counted in `metadata.generation` (`pkg/registry/*/*/strategy.go`).
    pub fn has_generations(&self) -> bool {
        self.is_custom()
            || matches!(
                (self.group.as_str(), self.plural.as_str()),
                ("", "pods")
                    | ("apps", "statefulsets")
                    | ("discovery.k8s.io", "endpointslices")
                    | ("admissionregistration.k8s.io" | "apiextensions.k8s.io", _)
            )
    }

    /// Whether an object can be replaced by who does not say which version of it they have seen
    /// (`AllowUnconditionalUpdate` in `pkg/registry/*/*/strategy.go`).
    pub fn is_replaced_blindly(&self) -> bool {
        let versioned = ["admissionregistration.k8s.io", "apiextensions.k8s.io", "coordination.k8s.io"];
        !self.is_custom() && !versioned.contains(&self.group.as_str())
    }

    /// Whether an update makes an object that is not there (`AllowCreateOnUpdate` in `pkg/registry/*/*/strategy.go`).
    pub fn is_made_by_update(&self) -> bool {
        matches!(
            (self.group.as_str(), self.plural.as_str()),
            ("", "endpoints" | "services")
                | ("" | events::GROUP, "events")
                | ("coordination.k8s.io", "leases")
                | ("rbac.authorization.k8s.io", _)
        )
    }

    /// Whether its objects are namespaces.
    pub fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.plural == "namespaces"
    }
}

/// `v1` or `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// All served resources.
#[derive(Clone, Default)]
pub struct Registry {
    resources: BTreeMap<(String, String, String), Arc<Resource>>,
}

impl Registry {
    /// The registry of `resources`. Of two of the same name the later one counts.
    pub fn new(resources: impl IntoIterator<Item = Resource>) -> Self {
        let keyed = |resource: Resource| {
            ((resource.group.clone(), resource.version.clone(), resource.plural.clone()), Arc::new(resource))
        };
        Self { resources: resources.into_iter().map(keyed).collect() }
    }

    /// The resource of this name.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Whether a resource that was found in an earlier registry is served as it was.
    pub fn still_has(&self, resource: &Resource) -> bool {
        let now = self.get(&resource.group, &resource.version, &resource.plural);
        now.is_some_and(|now| now.since() == resource.since())
    }

    /// The version of the store since which a definition says what it says, if it did so already.
    pub fn since(&self, definition: &Value) -> Option<u64> {
        self.all().find_map(|resource| match &resource.shape {
            Shape::Custom(custom) if custom.definition["spec"] == definition["spec"] => Some(custom.since),
            _ => None,
        })
    }

    /// Every resource, ordered by group, version and name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// The served versions of every group, most stable first, core group first.
    pub fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for (group, version, _) in self.resources.keys() {
            match groups.iter_mut().find(|(name, _)| name == group) {
                Some((_, versions)) if versions.contains(&version.as_str()) => {}
                Some((_, versions)) => versions.push(version),
                None => groups.push((group, vec![version])),
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by(|a, b| compare_versions(b, a));
        }
        groups
    }
}

/// Order of API versions by stability (`k8s.io/apimachinery/pkg/version`): v2 > v1 > v1beta2 > v1alpha1 > others.
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    let rank = |text: &str| -> Option<(u8, u32, u32)> {
        let rest = text.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        match &rest[digits..] {
            "" => Some((3, major, 0)),
            tail => tail
                .strip_prefix("beta")
                .map(|minor| (2, minor))
                .or_else(|| tail.strip_prefix("alpha").map(|minor| (1, minor)))
                .and_then(|(stability, minor)| Some((stability, major, minor.parse().ok()?))),
        }
    };
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => std::cmp::Ordering::Greater,
        (None, Some(_)) => std::cmp::Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_before_beta_and_alpha() {
        let mut versions = ["v1beta1", "v10", "foo", "v1alpha2", "v1", "v2", "v1beta3"];
        versions.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta3", "v1beta1", "v1alpha2", "foo"]);
    }
}
