//! Label and field selectors (`k8s.io/apimachinery/pkg/labels` and `fields`).

use serde_json::Value;

use super::builtin::events;
use super::registry::{Resource, Shape};
use crate::status::Status;

/// What a list, a watch or a deletion of many is restricted to.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LabelRequirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

#[derive(Debug, Clone)]
struct FieldRequirement {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Parses both parameters, and refuses fields that `resource` does not support.
    pub fn parse(resource: &Resource, labels: Option<&str>, fields: Option<&str>) -> Result<Self, Status> {
        let labels = parse_labels(labels.unwrap_or_default())
            .map_err(|why| Status::bad_request(format!("unable to parse requirement: {why}")))?;
        let mut fields = parse_fields(fields.unwrap_or_default())?;
        for requirement in &mut fields {
            if !supported(resource, &requirement.path) {
                return Err(Status::bad_request(format!("field label not supported: {}", requirement.path)));
            }
            // What is stored is what is selected.
            if resource.group == events::GROUP {
                requirement.path = events::stored_path(&requirement.path);
            }
        }
        Ok(Self { labels, fields })
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether `object` is meant.
    pub fn matches(&self, object: &Value) -> bool {
        if self.is_empty() {
            return true;
        }
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|requirement| requirement.matches(labels[&requirement.key].as_str()))
            && self
                .fields
                .iter()
                .all(|requirement| (field(object, &requirement.path) == requirement.value) == requirement.equal)
    }
}

impl LabelRequirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|text| text.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Operator::NotIn(values) => value.is_none_or(|value| values.iter().all(|wanted| wanted != value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Operator::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// The fields that kube-apiserver can select by: name and namespace, and of a custom resource those that its definition
/// names.
fn supported(resource: &Resource, path: &str) -> bool {
    if path == "metadata.name" || (path == "metadata.namespace" && (resource.namespaced || !resource.is_custom())) {
        return true;
    }
    if let Shape::Custom(custom) = &resource.shape {
        return custom.selectable.iter().any(|field| field == path);
    }
    let more: &[&str] = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        (events::GROUP, "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        _ => &[],
    };
    more.contains(&path)
}

fn field(object: &Value, path: &str) -> String {
    let found = match path {
        "source" => &object["source"]["component"],
        _ => path.split('.').fold(object, |value, part| &value[part]),
    };
    match found {
        Value::String(text) => text.clone(),
        Value::Null if path == "spec.hostNetwork" || path == "spec.unschedulable" => "false".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Whether a `LabelSelector` object (`matchLabels`, `matchExpressions`) matches these labels. An empty one matches all.
pub fn matches_labels(selector: &Value, labels: &Value) -> bool {
    let equal = |(key, value): (&String, &Value)| labels.get(key) == Some(value);
    let expression = |expression: &Value| {
        let value = labels[expression["key"].as_str().unwrap_or_default()].as_str();
        let listed = || expression["values"].as_array().into_iter().flatten().any(|wanted| wanted.as_str() == value);
        match expression["operator"].as_str() {
            Some("In") => value.is_some() && listed(),
            Some("NotIn") => value.is_none() || !listed(),
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            _ => false,
        }
    };
    selector["matchLabels"].as_object().into_iter().flatten().all(equal)
        && selector["matchExpressions"].as_array().into_iter().flatten().all(expression)
}

/// A `LabelSelector` object as text, as `scale.status.selector` has it.
pub fn label_text(selector: &Value) -> String {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let mut parts: Vec<String> =
        equal.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        parts.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}

fn parse_fields(text: &str) -> Result<Vec<FieldRequirement>, Status> {
    let mut requirements = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = part.split_once("==") {
            (path, value, true)
        } else if let Some((path, value)) = part.split_once('=') {
            (path, value, true)
        } else {
            return Err(Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")));
        };
        let value = value.replace("\\,", ",").replace("\\=", "=").replace("\\\\", "\\");
        requirements.push(FieldRequirement { path: path.to_owned(), value, equal });
    }
    Ok(requirements)
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, String> {
    let mut requirements = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = end_of_requirement(rest);
        requirements.push(parse_label(rest[..end].trim())?);
        rest = rest.get(end + 1..).unwrap_or_default().trim_start();
    }
    Ok(requirements)
}

/// Commas inside parentheses separate values, not requirements.
fn end_of_requirement(text: &str) -> usize {
    let mut depth = 0_u32;
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => return index,
            _ => {}
        }
    }
    text.len()
}

fn parse_label(text: &str) -> Result<LabelRequirement, String> {
    let requirement = |key: &str, operator| {
        let key = key.trim();
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || "()=!,<>".contains(c)) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        super::names::qualified_name(key).map_err(|why| format!("key: Invalid value: \"{key}\": {why}"))?;
        if let Operator::In(values) | Operator::NotIn(values) = &operator {
            for value in values {
                super::names::label_value(value)
                    .map_err(|why| format!("values[0][{key}]: Invalid value: \"{value}\": {why}"))?;
            }
        }
        Ok(LabelRequirement { key: key.to_owned(), operator })
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((head, values)) = text.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(|| format!("found '{values}', expected: ')'"))?;
        let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => requirement(key, Operator::In(values)),
            [key, "notin"] => requirement(key, Operator::NotIn(values)),
            _ => Err(format!("found '{head}', expected: in, notin, =, ==, !=, gt, lt")),
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return requirement(key, Operator::NotIn(one(value)));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return requirement(key, Operator::In(one(value)));
    }
    for (sign, make) in [('>', Operator::GreaterThan as fn(i64) -> Operator), ('<', Operator::LessThan)] {
        if let Some((key, value)) = text.split_once(sign) {
            let bound = value.trim().parse().map_err(|_| "for 'Gt', 'Lt' operators, the value must be an integer")?;
            return requirement(key, make(bound));
        }
    }
    match text.strip_prefix('!') {
        Some(key) => requirement(key, Operator::DoesNotExist),
        None => requirement(text, Operator::Exists),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(selector: &str, labels: Value) -> bool {
        let selector = Selector { labels: parse_labels(selector).unwrap(), fields: Vec::new() };
        selector.matches(&json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        let labels = json!({"app": "web", "tier": "2"});
        for yes in [
            "",
            "app",
            "app=web",
            "app==web",
            "app in (web, db)",
            "tier>1",
            "!x",
            "x!=y",
            "app notin (db),tier=2",
            "x notin (a)",
        ] {
            assert!(matches(yes, labels.clone()), "{yes}");
        }
        for no in ["x", "app=db", "app!=web", "app in (db,x)", "tier<2", "!app", "app=web,x"] {
            assert!(!matches(no, labels.clone()), "{no}");
        }
    }

    #[test]
    fn malformed_label_selectors_are_errors() {
        for bad in ["a b", "in (x)", "a in x", "a in (x", "=x", "tier>x", "a=b c"] {
            assert!(parse_labels(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors_compare_text() {
        let pods = super::super::builtin::resources().into_iter().find(|resource| resource.plural == "pods").unwrap();
        let selector = Selector::parse(&pods, None, Some("spec.nodeName=n,metadata.name!=a")).unwrap();
        assert!(selector.matches(&json!({"metadata": {"name": "b"}, "spec": {"nodeName": "n"}})));
        assert!(!selector.matches(&json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}})));
        let error = Selector::parse(&pods, None, Some("spec.foo=x")).unwrap_err();
        assert_eq!(error.to_string(), "field label not supported: spec.foo");
    }
}
