//! `a9s conformance list`.

use clap::Args;
use serde_json::json;

use super::selectors::Selectors;
use crate::cli::Session;
use crate::conformance::catalogue::{Catalogue, Sources};
use crate::finding::{Finding, Id};

/// Arguments of `conformance list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    selectors: Selectors,
}

impl List {
    pub(super) fn run(self, session: &Session, sources: &Sources) -> Result<(), Finding> {
        let catalogue = Catalogue::read(sources);
        let selected = self.selectors.select(&catalogue)?;
        if selected.is_empty() {
            return Err(Finding::new(Id::NoScenario, "no scenario matches the filter"));
        }
        let mut feature = "";
        for entry in &selected {
            if entry.feature.name != feature {
                feature = &entry.feature.name;
                session.console.line(feature);
            }
            let own = entry.tags.iter().filter(|tag| tag.as_str() != "full");
            let tags: Vec<String> = own.map(|tag| format!("@{tag}")).collect();
            session.console.line(format!("  {}  {}", entry.scenario.name, tags.join(" ")).trim_end());
        }
        session.console.line(format!("{} scenarios", selected.len()));
        let scenarios: Vec<_> = selected
            .iter()
            .map(|entry| {
                json!({"id": entry.id, "feature": entry.feature.name, "name": entry.scenario.name, "file": entry.file,
                       "line": entry.scenario.position.line, "tags": entry.tags})
            })
            .collect();
        session.console.document(&json!({"scenarios": scenarios, "recorded": catalogue.recorded}));
        Ok(())
    }
}
