//! `a9s describe`.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use super::arguments::ClusterTarget;
use super::{Session, group};
use crate::finding::{Finding, Id};
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{Kind, Reference};
use crate::steps::condition;
use crate::steps::look::item::{age, state};
use crate::steps::look::related::{Description, describe};
use crate::yaml;

/// Arguments of `describe`.
#[derive(Debug, Args)]
pub struct Describe {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Describe a PostgreSQL resource: its spec, its status, its events, and what belongs to it
    Pg(DescribePg),
}

/// Arguments of `describe pg`.
#[derive(Debug, Args)]
struct DescribePg {
    /// What it is
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Its name
    #[arg(value_name = "NAME")]
    name: ObjectName,
    /// Its namespace [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    #[command(flatten)]
    cluster: ClusterTarget,
}

impl Describe {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            None => group(session, &["describe"], "Please select what to describe."),
            Some(What::Pg(pg)) => pg.run(session),
        }
    }
}

impl DescribePg {
    fn run(self, session: &Session) -> Result<(), Finding> {
        session.look(async {
            let (access, namespace) = self.cluster.reach(self.namespace.as_ref()).await?;
            let reference = Reference::new(self.kind, &namespace, &self.name);
            let found = describe(&access.client().await?, &reference).await?;
            let description = found.ok_or_else(|| reference.missing())?;
            session.console.line(render(self.kind, &description, Timestamp::now())?.trim_end());
            session.console.document(&description);
            Ok(())
        })
    }
}

fn render(kind: Kind, description: &Description, now: Timestamp) -> Result<String, Finding> {
    let Description { object, events, related, unknown } = description;
    let mut text = format!("Name:       {}\n", object.name_any());
    text.push_str(&format!("Namespace:  {}\n", object.namespace().unwrap_or_default()));
    text.push_str(&format!("Kind:       {} ({})\n", kind.kind(), kind.group()));
    if let Some(created) = &object.metadata.creation_timestamp {
        text.push_str(&format!("Created:    {} ({} ago)\n", created.0, age(created.0, now)));
    }
    let (state, why) = state(kind, object);
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    text.push_str(&format!("State:      {state}{}\n", why.replace('\n', "\n    ")));
    let mut status = object.data["status"].clone();
    if let Some(status) = status.as_object_mut() {
        status.remove("conditions");
    }
    document(&mut text, "Labels", &serde_json::to_value(object.labels()).unwrap_or_default())?;
    document(&mut text, "Annotations", &serde_json::to_value(object.annotations()).unwrap_or_default())?;
    document(&mut text, "Spec", &object.data["spec"])?;
    document(&mut text, "Status", &status)?;
    lines(&mut text, "Conditions", condition::of(object).iter().map(condition::line));
    lines(&mut text, "Events", events.iter().cloned());
    lines(&mut text, "Related", related.iter().map(|it| format!("{} {}: {}", it.kind, it.name, it.state)));
    lines(&mut text, "Not known", unknown.iter().cloned());
    Ok(text)
}

fn document(text: &mut String, heading: &str, value: &Value) -> Result<(), Finding> {
    let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    if !empty {
        let document = yaml::write(value).map_err(|error| Finding::new(Id::Internal, error))?;
        lines(text, heading, document.lines().map(str::to_owned));
    }
    Ok(())
}

fn lines(text: &mut String, heading: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        text.push_str(&format!("{heading}:\n"));
    }
    for line in lines {
        // Further lines of a message stay below what they belong to.
        text.push_str(&format!("  {}\n", line.replace('\n', "\n    ")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::look::related::Related;

    #[test]
    fn a_description_has_everything_but_what_is_empty() {
        let description = Description {
            object: serde_json::from_value(json!({
                "metadata": {"name": "b", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"serviceInstance": {"name": "solo"}, "maxRetries": "2"},
                "status": {"retries": 0, "conditions": [{"type": "Complete", "status": "True", "reason": "Stored",
                    "message": "12 bytes", "lastTransitionTime": "2026-01-01T00:00:05Z"}]},
            }))
            .unwrap(),
            events: vec!["Warning Failed: it failed\nState: running".to_owned()],
            related: vec![Related { kind: "instance".into(), name: "solo".into(), state: "running".into() }],
            unknown: Vec::new(),
        };
        let text = render(Kind::Backup, &description, "2026-01-01T00:01:00Z".parse().unwrap()).unwrap();
        assert_eq!(
            text,
            "Name:       b\nNamespace:  shop\nKind:       Backup (backups.anynines.com)\nCreated:    2026-01-01T00:00:00Z (60s \
             ago)\nState:      complete\nSpec:\n  maxRetries: \"2\"\n  serviceInstance:\n    name: solo\nStatus:\n  retries: \
             0\nConditions:\n  Complete=True Stored: 12 bytes\nEvents:\n  Warning Failed: it failed\n    State: \
             running\nRelated:\n  instance solo: running\n"
        );
    }
}
