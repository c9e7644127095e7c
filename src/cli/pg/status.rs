//! `a9s pg status`.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::Named;
use crate::cli::Session;
use crate::cli::arguments::ClusterTarget;
use crate::cli::list::table;
use crate::finding::{Finding, Id};
use crate::manifest::names::ObjectName;
use crate::manifest::resource::{Kind, Reference};
use crate::steps::look::item::age;
use crate::steps::look::status::{self, Member};

/// Between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(2);

/// Arguments of `pg status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The instance
    #[arg(value_name = "NAME", required_unless_present = "service_instance", conflicts_with = "service_instance")]
    name: Option<ObjectName>,
    /// Look again every two seconds, until interrupted
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    cluster: ClusterTarget,
}

impl Status {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        if self.watch && !session.console.words() {
            let cause = "--watch never ends, and a document of -o json or yaml has an end";
            return Err(Finding::new(Id::Usage, cause));
        }
        let name = named.instance(self.name.as_ref())?;
        session.block_on(async |_| {
            let (access, namespace) = self.cluster.reach(named.namespace.as_ref()).await?;
            let reference = Reference::new(Kind::Instance, &namespace, &name);
            let client = access.client().await?;
            loop {
                let found = status::status(&client, &reference).await?.ok_or_else(|| reference.missing())?;
                session.console.line(render(&found, Timestamp::now()).trim_end());
                session.console.document(&found);
                if !self.watch || session.console.gone() {
                    return Ok(());
                }
                session.console.line("");
                tokio::time::sleep(EVERY).await;
            }
        })
    }
}

fn render(status: &status::Status, now: Timestamp) -> String {
    let instance = &status.instance;
    let why = instance.reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    let mut text = format!("Instance:     {} in the namespace {}\n", instance.name, instance.namespace);
    text.push_str(&format!("State:        {}{why}\n", instance.state));
    let wanted = instance.version.map_or("unknown".to_owned(), |version| version.to_string());
    let running = status.running_version.as_deref().unwrap_or("unknown");
    text.push_str(&format!("PostgreSQL:   {running} (wanted: {wanted})\n"));
    let (ready, members) = (instance.ready.unwrap_or(0), instance.members.unwrap_or(0));
    text.push_str(&format!("Members:      {ready} of {members} ready\n"));
    let volume = instance.volume_size.as_deref().unwrap_or("unknown");
    text.push_str(&format!("Volume size:  {volume}\n"));
    text.push_str(&match &status.last_backup {
        None => "Last backup:  none\n".to_owned(),
        Some(backup) => {
            let ago = backup.completed.map(|time| format!(", {} ago", age(time, now))).unwrap_or_default();
            format!("Last backup:  {}{ago}\n", backup.name)
        }
    });
    let bindings: Vec<String> =
        status.bindings.iter().map(|binding| format!("{} ({})", binding.name, binding.state)).collect();
    text.push_str(&format!(
        "Bindings:     {}\n\n",
        if bindings.is_empty() { "none".to_owned() } else { bindings.join(", ") }
    ));
    let headings = ["MEMBER", "ROLE", "READY", "RESTARTS", "TIMELINE", "LAG", "DATA", "FREE", "REASON"];
    text.push_str(&table(&headings, status.members.iter().map(row)));
    text.push('\n');
    for unknown in &status.unknown {
        text.push_str(&format!(" Not known: {unknown}\n"));
    }
    text
}

fn row(member: &Member) -> Vec<String> {
    let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    let lag = member.lag_bytes.map(|bytes| match member.lag_seconds {
        Some(seconds) => format!("{bytes} bytes, {seconds:.1} s"),
        None => format!("{bytes} bytes"),
    });
    vec![
        member.name.clone(),
        or_dash(Some(member.role.clone())),
        if member.ready { "yes" } else { "no" }.to_owned(),
        member.restarts.to_string(),
        or_dash(member.timeline.map(|timeline| timeline.to_string())),
        or_dash(lag),
        or_dash(member.disk_used.map(mebibytes)),
        or_dash(member.disk_free.map(mebibytes)),
        or_dash(member.reason.clone()),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::look::item::Item;

    #[test]
    fn a_status_is_as_reviewed() {
        let status = status::Status {
            instance: Item {
                namespace: "shop".into(),
                name: "solo".into(),
                state: "not-running".into(),
                reason: Some("it is not running".into()),
                version: Some(15),
                ready: Some(1),
                members: Some(2),
                volume_size: Some("1Gi".into()),
                ..Item::default()
            },
            running_version: Some("15.8".into()),
            members: vec![
                Member {
                    name: "solo-0".into(),
                    role: "primary".into(),
                    ready: true,
                    timeline: Some(2),
                    disk_used: Some(50 << 20),
                    disk_free: Some(3 << 30),
                    ..Member::default()
                },
                Member {
                    name: "solo-1".into(),
                    role: "standby".into(),
                    restarts: 3,
                    lag_bytes: Some(4096),
                    lag_seconds: Some(1.25),
                    reason: Some("the pod solo-1 is not ready".into()),
                    ..Member::default()
                },
            ],
            last_backup: Some(Item {
                name: "nightly".into(),
                completed: Some("2026-01-01T00:00:00Z".parse().unwrap()),
                ..Item::default()
            }),
            bindings: vec![Item { name: "app".into(), state: "implemented".into(), ..Item::default() }],
            unknown: vec!["the disk of solo-1: no answer within 5 s".into()],
        };
        let text = render(&status, "2026-01-01T03:00:00Z".parse().unwrap());
        insta::with_settings!({snapshot_path => "../../../snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("status", text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"));
        });
    }
}
