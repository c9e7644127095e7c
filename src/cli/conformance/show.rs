//! `a9s conformance show`.

use clap::Args;
use serde_json::json;

use super::selectors::Selectors;
use crate::cli::Session;
use crate::conformance::catalogue::{Catalogue, Entry, Sources};
use crate::finding::{Finding, Id};

/// Arguments of `conformance show`.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    selectors: Selectors,
    /// Only scenarios whose "feature: scenario" contains this
    #[arg(value_name = "TEXT")]
    text: Option<String>,
}

impl Show {
    pub(super) fn run(self, session: &Session, sources: &Sources) -> Result<(), Finding> {
        let catalogue = Catalogue::read(sources);
        let mut selected = self.selectors.select(&catalogue)?;
        if let Some(text) = &self.text {
            let text = text.to_lowercase();
            selected.retain(|entry| entry.id.to_lowercase().contains(&text));
        }
        if selected.is_empty() {
            return Err(Finding::new(Id::NoScenario, "no scenario matches the filter"));
        }
        for entry in &selected {
            session.console.line(render(entry));
        }
        let scenarios: Vec<_> = selected
            .iter()
            .map(|entry| {
                let steps: Vec<String> = entry.steps().map(|step| format!("{}{}", step.keyword, step.value)).collect();
                json!({"id": entry.id, "tags": entry.tags, "steps": steps})
            })
            .collect();
        session.console.document(&json!({"scenarios": scenarios}));
        Ok(())
    }
}

fn render(entry: &Entry) -> String {
    let tags: Vec<String> = entry.tags.iter().map(|tag| format!("@{tag}")).collect();
    let mut text = format!(
        "{}\n  features/{}.feature:{}  {}\n",
        entry.id,
        entry.file,
        entry.scenario.position.line,
        tags.join(" ")
    );
    for step in entry.steps() {
        text.push_str(&format!("    {}{}\n", step.keyword, step.value));
        for row in step.table.iter().flat_map(|table| &table.rows) {
            text.push_str(&format!("      | {} |\n", row.join(" | ")));
        }
        if let Some(block) = &step.docstring {
            text.push_str("      \"\"\"\n");
            for line in block.trim_matches('\n').lines() {
                text.push_str(&format!("      {line}\n"));
            }
            text.push_str("      \"\"\"\n");
        }
    }
    text
}
