//! `a9s pg logs`.

use clap::Args;
use serde_json::json;
use tokio::sync::mpsc;

use super::Named;
use crate::cli::Session;
use crate::cli::arguments::ClusterTarget;
use crate::finding::{Finding, Id};
use crate::manifest::names::ObjectName;
use crate::manifest::resource::{Kind, Reference};
use crate::steps::look::logs::{self, Line, Wanted, members, merge};
use crate::steps::member::Member;

/// Lines that wait to be printed.
const QUEUE: usize = 256;

/// Arguments of `pg logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The instance
    #[arg(value_name = "NAME", required_unless_present = "service_instance", conflicts_with = "service_instance")]
    name: Option<ObjectName>,
    /// Only this member: its number, the name of its pod, or primary
    #[arg(short, long, value_name = "MEMBER")]
    member: Option<Member>,
    /// The container: postgres or backup-agent
    #[arg(short, long, value_name = "CONTAINER", default_value = "postgres")]
    container: String,
    /// Only so many lines of the end of each log
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(i64).range(0..))]
    tail: Option<i64>,
    /// Go on printing what is written, until interrupted
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    cluster: ClusterTarget,
}

impl Logs {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        if self.follow && !session.console.words() {
            let cause = "--follow never ends, and a document of -o json or yaml has an end";
            return Err(Finding::new(Id::Usage, cause));
        }
        let name = named.instance(self.name.as_ref())?;
        session.block_on(async |_| {
            let (access, namespace) = self.cluster.reach(named.namespace.as_ref()).await?;
            let reference = Reference::new(Kind::Instance, &namespace, &name);
            let client = access.client().await?;
            let members = members(&client, &reference, self.member.as_ref(), &self.container).await?;
            let members = members.ok_or_else(|| reference.missing())?;
            let wanted = Wanted { namespace, container: self.container.clone(), tail: self.tail };
            match self.follow {
                true => self.follow(session, &client, &reference, &wanted).await,
                false => self.print(session, &client, &wanted, &members).await,
            }
        })
    }

    /// What there is. A member whose log can't be read does not hide the others'.
    async fn print(
        &self,
        session: &Session,
        client: &kube::Client,
        wanted: &Wanted,
        members: &[String],
    ) -> Result<(), Finding> {
        let read = members.iter().map(|member| wanted.read(client, member));
        let (mut logs, mut unknown) = (Vec::new(), Vec::new());
        for log in futures::future::join_all(read).await {
            match log {
                Ok(lines) => logs.push(lines),
                Err(error) => unknown.push(Finding::from(error)),
            }
        }
        if logs.is_empty()
            && let Some(finding) = unknown.pop()
        {
            return Err(finding);
        }
        for finding in &unknown {
            session.warn(&finding.cause);
        }
        let lines = merge(logs);
        for line in &lines {
            session.console.line(self.render(line));
        }
        let unknown: Vec<&str> = unknown.iter().map(|finding| finding.cause.as_str()).collect();
        session.console.document(&json!({"container": wanted.container, "lines": lines, "unknown": unknown}));
        Ok(())
    }

    async fn follow(
        &self,
        session: &Session,
        client: &kube::Client,
        instance: &Reference,
        wanted: &Wanted,
    ) -> Result<(), Finding> {
        let (sender, mut lines) = mpsc::channel(QUEUE);
        let following = logs::follow(client, instance, self.member.as_ref(), wanted, sender);
        let print = async {
            while let Some(line) = lines.recv().await {
                session.console.line(self.render(&line));
                if session.console.gone() {
                    return;
                }
            }
        };
        tokio::select! {
            ended = following => {
                ended?;
                session.warn(format!("the {instance} is gone"));
                Ok(())
            }
            () = print => Ok(()),
        }
    }

    /// Of one member that was asked for, the line alone. The primary may become another one while it is followed.
    fn render(&self, line: &Line) -> String {
        let is_one = self.member.as_ref().is_some_and(|member| !self.follow || *member != Member::Primary);
        if is_one { line.text.clone() } else { format!("{} | {}", line.member, line.text) }
    }
}
