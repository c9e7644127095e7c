//! Before a run on an existing cluster: it answers, it has the stack, and we may do there what the scenarios do.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::api::{ListParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, ResourceExt};

use super::world::RUN_LABEL;
use super::{command, observe, outside};
use crate::finding::{Class, Finding, Id};
use crate::kubernetes::{DOES_IT_RUN, Error, Target, within};
use crate::proxy;
use crate::steps::{capability, stack};

/// Verbs, group, resource, subresource.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// What all scenarios do, and what takes back what they have made, besides looking at what a namespace holds.
const NEEDED: &[Row] = &[
    ("create get list watch delete", "", "namespaces", ""),
    ("get list", "apiextensions.k8s.io", "customresourcedefinitions", ""),
    ("create get watch patch delete deletecollection", "postgresql.anynines.com", "postgresqls", ""),
    ("get patch", "postgresql.anynines.com", "postgresqls", "scale"),
    ("create get watch patch delete deletecollection", "backups.anynines.com", "backups", ""),
    ("create get watch patch delete deletecollection", "backups.anynines.com", "restores", ""),
    ("create get watch patch delete deletecollection", "servicebindings.anynines.com", "servicebindings", ""),
    ("create watch patch delete", "", "pods", ""),
    // A WebSocket begins with a GET; SPDY, and a newer API server, want the other.
    ("create get", "", "pods", "exec"),
    ("create get", "", "pods", "portforward"),
    ("get", "", "pods", "log"),
    ("create", "", "pods", "eviction"),
    ("create watch patch delete", "", "secrets", ""),
    ("create patch delete watch", "", "services", ""),
    ("watch delete", "", "persistentvolumeclaims", ""),
    ("create patch", "", "configmaps", ""),
    ("watch patch delete", "apps", "statefulsets", ""),
    ("create", "", "serviceaccounts", ""),
    ("create", "", "serviceaccounts", "token"),
    ("create watch patch delete", "coordination.k8s.io", "leases", ""),
];

/// What those do besides that have kubectl do it.
const KUBECTL: &[Row] = &[
    ("watch patch delete", "apiextensions.k8s.io", "customresourcedefinitions", ""),
    // What a ServiceAccount may do is asked in its name.
    ("impersonate", "", "serviceaccounts", ""),
    ("create watch delete", "rbac.authorization.k8s.io", "roles", ""),
    // `kubectl get all`, and what else is shown of a cluster.
    ("list", "", "replicationcontrollers", ""),
    ("list", "apps", "daemonsets", ""),
    ("list", "apps", "deployments", ""),
    ("list", "apps", "replicasets", ""),
    ("list", "autoscaling", "horizontalpodautoscalers", ""),
    ("list", "batch", "cronjobs", ""),
    ("list", "batch", "jobs", ""),
    ("list", "", "nodes", ""),
    ("list", "", "persistentvolumes", ""),
    ("list", "storage.k8s.io", "storageclasses", ""),
];

/// What those do besides that disturb others.
const DISRUPTIVE: &[Row] = &[
    ("get list patch", "", "nodes", ""),
    // A drain leaves what a DaemonSet has there.
    ("get", "apps", "daemonsets", ""),
    ("get patch", "apps", "deployments", ""),
    ("get patch", "apps", "deployments", "scale"),
    // The operators that were away are installed again, with all that belongs to them.
    ("patch", "", "namespaces", ""),
    ("patch", "", "serviceaccounts", ""),
    ("patch", "apps", "statefulsets", ""),
    ("patch", "rbac.authorization.k8s.io", "roles", ""),
    ("patch", "rbac.authorization.k8s.io", "rolebindings", ""),
    ("get patch", "rbac.authorization.k8s.io", "clusterroles", ""),
    ("get patch", "rbac.authorization.k8s.io", "clusterrolebindings", ""),
    ("create get list watch patch delete", "admissionregistration.k8s.io", "validatingwebhookconfigurations", ""),
];

/// What those do besides that empty volumes.
const LOCAL_VOLUMES: &[Row] = &[("get", "", "persistentvolumes", "")];

/// What scenarios do besides, by the tag that says so.
const OF_TAGS: [(&str, &[Row]); 3] =
    [("kubectl", KUBECTL), ("disruptive", DISRUPTIVE), ("local-volumes", LOCAL_VOLUMES)];

