//! `a9s list`.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde_json::json;

use super::arguments::ClusterTarget;
use super::{Session, group};
use crate::finding::Finding;
use crate::manifest::names::Namespace;
use crate::manifest::resource::Kind;
use crate::steps::look::{self, item::Item};

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List PostgreSQL resources
    Pg(ListPg),
}

/// Arguments of `list pg`.
#[derive(Debug, Args)]
struct ListPg {
    /// What to list
    #[arg(value_name = "KIND")]
    kind: Option<Kind>,
    /// The namespace [default: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    namespace: Option<Namespace>,
    /// Every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    cluster: ClusterTarget,
}

impl List {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        match self.what {
            None => group(session, &["list"], "Please select what to list."),
            Some(What::Pg(pg)) => pg.run(session),
        }
    }
}

impl ListPg {
    fn run(self, session: &Session) -> Result<(), Finding> {
        let Some(kind) = self.kind else {
            return group(session, &["list", "pg"], "Please select a PostgreSQL resource such as (service) instance.");
        };
        session.look(async {
            let (access, namespace) = match self.all_namespaces || sabotage::sabotaged!("list-shows-every-namespace") {
                true => (self.cluster.access(), None),
                false => {
                    let (access, namespace) = self.cluster.reach(self.namespace.as_ref()).await?;
                    (access, Some(namespace))
                }
            };
            let objects = look::list(&access.client().await?, kind, namespace.as_ref()).await?;
            let mut items: Vec<Item> = objects.iter().map(|object| Item::of(kind, object)).collect();
            items.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            if items.is_empty() {
                let place = namespace.as_ref().map(|name| format!(" in the namespace {name}")).unwrap_or_default();
                session.console.info(format!("There are no {}s{place}.", kind.noun()));
            } else {
                let headings = Item::headings(kind, session.console.wide(), self.all_namespaces);
                session.console.line(table(&headings, items.iter().map(|item| item.row(&headings, Timestamp::now()))));
            }
            session.console.document(&json!({"kind": kind.kind(), "namespace": namespace, "items": items}));
            Ok(())
        })
    }
}

/// Columns without lines between them.
pub fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.to_vec());
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}
