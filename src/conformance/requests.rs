//! What an installation on a ready cluster may ask of the API server: one request for each of its objects, one for each of
//! its watches, and the few that are named here. Whatever else it asks is surplus.

use std::collections::BTreeSet;

use http::Uri;
use serde_json::Value;

/// A request beside those for objects and watches: its verb, its path, and why an installation can't do without. Each is sent
/// once at most.
type Unavoidable = (&'static str, &'static str, &'static str);

/// Those of every stack.
const OF_EVERY_STACK: [Unavoidable; 2] = [
    (
        "list",
        "/api/v1/namespaces/a8s-system/serviceaccounts",
        "the look whether there is a stack: nothing that is there is made again",
    ),
    (
        "dry-run create",
        "/apis/postgresql.anynines.com/v1beta3/namespaces/default/postgresqls",
        "whether admission answers is only seen where it is asked",
    ),
];

/// Those of the released stack, beside.
const OF_THE_RELEASED: [Unavoidable; 3] = [
    (
        "get",
        "/api/v1/namespaces/a8s-system/configmaps/a9s-inventory",
        "which release it is, is known before anything is fetched, and fetched before anything is made",
    ),
    ("list", "/apis/apps/v1/deployments", "a cert-manager that somebody else looks after is not replaced"),
    (
        "dry-run create",
        "/apis/cert-manager.io/v1/namespaces/default/issuers",
        "whether cert-manager's admission answers is only seen where it is asked",
    ),
];

/// What a request is for.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// An object is applied: its path.
    Applied(String),
    /// An object is made that was not there: the path of its collection. The record of a creation does not name its object.
    Made(String),
    /// A watch: its path and query, without the version from which it goes on.
    Watched(String),
    /// One that is named above, by its reason.
    Unavoidable(&'static str),
}

/// The requests of an installation, counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The objects that it has sent.
    pub objects: usize,
    /// The watches that it has begun.
    pub watches: usize,
    /// What it has asked beside, or again.
    pub surplus: Vec<String>,
}

/// Which requests an installation can't do without, beside those for its objects and its watches.
fn unavoidable(is_released: bool) -> impl Iterator<Item = Unavoidable> {
    OF_EVERY_STACK.into_iter().chain(OF_THE_RELEASED.into_iter().filter(move |_| is_released))
}

/// The same, for people.
pub fn describe(is_released: bool) -> String {
    let lines: Vec<String> =
        unavoidable(is_released).map(|(verb, path, why)| format!("{verb} {path} ({why})")).collect();
    lines.join("\n")
}

/// Counts the requests of an installation, as the audit log has them.
pub fn count(requests: &[Value], is_released: bool) -> Count {
    let mut count = Count::default();
    let mut served = BTreeSet::new();
    for request in requests {
        let purpose = purpose(request, is_released).filter(|purpose| match purpose {
            Purpose::Made(_) => true,
            // What is made is complete: it is not applied, too.
            Purpose::Applied(path) => {
                let collection = path.rsplit_once('/').map_or("", |(collection, _)| collection);
                !served.contains(purpose) && !served.contains(&Purpose::Made(collection.to_owned()))
            }
            Purpose::Watched(_) | Purpose::Unavoidable(_) => !served.contains(purpose),
        });
        match &purpose {
            Some(Purpose::Applied(_) | Purpose::Made(_)) => count.objects += 1,
            Some(Purpose::Watched(_)) => count.watches += 1,
            Some(Purpose::Unavoidable(_)) => {}
            None => count.surplus.push(line(request)),
        }
        served.extend(purpose);
    }
    count
}

/// What a request is for, if it is for something that an installation needs. One that is refused is for nothing, unless it
/// asks whether something is there.
fn purpose(request: &Value, is_released: bool) -> Option<Purpose> {
    let uri: Uri = request["requestURI"].as_str()?.parse().ok()?;
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let is_dry = query.split('&').any(|parameter| parameter == "dryRun=All");
    let verb = format!("{}{}", if is_dry { "dry-run " } else { "" }, request["verb"].as_str()?);
    if let Some((_, _, why)) = unavoidable(is_released).find(|known| (known.0, known.1) == (verb.as_str(), path)) {
        return Some(Purpose::Unavoidable(why));
    }
    let is_answered = request["responseStatus"]["code"].as_u64().is_some_and(|code| (200..300).contains(&code));
    let is_of_object = request["objectRef"]["subresource"].is_null();
    if !is_answered || !is_of_object {
        return None;
    }
    match verb.as_str() {
        "patch" => Some(Purpose::Applied(path.to_owned())),
        "create" => Some(Purpose::Made(path.to_owned())),
        "watch" => {
            let what: Vec<&str> =
                query.split('&').filter(|parameter| !parameter.starts_with("resourceVersion=")).collect();
            Some(Purpose::Watched(format!("{path}?{}", what.join("&"))))
        }
        _ => None,
    }
}

