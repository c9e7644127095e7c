//! `a9s cluster list`.

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::json;

use crate::cli::Session;
use crate::cli::arguments::ProviderChoice;
use crate::finding::Finding;
use crate::provider::{Options, State};

/// Arguments of `cluster list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    provider: ProviderChoice,
}

impl List {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let provider = session.provider(&self.provider, Options::default())?;
        let found = session.look(async {
            let names = provider.list().await?;
            let looks = names.into_iter().map(async |name| {
                let state = provider.state(&name).await;
                (name, state)
            });
            Ok(futures::future::join_all(looks).await)
        })?;
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["NAME", "STATE", "CONTEXT", "SERVER"]);
        let mut clusters = Vec::new();
        for (name, state) in found {
            let (word, server) = match &state {
                Ok(State::Running { server, .. }) => ("running".to_owned(), server.clone()),
                Ok(State::Stopped { .. }) => ("stopped".to_owned(), String::new()),
                Ok(State::Unready { .. }) => ("not ready".to_owned(), String::new()),
                Ok(State::Absent) => continue,
                Err(finding) => (format!("unusable: {}", finding.cause), String::new()),
            };
            table.add_row([name.as_str(), &word, &provider.context(&name), &server]);
            clusters.push(json!({"name": name, "state": word, "context": provider.context(&name), "server": server}));
        }
        if clusters.is_empty() {
            session.console.info("There are no clusters.");
        } else {
            session.console.line(table.to_string());
        }
        session.console.document(&json!({"provider": provider.name(), "clusters": clusters}));
        Ok(())
    }
}
