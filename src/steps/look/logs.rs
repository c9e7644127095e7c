//! The logs of an instance's members, in one stream.

use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use tokio::sync::mpsc::Sender;

use super::ask;
use crate::finding::{Class, Finding};
use crate::kubernetes::Error;
use crate::manifest::names::Namespace;
use crate::manifest::resource::Reference;
use crate::steps::instance::labels;
use crate::steps::resource::get;

/// Between two attempts to follow a container that has ended.
const AGAIN: Duration = Duration::from_secs(1);

/// A line of a member's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Name of the member's pod.
    pub member: String,
    /// When it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// What it says.
    pub text: String,
}

/// Which lines are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Namespace of the instance.
    pub namespace: Namespace,
    /// The container.
    pub container: String,
    /// Only so many lines of the end of each log.
    pub tail: Option<i64>,
}

/// The names of an instance's pods, or of the one that is named; `None` if the instance is not there.
///
/// # Errors
/// There is no such member, or the cluster can't be asked.
pub async fn members(
    client: &Client,
    instance: &Reference,
    member: Option<&str>,
) -> Result<Option<Vec<String>>, Finding> {
    if get(client, instance).await?.is_none() {
        return Ok(None);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), instance.namespace.as_str());
    let pods = ask("list its members", pods.list(&ListParams::default().labels(&labels(&instance.name)))).await?;
    let mut names: Vec<String> = pods.items.iter().map(ResourceExt::name_any).collect();
    names.sort();
    let Some(member) = member else { return Ok(Some(names)) };
    let full = format!("{}-{member}", instance.name);
    match names.iter().find(|name| *name == member || **name == full) {
        Some(name) => Ok(Some(vec![name.clone()])),
        None => {
            let cause = format!("the {instance} has no member {member}");
            let finding = Finding::new("no-member", Class::Missing, cause);
            Err(if names.is_empty() { finding } else { finding.advise(format!("It has: {}.", names.join(", "))) })
        }
    }
}

impl Wanted {
    fn parameters(&self) -> LogParams {
        LogParams {
            container: Some(self.container.clone()),
            tail_lines: self.tail,
            timestamps: true,
            ..LogParams::default()
        }
    }

    fn pods(&self, client: &Client) -> Api<Pod> {
        Api::namespaced(client.clone(), self.namespace.as_str())
    }

    /// What a member has written so far.
    ///
    /// # Errors
    /// There is no such container, it has not run yet, or the request fails.
    pub async fn read(&self, client: &Client, member: &str) -> Result<Vec<Line>, Error> {
        let what = format!("read the log of the container {} of {member}", self.container);
        let text = ask(&what, self.pods(client).logs(member, &self.parameters())).await?;
        Ok(text.lines().map(|text| line(member, text)).collect())
    }

    /// Gives every line of a member to `lines` as it is written, over restarts of its container, until nobody listens.
    pub async fn follow(&self, client: &Client, member: &str, lines: Sender<Line>) {
        let mut parameters = LogParams { follow: true, ..self.parameters() };
        let mut last: Option<Timestamp> = None;
        while !lines.is_closed() {
            if let Ok(stream) = self.pods(client).log_stream(member, &parameters).await {
                let mut stream = stream.lines();
                while let Some(Ok(text)) = stream.next().await {
                    let line = line(member, &text);
                    // The server counts whole seconds: the end of what is known comes again.
                    if line.time.is_some() && line.time <= last {
                        continue;
                    }
                    last = line.time.or(last);
                    if lines.send(line).await.is_err() {
                        return;
                    }
                }
            }
            (parameters.since_time, parameters.tail_lines) = (last, self.tail.filter(|_| last.is_none()));
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// `2026-01-01T00:00:00.5Z what it says`.
fn line(member: &str, text: &str) -> Line {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    match first.parse::<Timestamp>() {
        Ok(time) => Line { member: member.to_owned(), time: Some(time), text: rest.to_owned() },
        Err(_) => Line { member: member.to_owned(), time: None, text: text.to_owned() },
    }
}

/// The lines of all members in the order in which they were written.
pub fn merge(logs: Vec<Vec<Line>>) -> Vec<Line> {
    let mut lines: Vec<(Option<Timestamp>, Line)> = Vec::new();
    for log in logs {
        let mut time = None;
        for line in log {
            time = line.time.or(time);
            lines.push((time, line));
        }
    }
    lines.sort_by_key(|(time, _)| *time);
    lines.into_iter().map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(member: &str, lines: &[&str]) -> Vec<Line> {
        lines.iter().map(|text| line(member, text)).collect()
    }

    #[test]
    fn lines_are_in_the_order_in_which_they_were_written() {
        let one = log("x-0", &["2026-01-01T00:00:01Z one", "2026-01-01T00:00:03.25Z three", " three, continued"]);
        let other = log("x-1", &["2026-01-01T00:00:02.5Z two", "2026-01-01T00:00:04Z four"]);
        let merged: Vec<String> = merge(vec![one, other]).into_iter().map(|line| line.text).collect();
        assert_eq!(merged, ["one", "two", "three", " three, continued", "four"]);
    }

    #[test]
    fn an_empty_line_is_a_line() {
        assert_eq!(line("x-0", "2026-01-01T00:00:01Z ").text, "");
        assert_eq!(line("x-0", "no time").text, "no time");
    }
}
