//! The environment of a container: `env` and `envFrom`, references to other objects, `$(NAME)` expansion.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use super::downward::{self, Capacity, Place};

/// The data of a ConfigMap or Secret, as variables can have it.
pub type Data = BTreeMap<String, String>;

/// Whence references are answered. Absent objects are `None`.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// ConfigMaps of the pod's namespace that the container names.
    pub config_maps: BTreeMap<String, Option<Data>>,
    /// Secrets likewise, decoded.
    pub secrets: BTreeMap<String, Option<Data>>,
    /// The variables of Services, which a container has unless it sets others of these names.
    pub services: Data,
}

/// The ConfigMaps and Secrets whose data a container's environment needs.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let mut config_maps = Vec::new();
    let mut secrets = Vec::new();
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|reference| reference.name.clone()));
    }
    (config_maps, secrets)
}

/// The variables that the container's specification gives it, in order, later ones winning.
///
/// # Errors
/// The message of `CreateContainerConfigError`, in the kubelet's words (`kubelet_pods.go`, `makeEnvironmentVariables`).
pub fn variables(
    pod: &Pod,
    container: &Container,
    place: &Place,
    sources: &Sources,
    capacity: &Capacity,
) -> Result<Vec<(String, String)>, String> {
    let mut result = Environment::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (data, is_optional, what, name) = if let Some(reference) = &from.config_map_ref {
            let data = sources.config_maps.get(&reference.name);
            (data, reference.optional, "configmap", &reference.name)
        } else if let Some(reference) = &from.secret_ref {
            (sources.secrets.get(&reference.name), reference.optional, "secret", &reference.name)
        } else {
            continue;
        };
        match data.and_then(Option::as_ref) {
            Some(data) => data.iter().for_each(|(key, value)| result.set(format!("{prefix}{key}"), value.clone())),
            None if is_optional == Some(true) => {}
            None => return Err(format!("{what} \"{name}\" not found")),
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, container, variable, place, sources, capacity, &result)? {
            result.set(variable.name.clone(), value);
        }
    }
    if let Some(defect) = sabotage::chosen() {
        result.set(sabotage::VARIABLE.to_owned(), defect);
    }
    Ok(result.0)
}

/// Variables in the order in which they were first set.
#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn value(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    place: &Place,
    sources: &Sources,
    capacity: &Capacity,
    so_far: &Environment,
) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or_default();
        let known = |name: &str| so_far.get(name).or_else(|| sources.services.get(name).map(String::as_str));
        return Ok(Some(expand(text, |name| known(name).map(str::to_owned))));
    };
    if let Some(reference) = &source.field_ref {
        return downward::field(pod, place, &reference.field_path).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return downward::resource(pod, container, reference, capacity).map(Some);
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_key_ref {
        let data = sources.config_maps.get(&reference.name).and_then(Option::as_ref);
        return keyed(data, ("configmap", "ConfigMap"), namespace, &reference.name, &reference.key, reference.optional);
    }
    if let Some(reference) = &source.secret_key_ref {
        let data = sources.secrets.get(&reference.name).and_then(Option::as_ref);
        return keyed(data, ("secret", "Secret"), namespace, &reference.name, &reference.key, reference.optional);
    }
    Ok(Some(String::new()))
}

fn keyed(
    data: Option<&Data>,
    (resource, kind): (&str, &str),
    namespace: &str,
    name: &str,
    key: &str,
    is_optional: Option<bool>,
) -> Result<Option<String>, String> {
    match (data, data.and_then(|data| data.get(key))) {
        (_, Some(value)) => Ok(Some(value.clone())),
        _ if is_optional == Some(true) => Ok(None),
        (None, None) => Err(format!("{resource} \"{name}\" not found")),
        (Some(_), None) => Err(format!("couldn't find key {key} in {kind} {namespace}/{name}")),
    }
}

/// Replaces `$(NAME)` by the variable's value and `$$` by `$`; an unknown name stays as it is (kubernetes/kubernetes
/// `third_party/forked/golang/expansion`).
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => result.push_str(&value),
                None => {
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn make(container: Value) -> Result<Vec<(String, String)>, String> {
        let container: Container = serde_json::from_value(container).unwrap();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}})).unwrap();
        let data: Data = [("k".to_owned(), "v".to_owned()), ("l".to_owned(), "w".to_owned())].into();
        let sources = Sources {
            config_maps: [("cm".to_owned(), Some(data.clone())), ("gone".to_owned(), None)].into(),
            secrets: [("s".to_owned(), Some(data)), ("gone".to_owned(), None)].into(),
            services: [("KUBERNETES_SERVICE_HOST".to_owned(), "127.64.0.1".to_owned())].into(),
        };
        let place = Place { pod_ip: "127.64.0.2".into(), host_ip: "127.64.0.1".into() };
        variables(&pod, &container, &place, &sources, &Capacity { cpus: 1.0, memory: 1.0, storage: 1.0 })
    }

    #[test]
    fn names_are_expanded_from_earlier_variables_only() {
        let made = make(json!({"name": "c", "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(C)-$$(A)-$A-$(A"},
            {"name": "C", "value": "3"},
            {"name": "A", "value": "again $(A)"},
        ]}))
        .unwrap();
        let expected = [("A", "again 1"), ("B", "1-$(C)-$(A)-$A-$(A"), ("C", "3")];
        assert_eq!(made, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn variables_of_services_are_expanded_unless_the_container_sets_its_own() {
        let value = "https://$(KUBERNETES_SERVICE_HOST)";
        let made = make(json!({"name": "c", "env": [
            {"name": "A", "value": value},
            {"name": "KUBERNETES_SERVICE_HOST", "value": "own"},
            {"name": "B", "value": value},
        ]}))
        .unwrap();
        let expected = [("A", "https://127.64.0.1"), ("KUBERNETES_SERVICE_HOST", "own"), ("B", "https://own")];
        assert_eq!(made, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn whole_objects_come_first_and_env_wins() {
        let made = make(json!({"name": "c",
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
            "env": [{"name": "k", "value": "own"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        }))
        .unwrap();
        let expected = [("X_k", "v"), ("X_l", "w"), ("k", "own"), ("l", "w"), ("IP", "127.64.0.2")];
        assert_eq!(made, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_missing_is_said_unless_it_is_optional() {
        let key = |what: &str, name: &str, key: &str, optional: bool| {
            make(json!({"name": "c", "env": [
                {"name": "A", "valueFrom": {what: {"name": name, "key": key, "optional": optional}}}]}))
        };
        assert_eq!(key("secretKeyRef", "gone", "k", false).unwrap_err(), "secret \"gone\" not found");
        assert_eq!(key("secretKeyRef", "s", "x", false).unwrap_err(), "couldn't find key x in Secret ns/s");
        assert_eq!(key("configMapKeyRef", "cm", "x", false).unwrap_err(), "couldn't find key x in ConfigMap ns/cm");
        assert_eq!(key("configMapKeyRef", "gone", "x", true).unwrap(), []);
        let from = make(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]}));
        assert_eq!(from.unwrap_err(), "configmap \"gone\" not found");
    }
}
