//! Observations of two runs are compared, on other clusters and other days: what differs for no reason is taken out.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// Fields that have another value every time.
const VOLATILE: [&str; 46] = [
    "acquireTime",
    "addresses",
    "caBundle",
    "clusterIP",
    "clusterIPs",
    "containerID",
    "controller-revision-hash",
    "creationTimestamp",
    "currentRevision",
    "deletionTimestamp",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "eventTime",
    "finishedAt",
    "firstTimestamp",
    "generation",
    "holderIdentity",
    "hostIP",
    "hostIPs",
    "imageID",
    "ip",
    "kubectl.kubernetes.io/last-applied-configuration",
    "lastHeartbeatTime",
    "lastProbeTime",
    "lastTimestamp",
    "lastTransitionTime",
    "lastUpdateTime",
    "leaseTransitions",
    "managedFields",
    "nodeName",
    "observedGeneration",
    "pod-template-hash",
    "podIP",
    "podIPs",
    "renewTime",
    "resourceVersion",
    "restartCount",
    "selfLink",
    "startTime",
    "startedAt",
    "time",
    "timestamp",
    "uid",
    "updateRevision",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volumeName",
];

/// What is replaced in texts, in this order.
static PATTERNS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"/[^\s]*/a9s-e2e-[0-9a-f]{8}/s\d+", "{scenario}"),
        (r"\ba9s-e2e-[0-9a-f]{8}\b", "a9s-e2e-{id}"),
        (r"\be2e-([0-9a-f]{8}-)?\d+\b", "{namespace}"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "{uuid}"),
        (r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+)?(Z| ?[+-]\d{2}:?\d{2}| UTC)?", "{time}"),
        (r"\b[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} [+-]\d{4}", "{time}"),
        (r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(:\d+)?\b", "{address}"),
        // Before durations: an id such as `2456s` looks like one.
        (r"\bkube-api-access-[a-z0-9]{5}\b", "kube-api-access-{id}"),
        (r"-token-[a-z0-9]{5}\b", "-token-{id}"),
        (r"\b\d+(\.\d+)? ?(ms|s|seconds?|minutes?)\b", "{duration}"),
        (r"\bverify-[0-9a-f]{12}-[0-9a-f]{16}\b", "verify-{id}"),
        (r"\ba8s-sb-[A-Za-z0-9]{9}\b", "a8s-sb-{id}"),
        (r"\ba9s_ledger_[0-9a-f]+\b", "a9s_ledger_{id}"),
        (r"\bpid \d+\b", "pid {id}"),
        // PostgreSQL's log, and its positions in the WAL.
        (r"\{time\} \[\d+\]", "{time} [{id}]"),
        (r"\b[0-9A-F]+/[0-9A-F]{6,8}\b", "{position}"),
        // Its build, the numbers of its tables and of what a client wrote.
        (r"\b\d+\.\d+ \((Debian|Ubuntu) [^)]*\)( on \S+, compiled by [^\n]*?, \d+-bit)?", "{server}"),
        (r"\b(pg_toast_|toast value )\d+", "${1}{number}"),
        (r"\b\d+( of \d+)? (acknowledged rows|(rows )?were acknowledged)", "{number} $2"),
        (r"\ball \d+ are\b", "all {number} are"),
        (
            r#"("?(bytes|seconds|acknowledged|longestPauseSeconds|lagBytes|lagSeconds|diskUsed|diskFree)"?: )[\d.]+"#,
            "${1}{number}",
        ),
        (r#"((?i)\bresource ?version"?: *"?)\d+"#, "${1}{version}"),
        (r"/dev/pts/\d+", "/dev/pts/{number}"),
        (r"\b\d+ bytes\b", "{number} bytes"),
        (r"\b[0-9a-f]{16,}\b", "{hex}"),
    ]
    .into_iter()
    .filter_map(|(pattern, word)| Some((Regex::new(pattern).ok()?, word)))
    .collect()
});

/// Names of one scenario, and the words that stand for them.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<(String, &'static str)>);

impl Names {
    /// Replaces each text by its word; longer ones first, since one may contain another.
    pub fn new(names: impl IntoIterator<Item = (String, &'static str)>) -> Self {
        let mut names: Vec<_> = names.into_iter().filter(|(name, _)| !name.is_empty()).collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self(names)
    }

    /// A text as it would be in any run.
    pub fn text(&self, text: &str) -> String {
        let named = self.0.iter().fold(text.to_owned(), |text, (name, word)| text.replace(name.as_str(), word));
        PATTERNS.iter().fold(named, |text, (pattern, word)| match pattern.replace_all(&text, *word) {
            std::borrow::Cow::Borrowed(_) => text,
            std::borrow::Cow::Owned(replaced) => replaced,
        })
    }

    /// A document whose texts are as they would be in any run.
    pub fn texts(&self, value: Value) -> Value {
        match value {
            Value::Object(map) => {
                map.into_iter().map(|(key, value)| (self.text(&key), self.texts(value))).collect::<Map<_, _>>().into()
            }
            Value::Array(items) => items.into_iter().map(|item| self.texts(item)).collect(),
            Value::String(text) => Value::String(self.text(&text)),
            other => other,
        }
    }

    /// An object as it would be in any run.
    pub fn object(&self, value: Value) -> Value {
        self.texts(lasting(value))
    }
}

/// What of an object is the same every time, without the values of Secrets and without what that leaves empty.
fn lasting(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(lasting_fields(map)),
        Value::Array(items) => items.into_iter().map(lasting).collect(),
        other => other,
    }
}

