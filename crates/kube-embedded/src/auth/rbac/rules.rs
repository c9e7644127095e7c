//! One rule of a role: what it allows, and whether rules cover other rules.
//!
//! The matching is that of Kubernetes' `pkg/apis/rbac/v1/evaluation_helpers.go`, the covering that of
//! `component-helpers/auth/rbac/validation/policy_comparator.go`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::authorizer::{Attributes, ResourceAttributes};

/// `PolicyRule` of `rbac.authorization.k8s.io/v1`, with empty lists for absent ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs, or `*`.
    #[serde(deserialize_with = "null_is_empty")]
    pub verbs: Vec<String>,
    /// API groups, or `*`.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, or `*`.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names of objects; empty: all.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths such as `/healthz`, with `*` at the end for what begins so.
    #[serde(rename = "nonResourceURLs", deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Rule {
    /// Whether this rule alone allows the request.
    pub fn allows(&self, request: &Attributes) -> bool {
        match request {
            Attributes::Path { verb, path } => has(&self.verbs, verb) && self.allows_path(path),
            Attributes::Resource(request) => {
                has(&self.verbs, &request.verb)
                    && has(&self.api_groups, &request.group)
                    && self.allows_resource(request)
                    && (self.resource_names.is_empty() || self.resource_names.contains(&request.name))
            }
        }
    }

    fn allows_resource(&self, request: &ResourceAttributes) -> bool {
        let combined = request.combined_resource();
        self.resources.iter().any(|resource| {
            resource == "*"
                || *resource == combined
                || (!request.subresource.is_empty() && resource.strip_prefix("*/") == Some(&request.subresource))
        })
    }

    fn allows_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|url| path_matches(url, path))
    }

    /// Whether this rule allows everything that `part`, a rule of [`Rule::parts`], does.
    fn covers(&self, part: &Self) -> bool {
        let all = |mine: &[String], theirs: &[String]| theirs.iter().all(|one| has(mine, one));
        let resource = |resource: &String| {
            has(&self.resources, resource)
                || resource.split_once('/').is_some_and(|(_, sub)| self.resources.contains(&format!("*/{sub}")))
        };
        let names = self.resource_names.is_empty()
            || (!part.resource_names.is_empty()
                && part.resource_names.iter().all(|name| self.resource_names.contains(name)));
        all(&self.verbs, &part.verbs)
            && all(&self.api_groups, &part.api_groups)
            && part.resources.iter().all(resource)
            && part.non_resource_urls.iter().all(|url| self.allows_path(url))
            && names
    }

    /// This rule as rules of one verb and one thing each.
    fn parts(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part =
                        Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    if self.resource_names.is_empty() {
                        parts.push(part.clone());
                    }
                    let named = |name| Self { resource_names: one(name), ..part.clone() };
                    parts.extend(self.resource_names.iter().map(named));
                }
            }
            let path = |url| Self { verbs: one(verb), non_resource_urls: one(url), ..Self::default() };
            parts.extend(self.non_resource_urls.iter().map(path));
        }
        parts
    }

    /// The rule as kube-apiserver prints it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    fn describe(&self) -> String {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let parts: Vec<String> = fields
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(field, values)| format!("{field}:{}", quoted(values)))
            .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// What of `wanted` the rules `held` do not allow, described line by line; `Ok` if they allow all of it.
///
/// # Errors
/// The missing rights, sorted, verbs of the same thing in one line.
pub fn covers(held: &[Rule], wanted: &[Rule]) -> Result<(), Vec<String>> {
    let missing = wanted.iter().flat_map(Rule::parts).filter(|part| !held.iter().any(|rule| rule.covers(part)));
    let mut lines: BTreeMap<[Vec<String>; 3], Rule> = BTreeMap::new();
    let mut paths = Vec::new();
    for part in missing {
        if part.resources.is_empty() {
            paths.push(part.describe());
            continue;
        }
        let key = [part.api_groups.clone(), part.resources.clone(), part.resource_names.clone()];
        match lines.get_mut(&key) {
            None => drop(lines.insert(key, part)),
            Some(rule) if has_all(&rule.verbs, &part.verbs) => {}
            Some(rule) => rule.verbs.extend(part.verbs),
        }
    }
    let mut lines: Vec<String> = lines.values().map(Rule::describe).chain(paths).collect();
    lines.sort();
    lines.dedup();
    if lines.is_empty() { Ok(()) } else { Err(lines) }
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub(super) fn quoted(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", values.join(" "))
}

fn has(list: &[String], one: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == one)
}

fn has_all(list: &[String], wanted: &[String]) -> bool {
    wanted.iter().all(|one| list.contains(one))
}

fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(|word| if word == "core" { String::new() } else { word.to_owned() }).collect()
    }

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    }

    fn paths(verbs: &str, urls: &str) -> Rule {
        Rule { verbs: list(verbs), non_resource_urls: list(urls), ..Rule::default() }
    }

    fn request(verb: &str, group: &str, resource: &str, subresource: &str, name: &str) -> Attributes {
        Attributes::Resource(ResourceAttributes {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        })
    }

    #[test]
    fn rules_match_as_in_kubernetes() {
        let table = [
            (rule("get", "core", "pods", ""), request("get", "", "pods", "", "x"), true),
            (rule("get", "core", "pods", ""), request("list", "", "pods", "", ""), false),
            (rule("get", "core", "pods", ""), request("get", "apps", "pods", "", "x"), false),
            (rule("get", "core", "pods", ""), request("get", "", "pods", "log", "x"), false),
            (rule("get", "core", "pods/log", ""), request("get", "", "pods", "log", "x"), true),
            (rule("get", "core", "pods/log", ""), request("get", "", "pods", "", "x"), false),
            (rule("*", "*", "*", ""), request("create", "apps", "statefulsets", "scale", "x"), true),
            (rule("update", "*", "*/scale", ""), request("update", "apps", "statefulsets", "scale", "x"), true),
            (rule("update", "*", "*/scale", ""), request("update", "apps", "statefulsets", "status", "x"), false),
            (rule("update", "*", "*/scale", ""), request("update", "apps", "statefulsets", "", "x"), false),
            (rule("get", "core", "secrets", "a b"), request("get", "", "secrets", "", "b"), true),
            (rule("get", "core", "secrets", "a b"), request("get", "", "secrets", "", "c"), false),
            (rule("list", "core", "secrets", "a"), request("list", "", "secrets", "", ""), false),
            (rule("", "*", "*", ""), request("get", "", "pods", "", "x"), false),
            (paths("get", "*"), request("get", "", "pods", "", "x"), false),
        ];
        for (rule, request, expected) in table {
            assert_eq!(rule.allows(&request), expected, "{rule:?} {request:?}");
        }
    }

    #[test]
    fn paths_match_by_their_beginning_only_with_a_star() {
        for (pattern, path, expected) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/ping", false),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz*", "/healthz", true),
            ("/apis/*", "/api", false),
            ("*", "/metrics", true),
        ] {
            let request = Attributes::Path { verb: "get".to_owned(), path: path.to_owned() };
            assert_eq!(paths("get", pattern).allows(&request), expected, "{pattern} {path}");
            assert!(!paths("post", pattern).allows(&request));
        }
    }

    #[test]
    fn who_holds_less_is_told_what_is_missing() {
        let held = [rule("get list", "core", "pods", ""), rule("*", "apps", "*/scale", ""), paths("get", "/api*")];
        assert_eq!(covers(&held, &[rule("get", "core", "pods", "x")]), Ok(()));
        assert_eq!(covers(&held, &[rule("patch", "apps", "statefulsets/scale", "")]), Ok(()));
        assert_eq!(covers(&held, &[paths("get", "/api/v1 /apis/*")]), Ok(()));
        let wanted = [rule("get delete create", "core", "pods secrets", ""), paths("get", "/metrics")];
        assert_eq!(
            covers(&held, &wanted).unwrap_err(),
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "create"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "delete" "create"]}"#,
                r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#,
            ]
        );
        let named = [rule("get", "core", "secrets", "a")];
        assert!(covers(&named, &[rule("get", "core", "secrets", "")]).is_err(), "all is more than some");
    }

    fn words(choices: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
        proptest::sample::subsequence(choices, 0..=choices.len())
            .prop_map(|words| words.into_iter().map(str::to_owned).collect())
    }

    prop_compose! {
        fn any_rule()(
            verbs in words(&["get", "list", "create", "*"]),
            api_groups in words(&["", "apps", "*"]),
            resources in words(&["pods", "pods/log", "secrets", "*/log", "*"]),
            resource_names in words(&["a", "b"]),
        ) -> Rule {
            Rule { verbs, api_groups, resources, resource_names, ..Rule::default() }
        }
    }

    prop_compose! {
        fn any_request()(
            verb in proptest::sample::select(&["get", "list", "create", "delete"][..]),
            group in proptest::sample::select(&["", "apps", "batch"][..]),
            resource in proptest::sample::select(&["pods", "secrets", "jobs"][..]),
            subresource in proptest::sample::select(&["", "log", "status"][..]),
            name in proptest::sample::select(&["", "a", "c"][..]),
        ) -> Attributes {
            request(verb, group, resource, subresource, name)
        }
    }

    proptest! {
        #[test]
        fn a_rule_never_allows_what_none_of_its_lists_names(rule in any_rule(), request in any_request()) {
            if rule.allows(&request) {
                let Attributes::Resource(request) = request else { unreachable!() };
                let named = |list: &[String], word: &str| list.iter().any(|entry| entry == "*" || entry == word);
                prop_assert!(named(&rule.verbs, &request.verb));
                prop_assert!(named(&rule.api_groups, &request.group));
                let resources = [request.combined_resource(), format!("*/{}", request.subresource)];
                prop_assert!(resources.iter().any(|resource| named(&rule.resources, resource)));
                prop_assert!(rule.resource_names.is_empty() || rule.resource_names.contains(&request.name));
            }
        }

        #[test]
        fn covered_rules_allow_nothing_new(held in any_rule(), wanted in any_rule(), request in any_request()) {
            if covers(std::slice::from_ref(&held), std::slice::from_ref(&wanted)).is_ok() && wanted.allows(&request) {
                prop_assert!(held.allows(&request));
            }
        }

        #[test]
        fn every_rule_covers_itself(rule in any_rule()) {
            prop_assert_eq!(covers(std::slice::from_ref(&rule), std::slice::from_ref(&rule)), Ok(()));
        }
    }
}
