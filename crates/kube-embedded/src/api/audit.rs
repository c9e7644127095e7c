//! The audit log: one line of JSON for every request that could change something, or for every one, in the words of
//! `audit.k8s.io/v1`.

use fs_err::os::unix::fs::OpenOptionsExt as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use http::StatusCode;
use serde_json::{Value, json};

use super::handlers::leads_to_node;
use super::metadata;
use super::request::ResourceRequest;
use crate::user::UserInfo;

/// A log that grows beyond this is moved aside, in place of the one before.
const ROTATE_BYTES: u64 = 16 << 20;

/// Where the audit log is, and what it tells.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The file.
    pub file: PathBuf,
    /// Whether requests that only read are told, too.
    pub has_reads: bool,
}

/// See the module.
pub(super) struct Audit {
    policy: Policy,
    file: Mutex<Option<fs_err::File>>,
}

/// One request, for the log.
pub(super) struct Entry {
    pub verb: &'static str,
    pub user: UserInfo,
    pub user_agent: String,
    pub uri: String,
    /// `None`: a path that is no resource's, such as those of discovery.
    pub request: Option<ResourceRequest>,
}

/// A request that is being answered. Of one that panics there is a line, too.
pub(super) struct Pending<'a> {
    audit: &'a Audit,
    entry: Option<Entry>,
}

impl Pending<'_> {
    /// It was answered.
    pub fn end(mut self, code: StatusCode) {
        if let Some(entry) = self.entry.take() {
            self.audit.write(&entry, code);
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take().filter(|_| std::thread::panicking()) {
            self.audit.write(&entry, StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}

fn reference(request: &ResourceRequest) -> Value {
    let mut reference = json!({"resource": request.resource, "apiVersion": request.version});
    for (field, text) in [
        ("apiGroup", &request.group),
        ("namespace", &request.namespace),
        ("name", &request.name),
        ("subresource", &request.subresource),
    ] {
        if !text.is_empty() {
            reference[field] = text.as_str().into();
        }
    }
    reference
}

impl Audit {
    pub fn new(policy: Policy) -> Self {
        Self { policy, file: Mutex::new(None) }
    }

    /// Whether a request is told. What WebSockets open in a pod is a `get`, and more than reading.
    pub fn tells(&self, verb: &str, request: Option<&ResourceRequest>) -> bool {
        let opens = request.is_some_and(|request| leads_to_node(request) && request.subresource != "log");
        self.policy.has_reads || opens || !matches!(verb, "get" | "list" | "watch")
    }

    /// A request that is told, from now on.
    pub fn begin(&self, entry: Entry) -> Pending<'_> {
        Pending { audit: self, entry: Some(entry) }
    }

    /// Writes a line. A log that can't be written is reported, and the request goes on.
    fn write(&self, entry: &Entry, code: StatusCode) {
        let now = metadata::now();
        let reference = entry.request.as_ref().map(reference);
        let line = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": "ResponseComplete",
            "auditID": uuid::Uuid::new_v4().to_string(), "requestURI": entry.uri, "verb": entry.verb,
            "user": {"username": entry.user.name, "groups": entry.user.groups}, "userAgent": entry.user_agent,
            "objectRef": reference, "responseStatus": {"metadata": {}, "code": code.as_u16()},
            "requestReceivedTimestamp": now, "stageTimestamp": now,
        });
        if let Err(error) = self.append(&format!("{line}\n")) {
            tracing::warn!(%error, "cannot write the audit log");
        }
    }

    fn append(&self, line: &str) -> std::io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut open = match file.take() {
            Some(open) => open,
            None => fs_err::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.policy.file)?,
        };
        open.write_all(line.as_bytes())?;
        if open.metadata()?.len() > ROTATE_BYTES {
            let mut aside = self.policy.file.clone().into_os_string();
            aside.push(".1");
            fs_err::rename(&self.policy.file, aside)?;
        } else {
            *file = Some(open);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::panics;

    #[tokio::test]
    async fn a_request_that_panics_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.log");
        let audit = Audit::new(Policy { file: file.clone(), has_reads: false });
        let entry = |verb| {
            let (user, uri) = (UserInfo::master("test"), "/".to_owned());
            audit.begin(Entry { verb, user, user_agent: String::new(), uri, request: None })
        };
        entry("create").end(StatusCode::CREATED);
        drop(entry("patch"));
        let panicked: Option<()> = panics::contain(async {
            let _pending = entry("delete");
            panic!("of one request")
        })
        .await;
        assert_eq!(panicked, None);
        let text = fs_err::read_to_string(file).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> = lines.iter().map(|line| (&line["verb"], &line["responseStatus"]["code"])).collect();
        assert_eq!(told, [(&json!("create"), &json!(201)), (&json!("delete"), &json!(500))]);
    }
}
