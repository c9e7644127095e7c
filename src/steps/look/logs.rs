//! The logs of an instance's members, in one stream.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{AsyncBufReadExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use tokio::sync::mpsc::Sender;

use super::ask;
use crate::finding::{Finding, Id};
use crate::kubernetes::Error;
use crate::manifest::names::Namespace;
use crate::manifest::resource::Reference;
use crate::steps::member::Member;
use crate::steps::members;
use crate::steps::resource::get;

/// Between two attempts to follow a container that has ended.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at which members there are.
const LOOK: Duration = Duration::from_secs(2);

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

/// The names of an instance's pods, or of the one that is meant; `None` if the instance is not there.
///
/// # Errors
/// There is no such member or container, or the cluster can't be asked.
pub async fn members(
    client: &Client,
    instance: &Reference,
    member: Option<&Member>,
    container: &str,
) -> Result<Option<Vec<String>>, Finding> {
    if get(client, instance).await?.is_none() {
        return Ok(None);
    }
    let mut pods = ask("list its members", members::list(client, &instance.namespace, &instance.name)).await?;
    pods.sort_by_key(ResourceExt::name_any);
    let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
    let is_meant = |pod: &&Pod| member.is_none_or(|member| member.is(&instance.name, pod));
    let meant: Vec<&Pod> = pods.iter().filter(is_meant).collect();
    if let (Some(member), []) = (member, meant.as_slice()) {
        return Err(lacks(instance, &member.to_string(), &names));
    }
    let containers: BTreeSet<&str> = meant.iter().flat_map(|pod| containers(pod)).collect();
    if !meant.is_empty() && !containers.contains(container) {
        let there: Vec<String> = containers.into_iter().map(str::to_owned).collect();
        return Err(lacks(instance, &format!("container {container}"), &there));
    }
    Ok(Some(meant.into_iter().map(ResourceExt::name_any).collect()))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.as_ref();
    let first = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let others = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    first.iter().chain(others).map(|container| container.name.as_str())
}

fn lacks(instance: &Reference, what: &str, there: &[String]) -> Finding {
    let finding = Finding::new(Id::NoMember, format!("the {instance} has no {what}"));
    if there.is_empty() { finding } else { finding.advise(format!("It has: {}.", there.join(", "))) }
}

/// Gives every line of the members to `lines` as it is written, also of those that join, until the instance is gone or
/// nobody listens.
///
/// # Errors
/// There is no such member or container.
pub async fn follow(
    client: &Client,
    instance: &Reference,
    member: Option<&Member>,
    wanted: &Wanted,
    lines: Sender<Line>,
) -> Result<(), Finding> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut following = FuturesUnordered::new();
    let mut look = tokio::time::interval(LOOK);
    while !lines.is_closed() {
        tokio::select! {
            _ = look.tick() => match members(client, instance, member, &wanted.container).await {
                Ok(None) => return Ok(()),
                Ok(Some(now)) => for name in now {
                    if known.insert(name.clone()) {
                        following.push(wanted.follow(client, name, lines.clone()));
                    }
                },
                // Later it may answer again, and the member be back.
                Err(_) if !known.is_empty() => {}
                Err(finding) => return Err(finding),
            },
            Some(()) = following.next() => {}
        }
    }
    Ok(())
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
    async fn follow(&self, client: &Client, member: String, lines: Sender<Line>) {
        let mut parameters = LogParams { follow: true, ..self.parameters() };
        let mut last: Option<Timestamp> = None;
        while !lines.is_closed() {
            // The server counts whole seconds: the end of what is known comes again. Later lines may well be of one time.
            let mut known = last;
            if let Ok(stream) = self.pods(client).log_stream(&member, &parameters).await {
                let mut stream = stream.lines();
                while let Some(Ok(text)) = stream.next().await {
                    let line = line(&member, &text);
                    if line.time.is_some() && line.time <= known {
                        continue;
                    }
                    known = None;
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
