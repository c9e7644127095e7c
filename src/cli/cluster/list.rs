//! `a9s cluster list`.

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::cli::Session;
use crate::cli::arguments::ProviderChoice;
use crate::cli::list::table;
use crate::finding::Finding;
use crate::provider::{ClusterName, Options, State};

/// Arguments of `cluster list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    provider: ProviderChoice,
}

/// A cluster in the document for programs: its state as `cluster status` has it, or why there is none.
#[derive(Serialize)]
struct Listed {
    name: ClusterName,
    context: String,
    #[serde(flatten)]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Finding>,
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
        let (mut rows, mut clusters) = (Vec::new(), Vec::new());
        for (name, state) in found {
            let (words, server) = match &state {
                Ok(State::Running { server, .. }) => ("running".to_owned(), server.clone()),
                Ok(State::Stopped { .. }) => ("stopped".to_owned(), String::new()),
                Ok(State::Unready { .. }) => ("not ready".to_owned(), String::new()),
                Ok(State::Absent) => continue,
                Err(finding) => (format!("unusable: {}", finding.cause), String::new()),
            };
            let context = provider.context(&name);
            rows.push(vec![name.to_string(), words, context.clone(), server]);
            clusters.push(Listed { name, context, state: state.as_ref().ok().cloned(), error: state.err() });
        }
        if clusters.is_empty() {
            session.console.info("There are no clusters.");
        } else {
            session.console.line(table(&["NAME", "STATE", "CONTEXT", "SERVER"], rows.into_iter()));
        }
        session.console.document(&json!({"provider": provider.name(), "clusters": clusters}));
        Ok(())
    }
}
