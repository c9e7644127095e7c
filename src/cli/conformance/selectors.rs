//! Arguments that choose scenarios.

use clap::Args;
use cucumber::gherkin::tagexpr::TagOperation;
use regex::Regex;

use crate::conformance::catalogue::{Catalogue, Entry, Filter};
use crate::finding::{Finding, Id};

/// Arguments that choose scenarios.
#[derive(Debug, Clone, Default, Args)]
pub struct Selectors {
    /// Only scenarios with these tags, for example '@core and not @kubectl'. Levels: @smoke, @core, @full, @chaos
    #[arg(short, long, value_name = "EXPRESSION", value_parser = tags)]
    pub tags: Option<String>,

    /// Only scenarios whose "feature: scenario" matches this regular expression
    #[arg(short, long, value_name = "REGEX")]
    pub name: Option<Regex>,
}

/// Checked here, so that a wrong one is wrong usage; kept as text for the report.
fn tags(text: &str) -> Result<String, String> {
    match text.trim().parse::<TagOperation>() {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(_) => Err("an expression such as '@core and not (@sql or @kubectl)' is expected".to_owned()),
    }
}

impl Selectors {
    /// The scenarios of a catalogue that are asked for.
    ///
    /// # Errors
    /// A tag is none.
    pub fn select<'c>(&self, catalogue: &'c Catalogue) -> Result<Vec<&'c Entry>, Finding> {
        let filter = Filter::new(self.tags.as_deref(), self.name.as_ref());
        let unknown = catalogue.unknown(&filter);
        if unknown.is_empty() {
            Ok(catalogue.select(&filter))
        } else {
            Err(Finding::new(Id::NoScenario, unknown.join("; ")))
        }
    }
}
