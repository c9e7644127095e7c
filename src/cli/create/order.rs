//! What the commands that give an order share: a custom resource that is written once, applied, and awaited.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::cli::Session;
use crate::cli::arguments::{ClusterTarget, Run, namespace_of_context};
use crate::cli::console::NOTHING_CHANGED;
use crate::config::WorkingDirectory;
use crate::finding::Finding;
use crate::kubernetes::Access;
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{ApiVersion, Kind, Reference, Resource};
use crate::step::{Cancel, Plan};
use crate::steps::condition;
use crate::steps::resource::{Manifest, Settled};

/// Arguments of a command that gives an order.
#[derive(Debug, Args)]
pub struct OrderArguments {
    /// Its namespace [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<Namespace>,
    /// Version of the API
    #[arg(long, value_name = "VERSION", default_value = "v1beta3")]
    pub api_version: ApiVersion,
    /// Only write the manifest
    #[arg(long)]
    pub no_apply: bool,
    #[command(flatten)]
    pub cluster: ClusterTarget,
    #[command(flatten)]
    pub run: Run,
}

impl OrderArguments {
    /// The cluster that is meant, and the name of the order there. A manifest can be written without any cluster.
    ///
    /// # Errors
    /// There is no context, and one is needed.
    pub async fn reach(&self, kind: Kind, name: &ObjectName) -> Result<(Arc<Access>, Reference), Finding> {
        let (access, namespace) = match self.cluster.reach(self.namespace.as_ref()).await {
            Err(_) if self.no_apply => (self.cluster.access(), namespace_of_context("default")?),
            reached => reached?,
        };
        Ok((access, Reference { kind, namespace, name: name.clone(), api_version: self.api_version.clone() }))
    }
}

/// An order about to be given.
pub struct Order<'a> {
    /// The arguments of its command.
    pub arguments: &'a OrderArguments,
    /// Its custom resource.
    pub resource: &'a Resource,
    /// What its plan makes besides, before it.
    pub made: Option<&'a Resource>,
    /// The plan, and the step that knows how it ended.
    pub plan: (Plan, Arc<Settled>),
    /// The first line of the answer.
    pub heading: &'a str,
    /// The line that says that it has succeeded.
    pub success: String,
}

impl Order<'_> {
    /// Carries the order out and answers.
    ///
    /// # Errors
    /// The finding of a step.
    pub async fn carry_out(
        self,
        session: &Session,
        cancel: Cancel,
        directory: &WorkingDirectory,
    ) -> Result<(), Finding> {
        let path = self.resource.file(&directory.user_manifests());
        session.console.heading(self.heading);
        let (mut plan, settled) = (self.plan.0, self.plan.1);
        if self.arguments.no_apply {
            plan = Plan::new(plan.name());
            for resource in self.made.into_iter().chain([self.resource]) {
                let path = resource.file(&directory.user_manifests());
                plan.add(Manifest { resource: resource.clone(), path });
            }
        }
        let outcome = session.carry_out(&plan, &self.arguments.run, cancel, Some(directory)).await?;
        let Some(outcome) = outcome else { return Ok(()) };
        let end = settled.end();
        let given = outcome.step_changed(self.resource.reference.kind.word());
        if let Some(made) = self.made {
            session.tell_manifest(made, &made.file(&directory.user_manifests()), self.arguments.no_apply)?;
        }
        session.tell_manifest(self.resource, &path, self.arguments.no_apply)?;
        if let Some(end) = &end {
            session.console.success(self.success);
            for line in details(&self.resource.reference, end, given) {
                session.console.info(line);
            }
        }
        let mut document = document(self.resource, end.as_ref(), &path);
        document["changed"] = json!(outcome.changed());
        document["steps"] = json!(outcome.steps);
        session.console.document(&document);
        Ok(())
    }
}

/// What is known of how an order ended, in words.
fn details(reference: &Reference, end: &DynamicObject, given: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if !given {
        let when = condition::completed(end).map(|time| format!(" at {time}")).unwrap_or_default();
        lines.push(match reference.kind {
            Kind::Backup => format!("The {reference} was made{when}. {NOTHING_CHANGED}"),
            Kind::Restore => format!("The {reference} was done{when}, and is not done again. {NOTHING_CHANGED}"),
            _ => NOTHING_CHANGED.to_owned(),
        });
    }
    if let Some(bytes) = condition::bytes(end) {
        lines.push(format!("It has {bytes} bytes in the store."));
    }
    if let Some(seconds) = condition::seconds(end) {
        lines.push(format!("It took {seconds} s."));
    }
    lines
}

/// What is known of an order, for programs.
fn document(resource: &Resource, end: Option<&DynamicObject>, manifest: &PathBuf) -> Value {
    let Reference { kind, namespace, name, .. } = &resource.reference;
    let object = resource.object();
    let mut document = json!({
        kind.argument(): name, "namespace": namespace, "instance": condition::instance(&object), "manifest": manifest,
        "applied": end.is_some(), "complete": end.is_some(),
    });
    if *kind == Kind::Restore {
        document["backup"] = object.data["spec"]["backupName"].clone();
    }
    let Some(end) = end else { return document };
    document["uid"] = json!(end.metadata.uid);
    for (key, value) in [
        ("completedAt", condition::completed(end).map(|time| json!(time))),
        ("seconds", condition::seconds(end).map(|seconds| json!(seconds))),
        ("bytes", condition::bytes(end).map(|bytes| json!(bytes))),
    ] {
        if let Some(value) = value {
            document[key] = value;
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::order;

    fn backup() -> Resource {
        let reference = Reference::new(Kind::Backup, &"shop".parse().unwrap(), &"b".parse().unwrap());
        order::backup(reference, &"solo".parse().unwrap(), None)
    }

    fn end(message: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": "b", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": [{"type": "Complete", "status": "True", "reason": "Stored", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:05Z"}]},
        }))
        .unwrap()
    }

    #[test]
    fn an_order_of_before_says_when_it_was_carried_out() {
        let lines = details(&backup().reference, &end("stored 12 bytes"), false);
        assert_eq!(
            lines,
            [
                "The backup b was made at 2026-01-01T00:00:05Z. Nothing had to be changed.",
                "It has 12 bytes in the store.",
                "It took 5 s."
            ]
        );
        assert_eq!(details(&backup().reference, &end(""), true), ["It took 5 s."]);
    }

    #[test]
    fn a_size_that_is_not_known_is_left_out() {
        let path = PathBuf::from("/w/b.yaml");
        let known = document(&backup(), Some(&end("stored 12 bytes")), &path);
        assert_eq!(
            (&known["backup"], &known["instance"], &known["bytes"], &known["seconds"]),
            (&json!("b"), &json!("solo"), &json!(12), &json!(5))
        );
        assert_eq!(document(&backup(), Some(&end("")), &path).get("bytes"), None);
        assert_eq!(document(&backup(), None, &path)["complete"], false);
    }
}
