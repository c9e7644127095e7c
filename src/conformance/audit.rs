//! What a command asked of the API server, as the audit log of the scenario's embedded cluster has it.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use a8s_operators::object_store::manifests;
use fs_err::File;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::Value;

use super::World;
use super::failure::Failure;
use super::observe::{Look, until};

/// How long the log was when a command began: what comes after it is of that command, or later.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark(u64);

impl World {
    fn audit_log(&self) -> PathBuf {
        self.surroundings.cluster_state(self.surroundings.default_cluster()).join("audit.log")
    }

    /// Takes note that a command begins now.
    pub(super) fn mark_audit_log(&mut self) {
        self.audit_mark = Mark(fs_err::metadata(self.audit_log()).map_or(0, |metadata| metadata.len()));
    }

    /// The requests on record that the program itself has sent since its last command began.
    ///
    /// # Errors
    /// A log that can't be read, or that the API server does not write.
    pub async fn requests_of_last_command(&self) -> Result<Vec<Value>, Failure> {
        self.await_audit().await?;
        let log = self.audit_since_mark()?;
        let events = log.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let is_ours = |event: &Value| event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("a9s/"));
        Ok(events.into_iter().filter(is_ours).collect())
    }

    /// Those of them that change something.
    ///
    /// # Errors
    /// As [`World::requests_of_last_command`].
    pub async fn changes_by_last_command(&self) -> Result<Vec<String>, Failure> {
        let mut changes = Vec::new();
        for event in self.requests_of_last_command().await? {
            let verb = event["verb"].as_str().unwrap_or_default();
            let changing = ["create", "update", "patch", "delete", "deletecollection"].contains(&verb);
            let subject = &event["objectRef"];
            let namespace = subject["namespace"].as_str().unwrap_or_default();
            // Asking what one may do is a `create` that stores nothing; so are a dry run and opening an exec.
            let is_dry = event["requestURI"].as_str().is_some_and(|uri| uri.contains("dryRun=All"));
            let asking = is_dry || subject["apiGroup"] == "authorization.k8s.io" || subject["subresource"] == "exec";
            // What is of the whole cluster, or of its stack, no other scenario changes by the program meanwhile.
            let of_all = ["", a8s_operators::SYSTEM_NAMESPACE, manifests::NAMESPACE].contains(&namespace);
            let here = !self.is_shared() || of_all || self.namespaces().iter().any(|own| own == namespace);
            if changing && here && !asking {
                changes.push(format!("{verb} {} {namespace}/{}", subject["resource"], subject["name"]));
            }
        }
        Ok(changes)
    }

    /// What the log has got since the last command began. A full log is moved aside to `audit.log.1`.
    fn audit_since_mark(&self) -> Result<String, Failure> {
        let (path, Mark(mark)) = (self.audit_log(), self.audit_mark);
        let log = File::open(&path)?;
        if mark <= log.metadata()?.len() {
            return Ok(lines_from(log, mark)?);
        }
        let aside = File::open(path.with_extension("log.1"))?;
        Ok(lines_from(aside, mark)? + &lines_from(log, 0)?)
    }

    /// Waits until the log has what was requested before: it is written in order, so a request of our own (for the
    /// deletion of something that is not there) ends it.
    async fn await_audit(&self) -> Result<(), Failure> {
        let name = format!("audit-mark-{:08x}", rand::random::<u32>());
        let maps: Api<ConfigMap> = Api::namespaced(self.client().await?, self.namespace());
        match maps.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
        until("our request in the audit log", Duration::from_secs(10), || async {
            Ok(Look::when(self.audit_since_mark()?.contains(&name), "not there"))
        })
        .await
    }
}

/// The lines of a log that begin at a place or after it: what was being written there was asked before.
fn lines_from(mut log: File, mark: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    log.seek(SeekFrom::Start(mark.saturating_sub(1)))?;
    log.read_to_end(&mut bytes)?;
    let end = if mark == 0 { Some(0) } else { bytes.iter().position(|it| *it == b'\n').map(|at| at + 1) };
    Ok(String::from_utf8_lossy(&bytes[end.unwrap_or(bytes.len())..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_the_first_line_that_begins_after_the_mark() {
        let directory = tempfile::tempdir().unwrap();
        let (path, log) = (directory.path().join("audit.log"), "one\ntwö\nthree\n");
        fs_err::write(&path, log).unwrap();
        for (mark, rest) in [(0, log), (4, "twö\nthree\n"), (2, "twö\nthree\n"), (7, "three\n"), (15, ""), (99, "")] {
            assert_eq!(lines_from(File::open(&path).unwrap(), mark).unwrap(), rest, "{mark}");
        }
    }
}