/// What scenarios with these tags do: one permission each, also to see what a namespace holds.
pub fn needed(tags: &BTreeSet<String>) -> BTreeSet<Row> {
    let of_tags = OF_TAGS.into_iter().filter(|(tag, _)| tags.contains(*tag)).flat_map(|(_, rows)| rows);
    let held = observe::resources().map(|(group, resource)| ("get list", group, resource, ""));
    let each = |(verbs, group, resource, subresource): Row| {
        verbs.split(' ').map(move |verb| (verb, group, resource, subresource))
    };
    NEEDED.iter().chain(of_tags).copied().chain(held).flat_map(each).collect()
}

/// Annotation of the class that claims without one get (Kubernetes documentation, "Storage Classes").
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// How long an unreachable cluster may keep us.
const PATIENCE: Duration = Duration::from_secs(15);

/// A cluster that was made by somebody else.
#[derive(Debug, Clone)]
pub struct Existing {
    /// A kubeconfig of its context alone.
    pub kubeconfig: Kubeconfig,
    /// The context.
    pub context: String,
    /// URL of the API server.
    pub server: String,
    /// Version of Kubernetes.
    pub version: Info,
    /// Which stack it has: `builtin`, or `upstream` where nothing says so.
    pub stack: String,
    /// Whether it runs Deployments; the embedded cluster has no images to run.
    pub has_deployments: bool,
    /// Whether volumes of its default class keep the size they were made with.
    pub has_fixed_volumes: bool,
    /// The default class, if it retains volumes whose claims are gone.
    pub retaining_class: Option<String>,
    /// Whether it is known to have no default class.
    pub has_no_class: bool,
    /// Whether several of its nodes take pods that tolerate nothing.
    pub has_several_nodes: bool,
    /// What the stack can do besides what every stack can.
    pub capabilities: BTreeSet<String>,
    /// Namespaces of other runs, which go on or were killed.
    pub of_other_runs: Vec<String>,
    /// What may not be listed: nobody looks whether the run leaves some of it outside the namespaces of scenarios.
    pub unseen: Vec<String>,
}

/// Looks, also whether what scenarios with these tags do may be done.
///
/// # Errors
/// The context is not there, the cluster does not answer, has no stack, or does not let us.
pub async fn check(target: &Target, tags: &BTreeSet<String>) -> Result<Existing, Finding> {
    let looked = within(PATIENCE, look(target, tags)).await;
    let looked = looked.unwrap_or_else(|_| {
        let cause = format!("the cluster did not answer within {} s", PATIENCE.as_secs());
        Err(Finding::new(Id::ClusterUnreachable, cause).advise(DOES_IT_RUN))
    });
    // A refusal is one more thing that a run needs and does not have.
    looked.map_err(|finding| match finding.class() {
        Class::Refused => Finding { id: Id::NoPermission, ..finding },
        _ => finding,
    })
}

async fn look(target: &Target, tags: &BTreeSet<String>) -> Result<Existing, Finding> {
    let connection = target.connect().await?;
    let client = connection.client.clone();
    let version = client.apiserver_version().await.map_err(|error| Error::request("reach the cluster", error))?;
    permissions(&client, &connection.context, needed(tags)).await?;
    stack::require(&client).await?;
    let stack = capability::stack(&client).await?;
    let apps = client.list_api_group_resources("apps/v1").await;
    let apps = apps.map_err(|error| Error::request("ask for the kinds of apps/v1", error))?;
    let classes = classes(&client).await;
    let class = classes.as_deref().and_then(default_class);
    let retains = |class: &&StorageClass| class.reclaim_policy.as_deref() == Some(outside::RETAIN);
    // Scenarios do not have the caller's environment.
    let proxy = connection.server.parse::<http::Uri>().ok().and_then(|server| proxy::of(&server));
    Ok(Existing {
        kubeconfig: alone(target.read()?, &connection.context, proxy.map(|proxy| proxy.address.to_string())),
        context: connection.context,
        server: connection.server,
        version,
        has_deployments: apps.resources.iter().any(|resource| resource.kind == "Deployment"),
        has_fixed_volumes: class.is_some_and(|class| class.allow_volume_expansion != Some(true)),
        retaining_class: class.filter(retains).map(ResourceExt::name_any),
        has_no_class: classes.is_some() && class.is_none(),
        has_several_nodes: has_several_nodes(&client).await,
        stack: stack.stack,
        capabilities: stack.capabilities.into_iter().collect(),
        of_other_runs: of_other_runs(&client).await,
        unseen: unseen(&client).await?,
    })
}

/// Who may not know it does without the word about them.
async fn of_other_runs(client: &Client) -> Vec<String> {
    let labelled = ListParams::default().labels(RUN_LABEL);
    let namespaces = Api::<Namespace>::all(client.clone()).list_metadata(&labelled).await;
    namespaces.map(|list| list.iter().map(ResourceExt::name_any).collect()).unwrap_or_default()
}