fn line(request: &Value) -> String {
    let text = |field: &str| request[field].as_str().unwrap_or_default().to_owned();
    format!("{} {} ({})", text("verb"), text("requestURI"), request["responseStatus"]["code"])
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const MAP: &str = "/api/v1/namespaces/a8s-system/configmaps/a8s-stack?fieldManager=a9s";
    const SPACES: &str = "/api/v1/namespaces?fieldManager=a9s";
    const SPACE: &str = "/api/v1/namespaces/a8s-system?fieldManager=a9s";
    const PODS: &str = "/api/v1/namespaces/a8s-system/pods?watch=true&resourceVersion=";
    const PODS_LATER: &str = "/api/v1/namespaces/a8s-system/pods?watch=true&resourceVersion=7";
    const ACCOUNTS: &str = "/api/v1/namespaces/a8s-system/serviceaccounts?fieldSelector=x";
    const RECORD: &str = "/api/v1/namespaces/a8s-system/configmaps/a9s-inventory";
    const TRIED: &str = "/apis/postgresql.anynines.com/v1beta3/namespaces/default/postgresqls?dryRun=All";

    fn surplus(requests: &[(&str, &str, u16)], is_released: bool) -> Vec<usize> {
        let events: Vec<Value> = requests
            .iter()
            .map(|(verb, uri, code)| {
                json!({"verb": verb, "requestURI": uri, "objectRef": {}, "responseStatus": {"code": code}})
            })
            .collect();
        let found = count(&events, is_released).surplus;
        let lines: Vec<String> = events.iter().map(line).collect();
        // From behind: of two that are alike, the later one is surplus.
        found.iter().filter_map(|one| lines.iter().rposition(|line| line == one)).collect()
    }

    #[rstest]
    #[case::each_once(&[("list", ACCOUNTS, 200), ("create", SPACES, 201), ("patch", MAP, 201), ("watch", PODS, 200), ("create", TRIED, 201)], false, &[])]
    #[case::two_are_made(&[("create", SPACES, 201), ("create", SPACES, 201)], false, &[])]
    #[case::applied_again(&[("patch", MAP, 201), ("patch", MAP, 200)], false, &[1])]
    #[case::made_and_applied(&[("create", SPACES, 201), ("patch", SPACE, 200)], false, &[1])]
    #[case::refused(&[("create", SPACES, 409), ("patch", MAP, 500)], false, &[0, 1])]
    #[case::looked_again(&[("list", ACCOUNTS, 200), ("list", ACCOUNTS, 200)], false, &[1])]
    #[case::watched_again(&[("watch", PODS, 200), ("watch", PODS_LATER, 200)], false, &[1])]
    #[case::tried_again(&[("create", TRIED, 404), ("create", TRIED, 201)], false, &[1])]
    #[case::other_lists(&[("list", "/api/v1/pods", 200), ("get", SPACE, 200), ("get", "/version", 200)], false, &[0, 1, 2])]
    #[case::of_the_released(&[("get", RECORD, 404), ("list", "/apis/apps/v1/deployments", 404)], true, &[])]
    #[case::of_the_other(&[("get", RECORD, 404), ("list", "/apis/apps/v1/deployments", 404)], false, &[0, 1])]
    fn only_what_is_needed_is_no_surplus(
        #[case] requests: &[(&str, &str, u16)],
        #[case] is_released: bool,
        #[case] expected: &[usize],
    ) {
        assert_eq!(surplus(requests, is_released), expected);
    }

    #[test]
    fn objects_and_watches_are_counted() {
        let event = |verb: &str, uri: &str| json!({"verb": verb, "requestURI": uri, "responseStatus": {"code": 200}});
        let whole = format!("https://127.0.0.1:6443{MAP}");
        let events = [event("create", SPACES), event("patch", &whole), event("watch", PODS)];
        assert_eq!(count(&events, false), Count { objects: 2, watches: 1, surplus: Vec::new() });
    }
}