fn lasting_fields(map: Map<String, Value>) -> Map<String, Value> {
    let is_secret = map.get("kind").is_some_and(|kind| kind == "Secret");
    map.into_iter()
        .filter(|(key, _)| !VOLATILE.contains(&key.as_str()))
        .map(|(key, value)| {
            let value = match value {
                Value::Object(data) if is_secret && key == "data" => data.into_iter().map(|(key, _)| key).collect(),
                value => lasting(value),
            };
            (key, value)
        })
        .filter(|(_, value)| !matches!(value, Value::Object(map) if map.is_empty()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_another_every_time_is_taken_out_and_the_rest_stays() {
        let names = Names::new([("e2e-7".to_owned(), "{namespace}"), ("/tmp/x/s7".to_owned(), "{home}")]);
        let object = json!({
            "kind": "Secret",
            "metadata": {"name": "a", "namespace": "e2e-7", "uid": "1", "ownerReferences": [{"name": "b", "uid": "2"}]},
            "data": {"password": "eA=="},
            "status": {
                "podIP": "127.64.0.1", "since": "2026-01-02T03:04:05Z", "message": "took 12.5 s on 127.64.3.4:5432",
                "qosClass": "Burstable",
            },
        });
        assert_eq!(
            names.object(object),
            json!({
                "kind": "Secret",
                "metadata": {"name": "a", "namespace": "{namespace}", "ownerReferences": [{"name": "b"}]},
                "data": ["password"],
                "status": {"since": "{time}", "message": "took {duration} on {address}", "qosClass": "Burstable"},
            })
        );
        let text = "wrote /tmp/x/s7/a.yaml of 0a1b2c3d-0000-1111-2222-333344445555 in e2e-7-other";
        assert_eq!(names.text(text), "wrote {home}/a.yaml of {uuid} in {namespace}-other");
    }

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(PATTERNS.len(), 25);
        let text = "nothing at /tmp/a9s-e2e-0a1b2c3d/s12/home/x in e2e-12 or e2e-0a1b2c3d-7";
        assert_eq!(Names::default().text(text), "nothing at {scenario}/home/x in {namespace} or {namespace}");
        let text = "2030-01-01 00:00:00.123 UTC [38] LOG: redo at 0/1B62618 by a8s-sb-Abc123xyz of \
            verify-0f8fad5bd9cb-0f8fad5bd9cb469f-0, a9s_ledger_0f8fad5bd9cb0f8f below /proc/a9s-e2e-0a1b2c3d";
        let wanted = "{time} [{id}] LOG: redo at {position} by a8s-sb-{id} of verify-{id}-0, \
            a9s_ledger_{id} below /proc/a9s-e2e-{id}";
        assert_eq!(Names::default().text(text), wanted);
        let text = "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14) \
            12.2.0, 64-bit since Sat, 28 Nov 2026 23:35:24 +0000, \"resourceVersion\":\"393\", resourceVersion: \"12\", \
            Resource Version:  7, \"bytes\": 3925842, 48 of 48 acknowledged rows are lost, pg_toast_16387, /dev/pts/3";
        let wanted = "PostgreSQL {server} since {time}, \"resourceVersion\":\"{version}\", resourceVersion: \"{version}\", \
            Resource Version:  {version}, \"bytes\": {number}, {number} acknowledged rows are lost, pg_toast_{number}, \
            /dev/pts/{number}";
        assert_eq!(Names::default().text(text), wanted);
        let text = "PostgreSQL 16.9 (Ubuntu 16.9-0ubuntu0.24.04.1) on x86_64-pc-linux-gnu, compiled by gcc (Ubuntu \
            13.3.0-6ubuntu2~24.04) 13.3.0, 64-bit; psql 15.13 (Ubuntu 15.13-1.pgdg24.04+1)";
        assert_eq!(Names::default().text(text), "PostgreSQL {server}; psql {server}");
        assert_eq!(Names::default().text("kube-api-access-4712s after 4712s"), "kube-api-access-{id} after {duration}");
    }
}