/// Who may not know them does without what depends on them.
async fn classes(client: &Client) -> Option<Vec<StorageClass>> {
    let classes = Api::<StorageClass>::all(client.clone()).list(&ListParams::default()).await;
    classes.ok().map(|list| list.items)
}

/// The class of claims that name none, of several the newest, then the first by name (`GetDefaultClass` in
/// `pkg/volume/util/storageclass.go`).
fn default_class(classes: &[StorageClass]) -> Option<&StorageClass> {
    let is_default = |class: &&StorageClass| class.annotations().get(DEFAULT_CLASS).is_some_and(|it| it == "true");
    classes.iter().filter(is_default).min_by_key(|class| (Reverse(class.creation_timestamp()), class.name_any()))
}

/// Who may not know it does without the scenarios about them.
async fn has_several_nodes(client: &Client) -> bool {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.map(|list| list.items).unwrap_or_default();
    let takes_pods = |node: &&Node| node.spec.as_ref().is_none_or(|spec| spec.taints.iter().flatten().count() == 0);
    nodes.iter().filter(takes_pods).count() > 1
}

/// All that is missing is said at once.
async fn permissions(client: &Client, context: &str, needed: BTreeSet<Row>) -> Result<(), Finding> {
    let missing: Vec<String> = missing(client, needed)
        .await?
        .into_iter()
        .map(|(verb, group, resource, subresource)| format!("{verb} {}", name(group, resource, subresource)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let cause = format!("the user of the context {context} may not do what the suite does on this cluster");
    Err(Finding::new(Id::NoPermission, cause)
        .with("missing permissions", missing)
        .advise("Use a context whose user may do this in all namespaces, such as a cluster's administrator."))
}

/// Who may not look for what is left does without.
async fn unseen(client: &Client) -> Result<Vec<String>, Finding> {
    let listed = outside::resources().map(|(group, resource)| ("list", group, resource, "")).collect();
    let missing = missing(client, listed).await?.into_iter();
    Ok(missing.map(|(_, group, resource, _)| name(group, resource, "")).collect())
}

/// A resource as people write it.
fn name(group: &str, resource: &str, subresource: &str) -> String {
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    let subresource = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    format!("{resource}{group}{subresource}")
}

/// Which of these permissions the user of the context does not have.
async fn missing(client: &Client, rows: BTreeSet<Row>) -> Result<Vec<Row>, Finding> {
    let answers: Vec<_> = rows.iter().map(|row| may(client, *row)).collect();
    let answers: Vec<bool> = stream::iter(answers).buffered(outside::AT_ONCE).try_collect().await?;
    Ok(rows.into_iter().zip(answers).filter(|(_, may)| !may).map(|(row, _)| row).collect())
}

async fn may(client: &Client, (verb, group, resource, subresource): Row) -> Result<bool, Finding> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: (!subresource.is_empty()).then(|| subresource.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await;
    let answer = answer.map_err(|error| Error::request("ask what the user of the context may do", error))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Only what one context needs: scenarios get a copy, and no scenario should see another cluster. Where it names no proxy
/// it gets the caller's.
fn alone(mut kubeconfig: Kubeconfig, context: &str, proxy: Option<String>) -> Kubeconfig {
    kubeconfig.contexts.retain(|entry| entry.name == context);
    let of_context = kubeconfig.contexts.first().and_then(|entry| entry.context.clone()).unwrap_or_default();
    kubeconfig.clusters.retain(|entry| entry.name == of_context.cluster);
    kubeconfig.auth_infos.retain(|entry| Some(&entry.name) == of_context.user.as_ref());
    kubeconfig.current_context = Some(context.to_owned());
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|entry| entry.cluster.as_mut()) {
        cluster.proxy_url = cluster.proxy_url.take().or_else(|| proxy.clone());
    }
    for exec in kubeconfig.auth_infos.iter_mut().filter_map(|entry| entry.auth_info.as_mut()?.exec.as_mut()) {
        let known = exec.env.get_or_insert_default();
        // What its user has said about a variable comes last, and counts.
        known.splice(0..0, of_caller(command::callers_variables()));
    }
    kubeconfig
}

/// Variables by which programs that get credentials find what their user has given them.
const CREDENTIALS: [&str; 4] = ["AWS_", "AZURE_", "CLOUDSDK_", "GOOGLE_"];

/// Variables by which they find the way to who gives them, in capitals or not.
const PROXIES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];

/// What a program that gets credentials needs of the caller's environment, which scenarios do not have.
fn of_caller(variables: impl Iterator<Item = (String, String)>) -> Vec<HashMap<String, String>> {
    let is_needed = |name: &str| {
        name == "HOME"
            || CREDENTIALS.iter().any(|begin| name.starts_with(begin))
            || PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
    };
    let needed = variables.filter(|(name, _)| is_needed(name));
    needed.map(|(name, value)| [("name".to_owned(), name), ("value".to_owned(), value)].into()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use regex::Regex;

    use super::*;
    use crate::conformance::catalogue::{Catalogue, Sources};

    /// Where no existing cluster is asked for anything.
    const NOT_THERE: [&str; 3] = ["cluster", "embedded-only", "needs-audit"];

    /// Group and plural of what features name to kubectl; `all` is a category.
    fn resource(word: &str) -> Option<(&'static str, &'static str)> {
        Some(match word {
            "all" => return None,
            "pg" | "postgresql" => ("postgresql.anynines.com", "postgresqls"),
            "bkp" => ("backups.anynines.com", "backups"),
            "rst" => ("backups.anynines.com", "restores"),
            "sb" => ("servicebindings.anynines.com", "servicebindings"),
            "pod" | "pods" => ("", "pods"),
            "secret" | "secrets" => ("", "secrets"),
            "service" | "svc" => ("", "services"),
            "configmap" => ("", "configmaps"),
            "namespace" => ("", "namespaces"),
            "nodes" => ("", "nodes"),
            "pv" => ("", "persistentvolumes"),
            "pvc" => ("", "persistentvolumeclaims"),
            "sa" => ("", "serviceaccounts"),
            "ep" => ("", "endpoints"),
            "sts" => ("apps", "statefulsets"),
            "deployment" => ("apps", "deployments"),
            "validatingwebhookconfiguration" => ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
            "sc" => ("storage.k8s.io", "storageclasses"),
            "lease" => ("coordination.k8s.io", "leases"),
            "role" => ("rbac.authorization.k8s.io", "roles"),
            "rolebindings" => ("rbac.authorization.k8s.io", "rolebindings"),
            "crd" => ("apiextensions.k8s.io", "customresourcedefinitions"),
            other => panic!("this test does not know the resource {other}"),
        })
    }

    /// What kubectl asks of the API server for a command line, as far as its words tell.
    fn requests(words: &[String]) -> Vec<Row> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words.contains(&"--as") {
            return vec![("impersonate", "", "serviceaccounts", "")];
        }
        let (command, arguments) = words.split_first().expect("a command");
        let verbs: &[&str] = match *command {
            "api-resources" | "apply" | "auth" | "config" | "explain" => return Vec::new(),
            "create" if arguments.first() == Some(&"token") => return vec![("create", "", "serviceaccounts", "token")],
            "exec" | "cp" => return vec![("get", "", "pods", ""), ("create", "", "pods", "exec")],
            "port-forward" => return vec![("get", "", "pods", ""), ("create", "", "pods", "portforward")],
            "logs" => return vec![("get", "", "pods", "log")],
            "events" => return vec![("list", "", "events", "")],
            "uncordon" => return vec![("patch", "", "nodes", "")],
            "drain" => return vec![("patch", "", "nodes", ""), ("create", "", "pods", "eviction")],
            "create" => &["create"],
            "delete" => &["delete", "list", "watch"],
            "describe" | "get" if arguments.get(1).is_some_and(|name| !name.starts_with('-')) => &["get"],
            "describe" | "get" => &["list"],
            "annotate" | "label" | "patch" | "taint" => &["get", "patch"],
            "scale" => &["patch"],
            "wait" => &["list", "watch"],
            other => panic!("this test does not know the command {other}"),
        };
        let first = arguments.iter().find(|word| !word.starts_with('-'));
        // What follows -l selects by a label, whose name may have a slash, too.
        let more = arguments.windows(2).filter(|pair| *command == "delete" && pair[0] != "-l" && pair[1].contains('/'));
        let more = more.map(|pair| &pair[1]);
        let named = first.into_iter().chain(more).flat_map(|word| word.split(','));
        let resources = named.filter_map(|name| resource(name.split('/').next().unwrap_or_default()));
        let subresource = if *command == "scale" { "scale" } else { "" };
        resources
            .flat_map(|(group, resource)| verbs.iter().map(move |verb| (*verb, group, resource, subresource)))
            .collect()
    }

    #[test]
    fn what_features_let_kubectl_do_on_an_existing_cluster_is_asked_for_before() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("features");
        let catalogue = Catalogue::read(&Sources::from_directory(&directory).unwrap());
        let line = Regex::new("`kubectl ([^`]+)`").unwrap();
        let mut seen = 0;
        for entry in &catalogue.entries {
            if NOT_THERE.iter().any(|tag| entry.tags.contains(*tag)) {
                continue;
            }
            let asked = needed(&entry.tags);
            for captures in entry.steps().flat_map(|step| line.captures_iter(&step.value)) {
                for request in requests(&command::words(&captures[1])) {
                    assert!(asked.contains(&request), "{}: {}: {request:?} is not asked for", entry.id, &captures[0]);
                    seen += 1;
                }
            }
        }
        assert!(seen > 50, "only {seen} requests were looked at");
    }

    #[test]
    fn what_only_some_scenarios_do_is_asked_for_only_where_they_are_to_run() {
        let of = |tag: &str| needed(&[tag.to_owned()].into());
        let all = of("smoke");
        let (drain, impersonate) = (("patch", "", "nodes", ""), ("impersonate", "", "serviceaccounts", ""));
        assert!(all.contains(&("create", "", "namespaces", "")));
        assert!(!all.contains(&drain) && !all.contains(&impersonate));
        assert!(of("disruptive").contains(&drain) && of("kubectl").contains(&impersonate));
        assert!(OF_TAGS.iter().all(|&(tag, _)| of(tag).is_superset(&all)));
    }

    #[test]
    fn a_scenario_sees_one_cluster_only() {
        let text = "{current-context: b, contexts: [{name: a, context: {cluster: a, user: a}}, \
            {name: b, context: {cluster: b, user: b}}], clusters: [{name: a, cluster: {server: 'https://a'}}, \
            {name: b, cluster: {server: 'https://b'}}], users: [{name: a, user: {}}, {name: b, user: {}}]}";
        let kubeconfig = alone(Kubeconfig::from_yaml(text).unwrap(), "a", None);
        assert_eq!(kubeconfig.current_context.as_deref(), Some("a"));
        assert_eq!((kubeconfig.clusters.len(), kubeconfig.clusters[0].name.as_str()), (1, "a"));
        assert_eq!((kubeconfig.auth_infos.len(), kubeconfig.contexts.len()), (1, 1));
    }

    #[test]
    fn of_several_default_classes_the_newest_counts_then_the_name() {
        let class = |name: &str, is_default: &str, made: &str| -> StorageClass {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name, "annotations": {DEFAULT_CLASS: is_default}, "creationTimestamp": made},
                "provisioner": "x",
            }))
            .unwrap()
        };
        let first = class("first", "true", "2026-01-02T03:04:05Z");
        let [newer, twin] = ["newer", "twin"].map(|name| class(name, "true", "2026-01-02T03:04:06Z"));
        let other = class("other", "false", "2026-01-02T03:04:07Z");
        let default = |classes: &[StorageClass]| default_class(classes).map(ResourceExt::name_any);
        assert_eq!(default(&[newer, first, twin, other.clone()]).as_deref(), Some("newer"));
        assert_eq!(default(&[other]), None);
    }

    #[test]
    fn a_scenario_goes_by_the_callers_proxy_where_its_kubeconfig_names_none() {
        for (own, expected) in [("", "http://callers:3128/"), (", proxy-url: 'http://own:3128'", "http://own:3128")] {
            let text = format!(
                "{{contexts: [{{name: a, context: {{cluster: a, user: a}}}}], \
                 clusters: [{{name: a, cluster: {{server: 'https://a'{own}}}}}]}}"
            );
            let proxy = Some("http://callers:3128/".to_owned());
            let kubeconfig = alone(Kubeconfig::from_yaml(&text).unwrap(), "a", proxy);
            let found = kubeconfig.clusters[0].cluster.as_ref().and_then(|cluster| cluster.proxy_url.as_deref());
            assert_eq!(found, Some(expected));
        }
    }

    #[test]
    fn a_program_that_gets_credentials_finds_those_of_its_user() {
        let proxy = ("https_proxy", "http://proxy:3128");
        let variables = [("HOME", "/home/me"), ("AWS_PROFILE", "work"), ("EDITOR", "vi"), proxy];
        let found = of_caller(variables.map(|(name, value)| (name.into(), value.into())).into_iter());
        let expected = [("HOME", "/home/me"), ("AWS_PROFILE", "work"), proxy];
        let expected = expected.map(|(name, value)| {
            HashMap::from([("name".to_owned(), name.to_owned()), ("value".to_owned(), value.to_owned())])
        });
        assert_eq!(found, expected);
    }
}
